//! Whether the other end is there: who is given up, how soon, and who is not.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use serde_json::json;
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    time::{Instant, sleep},
};
use wirecall::{
    Client, ClientBuilder, ClientState, CloseCode, Codec, ConnectionInfo, Heartbeat, Limits, Peer,
    Router, Server,
    connection::{self, Session, SessionChange, Sessions},
    transport::{
        MessageKind, Received, Transport, TransportError,
        memory::{self, MemoryTransport},
    },
};

use crate::{
    interop::{Implementation, InteropClient, InteropServer},
    raw_client::{frames, open, send_text, text, upgrade},
    raw_server::{RawServer, welcome_to_stay},
    relay::{Fault, Relay},
    resume::backoff,
    support::{Door, LobbyClient, LobbyServer, dial, soon, start},
};

/// One end of a connection that can go dead: nothing comes, what is sent is lost, nobody is told.
struct Wire {
    transport: MemoryTransport,
    is_dead: Arc<AtomicBool>,
}

impl Wire {
    fn is_dead(&self) -> bool {
        self.is_dead.load(Ordering::SeqCst)
    }
}

impl Transport for Wire {
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, TransportError>> {
        match self.is_dead() {
            true => Poll::Pending,
            false => self.transport.poll_receive(cx),
        }
    }

    fn send(&mut self, kind: MessageKind, message: &[u8]) -> Result<(), TransportError> {
        match self.is_dead() {
            true => Ok(()),
            false => self.transport.send(kind, message),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        match self.is_dead() {
            true => Poll::Ready(Ok(())),
            false => self.transport.poll_flush(cx),
        }
    }

    fn close(&mut self, code: CloseCode, reason: &str) {
        if !self.is_dead() {
            self.transport.close(code, reason);
        }
    }

    fn bytes_written(&self) -> u64 {
        self.transport.bytes_written()
    }

    fn bytes_read(&self) -> u64 {
        self.transport.bytes_read()
    }
}

/// Both ends of a connection.
struct Pair {
    acceptor: Peer,
    dialler: Session<Wire>,
    sessions: Arc<Sessions<Wire>>,
    is_dead: Arc<AtomicBool>,
}

impl Pair {
    async fn new() -> Self {
        Pair::with(Limits::default()).await
    }

    /// The limits are the dialler's.
    async fn with(limits: Limits) -> Self {
        let is_dead = Arc::new(AtomicBool::new(false));
        let (near, far) = memory::pair();
        let [near, far] = [near, far].map(|transport| Wire {
            transport,
            is_dead: is_dead.clone(),
        });
        let sessions = Arc::new(Sessions::new(1));
        let (acceptor, driver) = connection::accept(
            None,
            far,
            Codec::MessagePack,
            Arc::new(Limits::default()),
            Arc::new(Router::default()),
            ConnectionInfo::default(),
            sessions.clone(),
        );
        tokio::spawn(driver);
        let (dialler, driver) = connection::dial(
            None,
            near,
            Codec::MessagePack,
            Arc::new(limits),
            Arc::new(Router::default()),
            ConnectionInfo::default(),
            None,
        );
        tokio::spawn(driver);
        dialler.opened().await.unwrap();
        Pair {
            acceptor,
            dialler,
            sessions,
            is_dead,
        }
    }

