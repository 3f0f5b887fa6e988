//! What holds for all bodies, and what a codec cannot carry.

#[path = "support/generate.rs"]
mod generate;

use std::{collections::BTreeMap, fmt::Debug, time::Duration};

use generate::{config, value};
use proptest::{
    collection::{btree_map, vec},
    option,
    prelude::*,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use wirecall_core::{
    Bytes, Codec,
    body::{
        self, MAX_NESTING,
        args::{self, BorrowedBytes, BorrowedStr, ByteSlice},
    },
};

fn encode<T: Serialize + ?Sized>(codec: Codec, value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    body::encode(codec, value, &mut out).expect("encodes");
    out
}

/// What comes out at the other end.
fn carried<T: Serialize + DeserializeOwned>(codec: Codec, value: &T) -> Result<T, String> {
    body::decode(codec, &encode(codec, value)).map_err(|error| error.to_string())
}

fn assert_survives<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
    for codec in Codec::ALL {
        assert_eq!(carried(codec, value).as_ref(), Ok(value), "{codec:?}");
    }
}

#[derive(Serialize, Deserialize, Debug, PartialEq, Clone)]
struct Unit;

#[derive(Serialize, Deserialize, Debug, PartialEq, Clone)]
struct Id(u64);

#[derive(Serialize, Deserialize, Debug, PartialEq, Clone)]
enum Shape {
    Empty,
    Id(Id),
    Nothing(()),
    Pair(i64, Bytes),
    Named {
        bytes: Bytes,
        next: Option<Box<Shape>>,
    },
}

#[derive(Serialize, Deserialize, Debug, PartialEq, Clone)]
#[serde(untagged)]
enum Untagged {
    Bytes(Bytes),
    Signed(i64),
    Unsigned(u64),
    Flags(Vec<bool>),
    Named { bytes: Option<Bytes> },
}

#[derive(Serialize, Deserialize, Debug, PartialEq, Clone)]
struct Inner {
    blob: Bytes,
    blobs: Vec<Bytes>,
    wide: Option<i64>,
}

#[derive(Serialize, Deserialize, Debug, PartialEq, Clone)]
struct Flattened {
    id: Id,
    #[serde(flatten)]
    inner: Inner,
    #[serde(flatten)]
    rest: BTreeMap<String, Untagged>,
}

#[derive(Serialize, Deserialize, Debug, PartialEq, Clone)]
struct Everything {
    text: String,
    character: char,
    bytes: Bytes,
    signed: i64,
    unsigned: u64,
    wide: i128,
    by_number: BTreeMap<i64, String>,
    by_small_number: BTreeMap<u8, Bytes>,
    by_id: BTreeMap<u64, Option<Bytes>>,
    option: Option<Option<u8>>,
    list: Vec<(u8, Option<String>)>,
    duration: Duration,
    shapes: Vec<Shape>,
    unit: (),
    unit_struct: Unit,
}

fn blob() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..8).prop_map(Bytes::from)
}

fn shape() -> impl Strategy<Value = Shape> {
    let leaf = prop_oneof![
        Just(Shape::Empty),
        any::<u64>().prop_map(|id| Shape::Id(Id(id))),
        Just(Shape::Nothing(())),
        (any::<i64>(), blob()).prop_map(|(number, bytes)| Shape::Pair(number, bytes)),
    ];
    leaf.prop_recursive(3, 3, 1, |inner| {
        (blob(), option::of(inner.prop_map(Box::new)))
            .prop_map(|(bytes, next)| Shape::Named { bytes, next })
    })
}

fn untagged() -> impl Strategy<Value = Untagged> {
    prop_oneof![
        blob().prop_map(Untagged::Bytes),
        any::<i64>().prop_map(Untagged::Signed),
        (1_u64 << 63..).prop_map(Untagged::Unsigned),
        vec(any::<bool>(), 0..3).prop_map(Untagged::Flags),
        option::of(blob()).prop_map(|bytes| Untagged::Named { bytes }),
    ]
}

