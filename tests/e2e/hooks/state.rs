//! What is kept with a session.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::mpsc;
use wirecall::{Client, Codec, Peer, Server};

use super::{Cart, Counter, Hooks, ShopClient, ShopServer, run, shop, visit};
use crate::{
    relay::{Fault, Relay},
    support::{Door, LobbyClient, LobbyServer, connect, dial, soon, start},
};

#[tokio::test]
async fn each_session_has_its_own_and_keeps_it_over_breaks() {
    for codec in Codec::ALL {
        let (hooks, mut log) = Hooks::new();
        let (address, ..) = run(shop(hooks)).await;
        let relay = Relay::start(address).await;
        let first = visit(relay.addr(), codec).await;
        log.says("connected").await;
        let second = visit(address, codec).await;
        log.says("connected").await;
        let carts = [&first, &second].map(ShopClient::new);
        assert_eq!(carts[0].add("tea").await, Ok(1));
        relay.set(Fault::Refuse);
        relay.cut();
        log.says("suspended").await;
        relay.heal();
        assert_eq!(soon(carts[0].add("milk")).await, Ok(2));
        assert_eq!(carts[1].add("salt").await, Ok(1));
    }
}

/// The server's handle of a client.
async fn entered() -> (Client, Peer) {
    let (door, mut entering) = Door::new();
    let server = Server::builder()
        .service(LobbyServer::new(door))
        .service(ShopServer::new(Counter));
    let client = connect(start(server).await, Codec::MessagePack).await;
    LobbyClient::new(&client).enter().await.unwrap();
    (client, soon(entering.recv()).await.unwrap())
}

#[tokio::test]
async fn there_is_one_value_of_each_type() {
    let (client, peer) = entered().await;
    let state = peer.state();
    assert_eq!(state.get::<u8>(), None);
    assert_eq!(state.insert(1_u8), None);
    assert_eq!(state.insert(1_u16), None);
    assert_eq!(state.insert(2_u8).as_deref(), Some(&1));
    assert_eq!(*state.get_or_insert_with(|| 3_u8), 2);
    assert_eq!(*state.get_or_insert_with(|| 3_u32), 3);
    assert_eq!(*state.get_or_default::<u64>(), 0);
    assert_eq!(format!("{state:?}"), "SessionState { values: 4 }");
    assert_eq!(state.remove::<u8>().as_deref(), Some(&2));
    assert_eq!(state.remove::<u8>(), None);
    assert_eq!(state.get::<u16>().as_deref(), Some(&1));
    // A handler sees the same.
    assert_eq!(ShopClient::new(&client).add("tea").await, Ok(1));
    let cart = state.get::<Cart>().unwrap();
    assert_eq!(*cart.0.lock().unwrap(), ["tea"]);
    // The other end of the session has a state of its own.
    assert_eq!(client.peer().state().insert(5_u16), None);
    assert_eq!(state.get::<u16>().as_deref(), Some(&1));
}

/// Counts those that are there, and uses what it is kept with: under a lock of the session that would
/// wait for ever.
struct Curious {
    peer: Peer,
    count: Arc<AtomicUsize>,
}

impl Curious {
    fn new(peer: &Peer, count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        peer.state().insert(count.load(Ordering::SeqCst));
        Curious {
            peer: peer.clone(),
            count: count.clone(),
        }
    }
}

impl Drop for Curious {
    fn drop(&mut self) {
        let _ = self.peer.in_flight();
        let _ = self.peer.state().get::<usize>();
        self.count.fetch_sub(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn values_are_made_and_dropped_without_a_lock() {
    let (client, peer) = entered().await;
    let count = Arc::new(AtomicUsize::new(0));
    let state = peer.state();
    let working = tokio::task::spawn_blocking({
        let (peer, count) = (peer.clone(), count.clone());
        move || {
            drop(state.get_or_insert_with(|| Curious::new(&peer, &count)));
            state.insert(Curious::new(&peer, &count));
            state.remove::<Curious>();
            assert_eq!(count.load(Ordering::SeqCst), 0);
            // The one that is made second is not kept, and dropped.
            let twice = state.get_or_insert_with(|| {
                let first = Curious::new(&peer, &count);
                state.insert(Curious::new(&peer, &count));
                first
            });
            drop(twice);
            assert_eq!(count.load(Ordering::SeqCst), 1);
        }
    });
    soon(working).await.unwrap();
    client.close().await;
    soon(peer.closed()).await;
    soon(async {
        while count.load(Ordering::SeqCst) > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // Nothing is kept any more.
    assert!(peer.state().insert(7_u8).is_none());
    assert_eq!(peer.state().get::<u8>(), None);
    let made = peer.state().get_or_insert_with(|| 8_u8);
    assert_eq!((*made, peer.state().get::<u8>()), (8, None));
}

#[tokio::test]
async fn a_value_that_panics_when_it_is_dropped_takes_no_other_with_it() {
    struct Broken<const N: usize>(mpsc::UnboundedSender<usize>);
    impl<const N: usize> Drop for Broken<N> {
        fn drop(&mut self) {
            let _ = self.0.send(N);
            panic!("dropped {N}");
        }
    }
    let (client, peer) = entered().await;
    let (dropped, mut drops) = mpsc::unbounded_channel();
    peer.state().insert(Broken::<1>(dropped.clone()));
    peer.state().insert(Broken::<2>(dropped));
    client.close().await;
    let both = [soon(drops.recv()).await, soon(drops.recv()).await];
    assert!(both == [Some(1), Some(2)] || both == [Some(2), Some(1)]);
}

/// What is kept is there for the last hook, and not any longer.
#[tokio::test]
async fn the_last_hook_still_finds_what_was_kept() {
    use wirecall::{CloseReason, SessionHooks, async_trait};

    struct Till(mpsc::UnboundedSender<usize>);
    #[async_trait]
    impl SessionHooks for Till {
        async fn ended(&self, session: &Peer, _reason: &CloseReason) {
            tokio::task::yield_now().await;
            let cart = session.state().get::<Cart>().unwrap();
            let _ = self.0.send(cart.0.lock().unwrap().len());
        }
    }
    let (paid, mut paying) = mpsc::unbounded_channel();
    let server = Server::builder()
        .service(ShopServer::new(Counter))
        .hooks(Till(paid));
    let (address, ..) = run(server).await;
    let client = dial(address, Codec::Json).connect().await.unwrap();
    assert_eq!(ShopClient::new(&client).add("tea").await, Ok(1));
    client.close().await;
    assert_eq!(soon(paying.recv()).await, Some(1));
}
