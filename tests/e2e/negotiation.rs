//! The opening handshake, seen from either side by one who speaks HTTP by hand.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use wirecall::{Client, Codec, ConnectError, Server};

use crate::{
    interop::{Implementation, InteropClient, InteropServer},
    support::{connect, dial, soon, start, start_interop},
};

/// The lines of an upgrade request that is in order.
const UPGRADE: [&str; 7] = [
    "GET / HTTP/1.1",
    "Host: localhost",
    "Connection: keep-alive, Upgrade",
    "Upgrade: WebSocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Protocol: wirecall.v1+msgpack",
];

/// Sends the request with some of its lines replaced, by their beginning, and returns the answer.
pub async fn ask(address: SocketAddr, changes: &[(&str, &str)]) -> String {
    let mut request = String::new();
    for line in UPGRADE {
        let change = changes.iter().find(|(begin, _)| line.starts_with(begin));
        let line = change.map_or(line, |(_, line)| line);
        if !line.is_empty() {
            request.push_str(line);
            request.push_str("\r\n");
        }
    }
    request.push_str("\r\n");
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    read_head_and_body(&mut stream).await
}

pub async fn read_head_and_body(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    loop {
        let mut byte = [0];
        if soon(stream.read(&mut byte)).await.unwrap() == 0 {
            break;
        }
        answer.push(byte[0]);
        let text = String::from_utf8_lossy(&answer).to_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |length| length.parse().unwrap());
            if body.len() >= length {
                break;
            }
        }
    }
    String::from_utf8(answer).unwrap()
}

#[track_caller]
pub fn assert_answer(answer: &str, status: u16, parts: &[&str]) {
    assert!(
        answer.starts_with(&format!("HTTP/1.1 {status} ")),
        "{answer}"
    );
    for part in parts {
        assert!(
            answer.to_lowercase().contains(&part.to_lowercase()),
            "no {part:?} in {answer}"
        );
    }
    if status != 101 {
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        assert_eq!(body.lines().count(), 1, "{answer}");
    }
}

#[tokio::test]
async fn an_upgrade_request_is_accepted_as_rfc_6455_has_it() {
    let address = start_interop().await;
    let answer = ask(address, &[]).await;
    // The accept value for this key stands in RFC 6455 §1.3.
    assert_answer(
        &answer,
        101,
        &[
            "upgrade: websocket",
            "connection: upgrade",
            "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
            "sec-websocket-protocol: wirecall.v1+msgpack\r\n",
        ],
    );
}

#[tokio::test]
async fn the_first_subprotocol_of_the_client_that_the_server_supports_is_picked() {
    let address = start_interop().await;
    for (offer, picked) in [
        ("wirecall.v1+json, wirecall.v1+msgpack", "wirecall.v1+json"),
        (
            "wirecall.v1+msgpack,wirecall.v1+json",
            "wirecall.v1+msgpack",
        ),
        (
            "graphql-ws, wirecall.v9+msgpack, wirecall.v1+json",
            "wirecall.v1+json",
        ),
        (
            "graphql-ws\r\nSec-WebSocket-Protocol: wirecall.v1+json",
            "wirecall.v1+json",
        ),
    ] {
        let offer = format!("Sec-WebSocket-Protocol: {offer}");
        let answer = ask(address, &[("Sec-WebSocket-Protocol", &offer)]).await;
        let echoed = format!("sec-websocket-protocol: {picked}\r\n");
        assert_answer(&answer, 101, &[&echoed]);
    }

    let json_only = Server::builder().codecs([Codec::Json]);
    let address = start(json_only.service(InteropServer::new(Implementation))).await;
    let client = Client::connect(format!("ws://{address}")).await.unwrap();
    assert_eq!(client.peer().codec(), Codec::Json);
}

#[tokio::test]
async fn a_request_that_is_no_upgrade_gets_a_status_and_a_line_that_says_why() {
    let address = start_interop().await;
    let both = "wirecall.v1+msgpack, wirecall.v1+json";
    for (changes, status, parts) in [
        (("Upgrade", ""), 426, vec![both, "upgrade: websocket"]),
        (("Upgrade", "Upgrade: h2c"), 426, vec![both]),
        (("Connection", "Connection: keep-alive"), 426, vec![both]),
        (
            ("Sec-WebSocket-Version", "Sec-WebSocket-Version: 8"),
            426,
            vec!["sec-websocket-version: 13"],
        ),
        (("Sec-WebSocket-Version", ""), 426, vec!["version 13"]),
        (("Sec-WebSocket-Key", ""), 400, vec!["16 bytes"]),
        (
            ("Sec-WebSocket-Key", "Sec-WebSocket-Key: dG9vIHNob3J0"),
            400,
            vec!["16 bytes"],
        ),
        (("Sec-WebSocket-Protocol", ""), 400, vec![both]),
        (
            ("Sec-WebSocket-Protocol", "Sec-WebSocket-Protocol: chat"),
            400,
            vec![both],
        ),
        (("GET", "POST / HTTP/1.1"), 405, vec!["allow: get"]),
        (
            ("GET", "GET /elsewhere HTTP/1.1"),
            404,
            vec!["endpoint is /"],
        ),
        (("Host", "Host: evil.example"), 403, vec!["evil.example"]),
        (
            ("Host", "Host: localhost\r\nOrigin: https://evil.example"),
            403,
            vec!["https://evil.example"],
        ),
    ] {
        let answer = ask(address, &[changes]).await;
        assert_answer(&answer, status, &parts);
    }
}

