//! The hub: who is there, and how the server reaches them.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::StreamExt as _;
use tokio::sync::{Notify, mpsc};
use wirecall::{
    Backoff, CallError, Client, Code, Codec, Context, Delivery, Fate, Hub, Identity, JoinError,
    Limits, Peer, Server, ServerHandle, StaticTokens, Status,
};

use crate::{
    relay::{Fault, Relay},
    support::{dial, soon},
};

/// How a device joins and leaves rooms.
#[wirecall::service]
trait Rooms {
    /// The first call of a session: the hub knows it already.
    async fn join(&self, cx: &Context, room: &str) -> Result<u64, Status>;
    async fn leave(&self, cx: &Context, room: &str) -> bool;
    /// Tells the others in a room, from within a handler.
    async fn say(&self, cx: &Context, room: &str, text: &str) -> u64;
}

/// What a device does for the server.
#[wirecall::service]
trait Device {
    #[notify]
    async fn told(&self, text: &str);
    async fn confirm(&self, question: &str) -> Result<String, Status>;
}

#[derive(Clone)]
struct House {
    hub: Hub,
    entered: mpsc::UnboundedSender<Peer>,
}

impl Rooms for House {
    async fn join(&self, cx: &Context, room: &str) -> Result<u64, Status> {
        self.hub.join(cx, room)?;
        let _ = self.entered.send(cx.peer().clone());
        Ok(self.hub.groups_of(cx).len() as u64)
    }

    async fn leave(&self, cx: &Context, room: &str) -> bool {
        self.hub.leave(cx, room)
    }

    async fn say(&self, cx: &Context, room: &str, text: &str) -> u64 {
        let others = self.hub.group(room).except(cx);
        let delivery = DeviceNotifier::to(others).told(text).await.unwrap();
        delivery.sent as u64
    }
}

/// How a device answers when it is asked.
#[derive(Clone, Copy, PartialEq)]
enum Answer {
    Yes,
    Refuse,
    /// Does not come; says when the question was withdrawn.
    Never,
}

struct Phone {
    answer: Answer,
    told: mpsc::UnboundedSender<String>,
    asked: Arc<Notify>,
    withdrawn: Arc<AtomicBool>,
}

impl Device for Phone {
    async fn told(&self, text: &str) {
        let _ = self.told.send(text.to_owned());
    }

    async fn confirm(&self, question: &str) -> Result<String, Status> {
        struct Withdrawn<'a>(&'a AtomicBool);
        impl Drop for Withdrawn<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        match self.answer {
            Answer::Yes => Ok(format!("{question} yes")),
            Answer::Refuse => Err(Status::new(Code::ABORTED, "no")),
            Answer::Never => {
                let _withdrawn = Withdrawn(&self.withdrawn);
                self.asked.notify_one();
                std::future::pending().await
            }
        }
    }
}

/// A client, and what it was told.
struct Owner {
    client: Client,
    /// The server's handle of it.
    peer: Peer,
    told: mpsc::UnboundedReceiver<String>,
    asked: Arc<Notify>,
    withdrawn: Arc<AtomicBool>,
}

impl Owner {
    async fn hears(&mut self, text: &str) {
        assert_eq!(soon(self.told.recv()).await.as_deref(), Some(text));
    }

    fn rooms(&self) -> RoomsClient {
        RoomsClient::new(&self.client)
    }
}

struct Site {
    hub: Hub,
    handle: ServerHandle,
    address: SocketAddr,
    entered: mpsc::UnboundedReceiver<Peer>,
}

impl Site {
    async fn start() -> Self {
        Site::start_with(Limits::default()).await
    }

    async fn start_with(limits: Limits) -> Self {
        let hub = Hub::new();
        let (entered, entering) = mpsc::unbounded_channel();
        let house = House {
            hub: hub.clone(),
            entered,
        };
        let tokens = StaticTokens::new()
            .token("a", Identity::new("alice"))
            .token("b", Identity::new("bob"));
        let server = Server::builder()
            .service(RoomsServer::new(house))
            .authenticator(tokens)
            .limits(limits)
            .hub(&hub)
            .bind("127.0.0.1:0")
            .await
            .unwrap();
        let address = server.local_addr().unwrap();
        let handle = server.handle();
        tokio::spawn(server.run());
        Site {
            hub,
            handle,
            address,
            entered: entering,
        }
    }

