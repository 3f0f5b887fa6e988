//! Topics: items that many subscribe to, each encoded once, and never lost in silence.
//!
//! - [`Topic`]: a handle of one, to publish with and to return to a subscriber
//! - [`Topics`]: all of them, by name, in `table`
//! - [`TopicSettings`], [`TopicPressure`]: what is kept, and what is left out for whom
//! - `log`: offsets, history and subscribers of one, under its lock
//! - `item`, `history`, `queue`: what was published, what is kept, and what waits for one subscriber
//! - `subscriber`: a subscription as its topic sees it; `feed`: as its handler's task does

mod feed;
mod history;
mod item;
mod log;
mod queue;
mod settings;
mod subscriber;
mod table;

use std::{fmt, marker::PhantomData, sync::Arc};

use serde::Serialize;

pub(crate) use feed::Feed;
use log::Begin;
pub use log::Published;
pub(crate) use queue::QueuedItems;
use settings::KeyOf;
pub use settings::{TopicLimits, TopicPressure, TopicSettings};
use table::Lease;
pub use table::Topics;

use crate::{
    connection::Shared,
    metadata::Metadata,
    protocol::{StreamRef, TopicPosition},
    status::{Code, Fate, Status},
};

/// A topic: what is published to it goes to all who are subscribed.
///
/// A method of a service that returns a `Topic<T>`, or a `Result<Topic<T>, E>`, subscribes its
/// caller, who gets a [`Subscription`](crate::Subscription): a stream of the items and of what became
/// of them. Where it begins the handle says: with what comes next, or with [`Topic::last`].
///
/// Items have numbers, from 1, and a topic an epoch; with both a subscriber who was away asks for
/// what it has missed, and is told if that is gone. How much is kept, [`TopicSettings`] say.
///
/// A cheap clone; all clones are the same topic. It is there as long as a handle is, or a subscriber,
/// or something of its history.
pub struct Topic<T> {
    lease: Result<Arc<Lease>, Status>,
    key: Option<KeyOf<T>>,
    begin: Begin,
    item: PhantomData<fn(&T)>,
}

impl<T> Topic<T> {
    fn new(lease: Result<Arc<Lease>, Status>, key: Option<KeyOf<T>>) -> Self {
        Topic {
            lease,
            key,
            begin: Begin::Live,
            item: PhantomData,
        }
    }

    /// Publishes an item to all who are subscribed, each in the order of publishing.
    ///
    /// It is encoded once for each codec in use, and queued for each subscriber before this returns:
    /// a few microseconds for each at the most, during which others who publish to the same topic
    /// wait. It waits for no socket: for a subscriber that is behind the topic's [`TopicPressure`] decides.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` when the item or its key cannot be encoded; nobody gets it then. That of
    /// [`Topics::get`] when the topic could not be had.
    pub fn publish(&self, item: &T) -> Result<Published, Status>
    where
        T: Serialize,
    {
        let lease = self.lease()?;
        let key = self.key.as_ref().map(|key| key(item));
        let key = key.transpose().map_err(|error| not_encoded(&error))?;
        lease.make_room();
        let log = lease.log();
        log.publish(key, |draft, wanted| draft.encode(item, wanted))
            .map_err(|error| not_encoded(&error))
    }

    /// Has a subscriber begin with the last items, as many of these as are kept, and go on with what
    /// is published: each item comes once, in order. One who was away goes on where it was, instead.
    #[must_use]
    pub fn last(&self, items: usize) -> Self {
        self.beginning(Begin::Last(items))
    }

    /// Has a subscriber begin with what comes behind this place, and be told if some of that is gone:
    /// for one who says where it was in its arguments, or who has just got the state as it was there.
    #[must_use]
    pub fn since(&self, position: TopicPosition) -> Self {
        self.beginning(Begin::Since(position))
    }

    /// The place behind the last item that was published. Ask for it first and for the state after,
    /// and [`Topic::since`] brings each change of it that is not in the state, and perhaps some that
    /// are.
    ///
    /// # Errors
    /// That of [`Topics::get`] when the topic could not be had.
    pub fn position(&self) -> Result<TopicPosition, Status> {
        Ok(self.lease()?.log().position())
    }

    /// How many are subscribed: also those whose connection is broken, until their session ends.
    #[must_use]
    pub fn subscribers(&self) -> usize {
        self.lease
            .as_ref()
            .map_or(0, |lease| lease.log().subscribers())
    }

    /// Accepts the call of a subscriber.
    pub(crate) fn serve(
        self,
        session: Arc<Shared>,
        stream: StreamRef,
        metadata: &Metadata,
    ) -> Result<Feed, Status> {
        let lease = self.lease?;
        Ok(Feed::begin(lease, session, stream, self.begin, metadata))
    }

    fn lease(&self) -> Result<&Arc<Lease>, Status> {
        self.lease.as_ref().map_err(Clone::clone)
    }

    fn beginning(&self, begin: Begin) -> Self {
        Topic {
            begin,
            ..self.clone()
        }
    }
}

fn not_encoded(error: &crate::body::BodyError) -> Status {
    Status::new(Code::INVALID_ARGUMENT, error.to_string()).with_fate(Fate::NotSent)
}

impl<T> Clone for Topic<T> {
    fn clone(&self) -> Self {
        Topic {
            lease: self.lease.clone(),
            key: self.key.clone(),
            begin: self.begin,
            item: PhantomData,
        }
    }
}

impl<T> fmt::Debug for Topic<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.lease.as_ref().map(|lease| lease.name());
        f.debug_struct("Topic")
            .field("name", &name)
            .finish_non_exhaustive()
    }
}
