//! Frames in MessagePack (<https://github.com/msgpack/msgpack/blob/master/spec.md>): one array
//! after the other. Headers are written and read by hand; bodies are opaque.

use std::{borrow::Cow, cmp::Ordering};

use rmp::Marker;

use super::{
    frame::{
        CallId, ChunkState, Frame, FrameError, Head, MethodRef, Position, check_method_name,
        has_options_always, kind, shape,
    },
    options::Options,
};
use crate::body::MAX_NESTING;

pub(super) fn encode(frame: &Frame<'_>, out: &mut Vec<u8>) {
    let kind = frame.head.kind();
    let Some((fields, payload)) = shape(kind) else {
        return;
    };
    let options = !frame.options.is_empty() || has_options_always(kind);
    // At most 1 + 3 + 1 + 1 elements: always a fixarray.
    out.push(0x90 | (1 + fields + usize::from(options) + usize::from(payload)) as u8);
    out.push(kind);
    match &frame.head {
        Head::Hello | Head::Welcome | Head::Auth | Head::Ignored { .. } => {}
        Head::Ping { count, token } | Head::Pong { count, token } => {
            put_uint(out, *count);
            put_uint(out, *token);
        }
        Head::Ack { count } => put_uint(out, *count),
        Head::GoAway { code, count } => {
            put_uint(out, *code);
            put_uint(out, *count);
        }
        Head::Request { id, method } => {
            put_uint(out, id.value());
            put_method(out, method);
        }
        Head::Response { id }
        | Head::Item { id }
        | Head::End { id }
        | Head::Cancel { id }
        | Head::Open { id } => put_uint(out, id.value()),
        Head::Error { id, code, message } => {
            put_uint(out, id.value());
            put_uint(out, u64::from(*code));
            put_str(out, message);
        }
        Head::Credit { id, items, bytes } => {
            put_uint(out, id.value());
            put_uint(out, *items);
            put_uint(out, *bytes);
        }
        Head::Notify { method } | Head::Volatile { method } => put_method(out, method),
        Head::Chunk { id, state, .. } => {
            put_uint(out, id.value());
            put_uint(out, *state as u64);
        }
        Head::Define { alias, method } => {
            put_uint(out, *alias);
            put_str(out, method);
        }
    }
    if options {
        if frame.options.is_empty() {
            out.push(0x80);
        } else {
            out.extend_from_slice(frame.options.raw());
        }
    }
    if let Head::Chunk { piece, .. } = &frame.head {
        put_bin(out, piece);
    } else if payload {
        put_bin(out, frame.payload);
    }
}

/// The frames of which most messages are made, as most of them are: without options, and a request
/// by its method's alias.
pub(super) enum Plain<'a> {
    Request {
        id: CallId,
        alias: u64,
        payload: &'a [u8],
    },
    Response {
        id: CallId,
        payload: &'a [u8],
    },
    Item {
        id: CallId,
        payload: &'a [u8],
    },
}

/// Reads such a frame and moves past it. For all others, and for what is no frame at all, there is
/// [`next_frame`].
#[inline]
pub(super) fn next_plain<'a>(message: &'a [u8], position: &mut Position) -> Option<Plain<'a>> {
    let (plain, rest) = match message.get(position.offset..)? {
        [0x93, kind::RESPONSE, rest @ ..] => {
            let (id, rest) = small_uint(rest)?;
            let (payload, rest) = small_bin(rest)?;
            let id = CallId::new(id);
            (Plain::Response { id, payload }, rest)
        }
        [0x93, kind::ITEM, rest @ ..] => {
            let (id, rest) = small_uint(rest)?;
            let (payload, rest) = small_bin(rest)?;
            let id = CallId::new(id);
            (Plain::Item { id, payload }, rest)
        }
        [0x94, kind::REQUEST, rest @ ..] => {
            let (id, rest) = small_uint(rest)?;
            let (alias, rest) = small_uint(rest)?;
            let (payload, rest) = small_bin(rest)?;
            let id = CallId::new(id);
            (Plain::Request { id, alias, payload }, rest)
        }
        _ => return None,
    };
    position.offset = message.len() - rest.len();
    Some(plain)
}