    async fn device(&mut self, token: &str, codec: Codec, answer: Answer) -> Owner {
        self.device_at(self.address, token, codec, answer).await
    }

    /// Connects, and joins the lobby.
    async fn device_at(
        &mut self,
        address: SocketAddr,
        token: &str,
        codec: Codec,
        answer: Answer,
    ) -> Owner {
        let (told, hears) = mpsc::unbounded_channel();
        let phone = Phone {
            answer,
            told,
            asked: Arc::default(),
            withdrawn: Arc::default(),
        };
        let (asked, withdrawn) = (phone.asked.clone(), phone.withdrawn.clone());
        let client = dial(address, codec)
            .token(token)
            .reconnect(Backoff {
                first: Duration::from_millis(10),
                max: Duration::from_millis(50),
                stable_after: Duration::from_secs(10),
            })
            .serve(DeviceServer::new(phone))
            .connect()
            .await
            .unwrap();
        let joined = RoomsClient::new(&client).join("lobby").await;
        assert_eq!(joined, Ok(1));
        Owner {
            client,
            peer: soon(self.entered.recv()).await.unwrap(),
            told: hears,
            asked,
            withdrawn,
        }
    }

    /// Nothing is left in any table.
    async fn is_empty(&self) {
        soon(async {
            while self.handle.sessions() > 0 || self.hub.sessions() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        assert_eq!(
            format!("{:?}", self.hub),
            "Hub { sessions: 0, users: 0, groups: 0 }"
        );
    }
}

/// Of those who have been told: sent, suspended, behind, closed, absent.
fn counts(delivery: Delivery) -> [usize; 5] {
    [
        delivery.sent,
        delivery.suspended,
        delivery.behind,
        delivery.closed,
        delivery.absent,
    ]
}

#[tokio::test]
async fn a_user_is_reached_on_all_devices_and_the_tables_are_empty_afterwards() {
    let mut site = Site::start().await;
    let hub = site.hub.clone();
    let mut phone = site.device("a", Codec::MessagePack, Answer::Yes).await;
    let mut desktop = site.device("a", Codec::Json, Answer::Yes).await;
    let mut bob = site.device("b", Codec::Json, Answer::Yes).await;
    let alice = DeviceNotifier::to(hub.user("alice"));
    let told = alice.told("hi").await.unwrap();
    assert_eq!(counts(told), [2, 0, 0, 0, 0]);
    phone.hears("hi").await;
    desktop.hears("hi").await;

    assert_eq!(hub.sessions_of("alice"), [&phone, &desktop].map(peer));
    assert!(hub.is_online("bob") && !hub.is_online("carol"));
    let mut users = hub.users();
    users.sort();
    assert_eq!(users, ["alice", "bob"].map(Arc::from));

    // Each session once, however it is addressed; one user of two is not there.
    let everyone = hub.user("bob").and_group("lobby").and_user("carol");
    let told = DeviceNotifier::to(&everyone).told("all").await.unwrap();
    assert_eq!(counts(told), [3, 0, 0, 0, 1]);
    for owner in [&mut phone, &mut desktop, &mut bob] {
        owner.hears("all").await;
    }
    let one = hub.session(bob.peer.session_id());
    let told = DeviceNotifier::to(&one).told("bob").await.unwrap();
    assert_eq!(counts(told), [1, 0, 0, 0, 0]);
    bob.hears("bob").await;
    let others = DeviceNotifier::to(hub.all().except(&bob.peer));
    let told = others.told("most").await.unwrap();
    assert_eq!(counts(told), [2, 0, 0, 0, 0]);
    phone.hears("most").await;

    // Whoever has gone is not there any more, also for what was made before.
    soon(phone.client.close()).await;
    soon(phone.peer.closed()).await;
    soon(bob.client.close()).await;
    soon(bob.peer.closed()).await;
    soon(async {
        while hub.sessions() > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let told = alice.told("still").await.unwrap();
    assert_eq!(counts(told), [1, 0, 0, 0, 0]);
    let told = DeviceNotifier::to(one).told("gone").await.unwrap();
    assert_eq!(counts(told), [0, 0, 0, 0, 1]);
    let told = DeviceNotifier::to(hub.user("bob")).told("gone").await;
    assert_eq!(counts(told.unwrap()), [0, 0, 0, 0, 1]);
    desktop.hears("most").await;
    desktop.hears("still").await;
    drop(desktop);
    site.is_empty().await;
}

fn peer(owner: &Owner) -> Peer {
    owner.peer.clone()
}

#[tokio::test]
async fn groups_are_joined_and_left_and_end_with_their_sessions() {
    for codec in Codec::ALL {
        let mut site = Site::start().await;
        let hub = site.hub.clone();
        let mut alice = site.device("a", codec, Answer::Yes).await;
        let mut bob = site.device("b", codec, Answer::Yes).await;
        assert_eq!(alice.rooms().join("attic").await, Ok(2));
        // Once more is no more.
        assert_eq!(alice.rooms().join("attic").await, Ok(2));
        assert_eq!(
            hub.groups_of(&alice.peer),
            ["attic", "lobby"].map(Arc::from)
        );
        assert_eq!(hub.members("lobby"), [&alice, &bob].map(peer));
        assert_eq!(hub.members("attic"), [peer(&alice)]);
        // From a handler, to the others.
        assert_eq!(bob.rooms().say("lobby", "hello").await, Ok(1));
        alice.hears("hello").await;
        assert_eq!(bob.rooms().say("attic", "empty?").await, Ok(1));
        alice.hears("empty?").await;
        assert_eq!(alice.rooms().leave("attic").await, Ok(true));
        assert_eq!(alice.rooms().leave("attic").await, Ok(false));
        // Nobody is missed in an empty group.
        let told = DeviceNotifier::to(hub.group("attic")).told("x").await;
        assert_eq!(counts(told.unwrap()), [0; 5]);
        assert!(bob.told.try_recv().is_err());

        let peer = alice.peer.clone();
        drop((alice, bob));
        site.is_empty().await;
        assert_eq!(hub.join(&peer, "lobby"), Err(JoinError::NoSession));
        assert!(hub.groups_of(&peer).is_empty());
    }
}

#[tokio::test]
async fn a_session_is_not_in_more_groups_than_it_may_be() {
    let mut site = Site::start().await;
    let owner = site.device("a", Codec::MessagePack, Answer::Yes).await;
    for number in 1..Hub::MAX_GROUPS {
        site.hub.join(&owner.peer, &number.to_string()).unwrap();
    }
    let refused = owner.rooms().join("another").await;
    assert_eq!(refused.unwrap_err().code(), Code::RESOURCE_EXHAUSTED);
    drop(owner);
    site.is_empty().await;
}

#[tokio::test]
async fn a_session_that_waits_is_told_in_order_when_its_client_is_back() {
    for codec in Codec::ALL {
        let mut site = Site::start().await;
        let hub = site.hub.clone();
        let relay = Relay::start(site.address).await;
        let mut presence = hub.presence();
        let mut owner = site.device_at(relay.addr(), "a", codec, Answer::Yes).await;
        relay.set(Fault::Refuse);
        relay.cut();
        soon(async {
            while !owner.peer.is_suspended() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        // The user is still there, and so is the membership.
        assert!(hub.is_online("alice"));
        assert_eq!(hub.members("lobby"), [peer(&owner)]);
        let lobby = DeviceNotifier::to(hub.group("lobby"));
        // As many as it has credit for, and no more.
        let credit = 256;
        for number in 0..credit {
            let told = lobby.told(&number.to_string()).await.unwrap();
            assert_eq!(counts(told), [0, 1, 0, 0, 0]);
        }
        let told = lobby.told("too many").await.unwrap();
        assert_eq!(counts(told), [0, 0, 1, 0, 0]);
        relay.heal();
        for number in 0..credit {
            owner.hears(&number.to_string()).await;
        }
        soon(async {
            while lobby.told("live").await.unwrap().sent == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        owner.hears("live").await;
        soon(owner.client.close()).await;
        site.is_empty().await;
        // The break was none for those who ask who is there.
        for is_online in [true, false] {
            let change = soon(presence.next()).await.unwrap().unwrap();
            assert_eq!((&*change.user, change.is_online), ("alice", is_online));
        }
        assert!(futures::poll!(presence.next()).is_pending());
    }
}

#[tokio::test]
async fn a_user_has_gone_when_the_last_session_has_ended() {
    let mut site =
        Site::start_with(Limits::default().resume_window(Duration::from_millis(300))).await;
    let mut presence = site.hub.presence();
    let relay = Relay::start(site.address).await;
    let phone = site
        .device_at(relay.addr(), "a", Codec::Json, Answer::Yes)
        .await;
    let desktop = site.device("a", Codec::MessagePack, Answer::Yes).await;
    let change = soon(presence.next()).await.unwrap().unwrap();
    assert_eq!((&*change.user, change.is_online), ("alice", true));
    soon(desktop.client.close()).await;
    relay.set(Fault::Refuse);
    relay.cut();
    // Nobody comes back in time.
    let change = soon(presence.next()).await.unwrap().unwrap();
    assert_eq!((&*change.user, change.is_online), ("alice", false));
    assert!(phone.peer.is_closed());
    assert!(!site.hub.is_online("alice"));
    site.is_empty().await;
}

#[tokio::test]
async fn the_first_device_that_answers_wins_and_the_others_are_not_asked_any_more() {
    for codec in Codec::ALL {
        let mut site = Site::start().await;
        let never = site.device("a", codec, Answer::Never).await;
        let alice = site.hub.user("alice");
        let refused = site.device("a", codec, Answer::Refuse).await;
        let ask = |peer| DeviceClient::new(&peer).confirm("sure?");
        let asked = {
            let alice = alice.clone();
            tokio::spawn(async move { alice.first(ask).await })
        };
        soon(never.asked.notified()).await;
        assert!(!asked.is_finished());
        // Nobody wants to know any more.
        asked.abort();
        soon(async {
            while !never.withdrawn.load(Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        let willing = site.device("a", codec, Answer::Yes).await;
        assert_eq!(soon(alice.first(ask)).await, Ok("sure? yes".to_owned()));
        soon(async {
            while never.peer.in_flight() != (0, 0) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;

        let answers = alice.each(Duration::from_millis(300), ask);
        let answers = soon(answers).await;
        assert_eq!(answers.len(), 3);
        assert_eq!(answers[0].0, never.peer);
        let late = answers[0].1.as_ref().unwrap_err();
        assert_eq!(late.code(), Code::DEADLINE_EXCEEDED);
        assert_eq!(answers[1].0, refused.peer);
        let no = answers[1].1.as_ref().unwrap_err();
        assert_eq!(no.code(), Code::ABORTED);
        assert_eq!(answers[2].1, Ok("sure? yes".to_owned()));

        // Where nobody is willing, it is said why.
        drop((never, willing));
        soon(async {
            while site.hub.sessions() > 1 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        let no = soon(alice.first(ask)).await.unwrap_err();
        assert_eq!(no.code(), Code::ABORTED);
        drop(refused);
        site.is_empty().await;
        let nobody = alice.first(ask).await.unwrap_err();
        assert_eq!(nobody.code(), Code::UNAVAILABLE);
        assert!(matches!(&nobody, CallError::Status(status) if status.fate() == Fate::NotSent));
        assert!(alice.each(Duration::from_secs(1), ask).await.is_empty());
    }
}

#[tokio::test]
async fn without_an_authenticator_sessions_are_nobodys_and_in_groups_all_the_same() {
    let hub = Hub::new();
    let (entered, mut entering) = mpsc::unbounded_channel();
    let house = House {
        hub: hub.clone(),
        entered,
    };
    let server = Server::builder().service(RoomsServer::new(house)).hub(&hub);
    let server = server.build().unwrap();
    let endpoint = server.in_memory();
    tokio::spawn(server.run());
    let client = Client::connect(endpoint).await.unwrap();
    assert_eq!(RoomsClient::new(&client).join("lobby").await, Ok(1));
    let peer = soon(entering.recv()).await.unwrap();
    assert_eq!(hub.members("lobby"), [peer]);
    assert_eq!((hub.sessions(), hub.users().len()), (1, 0));
    // Another server does not know it.
    let other = Server::builder().build().unwrap().hub();
    assert_eq!(other.sessions(), 0);
}
