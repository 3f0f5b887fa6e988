//! Methods that ask for what their callers have to be allowed to do.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use futures::{Stream, StreamExt as _, stream};
use wirecall::{
    CallError, Client, Code, Codec, Fate, Identity, Server, ServerBuilder, StaticTokens, Streaming,
};

use super::welcomed;
use crate::{
    raw_client::{frames, send_text},
    support::{dial, idle, start},
};

#[wirecall::service]
trait Vault {
    async fn look(&self) -> u32;
    #[rpc(scope = "vault.open")]
    async fn open(&self) -> u32;
    #[rpc(scope = "vault.open")]
    async fn list(&self) -> impl Stream<Item = u32>;
    #[rpc(scope = "vault.open", spawn)]
    async fn fill(&self, values: Streaming<u32>) -> u32;
    #[rpc(scope = "vault.open")]
    #[notify]
    async fn shut(&self);
}

/// Counts what was executed.
#[derive(Default)]
struct Steel(AtomicU32);

impl Vault for Steel {
    async fn look(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    async fn open(&self) -> u32 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }

    async fn list(&self) -> impl Stream<Item = u32> {
        stream::iter([self.open().await])
    }

    async fn fill(&self, values: Streaming<u32>) -> u32 {
        let values = values.count().await as u32;
        self.0.fetch_add(values, Ordering::Relaxed) + values
    }

    async fn shut(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn vault() -> ServerBuilder {
    Server::builder().service(VaultServer::new(Steel::default()))
}

fn guarded() -> ServerBuilder {
    let alice = Identity::new("alice");
    let tokens = StaticTokens::new()
        .token(
            "visitor",
            alice.clone().with_scopes(["vault", "vault.opens"]),
        )
        .token("owner", alice.with_scopes(["vault.open"]));
    vault().authenticator(tokens)
}

/// Calls everything that asks for a scope, and says how each failed; what was executed must be
/// nothing.
async fn refusals(client: &Client) -> Vec<(Code, Fate)> {
    let vault = VaultClient::new(client);
    let before = vault.look().await.unwrap();
    let mut failed = Vec::new();
    let keyed = vault.open().idempotency_key("once");
    failed.push(vault.open().await.map(drop));
    failed.push(keyed.await.map(drop));
    failed.push(vault.list().await.map(drop));
    failed.push(vault.fill(stream::iter([1, 2])).await.map(drop));
    vault.shut().await.unwrap();
    idle(client).await;
    assert_eq!(vault.look().await, Ok(before));
    let codes = failed.into_iter().map(|result| match result {
        Err(CallError::Status(status)) => (status.code(), status.fate()),
        other => panic!("{other:?}"),
    });
    codes.collect()
}

#[tokio::test]
async fn who_is_not_allowed_is_refused_and_nothing_is_executed() {
    let address = start(guarded()).await;
    for codec in Codec::ALL {
        let client = dial(address, codec)
            .token("visitor")
            .connect()
            .await
            .unwrap();
        let expected = [(Code::PERMISSION_DENIED, Fate::NotExecuted); 4];
        assert_eq!(refusals(&client).await, expected);
    }
}

#[tokio::test]
async fn where_nobody_is_asked_nobody_is_allowed() {
    let address = start(vault()).await;
    for codec in Codec::ALL {
        let client = dial(address, codec).connect().await.unwrap();
        let expected = [(Code::UNAUTHENTICATED, Fate::NotExecuted); 4];
        assert_eq!(refusals(&client).await, expected);
    }
}

#[tokio::test]
async fn who_is_allowed_notices_nothing() {
    for codec in Codec::ALL {
        let address = start(guarded()).await;
        let client = dial(address, codec).token("owner").connect().await.unwrap();
        let vault = VaultClient::new(&client);
        assert_eq!(vault.open().await, Ok(1));
        let listed: Vec<_> = vault.list().await.unwrap().collect().await;
        assert_eq!(listed, [Ok(2)]);
        assert_eq!(vault.fill(stream::iter([1, 2])).await, Ok(4));
        vault.shut().await.unwrap();
        while vault.look().await.unwrap() < 5 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// W-AUTH-8.
#[tokio::test]
async fn a_new_credential_changes_what_may_be_done() {
    let address = start(guarded()).await;
    let (mut socket, _) = welcomed(address, "[0,{\"35\":\"visitor\"}]").await;
    let refused = async |socket: &mut _| {
        send_text(socket, "[6,3,\"Vault.open\",[]]").await;
        loop {
            let frame = frames(socket).await.remove(0);
            match frame[0].as_u64() {
                Some(8) => return frame[2] == 7,
                Some(7) => return false,
                _ => {}
            }
        }
    };
    let renew = async |socket: &mut _, token| {
        send_text(socket, &format!("[18,{{\"35\":\"{token}\"}}]")).await;
        while frames(socket).await[0][0] != 18 {}
    };
    assert!(refused(&mut socket).await);
    renew(&mut socket, "owner").await;
    assert!(!refused(&mut socket).await);
    renew(&mut socket, "visitor").await;
    assert!(refused(&mut socket).await);
}
