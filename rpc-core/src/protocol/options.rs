//! The options of a frame: a map of integers to what the protocol defines, and of strings to the
//! user's metadata. Absent in most frames, and then free.

use std::{borrow::Cow, collections::BTreeMap};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    frame::FrameError,
    json,
    messagepack::{Reader, put_bin, put_map, put_str, put_uint},
};
use crate::body::Codec;

/// A frame's options as they stand in the message, checked to be a map with keys that are
/// integers or strings.
///
/// In JSON, where keys are strings, a key of digits alone is an integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options<'a> {
    codec: Codec,
    raw: &'a [u8],
}

/// An option's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OptionKey<'a> {
    /// Defined by the protocol. A reader refuses an even one that it does not know and ignores an
    /// odd one.
    Integer(u64),
    /// The user's metadata.
    Text(Cow<'a, str>),
}

/// An option's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OptionValue<'a> {
    /// An unsigned integer.
    Uint(u64),
    /// A string.
    Text(Cow<'a, str>),
    /// Bytes. In JSON they cannot be told from a string: [`OptionValue::bytes`] takes them out
    /// of one.
    Bytes(Cow<'a, [u8]>),
    /// Anything else.
    Other,
}

impl<'a> OptionValue<'a> {
    /// The number, if it is one.
    #[must_use]
    pub fn uint(&self) -> Option<u64> {
        match self {
            OptionValue::Uint(value) => Some(*value),
            _ => None,
        }
    }

    /// The bytes: themselves, or a string as base64.
    #[must_use]
    pub fn bytes(self) -> Option<Cow<'a, [u8]>> {
        match self {
            OptionValue::Bytes(bytes) => Some(bytes),
            OptionValue::Text(text) => STANDARD.decode(text.as_bytes()).ok().map(Cow::Owned),
            _ => None,
        }
    }
}

impl<'a> Options<'a> {
    /// No options.
    pub const EMPTY: Options<'static> = Options {
        codec: Codec::MessagePack,
        raw: &[],
    };

    pub(super) fn new_messagepack(raw: &'a [u8]) -> Self {
        match raw {
            [0x80] => Options::EMPTY,
            _ => Options {
                codec: Codec::MessagePack,
                raw,
            },
        }
    }

    pub(super) fn new_json(text: &'a str) -> Result<Self, FrameError> {
        let entries = json_entries(text)?;
        if entries.is_empty() {
            return Ok(Options::EMPTY);
        }
        Ok(Options {
            codec: Codec::Json,
            raw: text.as_bytes(),
        })
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    /// The whole map as it stands in the message.
    pub(crate) fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// The entries, in the order of the message.
    #[must_use]
    pub fn entries(&self) -> Vec<(OptionKey<'a>, OptionValue<'a>)> {
        if self.raw.is_empty() {
            return Vec::new();
        }
        // Both were checked when the frame was read.
        match self.codec {
            Codec::MessagePack => messagepack_entries(self.raw),
            Codec::Json => std::str::from_utf8(self.raw)
                .map_err(|_| FrameError::Expected("UTF-8"))
                .and_then(json_entries),
        }
        .unwrap_or_default()
    }
}

type Entries<'a> = Vec<(OptionKey<'a>, OptionValue<'a>)>;

fn messagepack_entries(raw: &[u8]) -> Result<Entries<'_>, FrameError> {
    let mut reader = Reader(raw);
    let entries = reader.map()?;
    let mut result = Vec::new();
    for _ in 0..entries {
        let key = reader.raw()?;
        let key = match Reader(key).uint() {
            Ok(key) => OptionKey::Integer(key),
            Err(_) => OptionKey::Text(Cow::Borrowed(Reader(key).str()?)),
        };
        let value = reader.raw()?;
        let value = if let Ok(value) = Reader(value).uint() {
            OptionValue::Uint(value)
        } else if let Ok(value) = Reader(value).str() {
            OptionValue::Text(Cow::Borrowed(value))
        } else if let Ok(value) = Reader(value).bin() {
            OptionValue::Bytes(Cow::Borrowed(value))
        } else {
            OptionValue::Other
        };
        result.push((key, value));
    }
    Ok(result)
}

