//! Frames packed into messages. Many frames in one message divide what each message costs:
//! masking, a header, a wake-up.

use std::{collections::VecDeque, ops::Range, sync::Arc};

use super::{
    frame::{CallId, Frame, Head},
    handshake::PeerLimits,
    messagepack,
};
use crate::{
    body::{Codec, Rope},
    scratch,
};

/// A message is closed once it has that many bytes: a much larger one would be held up as a whole.
/// So is the buffer that it is in, which is handed on as it is.
const PACK_BYTES: usize = 64 << 10;

/// A new buffer has room for so much: a small frame or two.
const FIRST_BYTES: usize = 256;

/// A buffer with a single message of so many bytes is handed on as it is, too: what was sent is kept
/// in it then.
const HAND_ON_BYTES: usize = 16 << 10;

/// A buffer larger than this is given back once it is empty.
const KEEP_BYTES: usize = 128 << 10;

/// Packs frames into messages, in the order in which they come.
#[derive(Debug)]
pub struct Packer {
    codec: Codec,
    /// The largest message that the peer takes.
    max_message_bytes: usize,
    /// Messages in buffers that are full.
    full: VecDeque<Buffer>,
    /// The buffer that is being filled.
    last: Buffer,
    /// The message that is being packed, at its end.
    open: Packed,
    /// Counted frames that ever came in, and those of them that were taken out.
    counted: Count,
}

/// Messages, one behind the other.
#[derive(Debug, Default)]
struct Buffer {
    bytes: Vec<u8>,
    /// Those that are closed, in order.
    closed: Vec<Packed>,
    /// How many of them have been taken out.
    taken: usize,
    /// Where the others begin.
    first: usize,
}

/// A message in its buffer.
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
    /// Large messages, in the buffers that they were packed in.
    large: Vec<Arc<Vec<u8>>>,
    messages: Vec<Ready>,
    /// Large bodies of which these are the last pieces. Memory is given back when the batch is
    /// cleared, and no lock is held.
    pub(super) sent: Vec<Rope>,
}

/// A message in a batch.
#[derive(Debug)]
struct Ready {
    /// Which of the buffers taken over it is in, if it is in one.
    large: Option<usize>,
    range: Range<usize>,
    counted: u32,
}

impl Packer {
    /// Nothing yet.
    #[must_use]
    pub fn new(codec: Codec) -> Self {
        Packer {
            codec,
            max_message_bytes: PeerLimits::default().max_message_bytes,
            full: VecDeque::new(),
            last: Buffer::default(),
            open: Packed::default(),
            counted: Count::default(),
        }
    }

    /// Another one for the same connection, with nothing in it.
    pub(super) fn like(&self) -> Self {
        Packer {
            max_message_bytes: self.max_message_bytes,
            ..Packer::new(self.codec)
        }
    }

    /// Frames share a message only as long as it has no more bytes than this.
    pub fn limit_messages(&mut self, max_bytes: usize) {
        self.max_message_bytes = max_bytes;
    }

    /// Appends a frame.
    pub fn push(&mut self, frame: &Frame<'_>) {
        let start = self.open_frame();
        frame.encode(self.codec, &mut self.last.bytes);
        self.close_frame(start, frame.head.is_counted());
    }

    /// Appends a REQUEST without options, in MessagePack.
    #[inline]
    pub(super) fn push_request(&mut self, id: CallId, alias: u64, body: &[u8]) {
        debug_assert_eq!(self.codec, Codec::MessagePack);
        let start = self.open_frame();
        messagepack::put_request(&mut self.last.bytes, id, alias, body);
        self.close_frame(start, true);
    }

    /// Appends an ITEM without options.
    #[inline]
    pub(super) fn push_item(&mut self, id: CallId, body: &[u8]) {
        match self.codec {
            Codec::MessagePack => {
                let start = self.open_frame();
                messagepack::put_item(&mut self.last.bytes, id, body);
                self.close_frame(start, true);
            }
            Codec::Json => self.push(&Frame::with_payload(Head::Item { id }, body)),
        }
    }

