//! The client: how it is made, and what it is once it is connected.

use std::{io, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use tokio::{net::TcpStream, sync::Mutex, task::JoinHandle, time::timeout};
use wirecall_core::{
    CloseCode, CloseReason, Codec, ConnectionInfo, DuplicateService, Limits, Peer, Router, Service,
    connection,
    protocol::Side,
    transport::{self, Role, WebSocket},
};

use crate::{
    endpoint::{self, Endpoint, Kind},
    error::ConnectError,
    handshake,
};

/// Puts a [`Client`] together.
#[must_use = "a builder does nothing until it connects"]
#[derive(Debug)]
pub struct ClientBuilder {
    endpoint: Endpoint,
    router: Result<Router, DuplicateService>,
    limits: Limits,
    codecs: Vec<Codec>,
    headers: Result<HeaderMap, String>,
    connect_timeout: Duration,
}

impl ClientBuilder {
    /// Offers a service to the server, which may call it on this connection.
    pub fn serve(mut self, service: impl Service) -> Self {
        self.router = self.router.and_then(|mut router| {
            router.add(Arc::new(service))?;
            Ok(router)
        });
        self
    }

    /// What the connection may use.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The codecs on offer, the preferred one first. MessagePack, then JSON, by default.
    pub fn codecs(mut self, codecs: impl IntoIterator<Item = Codec>) -> Self {
        self.codecs = codecs.into_iter().collect();
        self
    }

    /// Sends a header with the upgrade request. Those of the handshake itself cannot be set.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers = self.headers.and_then(|mut headers| {
            let name: HeaderName = name
                .parse()
                .map_err(|_| format!("bad header name {name:?}"))?;
            let value: HeaderValue = value
                .parse()
                .map_err(|_| format!("bad value for the header {name}"))?;
            headers.append(name, value);
            Ok(headers)
        });
        self
    }

    /// How long connecting may take, up to the server's WELCOME. 10 s by default.
    pub fn connect_timeout(mut self, connect_timeout: Duration) -> Self {
        self.connect_timeout = connect_timeout;
        self
    }

    /// Connects.
    ///
    /// Cancel safe: dropping the future closes what was opened.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connect(self) -> Result<Client, ConnectError> {
        let limit = self.connect_timeout;
        match timeout(limit, Box::pin(self.establish())).await {
            Ok(connected) => connected,
            Err(_) => Err(ConnectError::Timeout(limit)),
        }
    }

    async fn establish(self) -> Result<Client, ConnectError> {
        let router = Arc::new(self.router?);
        let limits = Arc::new(self.limits);
        let headers = self.headers.map_err(ConnectError::Header)?;
        if self.codecs.is_empty() {
            return Err(ConnectError::NoCodec);
        }
        let (peer, task) = match self.endpoint.0 {
            Kind::Url(url) => {
                let target = endpoint::parse(&url)?;
                let stream = TcpStream::connect((&*target.host, target.port)).await?;
                transport::tune(&stream)?;
                let mut info = ConnectionInfo::default();
                info.peer_addr = stream.peer_addr().ok();
                info.local_addr = stream.local_addr().ok();
                info.uri = Uri::try_from(&target.path_and_query).unwrap_or_default();
                let upgraded = handshake::upgrade(stream, &target, &self.codecs, &headers).await?;
                info.headers = upgraded.headers;
                let transport = WebSocket::new(
                    upgraded.stream,
                    upgraded.read_ahead,
                    Role::Client,
                    limits.max_message_bytes,
                );
                spawn(transport, upgraded.codec, limits, router, info)
            }
            Kind::Memory(endpoint) => {
                let transport = endpoint.connect().await.ok_or_else(|| {
                    io::Error::new(io::ErrorKind::ConnectionRefused, "the server is gone")
                })?;
                let info = ConnectionInfo::default();
                spawn(transport, Codec::MessagePack, limits, router, info)
            }
        };
        // From here on, dropping this future drops the last handle, which ends the connection.
        let peer = peer.holding();
        peer.opened().await.map_err(ConnectError::Closed)?;
        Ok(Client {
            peer,
            task: Arc::new(Mutex::new(Some(task))),
        })
    }
}

fn spawn<T: transport::Transport>(
    transport: T,
    codec: Codec,
    limits: Arc<Limits>,
    router: Arc<Router>,
    info: ConnectionInfo,
) -> (Peer, JoinHandle<()>) {
    let (peer, driver) = connection::drive(transport, Side::Dialler, codec, limits, router, info);
    (peer, tokio::spawn(driver))
}

/// A connection to a server.
///
/// A cheap clone. The connection ends when it is closed, when the server ends it, and when all
/// clones are dropped and nothing is in flight; stubs count as clones.
#[derive(Clone, Debug)]
pub struct Client {
    peer: Peer,
    /// The connection's task, which ends after the closing handshake; `None` once somebody has
    /// seen its end. Whoever waits for that holds the lock, and others wait for the lock.
    task: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Client {
    /// A client for an endpoint: a `ws://` URL, or what `Server::in_memory` returns.
    pub fn builder(endpoint: impl Into<Endpoint>) -> ClientBuilder {
        ClientBuilder {
            endpoint: endpoint.into(),
            router: Ok(Router::default()),
            limits: Limits::default(),
            codecs: Codec::ALL.to_vec(),
            headers: Ok(HeaderMap::new()),
            connect_timeout: Duration::from_secs(10),
        }
    }

    /// Connects with the defaults.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connect(endpoint: impl Into<Endpoint>) -> Result<Client, ConnectError> {
        Client::builder(endpoint).connect().await
    }

    /// The server, as stubs see it.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Waits until the connection has ended, and says why.
    ///
    /// Cancel safe.
    pub async fn closed(&self) -> CloseReason {
        self.peer.closed().await
    }

    /// Ends the connection: what was queued is still written, calls that are pending fail with
    /// `UNAVAILABLE`. Returns after the closing handshake, at the latest two seconds after calls
    /// have failed: the process, or the runtime, may end right behind it.
    ///
    /// Cancel safe: once it was polled the connection ends, whether or not it is waited for. It may
    /// be called again, and by several clones.
    pub async fn close(&self) {
        self.peer.close(CloseCode::NORMAL, "");
        let mut task = self.task.lock().await;
        if let Some(handle) = &mut *task {
            // Fails when the runtime was shut down, which ends the connection as well.
            let _ = handle.await;
            *task = None;
        }
    }
}

impl AsRef<Peer> for Client {
    fn as_ref(&self) -> &Peer {
        &self.peer
    }
}
