//! What tungstenite writes we read, and the other way round: whatever the sizes, the fragments,
//! and the pieces in which a stream delivers bytes.

use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use proptest::{collection::vec, prelude::*, sample::Index};
use tokio::io::{DuplexStream, duplex};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message as Wire,
        protocol::frame::{
            Frame,
            coding::{Data, OpCode},
        },
    },
};
use wirecall_core::transport::{MessageKind, Received, Role, Transport as _, WebSocket};

use crate::{
    support::{Chopped, MAX_MESSAGE_BYTES, config, flush, message, receive},
    tungstenite::tungstenite_role,
};

/// A message, and how it is sent if it may come in fragments.
#[derive(Clone, Debug)]
struct Sent {
    kind: MessageKind,
    data: Vec<u8>,
    cuts: Vec<Index>,
    /// Between fragments.
    pings: Vec<Vec<u8>>,
}

impl Sent {
    fn opcode(&self) -> OpCode {
        OpCode::Data(match self.kind {
            MessageKind::Text => Data::Text,
            MessageKind::Binary => Data::Binary,
        })
    }

    /// The message as a whole.
    fn wire(&self) -> Wire {
        let data = Bytes::copy_from_slice(&self.data);
        match self.kind {
            MessageKind::Text => Wire::Text(data.try_into().expect("UTF-8")),
            MessageKind::Binary => Wire::Binary(data),
        }
    }

    /// Its fragments, with pings between them.
    fn fragments(&self) -> Vec<Wire> {
        let mut cuts: Vec<_> = self
            .cuts
            .iter()
            .map(|cut| cut.index(self.data.len() + 1))
            .collect();
        cuts.sort_unstable();
        cuts.push(self.data.len());
        let mut pings = self.pings.iter();
        let mut frames = Vec::new();
        let mut start = 0;
        for (number, end) in cuts.iter().enumerate() {
            let opcode = match number {
                0 => self.opcode(),
                _ => OpCode::Data(Data::Continue),
            };
            let fragment = Bytes::copy_from_slice(&self.data[start..*end]);
            let is_final = number + 1 == cuts.len();
            frames.push(Wire::Frame(Frame::message(fragment, opcode, is_final)));
            start = *end;
            frames.extend(pings.next().cloned().map(|ping| Wire::Ping(ping.into())));
        }
        frames
    }

    /// The pings that [`Sent::fragments`] has.
    fn pings(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.pings.iter().take(self.cuts.len() + 1)
    }
}

fn size() -> impl Strategy<Value = usize> {
    prop_oneof![
        4 => 0..100_usize,
        4 => 123..129_usize,
        2 => 0..5000_usize,
        2 => 65533..65540_usize,
        1 => 0..100_000_usize,
    ]
}

fn sent() -> impl Strategy<Value = Sent> {
    let pings = vec(vec(any::<u8>(), 0..=125), 0..3);
    (any::<bool>(), size(), vec(any::<Index>(), 0..4), pings).prop_map(
        |(is_text, size, cuts, pings)| {
            let (kind, data) = if is_text {
                let characters = "a\u{e9}\u{20ac}\u{1f600}".chars().cycle();
                let text: String = characters.take(size / 2).collect();
                (MessageKind::Text, text.into_bytes())
            } else {
                let data = (0..size).map(|n| (n * 31 % 253) as u8).collect();
                (MessageKind::Binary, data)
            };
            Sent {
                kind,
                data,
                cuts,
                pings,
            }
        },
    )
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Client), Just(Role::Server)]
}

/// For [`Chopped`]: byte by byte, but not for all of a long message.
fn sizes() -> impl Strategy<Value = Vec<usize>> {
    let size = prop_oneof![Just(0), Just(1), 1..20_usize, 1..5000_usize, Just(1 << 20)];
    (vec(size, 0..6), 200..2000_usize).prop_map(|(mut sizes, large)| {
        sizes.push(large);
        sizes
    })
}

fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread();
    { runtime }.build().expect("a runtime").block_on(future)
}

