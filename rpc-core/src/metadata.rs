//! What travels with a call beside its arguments, and with its answer beside the result.

use std::sync::Arc;

use crate::{
    body::{Codec, bytes::Bytes},
    limits::Limits,
    priority::Priority,
    protocol::{
        EncodedOptions, MethodKind, OptionKey, OptionValue, Options, OptionsBuilder, PRIORITY,
        PositionReader, STREAM_BYTES, STREAM_ITEMS, STREAMS, StreamCredit, TOTAL_BYTES,
        TopicPosition,
    },
    status::{Code, Fate, Status},
};

/// Entries of metadata: strings, and bytes under keys that end in `-bin`.
///
/// A key has 1 to 64 bytes: a letter, then letters, digits, `-`, `_` and `.`, in lower case.
/// `traceparent` and `tracestate` are reserved for tracing. No key stands twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// In a box, since most calls have none and pass this on by value.
    #[expect(
        clippy::box_collection,
        reason = "one pointer, and nothing to drop where it is none"
    )]
    entries: Option<Box<Vec<(String, MetadataValue)>>>,
}

/// Looks at the pointer in place. Every call drops a few of these, and hardly one has an entry.
impl Drop for Metadata {
    #[inline]
    fn drop(&mut self) {
        #[cold]
        fn drop_entries<T>(entries: T) {
            drop(entries);
        }

        if let Some(entries) = self.entries.take() {
            drop_entries(entries);
        }
    }
}

/// A value of [`Metadata`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetadataValue {
    /// A string.
    Text(String),
    /// Bytes, under a key that ends in `-bin`.
    Bytes(Bytes),
}

impl From<&str> for MetadataValue {
    fn from(text: &str) -> Self {
        MetadataValue::Text(text.to_owned())
    }
}

impl From<String> for MetadataValue {
    fn from(text: String) -> Self {
        MetadataValue::Text(text)
    }
}

impl From<Bytes> for MetadataValue {
    fn from(bytes: Bytes) -> Self {
        MetadataValue::Bytes(bytes)
    }
}

impl From<Vec<u8>> for MetadataValue {
    fn from(bytes: Vec<u8>) -> Self {
        MetadataValue::Bytes(bytes.into())
    }
}

impl MetadataValue {
    fn len(&self) -> usize {
        match self {
            MetadataValue::Text(text) => text.len(),
            MetadataValue::Bytes(bytes) => bytes.len(),
        }
    }
}

