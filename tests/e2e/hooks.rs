//! What an application is told of sessions, and what it may do about them.

mod refusal;
mod state;

use std::{
    future::pending,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::FutureExt as _;
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinHandle,
};
use wirecall::{
    Backoff, Client, CloseReason, Codec, Context, Drain, Hub, Limits, Peer, Server, ServerBuilder,
    ServerHandle, SessionHooks, Status, async_trait,
};

use crate::{
    raw_client::{frames, open, send_text},
    relay::{Fault, Relay},
    support::{dial, soon},
};

/// What clients call.
#[wirecall::service]
pub trait Shop {
    /// Adds an article to the session's cart, and says how many there are.
    async fn add(&self, cx: &Context, article: &str) -> u64;
}

/// What clients are told.
#[wirecall::service]
pub trait Customer {
    #[notify]
    async fn greeted(&self, with: &str);
}

#[derive(Default)]
pub struct Cart(Mutex<Vec<String>>);

pub struct Counter;

impl Shop for Counter {
    async fn add(&self, cx: &Context, article: &str) -> u64 {
        let cart = cx.state().get_or_default::<Cart>();
        let mut articles = cart.0.lock().unwrap();
        articles.push(article.to_owned());
        articles.len() as u64
    }
}

type Answer = Result<(), Status>;

/// What hooks do, each when it is called.
#[derive(Clone)]
pub struct Hooks {
    log: mpsc::UnboundedSender<String>,
    connected: Arc<dyn Fn(&Peer) -> Answer + Send + Sync>,
    /// What a hook of this name does before it ends.
    before: Option<(&'static str, Before)>,
    timeout: Duration,
}

#[derive(Clone)]
pub enum Before {
    Panic,
    Never,
    /// Waits for a permit.
    Wait(Arc<Semaphore>),
}

impl Hooks {
    pub fn new() -> (Self, Log) {
        let (log, logged) = mpsc::unbounded_channel();
        let hooks = Hooks {
            log,
            connected: Arc::new(|_| Ok(())),
            before: None,
            timeout: Duration::from_secs(10),
        };
        (hooks, Log(logged))
    }

    pub fn connected(
        mut self,
        connected: impl Fn(&Peer) -> Result<(), Status> + Send + Sync + 'static,
    ) -> Self {
        self.connected = Arc::new(connected);
        self
    }

    fn before(mut self, hook: &'static str, before: Before) -> Self {
        self.before = Some((hook, before));
        self
    }

    fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    async fn call(&self, hook: &'static str, said: String) {
        let _ = self.log.send(said);
        let before = self.before.as_ref().filter(|(name, _)| *name == hook);
        match before.map(|(_, before)| before) {
            None => return,
            Some(Before::Panic) => panic!("{hook}"),
            Some(Before::Never) => {
                let _dropped = Dropped(hook, self.log.clone());
                pending().await
            }
            Some(Before::Wait(permits)) => permits.acquire().await.unwrap().forget(),
        }
        let _ = self.log.send(format!("{hook} has ended"));
    }
}

/// Says when a hook is dropped.
struct Dropped(&'static str, mpsc::UnboundedSender<String>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.1.send(format!("{} was dropped", self.0));
    }
}

#[async_trait]
impl SessionHooks for Hooks {
    async fn connected(&self, session: &Peer) -> Result<(), Status> {
        self.call("connected", "connected".to_owned()).await;
        (self.connected)(session)
    }

    async fn suspended(&self, session: &Peer) {
        assert!(!session.is_closed());
        self.call("suspended", "suspended".to_owned()).await;
    }

    async fn resumed(&self, _session: &Peer) {
        self.call("resumed", "resumed".to_owned()).await;
    }

    async fn ended(&self, session: &Peer, reason: &CloseReason) {
        assert!(session.is_closed());
        self.call("ended", format!("ended {}", reason.code)).await;
    }

    fn timeout(&self) -> Duration {
        self.timeout
    }
}

/// What hooks have said.
pub struct Log(mpsc::UnboundedReceiver<String>);

impl Log {
    pub async fn says(&mut self, expected: &str) {
        let said = soon(self.0.recv()).await;
        assert_eq!(said.as_deref(), Some(expected));
    }

    pub fn says_nothing(&mut self) {
        assert_eq!(self.0.try_recv().ok(), None);
    }
}

pub fn shop(hooks: Hooks) -> ServerBuilder {
    Server::builder()
        .service(ShopServer::new(Counter))
        .hooks(hooks)
}

pub async fn run(builder: ServerBuilder) -> (SocketAddr, ServerHandle, JoinHandle<()>) {
    let server = builder.bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    let handle = server.handle();
    (address, handle, tokio::spawn(server.run()))
}

async fn visit(address: SocketAddr, codec: Codec) -> Client {
    let backoff = Backoff {
        first: Duration::from_millis(5),
        max: Duration::from_millis(20),
        stable_after: Duration::from_secs(10),
    };
    let client = dial(address, codec).reconnect(backoff).connect().await;
    client.unwrap()
}

