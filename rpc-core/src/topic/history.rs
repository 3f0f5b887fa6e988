//! What a topic keeps of its past: the last items, without a hole.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::time::Instant;

use super::{item::Item, settings::Bounds};

/// What all histories may take together.
#[derive(Debug)]
pub(super) struct Budget {
    used: AtomicUsize,
    limit: usize,
}

impl Budget {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Budget {
            used: AtomicUsize::new(0),
            limit,
        })
    }

    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// How much has to go before there is plenty again. Nothing as long as some is left.
    pub(super) fn excess(&self) -> usize {
        match self.used() {
            used if used > self.limit - self.limit / 16 => used - (self.limit - self.limit / 8),
            _ => 0,
        }
    }
}

/// The last items of a topic, the newest one at the end. Their offsets follow each other.
#[derive(Debug)]
pub(super) struct History {
    items: VecDeque<Arc<Item>>,
    bytes: usize,
    bounds: Bounds,
    budget: Arc<Budget>,
}

impl History {
    pub(super) fn new(bounds: Bounds, budget: Arc<Budget>) -> Self {
        History {
            items: VecDeque::new(),
            bytes: 0,
            bounds,
            budget,
        }
    }

    /// Takes in the item that was published last. Others give way, and this one if it is too large.
    pub(super) fn push(&mut self, item: Arc<Item>) {
        if self.bounds.history_items == 0 {
            return;
        }
        let now = item.published;
        let bytes = item.bytes();
        self.bytes += bytes;
        self.budget.used.fetch_add(bytes, Ordering::Relaxed);
        self.items.push_back(item);
        while self.items.len() > self.bounds.history_items
            || self.bytes > self.bounds.history_bytes
            || (self.budget.used() > self.budget.limit && !self.items.is_empty())
        {
            self.pop();
        }
        self.expire(now);
    }

    /// Drops what is too old.
    pub(super) fn expire(&mut self, now: Instant) {
        let Some(age) = self.bounds.history_age else {
            return;
        };
        while let Some(first) = self.items.front()
            && now.saturating_duration_since(first.published) >= age
        {
            self.pop();
        }
    }

    fn pop(&mut self) {
        if let Some(item) = self.items.pop_front() {
            let bytes = item.bytes();
            self.bytes -= bytes;
            self.budget.used.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// The offset of the oldest item.
    pub(super) fn first(&self) -> Option<u64> {
        Some(self.items.front()?.offset)
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// When all of it will be too old, if ever. Nothing for an empty one.
    pub(super) fn ends(&self) -> Option<Ends> {
        let last = self.items.back()?;
        let end = |age| last.published.checked_add(age);
        let at = self.bounds.history_age.and_then(end);
        Some(at.map_or(Ends::Never, Ends::At))
    }

    /// The oldest item behind this offset.
    pub(super) fn after(&self, offset: u64) -> Option<&Arc<Item>> {
        let first = self.first()?;
        let index = (offset + 1).saturating_sub(first);
        self.items.get(usize::try_from(index).ok()?)
    }
}

/// When a history is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    At(Instant),
    Never,
}

impl Drop for History {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::topic::{
        item::{Codecs, Draft},
        settings::TopicSettings,
    };

    /// An item whose value is its offset.
    pub(in crate::topic) fn item(offset: u64, key: Option<&str>) -> Arc<Item> {
        let mut draft = Draft::default();
        draft.encode(&offset, Codecs::all()).unwrap();
        let key = key.map(|key| Arc::from(key.as_bytes()));
        Arc::new(draft.finish(offset, Instant::now(), key))
    }

    fn history(settings: TopicSettings<u64>, limit: usize) -> History {
        History::new(settings.bounds, Budget::new(limit))
    }

    #[test]
    fn the_last_items_are_kept_and_found_by_their_offsets() {
        let settings = TopicSettings::default().history_items(3);
        let mut history = history(settings, usize::MAX);
        assert!(history.after(0).is_none());
        for offset in 1..=5 {
            history.push(item(offset, None));
        }
        assert_eq!((history.first(), history.len()), (Some(3), 3));
        assert_eq!(history.after(0).unwrap().offset, 3);
        assert_eq!(history.after(3).unwrap().offset, 4);
        assert!(history.after(5).is_none());
        assert!(history.after(u64::MAX - 1).is_none());
    }

    #[test]
    fn none_are_kept_unless_it_was_asked_for() {
        let mut history = history(TopicSettings::default(), usize::MAX);
        history.push(item(1, None));
        assert_eq!((history.len(), history.budget.used()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn items_grow_old() {
        let age = Duration::from_secs(10);
        let settings = TopicSettings::default().history_items(9).history_age(age);
        let mut history = history(settings, usize::MAX);
        history.push(item(1, None));
        tokio::time::advance(age / 2).await;
        history.push(item(2, None));
        assert_eq!(history.ends(), Some(Ends::At(Instant::now() + age)));
        tokio::time::advance(age / 2).await;
        history.expire(Instant::now());
        assert_eq!(history.first(), Some(2));
        tokio::time::advance(age / 2).await;
        history.expire(Instant::now());
        assert_eq!(history.ends(), None);
        assert_eq!(history.budget.used(), 0);
    }

    #[test]
    fn bytes_are_bounded_for_each_and_for_all() {
        let one = item(1, None).bytes();
        let settings = TopicSettings::default()
            .history_items(99)
            .history_bytes(2 * one);
        let mut own = history(settings.clone(), usize::MAX);
        for offset in 1..=5 {
            own.push(item(offset, None));
        }
        assert_eq!((own.first(), own.len()), (Some(4), 2));

        let budget = Budget::new(3 * one);
        let mut first = History::new(settings.bounds, budget.clone());
        let mut second = History::new(settings.bounds, budget.clone());
        for offset in 1..=2 {
            first.push(item(offset, None));
            second.push(item(offset, None));
        }
        assert_eq!((first.len(), second.len()), (2, 1));
        drop(first);
        assert_eq!(budget.used(), one);
    }

    #[test]
    fn an_item_that_is_larger_than_the_history_empties_it() {
        let settings = TopicSettings::<u64>::default()
            .history_items(9)
            .history_bytes(300);
        let mut history = history(settings, usize::MAX);
        history.push(item(1, None));
        let mut large = Draft::default();
        large.encode(&"x".repeat(300), Codecs::all()).unwrap();
        history.push(Arc::new(large.finish(2, Instant::now(), None)));
        assert_eq!(history.len(), 0);
        history.push(item(3, None));
        assert_eq!(history.first(), Some(3));
    }
}
