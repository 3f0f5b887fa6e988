//! More to be written than can be at once: what goes on, what runs out of time, and what is still
//! written at the end.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp},
    sync::mpsc,
    time::{Instant, Interval, interval, sleep, sleep_until},
};
use wirecall::{
    Client, CloseCode, Code, Codec, ConnectionInfo, Limits, Peer, Router, Server, connection,
    transport::{Message, MessageKind, Received, Transport, TransportError},
};

use crate::{
    interop::{Implementation, InteropClient, InteropServer},
    support::{connect, dial, soon, start_interop},
};

#[wirecall::service]
pub trait Inbox {
    #[notify]
    async fn put(&self, data: &[u8]);
}

/// Passes one connection's bytes on, each after this time, and as many as come.
async fn delaying_proxy(server: SocketAddr, delay: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (client, _) = listener.accept().await.unwrap();
        let server = TcpStream::connect(server).await.unwrap();
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        tokio::join!(
            pass_on(from_client, to_server, delay),
            pass_on(from_server, to_client, delay)
        );
    });
    address
}

async fn pass_on(mut from: tcp::OwnedReadHalf, mut to: tcp::OwnedWriteHalf, delay: Duration) {
    let (came, mut coming) = mpsc::unbounded_channel();
    let read = async move {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            let _ = came.send((Instant::now() + delay, buffer[..length].to_vec()));
        }
    };
    let write = async move {
        while let Some((due, bytes)) = coming.recv().await {
            sleep_until(due).await;
            if to.write_all(&bytes).await.is_err() {
                break;
            }
        }
    };
    tokio::join!(read, write);
}

/// W-FLOW-8: over a long path the window is shut most of the time, and something always waits.
#[tokio::test]
async fn a_busy_connection_is_not_taken_for_a_stalled_one() {
    let server = start_interop().await;
    let proxy = delaying_proxy(server, Duration::from_millis(50)).await;
    let stall = Duration::from_secs(1);
    let limits = Limits::default().write_stall(stall);
    let client = dial(proxy, Codec::MessagePack).limits(limits);
    let client = client.connect().await.unwrap();
    let end = Instant::now() + 4 * stall;
    let uploads: Vec<_> = (1..=6)
        .map(|megabytes| {
            let interop = InteropClient::new(&client);
            tokio::spawn(async move {
                let data = vec![0; megabytes << 20];
                while Instant::now() < end {
                    interop.sink(&data).await?;
                }
                Ok::<_, wirecall::Status>(())
            })
        })
        .collect();
    for upload in uploads {
        soon(upload).await.unwrap().unwrap();
    }
    assert!(!client.peer().is_closed());
}

/// Calls with a deadline of one second, and says that it was kept.
async fn runs_out_of_time(interop: InteropClient) {
    let started = Instant::now();
    let call = interop.add(1, 2).timeout(Duration::from_secs(1));
    let failed = soon(call.start()).await.unwrap_err();
    assert_eq!(failed.code(), Code::DEADLINE_EXCEEDED);
    let elapsed = started.elapsed().as_millis();
    assert!((1_000..1_100).contains(&elapsed), "{elapsed} ms");
}

/// Its deadline is before those of all calls in flight.
#[tokio::test(start_paused = true)]
async fn a_call_that_waits_for_room_runs_out_of_time() {
    let server = Server::builder()
        .service(InteropServer::new(Implementation))
        .limits(Limits::default().max_in_flight(1))
        .build()
        .unwrap();
    let endpoint = server.in_memory();
    tokio::spawn(server.run());
    let client = Client::connect(endpoint).await.unwrap();
    let interop = InteropClient::new(&client);
    let _first = interop.sleep(3_600_000).timeout(Duration::MAX).start();
    // Whatever is to be done at the beginning of a connection has been.
    sleep(Duration::from_secs(15)).await;
    runs_out_of_time(interop).await;
}

/// The transport of a peer that says WELCOME, after that PING every second, and nothing more. It may
/// stop reading.
struct Silent {
    welcome: Option<Message>,
    ping: Interval,
    is_blocked: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
}

impl Transport for Silent {
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, TransportError>> {
        let message = match self.welcome.take() {
            Some(welcome) => welcome,
            None => {
                ready!(self.ping.poll_tick(cx));
                text(b"[2,0,0]")
            }
        };
        Poll::Ready(Ok(Received::Message(message)))
    }