/// One of ours, that plays `role` over a chopped stream, and one of tungstenite's.
async fn pair(
    role: Role,
    sizes: Vec<usize>,
) -> (
    WebSocket<Chopped<DuplexStream>>,
    WebSocketStream<DuplexStream>,
) {
    let (ours, theirs) = duplex(100_000);
    let ours = Chopped::new(ours, sizes);
    let other = match role {
        Role::Client => Role::Server,
        Role::Server => Role::Client,
    };
    (
        WebSocket::new(ours, Bytes::new(), role, MAX_MESSAGE_BYTES),
        WebSocketStream::from_raw_socket(theirs, tungstenite_role(other), None).await,
    )
}

proptest! {
    #![proptest_config(config(40))]

    #[test]
    fn what_tungstenite_writes_is_read(
        role in role(),
        messages in vec(sent(), 0..8),
        sizes in sizes(),
    ) {
        block_on(async {
            let (mut ours, mut theirs) = pair(role, sizes).await;
            let frames: Vec<_> = messages.iter().flat_map(Sent::fragments).collect();
            let writing = async {
                for frame in frames {
                    theirs.feed(frame).await.unwrap();
                }
                theirs.flush().await.unwrap();
                theirs
            };
            let reading = async {
                for sent in &messages {
                    let received = receive(&mut ours).await.unwrap();
                    assert!(received == message(sent.kind, &sent.data), "{} bytes", sent.data.len());
                }
            };
            let (mut theirs, ()) = tokio::join!(writing, reading);
            // A last one, behind which nothing is left unanswered.
            theirs.send(Wire::Ping(Bytes::new())).await.unwrap();
            ours.send(MessageKind::Binary, b"end").unwrap();
            let mut pongs = Vec::new();
            let answering = async {
                loop {
                    flush(&mut ours).await;
                    let receiving = std::future::poll_fn(|cx| match ours.poll_receive(cx) {
                        _ if ours.has_unflushed() => std::task::Poll::Ready(()),
                        _ => std::task::Poll::Pending,
                    });
                    receiving.await;
                }
            };
            let expected = messages.iter().flat_map(Sent::pings).count() + 1;
            let collecting = async {
                while pongs.len() < expected {
                    if let Wire::Pong(pong) = theirs.next().await.unwrap().unwrap() {
                        pongs.push(pong.to_vec());
                    }
                }
            };
            tokio::select! {
                () = answering => {}
                () = collecting => {}
            }
            let nothing = Vec::new();
            let expected: Vec<_> = messages.iter().flat_map(Sent::pings).chain([&nothing]).collect();
            assert_eq!(pongs.iter().collect::<Vec<_>>(), expected);
        });
    }

    #[test]
    fn tungstenite_reads_what_is_written(
        role in role(),
        messages in vec(sent(), 0..8),
        sizes in sizes(),
        flushes in vec(any::<bool>(), 8),
    ) {
        block_on(async {
            let (mut ours, mut theirs) = pair(role, sizes).await;
            let writing = async {
                for (sent, is_flushed) in messages.iter().zip(flushes) {
                    ours.send(sent.kind, &sent.data).unwrap();
                    if is_flushed {
                        flush(&mut ours).await;
                    }
                }
                flush(&mut ours).await;
            };
            let reading = async {
                for sent in &messages {
                    let received = theirs.next().await.unwrap().unwrap();
                    assert!(received == sent.wire(), "{} bytes", sent.data.len());
                }
            };
            tokio::join!(writing, reading);
        });
    }

    #[test]
    fn both_ends_of_ours_understand_each_other(
        role in role(),
        messages in vec(sent(), 0..8),
        sizes in sizes(),
    ) {
        block_on(async {
            let (ours, theirs) = duplex(100_000);
            let other = match role {
                Role::Client => Role::Server,
                Role::Server => Role::Client,
            };
            let ours = Chopped::new(ours, sizes);
            let mut ours = WebSocket::new(ours, Bytes::new(), role, MAX_MESSAGE_BYTES);
            let mut theirs = WebSocket::new(theirs, Bytes::new(), other, MAX_MESSAGE_BYTES);
            let mut received: Vec<Received> = Vec::new();
            let writing = async {
                for sent in &messages {
                    ours.send(sent.kind, &sent.data).unwrap();
                }
                flush(&mut ours).await;
            };
            let reading = async {
                while received.len() < messages.len() {
                    received.push(receive(&mut theirs).await.unwrap());
                }
            };
            tokio::join!(writing, reading);
            let expected: Vec<_> = messages
                .iter()
                .map(|sent| message(sent.kind, &sent.data))
                .collect();
            assert!(received == expected);
        });
    }
}