#[tokio::test]
async fn a_session_is_told_of_from_its_beginning_to_its_end() {
    for codec in Codec::ALL {
        let (hooks, mut log) = Hooks::new();
        let (address, ..) = run(shop(hooks)).await;
        let relay = Relay::start(address).await;
        let client = visit(relay.addr(), codec).await;
        log.says("connected").await;
        let shop = ShopClient::new(&client);
        assert_eq!(shop.add("tea").await, Ok(1));
        for _ in 0..2 {
            relay.set(Fault::Refuse);
            relay.cut();
            log.says("suspended").await;
            relay.heal();
            log.says("resumed").await;
        }
        assert_eq!(soon(shop.add("milk")).await, Ok(2));
        client.close().await;
        log.says("ended 1000").await;
        log.says_nothing();
    }
}

/// Nothing of the client is executed, and nobody else waits.
#[tokio::test]
async fn a_session_begins_when_the_hook_has_ended() {
    let permits = Arc::new(Semaphore::new(0));
    let (hooks, mut log) = Hooks::new();
    let hooks = hooks.before("connected", Before::Wait(permits.clone()));
    let (address, ..) = run(shop(hooks)).await;
    let mut socket = open(address, Codec::Json).await;
    send_text(&mut socket, r#"[[0,{}],[6,3,"Shop.add",["tea"]]]"#).await;
    log.says("connected").await;
    let mut other = open(address, Codec::Json).await;
    send_text(&mut other, "[0,{}]").await;
    // Behind HELLO, in a message of its own.
    send_text(&mut other, r#"[6,3,"Shop.add",["milk"]]"#).await;
    log.says("connected").await;
    log.says_nothing();
    permits.add_permits(2);
    for socket in [&mut socket, &mut other] {
        let welcome = frames(socket).await;
        assert_eq!(welcome[0][0], 1, "{welcome:?}");
        let answer = match welcome.get(1) {
            Some(answer) => answer.clone(),
            None => frames(socket).await[0].clone(),
        };
        assert_eq!(answer, serde_json::json!([7, 3, 1]));
    }
}

#[tokio::test]
async fn a_session_joins_groups_and_is_greeted_before_its_first_call() {
    struct Guest(mpsc::UnboundedSender<String>);
    impl Customer for Guest {
        async fn greeted(&self, with: &str) {
            let _ = self.0.send(with.to_owned());
        }
    }
    let hub = Hub::new();
    for codec in Codec::ALL {
        let (hooks, mut log) = Hooks::new();
        let joining = hub.clone();
        let hooks = hooks.connected(move |session| {
            joining.join(session, "guests")?;
            joining.join(session, "others")?;
            assert!(joining.leave(session, "others"));
            assert_eq!(joining.groups_of(session), ["guests".into()]);
            // Nobody else finds it before it is let in.
            assert!(joining.members("guests").is_empty());
            // It waits for WELCOME.
            let greeting = CustomerClient::new(session).greeted("welcome");
            assert_eq!(greeting.into_future().now_or_never(), Some(Ok(())));
            Ok(())
        });
        let (address, ..) = run(shop(hooks).hub(&hub)).await;
        let (greeted, mut greetings) = mpsc::unbounded_channel();
        let client = dial(address, codec).serve(CustomerServer::new(Guest(greeted)));
        let client = client.connect().await.unwrap();
        log.says("connected").await;
        assert_eq!(soon(greetings.recv()).await.as_deref(), Some("welcome"));
        assert_eq!(hub.members("guests").len(), 1);
        client.close().await;
        log.says("ended 1000").await;
        assert!(hub.members("guests").is_empty());
    }
}

#[tokio::test]
async fn a_session_that_waits_in_vain_ends_once() {
    let (hooks, mut log) = Hooks::new();
    let limits = Limits::default().resume_window(Duration::from_millis(50));
    let (address, ..) = run(shop(hooks).limits(limits)).await;
    let relay = Relay::start(address).await;
    let client = visit(relay.addr(), Codec::MessagePack).await;
    log.says("connected").await;
    relay.set(Fault::Refuse);
    relay.cut();
    log.says("suspended").await;
    log.says("ended 1006").await;
    // Another one begins.
    relay.heal();
    log.says("connected").await;
    client.close().await;
    log.says("ended 1000").await;
    log.says_nothing();
}

#[tokio::test]
async fn a_hook_that_panics_keeps_no_other_from_being_called() {
    for broken in ["connected", "suspended", "resumed", "ended"] {
        let (hooks, mut log) = Hooks::new();
        let (address, handle, running) = run(shop(hooks.before(broken, Before::Panic))).await;
        let relay = Relay::start(address).await;
        if broken == "connected" {
            let refused = dial(relay.addr(), Codec::MessagePack).connect().await;
            refused.unwrap_err();
            log.says("connected").await;
            // UNAVAILABLE: try again later.
            log.says("ended 4364").await;
        } else {
            let client = visit(relay.addr(), Codec::MessagePack).await;
            log.says("connected").await;
            relay.set(Fault::Refuse);
            relay.cut();
            log.says("suspended").await;
            relay.heal();
            log.says("resumed").await;
            client.close().await;
            log.says("ended 1000").await;
        }
        handle.stop();
        soon(running).await.unwrap();
    }
}

#[tokio::test]
async fn a_hook_that_does_not_end_is_dropped_and_the_next_is_called() {
    let (hooks, mut log) = Hooks::new();
    let hooks = hooks.before("suspended", Before::Never);
    let (address, ..) = run(shop(hooks.timeout(Duration::from_millis(50)))).await;
    let relay = Relay::start(address).await;
    let client = visit(relay.addr(), Codec::MessagePack).await;
    log.says("connected").await;
    relay.set(Fault::Refuse);
    relay.cut();
    log.says("suspended").await;
    relay.heal();
    // The session does not wait for the hook.
    assert_eq!(soon(ShopClient::new(&client).add("tea")).await, Ok(1));
    log.says("suspended was dropped").await;
    log.says("resumed").await;
    client.close().await;
    log.says("ended 1000").await;
}

#[tokio::test]
async fn a_break_that_is_over_before_its_turn_is_not_told() {
    let permits = Arc::new(Semaphore::new(0));
    let (hooks, mut log) = Hooks::new();
    let (address, handle, _) = run(shop(
        hooks.before("suspended", Before::Wait(permits.clone())),
    ))
    .await;
    let relay = Relay::start(address).await;
    let client = visit(relay.addr(), Codec::MessagePack).await;
    log.says("connected").await;
    let shop = ShopClient::new(&client);
    for round in 1..=3 {
        let connections = relay.connections();
        relay.cut();
        relay.wait_for_connections(connections + 1).await;
        assert_eq!(soon(shop.add("tea")).await, Ok(round));
    }
    // At the first break the hook was called, if the server has noticed one at all before the client
    // was back. It is still busy.
    permits.add_permits(10);
    assert_eq!(handle.sessions(), 1);
    client.close().await;
    let mut said = Vec::new();
    while !said.iter().any(|line: &String| line == "ended 1000") {
        said.push(soon(log.0.recv()).await.unwrap());
    }
    let count = |hook: &str| said.iter().filter(|line| *line == hook).count();
    assert!(count("suspended") <= 1, "{said:?}");
    assert!(count("resumed") <= 1, "{said:?}");
}

/// What has changed while a hook ran is not told behind the end.
#[tokio::test]
async fn the_end_is_told_last() {
    for comes_back in [true, false] {
        let permits = Arc::new(Semaphore::new(0));
        let (hooks, mut log) = Hooks::new();
        let held = if comes_back { "suspended" } else { "resumed" };
        let hooks = hooks.before(held, Before::Wait(permits.clone()));
        let (address, handle, running) = run(shop(hooks)).await;
        let relay = Relay::start(address).await;
        let client = visit(relay.addr(), Codec::MessagePack).await;
        log.says("connected").await;
        relay.set(Fault::Refuse);
        relay.cut();
        log.says("suspended").await;
        relay.heal();
        assert_eq!(soon(ShopClient::new(&client).add("tea")).await, Ok(1));
        if !comes_back {
            log.says("resumed").await;
            relay.set(Fault::Refuse);
            relay.cut();
            suspended(&handle).await;
        }
        handle.stop();
        soon(async {
            while handle.sessions() > 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        permits.add_permits(1);
        log.says(&format!("{held} has ended")).await;
        log.says("ended 1001").await;
        soon(running).await.unwrap();
        log.says_nothing();
        drop(client);
    }
}

/// Waits until the server's session waits for its client.
async fn suspended(handle: &ServerHandle) {
    let hub = handle.hub();
    soon(async {
        while !hub.all().peers().iter().all(Peer::is_suspended) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_server_that_leaves_waits_for_the_hooks() {
    for drains in [true, false] {
        let permits = Arc::new(Semaphore::new(0));
        let (hooks, mut log) = Hooks::new();
        let hooks = hooks.before("ended", Before::Wait(permits.clone()));
        let (address, handle, running) = run(shop(hooks)).await;
        let relay = Relay::start(address).await;
        let here = visit(address, Codec::MessagePack).await;
        log.says("connected").await;
        let away = visit(relay.addr(), Codec::Json).await;
        log.says("connected").await;
        relay.set(Fault::Refuse);
        relay.cut();
        log.says("suspended").await;
        let leaving = tokio::spawn(async move {
            match drains {
                true => drop(handle.drain(Drain::within(Duration::ZERO)).await),
                false => handle.stop(),
            }
        });
        let code = if drains { 4200 } else { 1001 };
        for _ in 0..2 {
            log.says(&format!("ended {code}")).await;
        }
        assert!(!running.is_finished());
        permits.add_permits(2);
        for _ in 0..2 {
            log.says("ended has ended").await;
        }
        soon(leaving).await.unwrap();
        soon(running).await.unwrap();
        log.says_nothing();
        drop((here, away));
    }
}