#[tokio::test]
async fn a_request_without_exactly_one_host_is_refused() {
    let address = start_interop().await;
    for lines in [
        "",
        "Host:",
        "Host: localhost\r\nHost: localhost",
        // What is the same as an empty host must not be let in for that.
        "Host:\r\nOrigin: http://",
    ] {
        let answer = ask(address, &[("Host", lines)]).await;
        assert_answer(&answer, 400, &["names one Host"]);
    }
}

#[tokio::test]
async fn a_listener_for_both_families_is_a_loopback_listener_to_whom_reaches_it_by_loopback() {
    // A machine without IPv6 has no such listener.
    let Ok(listener) = TcpListener::bind("[::]:0").await else {
        return;
    };
    let port = listener.local_addr().unwrap().port();
    let server = Server::builder().build().unwrap().and_listen(listener);
    tokio::spawn(server.run());
    for (host, status) in [("evil.example", 403), ("localhost", 101)] {
        for address in [
            SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
        ] {
            let host = format!("Host: {host}");
            let answer = ask(address, &[("Host", &host)]).await;
            assert_answer(&answer, status, &[]);
        }
    }
}

#[tokio::test]
async fn origins_and_hosts_are_let_in_by_exact_lists() {
    let server = Server::builder()
        .service(InteropServer::new(Implementation))
        .allow_origin("https://app.example")
        .allow_host("dev.example:9000");
    let address = start(server).await;
    for (host, origin, status) in [
        ("localhost", "Origin: https://app.example", 101),
        ("localhost", "Origin: https://app.example.evil.example", 403),
        ("localhost", "Origin: http://app.example", 403),
        ("localhost", "Origin: http://localhost", 101),
        ("localhost", "Origin: null", 403),
        ("dev.example:9000", "X: y", 101),
        ("dev.example", "X: y", 403),
    ] {
        let lines = format!("Host: {host}\r\n{origin}");
        let answer = ask(address, &[("Host", &lines)]).await;
        assert_answer(&answer, status, &[]);
    }
}

#[tokio::test]
async fn the_port_answers_plain_http_too() {
    let address = start_interop().await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    // One after the other on one connection.
    for _ in 0..2 {
        let request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let answer = read_head_and_body(&mut stream).await;
        assert_answer(&answer, 200, &["ok"]);
    }
    let answer = ask(address, &[("GET", "POST /healthz HTTP/1.1")]).await;
    assert_answer(&answer, 405, &["allow: get, head"]);
    let answer = ask(address, &[("GET", "garbage")]).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
}

#[tokio::test]
async fn path_headers_and_address_reach_the_handlers() {
    let server = Server::builder()
        .service(InteropServer::new(Implementation))
        .path("/rpc");
    let address = start(server).await;
    let client = Client::builder(format!("ws://{address}/rpc?version=2"))
        .header("User-Agent", "test/1")
        .connect()
        .await
        .unwrap();
    let info = InteropClient::new(&client).peer_info().await.unwrap();
    assert_eq!(info.uri, "/rpc?version=2");
    assert_eq!(info.user_agent.as_deref(), Some("test/1"));

    let failed = Client::connect(format!("ws://{address}/"))
        .await
        .unwrap_err();
    let ConnectError::Refused { status, body } = failed else {
        panic!("{failed:?}");
    };
    assert_eq!(status, 404);
    assert_eq!(body, "nothing here; the RPC endpoint is /rpc");
}

#[tokio::test]
async fn a_path_needs_no_slash_and_an_empty_offer_is_an_error_at_once() {
    let server = Server::builder()
        .service(InteropServer::new(Implementation))
        .path("rpc");
    let address = start(server).await;
    let client = Client::connect(format!("ws://{address}/rpc")).await;
    assert!(client.is_ok());

    let server = Server::builder().codecs([]).build();
    assert!(matches!(server, Err(wirecall::BuildError::NoCodec)));
    let builder = Client::builder(format!("ws://{address}/rpc")).codecs([]);
    let failed = builder.connect().await.unwrap_err();
    assert!(matches!(failed, ConnectError::NoCodec), "{failed:?}");
}

