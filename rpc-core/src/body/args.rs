//! The arguments of a method: an array, one element an argument.
//!
//! Both sides of a connection are deployed independently, so a reader ignores extra trailing
//! arguments, and takes `None` for a missing trailing one that is an `Option`.

use std::{borrow::Cow, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, DeserializeSeed, IgnoredAny, SeqAccess, Visitor},
    ser::SerializeTuple as _,
};

use super::{BodyError, Codec, check_messagepack, decode_error, json, messagepack};

/// Decodes a method's arguments into a tuple. `names` are for error messages.
///
/// An empty body, and `nil` or `null`, stand for no arguments at all.
#[inline]
pub fn decode<'de, T: Arguments<'de>>(
    codec: Codec,
    body: &'de [u8],
    names: &'static [&'static str],
) -> Result<T, BodyError> {
    let seed = Seed {
        names,
        tuple: PhantomData::<T>,
    };
    match codec {
        _ if body.is_empty() => T::from_seq(Missing, names)
            .map_err(|error: de::value::Error| BodyError::Decode(error.to_string())),
        Codec::MessagePack => {
            check_messagepack(body)?;
            seed.deserialize(&mut messagepack(body))
                .map_err(decode_error)
        }
        Codec::Json => json::decode_with(body, seed),
    }
}

/// A tuple of arguments, decoded element by element.
pub trait Arguments<'de>: Sized {
    /// Takes the arguments out of the array and ignores what stands behind them.
    fn from_seq<A: SeqAccess<'de>>(seq: A, names: &[&'static str]) -> Result<Self, A::Error>;
}

struct Seed<T> {
    names: &'static [&'static str],
    tuple: PhantomData<T>,
}

impl<'de, T: Arguments<'de>> DeserializeSeed<'de> for Seed<T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, T: Arguments<'de>> Visitor<'de> for Seed<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an array of the arguments {:?}", self.names)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<T, A::Error> {
        T::from_seq(seq, self.names)
    }

    fn visit_unit<E: de::Error>(self) -> Result<T, E> {
        T::from_seq(Missing, self.names).map_err(|error: de::value::Error| E::custom(error))
    }
}

fn argument<'de, T: Deserialize<'de>, A: SeqAccess<'de>>(
    seq: &mut A,
    name: &'static str,
) -> Result<T, A::Error> {
    match seq.next_element::<T>() {
        Ok(Some(value)) => Ok(value),
        // `Option` is the type that can be made of nothing.
        Ok(None) => T::deserialize(MissingArgument(name))
            .map_err(|error: de::value::Error| de::Error::custom(error)),
        Err(error) => Err(de::Error::custom(format_args!(
            "argument `{name}`: {error}"
        ))),
    }
}

fn rest<'de, A: SeqAccess<'de>>(mut seq: A) -> Result<(), A::Error> {
    while seq.next_element::<IgnoredAny>()?.is_some() {}
    Ok(())
}

impl<'de> Arguments<'de> for () {
    fn from_seq<A: SeqAccess<'de>>(seq: A, _: &[&'static str]) -> Result<Self, A::Error> {
        rest(seq)
    }
}

macro_rules! arguments {
    ($($type:ident $index:literal),*) => {
        impl<'de, $($type: Deserialize<'de>),*> Arguments<'de> for ($($type,)*) {
            fn from_seq<A: SeqAccess<'de>>(
                mut seq: A,
                names: &[&'static str],
            ) -> Result<Self, A::Error> {
                let tuple = ($(
                    argument::<$type, A>(&mut seq, names.get($index).copied().unwrap_or("?"))?,
                )*);
                rest(seq)?;
                Ok(tuple)
            }
        }
    };
}

arguments!(T0 0);
arguments!(T0 0, T1 1);
arguments!(T0 0, T1 1, T2 2);
arguments!(T0 0, T1 1, T2 2, T3 3);
arguments!(T0 0, T1 1, T2 2, T3 3, T4 4);
arguments!(T0 0, T1 1, T2 2, T3 3, T4 4, T5 5);
arguments!(T0 0, T1 1, T2 2, T3 3, T4 4, T5 5, T6 6);
arguments!(T0 0, T1 1, T2 2, T3 3, T4 4, T5 5, T6 6, T7 7);
arguments!(T0 0, T1 1, T2 2, T3 3, T4 4, T5 5, T6 6, T7 7, T8 8);
arguments!(T0 0, T1 1, T2 2, T3 3, T4 4, T5 5, T6 6, T7 7, T8 8, T9 9);
arguments!(T0 0, T1 1, T2 2, T3 3, T4 4, T5 5, T6 6, T7 7, T8 8, T9 9, T10 10);
arguments!(T0 0, T1 1, T2 2, T3 3, T4 4, T5 5, T6 6, T7 7, T8 8, T9 9, T10 10, T11 11);

/// The arguments of a body that has none.
struct Missing;

impl<'de> SeqAccess<'de> for Missing {
    type Error = de::value::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        _: S,
    ) -> Result<Option<S::Value>, Self::Error> {
        Ok(None)
    }
}

struct MissingArgument(&'static str);

impl<'de> Deserializer<'de> for MissingArgument {
    type Error = de::value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(de::Error::custom(format_args!(
            "argument `{}` is missing",
            self.0
        )))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_none()
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// No arguments: an empty array, where serde's `()` would be a `nil`.
#[derive(Debug, Clone, Copy)]
pub struct NoArguments;

impl Serialize for NoArguments {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_tuple(0)?.end()
    }
}

/// A `&[u8]` argument on its way out: bytes, not an array of numbers.
#[derive(Debug, Clone, Copy)]
pub struct ByteSlice<'a>(pub &'a [u8]);

impl Serialize for ByteSlice<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

/// A `&str` argument as it came in: borrowed from the body, unless escapes in JSON forbid it.
#[derive(Debug)]
pub struct BorrowedStr<'a>(Cow<'a, str>);

impl std::ops::Deref for BorrowedStr<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for BorrowedStr<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct StrVisitor;

        impl<'de> Visitor<'de> for StrVisitor {
            type Value = BorrowedStr<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: de::Error>(self, value: &'de str) -> Result<Self::Value, E> {
                Ok(BorrowedStr(Cow::Borrowed(value)))
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Self::Value, E> {
                self.visit_string(value.to_owned())
            }

            fn visit_string<E: de::Error>(self, value: String) -> Result<Self::Value, E> {
                Ok(BorrowedStr(Cow::Owned(value)))
            }
        }

        deserializer.deserialize_str(StrVisitor)
    }
}

/// A `&[u8]` argument as it came in: borrowed from the body, decoded from base64 in JSON.
#[derive(Debug)]
pub struct BorrowedBytes<'a>(Cow<'a, [u8]>);

impl std::ops::Deref for BorrowedBytes<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl<'de> Deserialize<'de> for BorrowedBytes<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BytesVisitor;

        impl<'de> Visitor<'de> for BytesVisitor {
            type Value = BorrowedBytes<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_borrowed_bytes<E: de::Error>(
                self,
                value: &'de [u8],
            ) -> Result<Self::Value, E> {
                Ok(BorrowedBytes(Cow::Borrowed(value)))
            }

            fn visit_bytes<E: de::Error>(self, value: &[u8]) -> Result<Self::Value, E> {
                self.visit_byte_buf(value.to_owned())
            }

            fn visit_byte_buf<E: de::Error>(self, value: Vec<u8>) -> Result<Self::Value, E> {
                Ok(BorrowedBytes(Cow::Owned(value)))
            }
        }

        deserializer.deserialize_bytes(BytesVisitor)
    }
}
