//! Items of a stream that have come and wait to be taken.

use std::collections::VecDeque;

use bytes::Bytes;

/// Items up to this size are copied behind each other: they need no allocation of their own then,
/// and do not keep the message alive that they came in.
const COPY_BYTES: usize = 512;

/// A buffer larger than this is given back once it is empty.
const KEEP_BYTES: usize = 16 << 10;

/// A queue of items.
#[derive(Debug, Default)]
pub(crate) struct ItemQueue {
    items: VecDeque<Item>,
    /// Those that were copied.
    bytes: Vec<u8>,
    /// How many of these bytes have been taken.
    taken: usize,
}

#[derive(Debug)]
enum Item {
    Copied(usize),
    Shared(Bytes),
}

impl ItemQueue {
    /// Appends an item. `whole` is the message that `body` stands in.
    #[inline]
    pub(super) fn push(&mut self, body: &[u8], whole: &Bytes) {
        self.items.push_back(if body.len() <= COPY_BYTES {
            self.bytes.extend_from_slice(body);
            Item::Copied(body.len())
        } else if body.len() < whole.len() / 4 {
            // An item may wait for long, and is not to keep its message alive all the while.
            Item::Shared(Bytes::copy_from_slice(body))
        } else {
            Item::Shared(whole.slice_ref(body))
        });
    }

    /// Takes the first item, and hands it to `read`.
    #[inline]
    pub(crate) fn pop<T>(&mut self, read: impl FnOnce(&[u8]) -> T) -> Option<T> {
        Some(match self.items.pop_front()? {
            Item::Copied(length) => {
                let start = self.taken;
                self.taken += length;
                read(&self.bytes[start..start + length])
            }
            Item::Shared(body) => read(&body),
        })
    }

    /// Whether none waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Drops them all.
    pub(super) fn clear(&mut self) {
        *self = ItemQueue::default();
    }

    /// Moves all that wait to `other`, which must be empty, and takes over its buffers.
    pub(super) fn move_to(&mut self, other: &mut ItemQueue) {
        debug_assert!(other.is_empty());
        other.taken = 0;
        if other.bytes.capacity() > KEEP_BYTES {
            other.bytes = Vec::new();
        } else {
            other.bytes.clear();
        }
        std::mem::swap(self, other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pop(queue: &mut ItemQueue) -> Option<Vec<u8>> {
        queue.pop(<[u8]>::to_vec)
    }

    #[test]
    fn items_of_all_sizes_come_out_in_order_and_buffers_are_used_again() {
        let message = Bytes::from((0..=u8::MAX).cycle().take(8 << 10).collect::<Vec<_>>());
        let lengths = [0, 1, 512, 513, 8 << 10, 3, 2000, 2048];
        let (mut queue, mut taken) = (ItemQueue::default(), ItemQueue::default());
        for _ in 0..3 {
            for length in lengths {
                queue.push(&message[..length], &message);
            }
            queue.move_to(&mut taken);
            assert!(queue.is_empty());
            for length in lengths {
                assert_eq!(pop(&mut taken).unwrap(), &message[..length]);
            }
            assert_eq!(pop(&mut taken), None);
        }
        assert!(taken.bytes.capacity() > 0);
    }
}
