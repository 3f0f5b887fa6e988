//! A client in another language, as `docs/PROTOCOL.md` has it, against the interop server's hub: frames
//! by hand, in both codecs.

use std::net::SocketAddr;

use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use wirecall::{Codec, Server};

use crate::{
    interop_hub::with_hub,
    raw_client::{Socket, closed, open},
    raw_frames::{frames_of, is_counted, message},
    support::{soon, start},
};

/// One session, on whichever connection. It counts what the protocol counts (W-ORD-4).
struct Foreign {
    address: SocketAddr,
    codec: Codec,
    socket: Socket,
    came: Vec<Value>,
    token: Value,
    received: u64,
    sent: u64,
}

impl Foreign {
    /// Begins a session, with a credential if there is one.
    async fn begin(address: SocketAddr, codec: Codec, credential: Option<&str>) -> Foreign {
        let mut client = Foreign {
            address,
            codec,
            socket: open(address, codec).await,
            came: Vec::new(),
            token: Value::Null,
            received: 0,
            sent: 0,
        };
        let mut options = json!({"19": 65536});
        if let Some(credential) = credential {
            options["35"] = credential.into();
        }
        client.send(&[json!([0, options])]).await;
        let welcome = client.next().await;
        assert_eq!(welcome[0], 1, "{welcome}");
        client.token = welcome[1]["21"].clone();
        client
    }

    /// Goes on with the session on another connection (W-RESUME-6).
    async fn resume(&mut self, credential: &str) {
        self.socket = open(self.address, self.codec).await;
        let hello = json!([0, {
            "19": 65536, "21": self.token, "23": self.received, "25": self.sent, "35": credential
        }]);
        self.send(&[hello]).await;
        let welcome = self.next().await;
        assert_eq!(welcome[0], 1, "{welcome}");
        assert_eq!(welcome[1]["29"], Value::Null, "{welcome}");
        assert_eq!(welcome[1]["23"], self.sent, "all was received");
        self.token = welcome[1]["21"].clone();
    }

    /// In one message.
    async fn send(&mut self, frames: &[Value]) {
        let counted = frames
            .iter()
            .filter(|frame| is_counted(frame[0].as_u64().unwrap()));
        self.sent += counted.count() as u64;
        let message = message(self.codec, frames);
        self.socket.send(message).await.unwrap();
    }

    /// The next frame that belongs to the session; nothing if the connection has ended without a Close.
    async fn try_next(&mut self) -> Option<Value> {
        loop {
            while self.came.is_empty() {
                match soon(self.socket.next()).await {
                    Some(Ok(Message::Close(close))) => panic!("{close:?}"),
                    Some(Ok(message)) => self.came = frames_of(message),
                    _ => return None,
                }
            }
            let frame = self.came.remove(0);
            let kind = frame[0].as_u64().unwrap();
            self.received += u64::from(is_counted(kind));
            if !(2..=4).contains(&kind) {
                return Some(frame);
            }
        }
    }

    async fn next(&mut self) -> Value {
        self.try_next().await.expect("the connection has ended")
    }

    /// Makes a call that nothing else comes before the answer of.
    async fn call(&mut self, method: &str, arguments: Value) -> Value {
        self.send(&[request(3, method, None, arguments)]).await;
        let answer = self.next().await;
        assert_eq!((&answer[0], &answer[1]), (&json!(7), &json!(3)), "{answer}");
        answer[2].clone()
    }
}

fn request(id: u64, method: &str, options: Option<Value>, arguments: Value) -> Value {
    let method = format!("InteropHub.{method}");
    match options {
        Some(options) => json!([6, id, method, options, arguments]),
        None => json!([6, id, method, arguments]),
    }
}

async fn server() -> SocketAddr {
    start(with_hub(Server::builder())).await
}

