//! What was sent and may have to be sent again: whole messages, until the peer has said that it has
//! counted their frames.

use std::{collections::VecDeque, sync::Arc};

use super::packer::Batch;
use crate::scratch;

/// A block is full once it has so many bytes.
const BLOCK_BYTES: usize = 32 << 10;

/// An acknowledgement of fewer frames, and of fewer bytes, shows that traffic is light: an empty block
/// is given back.
const HEAVY_FRAMES: u64 = 64;
const HEAVY_BYTES: usize = 16 << 10;

/// Counted frames in the order in which they were sent (W-ORD-4), and those of them that the peer
/// has not acknowledged.
#[derive(Debug, Default)]
pub(super) struct Replay {
    /// How many bytes may be kept; 0 keeps none.
    limit: usize,
    /// Counted frames that were ever sent.
    sent: u64,
    /// Those of them that are not kept any more.
    acknowledged: u64,
    messages: VecDeque<Kept>,
    /// The bytes of those that were copied, one message after the other, each in one block.
    blocks: VecDeque<Vec<u8>>,
    /// Where the first of them begins in the first block.
    start: usize,
    /// How many bytes are kept.
    bytes: usize,
    /// The message that is sent again next.
    again: Option<Place>,
}

/// Where a message is.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// How many messages are before it.
    index: usize,
    block: usize,
    offset: usize,
}

#[derive(Debug)]
struct Kept {
    bytes: usize,
    counted: u64,
    /// The buffer that it was written from, which holds nothing else.
    buffer: Option<Arc<Vec<u8>>>,
}

/// The peer has counted frames that are not kept any more, or were never sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gap;

impl Replay {
    /// Keeps up to so many bytes from now on. The last message may overshoot them.
    pub(super) fn set_limit(&mut self, bytes: usize) {
        self.limit = bytes;
        if bytes == 0 {
            self.forget();
        }
    }

    /// Counted frames that were ever sent.
    #[inline]
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// Whether another message may be sent before the peer has acknowledged something.
    #[inline]
    pub(super) fn has_room(&self) -> bool {
        self.limit == 0 || self.bytes < self.limit
    }

    /// Messages that hold this many counted frames are sent, from the batch's message `first` on.
    #[inline]
    pub(super) fn record(&mut self, batch: &Batch, first: usize) {
        for (message, counted, buffer) in batch.counted_messages(first) {
            let counted = u64::from(counted);
            self.sent += counted;
            if self.limit > 0 && counted > 0 {
                self.messages.push_back(Kept {
                    bytes: message.len(),
                    counted,
                    buffer: buffer.cloned(),
                });
                self.bytes += message.len();
                if buffer.is_none() {
                    self.append(message);
                }
            }
        }
        if self.limit == 0 {
            self.acknowledged = self.sent;
        }
    }

    #[inline]
    fn append(&mut self, message: &[u8]) {
        match self.blocks.back_mut() {
            Some(block) if block.len() < BLOCK_BYTES => block.extend_from_slice(message),
            _ => self.append_block(message),
        }
    }

    fn append_block(&mut self, message: &[u8]) {
        let mut block = scratch::take_output();
        if !self.blocks.is_empty() {
            // It will be as full as the one before.
            block.reserve(BLOCK_BYTES + message.len());
        }
        block.extend_from_slice(message);
        self.blocks.push_back(block);
    }

    /// The peer has counted so many frames: those need not be kept.
    pub(super) fn acknowledge(&mut self, count: u64) -> Result<(), Gap> {
        if count > self.sent {
            return Err(Gap);
        }
        let before = (self.acknowledged, self.bytes);
        while let Some(first) = self.messages.front()
            && self.acknowledged + first.counted <= count
            && let Some(first) = self.messages.pop_front()
        {
            self.acknowledged += first.counted;
            self.forget_first(first);
        }
        let frames = self.acknowledged - before.0;
        let is_light = frames < HEAVY_FRAMES && before.1 - self.bytes < HEAVY_BYTES;
        if self.messages.is_empty() && is_light {
            self.give_back();
        } else if self.again.is_none() {
            self.move_to_front();
        }
        Ok(())
    }

    /// Moves what is left of the only block to its front, if that is no more than what was forgotten
    /// before it. Memory that is used over and over is in the processor's caches, where many
    /// connections each go through a new block otherwise.
    fn move_to_front(&mut self) {
        if self.blocks.len() == 1
            && let Some(block) = self.blocks.front_mut()
            && self.start > 0
            && self.start * 2 >= block.len()
        {
            block.drain(..self.start);
            self.start = 0;
        }
    }

