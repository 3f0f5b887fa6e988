//! Slow consumers of notifications: what becomes of them, and that they are nobody else's concern.

use std::{net::SocketAddr, time::Duration};

use futures::FutureExt as _;
use tokio::sync::{mpsc, watch};
use wirecall::{Backoff, Client, CloseCode, Code, Codec, Context, Delivery, Limits, Peer, Server};

use crate::{
    raw_client::{frames, open, send_text},
    relay::{Direction, Fault, Relay},
    support::{Door, LobbyClient, LobbyServer, dial, soon, start},
};

/// A notification of each kind.
#[wirecall::service]
trait Ticker {
    #[notify]
    async fn plain(&self, number: u64);
    #[notify(volatile)]
    async fn position(&self, number: u64, data: &[u8]);
    #[notify(drop_newest)]
    async fn newest(&self, number: u64);
    #[notify(drop_oldest)]
    async fn oldest(&self, number: u64, data: &[u8]);
    #[notify(conflate(symbol))]
    async fn price(&self, cx: &Context, market: &str, symbol: &str, number: u64);
    #[notify(conflate)]
    async fn total(&self, number: u64);
    #[notify(disconnect)]
    async fn ledger(&self, number: u64);
}

/// Says what has come, once it is let.
struct Screen {
    came: mpsc::UnboundedSender<u64>,
    is_stuck: watch::Receiver<bool>,
}

impl Screen {
    async fn show(&self, number: u64) {
        let mut is_stuck = self.is_stuck.clone();
        // The test may be over.
        let _ = is_stuck.wait_for(|is_stuck| !is_stuck).await;
        let _ = self.came.send(number);
    }
}

impl Ticker for Screen {
    async fn plain(&self, number: u64) {
        self.show(number).await;
    }
    async fn position(&self, number: u64, _data: &[u8]) {
        self.show(number).await;
    }
    async fn newest(&self, number: u64) {
        self.show(number).await;
    }
    async fn oldest(&self, number: u64, _data: &[u8]) {
        self.show(number).await;
    }
    async fn price(&self, _cx: &Context, _market: &str, _symbol: &str, number: u64) {
        self.show(number).await;
    }
    async fn total(&self, number: u64) {
        self.show(number).await;
    }
    async fn ledger(&self, number: u64) {
        self.show(number).await;
    }
}

struct Site {
    address: SocketAddr,
    entered: mpsc::UnboundedReceiver<Peer>,
}

/// A client, and what has come to it.
struct Viewer {
    client: Client,
    /// The server's handle of it.
    peer: Peer,
    came: mpsc::UnboundedReceiver<u64>,
    is_stuck: watch::Sender<bool>,
}

impl Site {
    async fn start(limits: Limits) -> Self {
        let (door, entered) = Door::new();
        let server = Server::builder().service(LobbyServer::new(door));
        Site {
            address: start(server.limits(limits)).await,
            entered,
        }
    }

    async fn viewer(&mut self, address: SocketAddr, codec: Codec, credit: usize) -> Viewer {
        let (shown, came) = mpsc::unbounded_channel();
        let is_stuck = watch::Sender::new(false);
        let screen = Screen {
            came: shown,
            is_stuck: is_stuck.subscribe(),
        };
        let client = dial(address, codec)
            .serve(TickerServer::new(screen))
            .limits(Limits::default().notification_credit(credit))
            .reconnect(Backoff {
                first: Duration::from_millis(10),
                max: Duration::from_millis(50),
                stable_after: Duration::from_secs(10),
            })
            .connect()
            .await
            .unwrap();
        let peer = self.enter(&client).await;
        Viewer {
            client,
            peer,
            came,
            is_stuck,
        }
    }

    /// The server's handle of the client's session.
    async fn enter(&mut self, client: &Client) -> Peer {
        soon(LobbyClient::new(client).enter()).await.unwrap();
        soon(self.entered.recv()).await.unwrap()
    }
}

impl Viewer {
    /// What comes, up to this number.
    async fn until(&mut self, last: u64) -> Vec<u64> {
        let mut came = Vec::new();
        while came.last() != Some(&last) {
            came.push(soon(self.came.recv()).await.unwrap());
        }
        came
    }

    fn notifier(&self) -> TickerNotifier {
        TickerNotifier::to([&self.peer])
    }
}

/// A publisher that waits for nobody is done as soon as it is looked at.
fn at_once<T>(sent: impl Future<Output = T>) -> T {
    sent.now_or_never().expect("it waits for somebody")
}

