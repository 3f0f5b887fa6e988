//! A server that shares no code with ours: it does what a test says, frame by frame.

use std::{net::SocketAddr, time::Duration};

use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async,
    tungstenite::handshake::server::{Request, Response},
};
use wirecall::{Client, ClientBuilder, Codec};

use crate::{
    raw_frames::{frames_of, message},
    support::{dial, soon},
};

/// What clients dial.
pub struct RawServer {
    listener: TcpListener,
    pub address: SocketAddr,
}

impl RawServer {
    pub async fn bind() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        RawServer { listener, address }
    }

    /// The next connection, which has this codec and whose HELLO has come.
    pub async fn accept(&self, codec: Codec) -> Accepted {
        let (stream, _) = soon(self.listener.accept()).await.unwrap();
        #[expect(clippy::result_large_err, reason = "the type of the callback")]
        let answer = |_: &Request, mut response: Response| {
            let subprotocol = codec.subprotocol().parse().unwrap();
            response
                .headers_mut()
                .insert("Sec-WebSocket-Protocol", subprotocol);
            Ok(response)
        };
        let mut accepted = Accepted {
            codec,
            socket: soon(accept_hdr_async(stream, answer)).await.unwrap(),
            came: Vec::new(),
        };
        assert_eq!(accepted.next().await[0], 0, "HELLO");
        accepted
    }

    /// The same, unless nobody comes for so long.
    pub async fn accept_within(&self, time: Duration, codec: Codec) -> Option<Accepted> {
        timeout(time, self.accept(codec)).await.ok()
    }

    /// A client of this server, which says these frames to it first.
    pub async fn client_of(
        &self,
        codec: Codec,
        build: impl FnOnce(ClientBuilder) -> ClientBuilder,
        frames: &[Value],
    ) -> (Client, Accepted) {
        let connecting = tokio::spawn(build(dial(self.address, codec)).connect());
        let mut accepted = self.accept(codec).await;
        accepted.send(frames).await;
        (soon(connecting).await.unwrap().unwrap(), accepted)
    }
}

/// One connection of it.
pub struct Accepted {
    codec: Codec,
    socket: WebSocketStream<TcpStream>,
    came: Vec<Value>,
}

impl Accepted {
    /// In one message.
    pub async fn send(&mut self, frames: &[Value]) {
        let message = message(self.codec, frames);
        self.socket.send(message).await.unwrap();
    }

    /// The next frame; nothing if the connection has ended.
    pub async fn try_next(&mut self) -> Option<Value> {
        while self.came.is_empty() {
            let message = soon(self.socket.next()).await?.ok()?;
            self.came = frames_of(message);
        }
        Some(self.came.remove(0))
    }

    pub async fn next(&mut self) -> Value {
        self.try_next().await.expect("the connection has ended")
    }

    /// The id of the call that must come next.
    pub async fn next_call(&mut self) -> u64 {
        loop {
            let frame = self.next().await;
            // The definition of its method may be in front of it.
            if frame[0] != 16 {
                assert_eq!(frame[0], 6, "{frame}");
                return frame[1].as_u64().unwrap();
            }
        }
    }
}

/// WELCOME without a session that could go on.
pub fn welcome() -> Value {
    json!([1, {}])
}

/// WELCOME of a session that waits a minute for its client.
pub fn welcome_to_stay() -> Value {
    json!([1, {"19": 262_144, "21": "AAAA", "27": 60_000}])
}