    /// This is not kept any more, which was the first message.
    fn forget_first(&mut self, first: Kept) {
        self.bytes -= first.bytes;
        let is_used_up = match first.buffer {
            Some(buffer) => {
                scratch::release_output(buffer);
                false
            }
            None => self.forget_copied(first.bytes),
        };
        if let Some(again) = &mut self.again {
            match again.index.checked_sub(1) {
                // It was sent again for nothing.
                None => {
                    *again = Place {
                        index: 0,
                        block: 0,
                        offset: self.start,
                    };
                }
                Some(index) => {
                    again.index = index;
                    if is_used_up {
                        match again.block.checked_sub(1) {
                            Some(block) => again.block = block,
                            // The only block has been emptied.
                            None => again.offset = 0,
                        }
                    }
                }
            }
        }
    }

    /// So many bytes of the first block are not kept any more. Says whether that was used up.
    fn forget_copied(&mut self, bytes: usize) -> bool {
        self.start += bytes;
        let is_used_up = self.blocks.front().map(Vec::len) == Some(self.start);
        if is_used_up {
            self.start = 0;
            if let Some(mut block) = self.blocks.pop_front() {
                block.clear();
                match self.blocks.is_empty() {
                    true => self.blocks.push_back(block),
                    false => scratch::put_output(block),
                }
            }
        }
        is_used_up
    }

    /// Leaves the empty block to the thread.
    fn give_back(&mut self) {
        let blocks = std::mem::take(&mut self.blocks);
        blocks.into_iter().for_each(scratch::put_output);
        self.messages = VecDeque::new();
    }

    /// The peer continues, and has counted so many frames: the rest is to be sent again.
    pub(super) fn restart(&mut self, count: u64) -> Result<(), Gap> {
        self.check(count)?;
        self.acknowledge(count)?;
        self.again = Some(self.first_place());
        Ok(())
    }

    /// Whether everything behind this count is kept. The count lies between two messages, since
    /// those are executed as a whole.
    pub(super) fn check(&self, count: u64) -> Result<(), Gap> {
        let mut end = self.acknowledged;
        let mut ends = self.messages.iter().map(|kept| {
            end += kept.counted;
            end
        });
        let found = count == self.acknowledged || ends.any(|end| end == count);
        if found { Ok(()) } else { Err(Gap) }
    }

    /// Whether all that is kept was acknowledged.
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Whether something is to be sent again.
    #[inline]
    pub(super) fn is_restarted(&self) -> bool {
        self.again.is_some()
    }

    /// Appends messages that are sent again, until the batch has this many bytes.
    pub(super) fn take(&mut self, batch: &mut Batch, max_bytes: usize) {
        while let Some(mut place) = self.again {
            if batch.len() >= max_bytes && place.index < self.messages.len() {
                return;
            }
            let message = next(&self.blocks, &self.messages, &mut place);
            self.again = message.map(|_| place);
            message
                .into_iter()
                .for_each(|message| batch.push_message(message));
        }
    }

    /// The messages behind this count.
    pub(super) fn messages_behind(&self, count: u64) -> impl Iterator<Item = &[u8]> {
        let mut before = self.acknowledged;
        let mut place = self.first_place();
        self.messages.iter().filter_map(move |kept| {
            let message = next(&self.blocks, &self.messages, &mut place)?;
            let is_behind = before >= count;
            before += kept.counted;
            is_behind.then_some(message)
        })
    }

    fn first_place(&self) -> Place {
        Place {
            index: 0,
            block: 0,
            offset: self.start,
        }
    }

    /// The connection is over.
    fn forget(&mut self) {
        self.acknowledged = self.sent;
        self.messages = VecDeque::new();
        self.blocks = VecDeque::new();
        self.bytes = 0;
        self.start = 0;
        self.again = None;
    }
}

