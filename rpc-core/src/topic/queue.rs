//! What waits for a subscriber that is behind.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{
    item::Item,
    settings::{Bounds, TopicPressure},
};

/// Items that wait for one subscriber, by their offsets.
#[derive(Debug, Default)]
pub(super) struct Queue {
    items: BTreeMap<u64, Arc<Item>>,
    bytes: usize,
    /// Where the latest item of a key is, where only that is to wait.
    latest: HashMap<Arc<[u8]>, u64>,
}

/// What became of an item that was to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    /// It waits, and nothing was lost for it.
    Kept,
    /// It waits in the place of others, or does not.
    Dropped,
    /// It does not fit, and the subscription is to end.
    Overflow,
}

impl Queue {
    /// Takes in an item that is newer than all that wait.
    pub(super) fn push(&mut self, item: &Arc<Item>, bounds: &Bounds) -> Pushed {
        let mut pushed = Pushed::Kept;
        if bounds.pressure == TopicPressure::Conflate
            && let Some(key) = &item.key
            && let Some(older) = self.latest.insert(key.clone(), item.offset)
        {
            self.remove(older);
            pushed = Pushed::Dropped;
        }
        while !self.items.is_empty() && self.is_full(item, bounds) {
            match bounds.pressure {
                TopicPressure::DropNewest => return Pushed::Dropped,
                TopicPressure::Disconnect => return Pushed::Overflow,
                TopicPressure::DropOldest | TopicPressure::Conflate | TopicPressure::CatchUp => {
                    self.pop();
                    pushed = Pushed::Dropped;
                }
            }
        }
        self.bytes += item.bytes();
        self.items.insert(item.offset, item.clone());
        pushed
    }

    /// Whether there is no room for the item beside others. One alone always fits.
    fn is_full(&self, item: &Item, bounds: &Bounds) -> bool {
        self.items.len() >= bounds.queue_items || self.bytes + item.bytes() > bounds.queue_bytes
    }

    /// The one that goes next.
    pub(super) fn front(&self) -> Option<&Arc<Item>> {
        let (_, item) = self.items.first_key_value()?;
        Some(item)
    }

    /// It has gone.
    pub(super) fn pop(&mut self) {
        if let Some((offset, item)) = self.items.pop_first() {
            self.bytes -= item.bytes();
            if let Some(key) = &item.key
                && self.latest.get(key) == Some(&offset)
            {
                self.latest.remove(key);
            }
        }
    }

    fn remove(&mut self, offset: u64) {
        if let Some(item) = self.items.remove(&offset) {
            self.bytes -= item.bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topic::{history::tests::item, settings::TopicSettings};

    fn bounds(pressure: TopicPressure) -> Bounds {
        let settings = TopicSettings::<u64>::default().queue_items(3);
        settings.pressure(pressure).bounds
    }

    fn offsets(mut queue: Queue) -> Vec<u64> {
        let mut offsets = Vec::new();
        while let Some(item) = queue.front() {
            offsets.push(item.offset);
            queue.pop();
        }
        assert_eq!((queue.bytes, queue.latest.len()), (0, 0));
        offsets
    }

    fn filled(pressure: TopicPressure) -> Queue {
        let mut queue = Queue::default();
        for offset in 1..=3 {
            let pushed = queue.push(&item(offset, None), &bounds(pressure));
            assert_eq!(pushed, Pushed::Kept);
        }
        queue
    }

    #[test]
    fn each_policy_does_what_it_says_when_the_queue_is_full() {
        for (pressure, pushed, left) in [
            (TopicPressure::DropOldest, Pushed::Dropped, vec![2, 3, 4]),
            (TopicPressure::Conflate, Pushed::Dropped, vec![2, 3, 4]),
            (TopicPressure::DropNewest, Pushed::Dropped, vec![1, 2, 3]),
            (TopicPressure::Disconnect, Pushed::Overflow, vec![1, 2, 3]),
        ] {
            let mut queue = filled(pressure);
            let bounds = bounds(pressure);
            assert_eq!(queue.push(&item(4, None), &bounds), pushed, "{pressure:?}");
            assert_eq!(offsets(queue), left, "{pressure:?}");
        }
    }

    #[test]
    fn the_latest_of_each_key_waits_in_the_order_of_publishing() {
        let bounds = bounds(TopicPressure::Conflate);
        let mut queue = Queue::default();
        for (offset, key) in [(1, "a"), (2, "b"), (3, "a"), (4, "a"), (5, "b"), (6, "c")] {
            queue.push(&item(offset, Some(key)), &bounds);
        }
        assert_eq!(offsets(queue), [4, 5, 6]);

        let mut queue = Queue::default();
        for (offset, key) in [(1, "a"), (2, "b"), (3, "c"), (4, "d"), (5, "b")] {
            queue.push(&item(offset, Some(key)), &bounds);
        }
        // "a" was the oldest of too many.
        assert_eq!(offsets(queue), [3, 4, 5]);
    }

    #[test]
    fn bytes_are_bounded_but_for_one_item() {
        let one = item(1, None).bytes();
        let settings = TopicSettings::<u64>::default().queue_bytes(2 * one);
        let mut queue = Queue::default();
        for offset in 1..=5 {
            queue.push(&item(offset, None), &settings.bounds);
        }
        assert_eq!(offsets(queue), [4, 5]);

        let settings = TopicSettings::<u64>::default().queue_bytes(1);
        let mut queue = Queue::default();
        for offset in 1..=3 {
            queue.push(&item(offset, None), &settings.bounds);
        }
        assert_eq!(offsets(queue), [3]);
    }
}