/// W-TOPIC-1 to W-TOPIC-4, W-TOPIC-8: history, what is published, and coming back by position.
#[tokio::test]
async fn a_topic_is_followed_and_gone_on_with_by_hand() {
    for codec in Codec::ALL {
        let address = server().await;
        let mut bob = Foreign::begin(address, codec, Some("bob-token")).await;
        for (offset, text) in (1..).zip(["one", "two", "three"]) {
            let published = bob.call("publish", json!(["room", text])).await;
            assert_eq!(published["offset"], offset, "{published}");
        }
        let position = bob.call("position", json!(["room"])).await;
        let epoch = &position["epoch"];
        assert_eq!(position["offset"], 3);

        let mut alice = Foreign::begin(address, codec, Some("alice-token")).await;
        let options = Some(json!({"6": 2}));
        // The last argument is left out (W-BODY-12).
        let subscribe = request(3, "subscribe", options, json!(["room", 2]));
        alice.send(&[subscribe]).await;
        assert_eq!(alice.next().await, json!([17, 3, {"5": epoch, "7": 1}]));
        assert_eq!(alice.next().await, json!([9, 3, [2, "two"]]));
        assert_eq!(alice.next().await, json!([9, 3, [3, "three"]]));
        let published = bob.call("publish", json!(["room", "four"])).await;
        assert_eq!(published["sent"], 1, "{published}");
        assert_eq!(alice.next().await, json!([9, 3, [4, "four"]]));
        // 16 items at first, of which three were taken (W-FLOW-5).
        alice.send(&[json!([11, 3, 3, 15])]).await;
        for number in 5..=22 {
            bob.call("publish", json!(["room", "more"])).await;
            if number <= 20 {
                assert_eq!(alice.next().await, json!([9, 3, [number, "more"]]));
            }
        }
        alice.send(&[json!([12, 3])]).await;
        let ended = alice.next().await;
        assert_eq!((&ended[0], &ended[2]), (&json!(8), &json!(1)), "{ended}");
        drop(alice);

        // Another session, behind the last item that has come.
        let mut alice = Foreign::begin(address, codec, Some("alice-token")).await;
        let options = Some(json!({"6": 2, "5": epoch, "7": 20}));
        let subscribe = request(3, "subscribe", options, json!(["room", 2]));
        alice.send(&[subscribe]).await;
        let opened = json!([17, 3, {"5": epoch, "7": 20, "9": 1}]);
        assert_eq!(alice.next().await, opened);
        assert_eq!(alice.next().await, json!([9, 3, [21, "more"]]));
        assert_eq!(alice.next().await, json!([9, 3, [22, "more"]]));

        // A position in the arguments, of another epoch: nobody knows what was missed.
        let other = json!({"epoch": 0, "offset": 5});
        let subscribe = request(5, "subscribe", None, json!(["room", null, other]));
        alice.send(&[subscribe]).await;
        let opened = json!([17, 5, {"5": epoch, "7": 22, "9": 2}]);
        assert_eq!(alice.next().await, opened);
    }
}

/// W-TOPIC-3, W-TOPIC-5, W-TOPIC-6: what the history has no more, and what is left out.
#[tokio::test]
async fn gaps_are_seen_by_hand() {
    for codec in Codec::ALL {
        let address = server().await;
        let mut bob = Foreign::begin(address, codec, Some("bob-token")).await;
        for text in ["a", "b", "c", "d", "e"] {
            bob.call("publish", json!(["short.room", text])).await;
        }
        let position = bob.call("position", json!(["short.room"])).await;
        let epoch = &position["epoch"];
        let mut alice = Foreign::begin(address, codec, Some("alice-token")).await;
        let options = Some(json!({"5": epoch, "7": 1}));
        let subscribe = request(3, "subscribe", options, json!(["short.room"]));
        alice.send(&[subscribe]).await;
        let opened = json!([17, 3, {"5": epoch, "7": 2, "9": 2, "11": 1}]);
        assert_eq!(alice.next().await, opened);
        for item in [json!([3, "c"]), json!([4, "d"]), json!([5, "e"])] {
            assert_eq!(alice.next().await, json!([9, 3, item]));
        }

        // Credit for one item, and two keys.
        let options = Some(json!({"2": 1}));
        let subscribe = request(5, "subscribe", options, json!(["conflated.prices"]));
        alice.send(&[subscribe]).await;
        assert_eq!(alice.next().await[0], 17);
        for text in ["eur=1", "usd=1", "eur=2", "usd=2", "eur=3"] {
            bob.call("publish", json!(["conflated.prices", text])).await;
        }
        assert_eq!(alice.next().await, json!([9, 5, [1, "eur=1"]]));
        alice.send(&[json!([11, 5, 8, 6])]).await;
        assert_eq!(alice.next().await, json!([9, 5, [4, "usd=2"]]));
        assert_eq!(alice.next().await, json!([9, 5, [5, "eur=3"]]));

        // One that is sent, four that wait, and one too many.
        let options = Some(json!({"2": 1}));
        let subscribe = request(7, "subscribe", options, json!(["strict.room"]));
        alice.send(&[subscribe]).await;
        assert_eq!(alice.next().await[0], 17);
        for number in 1..=6 {
            bob.call("publish", json!(["strict.room", "x"])).await;
            if number == 1 {
                assert_eq!(alice.next().await, json!([9, 7, [1, "x"]]));
            }
        }
        let ended = alice.next().await;
        let expected = [json!(8), json!(7), json!(8)];
        assert_eq!(ended.as_array().unwrap()[..3], expected, "{ended}");
    }
}

