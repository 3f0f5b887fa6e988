//! Several services on one connection, their names, and what an implementation may look like.

use std::{collections::HashMap, sync::Mutex};

use serde::{Serialize, de::DeserializeOwned};
use wirecall::{BuildError, Codec, Server};

use crate::support::{connect, dial, start};

#[wirecall::service]
trait Store<T> {
    async fn put(&self, key: &str, value: T) -> Option<T>;
    async fn get(&self, key: &str) -> Option<T>;
}

struct Map<T>(Mutex<HashMap<String, T>>);

impl<T> Default for Map<T> {
    fn default() -> Self {
        Map(Mutex::default())
    }
}

impl<T> Store<T> for Map<T>
where
    T: Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    async fn put(&self, key: &str, value: T) -> Option<T> {
        self.0.lock().unwrap().insert(key.to_owned(), value)
    }

    async fn get(&self, key: &str) -> Option<T> {
        self.0.lock().unwrap().get(key).cloned()
    }
}

#[tokio::test]
async fn two_stores_of_different_types_live_side_by_side() {
    let server = Server::builder()
        .service(StoreServer::<_, i64>::new(Map::default()).named("Numbers"))
        .service(StoreServer::<_, Vec<String>>::new(Map::default()).named("Words"));
    let address = start(server).await;
    for codec in Codec::ALL {
        let client = connect(address, codec).await;
        let numbers = StoreClient::<i64>::named(&client, "Numbers");
        let words = StoreClient::<Vec<String>>::named(&client, "Words");
        let key = codec.subprotocol();
        assert_eq!(numbers.put(key, i64::MIN).await.unwrap(), None);
        words.put(key, vec!["a".to_owned()]).await.unwrap();
        assert_eq!(numbers.get(key).await.unwrap(), Some(i64::MIN));
        assert_eq!(words.get(key).await.unwrap(), Some(vec!["a".to_owned()]));
    }
}

#[tokio::test]
async fn two_services_of_one_name_fail_bind_and_connect() {
    let server = Server::builder()
        .service(StoreServer::<_, i64>::new(Map::default()))
        .service(StoreServer::<_, String>::new(Map::default()));
    let error = server.bind("127.0.0.1:0").await.unwrap_err();
    assert!(matches!(error, BuildError::DuplicateService(_)));
    assert!(error.to_string().contains("\"Store\""), "{error}");

    let address = start(Server::builder()).await;
    let builder = dial(address, Codec::MessagePack)
        .serve(StoreServer::<_, i64>::new(Map::default()))
        .serve(StoreServer::<_, i64>::new(Map::default()));
    let error = builder.connect().await.unwrap_err();
    assert!(error.to_string().contains("\"Store\""), "{error}");
}

/// Version 2 of a trait, of which version 1 had no `greeting`.
#[wirecall::service(name = "Greeter")]
trait NewGreeter {
    async fn greet(&self, name: &str, greeting: Option<String>) -> String;
}

#[wirecall::service(name = "Greeter")]
trait OldGreeter {
    async fn greet(&self, name: &str) -> String;
}

struct Greeter;

impl NewGreeter for Greeter {
    async fn greet(&self, name: &str, greeting: Option<String>) -> String {
        format!("{}, {name}", greeting.as_deref().unwrap_or("Hello"))
    }
}

impl OldGreeter for Greeter {
    async fn greet(&self, name: &str) -> String {
        format!("Hi, {name}")
    }
}

#[tokio::test]
async fn both_sides_of_a_new_trailing_argument_are_deployed_independently() {
    let new = start(Server::builder().service(NewGreeterServer::new(Greeter))).await;
    let old = start(Server::builder().service(OldGreeterServer::new(Greeter))).await;
    for codec in Codec::ALL {
        let client = connect(new, codec).await;
        let greeter = OldGreeterClient::new(&client);
        assert_eq!(greeter.greet("Ada").await.unwrap(), "Hello, Ada");

        let client = connect(old, codec).await;
        let greeter = NewGreeterClient::new(&client);
        let greeting = Some("Good day".to_owned());
        assert_eq!(greeter.greet("Ada", greeting).await.unwrap(), "Hi, Ada");
    }
}

#[tokio::test]
async fn a_server_listens_at_several_addresses() {
    let server = Server::builder()
        .service(OldGreeterServer::new(Greeter))
        .bind("127.0.0.1:0")
        .await
        .unwrap()
        .and_bind("127.0.0.1:0")
        .await
        .unwrap();
    let addresses = server.local_addrs().unwrap();
    assert_eq!(addresses.len(), 2);
    tokio::spawn(server.run());
    for address in addresses {
        let client = connect(address, Codec::MessagePack).await;
        let greeter = OldGreeterClient::new(&client);
        assert_eq!(greeter.greet("Ada").await.unwrap(), "Hi, Ada");
    }
}
