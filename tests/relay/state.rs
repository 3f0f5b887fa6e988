//! What the relay and its connections share. It is changed under the lock of a `watch` channel, and
//! so are bytes forwarded: both happen one after the other.

use std::{collections::HashMap, net::SocketAddr};

use super::{Direction, Fault};

#[derive(Debug)]
pub(super) struct State {
    /// The server.
    pub(super) upstream: SocketAddr,
    pub(super) fault: Fault,
    /// Connections ever accepted; the number of the next one.
    pub(super) accepted: u64,
    /// Those that have not ended, by their numbers.
    connections: HashMap<u64, Fate>,
    to_server: Traffic,
    to_client: Traffic,
}

/// What has become of a connection that goes through the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Open,
    /// Half-open for ever.
    Swallowed,
    /// It is to be closed at both ends.
    Cut,
    /// It is to be reset at both ends.
    Reset,
}

/// What has been forwarded in one direction, on all connections.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    pub(super) bytes: u64,
    pub(super) writes: u64,
    /// After so many more bytes, all connections are cut.
    cut_after: Option<u64>,
}

impl State {
    /// That of a relay that does nothing yet but to forward.
    pub(super) fn to(upstream: SocketAddr) -> Self {
        State {
            upstream,
            fault: Fault::default(),
            accepted: 0,
            connections: HashMap::new(),
            to_server: Traffic::default(),
            to_client: Traffic::default(),
        }
    }

    /// The number of a connection that was accepted, unless it is refused.
    pub(super) fn admit(&mut self) -> Option<u64> {
        let number = self.accepted;
        self.accepted += 1;
        if self.fault == Fault::Refuse {
            return None;
        }
        self.connections.insert(number, Fate::Open);
        Some(number)
    }

    /// Forgets a connection that has ended.
    pub(super) fn remove(&mut self, connection: u64) {
        self.connections.remove(&connection);
    }

    pub(super) fn cut(&mut self) {
        self.end_all(Fate::Cut);
    }

    pub(super) fn swallow(&mut self) {
        for fate in self.connections.values_mut() {
            if *fate == Fate::Open {
                *fate = Fate::Swallowed;
            }
        }
    }

    /// Cuts or resets all connections.
    pub(super) fn end_all(&mut self, end: Fate) {
        for fate in self.connections.values_mut() {
            // What is to be reset has ended before this.
            if *fate != Fate::Reset {
                *fate = end;
            }
        }
    }

    pub(super) fn cut_after(&mut self, bytes: u64, direction: Direction) {
        if bytes == 0 {
            self.cut();
        }
        self.traffic_mut(direction).cut_after = (bytes > 0).then_some(bytes);
    }

    /// How this connection is to end, once it is.
    pub(super) fn end(&self, connection: u64) -> Option<Fate> {
        let fate = *self.connections.get(&connection)?;
        matches!(fate, Fate::Cut | Fate::Reset).then_some(fate)
    }

    /// Whether this connection forwards anything in this direction.
    pub(super) fn forwards(&self, connection: u64, direction: Direction) -> bool {
        self.fault.forwards(direction) && self.connections.get(&connection) == Some(&Fate::Open)
    }

    /// How many of these bytes this connection may forward.
    pub(super) fn allowed(&self, connection: u64, direction: Direction, bytes: usize) -> usize {
        if !self.forwards(connection, direction) {
            return 0;
        }
        match self.traffic(direction).cut_after {
            Some(rest) => bytes.min(usize::try_from(rest).unwrap_or(usize::MAX)),
            None => bytes,
        }
    }

    /// Notes that a write has forwarded so many bytes, and says whether it was the last one before a
    /// cut.
    pub(super) fn forwarded(&mut self, direction: Direction, bytes: usize) -> bool {
        let bytes = bytes as u64;
        let traffic = self.traffic_mut(direction);
        traffic.bytes += bytes;
        traffic.writes += 1;
        let Some(rest) = &mut traffic.cut_after else {
            return false;
        };
        *rest -= bytes;
        if *rest > 0 {
            return false;
        }
        traffic.cut_after = None;
        self.cut();
        true
    }

    pub(super) fn traffic(&self, direction: Direction) -> &Traffic {
        match direction {
            Direction::ToServer => &self.to_server,
            Direction::ToClient => &self.to_client,
        }
    }

    fn traffic_mut(&mut self, direction: Direction) -> &mut Traffic {
        match direction {
            Direction::ToServer => &mut self.to_server,
            Direction::ToClient => &mut self.to_client,
        }
    }
}
