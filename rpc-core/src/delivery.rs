//! What became of a notification to many peers.

use crate::{
    protocol::Told,
    status::{Code, Status},
};

/// What became of a notification to many peers. Each of them counts once, but for
/// [`Delivery::replaced`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delivery {
    /// Peers for which it was queued for writing.
    pub sent: usize,
    /// Peers without a connection at the moment, for which it was queued: it is written, in order, when
    /// they come back within [`Limits::resume_window`](crate::Limits::resume_window), and lost
    /// otherwise. What waits is bounded by their credit, and beyond it they are `behind`, or what
    /// [`Pressure`](crate::Pressure) says.
    pub suspended: usize,
    /// Peers that were left out, since they are behind: they have no credit left, or too much
    /// waits to be written to them.
    pub behind: usize,
    /// Peers that are behind, and for which it is kept: it is written once they have caught up, unless
    /// it has to make room for a later one by then. Lost with their session, like all that waits.
    pub waiting: usize,
    /// Of those `waiting`: peers for which an earlier one was given up for this.
    pub replaced: usize,
    /// Peers for which it was dropped, since they are behind, and its method says so or as much is kept
    /// for them as may be ([`Limits::backlog_bytes`](crate::Limits::backlog_bytes)). A volatile one is
    /// also dropped for those without a connection at the moment.
    pub dropped: usize,
    /// Peers whose session is ended by this, since they are behind and its method says so. From then
    /// on they are `closed`.
    pub disconnected: usize,
    /// Peers that were left out, since the body is larger than they take.
    pub too_large: usize,
    /// Peers whose connection has ended.
    pub closed: usize,
    /// Users and sessions that were addressed and are not there: tell them some other way, such as a
    /// notification of their mobile phone. None where peers were named.
    pub absent: usize,
}

impl Delivery {
    /// Counts a peer.
    pub(crate) fn count(&mut self, told: &Result<Told, Status>, is_suspended: bool) {
        match told {
            Ok(Told::Queued) if is_suspended => self.suspended += 1,
            Ok(Told::Queued) => self.sent += 1,
            Ok(Told::Behind) => self.behind += 1,
            Ok(Told::Waits { replaces }) => {
                self.waiting += 1;
                self.replaced += usize::from(*replaces);
            }
            Ok(Told::Dropped) => self.dropped += 1,
            Ok(Told::Disconnect) => self.disconnected += 1,
            Err(status) if status.code() == Code::UNAVAILABLE => self.closed += 1,
            Err(_) => self.too_large += 1,
        }
    }
}
