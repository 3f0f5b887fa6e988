//! The examples, started as the README says.

mod chat;
mod program;
#[path = "../relay/mod.rs"]
mod relay;

use std::process::Output;

use program::{Running, example};

#[test]
fn quickstart_shows_what_it_promises_and_exits_with_0() {
    let Output { status, stdout, .. } = example("quickstart").output().unwrap();
    assert!(status.success());
    let text = String::from_utf8(stdout).unwrap();
    let at = |part: &str| {
        text.find(part)
            .unwrap_or_else(|| panic!("no {part:?} in {text}"))
    };
    assert!(at("served: a salad") < at("served: a stew"), "{text}");
    at("the kitchen's bell");
    at("the kitchen asks");
    at("no unicorn");
}

#[test]
fn nothing_is_lost_on_the_flaky_network() {
    let Output {
        status,
        stdout,
        stderr,
    } = example("flaky_network")
        .args(["5", "100"])
        .output()
        .unwrap();
    let [text, errors] = [stdout, stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(status.success(), "{text}{errors}");
    for part in [
        "cut 5",
        "no connection",
        "5 cuts",
        "no gap",
        "executed once",
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
}

#[test]
fn every_board_ends_with_the_same_figures_and_pushing_costs_less_than_polling() {
    // That they are the same it checks itself, and ends with an error if not.
    let Output {
        status,
        stdout,
        stderr,
    } = example("sales_board").output().unwrap();
    let [text, errors] = [stdout, stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(status.success(), "{text}{errors}");
    assert!(
        text.contains("all 8 boards show the same: 15097.19"),
        "{text}"
    );
    let numbers = |line: &str| -> Vec<u64> {
        let line = text.lines().find(|found| found.starts_with(line));
        let line = line.unwrap_or_else(|| panic!("no such line in {text}"));
        let words = line.split_whitespace();
        words.filter_map(|word| word.parse().ok()).collect()
    };
    let [pushed, polled] = numbers("bytes in all")[..] else {
        panic!("{text}");
    };
    assert!(0 < pushed && pushed < polled, "{text}");
    // Of the 20 reports before noon two could go, and one of each of the eight branches waited.
    let [replaced] = numbers("the one in the canteen")[..] else {
        panic!("{text}");
    };
    assert!(replaced >= 10, "{text}");
    let [messages, requests] = numbers("messages or requests")[..] else {
        panic!("{text}");
    };
    let [not_shown, _] = numbers("reports that were not shown")[..] else {
        panic!("{text}");
    };
    // 32 reports, to four boards.
    assert_eq!(messages + not_shown, 128, "{text}");
    assert!(not_shown >= replaced, "{text}");
    assert!(requests >= 4, "{text}");
}

#[test]
fn signed_tokens_are_renewed_and_forged_ones_refused() {
    let Output { status, stdout, .. } = example("signed_tokens").output().unwrap();
    assert!(status.success());
    let text = String::from_utf8(stdout).unwrap();
    for part in [
        "welcome, ines of Lisbon",
        "a will, filed by ines",
        "rui is refused: PERMISSION_DENIED",
        "not let in: closed by the peer (4100)",
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    assert!(text.matches("a new token for ines").count() > 1, "{text}");
}

#[tokio::test]
async fn the_interop_server_knows_whose_a_token_is_and_lets_guests_in() {
    use futures::{SinkExt as _, StreamExt as _};
    use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest as _};

    let mut server = Running::start(example("interop_server").args(["--listen", "127.0.0.1:0"]));
    let url = server.line().replace("listening on ", "");
    for (hello, user) in [
        (r#"[0,{"35":"alice-token"}]"#, "alice"),
        ("[0,{}]", "guest"),
    ] {
        let mut request = url.as_str().into_client_request().unwrap();
        let subprotocol = "wirecall.v1+json".parse().unwrap();
        let headers = request.headers_mut();
        headers.insert("Sec-WebSocket-Protocol", subprotocol);
        let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
        let message = format!(r#"[{hello},[6,3,"InteropHub.whoami",[]]]"#);
        socket.send(Message::text(message)).await.unwrap();
        let mut came = String::new();
        // WELCOME, and then the answer or an error.
        while !["[7,3,", "[8,3,"].iter().any(|frame| came.contains(frame)) {
            came += &socket.next().await.unwrap().unwrap().into_text().unwrap();
        }
        assert!(came.contains(&format!(r#""user":"{user}""#)), "{came}");
    }
}

#[tokio::test]
async fn raw_echo_echoes_text_and_binary_without_a_subprotocol() {
    use futures::{SinkExt as _, StreamExt as _};
    use tokio_tungstenite::tungstenite::Message;

    let mut server =
        Running::start(example("interop_server").args(["--listen", "127.0.0.1:0", "--raw-echo"]));
    let url = server.line().replace("listening on ", "");
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    let large = vec![7; 1 << 20];
    for message in [
        Message::text("{\"\u{e9}\"}"),
        Message::binary(b"\x00\xff".as_slice()),
        Message::text(""),
        Message::binary(large),
    ] {
        socket.send(message.clone()).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), message);
    }
    socket.close(None).await.unwrap();
    while let Some(Ok(_)) = socket.next().await {}
}