#[tokio::test]
async fn a_full_server_answers_503() {
    let server = Server::builder()
        .service(InteropServer::new(Implementation))
        .max_connections(1);
    let address = start(server).await;
    let client = connect(address, Codec::MessagePack).await;
    let failed = dial(address, Codec::MessagePack)
        .connect()
        .await
        .unwrap_err();
    match failed {
        ConnectError::Refused { status: 503, .. } => {}
        // The socket was closed before the request was read.
        ConnectError::Http(_) | ConnectError::Io(_) => {}
        other => panic!("{other:?}"),
    }
    client.close().await;
    // Its place is free again once the closing handshake is over.
    soon(async {
        while dial(address, Codec::MessagePack).connect().await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn unusable_endpoints_are_named() {
    for url in [
        "http://localhost",
        "wss://localhost",
        "ws://localhost:99999",
        "not a url",
    ] {
        let failed = Client::connect(url).await.unwrap_err();
        assert!(matches!(failed, ConnectError::Url(_)), "{failed:?}");
        assert!(failed.to_string().contains(url), "{failed}");
    }
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = unused.local_addr().unwrap();
    drop(unused);
    let failed = Client::connect(format!("ws://{address}"))
        .await
        .unwrap_err();
    assert!(matches!(failed, ConnectError::Io(_)), "{failed:?}");

    let address = start_interop().await;
    for (name, value) in [("bad name", "x"), ("x", "bad\nvalue"), ("Host", "x")] {
        let builder = dial(address, Codec::MessagePack).header(name, value);
        let failed = builder.connect().await.unwrap_err();
        assert!(matches!(failed, ConnectError::Header(_)), "{failed:?}");
    }
}

/// Reads an upgrade request and returns its key.
async fn read_key(stream: &mut TcpStream) -> String {
    let mut request = String::new();
    while !request.ends_with("\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).await.unwrap();
        request.push(byte[0].into());
    }
    let lower = request.to_lowercase();
    let start = lower.find("sec-websocket-key: ").unwrap() + "sec-websocket-key: ".len();
    request[start..].lines().next().unwrap().to_owned()
}

/// What a server says when all is well.
pub fn switching(key: &str, subprotocol: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\nSec-WebSocket-Protocol: {subprotocol}\r\n\r\n",
        derive_accept_key(key.as_bytes())
    )
}

/// Accepts an upgrade without a library.
pub async fn upgrade_by_hand(mut stream: TcpStream, subprotocol: &str) -> TcpStream {
    let key = read_key(&mut stream).await;
    let answer = switching(&key, subprotocol);
    stream.write_all(answer.as_bytes()).await.unwrap();
    stream
}

/// Connects to a server that answers whatever `answer` makes of the key.
async fn connect_to(answer: impl FnOnce(&str) -> String + Send + 'static) -> ConnectError {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let key = read_key(&mut stream).await;
        let _ = stream.write_all(answer(&key).as_bytes()).await;
        // Stays open until the client has seen it.
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    let builder = dial(address, Codec::MessagePack);
    soon(builder.connect()).await.unwrap_err()
}

#[tokio::test]
async fn a_server_that_breaks_the_handshake_is_refused_by_the_client() {
    let right = |key: &str| switching(key, "wirecall.v1+msgpack");
    for (change, why) in [
        (("Accept: ", "Accept: x"), "Sec-WebSocket-Accept"),
        (("+msgpack", "+json"), "no subprotocol that was offered"),
        (
            ("Sec-WebSocket-Protocol: wirecall.v1+msgpack\r\n", ""),
            "no subprotocol",
        ),
        (
            (
                "Upgrade: websocket\r\n",
                "Upgrade: websocket\r\nSec-WebSocket-Extensions: x\r\n",
            ),
            "extension",
        ),
        (("Upgrade: websocket", "Upgrade: h2c"), "something else"),
    ] {
        let (from, to) = change;
        let failed = connect_to(move |key| right(key).replacen(from, to, 1)).await;
        assert!(matches!(failed, ConnectError::Handshake(_)), "{failed:?}");
        assert!(failed.to_string().contains(why), "{failed}");
    }
}

#[tokio::test]
async fn a_refusal_carries_status_and_body_and_never_too_much_of_it() {
    let failed = connect_to(|_| {
        "HTTP/1.1 401 Unauthorized\r\nContent-Length: 10\r\n\r\nlog in now".to_owned()
    })
    .await;
    let ConnectError::Refused { status, body } = failed else {
        panic!("{failed:?}");
    };
    assert_eq!((status, &*body), (401, "log in now"));

    let failed = connect_to(|_| {
        let body = "x".repeat(1 << 20);
        format!(
            "HTTP/1.1 500 X\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    })
    .await;
    let ConnectError::Refused { status, body } = failed else {
        panic!("{failed:?}");
    };
    assert_eq!(status, 500);
    assert!(body.len() <= 4096);

    let failed = connect_to(|_| "SSH-2.0-x\r\n\r\n".to_owned()).await;
    assert!(matches!(failed, ConnectError::Http(_)), "{failed:?}");
}