    /// Appends a frame that was encoded before, with the same codec.
    #[inline]
    pub(super) fn push_encoded(&mut self, frame: &[u8], is_counted: bool) {
        let start = self.open_frame();
        self.last.bytes.extend_from_slice(frame);
        self.close_frame(start, is_counted);
    }

    /// Says where the frame begins.
    #[inline]
    fn open_frame(&mut self) -> usize {
        let bytes = &mut self.last.bytes;
        if bytes.capacity() == 0 {
            *bytes = scratch::take_output();
            if !self.full.is_empty() {
                // It is about to be as full as those before it.
                bytes.reserve(PACK_BYTES + PACK_BYTES / 8);
            } else if bytes.capacity() == 0 {
                // The thread had none. It would be enlarged for each few bytes at first.
                bytes.reserve(FIRST_BYTES);
            }
        }
        if self.codec == Codec::Json {
            let separator = if self.open.frames == 0 { b'[' } else { b',' };
            bytes.push(separator);
        }
        bytes.len()
    }

    #[inline]
    fn close_frame(&mut self, start: usize, is_counted: bool) {
        // In JSON a closing bracket is still to come.
        let end = self.last.bytes.len() + usize::from(self.codec == Codec::Json);
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
        let frame = self.last.bytes.split_off(own);
        self.close_message();
        let start = self.last.bytes.len();
        self.last.bytes.extend_from_slice(&frame);
        if let (Codec::Json, Some(separator)) = (self.codec, self.last.bytes.get_mut(start)) {
            *separator = b'[';
        }
    }

    fn close_message(&mut self) {
        let Some(message) = self.finish_message() else {
            return;
        };
        let end = message.end;
        self.last.closed.push(message);
        if end >= PACK_BYTES {
            self.full.push_back(std::mem::take(&mut self.last));
            self.open = Packed::default();
            return;
        }
        self.open = Packed {
            start: end,
            ..Packed::default()
        };
    }

    /// The message that is being packed, if there is one, at its end. The next is not begun.
    #[inline]
    fn finish_message(&mut self) -> Option<Packed> {
        if self.open.frames == 0 {
            return None;
        }
        let mut start = self.open.start;
        match (self.codec, self.open.frames) {
            (Codec::MessagePack, _) => {}
            // A frame alone needs no array around it.
            (Codec::Json, 1) => start += 1,
            (Codec::Json, _) => self.last.bytes.push(b']'),
        }
        let end = self.last.bytes.len();
        Some(Packed {
            start,
            end,
            ..self.open
        })
    }

    /// Leaves the buffer to the thread, if it is empty.
    #[inline]
    pub(super) fn give_back_buffer(&mut self) {
        let bytes = &mut self.last.bytes;
        if bytes.is_empty() && bytes.capacity() > 0 {
            scratch::put_output(std::mem::take(bytes));
        }
        if self.full.is_empty() && self.full.capacity() > 0 {
            self.full = VecDeque::new();
        }
    }

