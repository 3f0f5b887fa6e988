//! The pending table: this end's calls that wait for their answers.
//!
//! A slot holds the waiting caller's waker, and then its answer: nothing is allocated for a call.
//! It has two owners, the caller here and the peer, and is free when both have let go: the caller
//! by taking the answer or by giving up, the peer by its terminal frame. A slot that only the peer
//! still holds is a tombstone.

use std::{
    task::{Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

use super::{slots::Slots, stream::Streams};
use crate::{
    metadata::Metadata,
    priority::Priority,
    scratch,
    status::{Code, Fate, Status},
};

/// Bodies up to this size are copied, so that a small one does not keep the message alive that it
/// came in.
pub(super) const COPY_BYTES: usize = 512;

/// How long tombstones may fill half of the slots before the connection is given up.
const TOMBSTONES_PATIENCE: Duration = Duration::from_secs(15);

/// Bodies up to this size are kept in the slot itself: with them it is two lines of the cache.
const SMALL_BYTES: usize = 47;

/// How a call ended.
#[derive(Debug)]
pub(crate) enum Answer {
    /// RESPONSE; its body, of a few bytes, has been copied to [`Received::small`].
    Small,
    /// RESPONSE; its body has been copied to [`Received::copied`].
    Copied,
    /// RESPONSE; its body is [`Received::shared`].
    Shared,
    /// ERROR, or no answer at all, with the details of the method's own error.
    Failed(Box<Failure>),
}

/// A few bytes, in place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Small {
    length: u8,
    bytes: [u8; SMALL_BYTES],
}

impl Default for Small {
    fn default() -> Self {
        Small {
            length: 0,
            bytes: [0; SMALL_BYTES],
        }
    }
}

impl Small {
    /// Takes in these bytes instead, unless they are too many.
    #[inline]
    pub(crate) fn set(&mut self, bytes: &[u8]) -> bool {
        let Some(place) = self.bytes.get_mut(..bytes.len()) else {
            return false;
        };
        place.copy_from_slice(bytes);
        self.length = bytes.len() as u8;
        true
    }

    #[inline]
    pub(crate) fn clear(&mut self) {
        self.length = 0;
    }

    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

/// Where an answer is put.
#[derive(Debug, Default)]
pub(crate) struct Received {
    /// A body of a few bytes.
    pub(crate) small: Small,
    /// One of moderate size, in a buffer of the caller's.
    pub(crate) copied: Vec<u8>,
    /// A large one.
    pub(crate) shared: Option<Bytes>,
    /// What came along with it.
    pub(crate) metadata: Metadata,
}

/// An error as it came from the peer, or arose here.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Code, message, fate.
    pub(crate) status: Status,
    /// The encoded error of the method. Empty where there is none.
    pub(crate) details: Bytes,
}

#[derive(Debug)]
enum Local {
    Waiting(Option<Waker>),
    Done(Answer),
    Gone,
}

#[derive(Debug)]
#[repr(align(64))]
struct Slot {
    local: Local,
    /// Whether the peer still owes a terminal frame.
    open: bool,
    deadline: Option<Instant>,
    priority: Priority,
    /// The number of the REQUEST among the counted frames of its priority, to tell whether it has
    /// left.
    sequence: u64,
    /// The number of the last frame of this slot's calls among those of their priority.
    last_frame: u64,
    /// Which of the slot's calls this is, for handles that outlive theirs.
    generation: u64,
    /// An answer of a few bytes.
    small: Small,
    /// What most calls have nothing of.
    rare: Option<Box<Rare>>,
}

const _: () = assert!(size_of::<Slot>() <= 128);

#[derive(Debug, Default)]
struct Rare {
    /// Where an answer of moderate size is kept. Belongs to the slot and is used again and again.
    buffer: Vec<u8>,
    /// The body of a large one.
    shared: Option<Bytes>,
    /// What came along with the answer.
    metadata: Metadata,
    /// For a call with a stream.
    streams: Option<Box<Streams>>,
}

impl Slot {
    #[inline]
    fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    #[inline]
    fn streams(&mut self) -> Option<&mut Streams> {
        self.rare.as_mut()?.streams.as_deref_mut()
    }
}

/// The table. Slots are counted from 0 here and from 1 in ids.
#[derive(Debug, Default)]
pub(super) struct Calls {
    free: Slots,
    slots: Vec<Slot>,
    tombstones: usize,
    /// Since when tombstones have filled half of the slots.
    crowded_since: Option<Instant>,
    /// No call's deadline is before this.
    next_deadline: Option<Instant>,
}

impl Calls {
    /// Takes a slot for a call that [`Calls::insert`] is about to enter. Says in which one it is,
    /// and the priority and the last frame of those that had it before.
    #[inline]
    pub(super) fn reserve(&mut self) -> (usize, Priority, u64) {
        let index = self.free.take();
        if index == self.slots.len() {
            self.slots.push(Slot {
                local: Local::Gone,
                open: false,
                deadline: None,
                priority: Priority::Normal,
                sequence: 0,
                last_frame: 0,
                generation: 0,
                small: Small::default(),
                rare: None,
            });
        }
        let slot = &self.slots[index];
        (index, slot.priority, slot.last_frame)
    }

    /// Enters a call whose REQUEST is the counted frame `sequence` of its priority.
    #[inline]
    pub(super) fn insert(
        &mut self,
        index: usize,
        waker: Option<Waker>,
        deadline: Option<Instant>,
        priority: Priority,
        sequence: u64,
    ) {
        let slot = &mut self.slots[index];
        slot.generation += 1;
        slot.local = Local::Waiting(waker);
        slot.open = true;
        slot.deadline = deadline;
        slot.priority = priority;
        slot.sequence = sequence;
        slot.last_frame = sequence;
        if let Some(deadline) = deadline {
            earlier(&mut self.next_deadline, deadline);
        }
    }

    /// Gives a call that was just entered its streams, and returns its generation.
    pub(super) fn attach(&mut self, index: usize, streams: Streams) -> u64 {
        let slot = &mut self.slots[index];
        slot.rare().streams = Some(Box::new(streams));
        slot.generation
    }

    /// The streams of a call, as its own handles see them.
    pub(super) fn streams(&mut self, index: usize, generation: u64) -> Option<&mut Streams> {
        let slot = self.slots.get_mut(index)?;
        if slot.generation != generation || matches!(slot.local, Local::Gone) {
            return None;
        }
        slot.streams()
    }

    /// The streams of a call, as frames of the peer mean them.
    pub(super) fn open_streams(&mut self, index: usize) -> Option<&mut Streams> {
        let slot = self.slots.get_mut(index).filter(|slot| slot.open)?;
        slot.streams()
    }

    /// A further frame of the call in this slot has been queued.
    pub(super) fn note_frame(&mut self, index: usize, number: u64) {
        if let Some(slot) = self.slots.get_mut(index) {
            slot.last_frame = number;
        }
    }

    /// The priority of the call in this slot.
    #[inline]
    pub(super) fn priority(&self, index: usize) -> Priority {
        self.slots
            .get(index)
            .map_or(Priority::Normal, |slot| slot.priority)
    }

    /// Whether the peer owes a terminal frame.
    pub(super) fn is_open(&self, index: usize) -> bool {
        self.slots.get(index).is_some_and(|slot| slot.open)
    }

    /// Whether the call waits for its answer and has no stream, so that none can be opened.
    pub(super) fn is_unary(&self, index: usize) -> bool {
        self.slots.get(index).is_some_and(|slot| {
            let has_stream = slot
                .rare
                .as_ref()
                .is_some_and(|rare| rare.streams.is_some());
            slot.open && !has_stream && matches!(slot.local, Local::Waiting(_))
        })
    }

    /// Something came along with OPEN or RESPONSE.
    pub(super) fn set_metadata(&mut self, index: usize, metadata: Metadata) {
        if let Some(slot) = self.slots.get_mut(index)
            && slot.open
            && !matches!(slot.local, Local::Gone)
            && !metadata.is_empty()
        {
            slot.rare().metadata = metadata;
        }
    }

    /// Takes out what came along with the answer so far.
    pub(super) fn take_metadata(&mut self, index: usize) -> Metadata {
        let slot = self.slots.get_mut(index);
        let rare = slot.and_then(|slot| slot.rare.as_mut());
        rare.map_or_else(Metadata::default, |rare| std::mem::take(&mut rare.metadata))
    }

    /// The call was accepted: its deadline no longer holds.
    pub(super) fn opened(&mut self, index: usize, wakers: &mut Vec<Waker>) {
        let Some(slot) = self.slots.get_mut(index).filter(|slot| slot.open) else {
            return;
        };
        slot.deadline = None;
        if let Some(streams) = slot.streams() {
            streams.is_open = true;
            wakers.extend(streams.opening.take());
        }
    }

    /// Ends a call before the peer does. Says whether the peer is to be told.
    pub(super) fn give_up(
        &mut self,
        index: usize,
        status: Status,
        wakers: &mut Vec<Waker>,
    ) -> bool {
        let Some(slot) = self.slots.get_mut(index) else {
            return false;
        };
        let Local::Waiting(waker) = &mut slot.local else {
            return false;
        };
        wakers.extend(waker.take());
        slot.local = Local::Done(Answer::Failed(Box::new(Failure {
            status,
            details: Bytes::new(),
        })));
        slot.deadline = None;
        if let Some(streams) = slot.streams() {
            streams.end(wakers);
        }
        slot.open
    }

    /// Whether an answer, or a failure, is there to be taken.
    pub(super) fn is_done(&self, index: usize) -> bool {
        let slot = self.slots.get(index);
        slot.is_some_and(|slot| matches!(slot.local, Local::Done(_)))
    }

    /// Wakes whoever waits to send an item, since there is room in the outbox again.
    pub(super) fn wake_senders(&mut self, wakers: &mut Vec<Waker>) {
        for slot in &mut self.slots {
            if let Some(streams) = slot.streams()
                && let Some(outgoing) = &mut streams.outgoing
            {
                outgoing.wake(wakers);
            }
        }
    }

    /// Wakes whoever waits for an item.
    pub(super) fn wake_readers(&mut self, wakers: &mut Vec<Waker>) {
        for slot in &mut self.slots {
            if let Some(streams) = slot.streams()
                && let Some(incoming) = &mut streams.incoming
            {
                incoming.wake(wakers);
            }
        }
    }

    /// Slots in use, tombstones included: what the peer counts as in flight, and what is answered
    /// and not yet taken.
    #[inline]
    pub(super) fn in_use(&self) -> usize {
        self.free.used()
    }

    /// A RESPONSE has come. `whole` is the message that `body` stands in.
    #[inline]
    pub(super) fn respond(
        &mut self,
        index: usize,
        body: &[u8],
        whole: &Bytes,
        wakers: &mut Vec<Waker>,
    ) -> bool {
        let Some(slot) = self.slots.get_mut(index).filter(|slot| slot.open) else {
            return false;
        };
        if let Local::Waiting(waker) = &mut slot.local {
            wakers.extend(waker.take());
            slot.local = Local::Done(if slot.small.set(body) {
                Answer::Small
            } else if body.len() <= COPY_BYTES {
                let buffer = &mut slot.rare().buffer;
                buffer.clear();
                buffer.extend_from_slice(body);
                Answer::Copied
            } else {
                slot.rare().shared = Some(whole.slice_ref(body));
                Answer::Shared
            });
        }
        self.ended(index, wakers);
        true
    }

    /// An ERROR has come.
    pub(super) fn fail(
        &mut self,
        index: usize,
        failure: impl FnOnce() -> Failure,
        wakers: &mut Vec<Waker>,
    ) -> bool {
        let Some(slot) = self.slots.get_mut(index).filter(|slot| slot.open) else {
            return false;
        };
        if let Local::Waiting(waker) = &mut slot.local {
            wakers.extend(waker.take());
            slot.local = Local::Done(Answer::Failed(Box::new(failure())));
        }
        self.ended(index, wakers);
        true
    }

    /// A terminal frame has come whose content is of no use.
    pub(super) fn terminated(&mut self, index: usize, wakers: &mut Vec<Waker>) {
        if self.slots.get(index).is_some_and(|slot| slot.open) {
            self.ended(index, wakers);
        }
    }

    #[inline]
    fn ended(&mut self, index: usize, wakers: &mut Vec<Waker>) {
        let slot = &mut self.slots[index];
        slot.open = false;
        if let Some(streams) = slot.streams() {
            streams.end(wakers);
        }
        if matches!(slot.local, Local::Gone) {
            if let Some(rare) = &mut slot.rare {
                rare.streams = None;
            }
            self.tombstones -= 1;
            self.crowded_since = None;
            self.free.give_back(index);
        }
    }

    /// The caller asks for its answer.
    #[inline]
    pub(super) fn poll(
        &mut self,
        index: usize,
        waker: &Waker,
        received: &mut Received,
    ) -> Poll<Answer> {
        let slot = &mut self.slots[index];
        match &mut slot.local {
            Local::Waiting(waiting) => {
                match waiting {
                    Some(waiting) => waiting.clone_from(waker),
                    None => *waiting = Some(waker.clone()),
                }
                Poll::Pending
            }
            Local::Done(_) => {
                let Local::Done(answer) = std::mem::replace(&mut slot.local, Local::Gone) else {
                    unreachable!("matched above");
                };
                received.small = slot.small;
                if let Some(rare) = &mut slot.rare {
                    if matches!(answer, Answer::Copied) {
                        // Not exchanged: each slot would end up with a large buffer of some thread.
                        received.copied = scratch::take();
                        received.copied.extend_from_slice(&rare.buffer);
                    }
                    received.shared = rare.shared.take();
                    received.metadata = std::mem::take(&mut rare.metadata);
                }
                self.left(index);
                Poll::Ready(answer)
            }
            // A call takes its answer once.
            Local::Gone => Poll::Pending,
        }
    }

    /// The caller gives up. Says whether the peer is to be told.
    pub(super) fn abandon(&mut self, index: usize, wakers: &mut Vec<Waker>) -> bool {
        let slot = &mut self.slots[index];
        if let Some(streams) = slot.streams() {
            streams.end(wakers);
        }
        let cancel = match std::mem::replace(&mut slot.local, Local::Gone) {
            Local::Waiting(_) => slot.open,
            Local::Done(_) => false,
            Local::Gone => return false,
        };
        self.left(index);
        cancel
    }

    #[inline]
    fn left(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        slot.deadline = None;
        if let Some(rare) = &mut slot.rare {
            rare.streams = None;
            rare.metadata = Metadata::default();
            rare.shared = None;
        }
        if slot.open {
            self.tombstones += 1;
        } else {
            self.free.give_back(index);
        }
    }

    /// Ends the calls whose deadline has passed; their slots are handed to `expired`.
    pub(super) fn expire(
        &mut self,
        now: Instant,
        wakers: &mut Vec<Waker>,
        mut expired: impl FnMut(usize),
    ) {
        if self.next_deadline.is_none_or(|deadline| deadline > now) {
            return;
        }
        self.next_deadline = None;
        for (index, slot) in self.slots.iter_mut().enumerate() {
            let (Local::Waiting(waker), Some(deadline)) = (&mut slot.local, slot.deadline) else {
                continue;
            };
            if deadline > now {
                earlier(&mut self.next_deadline, deadline);
                continue;
            }
            wakers.extend(waker.take());
            slot.local = Local::Done(Answer::Failed(Box::new(Failure {
                status: Status::new(
                    Code::DEADLINE_EXCEEDED,
                    "no answer within the deadline, as the caller noticed",
                )
                .with_fate(Fate::Unknown),
                details: Bytes::new(),
            })));
            slot.deadline = None;
            if let Some(streams) = slot.streams() {
                streams.end(wakers);
            }
            expired(index);
        }
    }

    /// Whether tombstones have filled half of `limit` slots for too long.
    pub(super) fn is_crowded(&mut self, limit: usize, now: Instant) -> bool {
        if self.tombstones <= limit / 2 {
            self.crowded_since = None;
            return false;
        }
        now >= *self.crowded_since.get_or_insert(now) + TOMBSTONES_PATIENCE
    }

    /// There was no socket: what the peer owes could not come.
    pub(super) fn forgive_tombstones(&mut self) {
        self.crowded_since = None;
    }

    /// When [`Calls::expire`] or [`Calls::is_crowded`] has something to do.
    #[inline]
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let crowded = self.crowded_since.map(|since| since + TOMBSTONES_PATIENCE);
        earliest(self.next_deadline, crowded)
    }

    /// The connection is over: every waiting call ends, and no more frames come.
    pub(super) fn end_all(
        &mut self,
        wakers: &mut Vec<Waker>,
        status: impl Fn(usize, Priority, u64) -> Status,
    ) {
        for index in 0..self.slots.len() {
            let slot = &mut self.slots[index];
            if let Local::Waiting(waker) = &mut slot.local {
                wakers.extend(waker.take());
                slot.local = Local::Done(Answer::Failed(Box::new(Failure {
                    status: status(index, slot.priority, slot.sequence),
                    details: Bytes::new(),
                })));
            }
            if slot.open {
                self.ended(index, wakers);
            }
        }
        self.next_deadline = None;
    }
}

