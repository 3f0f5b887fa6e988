//! A client that shares no code with ours: hand-written frames from the golden vectors, over a bare
//! tokio-tungstenite socket, and over a socket that is written to byte by byte.

use std::net::SocketAddr;

use futures::{SinkExt as _, StreamExt as _};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, client::IntoClientRequest as _, http::HeaderMap},
};
use wirecall::{Codec, Context, Limits, RpcError, Server};

use crate::support::{soon, start, start_interop};

pub type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

pub async fn open(address: SocketAddr, codec: Codec) -> Socket {
    let mut request = format!("ws://{address}").into_client_request().unwrap();
    let subprotocol = codec.subprotocol().parse().unwrap();
    request
        .headers_mut()
        .insert("Sec-WebSocket-Protocol", subprotocol);
    connect_async(request).await.unwrap().0
}

/// Opens a connection with these headers in the request, and gives back those of the answer.
pub async fn open_with(
    address: SocketAddr,
    headers: &[(&'static str, &str)],
) -> (Socket, HeaderMap) {
    let mut request = format!("ws://{address}").into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    let (socket, response) = connect_async(request).await.unwrap();
    (socket, response.into_parts().0.headers)
}

pub async fn send_text(socket: &mut Socket, text: &str) {
    socket.send(Message::text(text)).await.unwrap();
}

/// The next frames of a JSON connection: those of one message.
pub async fn frames(socket: &mut Socket) -> Vec<Value> {
    let Message::Text(text) = soon(socket.next()).await.unwrap().unwrap() else {
        panic!("no text");
    };
    let frames: Vec<Value> = serde_json::from_str(&text).unwrap();
    match frames.first() {
        Some(Value::Array(_)) => frames,
        _ => vec![frames.into()],
    }
}

/// The code and reason of the Close frame that comes next.
pub async fn closed(socket: &mut Socket) -> (u16, String) {
    loop {
        match soon(socket.next()).await.unwrap().unwrap() {
            Message::Close(Some(frame)) => return (frame.code.into(), frame.reason.to_string()),
            Message::Close(None) => panic!("no code"),
            _ => {}
        }
    }
}

/// The service of the conversation in the golden vectors.
#[wirecall::service]
trait Chat {
    async fn post(&self, cx: &Context, room: &str, text: &str) -> Result<u64, ChatError>;
    async fn count(&self, room: &str) -> u64;
}

#[wirecall::service]
trait ChatEvents {
    #[notify]
    async fn kicked(&self, room: &str, why: &str);
    async fn confirm(&self, question: &str) -> bool;
}

#[derive(Debug, Serialize, Deserialize, thiserror::Error, RpcError)]
enum ChatError {
    #[error("no room {0:?}")]
    #[rpc(code = NOT_FOUND)]
    NoRoom(String),
}

struct Lobby {
    confirmed: tokio::sync::mpsc::UnboundedSender<bool>,
    /// What callers in the lobby send along.
    trace: Option<&'static str>,
}

impl Chat for Lobby {
    async fn post(&self, cx: &Context, room: &str, text: &str) -> Result<u64, ChatError> {
        assert_eq!(text, "hi");
        if room == "lobby" {
            assert_eq!(cx.metadata().get("trace"), self.trace);
            return Ok(42);
        }
        let events = ChatEventsClient::new(cx);
        let confirmed = self.confirmed.clone();
        tokio::spawn(async move {
            events.kicked("lobby", "spam").await.unwrap();
            let _ = confirmed.send(events.confirm("leave?").await.unwrap());
        });
        Err(ChatError::NoRoom(room.to_owned()))
    }

    async fn count(&self, _room: &str) -> u64 {
        std::future::pending().await
    }
}

#[derive(Deserialize)]
struct Line {
    from: String,
    msgpack: String,
    json: String,
}

fn conversation() -> Vec<Line> {
    serde_json::from_str(include_str!("../vectors/conversation.json")).unwrap()
}

fn unhex(hex: &str) -> Vec<u8> {
    let digit = |digit: u8| char::from(digit).to_digit(16).unwrap() as u8;
    hex.as_bytes()
        .chunks(2)
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}

#[tokio::test]
async fn the_conversation_of_the_golden_vectors_runs_against_the_real_server_in_json() {
    let (sender, mut confirmed) = tokio::sync::mpsc::unbounded_channel();
    let lobby = Lobby {
        confirmed: sender,
        trace: Some("4bf92f35"),
    };
    let server = Server::builder()
        .service(ChatServer::new(lobby))
        .limits(Limits::default().max_in_flight(64));
    let mut socket = open(start(server).await, Codec::Json).await;
    let mut came = Vec::new();
    for line in conversation() {
        if line.from == "dialler" {
            send_text(&mut socket, &line.json).await;
            continue;
        }
        while came.is_empty() {
            came = frames(&mut socket).await;
        }
        let mut frame = came.remove(0);
        let expected: Value = serde_json::from_str(&line.json).unwrap();
        if frame[0] == 1 {
            // Who it is differs.
            frame[1]["11"] = expected[1]["11"].clone();
        }
        assert_eq!(frame, expected);
    }
    assert!(came.is_empty());
    assert_eq!(soon(confirmed.recv()).await, Some(true));
}

#[tokio::test]
async fn the_conversation_of_the_golden_vectors_runs_against_the_real_server_in_messagepack() {
    let (sender, mut confirmed) = tokio::sync::mpsc::unbounded_channel();
    let lobby = Lobby {
        confirmed: sender,
        trace: Some("4bf92f35"),
    };
    let server = Server::builder()
        .service(ChatServer::new(lobby))
        .limits(Limits::default().max_in_flight(64));
    let mut socket = open(start(server).await, Codec::MessagePack).await;
    let mut came = Vec::new();
    for line in conversation() {
        let bytes = unhex(&line.msgpack);
        if line.from == "dialler" {
            socket.send(Message::binary(bytes)).await.unwrap();
            continue;
        }
        // WELCOME says who it is; what the server opens goes by aliases of its own choice.
        let name = match bytes[1] {
            1 => &b"wirecall/"[..],
            13 => &b"\xc4\x0c\x92\xa5lobby\xa4spam"[..],
            6 => &b"\xc4\x08\x91\xa6leave?"[..],
            _ => &bytes,
        };
        while !came.windows(name.len()).any(|window| window == name) {
            let message = soon(socket.next()).await.unwrap().unwrap();
            let Message::Binary(message) = message else {
                panic!("{message:?}");
            };
            came.extend_from_slice(&message);
        }
    }
    assert_eq!(soon(confirmed.recv()).await, Some(true));
}

#[derive(Deserialize)]
struct LineOfMany {
    socket: u32,
    #[serde(default)]
    lost: bool,
    #[serde(flatten)]
    line: Line,
}

/// W-RESUME-6, W-RESUME-7, W-RESUME-9: a session goes on, and one is refused.
#[tokio::test]
async fn the_session_of_the_golden_vectors_goes_on_at_the_real_server() {
    let server = Server::builder().service(ChatServer::new(Lobby {
        confirmed: tokio::sync::mpsc::unbounded_channel().0,
        trace: None,
    }));
    let address = start(server).await;
    let lines: Vec<LineOfMany> =
        serde_json::from_str(include_str!("../vectors/resume_conversation.json")).unwrap();
    let mut socket = open(address, Codec::Json).await;
    let mut number = 1;
    // The tokens of the vectors, and those that this server has given.
    let mut tokens: Vec<(String, String)> = Vec::new();
    for LineOfMany {
        socket: on,
        lost,
        line,
    } in lines
    {
        if on != number {
            socket = open(address, Codec::Json).await;
            number = on;
        }
        if line.from == "dialler" {
            let mut text = line.json;
            for (theirs, given) in &tokens {
                text = text.replace(theirs, given);
            }
            if !lost {
                send_text(&mut socket, &text).await;
            }
            continue;
        }
        // An acknowledgement, or a sign of life, may come at any time.
        let frame = loop {
            let [frame] = &frames(&mut socket).await[..] else {
                panic!("{} shares its message", line.json);
            };
            if frame[0] != 2 && frame[0] != 4 {
                break frame.clone();
            }
        };
        let mut expected: Value = serde_json::from_str(&line.json).unwrap();
        if frame[0] == 1 {
            let [theirs, given] = [&expected, &frame].map(|frame| frame[1]["21"].clone());
            let text = |token: Value| token.as_str().unwrap().to_owned();
            tokens.push((text(theirs), text(given)));
            for key in ["11", "21"] {
                expected[1][key] = frame[1][key].clone();
            }
        }
        assert_eq!(frame, expected);
    }
    let given: std::collections::BTreeSet<_> = tokens.iter().map(|(_, given)| given).collect();
    assert_eq!(given.len(), 3, "a token is given once");
}

#[tokio::test]
async fn a_person_can_type_a_call_into_a_websocket_console() {
    let mut socket = open(start_interop().await, Codec::Json).await;
    send_text(&mut socket, "[0, {}]").await;
    assert_eq!(frames(&mut socket).await[0][0], 1);
    send_text(&mut socket, r#" [6, 3, "Interop.add", [20, 22]] "#).await;
    assert_eq!(frames(&mut socket).await, [serde_json::json!([7, 3, 42])]);
    send_text(&mut socket, r#"[6, 3, "Interop.echo", ["aGk="]]"#).await;
    assert_eq!(
        frames(&mut socket).await,
        [serde_json::json!([7, 3, "aGk="])]
    );
}

#[tokio::test]
async fn a_violation_of_the_protocol_is_named_in_the_close_frame() {
    let address = start_interop().await;
    for (messages, code, reason) in [
        (&["[6,3,\"Interop.add\",[1,2]]"][..], 4001, "HELLO"),
        (&["{}"], 4000, "array"),
        (&["nonsense"], 4000, "array"),
        (&["[0,{}]", "[6,3]"], 4000, "elements"),
        (&["[0,{}]", "[20,3]"], 4000, "kind 20"),
        (&["[0,{}]", "[0,{}]"], 4001, "second HELLO"),
        (&["[0,{\"2\":1}]"], 4001, "option 2"),
        (&["[0,{}]", "[6,2,\"Interop.add\",[1,2]]"], 4001, "id #2"),
        (
            &[
                "[0,{}]",
                "[6,3,\"Interop.sleep\",[9999]]",
                "[6,3,\"Interop.add\",[1,2]]",
            ],
            4001,
            "id #3 is in use",
        ),
        (
            &["[0,{}]", "[16,0,\"A.b\"]", "[16,0,\"A.b\"]"],
            4001,
            "alias 0",
        ),
    ] {
        let mut socket = open(address, Codec::Json).await;
        for message in messages {
            send_text(&mut socket, message).await;
        }
        let (came, why) = closed(&mut socket).await;
        assert_eq!(came, code, "{messages:?}: {why}");
        assert!(why.contains(reason), "{messages:?}: {why}");
    }
}

#[tokio::test]
async fn a_message_of_the_wrong_type_or_size_closes_the_connection() {
    let address = start_interop().await;
    let mut socket = open(address, Codec::Json).await;
    socket
        .send(Message::binary(b"[0,{}]".as_slice()))
        .await
        .unwrap();
    assert_eq!(closed(&mut socket).await.0, 1003);

    let mut socket = open(address, Codec::MessagePack).await;
    send_text(&mut socket, "\u{92}").await;
    assert_eq!(closed(&mut socket).await.0, 1003);

    let mut socket = open(address, Codec::MessagePack).await;
    // The header alone says that it will be too large.
    let large = vec![0; (1 << 20) + 1];
    let _ = socket.send(Message::binary(large)).await;
    assert_eq!(closed(&mut socket).await.0, 1009);
}

#[tokio::test]
async fn who_does_not_say_hello_is_hung_up_on() {
    let server = Server::builder()
        .limits(Limits::default().hello_timeout(std::time::Duration::from_millis(100)));
    let mut socket = open(start(server).await, Codec::Json).await;
    assert_eq!(closed(&mut socket).await.0, 4002);
}

/// A masked text message in one frame (RFC 6455 §5.2), with a mask of zeros, which changes nothing.
pub fn text(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x81];
    match payload.len() {
        length @ 0..=125 => frame.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

pub fn upgrade_request(address: SocketAddr, subprotocol: &str) -> String {
    format!(
        "GET / HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: {subprotocol}\r\n\r\n"
    )
}

/// Upgrades a bare socket.
pub async fn upgrade(stream: &mut TcpStream, address: SocketAddr, subprotocol: &str) {
    let request = upgrade_request(address, subprotocol);
    stream.write_all(request.as_bytes()).await.unwrap();
    read_until(stream, b"\r\n\r\n").await;
}

async fn read_until(stream: &mut TcpStream, end: &[u8]) -> Vec<u8> {
    let mut read = Vec::new();
    while !read.ends_with(end) {
        read.push(soon(stream.read_u8()).await.unwrap());
    }
    read
}

#[tokio::test]
async fn frames_that_come_together_with_the_upgrade_request_are_not_lost() {
    let address = start_interop().await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut bytes = upgrade_request(address, "wirecall.v1+json").into_bytes();
    bytes.extend(text(b"[0,{}]"));
    bytes.extend(text(b"[6,3,\"Interop.add\",[20,22]]"));
    stream.write_all(&bytes).await.unwrap();
    read_until(&mut stream, b"[7,3,42]").await;
}

#[tokio::test]
async fn a_message_may_come_in_any_pieces() {
    let address = start_interop().await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    upgrade(&mut stream, address, "wirecall.v1+json").await;
    // A ping in the middle of a fragmented message (RFC 6455 §5.4).
    let mut bytes = text(b"[0,{}]");
    let mut first = text(b"[6,3,\"Interop");
    first[0] = 0x01;
    bytes.extend(first);
    bytes.extend([0x89, 0x82, 0, 0, 0, 0, b'h', b'i']);
    let mut last = text(b".add\",[20,22]]");
    last[0] = 0x80;
    bytes.extend(last);
    for byte in bytes {
        stream.write_all(&[byte]).await.unwrap();
    }
    let read = read_until(&mut stream, b"[7,3,42]").await;
    let pong = [0x8a, 2, b'h', b'i'];
    assert!(read.windows(4).any(|window| window == pong), "{read:?}");
}

#[tokio::test]
async fn the_exchange_in_the_readme_is_what_a_person_gets() {
    let readme = include_str!("../../README.md");
    let (_, exchange) = readme.split_once("```json\n").unwrap();
    let (exchange, _) = exchange.split_once("```").unwrap();
    let mut socket = open(start_interop().await, Codec::Json).await;
    let mut came = Vec::new();
    for line in exchange.lines() {
        let (direction, text) = line.split_once(' ').unwrap();
        if direction == ">" {
            assert!(came.is_empty(), "{came:?} before {line}");
            send_text(&mut socket, text).await;
            continue;
        }
        let expected: Vec<Value> = serde_json::from_str(text).unwrap();
        let expected = match expected.first() {
            Some(Value::Array(_)) => expected,
            _ => vec![expected.into()],
        };
        // How frames are packed into messages is the server's choice.
        while came.len() < expected.len() {
            came.extend(frames(&mut socket).await);
        }
        assert_eq!(came.drain(..expected.len()).collect::<Vec<_>>(), expected);
    }
}
