//! Strategies for frames.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::borrow::Cow;

use proptest::{
    collection::{btree_map, vec},
    prelude::*,
    test_runner::RngSeed,
};
use serde_json::Value;
use wirecall_core::{
    Codec, body,
    protocol::{
        CallId, ChunkState, EncodedOptions, Frame, Head, MAX_METHOD_NAME_BYTES, MethodRef,
        OptionsBuilder,
    },
};

/// The same cases in every run.
pub(crate) fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(0x57_49_52_45),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// An option to be written.
#[derive(Clone, Debug)]
pub(crate) enum AnyOption {
    Uint(u64, u64),
    Text(u64, String),
    MetadataText(String, String),
    MetadataBytes(String, Vec<u8>),
}

/// A frame that owns what it says, in no codec yet.
#[derive(Clone, Debug)]
pub(crate) struct AnyFrame {
    pub(crate) head: Head<'static>,
    pub(crate) options: Vec<AnyOption>,
    /// `None` for kinds without a payload.
    pub(crate) payload: Option<Value>,
}

/// A frame in a codec, with what it borrows.
#[derive(Debug)]
pub(crate) struct Parts {
    head: Head<'static>,
    options: EncodedOptions,
    payload: Vec<u8>,
}

impl Parts {
    pub(crate) fn frame(&self) -> Frame<'_> {
        Frame {
            head: self.head.clone(),
            options: self.options.as_options(),
            payload: &self.payload,
        }
    }
}

impl AnyFrame {
    pub(crate) fn parts(&self, codec: Codec) -> Parts {
        let mut options = OptionsBuilder::new(codec);
        for option in &self.options {
            match option {
                AnyOption::Uint(key, value) => options.uint(*key, *value),
                AnyOption::Text(key, value) => options.text(*key, value),
                AnyOption::MetadataText(key, value) => options.metadata_text(key, value),
                AnyOption::MetadataBytes(key, value) => options.metadata_bytes(key, value),
            };
        }
        let mut payload = Vec::new();
        if let Some(value) = &self.payload {
            body::encode(codec, value, &mut payload).expect("a JSON value");
        }
        Parts {
            head: self.head.clone(),
            options: options.finish(),
            payload,
        }
    }
}

/// Integers, those around the lengths of their encodings more often than others.
pub(crate) fn number() -> impl Strategy<Value = u64> {
    let edges = prop::sample::select(vec![
        0,
        1,
        127,
        128,
        255,
        256,
        65535,
        65536,
        u64::from(u32::MAX),
        1 << 32,
        (1 << 53) + 1,
        1 << 63,
        u64::MAX,
    ]);
    prop_oneof![edges, 0..2048_u64, any::<u64>()]
}

/// Values that bodies are made of.
pub(crate) fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map(any::<String>(), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn name() -> impl Strategy<Value = Cow<'static, str>> {
    let graphic = vec(b'!'..=b'~', 1..=MAX_METHOD_NAME_BYTES);
    graphic.prop_map(|name| String::from_utf8_lossy(&name).into_owned().into())
}

fn method() -> impl Strategy<Value = MethodRef<'static>> {
    prop_oneof![
        name().prop_map(MethodRef::Name),
        number().prop_map(MethodRef::Alias),
    ]
}

fn option() -> impl Strategy<Value = AnyOption> {
    // Metadata keys are no integers, which JSON could not tell.
    let key = "[a-z][a-z0-9._-]{0,8}";
    prop_oneof![
        (number(), number()).prop_map(|(key, value)| AnyOption::Uint(key, value)),
        (number(), any::<String>()).prop_map(|(key, value)| AnyOption::Text(key, value)),
        (key, any::<String>()).prop_map(|(key, value)| AnyOption::MetadataText(key, value)),
        (key, any::<Vec<u8>>())
            .prop_map(|(key, value)| AnyOption::MetadataBytes(format!("{key}-bin"), value)),
    ]
}

fn chunk_state() -> impl Strategy<Value = ChunkState> {
    prop::sample::select(vec![ChunkState::More, ChunkState::Last, ChunkState::Abort])
}

fn head() -> impl Strategy<Value = Head<'static>> {
    let id = || number().prop_map(CallId::new);
    prop_oneof![
        Just(Head::Hello),
        Just(Head::Welcome),
        (number(), number()).prop_map(|(count, token)| Head::Ping { count, token }),
        (number(), number()).prop_map(|(count, token)| Head::Pong { count, token }),
        number().prop_map(|count| Head::Ack { count }),
        (number(), number()).prop_map(|(code, count)| Head::GoAway { code, count }),
        (id(), method()).prop_map(|(id, method)| Head::Request { id, method }),
        id().prop_map(|id| Head::Response { id }),
        (id(), any::<u16>(), any::<String>()).prop_map(|(id, code, message)| Head::Error {
            id,
            code,
            message: message.into(),
        }),
        id().prop_map(|id| Head::Item { id }),
        id().prop_map(|id| Head::End { id }),
        (id(), number(), number()).prop_map(|(id, items, bytes)| Head::Credit { id, items, bytes }),
        id().prop_map(|id| Head::Cancel { id }),
        method().prop_map(|method| Head::Notify { method }),
        method().prop_map(|method| Head::Volatile { method }),
        (id(), chunk_state(), any::<String>()).prop_map(|(id, state, piece)| Head::Chunk {
            id,
            state,
            piece: piece.into_bytes().into(),
        }),
        (number(), name()).prop_map(|(alias, method)| Head::Define { alias, method }),
        id().prop_map(|id| Head::Open { id }),
    ]
}

fn has_payload(head: &Head<'_>) -> bool {
    matches!(
        head,
        Head::Request { .. }
            | Head::Response { .. }
            | Head::Error { .. }
            | Head::Item { .. }
            | Head::Notify { .. }
            | Head::Volatile { .. }
    )
}

/// Frames of every kind.
pub(crate) fn frame() -> impl Strategy<Value = AnyFrame> {
    (head(), vec(option(), 0..4), value()).prop_map(|(head, options, value)| AnyFrame {
        payload: has_payload(&head).then_some(value),
        head,
        options,
    })
}