    /// How many bytes wait.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        if self.full.is_empty() {
            return self.last.len();
        }
        self.len_with_full()
    }

    #[cold]
    fn len_with_full(&self) -> usize {
        let full: usize = self.full.iter().map(Buffer::len).sum();
        full + self.last.len()
    }

    /// Whether nothing waits.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        // What has been taken out is forgotten with the last message.
        self.last.bytes.is_empty() && self.full.is_empty()
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
        if self.is_empty() {
            return;
        }
        let is_large = self.last.bytes.len() >= HAND_ON_BYTES;
        if is_large || !batch.is_empty() || self.last.taken > 0 || !self.full.is_empty() {
            return self.take_each(batch);
        }
        // As a rule: nothing is copied, and the batch's buffer takes the place of this one.
        let last = self.finish_message();
        std::mem::swap(&mut self.last.bytes, &mut batch.bytes);
        let mut take = |message: Packed| {
            self.counted.taken += u64::from(message.counted);
            batch.messages.push(Ready {
                large: None,
                range: message.start..message.end,
                counted: message.counted,
            });
        };
        if !self.last.closed.is_empty() {
            self.last.closed.drain(..).for_each(&mut take);
        }
        last.into_iter().for_each(take);
        self.open = Packed::default();
    }

    #[inline(never)]
    fn take_each(&mut self, batch: &mut Batch) {
        self.close_message();
        while self.take_message(batch) > 0 {}
    }

    /// Moves the first message to `batch`, and says how many bytes it has; none if there is none.
    pub(super) fn take_message(&mut self, batch: &mut Batch) -> usize {
        if self.full.is_empty() && self.last.taken == self.last.closed.len() {
            self.close_message();
        }
        let taken = match self.full.front_mut() {
            Some(buffer) if buffer.closed.len() == 1 => {
                let taken = buffer.closed.pop();
                let buffer = self.full.pop_front().map(|buffer| buffer.bytes);
                if let (Some(message), Some(bytes)) = (&taken, buffer) {
                    batch.take_over(bytes, message);
                }
                taken
            }
            Some(buffer) => {
                let taken = buffer.copy_message(batch);
                if buffer.taken == buffer.closed.len() {
                    self.full.pop_front();
                }
                taken
            }
            None if self.last.is_large_alone() && self.open.frames == 0 => {
                let taken = self.last.closed.pop();
                let buffer = std::mem::take(&mut self.last.bytes);
                self.open = Packed::default();
                if let Some(message) = &taken {
                    batch.take_over(buffer, message);
                }
                taken
            }
            None => {
                let taken = self.last.copy_message(batch);
                if taken.is_some() {
                    self.forget_taken();
                }
                taken
            }
        };
        let Some(message) = taken else {
            return 0;
        };
        self.counted.taken += u64::from(message.counted);
        message.end - message.start
    }

    /// Moves what is left to the front, when it is less than what was taken out.
    fn forget_taken(&mut self) {
        let Buffer {
            bytes,
            closed,
            taken,
            first,
        } = &mut self.last;
        let end = match closed.get(*taken) {
            Some(first) => first.start,
            None => self.open.start,
        };
        *first = end;
        if end * 2 < bytes.len() {
            return;
        }
        bytes.drain(..end);
        closed.drain(..*taken);
        *taken = 0;
        *first = 0;
        for message in closed.iter_mut().chain([&mut self.open]) {
            message.start -= end;
            message.end = message.end.saturating_sub(end);
        }
        self.give_back_buffer();
    }
}

impl Buffer {
    #[inline]
    fn len(&self) -> usize {
        self.bytes.len() - self.first
    }

    /// Whether there is nothing in it but a large message that is closed.
    #[inline]
    fn is_large_alone(&self) -> bool {
        self.bytes.len() >= HAND_ON_BYTES && self.closed.len() == 1 && self.taken == 0
    }

    /// Copies the first message that was not taken out.
    fn copy_message(&mut self, batch: &mut Batch) -> Option<Packed> {
        let message = self.closed.get(self.taken)?.clone();
        self.taken += 1;
        self.first = message.end;
        batch.push(&self.bytes[message.start..message.end], message.counted);
        Some(message)
    }
}

impl Batch {
    /// The messages, in order.
    pub fn messages(&self) -> impl Iterator<Item = &[u8]> {
        self.messages.iter().map(|message| self.bytes_of(message))
    }

    /// The messages from this one on, with how many counted frames each has, and the buffer that it
    /// may be kept in: one that it fills.
    pub(super) fn counted_messages(
        &self,
        first: usize,
    ) -> impl Iterator<Item = (&[u8], u32, Option<&Arc<Vec<u8>>>)> {
        self.messages[first..].iter().map(|message| {
            let bytes = self.bytes_of(message);
            let buffer = message.large.map(|large| &self.large[large]);
            let buffer = buffer.filter(|buffer| is_filled(buffer, &message.range));
            (bytes, message.counted, buffer)
        })
    }

