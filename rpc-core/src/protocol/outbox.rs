//! Frames on their way out, packed into messages.

use std::{borrow::Cow, ops::Range};

use bytes::Bytes;

use super::{
    frame::{CallId, ChunkState, Frame, Head},
    handshake::PeerLimits,
    large::{self, Aborted, FIRST_PIECE_BYTES, LargeBodies, Output},
};
use crate::body::Codec;

/// A message is closed once it has that many bytes. Many frames in one message divide what each
/// message costs (masking, a header, a wake-up); much larger ones would be held up as a whole.
const PACK_BYTES: usize = 64 << 10;

/// So much of large bodies is written at a time: what comes meanwhile goes before the rest.
const PIECES_A_BATCH_BYTES: usize = 64 << 10;

/// A buffer larger than this is given back once it is empty.
const KEEP_BYTES: usize = 128 << 10;

/// Collects frames until the connection can write them.
#[derive(Debug)]
pub struct Outbox {
    codec: Codec,
    /// The largest message that the peer takes.
    max_message_bytes: usize,
    batch: Batch,
    /// Where the message that is being packed begins.
    start: usize,
    /// How many frames it has.
    frames: usize,
    /// Bodies that go in pieces.
    large: LargeBodies,
    /// How many counted frames ever came in: what the peer's count is compared with.
    counted: u64,
}

/// Whole messages, ready to be written.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    messages: Vec<Range<usize>>,
}

impl Outbox {
    /// An empty outbox.
    #[must_use]
    pub fn new(codec: Codec) -> Self {
        Outbox {
            codec,
            max_message_bytes: PeerLimits::default().max_message_bytes,
            batch: Batch::default(),
            start: 0,
            frames: 0,
            large: LargeBodies::new(PeerLimits::default().max_assembly_bytes),
            counted: 0,
        }
    }

    /// Frames share a message only as long as it has no more bytes than this.
    pub fn limit_messages(&mut self, max_bytes: usize) {
        self.max_message_bytes = max_bytes;
    }

    /// Appends a frame whose body may be of any size; `frame` itself has none. It waits behind a
    /// large body of the same call, or of a notification if it is one.
    pub(crate) fn push_body(&mut self, frame: &Frame<'_>, body: &mut Vec<u8>) {
        if body.len() > FIRST_PIECE_BYTES {
            self.push_large(frame, std::mem::take(body).into());
            return;
        }
        let key = large::key(&frame.head).filter(|key| self.large.contains(*key));
        let frame = Frame {
            payload: body,
            ..frame.clone()
        };
        match key {
            None => self.push(&frame),
            Some(key) => {
                let mut encoded = Vec::new();
                frame.encode(self.codec, &mut encoded);
                self.large
                    .follow_encoded(key, &encoded, frame.head.is_counted());
            }
        }
    }

    /// Appends a frame whose body is larger than one piece.
    pub(crate) fn push_large(&mut self, frame: &Frame<'_>, body: Bytes) {
        let Some(key) = large::key(&frame.head) else {
            return;
        };
        if self.large.contains(key) {
            self.large.follow(key, self.codec, frame, body);
        } else {
            self.large.push(key, self.codec, frame, body);
            self.begin_large();
        }
    }

    /// Appends a terminal frame that was encoded before, behind what is left of an item.
    pub(crate) fn push_answer(&mut self, id: CallId, encoded: &[u8]) {
        if self.large.contains(id) {
            self.large.follow_encoded(id, encoded, true);
        } else {
            self.push_encoded(encoded, true);
        }
    }

    /// Appends a NOTIFY that was encoded before, behind a large one if there is one.
    pub(crate) fn push_encoded_notification(&mut self, encoded: &[u8]) {
        if self.large.contains(CallId::CONNECTION) {
            self.large.follow_encoded(CallId::CONNECTION, encoded, true);
        } else {
            self.push_encoded(encoded, true);
        }
    }

    /// Breaks off a body of this call, if one is on its way.
    pub(crate) fn abort_large(&mut self, id: CallId) -> Aborted {
        let aborted = self.large.abort(id);
        if aborted == Aborted::Begun {
            self.push(&Frame::new(Head::Chunk {
                id,
                state: ChunkState::Abort,
                piece: Cow::Borrowed(&[]),
            }));
            self.begin_large();
        }
        aborted
    }

    fn begin_large(&mut self) {
        while let Some(first) = self.large.begin_next() {
            self.push_encoded(&first, true);
        }
    }

    /// How many bytes of large bodies the peer puts together at a time.
    pub(super) fn limit_assembly(&mut self, max_bytes: usize) {
        self.large.set_limit(max_bytes);
    }