#[inline]
fn small_uint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    match bytes {
        [value @ 0..=0x7f, rest @ ..] | [0xcc, value, rest @ ..] => Some((u64::from(*value), rest)),
        [0xcd, a, b, rest @ ..] => Some((u64::from(u16::from_be_bytes([*a, *b])), rest)),
        _ => None,
    }
}

#[inline]
fn small_bin(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    match bytes {
        [0xc4, length, rest @ ..] => rest.split_at_checked(usize::from(*length)),
        [0xc5, a, b, rest @ ..] => rest.split_at_checked(usize::from(u16::from_be_bytes([*a, *b]))),
        _ => None,
    }
}

/// Writes a request as [`next_plain`] reads it.
#[inline]
pub(super) fn put_request(out: &mut Vec<u8>, id: CallId, alias: u64, payload: &[u8]) {
    out.reserve(payload.len() + 16);
    out.extend_from_slice(&[0x94, kind::REQUEST]);
    put_uint(out, id.value());
    put_uint(out, alias);
    put_bin(out, payload);
}

/// Writes an ITEM without options.
#[inline]
pub(super) fn put_item(out: &mut Vec<u8>, id: CallId, payload: &[u8]) {
    out.reserve(payload.len() + 16);
    out.extend_from_slice(&[0x93, kind::ITEM]);
    put_uint(out, id.value());
    put_bin(out, payload);
}

/// What is before the body of a RESPONSE is written here, at the end of it, once that is known.
pub(crate) const RESPONSE_ROOM: [u8; 16] = [0; 16];

/// Puts what makes a RESPONSE without options around a body that was written behind
/// [`RESPONSE_ROOM`] right before that, and says where the frame begins.
#[inline]
pub(crate) fn complete_response(out: &mut Vec<u8>, id: CallId) -> usize {
    let end = out.len();
    out.extend_from_slice(&[0x93, kind::RESPONSE]);
    put_uint(out, id.value());
    put_bin_length(out, end - RESPONSE_ROOM.len());
    let start = RESPONSE_ROOM.len() - (out.len() - end);
    out.copy_within(end.., start);
    out.truncate(end);
    start
}

/// Begins an ITEM without options around a body that is about to be written. Says where that
/// begins, for [`end_item`].
#[inline]
pub(crate) fn begin_item(out: &mut Vec<u8>, id: CallId) -> usize {
    out.extend_from_slice(&[0x93, kind::ITEM]);
    put_uint(out, id.value());
    out.extend_from_slice(&[0xc4, 0]);
    out.len()
}

/// Ends the frame, and says where its body begins now.
#[inline]
pub(crate) fn end_item(out: &mut Vec<u8>, start: usize) -> usize {
    let length = out.len() - start;
    if let Ok(length) = u8::try_from(length) {
        out[start - 1] = length;
        return start;
    }
    // The body makes way for a longer length.
    let mut header = Vec::with_capacity(5);
    put_length(&mut header, [0xc5, 0xc6], length);
    let start = start - 2 + header.len();
    out.splice(start - header.len()..start - header.len() + 2, header);
    start
}

pub(super) fn next_frame<'a>(
    message: &'a [u8],
    position: &mut Position,
) -> Result<Option<Frame<'a>>, FrameError> {
    let mut reader = Reader(message.get(position.offset..).unwrap_or_default());
    if reader.0.is_empty() {
        return Ok(None);
    }
    let elements = reader.array()?;
    if elements == 0 {
        return Err(FrameError::Expected("a frame's kind"));
    }
    let kind = reader.uint()?;
    let frame = match u8::try_from(kind) {
        Ok(kind @ kind::FIRST_IGNORABLE..=kind::LAST_IGNORABLE) => {
            reader.skip(elements - 1)?;
            Frame::new(Head::Ignored { kind })
        }
        Ok(kind) => reader.frame(kind, elements)?,
        Err(_) => return Err(FrameError::UnknownKind(kind)),
    };
    position.offset = message.len() - reader.0.len();
    Ok(Some(frame))
}

#[inline(always)]
pub(crate) fn put_uint(out: &mut Vec<u8>, value: u64) {
    match value {
        0..=0x7f => out.push(value as u8),
        0x80..=0xff => out.extend_from_slice(&[0xcc, value as u8]),
        0x100..=0xffff => {
            let [a, b] = (value as u16).to_be_bytes();
            out.extend_from_slice(&[0xcd, a, b]);
        }
        _ => put_large_uint(out, value),
    }
}