    #[inline]
    fn bytes_of(&self, message: &Ready) -> &[u8] {
        let buffer = match message.large {
            None => &self.bytes,
            Some(large) => &*self.large[large],
        };
        &buffer[message.range.clone()]
    }

    /// How many messages there are.
    #[inline]
    pub(super) fn messages_len(&self) -> usize {
        self.messages.len()
    }

    /// Appends a message that was sent before.
    pub(super) fn push_message(&mut self, message: &[u8]) {
        self.push(message, 0);
    }

    fn push(&mut self, message: &[u8], counted: u32) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(message);
        self.messages.push(Ready {
            large: None,
            range: start..self.bytes.len(),
            counted,
        });
    }

    /// Puts the messages that `append` adds before those that are there.
    #[inline]
    pub(super) fn put_first(&mut self, append: impl FnOnce(&mut Batch)) {
        let others = self.messages.len();
        append(self);
        self.messages.rotate_left(others);
    }

    /// Takes a buffer over, in which this is the only message.
    fn take_over(&mut self, buffer: Vec<u8>, message: &Packed) {
        self.messages.push(Ready {
            large: Some(self.large.len()),
            range: message.start..message.end,
            counted: message.counted,
        });
        self.large.push(Arc::new(buffer));
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
        let messages = self.messages.iter();
        messages.map(|message| message.range.len()).sum()
    }

    /// Forgets the messages and keeps a buffer of moderate size.
    #[inline]
    pub fn clear(&mut self) {
        self.messages.clear();
        self.sent.clear();
        if !self.large.is_empty() {
            self.large.drain(..).for_each(scratch::release_output);
        }
        if self.bytes.capacity() > KEEP_BYTES {
            self.bytes = Vec::new();
        } else {
            self.bytes.clear();
        }
    }
}

