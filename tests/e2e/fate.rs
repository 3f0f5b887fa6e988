//! What becomes of calls, and of the client, when a session does not go on.

mod endpoints;
mod house;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{
    StreamExt as _,
    future::{join, join_all},
    stream,
};
use serde_json::json;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};
use wirecall::{Client, ClientBuilder, ClientState, Code, Codec, Fate, Server, ServerBuilder};

use house::{GuestClient, House, house_within};

use crate::{
    raw_server::{RawServer, welcome},
    relay::{Fault, Relay},
    resume::{
        backoff,
        ledger::{Book, LedgerClient, LedgerServer, assert_fate},
        limits,
        process::Process,
    },
    support::{dial, idle, soon},
};

fn ledger_server(book: &Book) -> ServerBuilder {
    Server::builder()
        .limits(limits())
        .service(LedgerServer::new(book.clone()))
}

/// All states that a client goes through.
struct Watched {
    states: Arc<Mutex<Vec<ClientState>>>,
    watching: JoinHandle<()>,
}

impl Watched {
    fn new(client: &Client) -> Self {
        let states = Arc::new(Mutex::new(Vec::new()));
        let (seen, mut coming) = (states.clone(), client.states());
        let watching = tokio::spawn(async move {
            while let Some(state) = coming.next().await {
                seen.lock().unwrap().push(state);
            }
        });
        Watched { states, watching }
    }

    /// Their names, in order.
    fn names(&self) -> Vec<&'static str> {
        let states = self.states.lock().unwrap();
        states.iter().map(name).collect()
    }

    /// The same, once the client is closed.
    async fn all(self) -> Vec<&'static str> {
        soon(self.watching).await.unwrap();
        let states = self.states.lock().unwrap();
        states.iter().map(name).collect()
    }
}

fn name(state: &ClientState) -> &'static str {
    match state {
        ClientState::Connecting { .. } => "connecting",
        ClientState::Ready { .. } => "ready",
        ClientState::Suspended => "suspended",
        ClientState::Closed(_) => "closed",
        _ => "?",
    }
}

async fn reaches(client: &Client, wanted: &str) {
    let mut states = client.states();
    soon(async {
        while let Some(state) = states.next().await {
            if name(&state) == wanted {
                return;
            }
        }
        panic!("closed before it was {wanted}");
    })
    .await;
}