    /// Appends a frame that may have to wait behind a large body of the same call.
    pub(crate) fn push_in_order(&mut self, frame: &Frame<'_>) {
        self.push_body(frame, &mut Vec::new());
    }

    /// Bytes of large bodies that wait.
    #[must_use]
    pub fn large_bytes(&self) -> usize {
        self.large.bytes()
    }

    /// Appends a frame.
    pub fn push(&mut self, frame: &Frame<'_>) {
        let start = self.open_frame();
        frame.encode(self.codec, &mut self.batch.bytes);
        self.close_frame(start, frame.head.is_counted());
    }

    /// Appends a frame that was encoded before, with the connection's codec.
    pub(crate) fn push_encoded(&mut self, frame: &[u8], counted: bool) {
        let start = self.open_frame();
        self.batch.bytes.extend_from_slice(frame);
        self.close_frame(start, counted);
    }

    fn add_pieces(&mut self) {
        if self.large.is_empty() {
            return;
        }
        let mut large = std::mem::replace(&mut self.large, LargeBodies::new(0));
        let enough = self.len() + PIECES_A_BATCH_BYTES;
        while self.len() < enough && !large.is_empty() {
            large.next_piece(self.codec, |output| match output {
                Output::Frame(frame) => self.push(frame),
                Output::Encoded(encoded, is_counted) => self.push_encoded(encoded, is_counted),
            });
        }
        self.large = large;
    }

    /// Says where the frame begins.
    fn open_frame(&mut self) -> usize {
        if self.codec == Codec::Json {
            let separator = if self.frames == 0 { b'[' } else { b',' };
            self.batch.bytes.push(separator);
        }
        self.batch.bytes.len()
    }

    fn close_frame(&mut self, start: usize, counted: bool) {
        self.frames += 1;
        self.counted += u64::from(counted);
        // In JSON a closing bracket is still to come.
        let length = self.batch.bytes.len() - self.start + usize::from(self.codec == Codec::Json);
        if self.frames > 1 && length > self.max_message_bytes {
            self.close_message_before(start);
        }
        if length >= PACK_BYTES {
            self.close_message();
        }
    }

    /// The frame that begins at `start` does not fit the message with those before it: they go
    /// without it.
    fn close_message_before(&mut self, start: usize) {
        let end = match (self.codec, self.frames) {
            (Codec::MessagePack, _) => start,
            (Codec::Json, 2) => {
                self.start += 1;
                start - 1
            }
            (Codec::Json, _) => {
                self.batch.bytes[start - 1] = b']';
                start
            }
        };
        self.batch.messages.push(self.start..end);
        // It goes alone, since nothing stands before it that could open an array.
        self.batch.messages.push(start..self.batch.bytes.len());
        self.start = self.batch.bytes.len();
        self.frames = 0;
    }

    fn close_message(&mut self) {
        if self.frames == 0 {
            return;
        }
        let start = match (self.codec, self.frames) {
            (Codec::MessagePack, _) => self.start,
            // A frame alone needs no array around it.
            (Codec::Json, 1) => self.start + 1,
            (Codec::Json, _) => {
                self.batch.bytes.push(b']');
                self.start
            }
        };
        let end = self.batch.bytes.len();
        self.batch.messages.push(start..end);
        self.start = end;
        self.frames = 0;
    }

    /// Bytes of frames that wait, without the bodies that go in pieces.
    #[must_use]
    pub fn len(&self) -> usize {
        self.batch.bytes.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.batch.bytes.is_empty() && self.large.is_empty()
    }

    /// Counted frames that ever came in, those that wait included.
    #[must_use]
    pub fn counted(&self) -> u64 {
        self.counted
    }

    /// Moves what waits into `batch`, which must be empty, and takes over its buffers: all frames,
    /// and behind them some pieces of large bodies.
    pub fn take(&mut self, batch: &mut Batch) {
        debug_assert!(batch.is_empty());
        self.add_pieces();
        self.close_message();
        std::mem::swap(&mut self.batch, batch);
        self.start = 0;
    }
}

impl Batch {
    /// The messages, in order.
    pub fn messages(&self) -> impl Iterator<Item = &[u8]> {
        self.messages.iter().map(|range| &self.bytes[range.clone()])
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Forgets the messages and keeps a buffer of moderate size.
    pub fn clear(&mut self) {
        self.messages.clear();
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
    use crate::protocol::{CallId, Head};

    fn messages(codec: Codec, frames: usize) -> Vec<Vec<u8>> {
        let mut outbox = Outbox::new(codec);
        for id in 1..=frames as u64 {
            outbox.push(&Frame::new(Head::Cancel {
                id: CallId::new(id),
            }));
        }
        let mut batch = Batch::default();
        outbox.take(&mut batch);
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
}
