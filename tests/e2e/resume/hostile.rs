//! Diallers that ask for what they must not have, spoken by hand in both codecs.

use std::{net::SocketAddr, time::Duration};

use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use wirecall::{Codec, Limits, Server, ServerHandle};

use super::start;
use crate::{
    raw_client::{Socket, closed, open},
    raw_frames::{frames_of, is_counted, message},
    support::soon,
};

/// A client that counts as it should, and then says what it likes.
struct Raw {
    codec: Codec,
    socket: Socket,
    came: Vec<Value>,
    token: String,
    received: u64,
    sent: u64,
}

impl Raw {
    /// Begins a session.
    async fn open(address: SocketAddr, codec: Codec) -> Raw {
        let mut raw = Raw {
            codec,
            socket: open(address, codec).await,
            came: Vec::new(),
            token: String::new(),
            received: 0,
            sent: 0,
        };
        raw.send(&[json!([0, {"19": 65536}])]).await;
        let welcome = raw.next().await;
        assert_eq!(welcome[0], 1, "{welcome}");
        raw.token = welcome[1]["21"].as_str().unwrap().to_owned();
        raw
    }

    /// Another socket that asks for the session of this token; its WELCOME is returned, if one comes.
    async fn try_ask(
        address: SocketAddr,
        codec: Codec,
        (token, received, sent): (&str, u64, u64),
    ) -> Option<(Raw, Value)> {
        let mut raw = Raw {
            codec,
            socket: open(address, codec).await,
            came: Vec::new(),
            token: String::new(),
            received,
            sent,
        };
        let hello = json!([0, {"19": 65536, "21": token, "23": received, "25": sent}]);
        raw.send(&[hello]).await;
        let welcome = raw.try_next().await?;
        assert_eq!(welcome[0], 1, "{welcome}");
        raw.token = welcome[1]["21"].as_str().unwrap().to_owned();
        Some((raw, welcome[1].clone()))
    }

    async fn ask(address: SocketAddr, codec: Codec, claim: (&str, u64, u64)) -> (Raw, Value) {
        let asked = Raw::try_ask(address, codec, claim).await;
        asked.expect("the connection has ended")
    }

    /// The same with what it should say.
    async fn resume(&self, address: SocketAddr) -> Raw {
        let counts = (self.token.as_str(), self.received, self.sent);
        let (raw, welcome) = Raw::ask(address, self.codec, counts).await;
        assert_eq!(welcome["29"], Value::Null, "{welcome}");
        assert_eq!(welcome["23"], self.sent, "{welcome}");
        raw
    }

    /// In one message.
    async fn send(&mut self, frames: &[Value]) {
        let counted = |frame: &&Value| is_counted(frame[0].as_u64().unwrap());
        let counted = frames.iter().filter(counted).count() as u64;
        self.sent = self.sent.wrapping_add(counted);
        let message = message(self.codec, frames);
        self.socket.send(message).await.unwrap();
    }

    /// The next frame that is no PING; nothing if the connection has ended.
    async fn try_next(&mut self) -> Option<Value> {
        loop {
            while self.came.is_empty() {
                match soon(self.socket.next()).await {
                    Some(Ok(Message::Close(_))) => return None,
                    Some(Ok(message)) => self.came = frames_of(message),
                    _ => return None,
                }
            }
            let frame = self.came.remove(0);
            let kind = frame[0].as_u64().unwrap();
            self.received += u64::from(is_counted(kind));
            // What belongs to the socket is not looked at.
            if !(2..=4).contains(&kind) {
                return Some(frame);
            }
        }
    }

    async fn next(&mut self) -> Value {
        self.try_next().await.expect("the connection has ended")
    }

    /// Looks twice, in one message, and has both answers. Says whether they came in one too, as they
    /// do unless a handler is taken for a slow one.
    async fn look_twice(&mut self) -> bool {
        let look = |id: u64| json!([6, id, "Ledger.look", [id, 0]]);
        self.send(&[look(3), look(5)]).await;
        let first = self.next().await;
        let are_together = !self.came.is_empty();
        let second = self.next().await;
        let mut ids = [&first, &second].map(|answer| {
            assert_eq!(answer[0], 7, "{answer}");
            answer[1].as_u64().unwrap()
        });
        ids.sort_unstable();
        assert_eq!(ids, [3, 5]);
        are_together
    }
}

const UNKNOWN: u64 = 1;
const EXPIRED: u64 = 2;
const GAP: u64 = 3;

async fn refused(address: SocketAddr, codec: Codec, claim: (&str, u64, u64)) -> (Raw, u64) {
    let (raw, welcome) = Raw::ask(address, codec, claim).await;
    assert_ne!(raw.token, claim.0, "a new session");
    assert_eq!(welcome["23"], Value::Null, "{welcome}");
    (raw, welcome["29"].as_u64().expect("a refusal"))
}

