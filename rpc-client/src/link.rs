//! One transport to a server, of any kind, from the dialling to the upgrade.

use std::{
    io,
    task::{Context, Poll},
};

use http::{HeaderMap, Uri};
use tokio::net::TcpStream;
use wirecall_core::{
    CloseCode, Codec, ConnectionInfo, Limits,
    protocol::Token,
    transport::{
        self, MessageKind, Received, Role, Transport, TransportError, WebSocket,
        memory::MemoryTransport,
    },
};

use crate::{
    endpoint::{self, Endpoint, Kind},
    error::ConnectError,
    handshake,
};

/// What carries a client's messages.
pub(crate) enum Link {
    WebSocket(Box<WebSocket<TcpStream>>),
    Memory(MemoryTransport),
}

/// A transport that is up, and what is known of it.
pub(crate) struct Linked {
    pub(crate) link: Link,
    pub(crate) codec: Codec,
    pub(crate) info: ConnectionInfo,
    /// What HELLO says of who the client is.
    pub(crate) token: Option<Token>,
}

/// Dials, and agrees on a codec: for a session that goes on, or a new one.
pub(crate) async fn link(
    endpoint: &Endpoint,
    codecs: &[Codec],
    is_resume: bool,
    headers: &HeaderMap,
    limits: &Limits,
) -> Result<Linked, ConnectError> {
    match &endpoint.0 {
        Kind::Url(url) => {
            let target = endpoint::parse(url)?;
            let stream = TcpStream::connect((&*target.host, target.port)).await?;
            transport::tune(&stream, limits.dead_after())?;
            let mut info = ConnectionInfo::default();
            info.peer_addr = stream.peer_addr().ok();
            info.local_addr = stream.local_addr().ok();
            info.uri = Uri::try_from(&target.path_and_query).unwrap_or_default();
            let upgraded = handshake::upgrade(stream, &target, codecs, is_resume, headers).await?;
            info.headers = upgraded.headers;
            let socket = WebSocket::new(
                upgraded.stream,
                upgraded.read_ahead,
                Role::Client,
                limits.max_message_bytes,
            );
            Ok(Linked {
                link: Link::WebSocket(Box::new(socket)),
                codec: upgraded.codec,
                info,
                token: None,
            })
        }
        Kind::Memory(endpoint) => {
            let transport = endpoint.connect().await.ok_or_else(|| {
                io::Error::new(io::ErrorKind::ConnectionRefused, "the server is gone")
            })?;
            Ok(Linked {
                link: Link::Memory(transport),
                codec: Codec::MessagePack,
                info: ConnectionInfo::default(),
                token: None,
            })
        }
    }
}

macro_rules! either {
    ($link:expr, $transport:ident => $what:expr) => {
        match $link {
            Link::WebSocket($transport) => $what,
            Link::Memory($transport) => $what,
        }
    };
}

impl Transport for Link {
    #[inline]
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, TransportError>> {
        either!(self, transport => transport.poll_receive(cx))
    }

    #[inline]
    fn send(&mut self, kind: MessageKind, message: &[u8]) -> Result<(), TransportError> {
        either!(self, transport => transport.send(kind, message))
    }

    #[inline]
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        either!(self, transport => transport.poll_flush(cx))
    }

    #[inline]
    fn has_unflushed(&self) -> bool {
        either!(self, transport => transport.has_unflushed())
    }

    fn close(&mut self, code: CloseCode, reason: &str) {
        either!(self, transport => transport.close(code, reason));
    }

    fn ping(&mut self) {
        either!(self, transport => transport.ping());
    }

    fn bytes_written(&self) -> u64 {
        either!(self, transport => transport.bytes_written())
    }

    fn bytes_read(&self) -> u64 {
        either!(self, transport => transport.bytes_read())
    }
}
