//! JSON bodies: `serde_json`, except that bytes are base64 strings (RFC 4648 §4, with padding).
//!
//! `serde_json` writes bytes as an array of numbers, which a formatter can change, and takes a
//! string's own bytes for bytes, which it cannot: hence the deserializer around its own.

use std::{fmt, io};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{
    Deserialize, Serialize,
    de::{
        self, DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess,
        Visitor,
    },
};

use super::{BodyError, MAX_NESTING};

pub(super) fn encode<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), BodyError> {
    value
        .serialize(&mut serde_json::Serializer::with_formatter(
            out,
            Base64Bytes,
        ))
        .map_err(|error| BodyError::Encode(error.to_string()))
}

pub(super) fn decode<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, BodyError> {
    decode_with(bytes, std::marker::PhantomData)
}

/// Like [`decode`], for a value that needs a seed.
pub(super) fn decode_with<'de, S: DeserializeSeed<'de>>(
    bytes: &'de [u8],
    seed: S,
) -> Result<S::Value, BodyError> {
    let text = std::str::from_utf8(bytes).map_err(|error| BodyError::Decode(error.to_string()))?;
    let mut inner = serde_json::Deserializer::from_str(text);
    let value = seed
        .deserialize(Base64 {
            inner: &mut inner,
            depth: 0,
        })
        .map_err(decode_error)?;
    inner.end().map_err(decode_error)?;
    Ok(value)
}

fn decode_error(error: serde_json::Error) -> BodyError {
    BodyError::Decode(error.to_string())
}

struct Base64Bytes;

impl serde_json::ser::Formatter for Base64Bytes {
    fn write_byte_array<W: io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        value: &[u8],
    ) -> io::Result<()> {
        writer.write_all(b"\"")?;
        // Whole groups of three, so that only the last piece is padded.
        for piece in value.chunks(3 * 256) {
            let mut text = [0; 4 * 256];
            let length = STANDARD
                .encode_slice(piece, &mut text)
                .map_err(io::Error::other)?;
            writer.write_all(&text[..length])?;
        }
        writer.write_all(b"\"")
    }
}

/// Wraps a deserializer, a visitor, a seed or an access of `serde_json`, so that bytes are
/// decoded from base64 wherever in a value they stand, and counts how deep it is.
struct Base64<T> {
    inner: T,
    depth: usize,
}

impl<T> Base64<T> {
    fn deeper<E: de::Error>(&self) -> Result<usize, E> {
        if self.depth == MAX_NESTING {
            return Err(E::custom(format_args!(
                "nested deeper than {MAX_NESTING} levels"
            )));
        }
        Ok(self.depth + 1)
    }
}

