//! Users who come and go, and those who want to know it.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use futures::Stream;

use super::Hub;

/// So many changes are kept for those who are slow.
const KEPT: usize = 1024;

/// A user has come or gone.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Presence {
    /// Who.
    pub user: Arc<str>,
    /// Come, or gone.
    pub is_online: bool,
}

/// Some changes were not taken in time: ask [`Hub::users`] who is there. What comes next is later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("some changes of presence were missed")]
pub struct Missed;

/// The last changes, while somebody wants to know.
#[derive(Default)]
pub(super) struct Log {
    changes: VecDeque<Presence>,
    /// How many there were before those that are kept.
    before: u64,
    next_key: u64,
    subscribers: HashMap<u64, Subscriber>,
}

struct Subscriber {
    /// How many it has taken, or missed.
    seen: u64,
    waker: Option<Waker>,
}

impl Log {
    pub(super) fn note(&mut self, user: &Arc<str>, is_online: bool, wakers: &mut Vec<Waker>) {
        if self.subscribers.is_empty() {
            return;
        }
        if self.changes.len() == KEPT {
            self.changes.pop_front();
            self.before += 1;
        }
        self.changes.push_back(Presence {
            user: user.clone(),
            is_online,
        });
        let subscribers = self.subscribers.values_mut();
        wakers.extend(subscribers.filter_map(|subscriber| subscriber.waker.take()));
    }

    fn subscribe(&mut self) -> u64 {
        let key = self.next_key;
        self.next_key += 1;
        let subscriber = Subscriber {
            seen: self.before + self.changes.len() as u64,
            waker: None,
        };
        self.subscribers.insert(key, subscriber);
        key
    }

    /// Returns what is to be dropped without the lock.
    fn unsubscribe(&mut self, key: u64) -> Option<Subscriber> {
        let subscriber = self.subscribers.remove(&key);
        if self.subscribers.is_empty() {
            self.before += self.changes.len() as u64;
            self.changes = VecDeque::new();
        }
        subscriber
    }

    /// The next change; without one the waker is kept, and `waker` is the one before.
    fn take(&mut self, key: u64, waker: &mut Option<Waker>) -> Option<Result<Presence, Missed>> {
        let subscriber = self.subscribers.get_mut(&key)?;
        let Some(place) = subscriber.seen.checked_sub(self.before) else {
            subscriber.seen = self.before + self.changes.len() as u64;
            return Some(Err(Missed));
        };
        let change = usize::try_from(place).ok();
        let Some(change) = change.and_then(|place| self.changes.get(place)) else {
            std::mem::swap(&mut subscriber.waker, waker);
            return None;
        };
        subscriber.seen += 1;
        Some(Ok(change.clone()))
    }
}

/// What [`Hub::presence`] gives: a stream that does not end.
#[must_use = "a stream does nothing unless it is polled"]
pub struct PresenceEvents {
    hub: Hub,
    key: u64,
}

impl PresenceEvents {
    pub(super) fn new(hub: Hub) -> Self {
        let key = hub.lock().presence.subscribe();
        PresenceEvents { hub, key }
    }
}

impl Stream for PresenceEvents {
    type Item = Result<Presence, Missed>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // Cloned, and the one before dropped, without the lock.
        let mut waker = Some(cx.waker().clone());
        let taken = self.hub.lock().presence.take(self.key, &mut waker);
        match taken {
            Some(item) => Poll::Ready(Some(item)),
            None => Poll::Pending,
        }
    }
}

impl Drop for PresenceEvents {
    fn drop(&mut self) {
        let subscriber = self.hub.lock().presence.unsubscribe(self.key);
        drop(subscriber);
    }
}

impl fmt::Debug for PresenceEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PresenceEvents").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_too_slow_is_told_that_and_goes_on_with_what_comes_next() {
        let mut log = Log::default();
        let (slow, quick) = (log.subscribe(), log.subscribe());
        let alice = Arc::from("alice");
        let take = |log: &mut Log, key| log.take(key, &mut None);
        for is_online in [true, false].repeat(KEPT) {
            log.note(&alice, is_online, &mut Vec::new());
            let change = take(&mut log, quick).unwrap().unwrap();
            assert_eq!(change.is_online, is_online);
        }
        assert_eq!(log.changes.len(), KEPT);
        assert_eq!(take(&mut log, slow), Some(Err(Missed)));
        assert_eq!(take(&mut log, slow), None);
        log.note(&alice, true, &mut Vec::new());
        assert!(take(&mut log, slow).unwrap().unwrap().is_online);
        log.unsubscribe(slow);
        log.unsubscribe(quick);
        // Nothing is kept for nobody.
        log.note(&alice, false, &mut Vec::new());
        assert!(log.changes.is_empty());
    }
}
