//! What the tests of the codec share: golden vectors and the meaning of frames.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::{borrow::Cow, fmt::Write as _, fs, path::PathBuf};

use serde_json::Value;
use wirecall_core::{
    Codec,
    protocol::{
        CallId, ChunkState, EncodedOptions, Frame, FrameError, Frames, Head, MethodRef, OptionKey,
        OptionValue, OptionsBuilder,
    },
};

/// A file of the repository.
pub(crate) fn read_file(path: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The entries of a file in `tests/vectors`.
pub(crate) fn vectors(file: &str) -> Vec<Value> {
    let text = read_file(&format!("tests/vectors/{file}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// A field that has to be a string.
pub(crate) fn text<'a>(vector: &'a Value, field: &str) -> &'a str {
    let value = vector[field].as_str();
    value.unwrap_or_else(|| panic!("no {field:?} in {vector}"))
}

/// The key of a codec in a vector.
pub(crate) fn key(codec: Codec) -> &'static str {
    match codec {
        Codec::MessagePack => "msgpack",
        _ => "json",
    }
}

/// What stands in a vector for this codec, where there is anything.
pub(crate) fn bytes(vector: &Value, codec: Codec) -> Option<Vec<u8>> {
    let text = vector.get(key(codec))?.as_str()?;
    Some(from_text(text, codec))
}

/// MessagePack as hex, JSON as it is.
pub(crate) fn from_text(text: &str, codec: Codec) -> Vec<u8> {
    match codec {
        Codec::MessagePack => unhex(text),
        _ => text.as_bytes().to_vec(),
    }
}

/// The reverse of [`from_text`].
pub(crate) fn to_text(bytes: &[u8], codec: Codec) -> String {
    match codec {
        Codec::MessagePack => hex(bytes),
        _ => String::from_utf8_lossy(bytes).into_owned(),
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Hex, with blanks wherever they help the reader.
pub(crate) fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    assert!(digits.len() % 2 == 0, "half a byte in {text:?}");
    digits
        .chunks(2)
        .map(|pair| {
            let pair: String = pair.iter().collect();
            u8::from_str_radix(&pair, 16).unwrap_or_else(|_| panic!("no hex: {pair:?}"))
        })
        .collect()
}

/// All frames of a message.
pub(crate) fn frames(codec: Codec, message: &[u8]) -> Result<Vec<Frame<'_>>, FrameError> {
    Frames::new(codec, message).collect()
}

/// An integer of a vector: a number, or a string of digits where a double would not hold it.
pub(crate) fn integer(value: &Value) -> u64 {
    value
        .as_u64()
        .or_else(|| value.as_str()?.parse().ok())
        .unwrap_or_else(|| panic!("no unsigned integer: {value}"))
}

/// A frame as a vector says what it means, for one codec.
pub(crate) struct Meaning<'a> {
    head: Head<'a>,
    options: EncodedOptions,
    payload: Vec<u8>,
}

impl<'a> Meaning<'a> {
    /// Puts together what `meaning` says.
    pub(crate) fn new(meaning: &'a Value, codec: Codec) -> Self {
        let payload = bytes(&meaning["payload"], codec).unwrap_or_default();
        Meaning {
            head: head(meaning),
            options: options(meaning, codec),
            payload,
        }
    }

    /// The frame.
    pub(crate) fn frame(&self) -> Frame<'_> {
        Frame {
            head: self.head.clone(),
            options: self.options.as_options(),
            payload: &self.payload,
        }
    }

    pub(crate) fn encode(&self, codec: Codec) -> Vec<u8> {
        let mut out = Vec::new();
        self.frame().encode(codec, &mut out);
        out
    }
}

