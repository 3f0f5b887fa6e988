//! What happens while it is found out who somebody is.

use std::{sync::Arc, time::Duration};

use futures::SinkExt as _;
use tokio::sync::Notify;
use tokio_tungstenite::tungstenite::Message;
use wirecall::{AuthError, AuthRequest, Authenticator, Codec, Identity, Limits, async_trait};

use super::{
    answer,
    desk::{DeskClient, desk},
};
use crate::{
    raw_client::{closed, frames, open, send_text},
    support::{dial, soon, start},
};

/// Lets "slow" in once it is told to, and everybody else at once.
#[derive(Clone, Default)]
struct Slow(Arc<Notify>);

#[async_trait]
impl Authenticator for Slow {
    async fn authenticate(&self, request: &AuthRequest<'_>) -> Result<Identity, AuthError> {
        let token = request.token().ok_or_else(AuthError::refused)?;
        if token == "slow" {
            self.0.notified().await;
        }
        Ok(Identity::new(token))
    }
}

#[tokio::test]
async fn what_follows_hello_waits_and_is_executed_then() {
    for codec in Codec::ALL {
        let slow = Slow::default();
        let address = start(desk().authenticator(slow.clone())).await;
        // Others are not held up.
        let client = dial(address, codec).token("quick").connect();
        let quick = soon(client).await.unwrap();
        let mut socket = open(address, Codec::Json).await;
        // In the same message, and in another.
        send_text(
            &mut socket,
            "[[0,{\"35\":\"slow\"}],[6,3,\"Desk.whoami\",[]]]",
        )
        .await;
        send_text(&mut socket, "[6,5,\"Desk.count\",[]]").await;
        for expected in 1..=20 {
            let desk = DeskClient::new(&quick);
            assert_eq!(desk.count().await, Ok(expected));
        }
        slow.0.notify_one();
        assert_eq!(frames(&mut socket).await[0][0], 1);
        assert_eq!(answer(&mut socket, 3).await, "slow");
        loop {
            let frame = frames(&mut socket).await.remove(0);
            if frame[0] == 7 {
                assert_eq!(frame, serde_json::json!([7, 5, 21]));
                break;
            }
        }
    }
}

#[tokio::test]
async fn what_follows_hello_is_not_executed_for_those_who_do_not_come_in() {
    let address = start(desk().authenticator(Slow::default())).await;
    let mut socket = open(address, Codec::Json).await;
    send_text(&mut socket, "[[0,{}],[6,3,\"Desk.count\",[]]]").await;
    assert_eq!(closed(&mut socket).await.0, 4100);
    let client = dial(address, Codec::Json).token("quick").connect().await;
    let desk = DeskClient::new(client.unwrap());
    assert_eq!(desk.count().await, Ok(1));
}

#[tokio::test]
async fn before_it_is_known_who_somebody_is_little_may_come() {
    let address = start(desk().authenticator(Slow::default())).await;
    let line = |bytes: usize| format!("[6,3,\"Desk.count\",[\"{}\"]]", "x".repeat(bytes));
    let hello = "[0,{\"35\":\"slow\"}]";
    // Behind HELLO in one message, in several, and before HELLO.
    for messages in [
        vec![hello.to_owned(), line(17 << 10)],
        [vec![hello.to_owned()], vec![line(1 << 10); 17]].concat(),
        vec![format!("[0,{{\"35\":\"{}\"}}]", "x".repeat(17 << 10))],
    ] {
        let mut socket = open(address, Codec::Json).await;
        for message in messages {
            let _ = socket.send(Message::text(message)).await;
        }
        let (code, reason) = closed(&mut socket).await;
        assert_eq!(code, 4003, "{reason}");
    }
}

#[tokio::test]
async fn an_authenticator_has_as_long_as_a_hello() {
    let limits = Limits::default().hello_timeout(Duration::from_millis(100));
    let address = start(desk().limits(limits).authenticator(Slow::default())).await;
    let mut socket = open(address, Codec::Json).await;
    send_text(&mut socket, "[0,{\"35\":\"slow\"}]").await;
    // The server's own fault: the client may come back.
    assert_eq!(closed(&mut socket).await.0, 1013);
    let mut socket = open(address, Codec::Json).await;
    assert_eq!(closed(&mut socket).await.0, 4002);
}

#[tokio::test]
async fn nothing_is_left_of_those_who_go_away_meanwhile() {
    let server = desk().authenticator(Slow::default()).bind("127.0.0.1:0");
    let server = server.await.unwrap();
    let address = server.local_addr().unwrap();
    let handle = server.handle();
    tokio::spawn(server.run());
    let mut socket = open(address, Codec::Json).await;
    send_text(
        &mut socket,
        "[[0,{\"35\":\"slow\"}],[6,3,\"Desk.count\",[]]]",
    )
    .await;
    let has = async |sessions| {
        soon(async {
            while handle.sessions() != sessions {
                tokio::task::yield_now().await;
            }
        })
        .await;
    };
    has(1).await;
    drop(socket);
    has(0).await;
    // And of those whose server goes.
    let mut socket = open(address, Codec::Json).await;
    send_text(&mut socket, "[0,{\"35\":\"slow\"}]").await;
    has(1).await;
    handle.stop();
    assert_eq!(closed(&mut socket).await.0, 1001);
}