    fn send(&mut self, _: MessageKind, message: &[u8]) -> Result<(), TransportError> {
        self.written
            .fetch_add(message.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        match self.is_blocked.load(Ordering::Relaxed) {
            true => Poll::Pending,
            false => Poll::Ready(Ok(())),
        }
    }

    fn close(&mut self, _: CloseCode, _: &str) {}

    fn bytes_written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    fn bytes_read(&self) -> u64 {
        0
    }
}

fn text(text: &'static [u8]) -> Message {
    Message {
        kind: MessageKind::Text,
        data: text.into(),
    }
}

/// A connection to such a peer, the switch that stops its reading, and what was written to it.
async fn silent() -> (Peer, Arc<AtomicBool>, Arc<AtomicU64>) {
    let is_blocked = Arc::new(AtomicBool::new(false));
    let written = Arc::new(AtomicU64::new(0));
    let transport = Silent {
        welcome: Some(text(b"[1,{}]")),
        ping: interval(Duration::from_secs(1)),
        is_blocked: is_blocked.clone(),
        written: written.clone(),
    };
    let (session, driver) = connection::dial(
        None,
        transport,
        Codec::Json,
        Arc::new(Limits::default()),
        Arc::new(Router::default()),
        ConnectionInfo::default(),
        None,
    );
    let peer = session.peer();
    tokio::spawn(driver);
    soon(peer.opened()).await.unwrap();
    (peer, is_blocked, written)
}

/// W-FLOW-8: nothing waited when the window was shut.
#[tokio::test(start_paused = true)]
async fn a_call_behind_a_window_that_is_shut_runs_out_of_time() {
    let (peer, _, written) = silent().await;
    shut_window(&peer, &written).await;
    let before = written.load(Ordering::Relaxed);
    runs_out_of_time(InteropClient::new(&peer)).await;
    // PONGs go on.
    assert!(written.load(Ordering::Relaxed) - before < 100);
}

/// W-FLOW-8: PINGs are a sign of life, but who never opens the window again takes nothing in.
#[tokio::test(start_paused = true)]
async fn a_peer_that_only_pings_behind_a_window_that_is_shut_is_given_up() {
    let (peer, _, written) = silent().await;
    shut_window(&peer, &written).await;
    InboxClient::new(&peer).put(&[7; 400]).await.unwrap();
    let begun = Instant::now();
    let reason = soon(peer.closed()).await;
    assert_eq!(reason.code, CloseCode::WRITE_STALL);
    let stall = Limits::default().write_stall;
    assert!(begun.elapsed() < stall + Duration::from_secs(2));
}

/// What went through the window last may take long to be written, while more waits behind it: the
/// time of the window begins when that is done.
#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_slowly_is_not_given_up_for_a_window_that_it_cannot_open_yet() {
    let (peer, is_blocked, written) = silent().await;
    let inbox = InboxClient::new(&peer);
    while written.load(Ordering::Relaxed) < (1 << 20) - 60_000 {
        inbox.put(&[7; 20_000]).await.unwrap();
        sleep(Duration::from_millis(1)).await;
    }
    is_blocked.store(true, Ordering::Relaxed);
    for _ in 0..4 {
        inbox.put(&[7; 60_000]).await.unwrap();
    }
    sleep(Duration::from_millis(1)).await;
    let before = written.load(Ordering::Relaxed);
    assert!(before > 1 << 20, "the window is shut");
    let stall = Limits::default().write_stall;
    let end = Instant::now() + 4 * stall;
    while Instant::now() < end {
        // It takes something, and has not taken all.
        written.fetch_add(8 << 10, Ordering::Relaxed);
        sleep(Duration::from_secs(1)).await;
        assert!(!peer.is_closed(), "{:?} were left", end - Instant::now());
    }
    is_blocked.store(false, Ordering::Relaxed);
    let begun = Instant::now();
    let reason = soon(peer.closed()).await;
    assert_eq!(reason.code, CloseCode::WRITE_STALL);
    let elapsed = begun.elapsed();
    assert!(stall <= elapsed && elapsed < stall + Duration::from_secs(2));
}

/// Sends until nothing more is written.
async fn shut_window(peer: &Peer, written: &AtomicU64) {
    let inbox = InboxClient::new(peer);
    // The last one overshoots by more than HELLO and PONGs have, which do not count.
    while written.load(Ordering::Relaxed) < 1 << 20 {
        inbox.put(&[7; 40_000]).await.unwrap();
        sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_behind_a_write_that_is_blocked_runs_out_of_time() {
    let (peer, is_blocked, _) = silent().await;
    is_blocked.store(true, Ordering::Relaxed);
    InboxClient::new(&peer).put(&[7; 400]).await.unwrap();
    sleep(Duration::from_millis(10)).await;
    runs_out_of_time(InteropClient::new(&peer)).await;
}

/// The time that the connection's task knew before it was held up is no longer right.
#[tokio::test]
async fn a_deadline_counts_from_its_call_after_the_thread_was_held_up() {
    let server = start_interop().await;
    let client = connect(server, Codec::MessagePack).await;
    let interop = InteropClient::new(&client);
    interop.add(1, 1).await.unwrap();
    let first = interop.add(1, 1).start();
    std::thread::sleep(Duration::from_millis(600));
    let second = interop.sleep(100).timeout(Duration::from_millis(500));
    second.await.unwrap();
    first.await.unwrap();
}

/// W-CLOSE-1: what was queued before is written first. That the window is shut is no hindrance to
/// one who says that it is the end.
#[tokio::test(start_paused = true)]
async fn an_orderly_end_writes_all_that_was_queued() {
    for (count, is_closed) in [(16, true), (16, false), (30, true)] {
        let (peer, _, written) = silent().await;
        let inbox = InboxClient::new(&peer);
        for _ in 0..count {
            inbox.put(&[7; 40_000]).await.unwrap();
        }
        // In base64.
        let queued = count * 4 * 40_000 / 3;
        assert!(written.load(Ordering::Relaxed) < queued);
        if is_closed {
            peer.close(CloseCode::NORMAL, "");
        }
        drop((peer, inbox));
        soon(async {
            while written.load(Ordering::Relaxed) < queued {
                sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }
}
