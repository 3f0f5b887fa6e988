//! Frames in JSON (RFC 8259): a message is one frame, `[6,3,"Chat.post",["lobby","hi"]]`, or an
//! array of frames. The same fields as in MessagePack, with the payload inline.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    frame::{
        CallId, ChunkState, Frame, FrameError, Head, MethodRef, Position, check_method_name,
        has_options_always, kind, shape,
    },
    options::Options,
};

pub(super) fn encode(frame: &Frame<'_>, out: &mut Vec<u8>) {
    let kind = frame.head.kind();
    let Some((_, payload)) = shape(kind) else {
        return;
    };
    out.push(b'[');
    put(out, &kind);
    match &frame.head {
        Head::Hello | Head::Welcome | Head::Auth | Head::Ignored { .. } => {}
        Head::Ping { count, token } | Head::Pong { count, token } => {
            field(out, count);
            field(out, token);
        }
        Head::Ack { count } => field(out, count),
        Head::GoAway { code, count } => {
            field(out, code);
            field(out, count);
        }
        Head::Request { id, method } => {
            field(out, &id.value());
            method_field(out, method);
        }
        Head::Response { id }
        | Head::Item { id }
        | Head::End { id }
        | Head::Cancel { id }
        | Head::Open { id } => field(out, &id.value()),
        Head::Error { id, code, message } => {
            field(out, &id.value());
            field(out, code);
            field(out, message);
        }
        Head::Credit { id, items, bytes } => {
            field(out, &id.value());
            field(out, items);
            field(out, bytes);
        }
        Head::Notify { method } | Head::Volatile { method } => method_field(out, method),
        Head::Chunk { id, state, .. } => {
            field(out, &id.value());
            field(out, &(*state as u8));
        }
        Head::Define { alias, method } => {
            field(out, alias);
            field(out, method);
        }
    }
    if !frame.options.is_empty() {
        out.push(b',');
        out.extend_from_slice(frame.options.raw());
    } else if has_options_always(kind) {
        out.extend_from_slice(b",{}");
    }
    if let Head::Chunk { piece, .. } = &frame.head {
        field(out, &String::from_utf8_lossy(piece));
    } else if payload {
        out.push(b',');
        out.extend_from_slice(match frame.payload {
            [] => b"null",
            payload => payload,
        });
    }
    out.push(b']');
}

/// Writes a number or a string, which cannot fail on a `Vec`.
fn put<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    let written = serde_json::to_writer(out, value);
    debug_assert!(written.is_ok());
}

fn field<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    out.push(b',');
    put(out, value);
}

fn method_field(out: &mut Vec<u8>, method: &MethodRef<'_>) {
    match method {
        MethodRef::Name(name) => field(out, name),
        MethodRef::Alias(alias) => field(out, alias),
    }
}

/// How far the reader is in a message's outer structure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    #[default]
    Start,
    /// Before the first element of an array of frames.
    First,
    /// Behind an element of an array of frames.
    Next,
    /// Behind the last frame.
    End,
}

pub(super) fn next_frame<'a>(
    message: &'a [u8],
    position: &mut Position,
) -> Result<Option<Frame<'a>>, FrameError> {
    let mut cursor = Cursor(message.get(position.offset..).unwrap_or_default());
    if position.json == State::Start {
        cursor.expect(b'[')?;
        position.json = match cursor.peek() {
            Some(b'[' | b']') => State::First,
            _ => State::End,
        };
        if position.json == State::End {
            let frame = cursor.frame()?;
            position.offset = message.len() - cursor.0.len();
            return Ok(Some(frame));
        }
    }
    let frame = match position.json {
        State::End => None,
        _ if cursor.peek() == Some(b']') => {
            cursor.expect(b']')?;
            position.json = State::End;
            None
        }
        state => {
            if state == State::Next {
                cursor.expect(b',')?;
            }
            cursor.expect(b'[')?;
            position.json = State::Next;
            Some(cursor.frame()?)
        }
    };
    if frame.is_none() && cursor.peek().is_some() {
        return Err(FrameError::Expected("the end of the message"));
    }
    position.offset = message.len() - cursor.0.len();
    Ok(frame)
}

/// What is left of a message. Brackets and commas are read by hand, values by `serde_json`, which
/// copies nothing and does not recurse into what is only passed over.
pub(super) struct Cursor<'a>(pub(super) &'a [u8]);

impl<'a> Cursor<'a> {
    pub(super) fn peek(&mut self) -> Option<u8> {
        self.0 = self.0.trim_ascii_start();
        self.0.first().copied()
    }

    pub(super) fn expect(&mut self, byte: u8) -> Result<(), FrameError> {
        match self.peek() {
            Some(found) if found == byte => {
                self.0 = &self.0[1..];
                Ok(())
            }
            Some(_) if byte == b'[' => Err(FrameError::Expected("a frame (an array)")),
            Some(_) => Err(FrameError::Expected("a comma or a closing bracket")),
            None => Err(FrameError::Truncated),
        }
    }

