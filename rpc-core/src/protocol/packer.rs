//! Frames packed into messages. Many frames in one message divide what each message costs:
//! masking, a header, a wake-up.

use std::ops::Range;

use bytes::Bytes;

use super::{
    frame::{CallId, Frame},
    handshake::PeerLimits,
    messagepack,
};
use crate::{body::Codec, scratch};

/// A message is closed once it has that many bytes: a much larger one would be held up as a whole.
const PACK_BYTES: usize = 64 << 10;

/// A buffer larger than this is given back once it is empty.
const KEEP_BYTES: usize = 128 << 10;

/// Packs frames into messages, in the order in which they come.
#[derive(Debug)]
pub struct Packer {
    codec: Codec,
    /// The largest message that the peer takes.
    max_message_bytes: usize,
    bytes: Vec<u8>,
    /// The messages that are closed, in order.
    closed: Vec<Packed>,
    /// How many of them have been taken out.
    taken: usize,
    /// Where the others begin.
    first: usize,
    /// The message that is being packed.
    open: Packed,
    /// Counted frames that ever came in, and those of them that were taken out.
    counted: Count,
}

/// A message among the bytes of its packer.
#[derive(Clone, Debug, Default)]
struct Packed {
    start: usize,
    end: usize,
    frames: u32,
    counted: u32,
}

/// Counted frames (W-ORDER-4).
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    pushed: u64,
    taken: u64,
}

/// Whole messages, ready to be written.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    /// Where they stand, and how many counted frames they have.
    messages: Vec<(Range<usize>, u32)>,
    /// Large bodies of which these are the last pieces. Memory is given back when the batch is
    /// cleared, and no lock is held.
    pub(super) sent: Vec<Bytes>,
}

impl Packer {
    /// Nothing yet.
    #[must_use]
    pub fn new(codec: Codec) -> Self {
        Packer {
            codec,
            max_message_bytes: PeerLimits::default().max_message_bytes,
            bytes: Vec::new(),
            closed: Vec::new(),
            taken: 0,
            first: 0,
            open: Packed::default(),
            counted: Count::default(),
        }
    }

    /// Frames share a message only as long as it has no more bytes than this.
    pub fn limit_messages(&mut self, max_bytes: usize) {
        self.max_message_bytes = max_bytes;
    }

    pub(super) fn max_message_bytes(&self) -> usize {
        self.max_message_bytes
    }

    /// Appends a frame.
    pub fn push(&mut self, frame: &Frame<'_>) {
        let start = self.open_frame();
        frame.encode(self.codec, &mut self.bytes);
        self.close_frame(start, frame.head.is_counted());
    }

    /// Appends a REQUEST without options, in MessagePack.
    #[inline]
    pub(super) fn push_request(&mut self, id: CallId, alias: u64, body: &[u8]) {
        debug_assert_eq!(self.codec, Codec::MessagePack);
        let start = self.open_frame();
        messagepack::put_request(&mut self.bytes, id, alias, body);
        self.close_frame(start, true);
    }

    /// Appends a frame that was encoded before, with the same codec.
    #[inline]
    pub(super) fn push_encoded(&mut self, frame: &[u8], is_counted: bool) {
        let start = self.open_frame();
        self.bytes.extend_from_slice(frame);
        self.close_frame(start, is_counted);
    }

    /// Says where the frame begins.
    #[inline]
    fn open_frame(&mut self) -> usize {
        if self.bytes.capacity() == 0 {
            self.bytes = scratch::take_output();
        }
        if self.codec == Codec::Json {
            let separator = if self.open.frames == 0 { b'[' } else { b',' };
            self.bytes.push(separator);
        }
        self.bytes.len()
    }

