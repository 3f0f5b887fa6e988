//! Traits with parameters.

#![deny(warnings, missing_docs)]

use std::{collections::BTreeMap, fmt::Debug, hash::Hash};

use wirecall::{Peer, Status};

/// A store of values.
#[wirecall::service]
pub trait Store<T> {
    /// The value under a key.
    async fn get(&self, key: &str) -> Option<T>;
    /// Puts values under a key.
    async fn put(&self, key: &str, value: T, more: &[T], last: &T) -> Result<(), Status>;
    /// A value was put.
    #[notify]
    async fn changed(&self, key: &str, value: &T);
}

/// A map, with all kinds of bounds.
#[wirecall::service]
pub trait Map<K: Ord + Clone + Send, V = String, const N: usize = 2>: Debug
where
    V: Hash + Debug + Send,
    Vec<V>: Clone,
    Self: Sized,
{
    /// What is in it.
    async fn all(&self) -> BTreeMap<K, V>;
    /// The same again.
    async fn twice(&self, key: K) -> (Option<V>, Option<V>) {
        let value = self.all().await.remove(&key);
        let again = self.all().await.remove(&key);
        (value, again)
    }
    /// Its size.
    #[notify]
    async fn grown(&self) {
        let _ = N;
    }
}

/// `S` is also what a server calls its implementation.
#[wirecall::service]
pub trait Named<S, I, E, A> {
    /// Takes all of them.
    async fn take(&self, s: S, i: &I, e: &[E], a: Vec<A>) -> (S, I);
    /// Tells all of them.
    #[notify]
    async fn tell(&self, s: S, i: &I, e: &[E], a: Vec<A>);
}

/// Only a const.
#[wirecall::service]
pub trait Fixed<const N: usize> {
    /// The block at an index.
    async fn block(&self, index: u64) -> [[u8; 4]; 2] {
        let _ = index;
        [[N as u8; 4]; 2]
    }
}

#[derive(Debug)]
struct Memory;

impl Store<String> for Memory {
    async fn get(&self, key: &str) -> Option<String> {
        Some(key.to_owned())
    }
    async fn put(&self, _: &str, _: String, _: &[String], _: &String) -> Result<(), Status> {
        Ok(())
    }
    async fn changed(&self, _: &str, _: &String) {}
}

impl Store<u64> for Memory {
    async fn get(&self, key: &str) -> Option<u64> {
        key.parse().ok()
    }
    async fn put(&self, _: &str, _: u64, _: &[u64], _: &u64) -> Result<(), Status> {
        Ok(())
    }
    async fn changed(&self, _: &str, _: &u64) {}
}

impl Map<u64> for Memory {
    async fn all(&self) -> BTreeMap<u64, String> {
        BTreeMap::new()
    }
}

impl Fixed<3> for Memory {}

/// Generic over the implementation and over the value.
fn serve<T, S: Store<T>>(store: S) -> StoreServer<S, T>
where
    T: serde::Serialize + serde::de::DeserializeOwned + Send + Sync + 'static,
{
    StoreServer::new(store).named("other")
}

fn calls(peer: &Peer) {
    let strings = StoreClient::<String>::new(peer);
    drop(strings.put("key", String::new(), &[], &String::new()));
    let numbers: StoreClient<u64> = StoreClient::named(peer, "numbers");
    drop(numbers.clone().get("key"));
    let notifier = StoreNotifier::<u64>::to([peer]).named("numbers");
    drop(notifier.changed("key", &1));
    drop(MapClient::<u64>::new(peer).twice(1));
    drop(NamedClient::<u8, u8, u8, u8>::new(peer).take(1, &2, &[3], vec![4]));
}

fn main() {
    let _ = serve::<String, _>(Memory).clone();
    let _ = StoreServer::<_, u64>::new(Memory);
    let _ = MapServer::<_, u64>::new(Memory);
    let _ = FixedServer::<_, 3>::new(Memory);
    let _ = calls;
}
