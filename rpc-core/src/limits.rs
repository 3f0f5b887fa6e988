//! What a connection may use.

use std::time::Duration;

use crate::protocol::{Heartbeat, StreamCredit};

/// The limits of one end of a connection. Those that the peer has to respect are announced to it
/// in HELLO or WELCOME.
///
/// ```
/// use std::time::Duration;
/// use wirecall_core::Limits;
///
/// let limits = Limits::default()
///     .max_in_flight(256)
///     .default_deadline(Duration::from_secs(5));
/// assert_eq!(limits.max_in_flight, 256);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The largest WebSocket message that is accepted, in bytes. Announced. 1 MiB; peers refuse one
    /// below 256 KiB.
    pub max_message_bytes: usize,
    /// The largest body that is accepted, in bytes. Announced. 16 MiB. One above 64 KiB travels in
    /// pieces, between other frames.
    pub max_body_bytes: usize,
    /// How many bytes of large bodies may be put together at a time. Announced. 32 MiB; never
    /// less than one body may have.
    pub max_assembly_bytes: usize,
    /// How many calls of the peer are executed at a time. Announced; what is beyond is refused. A
    /// cancelled handler counts until it has really ended. 1,024.
    pub max_in_flight: usize,
    /// How many notifications of the peer may wait for their handlers. Announced. 256.
    pub notification_credit: usize,
    /// How much of a stream may be on its way to this end, unless its method says otherwise.
    /// Announced. 16 items, 256 KiB.
    pub stream_credit: StreamCredit,
    /// The deadline of this end's own calls, unless a call says otherwise. Announced, so that it
    /// need not travel with each call. 30 s; `None` for calls that may take forever.
    pub default_deadline: Option<Duration>,
    /// How many bytes may wait to be written before calls wait and handlers are not started. 1 MiB.
    pub outbound_queue_bytes: usize,
    /// How many bytes of notifications are kept for a peer that is behind, beside what waits to be
    /// written, where their methods are declared `drop_oldest` or `conflate`. Each of them counts with
    /// 256 bytes more than it has. 256 KiB; 0 keeps none.
    pub backlog_bytes: usize,
    /// How many bytes of items may wait for all subscriptions of a session together, where their topics
    /// let items wait: beyond it a topic's [`TopicPressure`](crate::TopicPressure) decides, as beyond
    /// the queue of each. 4 MiB.
    pub topic_queue_bytes: usize,
    /// How many bytes of messages may be on their way to this end before it has taken them in. The
    /// peer's queue stays where it can put first what is urgent, and not in the buffers between. 1
    /// MiB, which is also the least. Over a path of 50 ms that lets 20 MiB/s through, if
    /// [`Limits::replay_bytes`] do.
    pub connection_window_bytes: usize,
    /// How many entries of metadata a call may carry. 32.
    pub max_metadata_entries: usize,
    /// How many bytes a call's metadata may have, keys and values. 4 KiB.
    pub max_metadata_bytes: usize,
    /// How long the peer may take for HELLO or WELCOME once the transport is up. 10 s.
    pub hello_timeout: Duration,
    /// How long a write may make no progress before the connection is given up. 15 s.
    pub write_stall: Duration,
    /// How much is kept of what was sent, in bytes, until the peer has acknowledged it: after a broken
    /// connection it is sent again. A peer that acknowledges nothing is sent no more, so that so
    /// much goes through in each round trip. 256 KiB. 0 lets the session end with its connection.
    pub replay_bytes: usize,
    /// How long a server waits for a client to come back and go on with its session. 60 s.
    pub resume_window: Duration,
    /// How a server makes sure that its clients are there, and they that it is. A client that has
    /// another one than the default asks its server for it. 25 s and 10 s; `None` for none.
    pub heartbeat: Option<Heartbeat>,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_message_bytes: 1 << 20,
            max_body_bytes: 16 << 20,
            max_assembly_bytes: 32 << 20,
            max_in_flight: 1024,
            notification_credit: 256,
            stream_credit: StreamCredit::default(),
            default_deadline: Some(Duration::from_secs(30)),
            outbound_queue_bytes: 1 << 20,
            backlog_bytes: 256 << 10,
            topic_queue_bytes: 4 << 20,
            connection_window_bytes: 1 << 20,
            max_metadata_entries: 32,
            max_metadata_bytes: 4 << 10,
            hello_timeout: Duration::from_secs(10),
            write_stall: Duration::from_secs(15),
            replay_bytes: 256 << 10,
            resume_window: Duration::from_secs(60),
            heartbeat: Some(Heartbeat::default()),
        }
    }
}

impl Limits {
    /// How long what was written may be unacknowledged by the other end's kernel before the socket is
    /// given up: never sooner than this end would give it up itself.
    #[must_use]
    pub fn dead_after(&self) -> Option<Duration> {
        let heartbeat = self.heartbeat?;
        Some(heartbeat.dead_after().max(self.write_stall))
    }
}

macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident: $type:ty,)*) => {
        impl Limits {
            $($(#[$doc])* #[must_use]
            pub fn $name(mut self, $name: $type) -> Self {
                self.$name = $name.into();
                self
            })*
        }
    };
}

setters! {
    /// Sets [`Limits::max_message_bytes`].
    max_message_bytes: usize,
    /// Sets [`Limits::max_body_bytes`].
    max_body_bytes: usize,
    /// Sets [`Limits::max_assembly_bytes`].
    max_assembly_bytes: usize,
    /// Sets [`Limits::max_in_flight`].
    max_in_flight: usize,
    /// Sets [`Limits::notification_credit`].
    notification_credit: usize,
    /// Sets [`Limits::stream_credit`].
    stream_credit: StreamCredit,
    /// Sets [`Limits::default_deadline`].
    default_deadline: impl Into<Option<Duration>>,
    /// Sets [`Limits::outbound_queue_bytes`].
    outbound_queue_bytes: usize,
    /// Sets [`Limits::backlog_bytes`].
    backlog_bytes: usize,
    /// Sets [`Limits::topic_queue_bytes`].
    topic_queue_bytes: usize,
    /// Sets [`Limits::connection_window_bytes`].
    connection_window_bytes: usize,
    /// Sets [`Limits::max_metadata_entries`].
    max_metadata_entries: usize,
    /// Sets [`Limits::max_metadata_bytes`].
    max_metadata_bytes: usize,
    /// Sets [`Limits::hello_timeout`].
    hello_timeout: Duration,
    /// Sets [`Limits::write_stall`].
    write_stall: Duration,
    /// Sets [`Limits::replay_bytes`].
    replay_bytes: usize,
    /// Sets [`Limits::resume_window`].
    resume_window: Duration,
    /// Sets [`Limits::heartbeat`].
    heartbeat: impl Into<Option<Heartbeat>>,
}
