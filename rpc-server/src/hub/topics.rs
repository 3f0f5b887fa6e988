//! The topics of a hub.

use wirecall_core::{Topic, TopicLimits, TopicSettings};

use super::Hub;

impl Hub {
    /// One that knows nobody yet, with other limits for its topics.
    #[must_use]
    pub fn with_topic_limits(limits: TopicLimits) -> Self {
        Hub::of_topics(limits)
    }

    /// The topic of this name, which comes to be if it is not there: to publish to it, or to return it
    /// from a method, which subscribes its caller.
    ///
    /// ```
    /// # use wirecall_core::Status;
    /// # use wirecall_server::Hub;
    /// # fn main() -> Result<(), Status> {
    /// let hub = Hub::new();
    /// let published = hub.topic("prices.EUR").publish(&1.08)?;
    /// assert_eq!((published.offset, published.sent), (1, 0));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// It takes the lock on all topics. Whoever publishes often keeps the handle, and does without.
    ///
    /// A topic is there while somebody has a handle or is subscribed, and as long as its history lasts.
    /// One that cannot be had gives a handle that says why when it is used: `FAILED_PRECONDITION` if its
    /// items are of another type, `RESOURCE_EXHAUSTED` if there are too many topics,
    /// `INVALID_ARGUMENT` for a name of more than 256 bytes.
    #[must_use]
    pub fn topic<T: 'static>(&self, name: &str) -> Topic<T> {
        self.topics.get(name)
    }

    /// Says what topics are like whose names begin with `prefix`, the longest that fits; all others have
    /// [`TopicSettings::default`], and keep no history. It holds for topics that come to be from now on:
    /// say it before the server starts.
    ///
    /// ```
    /// use wirecall_core::TopicSettings;
    /// # use wirecall_server::Hub;
    ///
    /// let hub = Hub::new();
    /// hub.declare_topics("room.", TopicSettings::<String>::default().history_items(100));
    /// ```
    pub fn declare_topics<T: 'static>(&self, prefix: &str, settings: TopicSettings<T>) {
        self.topics.declare(prefix, settings);
    }

    /// How many topics there are.
    #[must_use]
    pub fn topics(&self) -> usize {
        self.topics.len()
    }
}
