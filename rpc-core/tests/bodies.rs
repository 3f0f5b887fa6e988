//! The golden vectors of bodies, each as the Rust type that it stands for.

mod support;

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    net::IpAddr,
    time::Duration,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use support::{bytes, from_text, key, text, to_text, vectors};
use wirecall_core::{
    Bytes, Codec,
    body::{
        self,
        args::{self, BorrowedStr, NoArguments},
    },
};

#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct UnitStruct;

#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct NoFields {}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct Line {
    id: u64,
    text: String,
    tags: Vec<String>,
    reply_to: Option<u64>,
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct NewType(u64);

#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct TupleStruct(u64, String);

#[derive(Serialize, Deserialize, Debug, PartialEq)]
enum Light {
    Off,
    Level(u8),
    Mix(u8, u8),
    Blink { every: u32, times: Option<u32> },
    Raw(Bytes),
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
#[serde(untagged)]
enum Untagged {
    Bytes(Bytes),
    Number(u64),
    List(Vec<u64>),
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct Flattened {
    id: u64,
    #[serde(flatten)]
    rest: BTreeMap<String, Bytes>,
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
#[serde(tag = "type")]
enum Tagged {
    File { data: Bytes },
}

/// All vectors, and which of them were looked at.
struct Bodies {
    vectors: BTreeMap<String, Value>,
    seen: RefCell<BTreeSet<String>>,
}

impl Bodies {
    fn load() -> Self {
        let vectors = vectors("bodies.json").into_iter();
        Bodies {
            vectors: vectors
                .map(|vector| (text(&vector, "name").to_owned(), vector))
                .collect(),
            seen: RefCell::default(),
        }
    }

    fn vector(&self, name: &str) -> &Value {
        self.seen.borrow_mut().insert(name.to_owned());
        &self.vectors[name]
    }

    /// The value is written as the vector says, and read from it and from all that it may also be.
    fn check<T>(&self, name: &str, value: T)
    where
        T: Serialize + DeserializeOwned + PartialEq + Debug,
    {
        self.check_with(name, &value, |codec, bytes| {
            let decoded = body::decode::<T>(codec, bytes);
            assert_eq!(decoded.unwrap_or_else(|e| panic!("{name}: {e}")), value);
        });
    }

    fn check_with<T: Serialize>(&self, name: &str, value: &T, decode: impl Fn(Codec, &[u8])) {
        let vector = self.vector(name);
        for codec in Codec::ALL {
            let canonical = bytes(vector, codec).expect("both codecs");
            if vector.get("decode_only").is_none() {
                let mut out = Vec::new();
                body::encode(codec, value, &mut out).expect(name);
                assert_eq!(to_text(&out, codec), to_text(&canonical, codec), "{name}");
            }
            decode(codec, &canonical);
            let also = &vector[format!("{}_also", key(codec))];
            for other in also.as_array().into_iter().flatten() {
                let other = other.as_str().expect("a string");
                decode(codec, &from_text(other, codec));
            }
        }
    }

    fn refused<T: DeserializeOwned + Debug>(&self, name: &str) {
        self.refused_by(name, |codec, bytes| {
            body::decode::<T>(codec, bytes)
                .map(|value| format!("{value:?}"))
                .map_err(drop)
        });
    }

    fn refused_by(&self, name: &str, decode: impl Fn(Codec, &[u8]) -> Result<String, ()>) {
        let vector = self.vector(name);
        assert!(vector.get("refused").is_some(), "{name}");
        for codec in Codec::ALL {
            if let Some(bytes) = bytes(vector, codec) {
                assert_eq!(decode(codec, &bytes), Err(()), "{name}, {codec:?}");
            }
        }
    }
}

fn two_texts(codec: Codec, bytes: &[u8]) -> Result<String, ()> {
    args::decode::<(BorrowedStr<'_>, BorrowedStr<'_>)>(codec, bytes, &["room", "text"])
        .map(|(room, text)| format!("{} {}", &*room, &*text))
        .map_err(drop)
}

/// W-BODY-1 to W-BODY-12: every shape, in both codecs and both directions.
#[test]
fn every_body_is_read_and_written_as_its_vector_shows() {
    let bodies = Bodies::load();
    check_arguments(&bodies);
    check_numbers(&bodies);
    check_text_and_bytes(&bodies);
    check_compounds(&bodies);
    check_refusals(&bodies);
    let all: BTreeSet<_> = bodies.vectors.keys().cloned().collect();
    assert_eq!(all, bodies.seen.into_inner(), "vectors without a test");
}

fn check_arguments(bodies: &Bodies) {
    bodies.check_with("no_arguments", &NoArguments, |codec, bytes| {
        args::decode::<()>(codec, bytes, &[]).expect("no arguments");
    });
    let expect_texts = |codec, bytes: &[u8]| {
        assert_eq!(two_texts(codec, bytes).as_deref(), Ok("lobby hi"));
    };
    bodies.check_with("arguments", &("lobby", "hi"), expect_texts);
    bodies.check_with("extra_arguments", &(), expect_texts);
    let optional = ("lobby".to_owned(), None::<u64>);
    bodies.check_with("an_optional_argument", &optional, |codec, bytes| {
        let read = args::decode::<(String, Option<u64>)>(codec, bytes, &["room", "limit"]);
        assert_eq!(read.expect("arguments"), optional);
    });
}

fn check_numbers(bodies: &Bodies) {
    bodies.check("true", true);
    bodies.check("false", false);
    for (name, number) in [
        ("0", 0),
        ("127", 127),
        ("128", 128),
        ("255", 255),
        ("256", 256),
        ("65535", 65535),
        ("65536", 65536),
        ("2_32_less_1", u64::from(u32::MAX)),
        ("2_32", 1 << 32),
        ("2_53_and_1", (1 << 53) + 1),
        ("2_63", 1 << 63),
        ("2_64_less_1", u64::MAX),
    ] {
        bodies.check(&format!("unsigned_{name}"), number);
    }
    for (name, number) in [
        ("minus_1", -1),
        ("minus_32", -32),
        ("minus_33", -33),
        ("minus_128", -128),
        ("minus_129", -129),
        ("minus_2_15", i64::from(i16::MIN)),
        ("minus_2_15_less_1", i64::from(i16::MIN) - 1),
        ("minus_2_31", i64::from(i32::MIN)),
        ("minus_2_31_less_1", i64::from(i32::MIN) - 1),
        ("minus_2_63", i64::MIN),
        ("2_63_less_1", i64::MAX),
    ] {
        bodies.check(&format!("signed_{name}"), number);
    }
    bodies.check("signed_of_128_bits", i128::MIN);
    bodies.check("a_float", 1.5_f64);
    bodies.check("a_float_that_is_whole", 1.0_f64);
    bodies.check("a_float_that_is_minus_zero", -0.0_f64);
    bodies.check("a_float_that_is_small", 5e-324_f64);
    bodies.check("a_float_of_32_bits", 0.5_f32);
}

fn check_text_and_bytes(bodies: &Bodies) {
    bodies.check("text", "a \"quoted\" \\ é🦀".to_owned());
    bodies.check("text_with_controls", "\n\t\u{1}\u{7f}".to_owned());
    bodies.check("text_that_is_empty", String::new());
    for length in [31, 32, 255, 256] {
        bodies.check(&format!("text_of_{length}_bytes"), "x".repeat(length));
    }
    bodies.check("a_character", '🦀');
    bodies.check("bytes", Bytes::from_static(&[0, 0xff, 0x10]));
    bodies.check("bytes_that_are_empty", Bytes::default());
    bodies.check("bytes_with_padding", Bytes::from_static(&[1]));
    bodies.check("an_address", IpAddr::from([192, 0, 2, 7]));
}

fn check_compounds(bodies: &Bodies) {
    bodies.check("unit", ());
    bodies.check("a_unit_struct", UnitStruct);
    bodies.check("a_struct_without_fields", NoFields {});
    bodies.check("a_list", vec![1_u64, 300, 70000]);
    bodies.check("a_list_of_16", (0..16).collect::<Vec<u64>>());
    bodies.check("a_list_of_small_numbers", vec![0_u8, 255]);
    bodies.check("a_tuple", (1_u64, "x".to_owned(), true));
    let line = Line {
        id: 7,
        text: "hi".to_owned(),
        tags: vec!["a".to_owned()],
        reply_to: None,
    };
    bodies.check("a_struct", line);
    bodies.check("a_new_type", NewType(7));
    bodies.check("a_tuple_struct", TupleStruct(7, "x".to_owned()));
    bodies.check("a_present_option", Some(7_u64));
    bodies.check("an_absent_option", None::<u64>);
    bodies.check("a_unit_variant", Light::Off);
    bodies.check("a_new_type_variant", Light::Level(3));
    bodies.check("a_tuple_variant", Light::Mix(1, 2));
    let blink = Light::Blink {
        every: 500,
        times: None,
    };
    bodies.check("a_struct_variant", blink);
    bodies.check("a_variant_with_bytes", Light::Raw("hi".into()));
    let text_keys = [("a".to_owned(), 1_u64), ("b".to_owned(), 2)];
    bodies.check("a_map_with_text_keys", BTreeMap::from(text_keys));
    let integer_keys = [(-5_i64, 'a'), (7, 'b'), (1 << 40, 'c')];
    bodies.check("a_map_with_integer_keys", BTreeMap::from(integer_keys));
    let truth_keys = [(false, 0_u64), (true, 1)];
    bodies.check("a_map_with_truth_keys", BTreeMap::from(truth_keys));
    let bytes = [("k".to_owned(), Bytes::from_static(&[0, 1]))];
    bodies.check("a_map_of_bytes", BTreeMap::from(bytes));
    bodies.check("a_duration", Duration::from_millis(1500));
    bodies.check("an_untagged_number", Untagged::Number(7));
    let untagged = Untagged::Bytes(Bytes::from_static(&[0, 0xff]));
    bodies.check("untagged_bytes", untagged);
    let flattened = Flattened {
        id: 7,
        rest: BTreeMap::from([("data".to_owned(), Bytes::from("hi"))]),
    };
    bodies.check("a_flattened_struct", flattened);
    let tagged = Tagged::File { data: "hi".into() };
    bodies.check("an_internally_tagged_variant", tagged);
    bodies.check("a_result", Ok::<u64, String>(7));
    let deep = (1..64).fold(Value::Array(Vec::new()), |inner, _| {
        Value::Array(vec![inner])
    });
    bodies.check("64_levels", deep);
}

fn check_refusals(bodies: &Bodies) {
    bodies.refused::<Value>("65_levels");
    bodies.refused::<()>("two_values");
    bodies.refused::<()>("no_value");
    bodies.refused::<Vec<u64>>("a_value_that_is_cut_off");
    bodies.refused::<Vec<u64>>("a_list_of_2_32");
    bodies.refused::<u64>("a_float_for_an_integer");
    bodies.refused::<u8>("a_number_that_is_too_large");
    bodies.refused::<Bytes>("a_list_for_bytes");
    bodies.refused::<Bytes>("bytes_that_are_no_base64");
    bodies.refused::<Bytes>("bytes_in_the_other_base64");
    bodies.refused::<f64>("not_a_number");
    bodies.refused::<Light>("an_unknown_variant");
    bodies.refused_by("a_missing_argument", two_texts);
    bodies.refused_by("arguments_as_a_map", two_texts);
}