/// The message at this place, which moves on behind it.
fn next<'a>(
    blocks: &'a VecDeque<Vec<u8>>,
    messages: &'a VecDeque<Kept>,
    place: &mut Place,
) -> Option<&'a [u8]> {
    let kept = messages.get(place.index)?;
    if let Some(buffer) = &kept.buffer {
        place.index += 1;
        return Some(buffer);
    }
    if blocks.get(place.block)?.len() == place.offset {
        place.block += 1;
        place.offset = 0;
    }
    let end = place.offset + kept.bytes;
    let message = blocks.get(place.block)?.get(place.offset..end)?;
    place.index += 1;
    place.offset = end;
    Some(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        body::Codec,
        protocol::{CallId, Frame, Head, packer::Packer},
    };

    struct Random(u64);

    impl Random {
        /// By xorshift.
        fn below(&mut self, end: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % end
        }
    }

    /// Sends a message with so many frames of two bytes and more.
    fn send(replay: &mut Replay, frames: u64) -> Vec<u8> {
        let mut packer = Packer::new(Codec::MessagePack);
        for id in 0..frames {
            packer.push(&Frame::new(Head::Cancel {
                id: CallId::new(id + 2),
            }));
        }
        let mut batch = Batch::default();
        packer.take(&mut batch);
        replay.record(&batch, 0);
        batch.messages().flatten().copied().collect()
    }

    /// Sends a message with a frame of so many bytes, in a buffer of its own if it is large.
    fn send_large(replay: &mut Replay, bytes: usize) -> Vec<u8> {
        let mut packer = Packer::new(Codec::MessagePack);
        let frame = vec![replay.sent() as u8; bytes];
        packer.push_encoded(&frame, true);
        let mut batch = Batch::default();
        packer.take(&mut batch);
        replay.record(&batch, 0);
        frame
    }

    fn again(replay: &mut Replay) -> Vec<Vec<u8>> {
        let mut batch = Batch::default();
        replay.take(&mut batch, usize::MAX);
        assert!(!replay.is_restarted());
        batch.messages().map(<[u8]>::to_vec).collect()
    }

    fn replay() -> Replay {
        let mut replay = Replay::default();
        replay.set_limit(1000);
        replay
    }

    #[test]
    fn what_was_not_acknowledged_is_sent_again_in_order_and_once_per_restart() {
        let mut replay = replay();
        let sent: Vec<_> = (1..=5).map(|frames| send(&mut replay, frames)).collect();
        assert_eq!(replay.sent(), 15);
        replay.acknowledge(3).unwrap();
        replay.restart(6).unwrap();
        assert_eq!(again(&mut replay), sent[3..]);
        replay.restart(6).unwrap();
        assert_eq!(again(&mut replay), sent[3..]);
        replay.restart(15).unwrap();
        assert!(again(&mut replay).is_empty());
    }

    #[test]
    fn an_acknowledgement_amid_a_restart_skips_nothing() {
        let mut replay = replay();
        let sent: Vec<_> = (0..6).map(|_| send(&mut replay, 10)).collect();
        replay.restart(0).unwrap();
        let mut batch = Batch::default();
        replay.take(&mut batch, 1);
        assert_eq!(batch.messages().collect::<Vec<_>>(), [&sent[0][..]]);
        // The buffer is moved to the front meanwhile.
        replay.acknowledge(40).unwrap();
        assert_eq!(again(&mut replay), sent[4..]);
    }

    #[test]
    fn what_is_left_is_sent_again_after_it_was_moved_to_the_front() {
        let mut replay = Replay::default();
        replay.set_limit(usize::MAX);
        let sent: Vec<_> = (0..500).map(|_| send(&mut replay, 20)).collect();
        assert_eq!(replay.blocks.len(), 1);
        for acknowledged in [100, 249, 260, 400, 499] {
            replay.acknowledge(acknowledged * 20).unwrap();
            assert!(replay.start < replay.bytes, "after {acknowledged}");
            let behind: Vec<_> = replay.messages_behind(acknowledged * 20).collect();
            assert_eq!(behind, sent[acknowledged as usize..]);
            replay.restart(acknowledged * 20).unwrap();
            assert_eq!(again(&mut replay), sent[acknowledged as usize..]);
        }
    }

    #[test]
    fn messages_of_many_blocks_are_sent_again_from_wherever_it_was() {
        let mut replay = Replay::default();
        replay.set_limit(usize::MAX);
        let sent: Vec<_> = (0..200).map(|_| send(&mut replay, 300)).collect();
        assert!(replay.blocks.len() > 3);
        for acknowledged in [1, 60, 61, 150, 199] {
            replay.restart(acknowledged * 300).unwrap();
            let acknowledged = acknowledged as usize;
            let mut batch = Batch::default();
            replay.take(&mut batch, 3000);
            let first = batch.messages().count();
            let further = acknowledged + first / 2;
            replay.acknowledge(further as u64 * 300).unwrap();
            let rest = again(&mut replay);
            assert_eq!(rest, sent[acknowledged + first..], "from {acknowledged}");
            let behind: Vec<_> = replay.messages_behind(further as u64 * 300).collect();
            assert_eq!(behind, sent[further..]);
        }
        replay.acknowledge(replay.sent()).unwrap();
        assert_eq!((replay.bytes, replay.blocks.len()), (0, 1));
        send(&mut replay, 1);
        replay.acknowledge(replay.sent()).unwrap();
        assert!(replay.blocks.is_empty(), "given back when traffic is light");
    }

    /// Held against a list of messages, whatever comes in which order.
    #[test]
    fn whatever_is_sent_acknowledged_and_sent_again_nothing_is_skipped_or_doubled() {
        for seed in 1..200 {
            let mut random = Random(seed);
            let mut replay = Replay::default();
            replay.set_limit(usize::MAX);
            // Behind which count each message is, and those that are to be sent again.
            let mut kept: VecDeque<(u64, Vec<u8>)> = VecDeque::new();
            let mut again: VecDeque<(u64, Vec<u8>)> = VecDeque::new();
            for _ in 0..300 {
                match random.below(6) {
                    // As the outbox does, which sends nothing new before all has been sent again.
                    0..3 if !replay.is_restarted() => {
                        let before = replay.sent();
                        let message = match random.below(3) {
                            0 => {
                                let bytes = 8_000 + random.below(60_000);
                                send_large(&mut replay, bytes as usize)
                            }
                            _ => send(&mut replay, 1 + random.below(4).pow(6)),
                        };
                        kept.push_back((before, message));
                    }
                    0..4 => {
                        let acknowledged = random.below(kept.len() as u64 + 1) as usize;
                        let count = kept.get(acknowledged).map_or(replay.sent(), |next| next.0);
                        replay.acknowledge(count).unwrap();
                        kept.drain(..acknowledged);
                        again.retain(|(before, _)| *before >= count);
                    }
                    4 => {
                        let count = kept.front().map_or(replay.sent(), |first| first.0);
                        replay.restart(count).unwrap();
                        again = kept.clone();
                    }
                    _ => {
                        let mut batch = Batch::default();
                        replay.take(&mut batch, 1 + random.below(40_000) as usize);
                        for message in batch.messages() {
                            assert_eq!(again.pop_front().unwrap().1, message, "{seed}");
                        }
                        assert_eq!(replay.is_restarted(), !again.is_empty(), "{seed}");
                    }
                }
                let bytes: usize = kept.iter().map(|(_, message)| message.len()).sum();
                assert_eq!(replay.bytes, bytes, "{seed}");
                let behind: Vec<_> = replay.messages_behind(0).collect();
                assert!(
                    behind.iter().eq(kept.iter().map(|(_, message)| message)),
                    "{seed}"
                );
            }
        }
    }

    #[test]
    fn large_messages_are_kept_where_they_are_and_sent_again_among_the_others() {
        let mut replay = Replay::default();
        replay.set_limit(usize::MAX);
        let sent = [
            send(&mut replay, 1),
            send_large(&mut replay, 70_000),
            send_large(&mut replay, 20_000),
            send(&mut replay, 1),
        ];
        let buffers = replay.messages.iter().filter(|kept| kept.buffer.is_some());
        assert_eq!(buffers.count(), 2);
        assert_eq!(replay.blocks[0].len(), sent[0].len() + sent[3].len());
        for acknowledged in 0..=4 {
            replay.restart(acknowledged).unwrap();
            let rest = &sent[acknowledged as usize..];
            assert_eq!(replay.bytes, rest.concat().len());
            assert_eq!(again(&mut replay), rest);
        }
    }

    #[test]
    fn a_buffer_is_the_threads_again_once_it_is_written_and_acknowledged() {
        let mut packer = Packer::new(Codec::MessagePack);
        packer.push_encoded(&[1; 70_000], true);
        let mut batch = Batch::default();
        packer.take(&mut batch);
        let place = batch.messages().next().map(<[u8]>::as_ptr);
        let mut replay = Replay::default();
        replay.set_limit(usize::MAX);
        replay.record(&batch, 0);
        batch.clear();
        assert_eq!(scratch::take_output().capacity(), 0, "it is kept");
        replay.acknowledge(1).unwrap();
        let buffer = scratch::take_output();
        assert_eq!((Some(buffer.as_ptr()), buffer.len()), (place, 0));
    }

    #[test]
    fn a_count_that_cannot_be_continued_from_is_a_gap() {
        let mut replay = replay();
        send(&mut replay, 4);
        send(&mut replay, 4);
        replay.acknowledge(4).unwrap();
        assert_eq!(replay.restart(0), Err(Gap), "is not kept any more");
        assert_eq!(replay.restart(9), Err(Gap), "was never sent");
        assert_eq!(replay.restart(6), Err(Gap), "is within a message");
        assert_eq!(replay.restart(4), Ok(()));
    }

    #[test]
    fn a_full_buffer_says_so_and_has_room_once_something_is_acknowledged() {
        let mut replay = replay();
        while replay.has_room() {
            send(&mut replay, 20);
        }
        assert!(replay.bytes < 1100);
        replay.acknowledge(20).unwrap();
        assert!(replay.has_room());
        replay.acknowledge(replay.sent()).unwrap();
        assert_eq!(replay.bytes, 0);
    }

    #[test]
    fn frames_are_counted_but_not_kept_without_a_limit() {
        let mut replay = Replay::default();
        send(&mut replay, 4);
        assert_eq!((replay.sent(), replay.bytes), (4, 0));
        assert_eq!(replay.restart(2), Err(Gap));
    }
}
