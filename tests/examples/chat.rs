//! The chat: a server and some clients, each a process.

use std::{collections::HashMap, net::SocketAddr, process::Command};

use crate::{
    program::{Running, example},
    relay::{Fault, Relay},
};

fn server() -> (Running, SocketAddr) {
    let mut server = Running::start(example("chat_server").arg("127.0.0.1:0"));
    let listening = server.line();
    let address = listening.strip_prefix("listening on ").unwrap();
    (server, address.parse().unwrap())
}

fn command(address: SocketAddr, name: &str, password: &str) -> Command {
    let mut command = example("chat_client");
    command.args([&address.to_string(), name, password]);
    command
}

/// A client that is in the lobby.
fn client(address: SocketAddr, name: &str) -> Running {
    let mut client = Running::start(&mut command(address, name, "secret"));
    client.prints("* in lobby");
    client
}

/// What was said in the rooms that a client was in.
fn said(client: &Running) -> Vec<&str> {
    let is_said = |line: &&str| !line.starts_with(['*', '[', '!']);
    client.printed().filter(is_said).collect()
}

#[test]
fn the_chat_goes_as_the_readme_shows_it() {
    let readme = include_str!("../../README.md");
    let (_, rest) = readme.split_once("```text\nada < ").unwrap();
    let (shown, _) = rest.split_once("```").unwrap();
    let (_server, address) = server();
    let mut clients = HashMap::new();
    for line in format!("ada < {shown}").lines() {
        let (name, line) = line.split_once(' ').unwrap();
        let start = || Running::start(&mut command(address, name, "secret"));
        let client = clients.entry(name.to_owned()).or_insert_with(start);
        match line.split_at(2) {
            ("> ", typed) => client.types(typed),
            ("< ", printed) => client.prints(printed),
            (other, _) => panic!("neither typed nor printed: {other:?}"),
        }
    }
    assert_eq!(clients.len(), 2);
}

#[test]
fn lines_reach_everyone_in_the_room_and_those_who_come_late_and_nobody_else() {
    let (_server, address) = server();
    let mut ada = client(address, "ada");
    let mut bob = client(address, "bob");
    let mut eve = client(address, "eve");
    eve.types("/join attic");
    eve.prints("* in attic");
    for number in 1..=25 {
        ada.types(&format!("{number}"));
    }
    bob.prints("ada: 25");
    let all: Vec<_> = (1..=25).map(|number| format!("ada: {number}")).collect();
    assert_eq!(said(&bob), all);

    let mut carol = client(address, "carol");
    bob.types("hello, carol");
    carol.prints("bob: hello, carol");
    assert_eq!(said(&carol)[..20], all[5..]);
    assert_eq!(said(&carol)[20..], ["bob: hello, carol"]);

    eve.types("is anybody here?");
    eve.prints("eve: is anybody here?");
    assert_eq!(said(&eve), ["eve: is anybody here?"]);
}

#[test]
fn whoever_comes_and_leaves_is_announced_and_listed() {
    let (_server, address) = server();
    let mut ada = client(address, "ada");
    let mut bob = client(address, "bob");
    ada.prints("* bob came");
    ada.types("/who");
    ada.prints("* here: ada, bob");
    // On another device. They have come already, and do not leave before the last one.
    let phone = client(address, "bob");
    bob.types("/quit");
    bob.ends();
    ada.types("/who");
    ada.prints("* here: ada, bob");
    phone.ends();
    ada.prints("* bob left");
    ada.types("/who");
    ada.prints("* here: ada");
    let moves = ["* bob came", "* bob left"];
    let told = ada.printed().filter(|line| moves.contains(line));
    assert_eq!(told.count(), 2);
}

#[test]
fn a_private_message_reaches_one_user_or_says_that_they_are_not_there() {
    let (_server, address) = server();
    let mut ada = client(address, "ada");
    let mut bob = client(address, "bob");
    let mut eve = client(address, "eve");
    ada.types("/msg bob between you and me");
    ada.prints("* told bob");
    bob.prints("[ada] between you and me");
    ada.types("/msg carol are you there?");
    ada.prints("* carol is not there");
    ada.types("/msg eve hello");
    eve.prints("[ada] hello");
    assert_eq!(
        eve.printed().filter(|line| line.starts_with('[')).count(),
        1
    );
}

