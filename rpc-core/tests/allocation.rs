//! What a peer sends costs memory in proportion to its bytes, and lengths that it only claims cost
//! nothing.
//!
//! The memory is that of the process, as Linux counts it, since an allocator of one's own cannot be
//! written without `unsafe`.

#![cfg(target_os = "linux")]

use std::{collections::HashMap, fs};

use bytes::Bytes as Message;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::Instant;
use wirecall_core::{
    Bytes, Codec, Limits,
    body::{self, args},
    protocol::{Connection, Events, Frames, Position, Resolve, Side, Target},
};

/// What other threads and the allocator's own bookkeeping may add.
const SLACK_BYTES: usize = 1 << 20;

/// What a process has reserved and touched, in bytes: now, and at most so far.
#[derive(Clone, Copy)]
struct Memory {
    reserved: usize,
    peak_reserved: usize,
    touched: usize,
    peak_touched: usize,
}

impl Memory {
    fn read() -> Self {
        let status = fs::read_to_string("/proc/self/status").expect("procfs");
        let field = |name: &str| -> usize {
            let line = status.lines().find(|line| line.starts_with(name));
            let kib = line.and_then(|line| line.split_ascii_whitespace().nth(1)?.parse().ok());
            kib.map_or_else(|| panic!("no {name}"), |kib: usize| kib << 10)
        };
        Memory {
            reserved: field("VmSize:"),
            peak_reserved: field("VmPeak:"),
            touched: field("VmRSS:"),
            peak_touched: field("VmHWM:"),
        }
    }
}

/// Asserts that the peaks have stayed within the bound, counted from where the test began, or have
/// not moved since. Peaks are never forgotten: tighter bounds come first.
fn assert_within(start: Memory, bound: usize, what: &str) {
    let now = Memory::read();
    // An allocator reserves much for a new thread, and gives most of it back at once.
    let reserved = start.peak_reserved.max(start.reserved + bound);
    let touched = start.peak_touched.max(start.touched + bound);
    assert!(now.peak_reserved <= reserved, "{what} reserves too much");
    assert!(
        now.peak_touched <= touched,
        "{what} touches {} bytes",
        now.peak_touched.saturating_sub(start.touched)
    );
}

struct NoMethods;

impl Resolve for NoMethods {
    fn resolve(&self, _: &str) -> Option<Target> {
        None
    }
}

/// Reads a message as frames with their options, and as the peer of a connection does.
fn read(codec: Codec, message: &[u8]) {
    for frame in Frames::new(codec, message) {
        let Ok(frame) = frame else { break };
        frame.options.entries().for_each(drop);
    }
    let mut connection = Connection::new(Side::Acceptor, codec, Limits::default());
    let hello = match codec {
        Codec::MessagePack => Message::from_static(&[0x92, 0, 0x80]),
        _ => Message::from_static(b"[0,{}]"),
    };
    for message in [hello, Message::copy_from_slice(message)] {
        let _ = connection.receive(
            &message,
            &mut Position::default(),
            usize::MAX,
            Instant::now(),
            &NoMethods,
            &mut Events::default(),
        );
    }
}

fn read_body(bytes: &[u8]) {
    fn decode<T: DeserializeOwned>(bytes: &[u8]) {
        assert!(body::decode::<T>(Codec::MessagePack, bytes).is_err());
        let _ = args::decode::<(T, Option<T>)>(Codec::MessagePack, bytes, &["a", "b"]);
    }
    decode::<Vec<u64>>(bytes);
    decode::<Vec<Vec<Vec<[u64; 32]>>>>(bytes);
    decode::<HashMap<u64, u64>>(bytes);
    decode::<String>(bytes);
    decode::<Bytes>(bytes);
    decode::<Value>(bytes);
}

/// How long the longer hostile messages are.
const MESSAGE_BYTES: usize = 256 << 10;

/// Repeated to a whole message.
fn repeated(begin: &[u8], middle: &[u8], end: &[u8]) -> Vec<u8> {
    let times = (MESSAGE_BYTES - begin.len() - end.len()) / middle.len();
    [begin, &middle.repeat(times), end].concat()
}

/// A REQUEST with as many options as there is room for.
fn many_options(entry: &[u8]) -> Vec<u8> {
    let entries = (MESSAGE_BYTES - 20) / entry.len();
    let count = u32::try_from(entries).expect("fits").to_be_bytes();
    let begin = [&[0x95, 6, 3, 0, 0xdf][..], &count].concat();
    [&begin[..], &entry.repeat(entries), &[0xc4, 0]].concat()
}

/// W-FRAME-7, W-BODY-1: one test, since the memory is that of the whole process.
#[test]
fn hostile_input_costs_no_more_memory_than_its_bytes_warrant() {
    // Once, so that the code itself is there.
    read(Codec::MessagePack, &[0x92, 12, 3]);
    read(Codec::Json, b"[12,3]");
    let start = Memory::read();

    let claims: [&[u8]; 5] = [
        &[0xdd, 0xff, 0xff, 0xff, 0xff],
        &[0xdf, 0xff, 0xff, 0xff, 0xff],
        &[0xdb, 0xff, 0xff, 0xff, 0xff],
        &[0xc6, 0xff, 0xff, 0xff, 0xff],
        &[0xc9, 0xff, 0xff, 0xff, 0xff, 1],
    ];
    let before: [&[u8]; 8] = [
        &[],
        &[0x94],
        &[0x94, 6, 3],
        &[0x94, 6, 3, 0],
        &[0x95, 6, 3, 0],
        &[0x95, 6, 3, 0, 0x81],
        &[0x95, 6, 3, 0, 0x81, 1],
        &[0x92, 96],
    ];
    for claim in claims {
        for before in before {
            read(Codec::MessagePack, &[before, claim].concat());
            read(Codec::MessagePack, &[before, claim, &[1; 100]].concat());
        }
        for before in [&[][..], &[0x91], &[0x91, 0x91], &[0x92, 1], &[0x81, 1]] {
            read_body(&[before, claim].concat());
            read_body(&[before, claim, &[1; 100]].concat());
        }
    }
    assert_within(start, SLACK_BYTES, "a claimed length");

    let hostile: [(Codec, Vec<u8>); 10] = [
        (Codec::MessagePack, repeated(&[], &[0x91], &[])),
        (Codec::MessagePack, repeated(&[0x92, 96], &[0x91], &[0])),
        (Codec::MessagePack, repeated(&[], &[0x92, 12, 3], &[])),
        (
            Codec::MessagePack,
            repeated(&[], &[0x94, 6, 3, 0, 0xc4, 0], &[]),
        ),
        (Codec::MessagePack, many_options(&[3, 3])),
        (Codec::MessagePack, many_options(&[0xa1, b'k', 0xa0])),
        (Codec::Json, repeated(b"", b"[", b"")),
        (Codec::Json, repeated(b"[[12,3]", b",[12,3]", b"]")),
        (
            Codec::Json,
            repeated(b"[6,3,0,{\"3\":3", b",\"3\":3", b"},null]"),
        ),
        (
            Codec::Json,
            repeated(b"[6,3,0,{\"k\":\"\"", b",\"\\u006b\":\"\"", b"},null]"),
        ),
    ];
    let start = Memory::read();
    for (number, (codec, message)) in hostile.iter().enumerate() {
        read(*codec, message);
        // The message was copied once.
        let bound = SLACK_BYTES + 3 * message.len();
        assert_within(start, bound, &format!("message {number}"));
    }
}