fn head(meaning: &Value) -> Head<'_> {
    let number = |field: &str| integer(&meaning[field]);
    let id = || CallId::new(number("id"));
    let method = || match &meaning["method"] {
        Value::String(name) => MethodRef::Name(Cow::Borrowed(name.as_str())),
        alias => MethodRef::Alias(integer(alias)),
    };
    match text(meaning, "frame") {
        "HELLO" => Head::Hello,
        "WELCOME" => Head::Welcome,
        "PING" => Head::Ping {
            count: number("count"),
            token: number("token"),
        },
        "PONG" => Head::Pong {
            count: number("count"),
            token: number("token"),
        },
        "ACK" => Head::Ack {
            count: number("count"),
        },
        "GOAWAY" => Head::GoAway {
            code: number("code"),
            count: number("count"),
        },
        "REQUEST" => Head::Request {
            id: id(),
            method: method(),
        },
        "RESPONSE" => Head::Response { id: id() },
        "ERROR" => Head::Error {
            id: id(),
            code: u16::try_from(number("code")).expect("an error code"),
            message: Cow::Borrowed(text(meaning, "message")),
        },
        "ITEM" => Head::Item { id: id() },
        "END" => Head::End { id: id() },
        "CREDIT" => Head::Credit {
            id: id(),
            items: number("items"),
            bytes: number("bytes"),
        },
        "CANCEL" => Head::Cancel { id: id() },
        "NOTIFY" => Head::Notify { method: method() },
        "VOLATILE" => Head::Volatile { method: method() },
        "CHUNK" => Head::Chunk {
            id: id(),
            state: match number("state") {
                0 => ChunkState::More,
                1 => ChunkState::Last,
                _ => ChunkState::Abort,
            },
            piece: Cow::Borrowed(text(meaning, "piece").as_bytes()),
        },
        "DEFINE" => Head::Define {
            alias: number("alias"),
            method: Cow::Borrowed(text(meaning, "method")),
        },
        "OPEN" => Head::Open { id: id() },
        "AUTH" => Head::Auth,
        other => panic!("no frame {other:?}"),
    }
}

/// Options in an order of their own: that of the vector.
fn options(meaning: &Value, codec: Codec) -> EncodedOptions {
    let mut options = OptionsBuilder::new(codec);
    for option in option_list(meaning) {
        let value = |field: &str| option.get(field);
        match &option["key"] {
            Value::String(key) => {
                if let Some(bytes) = value("bytes") {
                    options.metadata_bytes(key, &unhex(bytes.as_str().unwrap_or_default()));
                } else if value("text").is_some() {
                    options.metadata_text(key, text(option, "text"));
                }
            }
            key => {
                if let Some(number) = value("uint") {
                    options.uint(integer(key), integer(number));
                } else if value("text").is_some() {
                    options.text(integer(key), text(option, "text"));
                }
            }
        }
    }
    options.finish()
}

fn option_list(meaning: &Value) -> impl Iterator<Item = &Value> {
    meaning["options"].as_array().into_iter().flatten()
}

/// Whether a frame holds an option that [`OptionsBuilder`] never writes.
pub(crate) fn has_odd_options(meaning: &Value) -> bool {
    option_list(meaning).any(|option| option.get("other").is_some())
}

/// Asserts that a frame that was read means what a vector says.
pub(crate) fn assert_meaning(frame: &Frame<'_>, meaning: &Value, codec: Codec, name: &str) {
    if meaning["frame"] == "IGNORED" {
        assert!(matches!(frame.head, Head::Ignored { .. }), "{name}");
        return;
    }
    assert_eq!(frame.head, head(meaning), "{name}, {codec:?}");
    let payload = bytes(&meaning["payload"], codec).unwrap_or_default();
    assert_eq!(
        to_text(frame.payload, codec),
        to_text(&payload, codec),
        "payload of {name}, {codec:?}"
    );
    let entries: Vec<_> = frame.options.entries().collect();
    assert_eq!(entries.len(), option_list(meaning).count(), "{name}");
    for ((key, value), option) in entries.into_iter().zip(option_list(meaning)) {
        let expected_key = match &option["key"] {
            Value::String(key) => OptionKey::Text(Cow::Borrowed(key.as_str())),
            key => OptionKey::Integer(integer(key)),
        };
        assert_eq!(key, expected_key, "{name}, {codec:?}");
        if let Some(bytes) = option.get("bytes") {
            let bytes = unhex(bytes.as_str().unwrap_or_default());
            assert_eq!(value.bytes().as_deref(), Some(&*bytes), "{name}");
            continue;
        }
        let expected = if let Some(number) = option.get("uint") {
            OptionValue::Uint(integer(number))
        } else if option.get("text").is_some() {
            OptionValue::Text(Cow::Borrowed(text(option, "text")))
        } else {
            OptionValue::Other
        };
        assert_eq!(value, expected, "{name}, {codec:?}");
    }
}
