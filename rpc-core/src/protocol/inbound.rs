//! The peer's calls that are executed here.

use std::task::Waker;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    calls::earlier,
    frame::CallId,
    stream::{Outgoing, Streams},
};
use crate::{
    priority::Priority,
    status::{Code, Fate, Status},
};

/// The calls of the peer, by the slot in their id. Never more than the limit in flight.
#[derive(Debug, Default)]
pub(super) struct Inbound {
    slots: Vec<Option<Running>>,
    running: usize,
    /// How many calls ever had a stream.
    generations: u64,
    next_deadline: Option<Instant>,
}

#[derive(Debug)]
struct Running {
    priority: Priority,
    deadline: Option<Instant>,
    /// Why the handler was told to stop, if it was.
    stopped: Option<Stop>,
    /// What most calls have nothing of.
    rare: Option<Box<Rare>>,
}

#[derive(Debug, Default)]
struct Rare {
    /// What tells the handler to stop, once it has asked for it.
    cancellation: Option<CancellationToken>,
    /// For a call with a stream, with the number that its handles know it by.
    streams: Option<(u64, Streams)>,
}

impl Running {
    #[inline]
    fn streams(&mut self) -> Option<&mut (u64, Streams)> {
        self.rare.as_mut()?.streams.as_mut()
    }
}

/// Why a handler is stopped before it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// A CANCEL came.
    Cancelled,
    /// Its deadline passed.
    Expired,
    /// The caller sent items beyond its credit.
    BeyondCredit,
    /// The caller sent an item with too large a body.
    BodyTooLarge,
    /// The caller sent an item with an option that must be understood and is not.
    NotUnderstood,
}

impl Stop {
    pub(crate) fn status(self) -> Status {
        match self {
            Stop::Cancelled => Status::new(Code::CANCELLED, "cancelled by the caller"),
            Stop::Expired => Status::new(
                Code::DEADLINE_EXCEEDED,
                "the handler did not end within the deadline, as the callee noticed",
            ),
            Stop::BodyTooLarge => {
                Status::new(Code::RESOURCE_EXHAUSTED, "an item is larger than the limit")
            }
            Stop::NotUnderstood => Status::new(
                Code::UNIMPLEMENTED,
                "an option of an item is not understood",
            ),
            Stop::BeyondCredit => Status::new(
                Code::RESOURCE_EXHAUSTED,
                "more items than there was credit for",
            ),
        }
        .with_fate(Fate::Unknown)
    }
}

/// What is left of a call that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) priority: Priority,
    /// Why it was stopped, if it was.
    pub(super) stopped: Option<Stop>,
}