    pub(super) fn value(&mut self) -> Result<&'a str, FrameError> {
        let mut values = serde_json::Deserializer::from_slice(self.0).into_iter::<&'a RawValue>();
        match values.next() {
            Some(Ok(value)) => {
                self.0 = &self.0[values.byte_offset()..];
                Ok(value.get())
            }
            Some(Err(error)) if error.is_eof() => Err(FrameError::Truncated),
            Some(Err(error)) => Err(FrameError::Json(error.to_string())),
            None => Err(FrameError::Truncated),
        }
    }

    /// The frame behind its opening bracket.
    fn frame(&mut self) -> Result<Frame<'a>, FrameError> {
        let kind = number(self.value()?)?;
        let kind = u8::try_from(kind).map_err(|_| FrameError::UnknownKind(kind))?;
        // The longest frame has three fields, options and a payload.
        let mut values = [""; 5];
        let mut count = 0;
        while self.peek() != Some(b']') {
            self.expect(b',')?;
            let value = self.value()?;
            if let Some(place) = values.get_mut(count) {
                *place = value;
            }
            count += 1;
        }
        self.expect(b']')?;
        if (kind::FIRST_IGNORABLE..=kind::LAST_IGNORABLE).contains(&kind) {
            return Ok(Frame::new(Head::Ignored { kind }));
        }
        frame(kind, values, count)
    }
}

/// The element at this place of an array.
pub(super) fn element(array: &[u8], place: u8) -> Option<&[u8]> {
    let mut cursor = Cursor(array);
    cursor.expect(b'[').ok()?;
    for _ in 0..place {
        cursor.value().ok()?;
        cursor.expect(b',').ok()?;
    }
    let element = cursor.value().ok()?;
    Some(element.as_bytes())
}

fn frame<'a>(kind: u8, values: [&'a str; 5], count: usize) -> Result<Frame<'a>, FrameError> {
    let Some((fields, payload)) = shape(kind) else {
        return Err(FrameError::UnknownKind(u64::from(kind)));
    };
    let bare = fields + usize::from(payload);
    let has_options = count == bare + 1;
    if !has_options && (count != bare || has_options_always(kind)) {
        return Err(FrameError::Arity {
            kind,
            elements: count + 1,
        });
    }
    let [first, second, third, ..] = values;
    let mut head = match kind {
        kind::HELLO => Head::Hello,
        kind::WELCOME => Head::Welcome,
        kind::PING => Head::Ping {
            count: number(first)?,
            token: number(second)?,
        },
        kind::PONG => Head::Pong {
            count: number(first)?,
            token: number(second)?,
        },
        kind::ACK => Head::Ack {
            count: number(first)?,
        },
        kind::GOAWAY => Head::GoAway {
            code: number(first)?,
            count: number(second)?,
        },
        kind::REQUEST => Head::Request {
            id: id(first)?,
            method: method(second)?,
        },
        kind::RESPONSE => Head::Response { id: id(first)? },
        kind::ERROR => Head::Error {
            id: id(first)?,
            code: u16::try_from(number(second)?)
                .map_err(|_| FrameError::Expected("an error code up to 65535"))?,
            message: string(third)?,
        },
        kind::ITEM => Head::Item { id: id(first)? },
        kind::END => Head::End { id: id(first)? },
        kind::CREDIT => Head::Credit {
            id: id(first)?,
            items: number(second)?,
            bytes: number(third)?,
        },
        kind::CANCEL => Head::Cancel { id: id(first)? },
        kind::NOTIFY => Head::Notify {
            method: method(first)?,
        },
        kind::VOLATILE => Head::Volatile {
            method: method(first)?,
        },
        kind::CHUNK => Head::Chunk {
            id: id(first)?,
            state: ChunkState::from_wire(number(second)?)
                .ok_or(FrameError::Expected("a chunk state from 0 to 2"))?,
            piece: Cow::Borrowed(&[]),
        },
        kind::DEFINE => {
            let name = string(second)?;
            check_method_name(&name)?;
            Head::Define {
                alias: number(first)?,
                method: name,
            }
        }
        kind::OPEN => Head::Open { id: id(first)? },
        // The only one that is left of those with a shape.
        _ => Head::Auth,
    };
    let options = if has_options {
        Options::new_json(values[fields])?
    } else {
        Options::EMPTY
    };
    let payload = if payload { values[count - 1] } else { "" };
    if let Head::Chunk { piece, .. } = &mut head {
        *piece = match string(payload)? {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        };
        return Ok(Frame {
            head,
            options,
            payload: &[],
        });
    }
    Ok(Frame {
        head,
        options,
        payload: payload.as_bytes(),
    })
}

fn number(text: &str) -> Result<u64, FrameError> {
    text.parse()
        .map_err(|_| FrameError::Expected("an unsigned integer"))
}

fn id(text: &str) -> Result<CallId, FrameError> {
    number(text).map(CallId::new)
}

/// A string, borrowed where it has no escapes.
pub(super) fn string(text: &str) -> Result<Cow<'_, str>, FrameError> {
    #[derive(Deserialize)]
    #[serde(transparent)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

    serde_json::from_str::<Text<'_>>(text)
        .map(|text| text.0)
        .map_err(|_| FrameError::Expected("a string"))
}

fn method(text: &str) -> Result<MethodRef<'_>, FrameError> {
    if text.starts_with('"') {
        let name = string(text)?;
        check_method_name(&name)?;
        return Ok(MethodRef::Name(name));
    }
    number(text)
        .map(MethodRef::Alias)
        .map_err(|_| FrameError::Expected("a method (a string or an alias)"))
}
