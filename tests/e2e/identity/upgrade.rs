//! Credentials that are looked at before the upgrade.

use std::{future::pending, time::Duration};

use wirecall::{
    AuthError, AuthRequest, Authenticator, BuildError, Codec, ConnectError, Credential, Identity,
    Limits, ProxyHeader, Server, async_trait,
};

use super::{
    answer,
    desk::{DeskClient, FromCloset, desk, request, tokens},
};
use crate::{
    negotiation::{ask, assert_answer},
    raw_client::{closed, frames, open_with, send_text},
    support::{dial, soon, start},
};

const JSON: (&str, &str) = ("sec-websocket-protocol", "wirecall.v1+json");

/// The lines of a request that has this one as well.
fn with(line: &str) -> String {
    format!("Host: localhost\r\n{line}")
}

#[tokio::test]
async fn a_credential_that_is_refused_is_answered_with_401() {
    let builder = desk()
        .authenticator(tokens())
        .cookie_auth("session")
        .allow_origin("https://app.example");
    let address = start(builder).await;
    // Base64 of "nobody's".
    let bearer = "Sec-WebSocket-Protocol: wirecall.bearer.bm9ib2R5J3M";
    for line in [
        "Authorization: Bearer nobody's",
        "Cookie: session=nobody's",
        bearer,
    ] {
        let answer = ask(address, &[("Host", &with(line))]).await;
        let parts = ["www-authenticate: bearer\r\n", "no valid credential"];
        assert_answer(&answer, 401, &parts);
    }
    for line in [
        "Authorization: Bearer alice's",
        "Cookie: session=bob's",
        "X: y",
    ] {
        let answer = ask(address, &[("Host", &with(line))]).await;
        assert_answer(&answer, 101, &[]);
    }
    // What is wrong in another way is not asked about.
    let line = with("Authorization: Bearer nobody's");
    let changes = [("GET", "GET /elsewhere HTTP/1.1"), ("Host", &*line)];
    assert_answer(&ask(address, &changes).await, 404, &[]);
}

#[tokio::test]
async fn a_client_knows_a_401_from_other_refusals() {
    let address = start(desk().authenticator(tokens())).await;
    for codec in Codec::ALL {
        let client = dial(address, codec).header("Authorization", "Bearer nobody's");
        let refused = soon(client.connect()).await.unwrap_err();
        assert!(refused.is_unauthenticated(), "{refused}");
        let ConnectError::Refused { status, body } = refused else {
            panic!("{refused}");
        };
        assert_eq!((status, &*body), (401, "no valid credential"));
        // In the first frame.
        let refused = dial(address, codec).token("nobody's").connect().await;
        assert!(refused.unwrap_err().is_unauthenticated());
    }
    let elsewhere = wirecall::Client::connect(format!("ws://{address}/elsewhere")).await;
    assert!(!elsewhere.unwrap_err().is_unauthenticated());
}

#[tokio::test]
async fn a_credential_in_the_request_is_asked_about_once() {
    let closet = FromCloset::new(|token| match token {
        "" => Err(AuthError::refused()),
        user => Ok(Identity::new(user)),
    });
    let address = start(desk().authenticator(closet.clone())).await;
    let headers = [JSON, ("authorization", "Bearer alice")];
    for (hello, user, asked) in [
        ("[0,{}]", "alice", vec!["alice"]),
        ("[0,{\"35\":\"bob\"}]", "bob", vec!["alice", "bob"]),
    ] {
        let before = closet.asked().len();
        let (mut socket, _) = open_with(address, &headers).await;
        send_text(&mut socket, hello).await;
        assert_eq!(frames(&mut socket).await[0][0], 1);
        send_text(&mut socket, &request(3, "whoami")).await;
        assert_eq!(answer(&mut socket, 3).await, user);
        assert_eq!(closet.asked()[before..], asked);
    }
}

#[tokio::test]
async fn an_identity_of_nobody_or_of_the_past_gets_a_401() {
    let past = std::time::SystemTime::now() - Duration::from_secs(1);
    let closet = FromCloset::new(move |token| match token {
        "nobody" => Ok(Identity::new("")),
        _ => Ok(Identity::new("alice").with_expiry(past)),
    });
    let address = start(desk().authenticator(closet)).await;
    for token in ["nobody", "past"] {
        let line = with(&format!("Authorization: Bearer {token}"));
        assert_answer(&ask(address, &[("Host", &line)]).await, 401, &[]);
    }
}

/// Does what it is told in the request.
struct Moody;

#[async_trait]
impl Authenticator for Moody {
    async fn authenticate(&self, request: &AuthRequest<'_>) -> Result<Identity, AuthError> {
        match request.credential {
            Some(Credential::Header("panic")) => panic!("on purpose"),
            Some(Credential::Header("never")) => pending().await,
            Some(Credential::Header(_)) => Err(AuthError::Unavailable),
            _ => Ok(Identity::new("alice")),
        }
    }
}