macro_rules! forward {
    ($($name:ident($($arg:ident: $type:ty),*);)*) => {
        $(fn $name<V: Visitor<'de>>(self, $($arg: $type,)* visitor: V) -> Result<V::Value, D::Error> {
            self.inner.$name($($arg,)* Base64 { inner: visitor, depth: self.depth })
        })*
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Base64<D> {
    type Error = D::Error;

    forward! {
        deserialize_any();
        deserialize_bool();
        deserialize_i8();
        deserialize_i16();
        deserialize_i32();
        deserialize_i64();
        deserialize_i128();
        deserialize_u8();
        deserialize_u16();
        deserialize_u32();
        deserialize_u64();
        deserialize_u128();
        deserialize_f32();
        deserialize_f64();
        deserialize_char();
        deserialize_str();
        deserialize_string();
        deserialize_option();
        deserialize_unit();
        deserialize_unit_struct(name: &'static str);
        deserialize_newtype_struct(name: &'static str);
        deserialize_seq();
        deserialize_tuple(len: usize);
        deserialize_tuple_struct(name: &'static str, len: usize);
        deserialize_map();
        deserialize_struct(name: &'static str, fields: &'static [&'static str]);
        deserialize_enum(name: &'static str, variants: &'static [&'static str]);
        deserialize_identifier();
        deserialize_ignored_any();
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_any(BytesVisitor(visitor))
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_any(BytesVisitor(visitor))
    }

    fn is_human_readable(&self) -> bool {
        true
    }
}

/// Takes a base64 string for what the inner visitor wants as bytes; an array of numbers too.
struct BytesVisitor<V>(V);

impl<'de, V: Visitor<'de>> Visitor<'de> for BytesVisitor<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes as a base64 string")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<V::Value, E> {
        match STANDARD.decode(text) {
            Ok(bytes) => self.0.visit_byte_buf(bytes),
            Err(error) => Err(E::custom(format_args!("not base64: {error}"))),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<V::Value, A::Error> {
        self.0.visit_seq(seq)
    }
}

macro_rules! visit {
    ($($name:ident: $type:ty;)*) => {
        $(fn $name<E: de::Error>(self, value: $type) -> Result<V::Value, E> {
            self.inner.$name(value)
        })*
    };
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Base64<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    visit! {
        visit_bool: bool;
        visit_i8: i8;
        visit_i16: i16;
        visit_i32: i32;
        visit_i64: i64;
        visit_i128: i128;
        visit_u8: u8;
        visit_u16: u16;
        visit_u32: u32;
        visit_u64: u64;
        visit_u128: u128;
        visit_f32: f32;
        visit_f64: f64;
        visit_char: char;
        visit_str: &str;
        visit_borrowed_str: &'de str;
        visit_string: String;
        visit_bytes: &[u8];
        visit_borrowed_bytes: &'de [u8];
        visit_byte_buf: Vec<u8>;
    }

    fn visit_none<E: de::Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    fn visit_unit<E: de::Error>(self) -> Result<V::Value, E> {
        self.inner.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        let depth = self.depth;
        self.inner.visit_some(Base64 {
            inner: deserializer,
            depth,
        })
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<V::Value, D::Error> {
        let depth = self.depth;
        self.inner.visit_newtype_struct(Base64 {
            inner: deserializer,
            depth,
        })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<V::Value, A::Error> {
        let depth = self.deeper()?;
        self.inner.visit_seq(Base64 { inner: seq, depth })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        let depth = self.deeper()?;
        self.inner.visit_map(Base64 { inner: map, depth })
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<V::Value, A::Error> {
        let depth = self.depth;
        self.inner.visit_enum(Base64 { inner: data, depth })
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Base64<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        self.inner.deserialize(Base64 {
            inner: deserializer,
            depth: self.depth,
        })
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Base64<A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        let depth = self.depth;
        self.inner.next_element_seed(Base64 { inner: seed, depth })
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Base64<A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        // A key goes through as it is: `serde_json` reads numbers out of a key's string only
        // where its own deserializer is asked, and bytes cannot be keys.
        self.inner.next_key_seed(seed)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        let depth = self.depth;
        self.inner.next_value_seed(Base64 { inner: seed, depth })
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<'de, A: EnumAccess<'de>> EnumAccess<'de> for Base64<A> {
    type Error = A::Error;
    type Variant = Base64<A::Variant>;

    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Self::Variant), A::Error> {
        let depth = self.depth;
        let (value, variant) = self.inner.variant_seed(seed)?;
        Ok((
            value,
            Base64 {
                inner: variant,
                depth,
            },
        ))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Base64<A> {
    type Error = A::Error;

    // A variant with data stands in an object; one without is a string.

    fn unit_variant(self) -> Result<(), A::Error> {
        self.inner.unit_variant()
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        let depth = self.deeper()?;
        self.inner
            .newtype_variant_seed(Base64 { inner: seed, depth })
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, A::Error> {
        let depth = self.deeper()?;
        self.inner.tuple_variant(
            len,
            Base64 {
                inner: visitor,
                depth,
            },
        )
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        let depth = self.deeper()?;
        self.inner.struct_variant(
            fields,
            Base64 {
                inner: visitor,
                depth,
            },
        )
    }
}