impl Metadata {
    /// The string under this key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        match self.value(key)? {
            MetadataValue::Text(text) => Some(text),
            MetadataValue::Bytes(_) => None,
        }
    }

    /// The bytes under this key, which ends in `-bin`.
    #[must_use]
    pub fn get_bytes(&self, key: &str) -> Option<&[u8]> {
        match self.value(key)? {
            MetadataValue::Bytes(bytes) => Some(bytes),
            MetadataValue::Text(_) => None,
        }
    }

    fn value(&self, key: &str) -> Option<&MetadataValue> {
        let entry = self.entries().iter().find(|(name, _)| name == key)?;
        Some(&entry.1)
    }

    fn entries(&self) -> &[(String, MetadataValue)] {
        self.entries.as_ref().map_or(&[], |entries| entries)
    }

    /// All entries.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &MetadataValue)> {
        let entries = self.entries().iter();
        entries.map(|(key, value)| (key.as_str(), value))
    }

    /// Whether there are none.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.entries.is_none()
    }

    pub(crate) fn insert(&mut self, key: &str, value: MetadataValue) {
        let entries = self.entries.get_or_insert_default();
        match entries.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => *old = value,
            None => entries.push((key.to_owned(), value)),
        }
    }

    /// Checks keys and limits before anything is sent.
    pub(crate) fn check(&self, limits: &Limits) -> Result<(), Status> {
        for (key, value) in self.entries() {
            let binary = matches!(value, MetadataValue::Bytes(_));
            if !is_key(key) || binary != key.ends_with("-bin") {
                return Err(Status::new(
                    Code::INVALID_ARGUMENT,
                    format!(
                        "bad metadata key {key:?}: lower-case letters, digits, '-', '_' and '.', \
                         a letter first, and '-bin' at the end exactly for bytes"
                    ),
                ));
            }
            if RESERVED_KEYS.contains(&&**key) {
                return Err(Status::new(
                    Code::INVALID_ARGUMENT,
                    format!("the metadata key {key:?} is reserved for tracing"),
                ));
            }
        }
        self.check_limits(limits)
    }

    /// How many bytes keys and values have.
    pub(crate) fn bytes(&self) -> usize {
        let entries = self.entries().iter();
        entries.map(|(key, value)| key.len() + value.len()).sum()
    }

    fn check_limits(&self, limits: &Limits) -> Result<(), Status> {
        let entries = self.entries();
        let bytes = self.bytes();
        if entries.len() <= limits.max_metadata_entries && bytes <= limits.max_metadata_bytes {
            return Ok(());
        }
        Err(Status::new(
            Code::RESOURCE_EXHAUSTED,
            format!(
                "metadata has {} entries and {bytes} bytes, the limits are {} and {}",
                entries.len(),
                limits.max_metadata_entries,
                limits.max_metadata_bytes
            ),
        ))
    }

    /// Reads an entry of a peer's frame. An error is about this entry alone.
    fn read(&mut self, key: &str, value: OptionValue<'_>) -> Result<(), Status> {
        let value = match value {
            OptionValue::Text(text) if !key.ends_with("-bin") => {
                MetadataValue::Text(text.into_owned())
            }
            value => match value.bytes() {
                Some(bytes) if key.ends_with("-bin") => {
                    MetadataValue::Bytes(bytes.into_owned().into())
                }
                _ => {
                    return Err(Status::new(
                        Code::INVALID_ARGUMENT,
                        format!("metadata {key:?} is of the wrong type"),
                    ));
                }
            },
        };
        self.insert(key, value);
        Ok(())
    }

    /// Reads what a peer's OPEN or RESPONSE carries.
    pub(crate) fn of_response(options: Options<'_>, limits: &Limits) -> Result<Self, Status> {
        let mut metadata = Metadata::default();
        for (key, value) in options.entries() {
            let OptionKey::Text(key) = key else {
                continue;
            };
            if metadata.entries().len() > limits.max_metadata_entries {
                break;
            }
            metadata.read(&key, value)?;
        }
        metadata.check_limits(limits)?;
        Ok(metadata)
    }

    /// The options of a frame that has no others.
    pub(crate) fn options(&self, codec: Codec) -> EncodedOptions {
        let mut options = OptionsBuilder::new(codec);
        self.write(&mut options);
        options.finish()
    }

    pub(crate) fn write(&self, options: &mut OptionsBuilder) {
        for (key, value) in self.entries() {
            match value {
                MetadataValue::Text(text) => options.metadata_text(key, text),
                MetadataValue::Bytes(bytes) => options.metadata_bytes(key, bytes),
            };
        }
    }
}

/// Those of W3C Trace Context.
const RESERVED_KEYS: [&str; 2] = ["traceparent", "tracestate"];

fn is_key(key: &str) -> bool {
    key.len() <= 64
        && key.starts_with(|first: char| first.is_ascii_lowercase())
        && key.bytes().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte)
        })
}

/// The options of a REQUEST, NOTIFY or VOLATILE that say something about the call.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct CallOptions {
    /// Milliseconds; 0 for no deadline. Absent where the caller's default holds.
    pub(crate) deadline_ms: Option<u64>,
    /// How much of the answer's stream may be on its way. Absent where the caller's default holds.
    pub(crate) credit: Option<StreamCredit>,
    /// Which streams the caller has in mind; absent where it says nothing of them.
    pub(crate) streams: Option<u64>,
    pub(crate) priority: Priority,
    /// Where a subscriber wants to go on.
    pub(crate) position: Option<TopicPosition>,
    /// What repetitions of the call are known by.
    pub(crate) idempotency_key: Option<Arc<str>>,
    pub(crate) metadata: Metadata,
}

/// Keys of options of REQUEST. The deadline is in milliseconds, 0 for none.
const DEADLINE_MS: u64 = 1;
const IDEMPOTENCY_KEY: u64 = 8;

/// The longest idempotency key, in bytes.
const MAX_IDEMPOTENCY_KEY_BYTES: usize = 128;

