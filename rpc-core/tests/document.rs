//! `docs/PROTOCOL.md` against the code: its examples, its tables, its rule ids.

mod support;

use std::{collections::BTreeSet, fs, time::Duration};

use serde_json::Value;
use support::{frames, from_text, integer, read_file, text, to_text, vectors};
use wirecall_core::{
    CloseCode, Code, Codec, Limits, MAX_ALIASES, body,
    protocol::{Batch, Frame, MAX_CREDENTIAL_BYTES, MAX_METHOD_NAME_BYTES, OptionValue, Packer},
};

fn document() -> String {
    read_file("docs/PROTOCOL.md")
}

/// The lines of each fenced block with this info string.
fn blocks<'a>(document: &'a str, info: &str) -> Vec<Vec<&'a str>> {
    let opening = format!("```{info}");
    let mut lines = document.lines();
    let mut blocks = Vec::new();
    while lines.by_ref().any(|line| line == opening) {
        blocks.push(lines.by_ref().take_while(|line| *line != "```").collect());
    }
    blocks
}

/// The cells of all tables whose header row is this.
fn table<'a>(document: &'a str, header: &str) -> Vec<Vec<&'a str>> {
    let rows: Vec<Vec<_>> = document
        .lines()
        .skip_while(|line| *line != header)
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|row| row.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    assert!(!rows.is_empty(), "no table {header}");
    rows
}

/// Without what stands behind ` # `.
fn without_comment(line: &str) -> &str {
    line.split_once(" # ").map_or(line, |(hex, _)| hex)
}

/// The message under a label in a block of examples; further lines of it are indented.
fn labelled(block: &[&str], codec: Codec) -> Vec<u8> {
    let label = support::key(codec);
    let mut lines = block.iter().skip_while(|line| !line.starts_with(label));
    let first = lines
        .next()
        .unwrap_or_else(|| panic!("no {label} in {block:?}"));
    let further = lines.take_while(|line| line.starts_with(' '));
    let first = &first[label.len()..];
    let text: Vec<_> = [first]
        .into_iter()
        .chain(further.copied())
        .map(|line| match codec {
            Codec::MessagePack => without_comment(line).trim(),
            _ => line.trim(),
        })
        .collect();
    from_text(&text.concat(), codec)
}

fn untyped_body(codec: Codec, payload: &[u8]) -> Value {
    if payload.is_empty() {
        return Value::Null;
    }
    body::decode(codec, payload).unwrap_or_else(|error| panic!("{payload:?}: {error}"))
}

