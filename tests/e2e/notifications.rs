//! Notifications: from the server to the client, and to many at once.

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};
use wirecall::{Client, Code, Codec, Limits, Server};

use crate::{
    interop::{InteropClient, InteropEvents, InteropEventsNotifier, InteropEventsServer},
    support::{Door, LobbyClient, LobbyServer, connect, dial, idle, soon, start, start_interop},
};

struct Listener(mpsc::UnboundedSender<(u64, Vec<u8>)>);

impl InteropEvents for Listener {
    async fn event(&self, index: u64, data: &[u8]) {
        // Pending now and then, so that some handlers are polled on in a task.
        if index.is_multiple_of(3) {
            tokio::task::yield_now().await;
        }
        let _ = self.0.send((index, data.to_vec()));
    }

    async fn answer(&self, _question: &str) -> String {
        String::new()
    }
}

#[tokio::test]
async fn pushes_arrive_once_and_in_order_far_beyond_the_credit() {
    let address = start_interop().await;
    for codec in Codec::ALL {
        let (events, mut received) = mpsc::unbounded_channel();
        let client = dial(address, codec)
            .serve(InteropEventsServer::new(Listener(events)))
            .connect()
            .await
            .unwrap();
        // More than eight times the credit of 256, so it has to be given back.
        let push = InteropClient::new(&client)
            .push(2_100, b"\x00data\xff")
            .start();
        for index in 0..2_100 {
            let event = soon(received.recv()).await.unwrap();
            assert_eq!(event, (index, b"\x00data\xff".to_vec()));
        }
        soon(push).await.unwrap();
        idle(&client).await;
    }
}

/// A service whose notifications wait until they are let go.
#[wirecall::service]
trait Gate {
    #[notify]
    async fn pass(&self, number: u64);
    async fn passed(&self) -> u64;
}

#[derive(Clone)]
struct Turnstile {
    permits: Arc<Semaphore>,
    passed: Arc<std::sync::Mutex<Vec<u64>>>,
}

impl Turnstile {
    fn shut() -> Self {
        Turnstile {
            permits: Arc::new(Semaphore::new(0)),
            passed: Arc::default(),
        }
    }
}

impl Gate for Turnstile {
    async fn pass(&self, number: u64) {
        self.permits.acquire().await.unwrap().forget();
        self.passed.lock().unwrap().push(number);
    }

    async fn passed(&self) -> u64 {
        self.passed.lock().unwrap().len() as u64
    }
}