#[test]
fn the_others_in_the_room_see_that_somebody_is_typing() {
    let (_server, address) = server();
    let mut ada = client(address, "ada");
    let mut bob = client(address, "bob");
    let mut eve = client(address, "eve");
    eve.types("/join attic");
    eve.prints("* in attic");
    ada.types("/typing");
    bob.prints("* ada is typing…");
    for (name, other) in [("ada", &mut ada), ("eve", &mut eve)] {
        bob.types(&format!("/msg {name} did you see that?"));
        other.prints("[bob] did you see that?");
        assert!(!other.printed().any(|line| line.contains("typing")));
    }
}

#[test]
fn a_wrong_password_is_refused_and_so_is_a_name_that_cannot_be_one() {
    let (_server, address) = server();
    let _ada = client(address, "ada");
    for (name, password, why) in [
        ("ada", "guessed", "wrong password"),
        ("a da", "secret", "a name has 1 to 32 letters and digits"),
    ] {
        let output = command(address, name, password).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let text = String::from_utf8(output.stderr).unwrap();
        let expected = format!("chat_client: closed by the peer (4100): {why}");
        assert_eq!(text.trim_end(), expected);
    }
}

#[test]
fn a_command_that_is_none_and_a_call_that_fails_leave_the_client_where_it_is() {
    let (_server, address) = server();
    let mut ada = client(address, "ada");
    ada.types("/dance");
    ada.prints("* /join ROOM, /msg NAME TEXT, /who, /typing, /quit");
    ada.types("/join the attic");
    ada.prints("! INVALID_ARGUMENT: a room's name has 1 to 32 letters and digits");
    ada.types("a bell: \u{7}");
    ada.prints("! INVALID_ARGUMENT: a line has 2000 bytes at the most, and no control characters");
    ada.types("still here");
    ada.prints("ada: still here");
}

#[tokio::test(flavor = "multi_thread")]
async fn over_a_broken_connection_nothing_is_lost() {
    let (mut server, address) = server();
    let relay = Relay::start(address).await;
    let mut ada = client(address, "ada");
    let mut bob = client(relay.addr(), "bob");
    relay.set(Fault::Refuse);
    relay.cut();
    bob.prints("* away: what you say waits");
    server.prints("bob is away");
    bob.types("I am on a train");
    for line in ["one", "/typing", "two", "/msg bob where are you?"] {
        ada.types(line);
    }
    ada.prints("* bob is away, and is told when back");
    relay.heal();
    bob.prints("* back");
    bob.prints("[ada] where are you?");
    bob.prints("bob: I am on a train");
    assert_eq!(said(&bob), ["ada: one", "ada: two", "bob: I am on a train"]);
    // That was of no use any more.
    assert!(!bob.printed().any(|line| line.contains("typing")));
    server.prints("bob is back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_goes_on_when_the_server_begins_anew_and_says_what_is_not_known() {
    let (first, address) = server();
    let relay = Relay::start(address).await;
    let mut bob = client(relay.addr(), "bob");
    bob.types("before");
    bob.prints("bob: before");
    drop(first);
    bob.prints("* away: what you say waits");
    let (_second, address) = server();
    relay.lead_to(address);
    goes_on(&mut bob, address);
    bob.prints("* back");
}

/// After its session was lost: at a server that knows nothing of it.
fn goes_on(bob: &mut Running, address: SocketAddr) {
    bob.prints("* some lines may be missing here");
    // The client has entered the room again.
    let mut ada = client(address, "ada");
    ada.types("/typing");
    bob.prints("* ada is typing…");
    bob.types("after");
    ada.prints("bob: after");
    bob.prints("bob: after");
    assert_eq!(said(bob), ["bob: before", "bob: after"]);
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_leaves_sends_its_clients_to_the_next_one() {
    let (mut first, address) = server();
    let relay = Relay::start(address).await;
    let mut bob = client(relay.addr(), "bob");
    bob.types("before");
    bob.prints("bob: before");
    let (_second, address) = server();
    relay.lead_to(address);
    let interrupt = Command::new("kill")
        .args(["-INT", &first.id().to_string()])
        .status();
    assert!(interrupt.unwrap().success());
    first.prints("leaving");
    goes_on(&mut bob, address);
    first.prints("Drained { left: 1, closed: 0, cut: 0, calls_cut: 0 }");
    first.ends();
    // It was never without a server.
    assert!(!bob.printed().any(|line| line.starts_with("* away")));
}
