//! What was sent and may have to be sent again: whole messages, until the peer has said that it has
//! counted their frames.

use std::collections::VecDeque;

use super::packer::Batch;

/// An empty buffer of this size is kept while traffic is heavy.
const KEEP_BYTES: usize = 4 << 10;

/// An acknowledgement of fewer frames shows that traffic is light: an empty buffer is given back.
const HEAVY_FRAMES: u64 = 64;

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
    /// Their bytes, one after the other, from `start` on.
    bytes: Vec<u8>,
    start: usize,
    /// The message that is sent again next, and where it begins in `bytes`.
    again: Option<(usize, usize)>,
}

#[derive(Clone, Copy, Debug)]
struct Kept {
    bytes: usize,
    counted: u64,
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
        self.limit == 0 || self.bytes.len() - self.start < self.limit
    }

    /// Messages that hold this many counted frames are sent, from the batch's message `first` on.
    #[inline]
    pub(super) fn record(&mut self, batch: &Batch, first: usize) {
        for (message, counted) in batch.counted_messages(first) {
            let counted = u64::from(counted);
            self.sent += counted;
            if self.limit > 0 && counted > 0 {
                self.messages.push_back(Kept {
                    bytes: message.len(),
                    counted,
                });
                self.bytes.extend_from_slice(message);
            }
        }
        if self.limit == 0 {
            self.acknowledged = self.sent;
        }
    }

    /// The peer has counted so many frames: those need not be kept.
    pub(super) fn acknowledge(&mut self, count: u64) -> Result<(), Gap> {
        if count > self.sent {
            return Err(Gap);
        }
        let before = self.acknowledged;
        while let Some(first) = self.messages.front().copied()
            && self.acknowledged + first.counted <= count
        {
            self.messages.pop_front();
            self.acknowledged += first.counted;
            self.start += first.bytes;
            if let Some((index, _)) = &mut self.again {
                match index.checked_sub(1) {
                    Some(before) => *index = before,
                    // It was sent again for nothing.
                    None => self.again = Some((0, self.start)),
                }
            }
        }
        if self.start == self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
            self.again = self.again.map(|_| (0, 0));
            if self.bytes.capacity() > KEEP_BYTES && self.acknowledged - before < HEAVY_FRAMES {
                self.bytes = Vec::new();
                self.messages = VecDeque::new();
            }
        } else if self.start * 2 > self.bytes.len() {
            self.bytes.drain(..self.start);
            let moved = std::mem::take(&mut self.start);
            self.again = self.again.map(|(index, offset)| (index, offset - moved));
        }
        Ok(())
    }

    /// The peer continues, and has counted so many frames: the rest is to be sent again.
    pub(super) fn restart(&mut self, count: u64) -> Result<(), Gap> {
        self.check(count)?;
        self.acknowledge(count)?;
        self.again = Some((0, self.start));
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
        while let Some((index, offset)) = self.again {
            let Some(kept) = self.messages.get(index) else {
                self.again = None;
                return;
            };
            if batch.len() >= max_bytes {
                return;
            }
            batch.push_message(&self.bytes[offset..offset + kept.bytes]);
            self.again = Some((index + 1, offset + kept.bytes));
        }
    }

    /// The messages behind this count.
    pub(super) fn messages_behind(&self, count: u64) -> impl Iterator<Item = &[u8]> {
        let mut before = self.acknowledged;
        let mut start = self.start;
        self.messages.iter().filter_map(move |kept| {
            let message = &self.bytes[start..start + kept.bytes];
            let is_behind = before >= count;
            before += kept.counted;
            start += kept.bytes;
            is_behind.then_some(message)
        })
    }

    /// The connection is over.
    fn forget(&mut self) {
        self.acknowledged = self.sent;
        self.messages = VecDeque::new();
        self.bytes = Vec::new();
        self.start = 0;
        self.again = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        body::Codec,
        protocol::{CallId, Frame, Head, packer::Packer},
    };

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
        assert!(replay.bytes.len() < 1100);
        replay.acknowledge(20).unwrap();
        assert!(replay.has_room());
        replay.acknowledge(replay.sent()).unwrap();
        assert_eq!(replay.bytes.len(), 0);
    }

    #[test]
    fn frames_are_counted_but_not_kept_without_a_limit() {
        let mut replay = Replay::default();
        send(&mut replay, 4);
        assert_eq!((replay.sent(), replay.bytes.len()), (4, 0));
        assert_eq!(replay.restart(2), Err(Gap));
    }
}
