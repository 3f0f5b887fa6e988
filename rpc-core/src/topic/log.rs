//! A topic without the type of its items: its offsets, its history, its subscribers.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    task::Waker,
};

use tokio::time::Instant;

use super::{
    history::{Budget, Ends, History},
    item::{Codecs, Draft},
    settings::Bounds,
    subscriber::{Delivered, Subscriber, Turn},
};
use crate::{
    body::BodyError,
    connection::Shared,
    metadata::Metadata,
    protocol::{Opening, Standing, StreamRef, TopicPosition},
};

/// Epochs are below this, so that JavaScript can hold them.
const EPOCHS: u64 = 1 << 53;

/// The state of a topic, and the lock on it.
///
/// The lock gives publishing its order. Sessions are locked under it, one after the other, and never
/// the other way round. Nothing is encoded and nobody woken while it is held.
pub(super) struct Log {
    pub(super) epoch: u64,
    bounds: Bounds,
    /// In which codecs items are to be encoded: [`Codecs`]. One that was wanted once stays wanted.
    wanted: AtomicU8,
    state: Mutex<State>,
}

struct State {
    /// The offset of the last item.
    last: u64,
    history: History,
    /// In the order in which they came.
    subscribers: BTreeMap<u64, Subscriber>,
    next_subscriber: u64,
    /// Kept for the next time.
    wakers: Vec<Waker>,
}

/// Where a subscriber begins that brings no position.
#[derive(Clone, Copy, Debug)]
pub(super) enum Begin {
    /// With what comes.
    Live,
    /// With that many of the last items.
    Last(usize),
    /// Behind this place.
    Since(TopicPosition),
}

/// What became of an item that was published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// Its number in the topic.
    pub offset: u64,
    /// Subscribers for which it was queued for writing.
    pub sent: usize,
    /// Subscribers that are behind, and for which it waits.
    pub waiting: usize,
    /// Subscribers that are behind, and for which it or an older item was left out, as the topic's
    /// [`TopicPressure`](crate::TopicPressure) says.
    pub dropped: usize,
    /// Subscribers whose subscription ends: by [`TopicPressure::Disconnect`](crate::TopicPressure::Disconnect),
    /// because the item is too large for them, or because they are just leaving.
    pub ended: usize,
}

impl Log {
    pub(super) fn new(bounds: Bounds, budget: Arc<Budget>) -> Self {
        let wanted = match bounds.history_items {
            0 => Codecs::default(),
            // It is not known who will read the history.
            _ => Codecs::all(),
        };
        Log {
            epoch: rand::random::<u64>() % EPOCHS,
            bounds,
            wanted: AtomicU8::new(wanted.bits()),
            state: Mutex::new(State {
                last: 0,
                history: History::new(bounds, budget),
                subscribers: BTreeMap::new(),
                next_subscriber: 0,
                wakers: Vec::new(),
            }),
        }
    }

    /// Publishes an item, which `encode` encodes in the codecs that are wanted and not done yet.
    pub(super) fn publish(
        &self,
        key: Option<Arc<[u8]>>,
        encode: impl Fn(&mut Draft, Codecs) -> Result<(), BodyError>,
    ) -> Result<Published, BodyError> {
        let mut draft = Draft::default();
        let mut state = loop {
            encode(&mut draft, self.wanted())?;
            let state = self.lock();
            // A subscriber with another codec may have come meanwhile.
            if draft.covers(self.wanted()) {
                break state;
            }
        };
        let mut wakers = std::mem::take(&mut state.wakers);
        let published = state.publish(draft, key, &self.bounds, &mut wakers);
        drop(state);
        wakers.drain(..).for_each(Waker::wake);
        self.lock().keep(wakers);
        Ok(published)
    }

    /// Accepts the call of a subscriber, and enters it. Between what OPEN says and the first item
    /// that is published nothing is lost.
    pub(super) fn subscribe(
        &self,
        session: Arc<Shared>,
        stream: StreamRef,
        begin: Begin,
        metadata: &Metadata,
    ) -> u64 {
        let now = Instant::now();
        let mut wakers = Vec::new();
        let mut state = self.lock();
        self.want(session.codec);
        state.history.expire(now);
        let opening = session.update_quietly(&mut wakers, |session, _| {
            let connection = &mut session.connection;
            let asked = connection.asked_position(stream);
            let opening = state.opening(self.epoch, asked, begin);
            connection.accept_stream(stream, None, Some(opening), metadata);
            opening
        });
        let had = opening.position.offset;
        let subscriber = Subscriber::new(session, stream, had, state.last);
        let key = state.next_subscriber;
        state.next_subscriber += 1;
        state.subscribers.insert(key, subscriber);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        key
    }

