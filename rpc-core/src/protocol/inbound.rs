//! The peer's calls that are executed here.

use tokio::time::Instant;

use super::{calls::earlier, frame::CallId};
use crate::status::{Code, Fate, Status};

/// The calls of the peer, by the slot in their id. Never more than the limit in flight.
#[derive(Debug, Default)]
pub(super) struct Inbound {
    slots: Vec<Option<Running>>,
    running: usize,
    next_deadline: Option<Instant>,
}

#[derive(Debug)]
struct Running {
    deadline: Option<Instant>,
    /// Why the handler was told to stop, if it was.
    stopped: Option<Stop>,
}

/// Why a handler is stopped before it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// A CANCEL came.
    Cancelled,
    /// Its deadline passed.
    Expired,
}

impl Stop {
    pub(crate) fn status(self) -> Status {
        match self {
            Stop::Cancelled => Status::new(Code::CANCELLED, "cancelled by the caller"),
            Stop::Expired => Status::new(
                Code::DEADLINE_EXCEEDED,
                "the handler did not end within the deadline, as the callee noticed",
            ),
        }
        .with_fate(Fate::Unknown)
    }
}

/// What a new call meets.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Accepted,
    /// The slot is beyond the limit.
    Full,
}

impl Inbound {
    /// Enters a call that is not live.
    pub(super) fn insert(&mut self, id: CallId, deadline: Option<Instant>, limit: usize) -> Entry {
        let Some(index) = index(id).filter(|index| *index < limit) else {
            return Entry::Full;
        };
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, || None);
        }
        debug_assert!(self.slots[index].is_none());
        self.slots[index] = Some(Running {
            deadline,
            stopped: None,
        });
        self.running += 1;
        if let Some(deadline) = deadline {
            earlier(&mut self.next_deadline, deadline);
        }
        Entry::Accepted
    }

    /// Whether the call has not ended.
    pub(super) fn is_live(&self, id: CallId) -> bool {
        let slot = index(id).and_then(|index| self.slots.get(index));
        slot.is_some_and(Option::is_some)
    }

    /// How many run.
    pub(super) fn len(&self) -> usize {
        self.running
    }

    pub(super) fn contains(&self, id: CallId) -> bool {
        let running = index(id).and_then(|index| self.slots.get(index));
        running.is_some_and(Option::is_some)
    }

    /// The call has ended, and why it was stopped if it was. `None` when it was not live.
    pub(super) fn remove(&mut self, id: CallId) -> Option<Option<Stop>> {
        let ended = self.slots.get_mut(index(id)?)?.take()?;
        self.running -= 1;
        Some(ended.stopped)
    }

    /// Marks the call as to be stopped. Says whether there is something to stop.
    pub(super) fn stop(&mut self, id: CallId, why: Stop) -> bool {
        let running = index(id)
            .and_then(|index| self.slots.get_mut(index))
            .and_then(Option::as_mut);
        match running {
            Some(running) if running.stopped.is_none() => {
                running.stopped = Some(why);
                true
            }
            _ => false,
        }
    }

    /// Marks those whose deadline has passed, and hands their slots (from 1) to `expired`.
    pub(super) fn expire(&mut self, now: Instant, mut expired: impl FnMut(usize)) {
        if self.next_deadline.is_none_or(|deadline| deadline > now) {
            return;
        }
        self.next_deadline = None;
        for (index, slot) in self.slots.iter_mut().enumerate() {
            let Some(running) = slot.as_mut().filter(|running| running.stopped.is_none()) else {
                continue;
            };
            match running.deadline {
                Some(deadline) if deadline <= now => {
                    running.stopped = Some(Stop::Expired);
                    expired(index + 1);
                }
                Some(deadline) => earlier(&mut self.next_deadline, deadline),
                None => {}
            }
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.next_deadline
    }
}

fn index(id: CallId) -> Option<usize> {
    usize::try_from(id.slot()).ok()?.checked_sub(1)
}
