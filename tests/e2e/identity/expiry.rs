//! Credentials that run out, and new ones over the open connection.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant, SystemTime},
};

use tokio::time::sleep;
use wirecall::{AuthError, Backoff, ClientState, CloseCode, Codec, Identity};

use super::{
    answer,
    desk::{DeskClient, FromCloset, desk, request},
    welcomed,
};
use crate::{
    raw_client::{closed, frames, send_text},
    support::{dial, soon, start},
};

/// Tokens that are good for so long.
fn good_for(time: Duration) -> FromCloset {
    FromCloset::new(move |_| Ok(Identity::new("alice").with_expiry(SystemTime::now() + time)))
}

/// Tokens with numbers.
fn numbered() -> impl Fn() -> String + Send + Sync + 'static {
    let given = AtomicU32::new(0);
    move || given.fetch_add(1, Ordering::Relaxed).to_string()
}

#[tokio::test]
async fn a_client_renews_its_credential_and_calls_go_on() {
    for codec in Codec::ALL {
        let closet = good_for(Duration::from_secs(1));
        let address = start(desk().authenticator(closet.clone())).await;
        let next = numbered();
        let client = dial(address, codec)
            .no_reconnect()
            .refresh_token(move || {
                let token = next();
                async move { Ok(token) }
            })
            .connect()
            .await
            .unwrap();
        let desk = DeskClient::new(&client);
        let begin = Instant::now();
        let mut count = 0;
        while begin.elapsed() < Duration::from_secs(3) {
            count += 1;
            assert_eq!(desk.count().await, Ok(count));
            sleep(Duration::from_millis(10)).await;
        }
        let asked = closet.asked();
        let expected: Vec<_> = (0..asked.len()).map(|token| token.to_string()).collect();
        assert_eq!(asked, expected);
        // Renewed when three to four fifths of the time were over, and not all the time.
        assert!((4..=8).contains(&asked.len()), "{asked:?}");
    }
}

#[tokio::test]
async fn a_credential_that_runs_out_ends_the_connection() {
    let address = start(desk().authenticator(good_for(Duration::from_millis(200)))).await;
    for codec in Codec::ALL {
        let client = dial(address, codec)
            .token("x")
            .no_reconnect()
            .connect()
            .await;
        let reason = soon(client.unwrap().closed()).await;
        assert_eq!(reason.code, CloseCode::CREDENTIAL_EXPIRED);
    }
}

#[tokio::test]
async fn a_client_that_has_missed_it_comes_back_with_a_fresh_token() {
    let closet = good_for(Duration::from_millis(200));
    let address = start(desk().authenticator(closet.clone())).await;
    let next = numbered();
    let client = dial(address, Codec::MessagePack)
        .reconnect(Backoff {
            first: Duration::from_millis(10),
            ..Backoff::default()
        })
        .before_connect(move |attempt| {
            let token = next();
            async move { Ok(attempt.token(token)) }
        })
        .connect()
        .await
        .unwrap();
    let desk = DeskClient::new(&client);
    soon(async {
        while closet.asked().len() < 3 {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert_eq!(soon(desk.whoami()).await, Ok(Some("alice".to_owned())));
    assert_eq!(closet.asked()[..3], ["0", "1", "2"]);
    assert_ne!(client.state(), ClientState::Suspended);
}

/// W-AUTH-4.
#[tokio::test]
async fn welcome_says_for_how_long_a_credential_is_good_and_auth_says_it_anew() {
    let closet = FromCloset::new(|token| {
        let time = Duration::from_secs(token.parse().map_err(|_| AuthError::Unavailable)?);
        Ok(Identity::new("alice").with_expiry(SystemTime::now() + time))
    });
    let address = start(desk().authenticator(closet)).await;
    let (mut socket, welcome) = welcomed(address, "[0,{\"35\":\"60\"}]").await;
    let is_about = |milliseconds: &serde_json::Value, seconds: u64| {
        let milliseconds = milliseconds.as_u64().unwrap();
        assert!(milliseconds <= seconds * 1000 && milliseconds + 5000 > seconds * 1000);
    };
    is_about(&welcome[1]["37"], 60);
    // Also when nothing can be said now: then it is as it was.
    for (token, seconds) in [("100", 100), ("x", 100)] {
        send_text(&mut socket, &format!("[18,{{\"35\":\"{token}\"}}]")).await;
        loop {
            let frame = frames(&mut socket).await.remove(0);
            if frame[0] == 18 {
                is_about(&frame[1]["37"], seconds);
                break;
            }
        }
    }
    send_text(&mut socket, &request(3, "whoami")).await;
    assert_eq!(answer(&mut socket, 3).await, "alice");
    // One at a time.
    send_text(&mut socket, "[[18,{\"35\":\"1\"}],[18,{\"35\":\"2\"}]]").await;
    assert_eq!(closed(&mut socket).await.0, 4001);
}

#[tokio::test]
async fn a_token_that_cannot_be_had_at_once_is_asked_for_again() {
    let closet = good_for(Duration::from_millis(2500));
    let address = start(desk().authenticator(closet.clone())).await;
    let next = numbered();
    let client = dial(address, Codec::Json)
        .no_reconnect()
        .refresh_token(move || {
            let token = next();
            async move {
                match &*token {
                    "1" => Err(std::io::Error::other("out of reach").into()),
                    _ => Ok(token),
                }
            }
        })
        .connect()
        .await
        .unwrap();
    soon(async {
        while closet.asked().len() < 2 {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert_eq!(closet.asked(), ["0", "2"]);
    let desk = DeskClient::new(&client);
    assert_eq!(desk.whoami().await, Ok(Some("alice".to_owned())));
}
