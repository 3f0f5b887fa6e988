//! What the tests have in common.

use std::{future::Future, net::SocketAddr, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinHandle,
};
use wirecall::{Client, ClientBuilder, Codec, Context, Peer, Server, ServerBuilder};

use crate::interop::{Implementation, InteropServer};

/// Long enough for anything that works; a test that waits this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for what must come.
pub async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("did not happen")
}

/// Starts a server on a free port.
pub async fn start(builder: ServerBuilder) -> SocketAddr {
    let server = builder.bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    tokio::spawn(server.run());
    address
}

/// Starts a server with the `Interop` service.
pub async fn start_interop() -> SocketAddr {
    start(Server::builder().service(InteropServer::new(Implementation))).await
}

pub fn dial(address: SocketAddr, codec: Codec) -> ClientBuilder {
    Client::builder(format!("ws://{address}")).codecs([codec])
}

pub async fn connect(address: SocketAddr, codec: Codec) -> Client {
    dial(address, codec).connect().await.unwrap()
}

/// A client that does not connect again.
pub async fn connect_once(address: SocketAddr, codec: Codec) -> Client {
    let client = dial(address, codec).no_reconnect().connect().await;
    client.unwrap()
}

/// Waits until nothing is in flight at either end, which shows that no entry of a table is left.
pub async fn idle(client: &Client) {
    soon(async {
        while client.peer().in_flight() != (0, 0) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Lets a test have the server's handles of its clients.
#[wirecall::service]
pub trait Lobby {
    async fn enter(&self, cx: &Context);
}

pub struct Door(mpsc::UnboundedSender<Peer>);

impl Door {
    /// The door, and who comes through it.
    pub fn new() -> (Self, mpsc::UnboundedReceiver<Peer>) {
        let (entered, entering) = mpsc::unbounded_channel();
        (Door(entered), entering)
    }
}

impl Lobby for Door {
    async fn enter(&self, cx: &Context) {
        let _ = self.0.send(cx.peer().clone());
    }
}

/// Passes one connection's bytes on, until its task is aborted.
pub async fn breakable_proxy(server: SocketAddr) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let proxy = tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut server = TcpStream::connect(server).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
    });
    (address, proxy)
}
