//! Where a client tries next, what it says there, and when it gives up.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinHandle,
    time::sleep,
};
use wirecall::{ClientState, Code, Codec, ConnectError, Drain, Fate};

use super::{
    house::{GuestClient, House, house},
    reaches, until,
};
use crate::{
    resume::{backoff, process::Process},
    support::{dial, soon},
};

#[tokio::test]
async fn several_endpoints_are_tried_in_turn() {
    for is_killed in [true, false] {
        let mut servers = Vec::new();
        for number in 0..3 {
            servers.push(Process::start(house(&House::new(number))).await);
        }
        let [first, second, third] = <[_; 3]>::try_from(servers).ok().unwrap();
        let client = dial(first.address, Codec::MessagePack)
            .endpoint(format!("ws://{}", second.address))
            .endpoint(format!("ws://{}", third.address))
            .reconnect(backoff());
        let client = client.connect().await.unwrap();
        let guest = GuestClient::new(&client);
        assert_eq!(soon(guest.place()).await, Ok(0));
        second.kill();
        if is_killed {
            first.kill();
        } else {
            first.handle.stop();
        }
        assert_eq!(soon(guest.place()).await, Ok(2));
    }
}

/// What a hook has seen.
type Seen = Arc<Mutex<Vec<u32>>>;

#[tokio::test]
async fn the_hook_is_asked_before_each_attempt_and_its_headers_arrive() {
    let server = Process::start(house(&House::new(0))).await;
    let address = server.address;
    let seen = Seen::default();
    let numbers = seen.clone();
    let client = dial(address, Codec::MessagePack)
        .reconnect(backoff())
        .header("authorization", "replaced")
        .before_connect(move |attempt| {
            let count = {
                let mut numbers = numbers.lock().unwrap();
                numbers.push(attempt.number());
                numbers.len()
            };
            async move {
                match count {
                    1 | 4.. => attempt.header("authorization", &format!("Bearer {count}")),
                    // It counts as the attempt that has failed.
                    _ => Err(ConnectError::Io(io::Error::other("no token"))),
                }
            }
        });
    let client = client.connect().await.unwrap();
    let guest = GuestClient::new(&client);
    let header = soon(guest.header("authorization")).await;
    assert_eq!(header, Ok(Some("Bearer 1".to_owned())));
    server.kill();
    let _server = Process::start_at(address, house(&House::new(0))).await;
    let header = soon(guest.header("authorization")).await.unwrap().unwrap();
    let seen = seen.lock().unwrap().clone();
    assert_eq!(header, format!("Bearer {}", seen.len()));
    assert!(seen.len() >= 4);
    let expected: Vec<_> = std::iter::once(0).chain(0..seen.len() as u32 - 1).collect();
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn the_hook_can_send_an_attempt_elsewhere() {
    let first = Process::start(house(&House::new(0))).await;
    let second = Process::start(house(&House::new(1))).await;
    let url = format!("ws://{}", second.address);
    let count = AtomicUsize::new(0);
    let client = dial(first.address, Codec::Json)
        .reconnect(backoff())
        .before_connect(move |attempt| {
            let attempt = match count.fetch_add(1, Ordering::SeqCst) {
                0 => attempt,
                _ => attempt.to(url.clone()),
            };
            async { Ok(attempt) }
        });
    let client = client.connect().await.unwrap();
    let guest = GuestClient::new(&client);
    assert_eq!(soon(guest.place()).await, Ok(0));
    first.kill();
    assert_eq!(soon(guest.place()).await, Ok(1));
}

/// Answers every request with this status, until it is aborted.
async fn refuse_with(address: SocketAddr, status: &'static str) -> JoinHandle<()> {
    let listener = soon(async {
        loop {
            match TcpListener::bind(address).await {
                Ok(listener) => return listener,
                Err(_) => sleep(Duration::from_millis(5)).await,
            }
        }
    });
    let listener = listener.await;
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\nno");
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    })
}

#[tokio::test]
async fn a_refusal_that_another_attempt_does_not_change_ends_the_client() {
    for (status, is_killed) in [
        ("403 Forbidden", true),
        ("403 Forbidden", false),
        ("404 Not Found", true),
        ("404 Not Found", false),
    ] {
        let server = Process::start(house(&House::new(0))).await;
        let address = server.address;
        let client = dial(address, Codec::MessagePack).reconnect(backoff());
        let client = client.connect().await.unwrap();
        if is_killed {
            server.kill();
            reaches(&client, "suspended").await;
        } else {
            server.handle.stop();
            reaches(&client, "connecting").await;
            server.kill();
        }
        let waiting = GuestClient::new(&client).place().start();
        let refusing = refuse_with(address, status).await;
        let reason = soon(client.closed()).await;
        assert!(reason.to_string().contains(&status[..3]), "{reason}");
        assert_eq!(client.state(), ClientState::Closed(reason));
        let failed = soon(waiting).await.unwrap_err();
        assert_eq!(failed.code(), Code::UNAVAILABLE);
        assert_eq!(failed.fate(), Fate::NotSent);
        refusing.abort();
    }
}

#[tokio::test]
async fn a_refusal_is_not_final_where_a_hook_may_find_a_better_token() {
    let server = Process::start(house(&House::new(0))).await;
    let address = server.address;
    let attempts = Arc::new(AtomicUsize::new(0));
    let made = attempts.clone();
    let client = dial(address, Codec::MessagePack)
        .reconnect(backoff())
        .before_connect(move |attempt| {
            made.fetch_add(1, Ordering::SeqCst);
            async { Ok(attempt) }
        });
    let client = client.connect().await.unwrap();
    server.kill();
    let refusing = refuse_with(address, "403 Forbidden").await;
    until(|| attempts.load(Ordering::SeqCst) > 5).await;
    refusing.abort();
    let _ = refusing.await;
    let _server = Process::start_at(address, house(&House::new(1))).await;
    let guest = GuestClient::new(&client);
    assert_eq!(soon(guest.place()).await, Ok(1));
}

#[tokio::test]
async fn secrets_go_to_the_places_that_were_configured_and_not_where_a_server_says() {
    for is_configured in [true, false] {
        let first = Process::start(house(&House::new(1))).await;
        let second = Process::start(house(&House::new(2))).await;
        let elsewhere = format!("ws://{}", second.address);
        let mut client = dial(first.address, Codec::MessagePack)
            .reconnect(backoff())
            .header("authorization", "Bearer 1")
            .header("cookie", "a=b")
            .header("x-tenant", "c");
        if is_configured {
            client = client.endpoint(&elsewhere);
        }
        let client = client.connect().await.unwrap();
        let guest = GuestClient::new(&client);
        let header = soon(guest.header("authorization")).await;
        assert_eq!(header, Ok(Some("Bearer 1".to_owned())));
        let handle = first.handle.clone();
        let leaving = Drain::within(Duration::from_secs(10)).spread(Duration::ZERO);
        soon(handle.drain(leaving.url(&elsewhere))).await;
        assert_eq!(soon(guest.place()).await, Ok(2));
        for (name, value, is_secret) in [
            ("authorization", "Bearer 1", true),
            ("cookie", "a=b", true),
            ("x-tenant", "c", false),
        ] {
            let header = soon(guest.header(name)).await.unwrap();
            let is_told = is_configured || !is_secret;
            assert_eq!(header.as_deref(), is_told.then_some(value), "{name}");
        }
    }
}
