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
    support::{
        Door, LobbyClient, LobbyServer, breakable_proxy, connect, connect_once, dial, soon, start,
        start_interop,
    },
};

#[tokio::test]
async fn when_the_connection_breaks_each_pending_call_says_that_its_fate_is_unknown() {
    let server = start_interop().await;
    for codec in Codec::ALL {
        let (proxy, connection) = breakable_proxy(server).await;
        let client = connect_once(proxy, codec).await;
        let interop = InteropClient::new(&client);
        let calls: Vec<_> = (0..10).map(|_| interop.sleep(60_000).start()).collect();
        // An answer to a later call shows that those before it have been sent.
        interop.add(1, 1).await.unwrap();
        connection.abort();
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
    let client = connect_once(address, Codec::MessagePack).await;
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
async fn the_end_of_a_server_does_not_wait_for_http_clients() {
    let server = Server::builder().bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(server.run_until(async {
        let _ = stopped.await;
    }));
    let request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    // One that says nothing yet, one in the middle of a request, and last, so that all of them are
    // served, one that has its answer and keeps the connection.
    let mut silent = TcpStream::connect(address).await.unwrap();
    let mut slow = TcpStream::connect(address).await.unwrap();
    slow.write_all(&request[..20]).await.unwrap();
    let mut prober = TcpStream::connect(address).await.unwrap();
    prober.write_all(request).await.unwrap();
    negotiation::read_head_and_body(&mut prober).await;

    stop.send(()).unwrap();
    // Sooner than a request is given up that does not come, which is after 10 s.
    let ended = tokio::time::timeout(Duration::from_secs(6), running).await;
    ended.unwrap().unwrap();
    for stream in [&mut silent, &mut slow, &mut prober] {
        let rest = soon(stream.read(&mut [0])).await;
        assert!(matches!(rest, Ok(0) | Err(_)), "{rest:?}");
    }
}

#[tokio::test]
async fn an_http_client_that_never_reads_its_answers_loses_its_place() {
    let server = Server::builder().max_connections(1);
    let address = start(server).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let requests = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100);
    stream.write_all(&requests).await.unwrap();
    // Once neither end can write any more, there is nothing to do but to let time pass.
    tokio::time::pause();
    let started = tokio::time::Instant::now();
    while stream.write_all(&requests).await.is_ok() {}
    let seconds = started.elapsed().as_secs();
    assert!((60..70).contains(&seconds), "{seconds}");

    tokio::time::resume();
    soon(async {
        while dial(address, Codec::MessagePack).connect().await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn when_close_has_returned_the_closing_handshake_is_over_and_the_runtime_may_end() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (ended, mut ending) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let client = connect(address, Codec::Json).await;
            let clone = client.clone();
            tokio::join!(client.close(), clone.close());
            client.close().await;
        });
        runtime.shutdown_background();
        let _ = ended.send(());
    });

    let mut stream = accept_by_hand(&listener).await;
    while soon(skip_frame(&mut stream)).await != 0x88 {}
    // Long enough for a client that does not wait for the answer to its Close.
    let early = tokio::time::timeout(Duration::from_millis(200), &mut ending).await;
    assert!(early.is_err());
    // Close, 1000.
    stream.write_all(&[0x88, 2, 0x03, 0xe8]).await.unwrap();
    soon(ending).await.unwrap();
}

#[tokio::test]
async fn closing_is_not_held_up_by_a_server_that_does_not_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let silent = tokio::spawn(async move {
        let mut stream = accept_by_hand(&listener).await;
        while skip_frame(&mut stream).await != 0x88 {}
        stream
    });
    let client = connect(address, Codec::Json).await;
    // A future that is dropped leaves the rest to the next one.
    let dropped = tokio::time::timeout(Duration::from_millis(1), client.close()).await;
    assert!(dropped.is_err());
    let _stream = soon(silent).await.unwrap();
    soon(client.close()).await;
}

/// Accepts a JSON connection without a library, and welcomes it.
async fn accept_by_hand(listener: &TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().await.unwrap();
    let mut stream = negotiation::upgrade_by_hand(stream, "wirecall.v1+json").await;
    let welcome = [&[0x81, 6][..], b"[1,{}]"].concat();
    stream.write_all(&welcome).await.unwrap();
    stream
}

/// Reads a masked frame (RFC 6455 §5.2), and returns its first byte.
async fn skip_frame(stream: &mut TcpStream) -> u8 {
    let first = stream.read_u8().await.unwrap();
    let length = match stream.read_u8().await.unwrap() & 0x7f {
        126 => stream.read_u16().await.unwrap().into(),
        127 => stream.read_u64().await.unwrap(),
        length => length.into(),
    };
    let mut rest = stream.take(4 + length);
    tokio::io::copy(&mut rest, &mut tokio::io::sink())
        .await
        .unwrap();
    first
}

#[tokio::test]
async fn a_connection_that_is_never_idle_is_closed_all_the_same() {
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
    // At each moment some calls are on their way in either direction.
    let callers: Vec<_> = (0..64)
        .map(|_| {
            let interop = InteropClient::new(&client);
            tokio::spawn(async move { while interop.echo(&[7; 2_000]).await.is_ok() {} })
        })
        .collect();
    for _ in 0..100 {
        InteropClient::new(&client).add(1, 1).await.unwrap();
    }
    stop.send(()).unwrap();
    soon(running).await.unwrap();
    for caller in callers {
        soon(caller).await.unwrap();
    }

    let address = start_interop().await;
    let client = connect(address, Codec::MessagePack).await;
    let interop = InteropClient::new(&client);
    let caller = tokio::spawn(async move { while interop.add(1, 1).await.is_ok() {} });
    soon(client.close()).await;
    soon(caller).await.unwrap();
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
