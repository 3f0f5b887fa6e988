//! Encoded bodies of several parts, so that what is large in them need not be copied.

use std::{
    borrow::Cow,
    io::{self, Write},
};

use bytes::Bytes;

use super::bytes::offered;

/// An encoded body. Its parts follow one another; none is empty.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rope(Vec<Part>);

#[derive(Clone, Debug)]
struct Part {
    /// How many bytes of the body there are up to the end of this part.
    end: usize,
    bytes: Bytes,
}

impl Rope {
    pub(crate) fn len(&self) -> usize {
        self.0.last().map_or(0, |last| last.end)
    }

    fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            let end = self.len() + bytes.len();
            self.0.push(Part { end, bytes });
        }
    }

    /// What lies behind `start` in one piece: up to the end of its part.
    pub(crate) fn piece(&self, start: usize) -> &[u8] {
        let index = self.0.partition_point(|part| part.end <= start);
        self.0.get(index).map_or(&[], |part| {
            let left = part.end - start;
            &part.bytes[part.bytes.len() - left..]
        })
    }

    /// The first bytes, up to so many.
    pub(crate) fn first(&self, max_bytes: usize) -> Cow<'_, [u8]> {
        let wanted = self.len().min(max_bytes);
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