async fn sessions(handle: &ServerHandle, count: usize) {
    let settled = timeout(Duration::from_secs(5), async {
        while handle.sessions() != count {
            sleep(Duration::from_millis(5)).await;
        }
    });
    let settled = settled.await;
    assert!(settled.is_ok(), "{} sessions", handle.sessions());
}

#[tokio::test]
async fn who_does_not_know_the_secret_gets_a_session_of_its_own() {
    let (address, _, handle) = start(Limits::default()).await;
    for codec in Codec::ALL {
        let mut own = Raw::open(address, codec).await;
        own.look_twice().await;
        let other = Raw::open(address, codec).await;
        let before = handle.sessions();
        // The number of one session and the secret of the other; and what is no token at all.
        let mixed = format!("{}{}", &own.token[..12], &other.token[12..]);
        let shorter = &own.token[..31];
        let longer = format!("{}A", own.token);
        let long = "A".repeat(128);
        for token in [&mixed, shorter, &longer, &long, "", "\u{1f980}", "////"] {
            let claim = (token, own.received, own.sent);
            let (mut raw, reason) = refused(address, codec, claim).await;
            assert_eq!(reason, UNKNOWN, "{token:?}");
            raw.look_twice().await;
            raw.socket.close(None).await.unwrap();
        }
        // One that is too long is none at all.
        let claim = ("A".repeat(129), 0, 0);
        let (mut raw, welcome) = Raw::ask(address, codec, (&claim.0, claim.1, claim.2)).await;
        assert_eq!(welcome["29"], Value::Null);
        raw.socket.close(None).await.unwrap();
        sessions(&handle, before).await;
        own.look_twice().await;
        let mut own = own.resume(address).await;
        own.look_twice().await;
    }
}

#[tokio::test]
async fn counts_that_cannot_be_are_refused_and_change_nothing() {
    let (address, _, _handle) = start(Limits::default()).await;
    for codec in Codec::ALL {
        let mut own = Raw::open(address, codec).await;
        while !own.look_twice().await {}
        let (received, sent) = (own.received, own.sent);
        assert_eq!(received, sent);
        for (received, sent) in [
            // From the future.
            (received + 1, sent),
            (u64::MAX, sent),
            // Both answers came in one message.
            (received - 1, sent),
            // What was executed cannot be taken back.
            (received, sent - 1),
            (received, 0),
        ] {
            let claim = (own.token.as_str(), received, sent);
            let (mut raw, reason) = refused(address, codec, claim).await;
            assert_eq!(reason, GAP, "{received} {sent}");
            raw.socket.close(None).await.unwrap();
        }
        // The session has not noticed.
        own.look_twice().await;
        let mut own = own.resume(address).await;
        own.look_twice().await;
    }
}

#[tokio::test]
async fn one_who_claims_to_have_sent_more_than_it_has_holds_up_nobody_else() {
    let (address, _, handle) = start(Limits::default()).await;
    for codec in Codec::ALL {
        let own = Raw::open(address, codec).await;
        let claim = (own.token.as_str(), own.received, u64::MAX);
        let (mut raw, welcome) = Raw::ask(address, codec, claim).await;
        assert_eq!(welcome["29"], Value::Null);
        raw.send(&[json!([6, 3, "Ledger.look", [1, 0]])]).await;
        let mut other = Raw::open(address, codec).await;
        other.look_twice().await;
        raw.socket.close(None).await.unwrap();
        other.socket.close(None).await.unwrap();
    }
    sessions(&handle, 0).await;
}

#[tokio::test]
async fn nothing_follows_a_hello_with_a_token() {
    let (address, book, _handle) = start(Limits::default()).await;
    for codec in Codec::ALL {
        let own = Raw::open(address, codec).await;
        let mut other = Raw::open(address, codec).await;
        let hello = json!([0, {"19": 65536, "21": own.token, "23": 0, "25": 0}]);
        let request = json!([6, 3, "Ledger.book", [77, 0]]);
        let mut socket = open(address, codec).await;
        std::mem::swap(&mut other.socket, &mut socket);
        other.send(&[hello, request]).await;
        let (code, why) = closed(&mut other.socket).await;
        assert_eq!(code, 4001, "{why}");
        assert_eq!(book.entered(77), 0);
        own.resume(address).await.look_twice().await;
    }
}

