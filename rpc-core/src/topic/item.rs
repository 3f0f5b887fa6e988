//! What was published: encoded once for each codec, and shared by all who get it.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use tokio::time::Instant;

use crate::body::{self, BodyError, Codec};

/// Room before a value for what comes to stand there: a bracket, the offset, a comma.
const HEADROOM: usize = 22;

/// An item of a topic.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) offset: u64,
    pub(super) published: Instant,
    /// What it is about, for topics that keep the latest of each.
    pub(super) key: Option<Arc<[u8]>>,
    bodies: [Option<Bytes>; 2],
}

impl Item {
    /// The payload of its ITEM frames, `[offset, value]`; nothing if it cannot be encoded like that.
    pub(super) fn body(&self, codec: Codec) -> Option<&Bytes> {
        self.bodies[codec as usize].as_ref()
    }

    /// How many bytes it takes to keep it, roughly.
    pub(super) fn bytes(&self) -> usize {
        let bodies: usize = self.bodies.iter().flatten().map(Bytes::len).sum();
        let key = self.key.as_ref().map_or(0, |key| key.len());
        size_of::<Item>() + bodies + key
    }
}

/// Says that nothing follows up to this offset: `[offset]`, without a value.
pub(super) fn marker(codec: Codec, offset: u64) -> Bytes {
    let mut body = Vec::new();
    // A list of a number: it cannot fail.
    let encoded = body::encode(codec, &[offset], &mut body);
    debug_assert!(encoded.is_ok());
    body.into()
}

/// The codecs in which a topic's items are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Codecs(u8);

impl Codecs {
    pub(super) fn all() -> Self {
        Codec::ALL.into_iter().fold(Codecs::default(), Codecs::with)
    }

    pub(super) fn with(self, codec: Codec) -> Self {
        Codecs(self.0 | (1 << codec as u8))
    }

    pub(super) fn contains(self, codec: Codec) -> bool {
        self.0 & (1 << codec as u8) != 0
    }

    pub(super) fn bits(self) -> u8 {
        self.0
    }

    pub(super) fn from_bits(bits: u8) -> Self {
        Codecs(bits)
    }
}

/// An item that is about to be published. Its offset is not known before it has its turn.
#[derive(Debug, Default)]
pub(super) struct Draft {
    encoded: Codecs,
    values: [Option<Vec<u8>>; 2],
}

impl Draft {
    /// Encodes a value in these codecs, unless it is already.
    ///
    /// # Errors
    /// When it can be encoded in none of them.
    pub(super) fn encode<T: Serialize>(
        &mut self,
        value: &T,
        wanted: Codecs,
    ) -> Result<(), BodyError> {
        let mut failed = None;
        for codec in Codec::ALL {
            if !wanted.contains(codec) || self.encoded.contains(codec) {
                continue;
            }
            self.encoded = self.encoded.with(codec);
            match encode(codec, value) {
                Ok(value) => self.values[codec as usize] = Some(value),
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) if self.values.iter().all(Option::is_none) => Err(error),
            _ => Ok(()),
        }
    }

    /// Whether it was encoded in all of these.
    pub(super) fn covers(&self, wanted: Codecs) -> bool {
        self.encoded.0 & wanted.0 == wanted.0
    }

    /// Gives it its place. Nothing is copied.
    pub(super) fn finish(self, offset: u64, published: Instant, key: Option<Arc<[u8]>>) -> Item {
        let [binary, text] = self.values;
        let bodies = [
            binary.map(|value| stamp(Codec::MessagePack, value, offset)),
            text.map(|value| stamp(Codec::Json, value, offset)),
        ];
        Item {
            offset,
            published,
            key,
            bodies,
        }
    }
}

/// The value behind headroom, in a buffer that is no larger than it has to be.
fn encode<T: Serialize>(codec: Codec, value: &T) -> Result<Vec<u8>, BodyError> {
    let mut scratch = crate::scratch::take();
    let encoded = body::encode(codec, value, &mut scratch);
    let draft = encoded.map(|()| {
        let mut draft = Vec::with_capacity(HEADROOM + scratch.len() + 1);
        draft.resize(HEADROOM, 0);
        draft.extend_from_slice(&scratch);
        if codec == Codec::Json {
            draft.push(b']');
        }
        draft
    });
    crate::scratch::put(scratch);
    draft
}

/// Writes what stands before the value into the headroom.
fn stamp(codec: Codec, mut draft: Vec<u8>, offset: u64) -> Bytes {
    let mut head = [0; HEADROOM];
    let head = match codec {
        Codec::MessagePack => {
            head[0] = 0x92;
            let number = &mut Vec::with_capacity(9);
            crate::protocol::put_uint(number, offset);
            head[1..=number.len()].copy_from_slice(number);
            &head[..=number.len()]
        }
        Codec::Json => {
            use std::io::Write as _;

            let mut rest = &mut head[..];
            // 20 digits at the most.
            let written = write!(rest, "[{offset},");
            debug_assert!(written.is_ok());
            let left = rest.len();
            &head[..HEADROOM - left]
        }
    };
    let start = HEADROOM - head.len();
    draft[start..HEADROOM].copy_from_slice(head);
    Bytes::from(draft).slice(start..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_is_its_offset_and_its_value_in_both_codecs() {
        for offset in [1, 127, 128, 70_000, 1 << 40, u64::MAX] {
            let mut draft = Draft::default();
            draft.encode(&"price", Codecs::all()).unwrap();
            let item = draft.finish(offset, Instant::now(), None);
            for codec in Codec::ALL {
                let body = item.body(codec).unwrap();
                let read: (u64, String) = body::decode(codec, body).unwrap();
                assert_eq!(read, (offset, "price".to_owned()));
            }
        }
    }

    #[test]
    fn a_value_that_one_codec_cannot_encode_goes_in_the_other() {
        let odd = std::collections::HashMap::from([((1, 2), 3)]);
        let mut draft = Draft::default();
        draft.encode(&odd, Codecs::all()).unwrap();
        let item = draft.finish(1, Instant::now(), None);
        assert!(item.body(Codec::MessagePack).is_some());
        assert!(item.body(Codec::Json).is_none());
        let mut draft = Draft::default();
        assert!(
            draft
                .encode(&odd, Codecs::default().with(Codec::Json))
                .is_err()
        );
    }

    #[test]
    fn a_marker_is_an_offset_alone() {
        for codec in Codec::ALL {
            let read: Vec<u64> = body::decode(codec, &marker(codec, 300)).unwrap();
            assert_eq!(read, [300]);
        }
    }
}
