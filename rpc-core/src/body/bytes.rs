//! [`Bytes`], for signatures.

use std::{cell::Cell, fmt, ops::Deref};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, Visitor},
};

/// Bytes in a method's signature or in a type that travels: `bin` in MessagePack, a base64
/// string in JSON. A `Vec<u8>` would be an array of numbers in both.
///
/// A cheap clone; dereferences to `[u8]`. From 64 KiB on they are sent from where they are, in
/// MessagePack, if they are part of a result: that is serialized twice then, since it shows only in
/// doing so.
///
/// ```
/// use wirecall_core::Bytes;
///
/// let bytes = Bytes::from(vec![1, 2, 3]);
/// assert_eq!(bytes.len(), 3);
/// assert_eq!(bytes, [1, 2, 3]);
/// ```
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(bytes::Bytes);

impl Bytes {
    /// The bytes of a literal, without a copy.
    #[must_use]
    pub const fn from_static(bytes: &'static [u8]) -> Self {
        Bytes(bytes::Bytes::from_static(bytes))
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq<[u8]> for Bytes {
    fn eq(&self, other: &[u8]) -> bool {
        **self == *other
    }
}

impl<const N: usize> PartialEq<[u8; N]> for Bytes {
    fn eq(&self, other: &[u8; N]) -> bool {
        **self == *other
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes(bytes.into())
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        Bytes(bytes::Bytes::copy_from_slice(bytes))
    }
}

impl From<&str> for Bytes {
    fn from(text: &str) -> Self {
        text.as_bytes().into()
    }
}

impl From<bytes::Bytes> for Bytes {
    fn from(bytes: bytes::Bytes) -> Self {
        Bytes(bytes)
    }
}

impl From<Bytes> for bytes::Bytes {
    fn from(bytes: Bytes) -> Self {
        bytes.0
    }
}

impl From<Bytes> for Vec<u8> {
    fn from(bytes: Bytes) -> Self {
        bytes.0.into()
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.len() < SHARE_BYTES {
            return serializer.serialize_bytes(self);
        }
        if LARGE.get() != Large::Served {
            LARGE.set(Large::Met);
            // Not an error: whoever serializes something within something else may rely on that.
            return serializer.serialize_bytes(&[]);
        }
        let _offer = Offer::make(&self.0);
        serializer.serialize_bytes(self)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BytesVisitor;

        impl<'de> Visitor<'de> for BytesVisitor {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_borrowed_bytes<E: de::Error>(self, value: &'de [u8]) -> Result<Bytes, E> {
                Ok(share(value).map_or_else(|| value.into(), Bytes))
            }

            fn visit_bytes<E: de::Error>(self, value: &[u8]) -> Result<Bytes, E> {
                Ok(value.into())
            }

            fn visit_byte_buf<E: de::Error>(self, value: Vec<u8>) -> Result<Bytes, E> {
                Ok(value.into())
            }

            /// Untagged enums and flattened structs buffer a value before they know its type;
            /// bytes that came as base64 are a string by then.
            fn visit_str<E: de::Error>(self, value: &str) -> Result<Bytes, E> {
                STANDARD
                    .decode(value)
                    .map(Bytes::from)
                    .map_err(|error| E::custom(format_args!("not base64: {error}")))
            }
        }

        deserializer.deserialize_byte_buf(BytesVisitor)
    }
}

/// Bytes from this size on are not copied into a body, and not out of one that is little more than
/// they are. Such a body goes in pieces, and has a buffer of its own where it comes.
const SHARE_BYTES: usize = 64 << 10;

/// What becomes of large bytes that are serialized.
#[derive(Clone, Copy, PartialEq)]
enum Large {
    /// They are copied, or shared with whoever looks for them.
    Served,
    /// They are left out, and what is serialized does not count.
    Unwelcome,
    /// Some were left out.
    Met,
}

thread_local!(static LARGE: Cell<Large> = const { Cell::new(Large::Served) });

/// Serializes a value that has, as a rule, no large bytes in it. `None` if it has: then it is to be
/// serialized again.
#[inline]
pub(super) fn without_large<T>(serialize: impl FnOnce() -> T) -> Option<T> {
    /// Also after a panic.
    struct Restore;

    impl Drop for Restore {
        #[inline]
        fn drop(&mut self) {
            LARGE.set(Large::Served);
        }
    }

    let _restore = Restore;
    LARGE.set(Large::Unwelcome);
    let serialized = serialize();
    (LARGE.get() != Large::Met).then_some(serialized)
}

thread_local!(static OFFERED: Cell<Option<bytes::Bytes>> = const { Cell::new(None) });

/// Lets whoever writes what is being serialized share bytes instead of copying them.
struct Offer;

impl Offer {
    fn make(bytes: &bytes::Bytes) -> Self {
        OFFERED.set(Some(bytes.clone()));
        Offer
    }
}

/// Also after a panic.
impl Drop for Offer {
    fn drop(&mut self) {
        OFFERED.set(None);
    }
}

/// The bytes that were offered, if it is these.
#[inline]
pub(super) fn offered(part: &[u8]) -> Option<bytes::Bytes> {
    if part.len() < SHARE_BYTES {
        return None;
    }
    OFFERED
        .take()
        .filter(|bytes| bytes.as_ptr_range() == part.as_ptr_range())
}

thread_local!(static BODY: Cell<Option<bytes::Bytes>> = const { Cell::new(None) });

/// Decodes something out of `body`, of which large [`Bytes`] may become a part.
pub(crate) fn sharing<T>(body: &bytes::Bytes, decode: impl FnOnce() -> T) -> T {
    /// Also after a panic.
    struct Restore(Option<bytes::Bytes>);

    impl Drop for Restore {
        fn drop(&mut self) {
            BODY.set(self.0.take());
        }
    }

    if body.len() < SHARE_BYTES {
        return decode();
    }
    let _restore = Restore(BODY.replace(Some(body.clone())));
    decode()
}

/// The part of the body that is being decoded, if these bytes are most of it.
fn share(part: &[u8]) -> Option<bytes::Bytes> {
    if part.len() < SHARE_BYTES {
        return None;
    }
    let body = BODY.take()?;
    let (whole, own) = (body.as_ptr_range(), part.as_ptr_range());
    let is_within = whole.start <= own.start && own.end <= whole.end;
    let is_most = part.len() >= body.len() / 2;
    let shared = (is_within && is_most).then(|| body.slice_ref(part));
    BODY.set(Some(body));
    shared
}

#[cfg(test)]
mod tests {
    use serde::ser::{Error as _, SerializeTuple as _};

    use super::*;
    use crate::{Codec, body};

    fn decoded(length: usize) -> (bytes::Bytes, Bytes) {
        let mut encoded = Vec::new();
        let value = Bytes::from(vec![7; length]);
        body::encode(Codec::MessagePack, &value, &mut encoded).expect("bytes");
        let encoded = bytes::Bytes::from(encoded);
        let decoded = sharing(&encoded, || body::decode(Codec::MessagePack, &encoded));
        let decoded: Bytes = decoded.expect("bytes");
        assert_eq!(decoded, value);
        (encoded, decoded)
    }

    fn encoded(value: &impl Serialize) -> body::Rope {
        let mut out = vec![9; 3];
        let shared = body::encode_sharing(Codec::MessagePack, value, &mut out);
        let shared = shared.expect("a value").expect("large bytes");
        shared.into_rope(&out.into(), 3)
    }

    #[test]
    fn large_bytes_are_parts_of_what_is_encoded_and_the_whole_is_the_same() {
        let large = |byte: u8| Bytes::from(vec![byte; SHARE_BYTES + usize::from(byte)]);
        let value = (
            "first",
            large(1),
            Bytes::from(vec![2; 40]),
            vec![large(3), large(4)],
            5,
        );
        let rope = encoded(&value);
        let mut whole = Vec::new();
        body::encode(Codec::MessagePack, &value, &mut whole).expect("a value");
        assert_eq!(rope.len(), whole.len());
        assert_eq!(*rope.first(usize::MAX), *whole);
        assert_eq!(*rope.first(100), whole[..100]);
        let mut pieces = Vec::new();
        while pieces.len() < rope.len() {
            pieces.extend_from_slice(rope.piece(pieces.len()));
        }
        assert_eq!(pieces, whole);
        assert!(rope.piece(whole.len()).is_empty());
        // Behind an array's header, a string of five and the header of the bytes.
        let place = 1 + 6 + 5;
        assert_eq!(rope.piece(place).as_ptr(), value.1.as_ptr());
        assert!(OFFERED.take().is_none());
    }

    #[test]
    fn what_has_no_large_bytes_or_is_json_is_encoded_as_a_whole() {
        let small = Bytes::from(vec![1; SHARE_BYTES - 1]);
        let large = Bytes::from(vec![1; SHARE_BYTES]);
        for (codec, value) in [(Codec::MessagePack, &small), (Codec::Json, &large)] {
            let (mut out, mut whole) = (Vec::new(), Vec::new());
            let shared = body::encode_sharing(codec, value, &mut out).expect("bytes");
            assert!(shared.is_none());
            body::encode(codec, value, &mut whole).expect("bytes");
            assert_eq!(out, whole);
        }
    }

    #[test]
    fn large_bytes_in_something_that_is_serialized_within_a_value_are_in_that() {
        struct Packed(Bytes);

        impl Serialize for Packed {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let whole = serde_json::to_string(&self.0).expect("bytes have a form in JSON");
                serializer.serialize_u64(whole.len() as u64)
            }
        }

        let packed = Packed(Bytes::from(vec![1; SHARE_BYTES]));
        let mut whole = Vec::new();
        body::encode(Codec::MessagePack, &packed, &mut whole).expect("a number");
        assert_eq!(*encoded(&packed).first(usize::MAX), *whole);
    }

    #[test]
    fn a_value_that_fails_or_panics_leaves_nothing_behind_for_the_next_one() {
        struct Fails(Bytes, bool);

        impl Serialize for Fails {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                assert!(self.1, "as it is meant to");
                let mut tuple = serializer.serialize_tuple(2)?;
                tuple.serialize_element(&self.0)?;
                Err(S::Error::custom("behind the bytes"))
            }
        }

        let large = Bytes::from(vec![1; SHARE_BYTES]);
        for fails in [Fails(large.clone(), true), Fails(large.clone(), false)] {
            let attempt = || body::encode_sharing(Codec::MessagePack, &fails, &mut Vec::new());
            let attempt = std::panic::catch_unwind(std::panic::AssertUnwindSafe(attempt));
            assert!(attempt.is_err() || attempt.is_ok_and(|encoded| encoded.is_err()));
            // Elsewhere large bytes are copied as ever.
            let mut whole = Vec::new();
            body::encode(Codec::MessagePack, &large, &mut whole).expect("bytes");
            assert_eq!(whole.len(), 5 + large.len());
            assert_eq!(encoded(&large).len(), whole.len());
            assert!(OFFERED.take().is_none());
        }
    }

    #[test]
    fn large_bytes_are_a_part_of_their_body_and_small_ones_are_not() {
        for (length, is_shared) in [(1000, false), (SHARE_BYTES, true), (1 << 20, true)] {
            let (body, bytes) = decoded(length);
            let is_within = body.as_ptr_range().contains(&bytes.as_ptr());
            assert_eq!(is_within, is_shared, "{length}");
        }
        // Nothing is left behind for what is decoded next.
        assert!(share(&[0; SHARE_BYTES]).is_none());
        assert!(BODY.take().is_none());
    }
}