    #[inline]
    fn close_frame(&mut self, start: usize, is_counted: bool) {
        // In JSON a closing bracket is still to come.
        let end = self.bytes.len() + usize::from(self.codec == Codec::Json);
        let length = end - self.open.start;
        let fits = self.open.frames == 0 || length <= self.max_message_bytes;
        if !fits {
            self.close_message_before(start);
        }
        self.open.frames += 1;
        self.open.counted += u32::from(is_counted);
        self.counted.pushed += u64::from(is_counted);
        if length >= PACK_BYTES {
            self.close_message();
        }
    }

    /// The frame that begins at `start` does not fit the message with those before it: they go
    /// without it.
    #[cold]
    fn close_message_before(&mut self, start: usize) {
        // What opens an array, or parts it from the frame before, belongs to this frame now.
        let own = start - usize::from(self.codec == Codec::Json);
        let frame = self.bytes.split_off(own);
        self.close_message();
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&frame);
        if let (Codec::Json, Some(separator)) = (self.codec, self.bytes.get_mut(start)) {
            *separator = b'[';
        }
    }

    fn close_message(&mut self) {
        if self.open.frames == 0 {
            return;
        }
        let mut start = self.open.start;
        match (self.codec, self.open.frames) {
            (Codec::MessagePack, _) => {}
            // A frame alone needs no array around it.
            (Codec::Json, 1) => start += 1,
            (Codec::Json, _) => self.bytes.push(b']'),
        }
        let end = self.bytes.len();
        self.closed.push(Packed {
            start,
            end,
            ..self.open
        });
        self.open = Packed {
            start: end,
            ..Packed::default()
        };
    }

    /// Leaves the buffer to the thread, if it is empty.
    #[inline]
    pub(super) fn give_back_buffer(&mut self) {
        if self.bytes.is_empty() && self.bytes.capacity() > 0 {
            scratch::put_output(std::mem::take(&mut self.bytes));
        }
    }

    /// Forgets what waits. None of it may be counted.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.closed.clear();
        self.taken = 0;
        self.open = Packed::default();
    }

    /// How many bytes wait.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.bytes.len() - self.first
    }

    /// Whether nothing waits.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        // What has been taken out is forgotten with the last message.
        self.bytes.is_empty()
    }

    /// The number that the next counted frame will have among those of this packer.
    #[inline]
    pub(super) fn next_counted(&self) -> u64 {
        self.counted.pushed + 1
    }

    /// Whether the counted frame with this number was taken out.
    #[inline]
    pub(super) fn has_taken(&self, number: u64) -> bool {
        number <= self.counted.taken
    }

    /// Moves all messages to `batch`.
    #[inline]
    pub fn take(&mut self, batch: &mut Batch) {
        self.close_message();
        if !batch.is_empty() || self.taken > 0 {
            while self.take_message(batch) > 0 {}
            return;
        }
        // As a rule: nothing is copied, and the batch's buffer takes the place of this one.
        std::mem::swap(&mut self.bytes, &mut batch.bytes);
        for message in self.closed.drain(..) {
            self.counted.taken += u64::from(message.counted);
            let range = message.start..message.end;
            batch.messages.push((range, message.counted));
        }
        self.open = Packed::default();
    }

    /// Moves the first message to `batch`, and says how many bytes it has; none if there is none.
    pub(super) fn take_message(&mut self, batch: &mut Batch) -> usize {
        if self.taken == self.closed.len() {
            self.close_message();
        }
        let Some(message) = self.closed.get(self.taken) else {
            return 0;
        };
        self.taken += 1;
        self.counted.taken += u64::from(message.counted);
        let bytes = &self.bytes[message.start..message.end];
        let start = batch.bytes.len();
        batch.bytes.extend_from_slice(bytes);
        let range = start..batch.bytes.len();
        batch.messages.push((range, message.counted));
        let length = bytes.len();
        self.forget_taken();
        length
    }

    /// Moves what is left to the front, when it is less than what was taken out.
    fn forget_taken(&mut self) {
        let end = match self.closed.get(self.taken) {
            Some(first) => first.start,
            None => self.open.start,
        };
        self.first = end;
        if end * 2 < self.bytes.len() {
            return;
        }
        self.bytes.drain(..end);
        self.closed.drain(..self.taken);
        self.taken = 0;
        self.first = 0;
        for message in self.closed.iter_mut().chain([&mut self.open]) {
            message.start -= end;
            message.end = message.end.saturating_sub(end);
        }
        self.give_back_buffer();
    }
}