/// Whether the message is all that is in its buffer, and half of the buffer at least: what is kept
/// takes no more memory than in a buffer that has grown by doubling.
fn is_filled(buffer: &Vec<u8>, message: &Range<usize>) -> bool {
    message.len() == buffer.len() && message.len() >= buffer.capacity() / 2
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn an_item_is_the_frame_that_is_encoded_elsewhere() {
        for codec in Codec::ALL {
            for (id, body) in [(1, &b"1"[..]), (70_000, b"[1,2]"), (1 << 40, &[b'1'; 300])] {
                let id = CallId::new(id);
                let mut encoded = Vec::new();
                Frame::with_payload(Head::Item { id }, body).encode(codec, &mut encoded);
                let mut packer = Packer::new(codec);
                packer.push_item(id, body);
                let mut batch = Batch::default();
                packer.take(&mut batch);
                assert_eq!(batch.messages().collect::<Vec<_>>(), [encoded]);
                assert!(packer.has_taken(1), "it is counted");
            }
        }
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
            assert_eq!((packer.len(), packer.is_empty()), (0, true));
            assert!(packer.has_taken(60_000) && !packer.has_taken(60_001));
            let taken: Vec<_> = batch.messages().collect();
            assert_eq!(taken, messages(codec, 60_000));
        }
    }

    /// Where each message is.
    fn places(batch: &Batch) -> Vec<*const u8> {
        batch.messages().map(<[u8]>::as_ptr).collect()
    }

    /// How many messages may be kept where they are.
    fn kept(batch: &Batch) -> usize {
        let messages = batch.counted_messages(0);
        messages.filter(|(.., buffer)| buffer.is_some()).count()
    }

    #[test]
    fn large_messages_are_taken_over_and_not_copied() {
        for codec in Codec::ALL {
            for sizes in [vec![HAND_ON_BYTES], vec![PACK_BYTES, HAND_ON_BYTES]] {
                let mut packer = Packer::new(codec);
                for size in &sizes {
                    packer.push_encoded(&vec![b'1'; size / 2], true);
                    packer.push_encoded(&vec![b'1'; size / 2], true);
                }
                // For the bracket that ends an array.
                packer.last.bytes.reserve(1);
                let full = packer.full.iter().map(|buffer| buffer.bytes.as_ptr());
                let packed: Vec<_> = full.chain([packer.last.bytes.as_ptr()]).collect();
                let mut batch = Batch::default();
                packer.take(&mut batch);
                assert_eq!(places(&batch), packed, "{codec:?}");
                // What comes next begins anew.
                packer.push(&cancel(1));
                batch.clear();
                packer.take(&mut batch);
                let taken: Vec<_> = batch.messages().map(<[u8]>::to_vec).collect();
                assert_eq!(taken, messages(codec, 1), "{codec:?}");
            }
        }
    }

    #[test]
    fn what_is_kept_fills_its_buffer() {
        let mut packer = Packer::new(Codec::MessagePack);
        let mut batch = Batch::default();
        for (room, expected) in [(2 * HAND_ON_BYTES, 1), (2 * HAND_ON_BYTES + 2, 0)] {
            packer.last.bytes = Vec::with_capacity(room);
            packer.push_encoded(&[1; HAND_ON_BYTES], true);
            packer.take(&mut batch);
            assert_eq!(kept(&batch), expected, "{room}");
            batch.clear();
        }
        // The array that a frame alone does not need has begun.
        let mut packer = Packer::new(Codec::Json);
        packer.push_encoded(&[b'1'; HAND_ON_BYTES], true);
        packer.take(&mut batch);
        assert_eq!(kept(&batch), 0);
    }

    /// Each frame comes out once, in order, and is counted, whatever the sizes and whoever takes.
    #[test]
    fn whatever_is_put_in_comes_out_in_order() {
        for codec in Codec::ALL {
            for seed in 1_u64..100 {
                let mut state = seed;
                let mut random = move |end: u64| {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    state % end
                };
                let mut packer = Packer::new(codec);
                packer.limit_messages([300, 70_000, 1 << 20][seed as usize % 3]);
                let (mut pushed, mut taken, mut counted) = (Vec::new(), String::new(), 0);
                let mut batch = Batch::default();
                for _ in 0..200 {
                    match random(4) {
                        0 => drop(packer.take_message(&mut batch)),
                        1 if random(3) == 0 => packer.take(&mut batch),
                        _ => {
                            let size = random(6).pow(random(7) as u32);
                            let frame = format!("[14,\"{}\",{size}]", "x".repeat(size as usize));
                            let is_counted = random(2) == 0;
                            counted += u64::from(is_counted);
                            packer.push_encoded(frame.as_bytes(), is_counted);
                            pushed.push(frame);
                        }
                    }
                    if random(5) == 0 {
                        take_over(codec, &mut batch, &mut taken);
                        packer.give_back_buffer();
                    }
                }
                packer.take(&mut batch);
                take_over(codec, &mut batch, &mut taken);
                assert_eq!(taken, pushed.concat(), "{codec:?} {seed}");
                assert_eq!((packer.len(), packer.is_empty()), (0, true));
                assert_eq!(packer.next_counted(), counted + 1);
                assert!(packer.has_taken(counted) && !packer.has_taken(counted + 1));
            }
        }
    }

    /// Takes the frames out of their messages.
    fn take_over(codec: Codec, batch: &mut Batch, taken: &mut String) {
        for (message, counted, _) in batch.counted_messages(0) {
            let message = std::str::from_utf8(message).unwrap();
            match codec {
                Codec::Json if message.starts_with("[[") => {
                    let frames: Vec<&serde_json::value::RawValue> =
                        serde_json::from_str(message).unwrap();
                    assert!(counted as usize <= frames.len());
                    taken.extend(frames.iter().map(|frame| frame.get()));
                }
                _ => taken.push_str(message),
            }
        }
        batch.clear();
    }
}