#[cold]
fn put_large_uint(out: &mut Vec<u8>, value: u64) {
    if let Ok(value) = u32::try_from(value) {
        out.push(0xce);
        out.extend_from_slice(&value.to_be_bytes());
    } else {
        out.push(0xcf);
        out.extend_from_slice(&value.to_be_bytes());
    }
}

#[inline]
pub(crate) fn put_str(out: &mut Vec<u8>, text: &str) {
    match text.len() {
        length @ 0..=31 => out.push(0xa0 | length as u8),
        length @ 32..=0xff => out.extend_from_slice(&[0xd9, length as u8]),
        length => put_length(out, [0xda, 0xdb], length),
    }
    out.extend_from_slice(text.as_bytes());
}

#[inline]
pub(crate) fn put_bin(out: &mut Vec<u8>, bytes: &[u8]) {
    put_bin_length(out, bytes.len());
    out.extend_from_slice(bytes);
}

#[inline]
fn put_bin_length(out: &mut Vec<u8>, length: usize) {
    match length {
        0..=0xff => out.extend_from_slice(&[0xc4, length as u8]),
        _ => put_length(out, [0xc5, 0xc6], length),
    }
}

pub(crate) fn put_map(out: &mut Vec<u8>, entries: usize) {
    match entries {
        0..=15 => out.push(0x80 | entries as u8),
        _ => put_length(out, [0xde, 0xdf], entries),
    }
}

/// A length in two or four bytes behind the marker that says which. Nothing that long leaves
/// this process: bodies and messages are limited far below 4 GiB.
fn put_length(out: &mut Vec<u8>, [short, long]: [u8; 2], length: usize) {
    if let Ok(length) = u16::try_from(length) {
        out.push(short);
        out.extend_from_slice(&length.to_be_bytes());
    } else {
        out.push(long);
        out.extend_from_slice(&(length as u32).to_be_bytes());
    }
}

fn put_method(out: &mut Vec<u8>, method: &MethodRef<'_>) {
    match method {
        MethodRef::Name(name) => put_str(out, name),
        MethodRef::Alias(alias) => put_uint(out, *alias),
    }
}

/// The error for a value of the wrong type, unless the message ends there.
fn expected(what: &'static str, error: FrameError) -> FrameError {
    match error {
        FrameError::Truncated => error,
        _ => FrameError::Expected(what),
    }
}

/// The element at this place of an array.
pub(super) fn element(array: &[u8], place: u8) -> Option<&[u8]> {
    let mut reader = Reader(array);
    let elements = reader.array().ok()?;
    let place = usize::from(place);
    if place >= elements {
        return None;
    }
    reader.skip(place).ok()?;
    reader.raw().ok()
}

/// Checks that the bytes are exactly one value, whatever it means, in which arrays and maps are
/// nested no deeper than [`MAX_NESTING`], and all that lengths claim is there. Does not recurse.
#[inline]
pub(crate) fn check_value(bytes: &[u8]) -> Result<(), &'static str> {
    // Each level takes a byte at least: most bodies are too short for too many.
    let end = if bytes.len() <= MAX_NESTING {
        common_value_end(bytes)
    } else {
        None
    };
    let end = match end {
        Some(end) => end,
        None => bytes.len() - nested(bytes)?.len(),
    };
    match end.cmp(&bytes.len()) {
        Ordering::Equal => Ok(()),
        Ordering::Less => Err("something follows the value"),
        Ordering::Greater => Err(Fault::Truncated.into()),
    }
}

/// Where a value ends, which may be behind the bytes. `None` for those that are not in every body.
#[inline]
fn common_value_end(bytes: &[u8]) -> Option<usize> {
    let mut end = 0;
    let mut left = 1;
    while left > 0 {
        left -= 1;
        let first = *bytes.get(end)?;
        end += 1;
        match first {
            0x00..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff => {}
            0x80..=0x8f => left += 2 * usize::from(first & 0xf),
            0x90..=0x9f => left += usize::from(first & 0xf),
            0xa0..=0xbf => end += usize::from(first & 0x1f),
            0xc4 | 0xd9 => end += 1 + usize::from(*bytes.get(end)?),
            _ => return None,
        }
    }
    Some(end)
}