fn sum(deliveries: &[Delivery]) -> Delivery {
    let mut sum = Delivery::default();
    for delivery in deliveries {
        sum.sent += delivery.sent;
        sum.suspended += delivery.suspended;
        sum.behind += delivery.behind;
        sum.waiting += delivery.waiting;
        sum.replaced += delivery.replaced;
        sum.dropped += delivery.dropped;
        sum.disconnected += delivery.disconnected;
        sum.closed += delivery.closed;
    }
    sum
}

/// Of those who have been told: sent, waiting, replaced, behind, dropped, disconnected, closed.
fn counts(delivery: Delivery) -> [usize; 7] {
    [
        delivery.sent,
        delivery.waiting,
        delivery.replaced,
        delivery.behind,
        delivery.dropped,
        delivery.disconnected,
        delivery.closed,
    ]
}

#[tokio::test]
async fn a_paused_reader_changes_nothing_for_the_others() {
    const OTHERS: usize = 100;
    const ROUND: u64 = 100;
    const ROUNDS: u64 = 10;
    let limits = Limits::default();
    let most = limits.outbound_queue_bytes + limits.backlog_bytes + (64 << 10);
    let mut site = Site::start(limits).await;
    let relay = Relay::start(site.address).await;
    let mut paused = site.viewer(relay.addr(), Codec::MessagePack, 256).await;
    let mut others = Vec::new();
    for number in 0..OTHERS {
        let codec = Codec::ALL[number % 2];
        others.push(site.viewer(site.address, codec, 256).await);
    }
    let mut peers: Vec<_> = others.iter().map(|other| other.peer.clone()).collect();
    peers.insert(OTHERS / 2, paused.peer.clone());
    let everybody = TickerNotifier::to(&peers);
    relay.set(Fault::OneWay(Direction::ToServer));

    let data = [7; 1 << 10];
    for round in 0..ROUNDS {
        for number in round * ROUND..(round + 1) * ROUND {
            let delivery = at_once(everybody.oldest(number, &data)).unwrap();
            // For the others it is queued, whatever becomes of it for the one.
            let waiting = delivery.waiting;
            assert_eq!(delivery.sent, OTHERS + 1 - waiting, "{delivery:?}");
            assert!(waiting <= 1, "{delivery:?}");
            assert!(paused.peer.waiting_bytes() <= most);
        }
        let last = (round + 1) * ROUND - 1;
        for other in &mut others {
            let expected: Vec<_> = (round * ROUND..=last).collect();
            assert_eq!(other.until(last).await, expected);
        }
    }
    assert!(paused.came.try_recv().is_err());

    // Then it gets what was on its way, and of the rest as much of the newest as is kept.
    relay.heal();
    let came = paused.until(ROUND * ROUNDS - 1).await;
    assert_eq!(came[..256], (0..256).collect::<Vec<_>>());
    let kept = &came[256..];
    let first = ROUND * ROUNDS - kept.len() as u64;
    assert!(first > 256, "nothing was dropped");
    assert_eq!(kept, (first..ROUND * ROUNDS).collect::<Vec<_>>());
    assert!(kept.len() > 100, "{}", kept.len());
}

/// For each policy: what the publisher is told, and what has come in the end.
#[tokio::test]
async fn each_policy_ends_as_it_says_for_a_reader_that_was_paused() {
    type Send = fn(&TickerNotifier, u64) -> Delivery;
    const SYMBOLS: [&str; 3] = ["a", "b", "c"];
    // Of ten, four have credit.
    let cases: [(Send, [usize; 7], &[u64]); 6] = [
        (
            |told, number| at_once(told.plain(number)).unwrap(),
            [4, 0, 0, 6, 0, 0, 0],
            &[0, 1, 2, 3],
        ),
        (
            |told, number| at_once(told.newest(number)).unwrap(),
            [4, 0, 0, 0, 6, 0, 0],
            &[0, 1, 2, 3],
        ),
        (
            |told, number| at_once(told.oldest(number, b"")).unwrap(),
            [4, 6, 0, 0, 0, 0, 0],
            &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
        ),
        (
            |told, number| at_once(told.total(number)).unwrap(),
            [4, 6, 5, 0, 0, 0, 0],
            &[0, 1, 2, 3, 9],
        ),
        (
            |told, number| {
                let symbol = SYMBOLS[number as usize % 3];
                at_once(told.price("here", symbol, number)).unwrap()
            },
            [4, 6, 3, 0, 0, 0, 0],
            &[0, 1, 2, 3, 7, 8, 9],
        ),
        (
            // Each waits in its turn, whatever its method.
            |told, number| match number % 2 {
                0 => at_once(told.oldest(number, b"")).unwrap(),
                _ => at_once(told.total(number)).unwrap(),
            },
            [4, 6, 2, 0, 0, 0, 0],
            &[0, 1, 2, 3, 4, 9, 6, 8],
        ),
    ];
    for codec in Codec::ALL {
        let mut site = Site::start(Limits::default()).await;
        let relay = Relay::start(site.address).await;
        for (send, told, comes) in cases {
            relay.heal();
            let mut viewer = site.viewer(relay.addr(), codec, 4).await;
            relay.set(Fault::OneWay(Direction::ToServer));
            let notifier = viewer.notifier();
            let deliveries: Vec<_> = (0..10).map(|number| send(&notifier, number)).collect();
            assert_eq!(counts(sum(&deliveries)), told);
            relay.heal();
            let last = *comes.last().unwrap();
            assert_eq!(viewer.until(last).await, comes);
            // Nothing else comes, and there is credit again.
            TickerClient::new(&viewer.peer).plain(10).await.unwrap();
            assert_eq!(viewer.until(10).await, [10]);
            assert_eq!(viewer.peer.waiting_bytes(), 0);
        }
    }
}