#[tokio::test]
async fn a_stuck_notification_handler_holds_up_its_sender_and_no_call() {
    let turnstile = Turnstile::shut();
    let server = Server::builder()
        .service(GateServer::new(turnstile.clone()))
        .limits(Limits::default().notification_credit(8));
    let address = start(server).await;
    let client = connect(address, Codec::MessagePack).await;
    let gate = GateClient::new(&client);
    for number in 0..8 {
        soon(gate.pass(number)).await.unwrap();
    }
    let ninth = gate.pass(8);
    tokio::pin!(ninth);
    assert!(futures::poll!(&mut ninth).is_pending());
    assert_eq!(soon(gate.passed()).await.unwrap(), 0);
    assert!(futures::poll!(&mut ninth).is_pending());

    turnstile.permits.add_permits(9);
    soon(ninth).await.unwrap();
    while soon(gate.passed()).await.unwrap() < 9 {}
    assert_eq!(
        *turnstile.passed.lock().unwrap(),
        (0..9).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn a_notification_that_is_given_up_while_it_waits_makes_room_for_the_next() {
    let turnstile = Turnstile::shut();
    let server = Server::builder()
        .service(GateServer::new(turnstile.clone()))
        .limits(Limits::default().notification_credit(1));
    let address = start(server).await;
    let client = connect(address, Codec::MessagePack).await;
    let gate = GateClient::new(&client);
    soon(gate.pass(0)).await.unwrap();
    let mut given_up = Box::pin(gate.pass(1));
    let mut next = Box::pin(gate.pass(2));
    assert!(futures::poll!(&mut given_up).is_pending());
    assert!(futures::poll!(&mut next).is_pending());
    drop(given_up);
    turnstile.permits.add_permits(2);
    soon(next).await.unwrap();
    while soon(gate.passed()).await.unwrap() < 2 {}
    assert_eq!(*turnstile.passed.lock().unwrap(), [0, 2]);
}

#[tokio::test]
async fn a_notifier_tells_many_peers_and_reports_each_of_them() {
    let (door, mut entered) = Door::new();
    let address = start(Server::builder().service(LobbyServer::new(door))).await;
    let mut clients: Vec<Client> = Vec::new();
    let mut peers = Vec::new();
    let (events, mut received) = mpsc::unbounded_channel();
    for codec in [Codec::MessagePack, Codec::Json, Codec::MessagePack] {
        let client = dial(address, codec)
            .serve(InteropEventsServer::new(Listener(events.clone())))
            .connect()
            .await
            .unwrap();
        LobbyClient::new(&client).enter().await.unwrap();
        peers.push(soon(entered.recv()).await.unwrap());
        clients.push(client);
    }
    clients.pop().unwrap().close().await;
    soon(peers[2].closed()).await;

    let notifier = InteropEventsNotifier::to(&peers);
    for index in 0..10 {
        let delivery = notifier.event(index, b"all").await.unwrap();
        assert_eq!((delivery.sent, delivery.behind, delivery.closed), (2, 0, 1));
    }
    let mut indices = Vec::new();
    for _ in 0..20 {
        indices.push(soon(received.recv()).await.unwrap().0);
    }
    indices.sort_unstable();
    assert_eq!(indices, (0..20).map(|n| n / 2).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_peer_that_is_behind_is_left_out_and_holds_up_nobody() {
    struct Stuck;
    impl InteropEvents for Stuck {
        async fn event(&self, _index: u64, _data: &[u8]) {
            std::future::pending().await
        }
        async fn answer(&self, _question: &str) -> String {
            String::new()
        }
    }

    let (door, mut entered) = Door::new();
    let address = start(Server::builder().service(LobbyServer::new(door))).await;
    let (events, mut received) = mpsc::unbounded_channel();
    let stuck = dial(address, Codec::MessagePack)
        .serve(InteropEventsServer::new(Stuck))
        .limits(Limits::default().notification_credit(2));
    let lively =
        dial(address, Codec::MessagePack).serve(InteropEventsServer::new(Listener(events)));
    let mut peers = Vec::new();
    let mut clients = Vec::new();
    for builder in [stuck, lively] {
        let client = builder.connect().await.unwrap();
        LobbyClient::new(&client).enter().await.unwrap();
        peers.push(soon(entered.recv()).await.unwrap());
        clients.push(client);
    }
    let notifier = InteropEventsNotifier::to(&peers);
    for index in 0..10 {
        let delivery = notifier.event(index, b"").await.unwrap();
        let behind = usize::from(index >= 2);
        assert_eq!((delivery.sent, delivery.behind), (2 - behind, behind));
        soon(received.recv()).await.unwrap();
    }
}

#[tokio::test]
async fn a_notification_to_a_closed_connection_fails() {
    let address = start_interop().await;
    let client = connect(address, Codec::MessagePack).await;
    client.close().await;
    let gate = GateClient::new(&client);
    let failed = gate.pass(1).await.unwrap_err();
    assert_eq!(failed.code(), Code::UNAVAILABLE);
}

#[tokio::test]
async fn a_call_to_a_notification_is_refused() {
    /// `Gate` as one has it who has mistaken it.
    #[wirecall::service(name = "Gate")]
    trait WrongGate {
        async fn pass(&self, number: u64);
        #[notify]
        async fn passed(&self);
    }

    let turnstile = Turnstile::shut();
    let address = start(Server::builder().service(GateServer::new(turnstile))).await;
    let client = connect(address, Codec::MessagePack).await;
    let gate = WrongGateClient::new(&client);
    let failed = soon(gate.pass(1)).await.unwrap_err();
    assert_eq!(failed.code(), Code::UNIMPLEMENTED);
    // The other way about it is ignored, as nobody waits; its credit comes back.
    for _ in 0..600 {
        soon(gate.passed()).await.unwrap();
    }
    assert_eq!(soon(GateClient::new(&client).passed()).await.unwrap(), 0);
}
