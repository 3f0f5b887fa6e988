//! Frames of both codecs, written and read without the code under test.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use wirecall::Codec;

/// Whether frames of this kind end with a payload.
fn has_payload(kind: u64) -> bool {
    [6, 7, 8, 9, 13, 14].contains(&kind)
}

pub fn is_counted(kind: u64) -> bool {
    matches!(kind, 6..=13 | 15..=17)
}

/// MessagePack, in formats of one size for each type.
fn pack(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.push(0xc0),
        Value::Bool(value) => out.push(0xc2 | u8::from(*value)),
        Value::Number(number) => {
            out.push(0xcf);
            out.extend(number.as_u64().unwrap().to_be_bytes());
        }
        Value::String(text) => {
            out.push(0xdb);
            out.extend((text.len() as u32).to_be_bytes());
            out.extend(text.as_bytes());
        }
        Value::Array(values) => {
            out.push(0xdd);
            out.extend((values.len() as u32).to_be_bytes());
            values.iter().for_each(|value| pack(value, out));
        }
        Value::Object(entries) => {
            out.push(0xdf);
            out.extend((entries.len() as u32).to_be_bytes());
            for (key, value) in entries {
                match key.parse::<u64>() {
                    Ok(number) => pack(&number.into(), out),
                    Err(_) => pack(&key.as_str().into(), out),
                }
                pack(value, out);
            }
        }
    }
}

fn pack_frame(frame: &Value, out: &mut Vec<u8>) {
    let fields = frame.as_array().unwrap();
    if !has_payload(fields[0].as_u64().unwrap()) {
        return pack(frame, out);
    }
    let (payload, fields) = fields.split_last().unwrap();
    out.push(0xdd);
    out.extend((fields.len() as u32 + 1).to_be_bytes());
    fields.iter().for_each(|field| pack(field, out));
    let mut body = Vec::new();
    pack(payload, &mut body);
    out.push(0xc6);
    out.extend((body.len() as u32).to_be_bytes());
    out.extend(body);
}

pub fn message(codec: Codec, frames: &[Value]) -> Message {
    if codec == Codec::Json {
        return Message::text(json!(frames).to_string());
    }
    let mut bytes = Vec::new();
    for frame in frames {
        pack_frame(frame, &mut bytes);
    }
    Message::binary(bytes)
}

/// As much of MessagePack as the server writes here. Payloads are read as what they hold.
fn unpack(bytes: &mut &[u8]) -> Value {
    fn take<'a>(bytes: &mut &'a [u8], length: usize) -> &'a [u8] {
        let (taken, rest) = bytes.split_at(length);
        *bytes = rest;
        taken
    }
    fn number(bytes: &mut &[u8], length: usize) -> u64 {
        let taken = take(bytes, length);
        taken
            .iter()
            .fold(0, |all, byte| all << 8 | u64::from(*byte))
    }
    let head = number(bytes, 1);
    let (kind, length) = match head {
        0x00..=0x7f => return head.into(),
        0x80..=0x8f => ('m', head & 0xf),
        0x90..=0x9f => ('a', head & 0xf),
        0xa0..=0xbf => ('s', head & 0x1f),
        0xc0 => return Value::Null,
        0xc2 | 0xc3 => return (head == 0xc3).into(),
        0xc4..=0xc6 => ('b', number(bytes, 1 << (head - 0xc4))),
        0xcc..=0xcf => return number(bytes, 1 << (head - 0xcc)).into(),
        0xd9..=0xdb => ('s', number(bytes, 1 << (head - 0xd9))),
        0xdc | 0xdd => ('a', number(bytes, 2 << (head - 0xdc))),
        other => panic!("{other:#x}"),
    };
    match kind {
        'a' => (0..length).map(|_| unpack(bytes)).collect(),
        'm' => {
            let entry = |_| {
                let key = match unpack(bytes) {
                    Value::String(key) => key,
                    key => key.to_string(),
                };
                (key, unpack(bytes))
            };
            Value::Object((0..length).map(entry).collect())
        }
        's' => {
            let text = take(bytes, length as usize);
            String::from_utf8(text.to_vec()).unwrap().into()
        }
        _ => match take(bytes, length as usize) {
            [] => Value::Null,
            mut body => unpack(&mut body),
        },
    }
}

/// The frames of a message; nothing if it carries none.
pub fn frames_of(message: Message) -> Vec<Value> {
    match message {
        Message::Text(text) => {
            let frames: Vec<Value> = serde_json::from_str(&text).unwrap();
            match frames.first() {
                Some(Value::Array(_)) => frames,
                _ => vec![frames.into()],
            }
        }
        Message::Binary(bytes) => {
            let mut rest = &bytes[..];
            let mut frames = Vec::new();
            while !rest.is_empty() {
                frames.push(unpack(&mut rest));
            }
            frames
        }
        _ => Vec::new(),
    }
}
