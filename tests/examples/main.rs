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