#[tokio::test]
async fn of_what_is_kept_the_oldest_goes_when_the_bytes_are_used_up() {
    for codec in Codec::ALL {
        let limits = Limits::default().backlog_bytes(2_000);
        let mut site = Site::start(limits).await;
        let mut viewer = site.viewer(site.address, codec, 2).await;
        viewer.is_stuck.send_replace(true);
        let told = viewer.notifier();
        let oldest = (0..50).map(|n| at_once(told.oldest(n, b"")).unwrap());
        let oldest = sum(&oldest.collect::<Vec<_>>());
        assert_eq!((oldest.sent, oldest.waiting), (2, 48));
        let kept = oldest.waiting - oldest.replaced;
        assert!((5..8).contains(&kept), "{oldest:?}");
        assert!(viewer.peer.waiting_bytes() <= 2_000 + 100);
        // Not even one of these has room.
        let large = at_once(told.oldest(50, &[0; 2_000])).unwrap();
        assert_eq!(counts(large), [0, 0, 0, 0, 1, 0, 0]);
        viewer.is_stuck.send_replace(false);
        let expected: Vec<_> = (0..2).chain(50 - kept as u64..50).collect();
        assert_eq!(viewer.until(49).await, expected);
    }
}

#[tokio::test]
async fn a_peer_that_may_miss_nothing_begins_another_session() {
    for codec in Codec::ALL {
        let mut site = Site::start(Limits::default()).await;
        let mut viewer = site.viewer(site.address, codec, 2).await;
        let told = viewer.notifier();
        viewer.is_stuck.send_replace(true);
        let ledger = (0..3).map(|n| at_once(told.ledger(n)).unwrap());
        let ledger = sum(&ledger.collect::<Vec<_>>());
        assert_eq!(counts(ledger), [2, 0, 0, 0, 0, 1, 0]);
        // From then on there is nobody to be told, and nobody is.
        let later = at_once(told.ledger(3)).unwrap();
        assert_eq!(counts(later), [0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(soon(viewer.peer.closed()).await.code, CloseCode::BEHIND);

        viewer.is_stuck.send_replace(false);
        let peer = site.enter(&viewer.client).await;
        assert_ne!(peer.session_id(), viewer.peer.session_id());
        let again = at_once(TickerNotifier::to([&peer]).ledger(4)).unwrap();
        assert_eq!(counts(again), [1, 0, 0, 0, 0, 0, 0]);
        let came = viewer.until(4).await;
        assert!(!came.contains(&2) && !came.contains(&3), "{came:?}");
    }
}

/// The same in the other direction: the notification goes to the session that comes next.
#[tokio::test]
async fn a_client_whose_server_may_miss_nothing_begins_another_session() {
    let (shown, mut came) = mpsc::unbounded_channel();
    let is_stuck = watch::Sender::new(true);
    let screen = Screen {
        came: shown,
        is_stuck: is_stuck.subscribe(),
    };
    let server = Server::builder()
        .service(TickerServer::new(screen))
        .limits(Limits::default().notification_credit(1));
    let address = start(server).await;
    let client = dial(address, Codec::MessagePack).connect().await.unwrap();
    let first = client.peer().session_id();
    let ticker = TickerClient::new(&client);
    at_once(ticker.ledger(0)).unwrap();
    soon(ticker.ledger(1)).await.unwrap();
    assert_ne!(client.peer().session_id(), first);
    is_stuck.send_replace(false);
    while soon(came.recv()).await.unwrap() != 1 {}
}

#[tokio::test]
async fn a_sender_to_one_peer_waits_for_credit_only_if_its_method_says_nothing() {
    let mut site = Site::start(Limits::default()).await;
    let mut viewer = site.viewer(site.address, Codec::MessagePack, 1).await;
    viewer.is_stuck.send_replace(true);
    let ticker = TickerClient::new(&viewer.peer);
    at_once(ticker.plain(0)).unwrap();
    let mut plain = Box::pin(ticker.plain(1));
    assert!(futures::poll!(&mut plain).is_pending());
    for number in 2..10 {
        at_once(ticker.position(number, b"")).unwrap();
        at_once(ticker.newest(number)).unwrap();
        at_once(ticker.total(number)).unwrap();
    }
    at_once(ticker.oldest(10, b"")).unwrap();
    viewer.is_stuck.send_replace(false);
    soon(plain).await.unwrap();
    let came = viewer.until(10).await;
    // The volatile ones that the client has taken are among them.
    let is_once = |number: u64| came.iter().filter(|came| **came == number).count() == 1;
    assert!(is_once(0) && is_once(1) && is_once(10), "{came:?}");
    assert!(came.contains(&9), "{came:?}");
}

/// W-NOTE-4, W-RESUME-6.
#[tokio::test]
async fn a_volatile_notification_is_dropped_while_there_is_no_connection() {
    for codec in Codec::ALL {
        let limits = Limits::default()
            .outbound_queue_bytes(10_000)
            .backlog_bytes(5_000);
        let mut site = Site::start(limits).await;
        let relay = Relay::start(site.address).await;
        let mut viewer = site.viewer(relay.addr(), codec, 256).await;
        let told = viewer.notifier();
        assert_eq!(at_once(told.position(0, b"here")).unwrap().sent, 1);
        assert_eq!(viewer.until(0).await, [0]);

        relay.set(Fault::Refuse);
        relay.cut();
        while !viewer.peer.is_suspended() {
            tokio::task::yield_now().await;
        }
        let delivery = at_once(told.position(1, b"here")).unwrap();
        assert_eq!((delivery.dropped, delivery.suspended), (1, 0));
        at_once(TickerClient::new(&viewer.peer).position(2, b"here")).unwrap();
        // What is not volatile waits, within bounds.
        let data = [7; 1 << 10];
        let oldest = (10..50).map(|n| at_once(told.oldest(n, &data)).unwrap());
        let oldest = sum(&oldest.collect::<Vec<_>>());
        assert_eq!(oldest.suspended + oldest.waiting, 40);
        assert!(oldest.replaced > 20, "{oldest:?}");
        let waiting = viewer.peer.waiting_bytes();
        assert!((10_000..17_000).contains(&waiting), "{waiting}");

        relay.heal();
        let came = viewer.until(49).await;
        let first = 10 + oldest.suspended as u64;
        let kept = (oldest.waiting - oldest.replaced) as u64;
        let expected: Vec<_> = (10..first).chain(50 - kept..50).collect();
        assert_eq!(came, expected);
        assert_eq!(at_once(told.position(50, b"here")).unwrap().sent, 1);
        assert_eq!(viewer.until(50).await, [50]);
    }
}

/// W-CHUNK-3.
#[tokio::test]
async fn a_volatile_notification_with_a_large_body_is_refused() {
    for codec in Codec::ALL {
        let mut site = Site::start(Limits::default()).await;
        let mut viewer = site.viewer(site.address, codec, 256).await;
        let data = vec![7; 100 << 10];
        let to_all = at_once(viewer.notifier().position(0, &data)).unwrap_err();
        assert_eq!(to_all.code(), Code::RESOURCE_EXHAUSTED);
        let ticker = TickerClient::new(&viewer.peer);
        let to_one = at_once(ticker.position(1, &data)).unwrap_err();
        assert_eq!(to_one.code(), Code::RESOURCE_EXHAUSTED);
        at_once(ticker.position(2, &data[..40 << 10])).unwrap();
        assert_eq!(viewer.until(2).await, [2]);
    }
}

/// As a client in another language sees it: kind 14, without credit.
#[tokio::test]
async fn a_volatile_notification_is_a_frame_of_its_own_kind() {
    let mut site = Site::start(Limits::default()).await;
    let mut socket = open(site.address, Codec::Json).await;
    // It has no credit for others.
    send_text(&mut socket, r#"[[0,{"7":0}],[6,3,"Lobby.enter",[]]]"#).await;
    let peer = soon(site.entered.recv()).await.unwrap();
    let told = TickerNotifier::to([&peer]);
    assert_eq!(at_once(told.plain(1)).unwrap().behind, 1);
    assert_eq!(at_once(told.position(2, b"hi")).unwrap().sent, 1);
    let mut came = Vec::new();
    while came.len() < 3 {
        came.extend(frames(&mut socket).await);
    }
    let kinds: Vec<_> = came.iter().map(|frame| frame[0].clone()).collect();
    assert_eq!(kinds, [1, 7, 14]);
    let expected = serde_json::json!([14, "Ticker.position", [2, "aGk="]]);
    assert_eq!(came[2], expected);
}