/// What stands behind a value in which arrays and maps are nested no deeper than [`MAX_NESTING`].
#[inline(never)]
fn nested(bytes: &[u8]) -> Result<&[u8], &'static str> {
    let mut reader = Reader(bytes);
    // How many values are left in each array and map around the current one.
    let mut around = [0; MAX_NESTING];
    let mut depth = 0;
    let mut left = 1;
    loop {
        while left > 0 {
            left -= 1;
            if let Some(values) = reader.step()? {
                *around
                    .get_mut(depth)
                    .ok_or("nested deeper than 64 levels")? = left;
                depth += 1;
                left = values;
            }
        }
        if depth == 0 {
            return Ok(reader.0);
        }
        depth -= 1;
        left = around[depth];
    }
}

/// Why a value cannot be passed over.
#[derive(Clone, Copy)]
enum Fault {
    Truncated,
    NoValue,
}

impl From<Fault> for FrameError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Truncated => FrameError::Truncated,
            Fault::NoValue => FrameError::Expected("a MessagePack value"),
        }
    }
}

impl From<Fault> for &'static str {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Truncated => "it ends within a value",
            Fault::NoValue => "no MessagePack",
        }
    }
}

/// What is left of a message. Every read checks that the bytes are there.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    fn frame(&mut self, kind: u8, elements: usize) -> Result<Frame<'a>, FrameError> {
        let Some((fields, payload)) = shape(kind) else {
            return Err(FrameError::UnknownKind(u64::from(kind)));
        };
        let bare = 1 + fields + usize::from(payload);
        let options = elements == bare + 1;
        if !options && (elements != bare || has_options_always(kind)) {
            return Err(FrameError::Arity { kind, elements });
        }
        let mut head = match kind {
            kind::HELLO => Head::Hello,
            kind::WELCOME => Head::Welcome,
            kind::PING => Head::Ping {
                count: self.uint()?,
                token: self.uint()?,
            },
            kind::PONG => Head::Pong {
                count: self.uint()?,
                token: self.uint()?,
            },
            kind::ACK => Head::Ack {
                count: self.uint()?,
            },
            kind::GOAWAY => Head::GoAway {
                code: self.uint()?,
                count: self.uint()?,
            },
            kind::REQUEST => Head::Request {
                id: self.id()?,
                method: self.method()?,
            },
            kind::RESPONSE => Head::Response { id: self.id()? },
            kind::ERROR => Head::Error {
                id: self.id()?,
                code: u16::try_from(self.uint()?)
                    .map_err(|_| FrameError::Expected("an error code up to 65535"))?,
                message: Cow::Borrowed(self.str()?),
            },
            kind::ITEM => Head::Item { id: self.id()? },
            kind::END => Head::End { id: self.id()? },
            kind::CREDIT => Head::Credit {
                id: self.id()?,
                items: self.uint()?,
                bytes: self.uint()?,
            },
            kind::CANCEL => Head::Cancel { id: self.id()? },
            kind::NOTIFY => Head::Notify {
                method: self.method()?,
            },
            kind::VOLATILE => Head::Volatile {
                method: self.method()?,
            },
            kind::CHUNK => Head::Chunk {
                id: self.id()?,
                state: ChunkState::from_wire(self.uint()?)
                    .ok_or(FrameError::Expected("a chunk state from 0 to 2"))?,
                piece: Cow::Borrowed(&[]),
            },
            kind::DEFINE => {
                let alias = self.uint()?;
                let method = self.str()?;
                check_method_name(method)?;
                Head::Define {
                    alias,
                    method: Cow::Borrowed(method),
                }
            }
            kind::OPEN => Head::Open { id: self.id()? },
            // The only one that is left of those with a shape.
            _ => Head::Auth,
        };
        let options = if options {
            self.options()?
        } else {
            Options::EMPTY
        };
        let mut payload = if payload { self.bin()? } else { &[] };
        if let Head::Chunk { piece, .. } = &mut head {
            *piece = Cow::Borrowed(std::mem::take(&mut payload));
        }
        Ok(Frame {
            head,
            options,
            payload,
        })
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], FrameError> {
        let (taken, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(FrameError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    fn marker(&mut self) -> Result<Marker, FrameError> {
        Ok(Marker::from_u8(self.take(1)?[0]))
    }

    fn be(&mut self, length: usize) -> Result<u64, FrameError> {
        Ok(self
            .take(length)?
            .iter()
            .fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    /// A length field. What it claims is checked against what is there before it is used.
    fn length(&mut self, bytes: usize) -> Result<usize, FrameError> {
        usize::try_from(self.be(bytes)?).map_err(|_| FrameError::Truncated)
    }

    fn array(&mut self) -> Result<usize, FrameError> {
        match self.marker()? {
            Marker::FixArray(length) => Ok(usize::from(length)),
            Marker::Array16 => self.length(2),
            Marker::Array32 => self.length(4),
            _ => Err(FrameError::Expected("a frame (an array)")),
        }
    }

    pub(super) fn map(&mut self) -> Result<usize, FrameError> {
        match self.marker()? {
            Marker::FixMap(length) => Ok(usize::from(length)),
            Marker::Map16 => self.length(2),
            Marker::Map32 => self.length(4),
            _ => Err(FrameError::Expected("options (a map)")),
        }
    }

    /// An unsigned integer in any of its encodings, also the signed ones that some encoders use.
    #[inline]
    pub(super) fn uint(&mut self) -> Result<u64, FrameError> {
        let negative = FrameError::Expected("an unsigned integer");
        match self.marker()? {
            Marker::FixPos(value) => Ok(u64::from(value)),
            Marker::U8 => self.be(1),
            Marker::U16 => self.be(2),
            Marker::U32 => self.be(4),
            Marker::U64 => self.be(8),
            Marker::I8 => self
                .be(1)
                .and_then(|v| (v < 1 << 7).then_some(v).ok_or(negative)),
            Marker::I16 => self
                .be(2)
                .and_then(|v| (v < 1 << 15).then_some(v).ok_or(negative)),
            Marker::I32 => self
                .be(4)
                .and_then(|v| (v < 1 << 31).then_some(v).ok_or(negative)),
            Marker::I64 => self
                .be(8)
                .and_then(|v| (v < 1 << 63).then_some(v).ok_or(negative)),
            _ => Err(negative),
        }
    }

    fn id(&mut self) -> Result<CallId, FrameError> {
        self.uint().map(CallId::new)
    }

    pub(super) fn str(&mut self) -> Result<&'a str, FrameError> {
        let expected = FrameError::Expected("a string");
        let length = match self.marker()? {
            Marker::FixStr(length) => usize::from(length),
            Marker::Str8 => self.length(1)?,
            Marker::Str16 => self.length(2)?,
            Marker::Str32 => self.length(4)?,
            _ => return Err(expected),
        };
        std::str::from_utf8(self.take(length)?).map_err(|_| FrameError::Expected("UTF-8"))
    }

    #[inline]
    pub(super) fn bin(&mut self) -> Result<&'a [u8], FrameError> {
        let length = match self.marker()? {
            Marker::Bin8 => self.length(1)?,
            Marker::Bin16 => self.length(2)?,
            Marker::Bin32 => self.length(4)?,
            _ => return Err(FrameError::Expected("a payload (bin)")),
        };
        self.take(length)
    }

    #[inline]
    fn method(&mut self) -> Result<MethodRef<'a>, FrameError> {
        match self.0.first().copied().map(Marker::from_u8) {
            Some(Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32) => {
                let name = self.str()?;
                check_method_name(name)?;
                Ok(MethodRef::Name(Cow::Borrowed(name)))
            }
            _ => self
                .uint()
                .map(MethodRef::Alias)
                .map_err(|error| expected("a method (a string or an alias)", error)),
        }
    }

    /// A map, checked so that [`Options::entries`] cannot meet anything unexpected.
    fn options(&mut self) -> Result<Options<'a>, FrameError> {
        let start = self.0;
        for _ in 0..self.map()? {
            self.uint_or_str()
                .map_err(|error| expected("an option's key (integer or string)", error))?;
            self.skip(1)?;
        }
        Ok(Options::new_messagepack(
            &start[..start.len() - self.0.len()],
        ))
    }

    fn uint_or_str(&mut self) -> Result<(), FrameError> {
        match self.0.first().copied().map(Marker::from_u8) {
            Some(Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32) => {
                self.str().map(drop)
            }
            _ => self.uint().map(drop),
        }
    }

    /// Moves past that many values, however they are nested, without recursion.
    pub(super) fn skip(&mut self, values: usize) -> Result<(), FrameError> {
        let mut left = values;
        while left > 0 {
            self.values(left)?;
            left = left - 1 + self.step()?.unwrap_or(0);
        }
        Ok(())
    }

    /// Moves past a value, or into an array or map. Then it says how many values stand in there.
    #[inline(always)]
    fn step(&mut self) -> Result<Option<usize>, Fault> {
        let (first, rest) = self.0.split_first().ok_or(Fault::Truncated)?;
        self.0 = rest;
        let bytes = match *first {
            0x00..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff => return Ok(None),
            fixmap @ 0x80..=0x8f => return self.values(2 * usize::from(fixmap & 0xf)),
            fixarray @ 0x90..=0x9f => return self.values(usize::from(fixarray & 0xf)),
            fixstr @ 0xa0..=0xbf => usize::from(fixstr & 0x1f),
            0xc4 | 0xd9 => self.claim::<1>()?,
            other => {
                // Not by reference, so that `self` is in registers for all others.
                let (rest, values) = Reader(rest).rare_step(other)?;
                self.0 = rest;
                return Ok(values);
            }
        };
        self.0 = self.0.get(bytes..).ok_or(Fault::Truncated)?;
        Ok(None)
    }

    /// The values that are not in every body.
    fn rare_step(mut self, first: u8) -> Result<(&'a [u8], Option<usize>), Fault> {
        let values = |length: usize, rest: Self| Ok((rest.0, rest.values(length)?));
        let bytes = match Marker::from_u8(first) {
            Marker::U8 | Marker::I8 => 1,
            Marker::U16 | Marker::I16 => 2,
            Marker::U32 | Marker::I32 | Marker::F32 => 4,
            Marker::U64 | Marker::I64 | Marker::F64 => 8,
            Marker::Str16 | Marker::Bin16 => self.claim::<2>()?,
            Marker::Str32 | Marker::Bin32 => self.claim::<4>()?,
            Marker::Array16 => return values(self.claim::<2>()?, self),
            Marker::Array32 => return values(self.claim::<4>()?, self),
            Marker::Map16 => return values(2 * self.claim::<2>()?, self),
            Marker::Map32 => return values(self.claim::<4>()?.saturating_mul(2), self),
            Marker::FixExt1 => 2,
            Marker::FixExt2 => 3,
            Marker::FixExt4 => 5,
            Marker::FixExt8 => 9,
            Marker::FixExt16 => 17,
            Marker::Ext8 => self.claim::<1>()?.saturating_add(1),
            Marker::Ext16 => self.claim::<2>()?.saturating_add(1),
            Marker::Ext32 => self.claim::<4>()?.saturating_add(1),
            _ => return Err(Fault::NoValue),
        };
        let rest = self.0.get(bytes..).ok_or(Fault::Truncated)?;
        Ok((rest, None))
    }

    /// A length field of so many bytes.
    fn claim<const BYTES: usize>(&mut self) -> Result<usize, Fault> {
        let (length, rest) = self
            .0
            .split_first_chunk::<BYTES>()
            .ok_or(Fault::Truncated)?;
        self.0 = rest;
        Ok(length
            .iter()
            .fold(0, |length, byte| length << 8 | usize::from(*byte)))
    }

    /// Each value takes a byte at least: a claim beyond that is not worth following.
    fn values(&self, claimed: usize) -> Result<Option<usize>, Fault> {
        if claimed > self.0.len() {
            return Err(Fault::Truncated);
        }
        Ok(Some(claimed))
    }

    /// The next value, as a whole.
    pub(super) fn raw(&mut self) -> Result<&'a [u8], FrameError> {
        let start = self.0;
        self.skip(1)?;
        Ok(&start[..start.len() - self.0.len()])
    }
}