    fn go_dead(&self) -> Instant {
        self.is_dead.store(true, Ordering::SeqCst);
        Instant::now()
    }
}

/// The time that is allowed with the defaults, and one for the timers, which go by milliseconds.
const DEAD_AFTER: Duration = Duration::from_millis(35_010);

#[tokio::test(start_paused = true)]
async fn a_client_that_has_gone_silent_is_given_up_and_then_forgotten() {
    for second in 0..60 {
        let pair = Pair::new().await;
        sleep(Duration::from_secs(second)).await;
        let silent = pair.go_dead();
        while !pair.acceptor.is_suspended() {
            sleep(Duration::from_millis(10)).await;
        }
        let elapsed = silent.elapsed();
        assert!(elapsed <= DEAD_AFTER, "{elapsed:?} after {second} s");
        assert!(elapsed >= Duration::from_secs(9), "it may take 10 s");
        assert_eq!(pair.sessions.len(), (1, 1));
        // The window of the session, of which it was told.
        let suspended = Instant::now();
        pair.acceptor.closed().await;
        let waited = suspended.elapsed();
        assert!((59_900..60_100).contains(&waited.as_millis()), "{waited:?}");
        assert_eq!(pair.sessions.len(), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_has_gone_silent_is_given_up() {
    for second in 0..60 {
        let mut pair = Pair::new().await;
        sleep(Duration::from_secs(second)).await;
        let silent = pair.go_dead();
        assert_eq!(pair.dialler.changed().await, SessionChange::Suspended);
        let elapsed = silent.elapsed();
        assert!(elapsed <= DEAD_AFTER, "{elapsed:?} after {second} s");
        assert!(elapsed >= Duration::from_secs(9), "{elapsed:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_stays_up_for_hours_and_knows_its_round_trip() {
    let (door, mut entering) = Door::new();
    let server = Server::builder().service(LobbyServer::new(door));
    let server = server.build().unwrap();
    let (endpoint, handle) = (server.in_memory(), server.handle());
    tokio::spawn(server.run());
    let client = Client::connect(endpoint).await.unwrap();
    LobbyClient::new(&client).enter().await.unwrap();
    let peer = entering.recv().await.unwrap();
    assert_eq!(peer.round_trip(), None);
    // The first PING comes within the first interval.
    sleep(Duration::from_secs(26)).await;
    assert!(peer.round_trip().unwrap() < Duration::from_millis(10));
    for second in 0..6 * 3600 {
        sleep(Duration::from_secs(1)).await;
        assert_eq!(
            client.state(),
            ClientState::Ready { session: 1 },
            "{second} s"
        );
        assert!(!peer.is_suspended(), "{second} s");
    }
    LobbyClient::new(&client).enter().await.unwrap();
    assert!(
        peer.is_same(&entering.recv().await.unwrap()),
        "the same session"
    );
    assert_eq!(handle.sessions(), 1);
}

#[tokio::test]
async fn a_client_may_ask_for_another_heartbeat_within_bounds() {
    let interop = || InteropServer::new(Implementation);
    let as_always = start(Server::builder().service(interop())).await;
    let none = Limits::default().heartbeat(None);
    let none = start(Server::builder().service(interop()).limits(none)).await;
    for (address, wish, announced) in [
        (as_always, "", None),
        (
            as_always,
            r#""31":60000,"33":20000"#,
            Some((60_000, 20_000)),
        ),
        (as_always, r#""31":1000,"33":1"#, Some((5_000, 5_000))),
        (
            as_always,
            r#""31":999999999,"33":601000"#,
            Some((600_000, 600_000)),
        ),
        (
            as_always,
            r#""31":18446744073709551615,"33":7000"#,
            Some((600_000, 7_000)),
        ),
        (as_always, r#""31":7000"#, None),
        (as_always, r#""31":0,"33":0"#, Some((5_000, 5_000))),
        (none, "", Some((0, 0))),
        (none, r#""31":60000,"33":20000"#, Some((0, 0))),
    ] {
        let mut socket = open(address, Codec::Json).await;
        send_text(&mut socket, &format!("[0,{{{wish}}}]")).await;
        let welcome = frames(&mut socket).await.remove(0);
        let number = |key: &str| welcome[1][key].as_u64();
        assert_eq!(number("31").zip(number("33")), announced, "{wish}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_heartbeat_that_a_client_has_asked_for_is_the_one_that_is_kept() {
    let seldom = Heartbeat {
        interval: Duration::from_secs(300),
        timeout: Duration::from_secs(20),
    };
    for second in [0, 10, 299, 700] {
        let mut pair = Pair::with(Limits::default().heartbeat(seldom)).await;
        sleep(Duration::from_secs(second)).await;
        let silent = pair.go_dead();
        assert_eq!(pair.dialler.changed().await, SessionChange::Suspended);
        while !pair.acceptor.is_suspended() {
            sleep(Duration::from_millis(10)).await;
        }
        let elapsed = silent.elapsed();
        let dead_after = seldom.dead_after() + Duration::from_millis(10);
        assert!(elapsed <= dead_after, "{elapsed:?}");
        assert!(elapsed >= Duration::from_secs(20), "{elapsed:?}");
    }
}

fn quick() -> Heartbeat {
    Heartbeat {
        interval: Duration::from_millis(150),
        timeout: Duration::from_millis(150),
    }
}

/// A server whose clients are known, with a heartbeat that tests can wait for.
async fn quick_server() -> (
    std::net::SocketAddr,
    tokio::sync::mpsc::UnboundedReceiver<Peer>,
) {
    let (door, entering) = Door::new();
    let server = Server::builder()
        .service(LobbyServer::new(door))
        .service(InteropServer::new(Implementation))
        .limits(Limits::default().heartbeat(quick()));
    (start(server).await, entering)
}

/// With real sockets, and in real time.
#[tokio::test]
async fn both_ends_notice_that_nothing_comes_through_and_go_on_once_it_does() {
    let (server, mut entering) = quick_server().await;
    for codec in Codec::ALL {
        let relay = Relay::start(server).await;
        let client = dial(relay.addr(), codec).reconnect(backoff());
        let client = client.connect().await.unwrap();
        LobbyClient::new(&client).enter().await.unwrap();
        let peer = soon(entering.recv()).await.unwrap();
        sleep(Duration::from_millis(400)).await;
        assert!(peer.round_trip().is_some());
        assert_eq!(relay.connections(), 1);
        relay.set(Fault::HalfOpen);
        let silent = Instant::now();
        soon(async {
            while !peer.is_suspended() || client.state().is_ready() {
                sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        let elapsed = silent.elapsed();
        assert!(elapsed < Duration::from_millis(400), "{elapsed:?}");
        relay.heal();
        LobbyClient::new(&client).enter().await.unwrap();
        assert!(peer.is_same(&soon(entering.recv()).await.unwrap()));
        assert!(!peer.is_suspended());
        soon(client.close()).await;
    }
}

/// Part of a message is a sign of life too, however long the rest of it takes.
#[tokio::test]
async fn single_bytes_of_a_message_that_is_never_complete_count_as_life() {
    let (server, mut entering) = quick_server().await;
    let mut stream = TcpStream::connect(server).await.unwrap();
    upgrade(&mut stream, server, "wirecall.v1+json").await;
    let hello = text(b"[[0,{\"19\":65536}],[6,3,\"Lobby.enter\",[]]]");
    stream.write_all(&hello).await.unwrap();
    let peer = soon(entering.recv()).await.unwrap();
    let message = text(&[b' '; 1000]);
    for byte in &message[..60] {
        sleep(Duration::from_millis(20)).await;
        stream.write_all(&[*byte]).await.unwrap();
        assert!(!peer.is_suspended());
    }
    let silent = Instant::now();
    soon(async {
        while !peer.is_suspended() {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    let elapsed = silent.elapsed();
    assert!(elapsed < Duration::from_millis(400), "{elapsed:?}");
}

/// The same through a line on which a message takes longer than both times of the heartbeat.
#[tokio::test]
async fn a_slow_line_is_not_taken_for_a_dead_one() {
    let (server, _entering) = quick_server().await;
    let relay = Relay::start(server).await;
    let client = dial(relay.addr(), Codec::MessagePack).reconnect(backoff());
    let client = client.connect().await.unwrap();
    relay.set(Fault::Throttle {
        bytes_per_second: 20_000,
    });
    let interop = InteropClient::new(&client);
    soon(interop.sink(&vec![0; 20_000])).await.unwrap();
    assert_eq!(relay.connections(), 1);
}

/// Server, client and everything between them stand still, as they do in a debugger, or on a
/// machine that was asleep.
#[tokio::test]
async fn a_process_that_was_held_up_kills_no_healthy_connection() {
    let (server, mut entering) = quick_server().await;
    let relay = Relay::start(server).await;
    let mut clients = Vec::new();
    for codec in Codec::ALL {
        let client = dial(relay.addr(), codec).reconnect(backoff());
        let client = client.connect().await.unwrap();
        LobbyClient::new(&client).enter().await.unwrap();
        clients.push((client, soon(entering.recv()).await.unwrap()));
    }
    for held_up in [400, 700, 2_000, 450, 600] {
        sleep(Duration::from_millis(held_up % 97)).await;
        std::thread::sleep(Duration::from_millis(held_up));
        for _ in 0..20 {
            sleep(Duration::from_millis(10)).await;
            for (client, peer) in &clients {
                assert_eq!(
                    client.state(),
                    ClientState::Ready { session: 1 },
                    "{held_up} ms"
                );
                assert!(!peer.is_suspended(), "{held_up} ms");
            }
        }
    }
    assert_eq!(relay.connections(), 2);
}

#[tokio::test]
async fn each_end_can_ask_the_other_for_a_sign_of_life_while_there_is_a_connection() {
    let (door, mut entering) = Door::new();
    let quiet = Limits::default().heartbeat(None);
    let server = Server::builder().service(LobbyServer::new(door));
    let server = start(server.limits(quiet)).await;
    for codec in Codec::ALL {
        let relay = Relay::start(server).await;
        let client = dial(relay.addr(), codec).reconnect(backoff());
        let client = client.connect().await.unwrap();
        LobbyClient::new(&client).enter().await.unwrap();
        let peer = soon(entering.recv()).await.unwrap();
        for end in [client.peer(), &peer] {
            assert_eq!(end.round_trip(), None);
            let took = soon(end.ping()).await.unwrap();
            assert_eq!(end.round_trip(), Some(took));
            let (one, other) = soon(futures::future::join(end.ping(), end.ping())).await;
            one.unwrap();
            other.unwrap();
        }
        // One that is under way when the connection breaks.
        relay.set(Fault::HalfOpen);
        let lost = [client.peer().clone(), peer.clone()]
            .map(|end| tokio::spawn(async move { end.ping().await }));
        tokio::task::yield_now().await;
        relay.set(Fault::Refuse);
        relay.reset();
        for asking in lost {
            soon(asking).await.unwrap().unwrap_err();
        }
        soon(async {
            while !peer.is_suspended() || client.state().is_ready() {
                sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        for end in [client.peer(), &peer] {
            let failed = soon(end.ping()).await.unwrap_err();
            assert!(failed.to_string().contains("no connection"), "{failed}");
        }
        relay.heal();
        LobbyClient::new(&client).enter().await.unwrap();
        assert!(peer.is_same(&soon(entering.recv()).await.unwrap()));
        for end in [client.peer(), &peer] {
            soon(end.ping()).await.unwrap();
        }
        soon(client.close()).await;
        soon(peer.closed()).await;
        soon(client.peer().ping()).await.unwrap_err();
        soon(peer.ping()).await.unwrap_err();
    }
}

/// Before WELCOME has come there is nobody to ask, and nothing may be said.
#[tokio::test]
async fn nobody_is_asked_for_a_sign_of_life_before_the_session_goes_on() {
    for codec in Codec::ALL {
        let server = RawServer::bind().await;
        let quick = |client: ClientBuilder| client.reconnect(backoff());
        let (client, first) = server.client_of(codec, quick, &[welcome_to_stay()]).await;
        drop(first);
        let mut second = server.accept(codec).await;
        soon(client.peer().ping()).await.unwrap_err();
        // Its future sends it once that can be done.
        let call = tokio::spawn(InteropClient::new(&client).add(1, 2).start());
        let options = json!({"19": 65536, "21": "BBBB", "23": 0, "25": 0});
        second.send(&[json!([1, options])]).await;
        // The first that comes is the call.
        let id = second.next_call().await;
        second.send(&[json!([7, id, 3])]).await;
        assert_eq!(soon(call).await.unwrap(), Ok(3));
    }
}

/// What comes out of one end of a connection that is played by hand.
async fn received(transport: &mut MemoryTransport) -> Received {
    let received = std::future::poll_fn(|cx| transport.poll_receive(cx));
    received.await.unwrap()
}

fn say(transport: &mut MemoryTransport, frames: &[serde_json::Value]) {
    let text = json!(frames).to_string();
    transport.send(MessageKind::Text, text.as_bytes()).unwrap();
}

/// So that the other end, which goes by these signs of life, does not give the connection up.
#[tokio::test(start_paused = true)]
async fn a_timeout_that_is_longer_than_the_interval_leaves_no_interval_without_a_sign_of_life() {
    let (interval, timeout) = (Duration::from_secs(5), Duration::from_secs(60));
    let (mut near, far) = memory::pair();
    let (acceptor, driver) = connection::accept(
        None,
        far,
        Codec::Json,
        Arc::new(Limits::default()),
        Arc::new(Router::default()),
        ConnectionInfo::default(),
        Arc::new(Sessions::new(1)),
    );
    tokio::spawn(driver);
    let hello = json!([0, {"31": 5_000, "33": 60_000}]);
    say(&mut near, &[hello]);
    assert!(matches!(received(&mut near).await, Received::Message(_)));
    let began = Instant::now();
    let mut last = began;
    // It never answers.
    while let Received::Message(_) = received(&mut near).await {
        let quiet = last.elapsed();
        assert!(quiet <= interval + Duration::from_millis(10), "{quiet:?}");
        last = Instant::now();
    }
    let elapsed = began.elapsed();
    // The end of the connection takes two seconds, since nobody answers.
    let most = interval + timeout + Duration::from_millis(2_010);
    assert!((timeout..=most).contains(&elapsed), "{elapsed:?}");
    acceptor.closed().await;
}

/// Refuses to be asked again and again.
struct Patient {
    transport: MemoryTransport,
    polled: usize,
}

impl Transport for Patient {
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, TransportError>> {
        self.polled += 1;
        assert!(self.polled < 1_000, "the task is busy with nothing");
        self.transport.poll_receive(cx)
    }

    fn send(&mut self, kind: MessageKind, message: &[u8]) -> Result<(), TransportError> {
        self.transport.send(kind, message)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        self.transport.poll_flush(cx)
    }

    fn close(&mut self, code: CloseCode, reason: &str) {
        self.transport.close(code, reason);
    }

    fn bytes_written(&self) -> u64 {
        self.transport.bytes_written()
    }

    fn bytes_read(&self) -> u64 {
        self.transport.bytes_read()
    }
}

#[tokio::test(start_paused = true)]
async fn times_that_nobody_lives_to_see_keep_a_client_neither_busy_nor_from_its_work() {
    let (near, mut far) = memory::pair();
    let near = Patient {
        transport: near,
        polled: 0,
    };
    let (mut dialler, driver) = connection::dial(
        None,
        near,
        Codec::Json,
        Arc::new(Limits::default()),
        Arc::new(Router::default()),
        ConnectionInfo::default(),
        None,
    );
    let driver = tokio::spawn(driver);
    assert!(matches!(received(&mut far).await, Received::Message(_)));
    let most = u64::MAX;
    let options = json!({"19": 65536, "21": "AAAA", "27": most, "31": most, "33": most});
    say(&mut far, &[json!([1, options])]);
    dialler.opened().await.unwrap();
    sleep(Duration::from_secs(3600)).await;
    say(&mut far, &[json!([5, 4200, 0, {"1": most}])]);
    let SessionChange::GoAway(going) = dialler.changed().await else {
        panic!("not asked to go");
    };
    assert!(going.spread > Duration::from_secs(3600), "{going:?}");
    sleep(Duration::from_secs(3600)).await;
    assert!(!driver.is_finished());
    drop(far);
    dialler.ended().await;
}

/// The same of a client as a whole, which has plans of its own.
#[tokio::test]
async fn a_client_works_with_a_server_that_names_the_longest_times() {
    let most = u64::MAX;
    let options = json!({"19": 65536, "21": "AAAA", "27": most, "31": most, "33": most});
    for codec in Codec::ALL {
        let server = RawServer::bind().await;
        let quick = |client: ClientBuilder| client.reconnect(backoff());
        let welcome = [json!([1, options])];
        let (client, mut first) = server.client_of(codec, quick, &welcome).await;
        let interop = InteropClient::new(&client);
        let call = interop.add(1, 2).start();
        let id = first.next_call().await;
        drop(first);
        // It comes back.
        let mut resumed = options.clone();
        resumed["23"] = 0.into();
        resumed["25"] = 0.into();
        let mut second = server.accept(codec).await;
        second.send(&[json!([1, resumed])]).await;
        assert_eq!(second.next_call().await, id);
        second.send(&[json!([7, id, 3])]).await;
        assert_eq!(soon(call).await, Ok(3));
        // It is to leave at some time of the next million years, and can be closed before.
        let leave = json!([5, 4200, 2, {"1": most}]);
        second.send(&[leave]).await;
        let waiting = interop.add(3, 4).timeout(Duration::from_millis(50)).start();
        soon(waiting).await.unwrap_err();
        assert!(client.state().is_ready());
        soon(client.close()).await;
    }
}
