//! PING and PONG: whether the other end is there, and how far away it is.

use std::time::Duration;

use tokio::time::Instant;

use super::Connection;
use crate::protocol::{
    event::{Event, Events},
    frame::{Frame, Head},
};

/// What is known from the PINGs of this end.
#[derive(Debug, Default)]
pub(super) struct Liveness {
    /// The last PING of this end, and when it went.
    ping: Option<(u64, Instant)>,
    pings: u64,
    round_trip: Option<Duration>,
    /// How many have been measured, and how many PINGs were lost with their socket.
    round_trips: u64,
    pings_lost: u64,
}

impl Liveness {
    /// The socket is gone, on which an answer might have come.
    pub(super) fn lose_ping(&mut self) {
        if self.ping.take().is_some() {
            self.pings_lost += 1;
        }
    }
}

impl Connection {
    /// Asks the peer for a sign of life.
    pub(crate) fn ping(&mut self, now: Instant) {
        self.liveness.pings += 1;
        let token = self.liveness.pings;
        self.liveness.ping = Some((token, now));
        let count = self.told();
        self.outbox
            .push_control(&Frame::new(Head::Ping { count, token }));
    }

    pub(super) fn ponged(&mut self, token: u64, now: Instant, events: &mut Events) {
        if let Some((_, sent)) = self.liveness.ping.take_if(|(own, _)| *own == token) {
            self.liveness.round_trip = Some(now.saturating_duration_since(sent));
            self.liveness.round_trips += 1;
            events.queue.push(Event::Pong);
        }
    }

    /// How long the last PING took to be answered.
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        self.liveness.round_trip
    }

    /// How many PINGs have been answered, and how many were lost with their socket.
    pub(crate) fn pings_done(&self) -> (u64, u64) {
        (self.liveness.round_trips, self.liveness.pings_lost)
    }
}
