//! What a topic keeps, and what it does under pressure.

use std::{fmt, sync::Arc, time::Duration};

use serde::Serialize;

use crate::body::{self, BodyError, Codec};

/// What becomes of the items for a subscriber that takes them more slowly than they are published.
///
/// The publisher never waits, and no other subscriber notices. What is left out is seen as a
/// [`Gap`](crate::Update::Gap) by this subscriber, and by no other.
///
/// Up to [`TopicSettings::queue_items`] items wait for a subscriber before anything is left out: a
/// burst alone leaves nobody behind. While it still reads the history, as with
/// [`TopicPressure::CatchUp`] and after [`Topic::last`](crate::Topic::last), what is left out is what
/// that has no more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TopicPressure {
    /// The oldest one that waits is dropped for the new one.
    #[default]
    DropOldest,
    /// The new one is dropped.
    DropNewest,
    /// Only the latest of each key waits; see [`TopicSettings::conflate_by`], which chooses this.
    Conflate,
    /// Nothing waits for the subscriber: it reads on in the topic's history when it can. What the
    /// history has no more by then is left out.
    CatchUp,
    /// The subscription ends with `RESOURCE_EXHAUSTED`. The session, and its other calls, go on.
    Disconnect,
}

/// What topics of items `T` keep, and what they do under pressure.
///
/// ```
/// use std::time::Duration;
/// use wirecall_core::{TopicPressure, TopicSettings};
///
/// struct Price {
///     currency: String,
///     cents: u64,
/// }
/// let chat = TopicSettings::<String>::default()
///     .history_items(1000)
///     .history_age(Duration::from_secs(3600))
///     .pressure(TopicPressure::CatchUp);
/// let prices = TopicSettings::default().conflate_by(|price: &Price| price.currency.clone());
/// ```
pub struct TopicSettings<T> {
    pub(super) bounds: Bounds,
    pub(super) key: Option<KeyOf<T>>,
}

/// What does not depend on the type of the items.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) history_items: usize,
    pub(super) history_age: Option<Duration>,
    pub(super) history_bytes: usize,
    pub(super) queue_items: usize,
    pub(super) queue_bytes: usize,
    pub(super) pressure: TopicPressure,
}

/// What an item is about.
pub(super) type KeyOf<T> = Arc<dyn Fn(&T) -> Result<Arc<[u8]>, BodyError> + Send + Sync>;

impl<T> Default for TopicSettings<T> {
    /// No history; 256 items or 1 MiB wait for a subscriber, the oldest of which give way.
    fn default() -> Self {
        TopicSettings {
            bounds: Bounds {
                history_items: 0,
                history_age: None,
                history_bytes: 1 << 20,
                queue_items: 256,
                queue_bytes: 1 << 20,
                pressure: TopicPressure::default(),
            },
            key: None,
        }
    }
}

impl<T> TopicSettings<T> {
    /// How many of the last items are kept, for those who come back and for
    /// [`Topic::last`](crate::Topic::last). None, unless you say otherwise.
    #[must_use]
    pub fn history_items(mut self, items: usize) -> Self {
        self.bounds.history_items = items;
        self
    }

    /// How long they are kept at the most. For ever, unless you say otherwise: as long as
    /// [`TopicSettings::history_items`] and [`TopicSettings::history_bytes`] let them.
    #[must_use]
    pub fn history_age(mut self, age: Duration) -> Self {
        self.bounds.history_age = Some(age);
        self
    }

    /// How many bytes they take at the most, encoded for both codecs, and with about 100 bytes for
    /// each. 1 MiB.
    #[must_use]
    pub fn history_bytes(mut self, bytes: usize) -> Self {
        self.bounds.history_bytes = bytes;
        self
    }

    /// How many items wait for a subscriber that has no credit left. At least one. 256.
    #[must_use]
    pub fn queue_items(mut self, items: usize) -> Self {
        self.bounds.queue_items = items.max(1);
        self
    }

    /// How many bytes these take at the most, as in [`TopicSettings::history_bytes`]. They are
    /// shared by all for whom they wait. 1 MiB.
    #[must_use]
    pub fn queue_bytes(mut self, bytes: usize) -> Self {
        self.bounds.queue_bytes = bytes;
        self
    }

    /// What becomes of items that do not fit the queue. [`TopicPressure::Conflate`] without a key drops
    /// the oldest.
    #[must_use]
    pub fn pressure(mut self, pressure: TopicPressure) -> Self {
        self.bounds.pressure = pressure;
        self
    }

    /// Lets only the latest item of each key wait: [`TopicPressure::Conflate`]. If there are more keys
    /// than fit the queue, the oldest item is dropped.
    ///
    /// `key` is called for each item that is published, while no lock is held. Keys are compared
    /// as they are encoded: strings, numbers and tuples do.
    #[must_use]
    pub fn conflate_by<K: Serialize>(
        mut self,
        key: impl Fn(&T) -> K + Send + Sync + 'static,
    ) -> Self {
        self.key = Some(Arc::new(move |item| {
            let mut encoded = Vec::new();
            body::encode(Codec::MessagePack, &key(item), &mut encoded)?;
            Ok(encoded.into())
        }));
        self.pressure(TopicPressure::Conflate)
    }
}

impl<T> Clone for TopicSettings<T> {
    fn clone(&self) -> Self {
        TopicSettings {
            bounds: self.bounds,
            key: self.key.clone(),
        }
    }
}

impl<T> fmt::Debug for TopicSettings<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bounds.fmt(f)
    }
}

/// What all topics of a [`Topics`](crate::Topics) may take together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicLimits {
    /// How many topics there may be, whose names clients may have chosen. When there are as many,
    /// one that nobody holds, and that is there only for its history, gives way. 100,000.
    pub max_topics: usize,
    /// How many bytes of history all of them may keep together. When they have almost as many, topics
    /// give way that nobody holds, and that are there only for their histories; where there are none, a
    /// topic's own oldest items give way to its new ones. 256 MiB.
    pub max_history_bytes: usize,
}

impl Default for TopicLimits {
    fn default() -> Self {
        TopicLimits {
            max_topics: 100_000,
            max_history_bytes: 256 << 20,
        }
    }
}

impl TopicLimits {
    /// Sets [`TopicLimits::max_topics`].
    #[must_use]
    pub fn max_topics(mut self, topics: usize) -> Self {
        self.max_topics = topics;
        self
    }

    /// Sets [`TopicLimits::max_history_bytes`].
    #[must_use]
    pub fn max_history_bytes(mut self, bytes: usize) -> Self {
        self.max_history_bytes = bytes;
        self
    }
}
