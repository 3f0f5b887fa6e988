//! How connections end, and what becomes of what was in flight.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use wirecall::{CloseCode, ClosedBy, Code, Codec, ConnectError, Fate, Limits, Server};

use crate::{
    interop::{Implementation, InteropClient, InteropServer},
    negotiation, raw_client,
    support::{Door, LobbyClient, LobbyServer, connect, dial, soon, start, start_interop},
};

/// Passes bytes on until it is told to break off.
async fn breakable_proxy(server: std::net::SocketAddr) -> (std::net::SocketAddr, Break) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (breaking, broken) = tokio::sync::oneshot::channel::<()>();
    let task = tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut server = TcpStream::connect(server).await.unwrap();
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
            _ = broken => {}
        }
    });
    (address, Break(breaking, task))
}

struct Break(
    tokio::sync::oneshot::Sender<()>,
    tokio::task::JoinHandle<()>,
);

impl Break {
    async fn now(self) {
        self.0.send(()).unwrap();
        self.1.await.unwrap();
    }
}

#[tokio::test]
async fn when_the_connection_breaks_each_pending_call_says_that_its_fate_is_unknown() {
    let server = start_interop().await;
    for codec in Codec::ALL {
        let (proxy, connection) = breakable_proxy(server).await;
        let client = connect(proxy, codec).await;
        let interop = InteropClient::new(&client);
        let calls: Vec<_> = (0..10).map(|_| interop.sleep(60_000).start()).collect();
        // An answer to a later call shows that those before it have been sent.
        interop.add(1, 1).await.unwrap();
        connection.now().await;
        for call in calls {
            let failed = soon(call).await.unwrap_err();
            assert_eq!(failed.code(), Code::UNAVAILABLE);
            assert_eq!(failed.fate(), Fate::Unknown);
        }
        let reason = soon(client.closed()).await;
        assert_eq!(reason.by, ClosedBy::Transport);

        let failed = interop.add(1, 1).await.unwrap_err();
        assert_eq!(failed.code(), Code::UNAVAILABLE);
        assert_eq!(failed.fate(), Fate::NotSent);
    }
}

#[tokio::test]
async fn a_call_that_was_not_written_when_the_connection_ended_was_not_sent() {
    let server = start_interop().await;
    let client = connect(server, Codec::MessagePack).await;
    let interop = InteropClient::new(&client);
    // Both before the connection's task has had a turn.
    client.peer().close(CloseCode::NORMAL, "");
    client.closed().await;
    let failed = interop.add(1, 1).start().await.unwrap_err();
    assert_eq!(failed.fate(), Fate::NotSent);
}

#[tokio::test]
async fn the_end_of_a_server_closes_its_connections_with_1001() {
    let server = Server::builder()
        .service(InteropServer::new(Implementation))
        .bind("127.0.0.1:0")
        .await
        .unwrap();
    let address = server.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(server.run_until(async {
        let _ = stopped.await;
    }));
    let client = connect(address, Codec::MessagePack).await;
    let call = InteropClient::new(&client).sleep(60_000).start();
    InteropClient::new(&client).add(1, 1).await.unwrap();
    stop.send(()).unwrap();

    let reason = soon(client.closed()).await;
    assert_eq!(
        (reason.code, reason.by),
        (CloseCode::GOING_AWAY, ClosedBy::Peer)
    );
    let failed = soon(call).await.unwrap_err();
    assert_eq!(
        (failed.code(), failed.fate()),
        (Code::UNAVAILABLE, Fate::Unknown)
    );
    soon(running).await.unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn dropping_the_last_handle_ends_the_connection_after_its_calls() {
    let server = start_interop().await;
    let client = connect(server, Codec::MessagePack).await;
    let peer = client.peer().clone();
    let interop = InteropClient::new(&client);
    let call = interop.sleep(100).start();
    drop((client, interop));
    // The peer handle still counts.
    assert_eq!(soon(call).await.unwrap(), 100);
    assert!(!peer.is_closed());

    let client = connect(server, Codec::MessagePack).await;
    let call = InteropClient::new(&client).sleep(100).start();
    drop(client);
    assert_eq!(soon(call).await.unwrap(), 100);
}

#[tokio::test]
async fn the_server_sees_the_end_of_a_client_that_was_dropped() {
    let (door, mut entering) = Door::new();
    let address = start(Server::builder().service(LobbyServer::new(door))).await;
    let client = connect(address, Codec::MessagePack).await;
    LobbyClient::new(&client).enter().await.unwrap();
    let peer = entering.recv().await.unwrap();
    drop(client);
    let reason = soon(peer.closed()).await;
    assert_eq!(
        (reason.code, reason.by),
        (CloseCode::NORMAL, ClosedBy::Peer)
    );
}

#[tokio::test]
async fn a_server_that_does_not_welcome_fails_the_connect() {
    // Upgrades as it should, and then says nothing at all.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let silent = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        negotiation::upgrade_by_hand(stream, "wirecall.v1+msgpack").await
    });
    let builder = dial(address, Codec::MessagePack).connect_timeout(Duration::from_millis(200));
    let failed = soon(builder.connect()).await.unwrap_err();
    assert!(matches!(failed, ConnectError::Timeout(_)), "{failed}");
    let mut stream = silent.await.unwrap();
    // Giving up ends the connection.
    let mut rest = Vec::new();
    soon(stream.read_to_end(&mut rest)).await.unwrap();
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_given_up_without_harm_to_others() {
    let (door, mut entering) = Door::new();
    let server = Server::builder()
        .service(InteropServer::new(Implementation))
        .service(LobbyServer::new(door))
        .limits(Limits::default().write_stall(Duration::from_millis(500)));
    let address = start(server).await;

    let mut stream = TcpStream::connect(address).await.unwrap();
    raw_client::upgrade(&mut stream, address, "wirecall.v1+json").await;
    let client = connect(address, Codec::MessagePack).await;
    // Asks for far more than the socket buffers hold, and reads nothing of it.
    let data = "A".repeat(400_000);
    let mut requests = raw_client::text(b"[[0,{}],[6,3,\"Lobby.enter\",[]]]");
    for id in 2..=60 {
        let call = format!(r#"[6,{},"Interop.echo",["{data}"]]"#, id * 2 + 1);
        requests.extend(raw_client::text(call.as_bytes()));
    }
    let (_reader, mut writer) = stream.into_split();
    let writing = tokio::spawn(async move {
        let _ = writer.write_all(&requests).await;
        writer
    });
    let peer = soon(entering.recv()).await.unwrap();
    let interop = InteropClient::new(&client);
    let mut closed = std::pin::pin!(peer.closed());
    let reason = soon(async {
        loop {
            tokio::select! {
                reason = &mut closed => break reason,
                sum = interop.add(1, 1) => assert_eq!(sum.unwrap(), 2),
            }
        }
    })
    .await;
    assert_eq!(reason.code, CloseCode::WRITE_STALL);
    soon(writing).await.unwrap();
}