/// The one that comes first, of those that come at all.
#[inline]
pub(crate) fn earliest(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// Lowers `next` to `instant`.
#[inline]
pub(super) fn earlier(next: &mut Option<Instant>, instant: Instant) {
    if next.is_none_or(|next| instant < next) {
        *next = Some(instant);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insert(calls: &mut Calls, deadline: Option<Instant>) -> usize {
        let (index, ..) = calls.reserve();
        calls.insert(index, None, deadline, Priority::Normal, 1);
        index
    }

    fn poll(calls: &mut Calls, index: usize) -> Poll<Answer> {
        calls.poll(index, Waker::noop(), &mut Received::default())
    }

    #[test]
    fn a_slot_is_free_once_its_answer_is_taken() {
        let mut calls = Calls::default();
        let index = insert(&mut calls, None);
        assert!(calls.respond(index, b"x", &Bytes::new(), &mut Vec::new()));
        assert_eq!(calls.in_use(), 1);
        assert!(matches!(
            poll(&mut calls, index),
            Poll::Ready(Answer::Small)
        ));
        assert_eq!(calls.in_use(), 0);
    }

    #[test]
    fn an_abandoned_call_keeps_its_slot_until_the_terminal_frame() {
        let mut calls = Calls::default();
        let index = insert(&mut calls, None);
        assert!(calls.abandon(index, &mut Vec::new()));
        assert_eq!(calls.in_use(), 1);
        assert!(calls.respond(index, b"late", &Bytes::new(), &mut Vec::new()));
        assert_eq!(calls.in_use(), 0);
        assert!(!calls.respond(index, b"twice", &Bytes::new(), &mut Vec::new()));
    }

    #[tokio::test(start_paused = true)]
    async fn an_expired_call_ends_and_leaves_a_tombstone() {
        let mut calls = Calls::default();
        let deadline = Instant::now() + Duration::from_secs(1);
        let index = insert(&mut calls, Some(deadline));
        assert_eq!(calls.next_timeout(), Some(deadline));
        let mut expired = Vec::new();
        calls.expire(deadline, &mut Vec::new(), |index| expired.push(index));
        assert_eq!(expired, [index]);
        assert!(matches!(
            poll(&mut calls, index),
            Poll::Ready(Answer::Failed(_))
        ));
        assert_eq!((calls.in_use(), calls.tombstones), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn tombstones_in_half_of_the_slots_are_too_many_after_15_s() {
        let mut calls = Calls::default();
        for _ in 0..3 {
            let index = insert(&mut calls, None);
            calls.abandon(index, &mut Vec::new());
        }
        let now = Instant::now();
        assert!(!calls.is_crowded(4, now));
        assert!(calls.is_crowded(4, now + TOMBSTONES_PATIENCE));
        assert!(calls.respond(0, b"", &Bytes::new(), &mut Vec::new()));
        assert!(!calls.is_crowded(4, now + TOMBSTONES_PATIENCE));
    }
}