async fn until(condition: impl Fn() -> bool) {
    soon(async {
        while !condition() {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// A server whose session is lost, with calls of every kind in flight.
async fn calls_of_a_lost_session(codec: Codec, is_killed: bool) {
    let book = Book::default();
    let server = Process::start(ledger_server(&book)).await;
    let address = server.address;
    let client = dial(address, codec).reconnect(backoff());
    let client = client.connect().await.unwrap();
    let watched = Watched::new(&client);
    let ledger = LedgerClient::new(&client);
    let in_flight: Vec<_> = (0..4).map(|n| ledger.book(n, 60_000).start()).collect();
    // They take a moment, so that the new server ends them.
    let repeated: Vec<_> = (10..14).map(|n| ledger.look(n, 400).start()).collect();
    let keyed: Vec<_> = (20..24)
        .map(|n| ledger.book(n, 400).idempotency_key(format!("{n}")).start())
        .collect();
    let down = soon(ledger.count(10_000, 5)).await.unwrap();
    let both = soon(ledger.double(stream::iter(0..3).chain(stream::pending())));
    let mut both = both.await.unwrap();
    let up = {
        let ledger = ledger.clone();
        tokio::spawn(async move {
            ledger
                .collect(stream::iter(0..3).chain(stream::pending()))
                .await
        })
    };
    until(|| book.entries().len() == 12).await;
    assert_eq!(soon(both.next()).await.unwrap().unwrap(), 0);

    if is_killed {
        server.kill();
        reaches(&client, "suspended").await;
    } else {
        server.handle.stop();
        reaches(&client, "connecting").await;
    }
    let made_meanwhile: Vec<_> = (30..34).map(|n| ledger.book(n, 0).start()).collect();
    sleep(Duration::from_millis(100)).await;
    assert_eq!(book.entries().len(), 12);
    let server = Process::start_at(address, ledger_server(&book)).await;
    for (call, number) in in_flight.into_iter().zip(0..) {
        let failed = soon(call).await.unwrap_err();
        assert_eq!(failed.code(), Code::UNAVAILABLE, "{failed}");
        assert_eq!(failed.fate(), Fate::Unknown, "{failed}");
        assert_eq!(book.entered(number), 1);
    }
    // A call is sent again by whoever waits for it.
    let (repeated, keyed) = soon(join(join_all(repeated), join_all(keyed))).await;
    for (answer, number) in repeated.into_iter().zip(10..) {
        assert_eq!(answer, Ok(number));
        assert_eq!(book.entered(number), 2, "once by each server");
    }
    for (answer, number) in keyed.into_iter().zip(20..) {
        assert_eq!(answer, Ok(number));
        assert_eq!(book.entered(number), 2, "each server knows its own keys");
    }
    for (call, number) in made_meanwhile.into_iter().zip(30..) {
        assert_eq!(soon(call).await, Ok(number));
        assert_eq!(book.entered(number), 1);
    }
    let items: Vec<_> = soon(down.collect()).await;
    let (end, items) = items.split_last().unwrap();
    assert_eq!(end.as_ref().unwrap_err().code(), Code::UNAVAILABLE);
    for (number, item) in items.iter().enumerate() {
        assert_eq!(item, &Ok(number as u64));
    }
    let last = soon(async {
        loop {
            match both.next().await {
                Some(Ok(_)) => {}
                end => return end,
            }
        }
    });
    let last = last.await.expect("an error").unwrap_err();
    assert_eq!(last.code(), Code::UNAVAILABLE);
    assert!(both.next().await.is_none());
    let failed = soon(up).await.unwrap().unwrap_err();
    assert_eq!(failed.code(), Code::UNAVAILABLE);
    assert_eq!(failed.fate(), Fate::Unknown);

    assert_eq!(soon(ledger.book(40, 0)).await, Ok(40));
    idle(&client).await;
    soon(client.close()).await;
    until(|| server.handle.sessions() == 0).await;
    let mut states = watched.all().await;
    states.dedup();
    let between = if is_killed { "suspended" } else { "connecting" };
    assert_eq!(states, ["ready", between, "ready", "closed"]);
}

#[tokio::test]
async fn calls_of_a_server_that_was_killed_have_the_right_fate() {
    for codec in Codec::ALL {
        calls_of_a_lost_session(codec, true).await;
    }
}

#[tokio::test]
async fn calls_of_a_server_that_was_stopped_have_the_right_fate() {
    for codec in Codec::ALL {
        calls_of_a_lost_session(codec, false).await;
    }
}

/// The moment of the kill is anywhere in the life of a call.
#[tokio::test]
async fn nothing_is_executed_twice_by_servers_that_are_killed_again_and_again() {
    let book = Book::default();
    let mut server = Process::start(ledger_server(&book)).await;
    let address = server.address;
    let client = dial(address, Codec::MessagePack).reconnect(backoff());
    let client = client.connect().await.unwrap();
    let callers: Vec<_> = (0..8)
        .map(|lane| {
            let (ledger, book) = (LedgerClient::new(&client), book.clone());
            tokio::spawn(async move {
                let mut done = 0;
                for number in lane * 10_000.. {
                    match ledger.book(number, number % 3).await {
                        Ok(answer) => {
                            assert_eq!(answer, number);
                            assert_eq!(book.entered(number), 1);
                            done += 1;
                        }
                        Err(failed) if failed.code() == Code::UNAVAILABLE => {
                            assert_fate(&book, number, &failed);
                        }
                        Err(failed) => panic!("{failed}"),
                    }
                    if book.entered(1_000_000) > 0 {
                        break;
                    }
                }
                done
            })
        })
        .collect();
    for _ in 0..8 {
        sleep(Duration::from_millis(60)).await;
        server.kill();
        server = Process::start_at(address, ledger_server(&book)).await;
    }
    let ledger = LedgerClient::new(&client);
    soon(async { while ledger.book(1_000_000, 0).await.is_err() {} }).await;
    for caller in callers {
        assert!(soon(caller).await.unwrap() > 0);
    }
    assert!(book.entries().values().all(|entered| *entered == 1));
    idle(&client).await;
}

/// A client without a connection: its session is suspended, or there is none.
async fn disconnected(is_suspended: bool, fails_fast: bool) -> (Client, Process, Relay, Book) {
    let book = Book::default();
    let server = Process::start(ledger_server(&book)).await;
    let relay = Relay::start(server.address).await;
    let mut client = dial(relay.addr(), Codec::MessagePack).reconnect(backoff());
    if fails_fast {
        client = client.fail_fast();
    }
    let client = client.connect().await.unwrap();
    assert_eq!(soon(LedgerClient::new(&client).book(1, 0)).await, Ok(1));
    relay.set(Fault::Refuse);
    if is_suspended {
        relay.cut();
        reaches(&client, "suspended").await;
    } else {
        server.handle.stop();
        reaches(&client, "connecting").await;
    }
    (client, server, relay, book)
}

#[tokio::test]
async fn a_client_that_fails_fast_does_not_let_calls_wait() {
    for is_suspended in [true, false] {
        let (client, _server, _relay, book) = disconnected(is_suspended, true).await;
        let began = Instant::now();
        let failed = LedgerClient::new(&client).book(2, 0).await.unwrap_err();
        assert_eq!(failed.code(), Code::UNAVAILABLE);
        assert_eq!(failed.fate(), Fate::NotSent);
        assert!(began.elapsed() < Duration::from_millis(50));
        assert_eq!(book.entered(2), 0);
    }
}

#[tokio::test]
async fn a_client_that_fails_fast_goes_on_with_calls_that_were_sent() {
    let book = Book::default();
    let server = Process::start(ledger_server(&book)).await;
    let relay = Relay::start(server.address).await;
    let client = dial(relay.addr(), Codec::MessagePack).reconnect(backoff());
    let client = client.fail_fast().connect().await.unwrap();
    let call = LedgerClient::new(&client).book(2, 300).start();
    until(|| book.entered(2) == 1).await;
    relay.cut();
    assert_eq!(soon(call).await, Ok(2));
    assert_eq!(book.entered(2), 1);
}

#[tokio::test]
async fn a_call_that_waits_for_a_connection_runs_out_of_time_and_is_never_sent() {
    for is_suspended in [true, false] {
        let (client, _server, relay, book) = disconnected(is_suspended, false).await;
        let ledger = LedgerClient::new(&client);
        let began = Instant::now();
        let timeout = Duration::from_millis(200);
        let calls = [
            ledger.book(2, 0).timeout(timeout).start(),
            // One that has been polled, and is owned by its future.
            ledger.look(3, 0).timeout(timeout).start(),
        ];
        let direct = soon(ledger.book(4, 0).timeout(timeout)).await.unwrap_err();
        let elapsed = began.elapsed().as_millis();
        assert!((200..400).contains(&elapsed), "{elapsed} ms");
        let mut failed = vec![direct];
        for call in calls {
            failed.push(soon(call).await.unwrap_err());
        }
        for failed in failed {
            assert_eq!(failed.code(), Code::DEADLINE_EXCEEDED, "{failed}");
            assert_eq!(failed.fate(), Fate::NotSent, "{failed}");
        }
        if is_suspended {
            relay.heal();
            assert_eq!(soon(ledger.book(5, 0)).await, Ok(5));
            idle(&client).await;
        }
        assert!((2..5).all(|number| book.entered(number) == 0));
    }
}

#[tokio::test]
async fn a_client_that_is_closed_without_a_connection_ends_everything_at_once() {
    for is_suspended in [true, false] {
        let (client, _server, relay, book) = disconnected(false, false).await;
        drop((client, relay, book));
        let (client, _server, _relay, book) = disconnected(is_suspended, false).await;
        let ledger = LedgerClient::new(&client);
        let watched = Watched::new(&client);
        let waiting: Vec<_> = (2..6).map(|n| ledger.book(n, 0).start()).collect();
        sleep(Duration::from_millis(20)).await;
        let began = Instant::now();
        soon(client.close()).await;
        for call in waiting {
            let failed = soon(call).await.unwrap_err();
            assert_eq!(failed.code(), Code::UNAVAILABLE, "{failed}");
            assert_eq!(failed.fate(), Fate::NotSent, "{failed}");
        }
        assert!(began.elapsed() < Duration::from_millis(100));
        let failed = soon(ledger.book(7, 0)).await.unwrap_err();
        assert_eq!(failed.fate(), Fate::NotSent, "{failed}");
        assert!(client.peer().is_closed());
        soon(client.closed()).await;
        assert_eq!(watched.all().await.last(), Some(&"closed"));
        assert_eq!(book.entries().len(), 1);
    }
}

#[tokio::test]
async fn calls_in_flight_of_a_client_that_is_closed_without_a_connection_may_have_been_executed() {
    let book = Book::default();
    let server = Process::start(ledger_server(&book)).await;
    let relay = Relay::start(server.address).await;
    let client = dial(relay.addr(), Codec::MessagePack).reconnect(backoff());
    let client = client.connect().await.unwrap();
    let call = LedgerClient::new(&client).book(2, 60_000).start();
    until(|| book.entered(2) == 1).await;
    relay.set(Fault::Refuse);
    relay.cut();
    reaches(&client, "suspended").await;
    soon(client.close()).await;
    let failed = soon(call).await.unwrap_err();
    assert_eq!(failed.code(), Code::UNAVAILABLE);
    assert_eq!(failed.fate(), Fate::Unknown);
}

#[tokio::test]
async fn a_session_that_nobody_comes_back_to_ends_with_its_handlers() {
    for codec in Codec::ALL {
        let place = House::new(1);
        let limits = limits().resume_window(Duration::from_millis(200));
        let server = Process::start(house_within(&place, limits)).await;
        let relay = Relay::start(server.address).await;
        let client = dial(relay.addr(), codec).reconnect(backoff());
        let client = client.connect().await.unwrap();
        let guest = GuestClient::new(&client);
        let call = guest.stay().start();
        until(|| place.staying() == 1).await;
        relay.set(Fault::Refuse);
        let cut = Instant::now();
        relay.cut();
        until(|| place.staying() == 0).await;
        assert!(cut.elapsed() >= Duration::from_millis(200));
        until(|| server.handle.sessions() == 0).await;
        assert!(cut.elapsed() < Duration::from_millis(400));
        relay.heal();
        let failed = soon(call).await.unwrap_err();
        assert_eq!(failed.code(), Code::UNAVAILABLE);
        assert_eq!(failed.fate(), Fate::Unknown);
        assert!(failed.to_string().contains("expired"), "{failed}");
        assert_eq!(soon(guest.place()).await, Ok(1));
        assert_eq!(server.handle.sessions(), 1);
        idle(&client).await;
    }
}

#[tokio::test]
async fn a_client_that_cannot_come_back_in_time_ends_its_session_by_itself() {
    let place = House::new(1);
    let limits = limits().resume_window(Duration::from_millis(100));
    let server = Process::start(house_within(&place, limits)).await;
    let relay = Relay::start(server.address).await;
    let client = dial(relay.addr(), Codec::Json).reconnect(backoff());
    let client = client.connect().await.unwrap();
    let guest = GuestClient::new(&client);
    let call = guest.stay().start();
    until(|| place.staying() == 1).await;
    let watched = Watched::new(&client);
    relay.set(Fault::Refuse);
    relay.cut();
    let failed = soon(call).await.unwrap_err();
    assert_eq!(failed.code(), Code::UNAVAILABLE);
    assert_eq!(failed.fate(), Fate::Unknown);
    reaches(&client, "connecting").await;
    relay.heal();
    assert_eq!(soon(guest.place()).await, Ok(1));
    let mut names = watched.names();
    names.dedup();
    assert_eq!(names, ["ready", "suspended", "connecting", "ready"]);
}

// ---- servers that say what a test says

#[tokio::test]
async fn a_client_that_is_closed_while_it_begins_another_session_is_closed_at_once() {
    for codec in Codec::ALL {
        let server = RawServer::bind().await;
        let quick = |client: ClientBuilder| client.reconnect(backoff());
        let (client, first) = server.client_of(codec, quick, &[welcome()]).await;
        drop(first);
        // WELCOME is what it waits for now.
        let mut second = server.accept(codec).await;
        let began = Instant::now();
        let ((), came) = join(soon(client.close()), second.try_next()).await;
        assert_eq!(came, None);
        assert!(began.elapsed() < Duration::from_secs(1));
        assert_eq!(name(&client.state()), "closed");
    }
}

/// What becomes of the last attempt says nothing of those before.
#[tokio::test]
async fn a_call_that_was_sent_twice_and_refused_the_second_time_may_have_been_executed() {
    for codec in Codec::ALL {
        let server = RawServer::bind().await;
        let quick = |client: ClientBuilder| client.reconnect(backoff());
        let (client, mut first) = server.client_of(codec, quick, &[welcome()]).await;
        let call = tokio::spawn(LedgerClient::new(&client).look(1, 0).start());
        first.next_call().await;
        drop(first);
        let mut second = server.accept(codec).await;
        second.send(&[welcome()]).await;
        let id = second.next_call().await;
        let refusal = json!([8, id, 8, "too many calls", {"1": 1}, null]);
        second.send(&[refusal]).await;
        let failed = soon(call).await.unwrap().unwrap_err();
        assert_eq!(failed.code(), Code::RESOURCE_EXHAUSTED, "{failed}");
        assert_eq!(failed.fate(), Fate::Unknown, "{failed}");
    }
}

#[tokio::test]
async fn an_upload_that_was_opened_is_not_sent_again_without_what_it_began_with() {
    for codec in Codec::ALL {
        let server = RawServer::bind().await;
        let quick = |client: ClientBuilder| client.reconnect(backoff());
        let (client, mut first) = server.client_of(codec, quick, &[welcome()]).await;
        let ledger = LedgerClient::new(&client);
        let opened = soon(ledger.collect(wirecall::BySender).open()).await;
        let (_sender, call) = opened.unwrap();
        let call = tokio::spawn(call);
        let id = first.next_call().await;
        let refusal = json!([8, id, 14, "leaving", {"1": 1}, null]);
        first.send(&[json!([5, 4200, 0]), refusal]).await;
        let failed = soon(call).await.unwrap().unwrap_err();
        assert_eq!(failed.code(), Code::UNAVAILABLE, "{failed}");
        assert_eq!(failed.fate(), Fate::NotExecuted, "{failed}");
        let mut second = server.accept(codec).await;
        second.send(&[welcome()]).await;
        // The first that comes there is another call.
        let other = tokio::spawn(ledger.look(1, 0).start());
        let id = second.next_call().await;
        second.send(&[json!([7, id, 1])]).await;
        assert_eq!(soon(other).await.unwrap(), Ok(1));
    }
}

#[tokio::test]
async fn a_call_that_is_encoded_already_is_not_sent_to_a_session_of_another_codec() {
    for (codec, other) in [
        (Codec::MessagePack, Codec::Json),
        (Codec::Json, Codec::MessagePack),
    ] {
        let server = RawServer::bind().await;
        let both = |client: ClientBuilder| client.codecs(Codec::ALL).reconnect(backoff());
        let (client, mut first) = server.client_of(codec, both, &[welcome()]).await;
        let ledger = LedgerClient::new(&client);
        let repeated = tokio::spawn(ledger.look(1, 0).start());
        first.next_call().await;
        drop(first);
        reaches(&client, "connecting").await;
        let never_sent = ledger.book(2, 0).start();
        // Arguments that are still at hand are encoded anew.
        let at_hand = {
            let ledger = ledger.clone();
            tokio::spawn(async move { ledger.look(3, 0).await })
        };
        let mut second = server.accept(other).await;
        second.send(&[welcome()]).await;
        for (failed, fate) in [
            (soon(repeated).await.unwrap(), Fate::Unknown),
            (soon(never_sent).await, Fate::NotSent),
        ] {
            let failed = failed.unwrap_err();
            assert_eq!(failed.code(), Code::UNAVAILABLE, "{failed}");
            assert_eq!(failed.fate(), fate, "{failed}");
            assert!(failed.to_string().contains("codec"), "{failed}");
        }
        let id = second.next_call().await;
        second.send(&[json!([7, id, 3])]).await;
        assert_eq!(soon(at_hand).await.unwrap(), Ok(3));
    }
}