impl Batch {
    /// The messages, in order.
    pub fn messages(&self) -> impl Iterator<Item = &[u8]> {
        self.counted_messages(0).map(|(message, _)| message)
    }

    /// The messages from this one on, with how many counted frames they have.
    pub(super) fn counted_messages(&self, first: usize) -> impl Iterator<Item = (&[u8], u32)> {
        let messages = self.messages[first..].iter();
        messages.map(|(range, counted)| (&self.bytes[range.clone()], *counted))
    }

    /// How many messages there are.
    #[inline]
    pub(super) fn messages_len(&self) -> usize {
        self.messages.len()
    }

    /// Appends a message that was sent before.
    pub(super) fn push_message(&mut self, message: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(message);
        self.messages.push((start..self.bytes.len(), 0));
    }

    /// Whether there are none.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// How many bytes the messages have.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.messages.iter().map(|(range, _)| range.len()).sum()
    }

    /// Forgets the messages and keeps a buffer of moderate size.
    #[inline]
    pub fn clear(&mut self) {
        self.messages.clear();
        self.sent.clear();
        if self.bytes.capacity() > KEEP_BYTES {
            self.bytes = Vec::new();
        } else {
            self.bytes.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Head;

    fn cancel(id: u64) -> Frame<'static> {
        Frame::new(Head::Cancel {
            id: CallId::new(id),
        })
    }

    fn messages(codec: Codec, frames: usize) -> Vec<Vec<u8>> {
        let mut packer = Packer::new(codec);
        for id in 1..=frames as u64 {
            packer.push(&cancel(id));
        }
        let mut batch = Batch::default();
        packer.take(&mut batch);
        batch.messages().map(<[u8]>::to_vec).collect()
    }

    #[test]
    fn a_json_message_is_a_frame_or_an_array_of_frames() {
        assert_eq!(messages(Codec::Json, 1), [b"[12,1]"]);
        assert_eq!(messages(Codec::Json, 2), [b"[[12,1],[12,2]]"]);
        assert!(messages(Codec::Json, 0).is_empty());
    }

    #[test]
    fn a_message_is_closed_at_64_kib() {
        let sizes: Vec<_> = messages(Codec::MessagePack, 40_000)
            .iter()
            .map(Vec::len)
            .collect();
        assert!(sizes.len() > 1);
        assert!(sizes.iter().all(|size| *size < PACK_BYTES + 16));
    }

    #[test]
    fn a_frame_that_does_not_fit_begins_a_message_of_its_own() {
        let mut packer = Packer::new(Codec::Json);
        packer.limit_messages(16);
        for id in 1..=5 {
            packer.push(&cancel(id));
        }
        let mut batch = Batch::default();
        packer.take(&mut batch);
        let expected: [&[u8]; 3] = [b"[[12,1],[12,2]]", b"[[12,3],[12,4]]", b"[12,5]"];
        assert_eq!(batch.messages().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn messages_taken_one_by_one_are_those_taken_at_once_and_leave_no_bytes_behind() {
        for codec in Codec::ALL {
            let mut packer = Packer::new(codec);
            let mut batch = Batch::default();
            for id in 1..=60_000 {
                packer.push(&cancel(id));
                if id % 20_000 == 0 {
                    assert!(packer.take_message(&mut batch) > 0);
                }
            }
            while packer.take_message(&mut batch) > 0 {}
            assert_eq!((packer.len(), packer.bytes.len()), (0, 0));
            assert!(packer.has_taken(60_000) && !packer.has_taken(60_001));
            let taken: Vec<_> = batch.messages().collect();
            assert_eq!(taken, messages(codec, 60_000));
        }
    }
}