fn bad_idempotency_key() -> Status {
    Status::new(
        Code::INVALID_ARGUMENT,
        "bad idempotency key: 1 to 128 bytes of printable ASCII without blanks",
    )
}

fn is_idempotency_key(key: &str) -> bool {
    (1..=MAX_IDEMPOTENCY_KEY_BYTES).contains(&key.len())
        && key.bytes().all(|byte| byte.is_ascii_graphic())
}

impl CallOptions {
    /// Checks what the user has said, before anything is sent.
    pub(crate) fn check(&self, limits: &Limits) -> Result<(), Status> {
        if let Some(key) = &self.idempotency_key
            && !is_idempotency_key(key)
        {
            return Err(bad_idempotency_key());
        }
        self.metadata.check(limits)
    }

    /// Whether a method of this shape can be called like this: only a call without streams can have
    /// an idempotency key.
    pub(crate) fn suit(&self, kind: MethodKind) -> bool {
        self.idempotency_key.is_none() || kind == MethodKind::Unary
    }

    pub(crate) fn write(&self, codec: Codec) -> OptionsBuilder {
        let mut options = OptionsBuilder::new(codec);
        if let Some(deadline_ms) = self.deadline_ms {
            options.uint(DEADLINE_MS, deadline_ms);
        }
        if let Some(credit) = self.credit {
            credit.write(&mut options);
        }
        if let Some(streams) = self.streams {
            options.uint(STREAMS, streams);
        }
        if self.priority != Priority::Normal {
            options.uint(PRIORITY, self.priority as u64);
        }
        if let Some(position) = self.position {
            position.write(&mut options);
        }
        if let Some(key) = &self.idempotency_key {
            options.text(IDEMPOTENCY_KEY, key);
        }
        self.metadata.write(&mut options);
        options
    }

    /// Reads the options of a peer's call; an error refuses that call alone.
    ///
    /// `default_credit` is what the caller has announced.
    pub(crate) fn read(
        options: Options<'_>,
        limits: &Limits,
        default_credit: StreamCredit,
    ) -> Result<Self, Status> {
        let mut result = CallOptions::default();
        let mut position = PositionReader::default();
        let refuse = |code, message| Err(Status::new(code, message).with_fate(Fate::NotExecuted));
        for (key, value) in options.entries() {
            match key {
                OptionKey::Integer(DEADLINE_MS) => match value.uint() {
                    Some(deadline_ms) => result.deadline_ms = Some(deadline_ms),
                    None => {
                        return refuse(
                            Code::INVALID_ARGUMENT,
                            "the deadline is no number of milliseconds".to_owned(),
                        );
                    }
                },
                OptionKey::Integer(PRIORITY) => {
                    result.priority = value.uint().map_or(Priority::Normal, Priority::from_wire);
                }
                OptionKey::Integer(STREAMS) => result.streams = value.uint(),
                OptionKey::Integer(IDEMPOTENCY_KEY) => match value {
                    OptionValue::Text(key) if is_idempotency_key(&key) => {
                        result.idempotency_key = Some(key.into());
                    }
                    _ => return Err(bad_idempotency_key().with_fate(Fate::NotExecuted)),
                },
                // The body comes in pieces; that has been seen to.
                OptionKey::Integer(TOTAL_BYTES) => {}
                OptionKey::Integer(key @ (STREAM_ITEMS | STREAM_BYTES)) => {
                    let credit = result.credit.get_or_insert(default_credit);
                    if !credit.read(key, &value) {
                        return refuse(
                            Code::INVALID_ARGUMENT,
                            "the credit is no number".to_owned(),
                        );
                    }
                }
                OptionKey::Integer(key) if key % 2 == 0 => {
                    return refuse(
                        Code::UNIMPLEMENTED,
                        format!("option {key} is not understood"),
                    );
                }
                OptionKey::Integer(key) => position.read(key, value.uint()),
                OptionKey::Text(key) => {
                    if result.metadata.entries().len() > limits.max_metadata_entries {
                        break;
                    }
                    let read = result.metadata.read(&key, value);
                    read.map_err(|status| status.with_fate(Fate::NotExecuted))?;
                }
            }
        }
        result.position = position.finish();
        result
            .metadata
            .check_limits(limits)
            .map_err(|status| status.with_fate(Fate::NotExecuted))?;
        Ok(result)
    }
}
