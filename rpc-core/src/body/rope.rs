//! Encoded bodies of several parts, so that what is large in them need not be copied.

use std::{
    borrow::Cow,
    io::{self, Write},
};

use bytes::Bytes;

use super::bytes::offered;

/// An encoded body. Its parts follow one another; none is empty.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rope {
    parts: Vec<Bytes>,
    length: usize,
}

impl Rope {
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    fn push(&mut self, part: Bytes) {
        if !part.is_empty() {
            self.length += part.len();
            self.parts.push(part);
        }
    }

    /// What lies behind `start` in one piece: up to the end of its part.
    pub(crate) fn piece(&self, start: usize) -> &[u8] {
        let mut before = 0;
        for part in &self.parts {
            if start < before + part.len() {
                return &part[start - before..];
            }
            before += part.len();
        }
        &[]
    }

    /// The first bytes, up to so many.
    pub(crate) fn first(&self, max_bytes: usize) -> Cow<'_, [u8]> {
        let wanted = self.length.min(max_bytes);
        if let Some(first) = self.piece(0).get(..wanted) {
            return Cow::Borrowed(first);
        }
        let mut bytes = Vec::with_capacity(wanted);
        while bytes.len() < wanted {
            let piece = self.piece(bytes.len());
            bytes.extend_from_slice(&piece[..piece.len().min(wanted - bytes.len())]);
        }
        Cow::Owned(bytes)
    }
}

impl From<Bytes> for Rope {
    fn from(body: Bytes) -> Self {
        let mut rope = Rope::default();
        rope.push(body);
        rope
    }
}

/// Writes an encoded value, but for the large [`Bytes`](super::bytes::Bytes) in it: those become
/// parts of their own.
pub(super) struct RopeWriter<'a> {
    out: &'a mut Vec<u8>,
    shared: &'a mut Shared,
}

/// Bytes that were left out of an encoded value, in order, each with the place that it belongs to.
#[derive(Debug, Default)]
pub(crate) struct Shared(Vec<(usize, Bytes)>);

impl Shared {
    /// The whole body. What `encoded` has before `start` is not a part of it.
    pub(crate) fn into_rope(self, encoded: &Bytes, mut start: usize) -> Rope {
        let mut rope = Rope::default();
        for (place, bytes) in self.0 {
            rope.push(encoded.slice(start..place));
            rope.push(bytes);
            start = place;
        }
        rope.push(encoded.slice(start..));
        rope
    }
}

impl<'a> RopeWriter<'a> {
    #[inline]
    pub(super) fn new(out: &'a mut Vec<u8>, shared: &'a mut Shared) -> Self {
        RopeWriter { out, shared }
    }
}

impl Write for RopeWriter<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match offered(bytes) {
            Some(shared) => self.shared.0.push((self.out.len(), shared)),
            None => self.out.extend_from_slice(bytes),
        }
        Ok(())
    }

    #[inline]
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