#[tokio::test]
async fn an_acknowledgement_of_what_was_never_sent_ends_the_connection() {
    let (address, _, handle) = start(Limits::default()).await;
    for codec in Codec::ALL {
        for frame in [json!([4, 3]), json!([2, 3, 9]), json!([3, u64::MAX, 9])] {
            let mut own = Raw::open(address, codec).await;
            own.look_twice().await;
            own.send(&[json!([4, 2])]).await;
            own.send(&[frame]).await;
            let (code, why) = closed(&mut own.socket).await;
            assert_eq!(code, 4001, "{why}");
        }
    }
    sessions(&handle, 0).await;
}

#[tokio::test]
async fn an_acknowledgement_that_goes_back_changes_nothing() {
    let (address, _, _handle) = start(Limits::default()).await;
    for codec in Codec::ALL {
        let mut own = Raw::open(address, codec).await;
        own.look_twice().await;
        own.send(&[json!([4, 2]), json!([4, 1]), json!([4, 0])])
            .await;
        own.look_twice().await;
        let (_, reason) = refused(address, codec, (&own.token, 0, own.sent)).await;
        assert_eq!(reason, GAP, "what was acknowledged is not kept");
        own.resume(address).await.look_twice().await;
    }
}

#[tokio::test]
async fn a_later_socket_supersedes_an_earlier_one_and_its_token() {
    let (address, _, handle) = start(Limits::default()).await;
    for codec in Codec::ALL {
        let mut first = Raw::open(address, codec).await;
        first.look_twice().await;
        // WELCOME is lost, say: the token before is still good.
        let mut second = first.resume(address).await;
        assert_eq!(first.try_next().await, None, "superseded");
        let mut third = first.resume(address).await;
        assert_eq!(second.try_next().await, None, "superseded");
        assert_ne!(second.token, third.token);
        let claim = (second.token.as_str(), third.received, third.sent);
        let (mut raw, reason) = refused(address, codec, claim).await;
        assert_eq!(reason, UNKNOWN, "of a socket that was superseded");
        raw.socket.close(None).await.unwrap();
        // Once something has come from one who knows the last token, only that is good.
        third.look_twice().await;
        let claim = (first.token.as_str(), third.received, third.sent);
        let (mut raw, reason) = refused(address, codec, claim).await;
        assert_eq!(reason, UNKNOWN, "used up");
        raw.socket.close(None).await.unwrap();
        let mut fourth = third.resume(address).await;
        fourth.look_twice().await;
        fourth.socket.close(None).await.unwrap();
    }
    sessions(&handle, 0).await;
}

#[tokio::test]
async fn one_token_on_many_sockets_at_once_belongs_to_one_of_them() {
    let (address, _, handle) = start(Limits::default()).await;
    for codec in Codec::ALL {
        let own = Raw::open(address, codec).await;
        let claim = (own.token.as_str(), own.received, own.sent);
        let asking = (0..20).map(|_| Raw::try_ask(address, codec, claim));
        let came = futures::future::join_all(asking).await;
        let mut alive = 0;
        // Some are superseded before they are told that they are welcome.
        for (mut raw, welcome) in came.into_iter().flatten() {
            assert_eq!(welcome["29"], Value::Null, "{welcome}");
            let add = json!([6, 3, "Ledger.look", [1, 0]]);
            let message = message(codec, &[add]);
            let _ = raw.socket.send(message).await;
            alive += usize::from(raw.try_next().await.is_some());
            let _ = raw.socket.close(None).await;
        }
        assert_eq!(alive, 1);
    }
    sessions(&handle, 0).await;
}

#[tokio::test]
async fn one_who_acknowledges_nothing_is_sent_no_more_and_then_given_up() {
    const REPLAY_BYTES: usize = 8 << 10;
    let limits = Limits::default()
        .replay_bytes(REPLAY_BYTES)
        .write_stall(Duration::from_millis(300))
        .resume_window(Duration::from_millis(100));
    let interop = crate::interop::InteropServer::new(crate::interop::Implementation);
    let server = Server::builder().limits(limits).service(interop);
    let server = server.bind("127.0.0.1:0").await.unwrap();
    let (address, handle) = (server.local_addr().unwrap(), server.handle());
    tokio::spawn(server.run());
    for codec in Codec::ALL {
        let mut own = Raw::open(address, codec).await;
        let text = "x".repeat(1000);
        let begun = tokio::time::Instant::now();
        // One at a time, so that answers do not share messages.
        let mut answers = 0;
        for id in 0..200_u64 {
            let request = json!([6, 2 * id + 3, "Interop.concat", [[text]]]);
            own.send(&[request]).await;
            match timeout(Duration::from_millis(100), own.try_next()).await {
                Ok(Some(_)) => answers += 1,
                _ => break,
            }
        }
        assert!((6..=12).contains(&answers), "{answers} answers");
        assert_eq!(own.try_next().await, None, "given up");
        assert!(begun.elapsed() >= Duration::from_millis(300));
        sessions(&handle, 0).await;
    }
}

