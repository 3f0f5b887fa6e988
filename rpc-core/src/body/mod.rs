//! Bodies: what stands in a frame's payload. Arguments, results, items and error details are
//! encoded here and nowhere else, so that a codec can be replaced in one place.
//!
//! - [`args`]: the arguments of a method, an array
//! - [`bytes`]: the type for bytes in signatures
//! - `json`: `serde_json`, with bytes as base64
//! - `rope`: bodies of several parts

pub mod args;
pub mod bytes;
mod json;
mod rope;

use serde::{Deserialize, Serialize};

use crate::{
    protocol,
    status::{Code, Fate, Status},
};
use rope::RopeWriter;
pub(crate) use rope::{Rope, Shared};

/// How deep values may be nested, in both codecs.
pub const MAX_NESTING: usize = 64;

/// How frames and bodies are encoded on a connection. Settled by the WebSocket subprotocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Codec {
    /// `wirecall.v1+msgpack`: binary messages. Compact and fast; the default.
    MessagePack,
    /// `wirecall.v1+json`: text messages, for browsers' tools and for people.
    Json,
}

impl Codec {
    /// All codecs, the preferred one first.
    pub const ALL: [Codec; 2] = [Codec::MessagePack, Codec::Json];

    /// The name in `Sec-WebSocket-Protocol` (RFC 6455 §1.9).
    #[must_use]
    pub const fn subprotocol(self) -> &'static str {
        match self {
            Codec::MessagePack => "wirecall.v1+msgpack",
            Codec::Json => "wirecall.v1+json",
        }
    }

    /// The codec that this subprotocol name stands for.
    #[must_use]
    pub fn from_subprotocol(name: &str) -> Option<Self> {
        Codec::ALL
            .into_iter()
            .find(|codec| codec.subprotocol() == name)
    }
}

/// Why a body could not be encoded or decoded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// The value has no encoding, or its `Serialize` implementation failed.
    #[error("cannot encode the value: {0}")]
    Encode(String),
    /// The bytes are no value of the expected type.
    #[error("cannot decode the value: {0}")]
    Decode(String),
}

impl BodyError {
    /// The status of a call of which this end could not encode or decode something of its own.
    pub(crate) fn into_status(self) -> Status {
        Status::new(Code::INTERNAL, self.to_string())
    }

    /// The status of a call whose arguments could not be decoded by the callee.
    pub(crate) fn into_refusal(self) -> Status {
        let message = match self {
            BodyError::Encode(message) | BodyError::Decode(message) => message,
        };
        Status::new(
            Code::INVALID_ARGUMENT,
            format!("cannot decode the arguments: {message}"),
        )
        .with_fate(Fate::NotExecuted)
    }
}

/// Appends the encoded value to `out`. On an error `out` may hold part of it.
///
/// Structs become maps of their field names, and types that have a human-readable form use it
/// (addresses, UUIDs, timestamps), in both codecs, so that peers in other languages can read
/// them.
///
/// # Errors
/// [`BodyError::Encode`] when the value has no encoding: a map in JSON with keys that are
/// neither strings nor numbers, a `Serialize` implementation that fails.
#[inline]
pub fn encode<T: Serialize + ?Sized>(
    codec: Codec,
    value: &T,
    out: &mut Vec<u8>,
) -> Result<(), BodyError> {
    match codec {
        Codec::MessagePack => value
            .serialize(
                &mut rmp_serde::Serializer::new(out)
                    .with_human_readable()
                    .with_struct_map(),
            )
            .map_err(|error| BodyError::Encode(error.to_string())),
        Codec::Json => json::encode(value, out),
    }
}

/// Like [`encode`], but large [`Bytes`](bytes::Bytes) may be left out of `out`: they are returned
/// then, with their places.
#[inline]
pub(crate) fn encode_sharing<T: Serialize + ?Sized>(
    codec: Codec,
    value: &T,
    out: &mut Vec<u8>,
) -> Result<Option<Shared>, BodyError> {
    if codec == Codec::Json {
        return json::encode(value, out).map(|()| None);
    }
    // As a rule there are none, and then it is not worth while to look at each write for them.
    let start = out.len();
    match bytes::without_large(|| encode(codec, value, out)) {
        Some(encoded) => encoded.map(|()| None),
        None => {
            out.truncate(start);
            encode_parts(value, out).map(Some)
        }
    }
}

#[cold]
fn encode_parts<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<Shared, BodyError> {
    let mut shared = Shared::default();
    let mut serializer = rmp_serde::Serializer::new(RopeWriter::new(out, &mut shared))
        .with_human_readable()
        .with_struct_map();
    let encoded = value.serialize(&mut serializer);
    encoded.map_err(|error| BodyError::Encode(error.to_string()))?;
    Ok(shared)
}

/// Decodes one value. Strings and bytes may be borrowed from `bytes`, in JSON only strings without
/// escapes.
///
/// # Errors
/// [`BodyError::Decode`] when the bytes are not one value of this type, or are nested deeper than
/// [`MAX_NESTING`].
#[inline]
pub fn decode<'de, T: Deserialize<'de>>(codec: Codec, bytes: &'de [u8]) -> Result<T, BodyError> {
    match codec {
        Codec::MessagePack => {
            check_messagepack(bytes)?;
            T::deserialize(&mut messagepack(bytes)).map_err(decode_error)
        }
        Codec::Json => json::decode(bytes),
    }
}

/// Checks what `rmp_serde` does not: it does not count the levels of enums, reserves what lengths
/// claim, and leaves unread what follows the value.
#[inline]
fn check_messagepack(bytes: &[u8]) -> Result<(), BodyError> {
    protocol::check_value(bytes).map_err(|error| BodyError::Decode(error.to_owned()))
}

/// For bytes that were checked.
#[inline]
fn messagepack(bytes: &[u8]) -> MessagePack<'_> {
    rmp_serde::Deserializer::from_read_ref(bytes).with_human_readable()
}

type MessagePack<'a> = rmp_serde::Deserializer<
    rmp_serde::decode::ReadRefReader<'a, [u8]>,
    rmp_serde::config::HumanReadableConfig<rmp_serde::config::DefaultConfig>,
>;

fn decode_error(error: rmp_serde::decode::Error) -> BodyError {
    BodyError::Decode(error.to_string())
}