impl Inbound {
    /// Enters a call that is not live, and whose slot is within the limit.
    #[inline]
    pub(super) fn insert(&mut self, id: CallId, priority: Priority, deadline: Option<Instant>) {
        let Some(index) = index(id) else {
            return;
        };
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, || None);
        }
        debug_assert!(self.slots[index].is_none());
        self.slots[index] = Some(Running {
            priority,
            deadline,
            stopped: None,
            rare: None,
        });
        self.running += 1;
        if let Some(deadline) = deadline {
            earlier(&mut self.next_deadline, deadline);
        }
    }

    /// Gives a call that was just entered its streams, and returns the number that its handles
    /// know it by: they may outlive it, and its id be used again.
    pub(super) fn attach(&mut self, id: CallId, streams: Streams) -> u64 {
        self.generations += 1;
        let generation = self.generations;
        if let Some(running) = self.running_mut(id) {
            running.rare.get_or_insert_default().streams = Some((generation, streams));
        }
        generation
    }

    fn running_mut(&mut self, id: CallId) -> Option<&mut Running> {
        self.slots.get_mut(index(id)?)?.as_mut()
    }

    /// The streams of a call, as its own handles see them.
    pub(super) fn streams(&mut self, id: CallId, generation: u64) -> Option<&mut Streams> {
        match self.running_mut(id)?.streams() {
            Some((own, streams)) if *own == generation => Some(streams),
            _ => None,
        }
    }

    /// The stream that answers a call, and the call's priority.
    #[inline]
    pub(super) fn answer(
        &mut self,
        id: CallId,
        generation: u64,
    ) -> Option<(&mut Outgoing, Priority)> {
        let running = self.running_mut(id)?;
        let priority = running.priority;
        match running.streams() {
            Some((own, streams)) if *own == generation => {
                Some((streams.outgoing.as_mut()?, priority))
            }
            _ => None,
        }
    }

    /// The streams of a call, as frames of the peer mean them.
    pub(super) fn open_streams(&mut self, id: CallId) -> Option<&mut Streams> {
        let streams = self.running_mut(id)?.streams()?;
        Some(&mut streams.1)
    }

    /// The call was accepted: its deadline no longer holds.
    pub(super) fn opened(&mut self, id: CallId) {
        if let Some(running) = self.running_mut(id) {
            running.deadline = None;
        }
    }

    /// Wakes whoever waits to send an item, since there is room in the outbox again.
    pub(super) fn wake_senders(&mut self, wakers: &mut Vec<Waker>) {
        for running in self.slots.iter_mut().flatten() {
            if let Some((_, streams)) = running.streams()
                && let Some(outgoing) = &mut streams.outgoing
            {
                outgoing.wake(wakers);
            }
        }
    }

    /// Wakes whoever waits at any stream: the connection is over.
    pub(super) fn end_all(&mut self, wakers: &mut Vec<Waker>) {
        for running in self.slots.iter_mut().flatten() {
            if let Some((_, streams)) = running.streams() {
                streams.end(wakers);
            }
        }
    }

    /// What tells the handler of a call to stop; none when it was told, or has ended.
    pub(super) fn cancellation(&mut self, id: CallId) -> Option<CancellationToken> {
        let running = self.running_mut(id)?;
        if running.stopped.is_some() {
            return None;
        }
        let rare = running.rare.get_or_insert_default();
        Some(rare.cancellation.get_or_insert_default().clone())
    }

    /// Takes out what tells a handler to stop, so that it is told when no lock is held.
    pub(super) fn take_cancellation(&mut self, id: CallId) -> Option<CancellationToken> {
        self.running_mut(id)?.rare.as_mut()?.cancellation.take()
    }

    /// Those of all handlers.
    pub(super) fn take_cancellations(&mut self) -> Vec<CancellationToken> {
        let running = self.slots.iter_mut().flatten();
        running
            .filter_map(|running| running.rare.as_mut()?.cancellation.take())
            .collect()
    }

    /// How many run.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.running
    }

    /// How many of them are subscriptions to topics.
    pub(super) fn subscriptions(&self) -> usize {
        let running = self.slots.iter().flatten();
        let streams = running.filter_map(|running| running.rare.as_ref()?.streams.as_ref());
        streams.filter(|(_, streams)| streams.is_topic).count()
    }

    /// Whether the call has not ended.
    #[inline]
    pub(super) fn contains(&self, id: CallId) -> bool {
        let running = index(id).and_then(|index| self.slots.get(index));
        running.is_some_and(Option::is_some)
    }

    /// The priority of a call, the normal one if it is not live.
    pub(super) fn priority(&self, id: CallId) -> Priority {
        let running = index(id).and_then(|index| self.slots.get(index)?.as_ref());
        running.map_or(Priority::Normal, |running| running.priority)
    }

    /// The call has ended. `None` when it was not live.
    #[inline]
    pub(super) fn remove(&mut self, id: CallId, wakers: &mut Vec<Waker>) -> Option<Ended> {
        let mut ended = self.slots.get_mut(index(id)?)?.take()?;
        self.running -= 1;
        if let Some((_, streams)) = ended.streams() {
            streams.end(wakers);
        }
        Some(Ended {
            priority: ended.priority,
            stopped: ended.stopped,
        })
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

    #[inline]
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.next_deadline
    }
}

#[inline]
fn index(id: CallId) -> Option<usize> {
    usize::try_from(id.slot()).ok()?.checked_sub(1)
}