/// W-RESUME-6, W-TOPIC-7: the connection is dropped, and neither an answer nor an item is lost.
#[tokio::test]
async fn a_session_with_a_subscription_goes_on_by_hand() {
    for codec in Codec::ALL {
        let address = server().await;
        let mut bob = Foreign::begin(address, codec, Some("bob-token")).await;
        let mut alice = Foreign::begin(address, codec, Some("alice-token")).await;
        let subscribe = request(3, "subscribe", Some(json!({"6": 2})), json!(["room"]));
        alice.send(&[subscribe]).await;
        assert_eq!(alice.next().await[0], 17);
        bob.call("publish", json!(["room", "before"])).await;
        assert_eq!(alice.next().await, json!([9, 3, [1, "before"]]));

        alice
            .send(&[request(5, "interrupt", None, json!([]))])
            .await;
        assert_eq!(alice.try_next().await, None, "no answer, and no Close");
        let published = bob.call("publish", json!(["room", "meanwhile"])).await;
        assert_eq!(published["sent"], 1, "{published}");
        assert_eq!(bob.call("users", json!([])).await, json!(["alice", "bob"]));

        // Another credential of the same user (W-AUTH-7).
        alice.resume("alice-token-2").await;
        let mut came = [alice.next().await, alice.next().await];
        came.sort_by_key(|frame| frame[0].as_u64());
        let expected = [json!([7, 5, null]), json!([9, 3, [2, "meanwhile"]])];
        assert_eq!(came, expected);
        bob.call("publish", json!(["room", "after"])).await;
        assert_eq!(alice.next().await, json!([9, 3, [3, "after"]]));
    }
}

/// W-AUTH-2, W-AUTH-4, W-AUTH-5, W-AUTH-8: who one is, and what one may do.
#[tokio::test]
async fn credentials_are_said_by_hand() {
    for codec in Codec::ALL {
        let address = server().await;
        let mut guest = Foreign::begin(address, codec, None).await;
        assert_eq!(guest.call("whoami", json!([])).await["user"], "guest");
        guest.send(&[request(3, "admin", None, json!([]))]).await;
        let refused = guest.next().await;
        assert_eq!((&refused[0], &refused[2]), (&json!(8), &json!(7)));
        assert_eq!(refused[4], json!({"1": 1}), "not executed");

        let mut alice = Foreign::begin(address, codec, Some("alice-token")).await;
        let whoami = alice.call("whoami", json!([])).await;
        assert_eq!(
            (&whoami["user"], &whoami["scopes"]),
            (&json!("alice"), &json!(["admin"]))
        );
        assert_eq!(alice.call("admin", json!([])).await, "alice");

        let mut carol = Foreign::begin(address, codec, Some("brief-token")).await;
        carol.send(&[json!([18, {"35": "brief-token"}])]).await;
        let renewed = carol.next().await;
        assert_eq!(renewed[0], 18);
        let good_for_ms = renewed[1]["37"].as_u64().unwrap();
        assert!((1..=5000).contains(&good_for_ms), "{renewed}");

        for (credential, code) in [("mallory-token", 4100), ("unavailable-token", 1013)] {
            let mut socket = open(address, codec).await;
            let hello = message(codec, &[json!([0, {"35": credential}])]);
            socket.send(hello).await.unwrap();
            assert_eq!(closed(&mut socket).await.0, code);
        }
    }
}

/// W-NOTE-4, W-DRAIN-1, W-CLOSE-2: who comes and goes, what may be lost, and being sent away.
#[tokio::test]
async fn presence_hints_and_ends_are_seen_by_hand() {
    for codec in Codec::ALL {
        let address = server().await;
        let mut alice = Foreign::begin(address, codec, Some("alice-token")).await;
        let presence = request(3, "presence", Some(json!({"6": 2})), json!([]));
        alice.send(&[presence]).await;
        assert_eq!(alice.next().await, json!([17, 3]));
        let mut bob = Foreign::begin(address, codec, Some("bob-token")).await;
        assert_eq!(alice.next().await, json!([9, 3, {"Came": "bob"}]));

        bob.send(&[request(3, "hint", None, json!([2]))]).await;
        let (mut hints, mut answers) = (Vec::new(), 0);
        while hints.len() < 2 || answers == 0 {
            let frame = bob.next().await;
            match frame[0].as_u64() {
                Some(14) => hints.push(frame[2].clone()),
                Some(7) => answers += 1,
                // Of the method that is called `InteropHubEvents.hint`.
                Some(16) => assert_eq!(frame[2], "InteropHubEvents.hint"),
                _ => panic!("{frame}"),
            }
        }
        assert_eq!(hints, [json!([0]), json!([1])]);

        bob.send(&[request(3, "send_away", None, json!([]))]).await;
        let mut frames = [bob.next().await, bob.next().await];
        frames.sort_by_key(|frame| frame[0].as_u64());
        assert_eq!(frames[0].as_array().unwrap()[..2], [json!(5), json!(4200)]);
        assert_eq!(frames[1], json!([7, 3, null]));
        // What is begun now is refused (W-DRAIN-1), and closing the connection is the client's part.
        bob.send(&[request(3, "users", None, json!([]))]).await;
        let refused = bob.next().await;
        assert_eq!((&refused[0], &refused[2]), (&json!(8), &json!(14)));
        bob.socket.close(None).await.unwrap();
        assert_eq!(alice.next().await, json!([9, 3, {"Went": "bob"}]));

        alice
            .send(&[request(5, "close", None, json!([4104]))])
            .await;
        assert_eq!(closed(&mut alice.socket).await.0, 4104);
    }
}