#[tokio::test]
async fn who_comes_too_late_is_told_so() {
    let limits = Limits::default().resume_window(Duration::from_millis(100));
    let (address, _, handle) = start(limits).await;
    for codec in Codec::ALL {
        let mut own = Raw::open(address, codec).await;
        own.look_twice().await;
        let Raw {
            token,
            received,
            sent,
            socket,
            ..
        } = own;
        drop(socket);
        sessions(&handle, 0).await;
        let (mut raw, reason) = refused(address, codec, (&token, received, sent)).await;
        assert_eq!(reason, EXPIRED);
        raw.look_twice().await;
        // An orderly end is not waited after.
        let (token, received, sent) = (raw.token.clone(), raw.received, raw.sent);
        raw.socket.close(None).await.unwrap();
        sessions(&handle, 0).await;
        let (mut raw, reason) = refused(address, codec, (&token, received, sent)).await;
        assert_eq!(reason, UNKNOWN);
        raw.socket.close(None).await.unwrap();
        sessions(&handle, 0).await;
    }
}

#[tokio::test]
async fn thousands_of_resumes_leave_one_session() {
    let (address, _, handle) = start(Limits::default()).await;
    let mut own = Raw::open(address, Codec::MessagePack).await;
    for round in 0..2_000 {
        own = own.resume(address).await;
        if round % 3 == 0 {
            own.look_twice().await;
        }
    }
    own.look_twice().await;
    sessions(&handle, 1).await;
    own.socket.close(None).await.unwrap();
    sessions(&handle, 0).await;
}

#[tokio::test]
async fn a_session_is_not_for_sockets_of_another_codec() {
    let (address, _, handle) = start(Limits::default()).await;
    for (codec, other) in [
        (Codec::MessagePack, Codec::Json),
        (Codec::Json, Codec::MessagePack),
    ] {
        let mut own = Raw::open(address, codec).await;
        own.look_twice().await;
        let claim = (own.token.as_str(), own.received, own.sent);
        let (mut raw, reason) = refused(address, other, claim).await;
        assert_eq!(reason, UNKNOWN);
        raw.look_twice().await;
        raw.socket.close(None).await.unwrap();
        // The session has not noticed.
        own.look_twice().await;
        let mut own = own.resume(address).await;
        own.look_twice().await;
        own.socket.close(None).await.unwrap();
    }
    sessions(&handle, 0).await;
}

#[wirecall::service]
trait Busy {
    async fn work(&self) -> u64;
}

/// Its handlers keep the thread, so that a message of many calls is executed in several goes.
#[derive(Clone, Default)]
struct Worker(std::sync::Arc<std::sync::atomic::AtomicU64>);

impl Worker {
    fn done(&self) -> u64 {
        self.0.load(std::sync::atomic::Ordering::SeqCst)
    }
}

impl Busy for Worker {
    async fn work(&self) -> u64 {
        std::thread::sleep(Duration::from_millis(5));
        self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst)
    }
}

/// Whoever is asked to send a message again sends all of it, and none of it is executed twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_in_the_middle_of_a_message_goes_on_at_the_end_or_the_beginning_of_it() {
    const CALLS: u64 = 60;
    let worker = Worker::default();
    let server = Server::builder().service(BusyServer::new(worker.clone()));
    let server = server.bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    tokio::spawn(server.run());
    for codec in Codec::ALL {
        let mut own = Raw::open(address, codec).await;
        let before = worker.done();
        let calls: Vec<_> = (1..=CALLS)
            .map(|slot| json!([6, 2 * slot + 1, "Busy.work", []]))
            .collect();
        own.send(&calls).await;
        soon(async {
            while worker.done() < before + 3 {
                sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        let claim = (own.token.as_str(), own.received, own.sent);
        let (mut next, welcome) = Raw::ask(address, codec, claim).await;
        let received = welcome["23"].as_u64().unwrap();
        assert!([0, CALLS].contains(&received), "{received}");
        if received == 0 {
            next.socket.send(message(codec, &calls)).await.unwrap();
        }
        let mut answered: Vec<u64> = Vec::new();
        while answered.len() < calls.len() {
            let answer = next.next().await;
            assert_eq!(answer[0], 7, "{answer}");
            answered.push(answer[1].as_u64().unwrap());
        }
        answered.sort_unstable();
        answered.dedup();
        assert_eq!(answered.len(), calls.len());
        assert_eq!(worker.done(), before + CALLS);
    }
}