    /// Says what the task of a subscriber has to do, and keeps its waker. `waker` is the one before
    /// then, to be dropped without the lock.
    pub(super) fn turn(&self, key: u64, waker: &mut Option<Waker>) -> Option<Turn> {
        let mut state = self.lock();
        let subscriber = state.subscribers.get_mut(&key)?;
        std::mem::swap(&mut subscriber.waker, waker);
        Some(subscriber.turn())
    }

    /// Writes what waits for a subscriber.
    pub(super) fn catch_up(&self, key: u64) {
        let now = Instant::now();
        let mut wakers = Vec::new();
        let mut state = self.lock();
        state.history.expire(now);
        let State {
            last,
            history,
            subscribers,
            ..
        } = &mut *state;
        if let Some(subscriber) = subscribers.get_mut(&key) {
            subscriber.catch_up(history, *last, &self.bounds, &mut wakers);
        }
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(super) fn unsubscribe(&self, key: u64) {
        let subscriber = self.lock().subscribers.remove(&key);
        // Without the lock: with it may go the last handle of its session.
        drop(subscriber);
    }

    /// How many subscribers there are.
    pub(super) fn subscribers(&self) -> usize {
        self.lock().subscribers.len()
    }

    /// Behind the last item.
    pub(super) fn position(&self) -> TopicPosition {
        TopicPosition {
            epoch: self.epoch,
            offset: self.lock().last,
        }
    }

    /// When the history is over, unless it is.
    pub(super) fn history_ends(&self, now: Instant) -> Option<Ends> {
        let mut state = self.lock();
        state.history.expire(now);
        state.history.ends()
    }

    /// Whether a history is kept.
    pub(super) fn has_history(&self) -> bool {
        self.bounds.history_items > 0
    }

    pub(super) fn history_bytes(&self) -> usize {
        self.lock().history.bytes()
    }

    fn wanted(&self) -> Codecs {
        Codecs::from_bits(self.wanted.load(Ordering::Acquire))
    }

    /// Called under the lock: whoever publishes looks again there.
    fn want(&self, codec: crate::body::Codec) {
        let wanted = self.wanted().with(codec);
        self.wanted.store(wanted.bits(), Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn publish(
        &mut self,
        draft: Draft,
        key: Option<Arc<[u8]>>,
        bounds: &Bounds,
        wakers: &mut Vec<Waker>,
    ) -> Published {
        self.last += 1;
        let item = Arc::new(draft.finish(self.last, Instant::now(), key));
        let mut published = Published {
            offset: self.last,
            ..Published::default()
        };
        for subscriber in self.subscribers.values_mut() {
            match subscriber.deliver(&item, bounds, wakers) {
                Delivered::Sent => published.sent += 1,
                Delivered::Waiting => published.waiting += 1,
                Delivered::Dropped => published.dropped += 1,
                Delivered::Ended => published.ended += 1,
            }
        }
        self.history.push(item);
        published
    }

    /// Where a subscriber begins.
    fn opening(&self, epoch: u64, asked: Option<TopicPosition>, begin: Begin) -> Opening {
        let (asked, fresh) = match begin {
            Begin::Live => (asked, self.last),
            Begin::Last(items) => {
                let items = items.min(self.history.len()) as u64;
                (asked, self.last - items)
            }
            Begin::Since(position) => (asked.or(Some(position)), self.last),
        };
        let before = self.history.first().map_or(self.last, |first| first - 1);
        let (offset, standing) = match asked {
            None => (fresh, Standing::Fresh),
            Some(asked) if asked.epoch != epoch || asked.offset > self.last => {
                (fresh, Standing::Gap { missed: None })
            }
            Some(asked) if asked.offset >= before => (asked.offset, Standing::Recovered),
            Some(asked) => {
                let missed = Some(before - asked.offset);
                (before, Standing::Gap { missed })
            }
        };
        Opening {
            position: TopicPosition { epoch, offset },
            standing,
        }
    }

    /// A buffer to use again, if nobody else has left one.
    fn keep(&mut self, wakers: Vec<Waker>) {
        if self.wakers.capacity() == 0 {
            self.wakers = wakers;
        }
    }
}
