//! A session belongs to a user, and so do idempotency keys.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use wirecall::{AuthError, Backoff, CloseCode, Codec, Drain, Identity};

use super::{
    answer,
    desk::{DeskClient, FromCloset, desk, request, tokens},
    welcomed,
};
use crate::{
    raw_client::{closed, frames, open, open_with, send_text},
    relay::Relay,
    support::{dial, soon, start},
};

fn backoff() -> Backoff {
    Backoff {
        first: Duration::from_millis(10),
        max: Duration::from_millis(50),
        stable_after: Duration::from_secs(10),
    }
}

#[tokio::test]
async fn who_comes_back_is_asked_again_and_the_session_goes_on() {
    for codec in Codec::ALL {
        let closet = FromCloset::new(|_| Ok(Identity::new("alice")));
        let address = start(desk().authenticator(closet.clone())).await;
        let relay = Relay::start(address).await;
        let tokens = AtomicU32::new(0);
        let client = dial(relay.addr(), codec)
            .reconnect(backoff())
            .refresh_token(move || {
                let token = tokens.fetch_add(1, Ordering::Relaxed);
                async move { Ok(token.to_string()) }
            })
            .connect()
            .await
            .unwrap();
        let desk = DeskClient::new(&client);
        assert_eq!(desk.count().await, Ok(1));
        relay.cut();
        assert_eq!(soon(desk.count()).await, Ok(2));
        let asked = closet.asked();
        // An attempt while the cut was on its way may have got nowhere.
        assert_eq!(asked[0], "0", "{asked:?}");
        assert!(asked.len() > 1, "{asked:?}");
    }
}

/// W-RESUME-7: 4.
#[tokio::test]
async fn another_user_gets_a_session_of_their_own() {
    let address = start(desk().authenticator(tokens())).await;
    let (mut socket, welcome) = welcomed(address, "[0,{\"19\":65536,\"35\":\"alice's\"}]").await;
    send_text(&mut socket, &request(3, "whoami")).await;
    assert_eq!(answer(&mut socket, 3).await, "alice");
    let token = welcome[1]["21"].as_str().unwrap().to_owned();
    let hello = |credential: &str| {
        format!("[0,{{\"19\":65536,\"21\":\"{token}\",\"23\":1,\"25\":1,\"35\":\"{credential}\"}}]")
    };
    drop(socket);
    let (mut socket, welcome) = welcomed(address, &hello("bob's")).await;
    assert_eq!(welcome[1]["29"], 4, "{welcome}");
    send_text(&mut socket, &request(3, "whoami")).await;
    assert_eq!(answer(&mut socket, 3).await, "bob");
    // The session is still there for its own user, with another credential.
    let (mut socket, welcome) = welcomed(address, &hello("alice's too")).await;
    assert_eq!(welcome[1].get("29"), None, "{welcome}");
    assert_eq!(welcome[1]["23"], 1, "{welcome}");
    send_text(&mut socket, &request(3, "whoami")).await;
    assert_eq!(answer(&mut socket, 3).await, "alice");
}