fn json_entries(text: &str) -> Result<Entries<'_>, FrameError> {
    #[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
    #[serde(transparent)]
    struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

    let entries: BTreeMap<Key<'_>, &RawValue> =
        serde_json::from_str(text).map_err(|_| FrameError::Expected("options (an object)"))?;
    Ok(entries
        .into_iter()
        .map(|(Key(key), value)| {
            let key = match key.parse() {
                Ok(number) => OptionKey::Integer(number),
                Err(_) => OptionKey::Text(key),
            };
            let value = value.get();
            let value = if let Ok(value) = value.parse() {
                OptionValue::Uint(value)
            } else if let Ok(value) = json::string(value) {
                OptionValue::Text(value)
            } else {
                OptionValue::Other
            };
            (key, value)
        })
        .collect())
}

/// Puts options together for a frame to be sent.
#[derive(Clone, Debug)]
pub struct OptionsBuilder {
    codec: Codec,
    entries: usize,
    /// The entries without the map's own header.
    buffer: Vec<u8>,
}

impl OptionsBuilder {
    /// No options yet.
    #[must_use]
    pub fn new(codec: Codec) -> Self {
        OptionsBuilder {
            codec,
            entries: 0,
            buffer: Vec::new(),
        }
    }

    /// Whether nothing was put in.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// A number under an integer key.
    pub fn uint(&mut self, key: u64, value: u64) -> &mut Self {
        self.key(key);
        match self.codec {
            Codec::MessagePack => put_uint(&mut self.buffer, value),
            Codec::Json => self.json(&value),
        }
        self
    }

    /// A string under an integer key.
    pub fn text(&mut self, key: u64, value: &str) -> &mut Self {
        self.key(key);
        self.text_value(value);
        self
    }

    /// A string of the user's metadata.
    pub fn metadata_text(&mut self, key: &str, value: &str) -> &mut Self {
        self.metadata_key(key);
        self.text_value(value);
        self
    }

    /// Bytes of the user's metadata.
    pub fn metadata_bytes(&mut self, key: &str, value: &[u8]) -> &mut Self {
        self.metadata_key(key);
        match self.codec {
            Codec::MessagePack => put_bin(&mut self.buffer, value),
            Codec::Json => self.json(&STANDARD.encode(value)),
        }
        self
    }

    /// The options as a whole, to be kept as long as the frame is not encoded.
    #[must_use]
    pub fn finish(self) -> EncodedOptions {
        let mut raw = Vec::with_capacity(self.buffer.len() + 5);
        if self.entries > 0 {
            match self.codec {
                Codec::MessagePack => {
                    put_map(&mut raw, self.entries);
                    raw.extend_from_slice(&self.buffer);
                }
                Codec::Json => {
                    raw.push(b'{');
                    raw.extend_from_slice(&self.buffer);
                    raw.push(b'}');
                }
            }
        }
        EncodedOptions {
            codec: self.codec,
            raw,
        }
    }

    fn key(&mut self, key: u64) {
        self.entries += 1;
        match self.codec {
            Codec::MessagePack => put_uint(&mut self.buffer, key),
            Codec::Json => self.json_key(&key.to_string()),
        }
    }

    fn metadata_key(&mut self, key: &str) {
        self.entries += 1;
        match self.codec {
            Codec::MessagePack => put_str(&mut self.buffer, key),
            Codec::Json => self.json_key(key),
        }
    }

    fn text_value(&mut self, value: &str) {
        match self.codec {
            Codec::MessagePack => put_str(&mut self.buffer, value),
            Codec::Json => self.json(value),
        }
    }

    fn json_key(&mut self, key: &str) {
        if self.entries > 1 {
            self.buffer.push(b',');
        }
        self.json(key);
        self.buffer.push(b':');
    }

    fn json<T: serde::Serialize + ?Sized>(&mut self, value: &T) {
        // Numbers and strings into a `Vec`: cannot fail.
        let written = serde_json::to_writer(&mut self.buffer, value);
        debug_assert!(written.is_ok());
    }
}

/// Options that were put together by an [`OptionsBuilder`].
#[derive(Clone, Debug)]
pub struct EncodedOptions {
    codec: Codec,
    raw: Vec<u8>,
}

impl EncodedOptions {
    /// For a [`super::Frame`].
    #[must_use]
    pub fn as_options(&self) -> Options<'_> {
        Options {
            codec: self.codec,
            raw: &self.raw,
        }
    }
}