fn flattened() -> impl Strategy<Value = Flattened> {
    let inner = (blob(), vec(blob(), 0..3), any::<Option<i64>>());
    let inner = inner.prop_map(|(blob, blobs, wide)| Inner { blob, blobs, wide });
    let rest = btree_map("[A-Z]{1,3}", untagged(), 0..3);
    (any::<u64>(), inner, rest).prop_map(|(id, inner, rest)| Flattened {
        id: Id(id),
        inner,
        rest,
    })
}

fn everything() -> impl Strategy<Value = Everything> {
    let scalars = (
        any::<String>(),
        any::<char>(),
        blob(),
        prop_oneof![any::<i64>(), Just(i64::MIN), Just(i64::MAX)],
        prop_oneof![any::<u64>(), Just(u64::MAX)],
        any::<i128>(),
        any::<(u32, u32)>(),
    );
    let compounds = (
        btree_map(any::<i64>(), any::<String>(), 0..3),
        btree_map(any::<u8>(), blob(), 0..3),
        btree_map(any::<u64>(), option::of(blob()), 0..3),
        option::of(any::<u8>()),
        vec(any::<(u8, Option<String>)>(), 0..3),
        vec(shape(), 0..3),
    );
    (scalars, compounds).prop_map(|(scalars, compounds)| {
        let (text, character, bytes, signed, unsigned, wide, (secs, nanos)) = scalars;
        let (by_number, by_small_number, by_id, option, list, shapes) = compounds;
        Everything {
            text,
            character,
            bytes,
            signed,
            unsigned,
            wide,
            by_number,
            by_small_number,
            by_id,
            option: option.map(Some),
            list,
            duration: Duration::new(u64::from(secs), nanos % 1_000_000_000),
            shapes,
            unit: (),
            unit_struct: Unit,
        }
    })
}

