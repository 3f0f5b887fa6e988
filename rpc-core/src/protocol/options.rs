//! The options of a frame: a map of integers to what the protocol defines, and of strings to the
//! user's metadata. Absent in most frames, and then free.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};

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
        let options = Options {
            codec: Codec::Json,
            raw: text.as_bytes(),
        };
        let mut entries = Entries::new(options)?;
        if entries.next()?.is_none() {
            return Ok(Options::EMPTY);
        }
        while entries.next()?.is_some() {}
        Ok(options)
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

    /// The entries, in the order of the message. Each is read as it is asked for, so that a map
    /// of many costs nothing before.
    pub fn entries(&self) -> impl Iterator<Item = (OptionKey<'a>, OptionValue<'a>)> + use<'a> {
        // The map was checked when the frame was read: no error is expected here.
        let mut entries = Entries::new(*self).ok();
        std::iter::from_fn(move || entries.as_mut()?.next().ok()?)
    }
}

/// What is left of a map.
enum Entries<'a> {
    None,
    MessagePack { rest: Reader<'a>, left: usize },
    Json { rest: json::Cursor<'a>, first: bool },
}

impl<'a> Entries<'a> {
    fn new(options: Options<'a>) -> Result<Self, FrameError> {
        if options.raw.is_empty() {
            return Ok(Entries::None);
        }
        match options.codec {
            Codec::MessagePack => {
                let mut rest = Reader(options.raw);
                let left = rest.map()?;
                Ok(Entries::MessagePack { rest, left })
            }
            Codec::Json => {
                let mut rest = json::Cursor(options.raw);
                if rest.peek() != Some(b'{') {
                    return Err(FrameError::Expected("options (an object)"));
                }
                rest.expect(b'{')?;
                Ok(Entries::Json { rest, first: true })
            }
        }
    }

    fn next(&mut self) -> Result<Option<(OptionKey<'a>, OptionValue<'a>)>, FrameError> {
        match self {
            Entries::None => Ok(None),
            Entries::MessagePack { rest, left } => {
                if *left == 0 {
                    return Ok(None);
                }
                *left -= 1;
                messagepack_entry(rest).map(Some)
            }
            Entries::Json { rest, first } => {
                if rest.peek() == Some(b'}') {
                    return Ok(None);
                }
                if !std::mem::take(first) {
                    rest.expect(b',')?;
                }
                json_entry(rest).map(Some)
            }
        }
    }
}

fn messagepack_entry<'a>(
    rest: &mut Reader<'a>,
) -> Result<(OptionKey<'a>, OptionValue<'a>), FrameError> {
    let key = rest.raw()?;
    let key = match Reader(key).uint() {
        Ok(key) => OptionKey::Integer(key),
        Err(_) => OptionKey::Text(Cow::Borrowed(Reader(key).str()?)),
    };
    let value = rest.raw()?;
    let value = if let Ok(value) = Reader(value).uint() {
        OptionValue::Uint(value)
    } else if let Ok(value) = Reader(value).str() {
        OptionValue::Text(Cow::Borrowed(value))
    } else if let Ok(value) = Reader(value).bin() {
        OptionValue::Bytes(Cow::Borrowed(value))
    } else {
        OptionValue::Other
    };
    Ok((key, value))
}

fn json_entry<'a>(
    rest: &mut json::Cursor<'a>,
) -> Result<(OptionKey<'a>, OptionValue<'a>), FrameError> {
    let key = json::string(rest.value()?)?;
    let digits = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_digit());
    let key = if digits {
        let number = key.parse();
        OptionKey::Integer(number.map_err(|_| FrameError::Expected("an option's key"))?)
    } else {
        OptionKey::Text(key)
    };
    rest.expect(b':')?;
    let value = rest.value()?;
    let value = if let Ok(value) = value.parse() {
        OptionValue::Uint(value)
    } else if let Ok(value) = json::string(value) {
        OptionValue::Text(value)
    } else {
        OptionValue::Other
    };
    Ok((key, value))
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

    /// The options of another frame, but for one.
    pub(super) fn from_options(codec: Codec, options: Options<'_>, without: Option<u64>) -> Self {
        let mut builder = OptionsBuilder::new(codec);
        for (key, value) in options.entries() {
            match (key, value) {
                (OptionKey::Integer(key), _) if Some(key) == without => {}
                (OptionKey::Integer(key), OptionValue::Uint(value)) => {
                    builder.uint(key, value);
                }
                (OptionKey::Integer(key), OptionValue::Text(value)) => {
                    builder.text(key, &value);
                }
                (OptionKey::Text(key), OptionValue::Text(value)) => {
                    builder.metadata_text(&key, &value);
                }
                (OptionKey::Text(key), OptionValue::Bytes(value)) => {
                    builder.metadata_bytes(&key, &value);
                }
                // Nothing that this version knows the meaning of.
                _ => {}
            }
        }
        builder
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
