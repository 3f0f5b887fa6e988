//! Who is there: credentials, their end and their renewal, and what belongs to a user.

mod desk;
mod expiry;
mod resume;
mod scope;
mod upgrade;
mod waiting;

use std::time::Duration;

use futures::StreamExt as _;
use wirecall::{
    AuthError, BuildError, Client, CloseCode, Codec, ConnectError, Identity, Server, StaticTokens,
};

use crate::{
    raw_client::{Socket, closed, frames, open_with, send_text},
    support::{dial, soon, start},
};
use desk::{DeskClient, FromCloset, desk, request, tokens};

/// The code of the Close that a client was turned away with.
fn code(error: Result<Client, ConnectError>) -> CloseCode {
    match error {
        Err(ConnectError::Closed(reason)) => reason.code,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_handler_knows_who_calls() {
    let address = start(desk().authenticator(tokens())).await;
    for codec in Codec::ALL {
        let client = dial(address, codec).token("alice's").connect().await;
        let client = client.unwrap();
        let desk = DeskClient::new(&client);
        assert_eq!(desk.whoami().await, Ok(Some("alice".to_owned())));
        assert_eq!(desk.tenant().await, Ok(Some(7)));
        // A client does not ask who its server is.
        assert!(client.peer().identity().is_none());
    }
}

#[tokio::test]
async fn without_an_authenticator_there_is_no_identity_and_credentials_are_ignored() {
    let address = start(desk()).await;
    for codec in Codec::ALL {
        let client = dial(address, codec).token("alice's").connect().await;
        let desk = DeskClient::new(client.unwrap());
        assert_eq!(desk.whoami().await, Ok(None));
    }
}

#[tokio::test]
async fn without_a_valid_credential_nobody_comes_in() {
    let address = start(desk().authenticator(tokens())).await;
    for codec in Codec::ALL {
        for token in [None, Some(""), Some("alice"), Some("alice's ")] {
            let mut builder = dial(address, codec);
            if let Some(token) = token {
                builder = builder.token(token);
            }
            let refused = soon(builder.connect()).await;
            assert_eq!(code(refused), CloseCode::UNAUTHENTICATED, "{token:?}");
        }
    }
}

#[tokio::test]
async fn within_the_process_a_credential_is_asked_for_as_well() {
    let server = desk().authenticator(tokens()).build().unwrap();
    let endpoint = server.in_memory();
    tokio::spawn(server.run());
    let refused = soon(Client::connect(endpoint.clone())).await;
    assert_eq!(code(refused), CloseCode::UNAUTHENTICATED);
    let client = Client::builder(endpoint).token("bob's").connect().await;
    let desk = DeskClient::new(client.unwrap());
    assert_eq!(desk.whoami().await, Ok(Some("bob".to_owned())));
}

#[tokio::test]
async fn a_hook_sets_the_token_of_each_attempt() {
    let address = start(desk().authenticator(tokens())).await;
    let client = dial(address, Codec::MessagePack)
        .token("nobody's")
        .before_connect(|attempt| async { Ok(attempt.token("bob's")) })
        .connect()
        .await;
    let desk = DeskClient::new(client.unwrap());
    assert_eq!(desk.whoami().await, Ok(Some("bob".to_owned())));
}

#[tokio::test]
async fn a_credential_may_stand_in_the_upgrade_request() {
    let builder = desk()
        .authenticator(tokens())
        .cookie_auth("session")
        .allow_origin("https://app.example");
    let address = start(builder).await;
    let json = "wirecall.v1+json";
    // Base64 of "bob's".
    let bearer = format!("{json}, wirecall.bearer.Ym9iJ3M");
    for (headers, user) in [
        (
            vec![
                ("sec-websocket-protocol", json),
                ("authorization", "Bearer alice's"),
            ],
            "alice",
        ),
        (vec![("sec-websocket-protocol", &*bearer)], "bob"),
        (
            vec![
                ("sec-websocket-protocol", json),
                ("cookie", "a=b; session=bob's"),
            ],
            "bob",
        ),
        // The first of the list counts.
        (
            vec![
                ("sec-websocket-protocol", &*bearer),
                ("authorization", "Bearer alice's"),
            ],
            "alice",
        ),
    ] {
        let (mut socket, response) = open_with(address, &headers).await;
        let picked: Vec<_> = response.get_all("sec-websocket-protocol").iter().collect();
        assert_eq!(picked, [json]);
        send_text(&mut socket, "[[0,{}],[6,3,\"Desk.whoami\",[]]]").await;
        assert_eq!(answer(&mut socket, 3).await, user, "{headers:?}");
        // What is kept of the request has none of it.
        let printed = {
            send_text(&mut socket, "[6,3,\"Desk.connection\",[]]").await;
            answer(&mut socket, 3).await
        };
        for secret in ["alice's", "bob's", "Ym9iJ3M"] {
            assert!(!printed.contains(secret), "{printed}");
        }
        assert!(printed.contains(json), "{printed}");
    }
}

/// The result of a call, a string, whatever comes before it.
async fn answer(socket: &mut Socket, id: u64) -> String {
    loop {
        for frame in frames(socket).await {
            if frame[0] == 7 && frame[1] == id {
                return frame[2].as_str().unwrap().to_owned();
            }
            assert_ne!(frame[0], 8, "{frame}");
        }
    }
}

#[tokio::test]
async fn a_hello_with_a_credential_counts_before_the_request() {
    let address = start(desk().authenticator(tokens())).await;
    let headers = [
        ("sec-websocket-protocol", "wirecall.v1+json"),
        ("authorization", "Bearer alice's"),
    ];
    let (mut socket, _) = open_with(address, &headers).await;
    send_text(
        &mut socket,
        "[[0,{\"35\":\"bob's\"}],[6,3,\"Desk.whoami\",[]]]",
    )
    .await;
    assert_eq!(answer(&mut socket, 3).await, "bob");
    let (mut socket, _) = open_with(address, &headers).await;
    send_text(&mut socket, "[0,{\"35\":\"nobody's\"}]").await;
    assert_eq!(closed(&mut socket).await.0, 4100);
}

#[tokio::test]
async fn a_cookie_that_was_not_declared_lets_nobody_in() {
    let address = start(desk().authenticator(tokens())).await;
    let headers = [
        ("sec-websocket-protocol", "wirecall.v1+json"),
        ("cookie", "session=bob's"),
    ];
    let (mut socket, _) = open_with(address, &headers).await;
    send_text(&mut socket, "[0,{}]").await;
    assert_eq!(closed(&mut socket).await.0, 4100);
}

#[test]
fn cookies_need_an_authenticator_and_a_list_of_origins() {
    let built = Server::builder().cookie_auth("session").build();
    assert!(matches!(
        built,
        Err(BuildError::CookiesWithoutAuthenticator)
    ));
    let builder = || {
        Server::builder()
            .authenticator(tokens())
            .cookie_auth("session")
    };
    assert!(matches!(
        builder().build(),
        Err(BuildError::CookiesWithoutOrigins)
    ));
    assert!(
        builder()
            .allow_origin("https://app.example")
            .build()
            .is_ok()
    );
}

#[tokio::test]
async fn an_identity_of_nobody_or_of_the_past_is_none() {
    let past = std::time::SystemTime::now() - Duration::from_secs(1);
    let tokens = StaticTokens::new()
        .token("empty", Identity::new(""))
        .token("past", Identity::new("alice").with_expiry(past));
    let address = start(desk().authenticator(tokens)).await;
    for token in ["empty", "past"] {
        let refused = dial(address, Codec::Json).token(token).connect().await;
        assert_eq!(code(refused), CloseCode::UNAUTHENTICATED, "{token}");
    }
}

#[tokio::test]
async fn what_an_authenticator_cannot_say_is_asked_for_later() {
    for (how, expected) in [("unavailable", 1013), ("panic", 1013), ("refused", 4100)] {
        let closet = FromCloset::new(move |_| match how {
            "unavailable" => Err(AuthError::Unavailable),
            "panic" => panic!("on purpose"),
            _ => Err(AuthError::Refused("no more of this".into())),
        });
        let address = start(desk().authenticator(closet)).await;
        let refused = dial(address, Codec::Json).token("x").connect().await;
        let Err(ConnectError::Closed(reason)) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(reason.code.value(), expected, "{how}");
        assert_eq!(reason.message == "no more of this", how == "refused");
    }
}

#[tokio::test]
async fn a_client_without_another_credential_does_not_try_the_same_again() {
    let server = desk()
        .authenticator(tokens())
        .bind("127.0.0.1:0")
        .await
        .unwrap();
    let address = server.local_addr().unwrap();
    let handle = server.handle();
    tokio::spawn(server.run());
    let client = dial(address, Codec::MessagePack)
        .token("once")
        .connect()
        .await;
    let client = client.unwrap();
    assert_eq!(handle.end_sessions_of("dave"), 1);
    // Told to come back with another credential, and has only this one.
    let reason = soon(client.closed()).await;
    assert!(reason.message.contains("4100"), "{reason}");
}

/// Sends a HELLO of its own and gives back the socket behind WELCOME.
async fn welcomed(address: std::net::SocketAddr, hello: &str) -> (Socket, serde_json::Value) {
    let headers = [("sec-websocket-protocol", "wirecall.v1+json")];
    let (mut socket, _) = open_with(address, &headers).await;
    send_text(&mut socket, hello).await;
    let welcome = frames(&mut socket).await.remove(0);
    assert_eq!(welcome[0], 1);
    (socket, welcome)
}

#[tokio::test]
async fn an_auth_that_nobody_asks_for_is_not_allowed() {
    let address = start(desk()).await;
    let (mut socket, _) = welcomed(address, "[0,{}]").await;
    send_text(&mut socket, "[18,{\"35\":\"alice's\"}]").await;
    assert_eq!(closed(&mut socket).await.0, 4001);
}

#[tokio::test]
async fn a_new_credential_of_another_user_ends_the_connection() {
    let address = start(desk().authenticator(tokens())).await;
    let (mut socket, _) = welcomed(address, "[0,{\"35\":\"alice's\"}]").await;
    send_text(&mut socket, "[18,{\"35\":\"alice's too\"}]").await;
    loop {
        let frame = frames(&mut socket).await.remove(0);
        if frame[0] == 18 {
            assert_eq!(frame[1], serde_json::json!({}));
            break;
        }
    }
    send_text(&mut socket, &request(3, "whoami")).await;
    assert_eq!(answer(&mut socket, 3).await, "alice");
    send_text(&mut socket, "[18,{\"35\":\"bob's\"}]").await;
    let (code, reason) = closed(&mut socket).await;
    assert_eq!(code, 4100, "{reason}");
    assert!(soon(socket.next()).await.is_none_or(|last| last.is_err()));
}