proptest! {
    #![proptest_config(config(150))]

    /// W-BODY-1 to W-BODY-8: both codecs carry the same values.
    #[test]
    fn values_survive_both_codecs(everything in everything()) {
        assert_survives(&everything);
    }

    /// W-BODY-4: bytes are bytes, also where serde has to buffer them before it knows their type.
    #[test]
    fn bytes_survive_untagged_and_flattened(value in flattened(), list in vec(untagged(), 0..4)) {
        assert_survives(&value);
        assert_survives(&list);
    }

    /// W-BODY-2: a value that has no type of its own is carried, too.
    #[test]
    fn untyped_values_survive_both_codecs(value in value()) {
        assert_survives(&value);
    }

    /// W-BODY-6: floats are exact in both codecs.
    #[test]
    fn finite_floats_survive_both_codecs(bits in any::<u64>(), small in any::<f32>()) {
        let float = f64::from_bits(bits);
        prop_assume!(float.is_finite() && small.is_finite());
        for codec in Codec::ALL {
            let read: f64 = carried(codec, &float).expect("a float");
            prop_assert_eq!(read.to_bits(), float.to_bits());
            let read: f32 = carried(codec, &small).expect("a float");
            prop_assert_eq!(read.to_bits(), small.to_bits());
        }
    }

    /// W-BODY-11: borrowed where that is possible, and the same value where it is not.
    #[test]
    fn borrowed_arguments_survive_escapes(text in any::<String>(), bytes in any::<Vec<u8>>()) {
        for codec in Codec::ALL {
            let body = encode(codec, &(&*text, ByteSlice(&bytes)));
            let names = &["text", "bytes"];
            let (read_text, read_bytes) =
                args::decode::<(BorrowedStr<'_>, BorrowedBytes<'_>)>(codec, &body, names)
                    .expect("arguments");
            prop_assert_eq!(&*read_text, &*text);
            prop_assert_eq!(&*read_bytes, &*bytes);
        }
    }

    /// W-BODY-12: a newer caller may send more, an older one less.
    #[test]
    fn trailing_arguments_may_be_extra_or_missing(
        text in any::<String>(),
        number in any::<Option<i64>>(),
        extra in value(),
    ) {
        for codec in Codec::ALL {
            let names = &["text", "number", "bytes"];
            let more = encode(codec, &(&text, number, extra.clone(), extra.clone()));
            let read = args::decode::<(String, Option<i64>)>(codec, &more, names);
            prop_assert_eq!(read.ok(), Some((text.clone(), number)));
            let less = encode(codec, &(&text,));
            let read =
                args::decode::<(String, Option<i64>, Option<Bytes>)>(codec, &less, names);
            prop_assert_eq!(read.ok(), Some((text.clone(), None, None)));
        }
    }

    /// W-BODY-1: bytes of any kind are a value or an error.
    #[test]
    fn any_byte_string_is_a_body_or_an_error(bytes in vec(any::<u8>(), 0..100)) {
        for codec in Codec::ALL {
            let _ = body::decode::<Everything>(codec, &bytes);
            let _ = body::decode::<Flattened>(codec, &bytes);
            let _ = body::decode::<Value>(codec, &bytes);
            let _ = args::decode::<(BorrowedStr<'_>, Option<Shape>)>(codec, &bytes, &["a", "b"]);
        }
    }

    /// W-BODY-1: so is a body that was damaged.
    #[test]
    fn any_mutated_body_is_a_body_or_an_error(
        everything in everything(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        for codec in Codec::ALL {
            let mut body = encode(codec, &everything);
            for (at, byte) in &changes {
                let at = at.index(body.len());
                body[at] = *byte;
            }
            let _ = body::decode::<Everything>(codec, &body);
            body.truncate(changes[0].0.index(body.len()));
            prop_assert!(body::decode::<Everything>(codec, &body).is_err());
        }
    }
}

/// W-BODY-6: JSON has no NaN and no infinity. Its writer writes null, which is no float.
#[test]
fn json_does_not_carry_floats_that_are_not_finite() {
    for float in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let read: f64 = carried(Codec::MessagePack, &float).expect("a float");
        assert_eq!(read.to_bits(), float.to_bits());
        assert_eq!(encode(Codec::Json, &float), b"null");
        assert!(carried(Codec::Json, &float).is_err());
        assert_eq!(carried(Codec::Json, &Some(float)), Ok(None));
    }
}

/// W-BODY-7: an option adds nothing to its value, so that one within another, or around a value
/// that is written as null, is lost.
#[test]
fn an_option_of_what_is_null_reads_as_none() {
    for codec in Codec::ALL {
        assert_eq!(carried(codec, &Some(Some(7_u8))), Ok(Some(Some(7))));
        assert_eq!(carried(codec, &Some(None::<u8>)), Ok(None));
        assert_eq!(carried(codec, &Some(())), Ok(None));
    }
    // A unit struct is an empty array in MessagePack, and null in JSON.
    assert_eq!(carried(Codec::MessagePack, &Some(Unit)), Ok(Some(Unit)));
    assert_eq!(carried(Codec::Json, &Some(Unit)), Ok(None));
}

/// W-BODY-5: keys of JSON objects are strings, and only what has one form as a string can be one.
#[test]
fn json_keys_are_strings_numbers_and_truth_values() {
    let cannot = |encoded: Result<(), body::BodyError>| assert!(encoded.is_err());
    let bytes = BTreeMap::from([(Bytes::from("k"), 1)]);
    let pairs = BTreeMap::from([((1, 2), 1)]);
    cannot(body::encode(Codec::Json, &bytes, &mut Vec::new()));
    cannot(body::encode(Codec::Json, &pairs, &mut Vec::new()));
    assert_eq!(carried(Codec::MessagePack, &bytes), Ok(bytes));
    assert_eq!(carried(Codec::MessagePack, &pairs), Ok(pairs));
    assert_survives(&BTreeMap::from([(i128::MIN, 1)]));
    assert_survives(&BTreeMap::from([(true, 1)]));
    assert_survives(&BTreeMap::from([('x', 1)]));
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct FlattenedNumbers {
    id: u64,
    #[serde(flatten)]
    rest: BTreeMap<u8, u8>,
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
#[serde(untagged)]
enum UntaggedNumbers {
    Map(BTreeMap<u8, u8>),
}

/// W-BODY-5: where serde buffers a value before it knows its type, a key in JSON stays a string.
#[test]
fn json_does_not_carry_integer_keys_through_untagged_and_flattened() {
    let rest = BTreeMap::from([(1, 2)]);
    let flattened = FlattenedNumbers {
        id: 7,
        rest: rest.clone(),
    };
    assert!(carried(Codec::Json, &flattened).is_err());
    assert_eq!(carried(Codec::MessagePack, &flattened), Ok(flattened));
    let untagged = UntaggedNumbers::Map(rest);
    assert!(carried(Codec::Json, &untagged).is_err());
    assert_eq!(carried(Codec::MessagePack, &untagged), Ok(untagged));
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
#[serde(untagged)]
enum TextOrBytes {
    Text(String),
    Bytes(Bytes),
}

/// W-BODY-8: strings and bytes cannot be told apart where no type says which it is.
#[test]
fn an_untagged_choice_between_text_and_bytes_is_not_carried() {
    let bytes = TextOrBytes::Bytes("abc".into());
    let as_text = |text: &str| Ok(TextOrBytes::Text(text.to_owned()));
    assert_eq!(carried(Codec::Json, &bytes), as_text("YWJj"));
    assert_eq!(carried(Codec::MessagePack, &bytes), as_text("abc"));
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct Wide {
    wide: i128,
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct FlattenedWide {
    #[serde(flatten)]
    inner: Wide,
}

/// W-BODY-3: integers of more than 64 bits are carried, but not through buffers of serde.
#[test]
fn wide_integers_are_not_carried_through_flattened() {
    assert_survives(&Wide { wide: i128::MIN });
    assert_survives(&u128::MAX);
    let inner = Wide { wide: i128::MAX };
    assert!(carried(Codec::MessagePack, &FlattenedWide { inner }).is_err());
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
enum Nest {
    Not(Box<Nest>),
    All(Vec<Nest>),
    Both(Box<Nest>, ()),
    Field { inner: Option<Box<Nest>> },
    Leaf,
}

/// W-BODY-10: 64 arrays and maps within each other, in both codecs, whatever they stand for.
#[test]
fn nesting_is_limited_alike_in_both_codecs() {
    type Wrap = fn(Nest) -> Nest;
    let levels: [(Wrap, usize); 4] = [
        (|inner| Nest::Not(Box::new(inner)), 1),
        (|inner| Nest::All(vec![inner]), 2),
        (|inner| Nest::Both(Box::new(inner), ()), 2),
        (
            |inner| Nest::Field {
                inner: Some(Box::new(inner)),
            },
            2,
        ),
    ];
    for codec in Codec::ALL {
        for (wrap, depth) in levels {
            let nest = |times| (0..times).fold(Nest::Leaf, |inner, _| wrap(inner));
            let deepest = nest(MAX_NESTING / depth);
            assert_eq!(carried(codec, &deepest).as_ref(), Ok(&deepest));
            let too_deep = carried(codec, &nest(MAX_NESTING / depth + 1));
            let error = too_deep.expect_err("too deep");
            assert!(error.contains("nested deeper than 64 levels"), "{error}");
        }
    }
}

/// W-BODY-10: depth costs no stack, whatever type is asked for.
#[test]
fn deep_bodies_are_refused_without_recursion() {
    const DEPTH: usize = 100_000;
    fn refused<T: DeserializeOwned + Debug>(codec: Codec, body: &[u8]) {
        assert!(body::decode::<T>(codec, body).is_err());
        assert!(args::decode::<(T,)>(codec, body, &["a"]).is_err());
    }
    for level in [&[0x91][..], &[0x81, 0xa3, b'N', b'o', b't'], &[0xdc, 0, 1]] {
        let body = [&level.repeat(DEPTH)[..], &[0xa4], b"Leaf"].concat();
        refused::<Nest>(Codec::MessagePack, &body);
        refused::<Value>(Codec::MessagePack, &body);
        refused::<serde::de::IgnoredAny>(Codec::MessagePack, &body);
    }
    for level in ["[", "{\"Not\":", "{\"All\":["] {
        let body = level.repeat(DEPTH);
        refused::<Nest>(Codec::Json, body.as_bytes());
        refused::<Value>(Codec::Json, body.as_bytes());
        refused::<serde::de::IgnoredAny>(Codec::Json, body.as_bytes());
    }
    // What nobody asks for is passed over.
    let ignored = format!("[1,{}{}]", "[".repeat(DEPTH), "]".repeat(DEPTH));
    let read = args::decode::<(u8,)>(Codec::Json, ignored.as_bytes(), &["a"]);
    assert_eq!(read.ok(), Some((1,)));
}
