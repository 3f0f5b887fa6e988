//! What waits for a subscriber that is behind.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::{
    item::Item,
    settings::{Bounds, TopicPressure},
};
use crate::connection::Shared;

/// How many bytes wait for all subscriptions of a session together.
#[derive(Debug, Default)]
pub(crate) struct QueuedItems(AtomicUsize);

impl QueuedItems {
    pub(crate) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    fn remove(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Items that wait for one subscriber, by their offsets.
#[derive(Debug)]
pub(super) struct Queue {
    session: Arc<Shared>,
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
    pub(super) fn new(session: Arc<Shared>) -> Self {
        Queue {
            session,
            items: BTreeMap::new(),
            bytes: 0,
            latest: HashMap::new(),
        }
    }

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
        while self.is_full(item, bounds) || self.is_session_full(item) {
            match bounds.pressure {
                TopicPressure::Disconnect => return Pushed::Overflow,
                TopicPressure::DropNewest => return Pushed::Dropped,
                // The room is with other subscriptions of the session.
                _ if self.items.is_empty() => {
                    self.forget_key(item);
                    return Pushed::Dropped;
                }
                TopicPressure::DropOldest | TopicPressure::Conflate | TopicPressure::CatchUp => {
                    self.pop();
                    pushed = Pushed::Dropped;
                }
            }
        }
        self.bytes += item.bytes();
        self.session.queued_items.add(item.bytes());
        self.items.insert(item.offset, item.clone());
        pushed
    }

    /// Whether there is no room for the item beside others of the subscription. One alone always fits.
    fn is_full(&self, item: &Item, bounds: &Bounds) -> bool {
        let is_many = self.items.len() >= bounds.queue_items;
        !self.items.is_empty() && (is_many || self.bytes + item.bytes() > bounds.queue_bytes)
    }

    /// Whether there is none beside those of all subscriptions of the session. They may overshoot it by
    /// as many items as are published at a time.
    fn is_session_full(&self, item: &Item) -> bool {
        let queued = self.session.queued_items.bytes();
        queued > 0 && queued + item.bytes() > self.session.limits.topic_queue_bytes
    }

    /// The one that goes next.
    pub(super) fn front(&self) -> Option<&Arc<Item>> {
        let (_, item) = self.items.first_key_value()?;
        Some(item)
    }

    /// It has gone.
    pub(super) fn pop(&mut self) {
        if let Some((_, item)) = self.items.pop_first() {
            self.gone(&item);
            self.forget_key(&item);
        }
    }

    fn remove(&mut self, offset: u64) {
        if let Some(item) = self.items.remove(&offset) {
            self.gone(&item);
        }
    }

    fn gone(&mut self, item: &Item) {
        self.bytes -= item.bytes();
        self.session.queued_items.remove(item.bytes());
    }

    /// This item is not the latest of its key that waits any more.
    fn forget_key(&mut self, item: &Item) {
        if let Some(key) = &item.key
            && self.latest.get(key) == Some(&item.offset)
        {
            self.latest.remove(key);
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.session.queued_items.remove(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        body::Codec,
        context::ConnectionInfo,
        limits::Limits,
        protocol::Side,
        topic::{history::tests::item, settings::TopicSettings},
    };

    fn session(limits: Limits) -> Arc<Shared> {
        let info = ConnectionInfo::default();
        let shared = Shared::new(Side::Acceptor, Codec::Json, Arc::new(limits), info);
        Arc::new(shared)
    }

    fn empty() -> Queue {
        Queue::new(session(Limits::default()))
    }

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
        let mut queue = empty();
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
        let mut queue = empty();
        for (offset, key) in [(1, "a"), (2, "b"), (3, "a"), (4, "a"), (5, "b"), (6, "c")] {
            queue.push(&item(offset, Some(key)), &bounds);
        }
        assert_eq!(offsets(queue), [4, 5, 6]);

        let mut queue = empty();
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
        let mut queue = empty();
        for offset in 1..=5 {
            queue.push(&item(offset, None), &settings.bounds);
        }
        assert_eq!(offsets(queue), [4, 5]);

        let settings = TopicSettings::<u64>::default().queue_bytes(1);
        let mut queue = empty();
        for offset in 1..=3 {
            queue.push(&item(offset, None), &settings.bounds);
        }
        assert_eq!(offsets(queue), [3]);
    }

    /// However many subscriptions a session has.
    #[test]
    fn what_waits_for_a_session_is_bounded_and_leaves_with_its_queue() {
        for pressure in [
            TopicPressure::DropOldest,
            TopicPressure::DropNewest,
            TopicPressure::Conflate,
            TopicPressure::Disconnect,
        ] {
            let bounds = bounds(pressure);
            let room = item(1, Some("a")).bytes() * 5;
            let session = session(Limits::default().topic_queue_bytes(room));
            let mut queues = Vec::new();
            let mut dropped = 0;
            for _ in 0..20 {
                let mut queue = Queue::new(session.clone());
                for offset in 1..=3 {
                    let key = offset.to_string();
                    let pushed = queue.push(&item(offset, Some(&key)), &bounds);
                    dropped += usize::from(pushed != Pushed::Kept);
                    assert!(session.queued_items.bytes() <= room);
                }
                assert!(queue.latest.len() <= queue.items.len());
                queues.push(queue);
            }
            assert_eq!(dropped, 60 - 5, "{pressure:?}");
            queues[0].pop();
            let mut late = Queue::new(session.clone());
            assert_eq!(late.push(&item(9, Some("a")), &bounds), Pushed::Kept);
            queues.clear();
            drop(late);
            assert_eq!(session.queued_items.bytes(), 0);
        }
    }
}