/// W-DRAIN-4: not even one who has somebody else's session token.
#[tokio::test]
async fn while_a_server_drains_a_session_goes_on_for_its_own_user_alone() {
    let server = desk().authenticator(tokens()).bind("127.0.0.1:0").await;
    let server = server.unwrap();
    let (address, handle) = (server.local_addr().unwrap(), server.handle());
    tokio::spawn(server.run());
    let (socket, welcome) = welcomed(address, "[0,{\"19\":65536,\"35\":\"alice's\"}]").await;
    let token = welcome[1]["21"].as_str().unwrap().to_owned();
    drop(socket);
    let draining = tokio::spawn({
        let handle = handle.clone();
        async move { handle.drain(Drain::within(Duration::from_secs(60))).await }
    });
    soon(async {
        while handle.is_ready() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let offered = (
        "sec-websocket-protocol",
        "wirecall.v1+json, wirecall.resume",
    );
    let hello = |credential: &str| {
        format!("[0,{{\"19\":65536,\"21\":\"{token}\",\"23\":0,\"25\":0{credential}}}]")
    };
    for (header, credential, code) in [
        (None, ",\"35\":\"bob's\"", 1001),
        (Some("Bearer bob's"), "", 1001),
        // What is said in HELLO counts.
        (Some("Bearer alice's"), ",\"35\":\"bob's\"", 1001),
        (None, "", 4100),
        (None, ",\"35\":\"nobody's\"", 4100),
    ] {
        let header = header.map(|bearer| ("authorization", bearer));
        let headers: Vec<_> = header.into_iter().chain([offered]).collect();
        let (mut socket, _) = open_with(address, &headers).await;
        send_text(&mut socket, &hello(credential)).await;
        assert_eq!(
            closed(&mut socket).await.0,
            code,
            "{headers:?} {credential}"
        );
    }
    assert_eq!(handle.sessions(), 1);
    let (mut socket, _) = open_with(address, &[offered]).await;
    send_text(&mut socket, &hello(",\"35\":\"alice's too\"")).await;
    let welcome = frames(&mut socket).await.remove(0);
    assert_eq!((&welcome[0], welcome[1].get("29")), (&1.into(), None));
    handle.stop();
    assert_eq!(closed(&mut socket).await.0, 1001);
    soon(draining).await.unwrap();
}

#[tokio::test]
async fn nobody_goes_on_with_a_session_without_a_credential() {
    let address = start(desk().authenticator(tokens())).await;
    let (socket, welcome) = welcomed(address, "[0,{\"19\":65536,\"35\":\"alice's\"}]").await;
    let token = welcome[1]["21"].as_str().unwrap().to_owned();
    drop(socket);
    let mut socket = open(address, Codec::Json).await;
    let hello = format!("[0,{{\"19\":65536,\"21\":\"{token}\",\"23\":0,\"25\":0}}]");
    send_text(&mut socket, &hello).await;
    assert_eq!(closed(&mut socket).await.0, 4100);
}

#[tokio::test]
async fn nothing_may_follow_a_hello_that_asks_to_resume() {
    let address = start(desk().authenticator(tokens())).await;
    let (socket, welcome) = welcomed(address, "[0,{\"19\":65536,\"35\":\"alice's\"}]").await;
    let token = welcome[1]["21"].as_str().unwrap().to_owned();
    drop(socket);
    let mut socket = open(address, Codec::Json).await;
    let hello =
        format!("[0,{{\"19\":65536,\"21\":\"{token}\",\"23\":0,\"25\":0,\"35\":\"alice's\"}}]");
    send_text(&mut socket, &format!("[{hello},{}]", request(3, "count"))).await;
    assert_eq!(closed(&mut socket).await.0, 4001);
}

/// W-KEY-6.
#[tokio::test]
async fn an_idempotency_key_is_its_users_own() {
    let address = start(desk().authenticator(tokens())).await;
    for (codec, first) in Codec::ALL.into_iter().zip([1, 3]) {
        let count = async |token: &str| {
            let client = dial(address, codec).token(token).connect().await;
            let desk = DeskClient::new(client.unwrap());
            let key = format!("key-{first}");
            desk.count().idempotency_key(&key).await
        };
        assert_eq!(count("alice's").await, Ok(first));
        assert_eq!(count("bob's").await, Ok(first + 1));
        assert_eq!(count("alice's too").await, Ok(first));
        assert_eq!(count("bob's").await, Ok(first + 1));
    }
}

#[tokio::test]
async fn all_sessions_of_a_user_end_at_once_those_that_wait_included() {
    let server = desk().authenticator(tokens()).bind("127.0.0.1:0");
    let server = server.await.unwrap();
    let address = server.local_addr().unwrap();
    let handle = server.handle();
    tokio::spawn(server.run());
    let connect = async |token: &str, codec| {
        let builder = dial(address, codec).token(token).no_reconnect();
        builder.connect().await.unwrap()
    };
    let alice = connect("alice's", Codec::MessagePack).await;
    let bob = connect("bob's", Codec::Json).await;
    let (socket, welcome) = welcomed(address, "[0,{\"19\":65536,\"35\":\"alice's\"}]").await;
    drop(socket);
    assert_eq!(handle.end_sessions_of("alice"), 2);
    assert_eq!(handle.end_sessions_of("carol"), 0);
    let reason = soon(alice.closed()).await;
    assert_eq!(reason.code, CloseCode::SESSION_ENDED);
    // Whoever comes back begins anew.
    let token = welcome[1]["21"].as_str().unwrap();
    let hello =
        format!("[0,{{\"19\":65536,\"21\":\"{token}\",\"23\":0,\"25\":0,\"35\":\"alice's\"}}]");
    let (mut socket, welcome) = welcomed(address, &hello).await;
    assert_eq!(welcome[1]["29"], 1, "{welcome}");
    send_text(&mut socket, &request(3, "whoami")).await;
    assert_eq!(answer(&mut socket, 3).await, "alice");
    let desk = DeskClient::new(&bob);
    assert_eq!(desk.whoami().await, Ok(Some("bob".to_owned())));
}

#[tokio::test]
async fn a_server_that_sends_its_clients_elsewhere_does_not_decide_who_gets_their_tokens() {
    for codec in Codec::ALL {
        let closet = FromCloset::new(|_| Err(AuthError::refused()));
        let elsewhere = start(desk().authenticator(closet.clone())).await;
        let server = desk().authenticator(tokens()).bind("127.0.0.1:0");
        let server = server.await.unwrap();
        let address = server.local_addr().unwrap();
        let handle = server.handle();
        tokio::spawn(server.run());
        let client = dial(address, codec)
            .reconnect(backoff())
            .refresh_token(|| async { Ok("alice's".to_owned()) })
            .connect()
            .await
            .unwrap();
        // Another name, and so another host.
        let drain = Drain::within(Duration::from_secs(10))
            .spread(Duration::ZERO)
            .url(format!("ws://localhost:{}", elsewhere.port()));
        tokio::spawn(async move { handle.drain(drain).await });
        soon(async {
            while closet.asked().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        assert_eq!(closet.asked()[0], "");
        drop(client);
    }
}