#[tokio::test]
async fn what_cannot_be_said_now_is_answered_with_503() {
    let limits = Limits::default().hello_timeout(Duration::from_millis(100));
    let address = start(desk().authenticator(Moody).limits(limits)).await;
    for token in ["panic", "never", "unavailable"] {
        let line = with(&format!("Authorization: Bearer {token}"));
        let answer = ask(address, &[("Host", &line)]).await;
        assert_answer(&answer, 503, &["cannot be authenticated now"]);
        let client = dial(address, Codec::Json).header("Authorization", &format!("Bearer {token}"));
        let refused = soon(client.connect()).await.unwrap_err();
        assert!(!refused.is_unauthenticated());
    }
    assert!(dial(address, Codec::Json).connect().await.is_ok());
}

#[tokio::test]
async fn a_handler_sees_whom_a_trusted_proxy_speaks_for() {
    let forwarded = "X-Forwarded-For";
    for (trusted, header, client, seen) in [
        (
            Some("127.0.0.0/8"),
            forwarded,
            "1.1.1.1, 203.0.113.7",
            "203.0.113.7",
        ),
        (Some("127.0.0.1"), forwarded, "garbage", "127.0.0.1"),
        (
            Some("127.0.0.1"),
            "Forwarded",
            "for=203.0.113.7",
            "127.0.0.1",
        ),
        (Some("192.0.2.1"), forwarded, "203.0.113.7", "127.0.0.1"),
        (None, forwarded, "203.0.113.7", "127.0.0.1"),
    ] {
        let address = start(desk().trusted_proxies(trusted)).await;
        let client = dial(address, Codec::Json).header(header, client);
        let client = client.connect().await.unwrap();
        let connection = DeskClient::new(&client).connection().await.unwrap();
        let seen = format!("client_addr: Some({seen})");
        assert!(connection.contains(&seen), "{connection}");
        assert!(
            connection.contains("peer_addr: Some(127.0.0.1:"),
            "{connection}"
        );
    }
    let builder = desk()
        .trusted_proxies(["127.0.0.1"])
        .proxy_header(ProxyHeader::Forwarded);
    let client = dial(start(builder).await, Codec::MessagePack)
        .header("Forwarded", "for=\"[2001:db8::7]:80\"")
        .header("X-Forwarded-For", "203.0.113.7");
    let client = client.connect().await.unwrap();
    let connection = DeskClient::new(&client).connection().await.unwrap();
    assert!(
        connection.contains("client_addr: Some(2001:db8::7)"),
        "{connection}"
    );

    let built = Server::builder()
        .trusted_proxies(["10.0.0.0/8", "proxy"])
        .build();
    assert!(matches!(built, Err(BuildError::TrustedProxy(proxy)) if proxy == "proxy"));
}

#[tokio::test]
async fn behind_a_trusted_proxy_each_client_counts_for_itself() {
    let builder = desk()
        .authenticator(tokens())
        .trusted_proxies(["127.0.0.1"])
        .max_unauthenticated(1);
    let address = start(builder).await;
    let from = |client: &'static str| [JSON, ("x-forwarded-for", client)];
    let (mut first, _) = open_with(address, &from("203.0.113.7")).await;
    let line = with("X-Forwarded-For: 203.0.113.7");
    let too_many = "too many connections of this address";
    assert_answer(&ask(address, &[("Host", &line)]).await, 429, &[too_many]);
    // One who writes something before what the proxy adds is the same.
    let line = with("X-Forwarded-For: 1.1.1.1, 203.0.113.7");
    assert_answer(&ask(address, &[("Host", &line)]).await, 429, &[too_many]);
    let (_another, _) = open_with(address, &from("203.0.113.8")).await;
    // The proxy itself is nobody's.
    let (_proxy, _) = open_with(address, &[JSON]).await;
    let (_proxy, _) = open_with(address, &[JSON]).await;
    // Who has come in does not count.
    send_text(&mut first, "[0,{\"35\":\"alice's\"}]").await;
    assert_eq!(frames(&mut first).await[0][0], 1);
    let (mut second, _) = open_with(address, &from("203.0.113.7")).await;
    // Nor who was turned away.
    send_text(&mut second, "[0,{\"35\":\"nobody's\"}]").await;
    assert_eq!(closed(&mut second).await.0, 4100);
    drop(second);
    soon(async {
        let line = with("X-Forwarded-For: 203.0.113.7");
        while !ask(address, &[("Host", &line)])
            .await
            .starts_with("HTTP/1.1 101")
        {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
