//! Peers that mean no good, over bare sockets.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use wirecall::{CloseCode, Limits, Server};

use crate::{
    raw_client::{text, upgrade, upgrade_request},
    support::{Door, LobbyServer, soon, start},
};

/// An empty ping, masked with zeros (RFC 6455 §5.5.2).
const PING: [u8; 6] = [0x89, 0x80, 0, 0, 0, 0];

#[tokio::test]
async fn pings_whose_pongs_are_not_read_end_the_connection() {
    let (door, mut entering) = Door::new();
    let server = Server::builder()
        .service(LobbyServer::new(door))
        .limits(Limits::default().write_stall(Duration::from_secs(2)));
    let address = start(server).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    upgrade(&mut stream, address, "wirecall.v1+json").await;
    let (_unread, mut writer) = stream.into_split();
    let hello = text(b"[[0,{}],[6,3,\"Lobby.enter\",[]]]");
    writer.write_all(&hello).await.unwrap();
    let peer = soon(entering.recv()).await.unwrap();

    // The largest pings there are, until the server has hung up.
    let mut ping = vec![0x89, 0x80 | 125, 0, 0, 0, 0];
    ping.resize(6 + 125, b'x');
    let pings = ping.repeat(500);
    let flooding = tokio::spawn(async move { while writer.write_all(&pings).await.is_ok() {} });
    let reason = soon(peer.closed()).await;
    assert!(
        [CloseCode::FLOOD, CloseCode::WRITE_STALL].contains(&reason.code),
        "{reason}"
    );
    soon(flooding).await.unwrap();
}

#[tokio::test]
async fn work_that_uses_up_the_tasks_budget_switches_no_timer_off() {
    let server =
        Server::builder().limits(Limits::default().hello_timeout(Duration::from_millis(200)));
    let address = start(server).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut bytes = upgrade_request(address, "wirecall.v1+json").into_bytes();
    bytes.extend(PING.repeat(300));
    stream.write_all(&bytes).await.unwrap();
    // Hung up on, since no HELLO comes.
    let mut rest = Vec::new();
    soon(stream.read_to_end(&mut rest)).await.unwrap();
    let close = [0x88, 29, 0x0f, 0xa2];
    assert!(rest.windows(4).any(|window| window == close), "{rest:?}");
}
