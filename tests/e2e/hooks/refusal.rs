//! Sessions that are not let in.

use std::{sync::Arc, time::Duration};

use futures::StreamExt as _;
use wirecall::{
    CloseCode, Code, Codec, ConnectError, Fate, Hub, Identity, Limits, Peer, StaticTokens, Status,
};

use super::{Before, Hooks, run, shop};
use crate::{
    raw_client::{closed, frames, open, send_text},
    support::{dial, soon},
};

#[tokio::test]
async fn a_client_finds_the_status_that_it_was_refused_with() {
    for (code, close) in [
        (Code::PERMISSION_DENIED, 4057),
        (Code::FAILED_PRECONDITION, 4059),
        (Code::UNAUTHENTICATED, 4166),
        (Code::RESOURCE_EXHAUSTED, 4358),
        (Code::UNAVAILABLE, 4364),
        (Code::new(64), 4052),
    ] {
        for codec in Codec::ALL {
            let (hooks, mut log) = Hooks::new();
            let hooks = hooks.connected(move |_| Err(Status::new(code, "not today")));
            let (address, ..) = run(shop(hooks)).await;
            let refused = soon(dial(address, codec).connect()).await.unwrap_err();
            let ConnectError::Closed(reason) = refused else {
                panic!("{refused}");
            };
            assert_eq!(reason.code, CloseCode::new(close));
            let status = reason.refusal().unwrap();
            let expected = if code.is_application() {
                Code::UNKNOWN
            } else {
                code
            };
            assert_eq!((status.code(), status.message()), (expected, "not today"));
            assert_eq!(status.fate(), Fate::NotExecuted);
            log.says("connected").await;
            log.says(&format!("ended {close}")).await;
        }
    }
}

/// Neither in the hub nor in presence is anything seen of it, and nothing is executed.
#[tokio::test]
async fn nobody_notices_a_session_that_was_refused() {
    let hub = Hub::new();
    let (hooks, mut log) = Hooks::new();
    let joining = hub.clone();
    let kept = Arc::new(());
    let keeping = kept.clone();
    let hooks = hooks.connected(move |session: &Peer| {
        let identity = session.identity().unwrap();
        joining.join(session, "guests")?;
        session.state().insert(keeping.clone());
        match identity.user() {
            "alice" => Ok(()),
            _ => Err(Status::new(Code::PERMISSION_DENIED, "not you")),
        }
    });
    let tokens = StaticTokens::new()
        .token("a", Identity::new("alice"))
        .token("b", Identity::new("bob"));
    let (address, ..) = run(shop(hooks).authenticator(tokens).hub(&hub)).await;
    let mut presence = hub.presence();
    let mut socket = open(address, Codec::Json).await;
    let hello = r#"[[0,{"35":"b"}],[6,3,"Shop.add",["tea"]]]"#;
    send_text(&mut socket, hello).await;
    assert_eq!(closed(&mut socket).await, (4057, "not you".to_owned()));
    log.says("connected").await;
    log.says("ended 4057").await;
    assert_eq!(hub.sessions(), 0);
    assert_eq!(
        format!("{hub:?}"),
        "Hub { sessions: 0, users: 0, groups: 0 }"
    );
    // What was kept with it has gone.
    soon(async {
        while Arc::strong_count(&kept) > 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let client = dial(address, Codec::Json).token("a").connect().await;
    assert_eq!(
        &*soon(presence.next()).await.unwrap().unwrap().user,
        "alice"
    );
    drop(client);
}

/// W-RESUME-7: another session would begin on the same connection.
#[tokio::test]
async fn a_session_in_place_of_one_that_does_not_go_on_is_asked_about() {
    let hello = format!(
        r#"[0,{{"19":65536,"21":"{}","23":0,"25":0}}]"#,
        "A".repeat(32)
    );
    let (hooks, mut log) = Hooks::new();
    let (address, ..) = run(shop(hooks)).await;
    let mut socket = open(address, Codec::Json).await;
    send_text(&mut socket, &hello).await;
    let welcome = frames(&mut socket).await;
    assert_eq!(welcome[0][1]["29"], 1, "{welcome:?}");
    log.says("connected").await;

    let (hooks, mut log) = Hooks::new();
    let hooks = hooks.connected(|_| Err(Status::new(Code::UNAVAILABLE, "full")));
    let (address, ..) = run(shop(hooks)).await;
    let mut socket = open(address, Codec::Json).await;
    send_text(&mut socket, &hello).await;
    assert_eq!(closed(&mut socket).await, (4364, "full".to_owned()));
    log.says("connected").await;
    log.says("ended 4364").await;
}

/// W-RESUME-6.
#[tokio::test]
async fn nothing_follows_a_hello_with_a_token_while_the_hook_is_asked() {
    let hello = format!(
        r#"[0,{{"19":65536,"21":"{}","23":0,"25":0}}]"#,
        "A".repeat(32)
    );
    let permits = Arc::new(tokio::sync::Semaphore::new(0));
    let (hooks, mut log) = Hooks::new();
    let hooks = hooks.before("connected", Before::Wait(permits.clone()));
    let (address, ..) = run(shop(hooks)).await;
    let mut socket = open(address, Codec::Json).await;
    send_text(&mut socket, &hello).await;
    log.says("connected").await;
    send_text(&mut socket, r#"[6,3,"Shop.add",["tea"]]"#).await;
    // A Ping that is answered shows that it was read.
    futures::SinkExt::send(
        &mut socket,
        tokio_tungstenite::tungstenite::Message::Ping("x".into()),
    )
    .await
    .unwrap();
    let pong = soon(socket.next()).await.unwrap().unwrap();
    assert!(pong.is_pong(), "{pong}");
    permits.add_permits(1);
    assert_eq!(closed(&mut socket).await.0, 4001);
    log.says("connected has ended").await;
    log.says("ended 4001").await;
}

#[tokio::test]
async fn a_hook_that_does_not_end_in_time_refuses() {
    let (hooks, mut log) = Hooks::new();
    let hooks = hooks.before("connected", Before::Never);
    let limits = Limits::default().hello_timeout(Duration::from_millis(100));
    let (address, ..) = run(shop(hooks).limits(limits)).await;
    let refused = soon(dial(address, Codec::MessagePack).connect()).await;
    let Err(ConnectError::Closed(reason)) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(reason.refusal().unwrap().code(), Code::UNAVAILABLE);
    log.says("connected").await;
    log.says("connected was dropped").await;
    log.says("ended 4364").await;
}

#[tokio::test]
async fn a_hook_is_dropped_when_the_client_has_gone() {
    let (hooks, mut log) = Hooks::new();
    let (address, ..) = run(shop(hooks.before("connected", Before::Never))).await;
    let mut socket = open(address, Codec::Json).await;
    send_text(&mut socket, "[0,{}]").await;
    log.says("connected").await;
    drop(socket);
    log.says("connected was dropped").await;
    log.says("ended 1006").await;
}

/// A hook may not have been asked at all.
#[tokio::test]
async fn no_end_is_told_of_a_connection_without_a_session() {
    let (hooks, mut log) = Hooks::new();
    let (address, handle, running) = run(shop(hooks)).await;
    let mut socket = open(address, Codec::Json).await;
    send_text(&mut socket, "[5,1000,0]").await;
    assert_eq!(closed(&mut socket).await.0, 4001);
    drop(socket);
    handle.stop();
    soon(running).await.unwrap();
    log.says_nothing();
}