fn assert_same(codecs: [Codec; 2], frames: [&Frame<'_>; 2]) {
    assert_eq!(frames[0].head, frames[1].head);
    let entries = frames.map(|frame| frame.options.entries().collect::<Vec<_>>());
    assert_eq!(entries[0], entries[1]);
    let defined = |(_, value): &(_, OptionValue<'_>)| *value != OptionValue::Other;
    assert!(entries[0].iter().all(defined));
    let bodies = [0, 1].map(|at| untyped_body(codecs[at], frames[at].payload));
    assert_eq!(bodies[0], bodies[1]);
}

fn written(codec: Codec, frames: &[Frame<'_>]) -> Vec<String> {
    let mut packer = Packer::new(codec);
    for frame in frames {
        packer.push(frame);
    }
    let mut batch = Batch::default();
    packer.take(&mut batch);
    batch.messages().map(|m| to_text(m, codec)).collect()
}

/// W-FRAME-4, W-MSG-3: each example says the same in both codecs, in the form that is written.
#[test]
fn the_examples_are_frames_and_mean_the_same_in_both_codecs() {
    let document = document();
    let blocks: Vec<_> = ["frame", "message"]
        .into_iter()
        .flat_map(|info| blocks(&document, info))
        .collect();
    let mut kinds = BTreeSet::new();
    for block in blocks {
        let messages = Codec::ALL.map(|codec| labelled(&block, codec));
        let read = [0, 1].map(|at| {
            frames(Codec::ALL[at], &messages[at]).unwrap_or_else(|e| panic!("{block:?}: {e}"))
        });
        assert_eq!(read[0].len(), read[1].len(), "{block:?}");
        for (one, other) in read[0].iter().zip(&read[1]) {
            assert_same(Codec::ALL, [one, other]);
            kinds.insert(one.head.kind());
        }
        for at in [0, 1] {
            let codec = Codec::ALL[at];
            assert_eq!(written(codec, &read[at]), [to_text(&messages[at], codec)]);
        }
    }
    assert_eq!(kinds, (0..=18).collect(), "kinds without an example");
}

/// W-ORD-1: the conversations of the document are those of the golden vectors.
#[test]
fn the_conversations_are_those_of_the_vectors() {
    for name in [
        "conversation",
        "stream_conversation",
        "topic_conversation",
        "resume_conversation",
    ] {
        assert_conversation(name);
    }
}

fn assert_conversation(name: &str) {
    let document = document();
    for codec in Codec::ALL {
        let info = format!("{}-{}", name.replace('_', "-"), support::key(codec));
        // One for each of its connections.
        let blocks = blocks(&document, &info);
        let mut messages: Vec<(u64, &str, String)> = Vec::new();
        let lines = (1..).zip(&blocks);
        let lines = lines.flat_map(|(socket, block)| block.iter().map(move |line| (socket, line)));
        for (socket, line) in lines {
            let (mark, line) = line.split_at(2);
            let line = match codec {
                Codec::MessagePack => {
                    let hex = format!(" {line}");
                    without_comment(&hex).replace(' ', "")
                }
                _ => line.to_owned(),
            };
            match (mark, messages.last_mut()) {
                ("> ", _) => messages.push((socket, "dialler", line)),
                ("< ", _) => messages.push((socket, "acceptor", line)),
                (_, Some((.., message))) => message.push_str(&line),
                (_, None) => panic!("no mark before {line:?}"),
            }
        }
        let expected = vectors(&format!("{name}.json"));
        let expected: Vec<_> = expected
            .iter()
            .map(|vector| {
                let message = text(vector, support::key(codec)).to_owned();
                let socket = vector.get("socket").map_or(1, integer);
                (socket, text(vector, "from"), message)
            })
            .collect();
        assert_eq!(messages, expected);
    }
}

/// W-FRAME-2: number, name, fields and payload of each kind.
#[test]
fn the_table_of_kinds_is_that_of_the_codec() {
    let document = document();
    let header = "| kind | name | fields | payload | elements | counted |";
    let rows = table(&document, header);
    assert_eq!(rows.len(), 19);
    for vector in vectors("frames.json") {
        let meaning = &vector["meaning"];
        let kind = integer(&vector["kind"]);
        if kind > 18 || vector.get("decode_only").is_some() {
            continue;
        }
        let row = rows.iter().find(|row| row[0].parse() == Ok(kind));
        let row = row.unwrap_or_else(|| panic!("no kind {kind}"));
        assert_eq!(row[1], text(meaning, "frame"));
        let meant = meaning.as_object().expect("an object").keys();
        let meant: BTreeSet<_> = meant.map(String::as_str).collect();
        let mut fields: BTreeSet<_> = row[2]
            .split(", ")
            .filter(|field| !field.is_empty())
            .collect();
        let elements = 1 + fields.len() + usize::from(!row[3].is_empty());
        let says_all_in_options = kind < 2 || kind == 18;
        if !says_all_in_options {
            assert_eq!(row[4].parse(), Ok(elements), "{row:?}");
        }
        fields.insert("frame");
        fields.extend(Some("payload").filter(|_| !row[3].is_empty()));
        fields.extend(Some("options").filter(|_| meaning.get("options").is_some()));
        assert_eq!(meant, fields);
        let message = from_text(text(&vector, "json"), Codec::Json);
        let read = frames(Codec::Json, &message).expect("frames");
        assert_eq!(read[0].head.is_counted(), row[5] == "yes", "{row:?}");
        let elements =
            elements + usize::from(meaning.get("options").is_some() || says_all_in_options);
        let array: Value = serde_json::from_slice(&message).expect("JSON");
        assert_eq!(array.as_array().map(Vec::len), Some(elements));
    }
}

/// W-ERR-2: the codes have their canonical names.
#[test]
fn the_table_of_error_codes_is_that_of_the_code() {
    let document = document();
    let rows = table(&document, "| code | name | as a rule |");
    let numbers: Vec<u16> = rows.iter().filter_map(|row| row[0].parse().ok()).collect();
    assert_eq!(numbers, (1..=16).collect::<Vec<_>>());
    for row in rows {
        let code = Code::new(row[0].parse().expect("a number"));
        assert_eq!(code.to_string(), row[1]);
    }
}

/// W-CLOSE-2: each constant is in the table under its name, and nothing else has a name.
#[test]
fn the_table_of_close_codes_is_that_of_the_code() {
    let document = document();
    let rows = table(&document, "| code | name | when |");
    let named: Vec<_> = rows
        .iter()
        .filter(|row| !row[1].is_empty())
        .map(|row| (row[0].parse().ok(), row[1]))
        .collect();
    let codes = [
        (CloseCode::NORMAL, "NORMAL"),
        (CloseCode::GOING_AWAY, "GOING_AWAY"),
        (CloseCode::UNSUPPORTED_DATA, "UNSUPPORTED_DATA"),
        (CloseCode::ABNORMAL, "ABNORMAL"),
        (CloseCode::MESSAGE_TOO_BIG, "MESSAGE_TOO_BIG"),
        (CloseCode::FRAMING, "FRAMING"),
        (CloseCode::PROTOCOL, "PROTOCOL"),
        (CloseCode::HELLO_TIMEOUT, "HELLO_TIMEOUT"),
        (CloseCode::FLOOD, "FLOOD"),
        (CloseCode::UNAUTHENTICATED, "UNAUTHENTICATED"),
        (CloseCode::CREDENTIAL_EXPIRED, "CREDENTIAL_EXPIRED"),
        (CloseCode::SESSION_ENDED, "SESSION_ENDED"),
        (CloseCode::GAP, "GAP"),
        (CloseCode::TOMBSTONES, "TOMBSTONES"),
        (CloseCode::BEHIND, "BEHIND"),
        (CloseCode::MOVED, "MOVED"),
        (CloseCode::WRITE_STALL, "WRITE_STALL"),
    ];
    assert_eq!(named, codes.map(|(code, name)| (Some(code.value()), name)));
}

/// W-NEG-9: the defaults, in the table of limits and in that of HELLO.
#[test]
fn the_tables_of_limits_have_the_defaults() {
    let document = document();
    let limits = Limits::default();
    let milliseconds = |duration: Duration| duration.as_millis().to_string();
    let deadline = limits.default_deadline.map(milliseconds);
    let deadline = deadline.expect("a default");
    let heartbeat = limits.heartbeat.expect("a default");
    let announced = [
        ("1", limits.max_message_bytes.to_string()),
        ("3", limits.max_body_bytes.to_string()),
        ("5", limits.max_in_flight.to_string()),
        ("7", limits.notification_credit.to_string()),
        ("9", deadline),
        ("13", limits.stream_credit.items.to_string()),
        ("15", limits.stream_credit.bytes.to_string()),
        ("17", limits.max_assembly_bytes.to_string()),
    ];
    let hello = table(&document, "| key | value | default | meaning |");
    let hello: Vec<_> = hello
        .iter()
        .filter(|row| !row[2].is_empty())
        .map(|row| (row[0], row[2].to_owned()))
        .collect();
    let beats = [
        ("31", milliseconds(heartbeat.interval)),
        ("33", milliseconds(heartbeat.timeout)),
    ];
    // What is absent from HELLO has no default: there is no resume then.
    let kept = [
        ("19", limits.replay_bytes.to_string()),
        ("27", milliseconds(limits.resume_window)),
    ];
    assert_eq!(hello, [&announced[..], &beats].concat());
    let rows = table(&document, "| limit | default | key | beyond it |");
    let with_key = rows.iter().filter(|row| !row[2].is_empty());
    let with_key: Vec<_> = with_key.map(|row| (row[2], row[1].to_owned())).collect();
    assert_eq!(with_key, [&announced[..], &kept, &beats].concat());
    let without_key = rows.iter().filter(|row| row[2].is_empty());
    let without_key: Vec<_> = without_key.map(|row| row[1].to_owned()).collect();
    let expected = [
        limits.max_metadata_entries.to_string(),
        limits.max_metadata_bytes.to_string(),
        limits.outbound_queue_bytes.to_string(),
        limits.backlog_bytes.to_string(),
        limits.topic_queue_bytes.to_string(),
        limits.connection_window_bytes.to_string(),
        milliseconds(limits.hello_timeout),
        milliseconds(limits.write_stall),
        body::MAX_NESTING.to_string(),
        MAX_METHOD_NAME_BYTES.to_string(),
        MAX_ALIASES.to_string(),
        MAX_CREDENTIAL_BYTES.to_string(),
        (16 << 10).to_string(),
    ];
    assert_eq!(without_key, expected);
}

/// All that looks like the id of a rule.
fn rule_ids(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '-'))
        .filter(|word| {
            let number = word
                .strip_prefix("W-")
                .and_then(|rest| rest.split_once('-'));
            number.is_some_and(|(group, number)| {
                group.bytes().all(|byte| byte.is_ascii_uppercase()) && number.parse::<u32>().is_ok()
            })
        })
}

/// Rules are numbered without gaps, and a rule that is mentioned exists.
#[test]
fn every_rule_that_is_named_is_in_the_document() {
    let document = document();
    let mut rules = BTreeSet::new();
    let mut last = (String::new(), 0);
    for line in document.lines().filter(|line| line.starts_with("**W-")) {
        let rule = rule_ids(line).next().expect("an id");
        assert!(line.starts_with(&format!("**{rule}.** ")), "{line}");
        let (group, number) = rule.rsplit_once('-').expect("a number");
        let number: u32 = number.parse().expect("a number");
        let expected = if last.0 == group { last.1 + 1 } else { 1 };
        assert_eq!(number, expected, "{rule}");
        assert!(rules.insert(rule), "{rule} stands twice");
        last = (group.to_owned(), number);
    }
    assert!(rules.len() > 60);
    let mut sources = vec![document.clone()];
    for folder in ["tests", "tests/connection", "tests/support"] {
        let folder = format!("{}/{folder}", env!("CARGO_MANIFEST_DIR"));
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|extension| extension == "rs") {
                sources.push(fs::read_to_string(path).expect("a source file"));
            }
        }
    }
    for rule in sources.iter().flat_map(|source| rule_ids(source)) {
        assert!(rules.contains(rule), "{rule} is not in the document");
    }
}
