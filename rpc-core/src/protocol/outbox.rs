//! What waits to be written, and in which order it goes: control frames, then the calls by their
//! priority, small frames and pieces of large bodies in turn.

use std::borrow::Cow;

use bytes::Bytes;

use super::{
    frame::{CallId, ChunkState, Frame, Head},
    handshake::PeerLimits,
    large::{self, Aborted, FIRST_PIECE_BYTES, LargeBodies, Output},
    levels::Levels,
    packer::{Batch, Packer},
    replay::{Gap, Replay},
};
use crate::{
    body::{Codec, Rope},
    priority::Priority,
};

/// So much is handed out to be written at a time: what comes meanwhile, and is more urgent, goes
/// before the rest.
const BATCH_BYTES: usize = 128 << 10;

/// Pieces of large bodies are queued until so much waits beside them.
const PIECES_A_BATCH_BYTES: usize = 64 << 10;

/// Every so many times the lowest priority goes first.
const LOWEST_FIRST: usize = 8;

/// What the peer lets each end send before it says more (W-FLOW-8).
pub(super) const WINDOW_BYTES: usize = 1 << 20;

/// Collects frames until the connection can write them.
#[derive(Debug)]
pub(super) struct Outbox {
    codec: Codec,
    /// What belongs to the socket rather than to the session, and is not counted. It goes before
    /// all else, and is seldom there.
    signals: Option<Box<Packer>>,
    /// Whether nothing but signals may go.
    held: bool,
    /// What was sent and may have to be sent again. That goes next.
    replay: Replay,
    /// What belongs to no call, and goes before the calls.
    control: Packer,
    /// Frames of calls, and notifications, by [`Priority`].
    levels: Levels,
    /// Bodies that go in pieces.
    large: LargeBodies,
    /// What may be lost. In messages of its own: it is not kept to be sent again, takes no part of the
    /// window, and goes with the socket.
    volatile: Option<Box<Packer>>,
    /// Bytes of messages that may be sent. The last one may overshoot them.
    window: i64,
    /// How often something was taken, so that the lowest priority comes first at times.
    takes: usize,
}

impl Outbox {
    pub(super) fn new(codec: Codec) -> Self {
        Outbox {
            codec,
            signals: None,
            held: false,
            replay: Replay::default(),
            control: Packer::new(codec),
            levels: Levels::new(codec),
            large: LargeBodies::new(PeerLimits::default().max_assembly_bytes),
            volatile: None,
            window: WINDOW_BYTES as i64,
            takes: 0,
        }
    }

    // ---- what the peer has announced

    /// Frames share a message only as long as it has no more bytes than this.
    pub(super) fn limit_messages(&mut self, max_bytes: usize) {
        let ahead = [&mut self.control].into_iter();
        let ahead = ahead.chain(self.signals.as_deref_mut());
        for packer in self.levels.iter_mut().chain(ahead) {
            packer.limit_messages(max_bytes);
        }
    }

    /// Keeps up to so many bytes of what is sent, to send them again.
    pub(super) fn limit_replay(&mut self, max_bytes: usize) {
        self.replay.set_limit(max_bytes);
    }

    /// Counted frames that were handed out to be written.
    #[inline]
    pub(super) fn sent(&self) -> u64 {
        self.replay.sent()
    }

    /// The peer has counted so many frames.
    #[inline]
    pub(super) fn acknowledge(&mut self, count: u64) -> Result<(), Gap> {
        self.replay.acknowledge(count)
    }

    // ---- a broken connection

    /// Drops what belongs to the socket and was not sent.
    pub(super) fn forget_signals(&mut self) {
        self.signals = None;
    }

    /// The socket is gone: what belonged to it is dropped, and all else waits.
    pub(super) fn hold(&mut self) {
        self.signals = None;
        self.volatile = None;
        self.held = true;
    }

    /// What waits may go.
    pub(super) fn release(&mut self) {
        self.held = false;
    }

    /// Whether the peer, which has counted so many frames, can be sent all that it has not.
    pub(super) fn check_resume(&self, count: u64) -> Result<(), Gap> {
        self.replay.check(count)
    }

    /// The session goes on: what the peer has not counted is sent again, and then what waits.
    pub(super) fn resume(&mut self, count: u64) -> Result<(), Gap> {
        self.replay.restart(count)?;
        self.held = false;
        Ok(())
    }

    /// The messages that were sent and lie behind this count.
    pub(super) fn messages_behind(&self, count: u64) -> impl Iterator<Item = &[u8]> {
        self.replay.messages_behind(count)
    }

    /// How many bytes of large bodies the peer puts together at a time.
    pub(super) fn limit_assembly(&mut self, max_bytes: usize) {
        self.large.set_limit(max_bytes);
    }

    /// The peer has taken in so many bytes of messages.
    #[inline]
    pub(super) fn open_window(&mut self, bytes: u64) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.window = self.window.saturating_add(bytes);
    }

    // ---- what is to be sent

    /// Appends a frame that belongs to no call and waits for nothing.
    pub(super) fn push_control(&mut self, frame: &Frame<'_>) {
        debug_assert!(frame.head.is_control(), "{frame:?}");
        match frame.head.is_counted() {
            true => self.control.push(frame),
            false => {
                let control = &self.control;
                let signals = self.signals.get_or_insert_with(|| Box::new(control.like()));
                signals.push(frame);
            }
        }
    }

    /// Appends a frame of a call that has no body, and need not wait behind one.
    #[inline]
    pub(super) fn push(&mut self, priority: Priority, frame: &Frame<'_>) {
        self.levels.open(priority).push(frame);
    }

    /// Appends a frame whose body may be of any size; `frame` itself has none. It waits behind a
    /// large body of the same call, or of a notification if it is one.
    pub(super) fn push_body(&mut self, priority: Priority, frame: Frame<'_>, body: &mut Vec<u8>) {
        if body.len() > FIRST_PIECE_BYTES {
            let body = Bytes::from(std::mem::take(body));
            self.push_large(priority, &frame, body.into());
            return;
        }
        self.push_shared(priority, frame, body);
    }

    /// Appends a REQUEST as it is as a rule: by its method's alias, without options, and small.
    #[inline]
    pub(super) fn push_request(&mut self, priority: Priority, id: CallId, alias: u64, body: &[u8]) {
        self.levels.open(priority).push_request(id, alias, body);
    }

    /// Appends an ITEM without options, with a small body that others have, too.
    #[inline]
    pub(super) fn push_item(&mut self, priority: Priority, id: CallId, body: &[u8]) {
        if self.large.contains(id) {
            self.push_shared(priority, Frame::new(Head::Item { id }), body);
        } else {
            self.levels.open(priority).push_item(id, body);
        }
    }

    /// Like [`Outbox::push_body`], for a small body that others have, too.
    #[inline]
    pub(super) fn push_shared(&mut self, priority: Priority, frame: Frame<'_>, body: &[u8]) {
        let frame = Frame {
            payload: body,
            ..frame
        };
        match large::key(&frame.head).filter(|key| self.large.contains(*key)) {
            None => self.levels.open(priority).push(&frame),
            Some(key) => {
                let mut encoded = Vec::new();
                frame.encode(self.codec, &mut encoded);
                self.large
                    .follow_encoded(key, &encoded, frame.head.is_counted());
            }
        }
    }

    /// Appends a frame whose body is larger than one piece.
    pub(super) fn push_large(&mut self, priority: Priority, frame: &Frame<'_>, body: Rope) {
        let Some(key) = large::key(&frame.head) else {
            return;
        };
        if self.large.contains(key) {
            self.large.follow(key, self.codec, frame, body);
        } else {
            self.large.push(key, priority, self.codec, frame, body);
            self.begin_large();
        }
    }

    /// Appends a frame that was encoded before, behind what is left of a body with the same key:
    /// an id, or [`CallId::CONNECTION`] for notifications.
    #[inline]
    pub(super) fn push_encoded(&mut self, priority: Priority, key: CallId, encoded: &[u8]) {
        if self.large.contains(key) {
            self.large.follow_encoded(key, encoded, true);
        } else {
            self.levels.open(priority).push_encoded(encoded, true);
        }
    }

    /// Appends a VOLATILE that was encoded before.
    pub(super) fn push_volatile(&mut self, encoded: &[u8]) {
        let control = &self.control;
        let volatile = self
            .volatile
            .get_or_insert_with(|| Box::new(control.like()));
        volatile.push_encoded(encoded, false);
    }

    /// Appends a frame that may have to wait behind a large body of the same call.
    pub(super) fn push_in_order(&mut self, priority: Priority, frame: Frame<'_>) {
        self.push_body(priority, frame, &mut Vec::new());
    }

    /// Breaks off a body of this call, if one is on its way.
    pub(super) fn abort_large(&mut self, priority: Priority, id: CallId) -> Aborted {
        let aborted = self.large.abort(id);
        if aborted == Aborted::Begun {
            self.push(
                priority,
                &Frame::new(Head::Chunk {
                    id,
                    state: ChunkState::Abort,
                    piece: Cow::Borrowed(&[]),
                }),
            );
            self.begin_large();
        }
        aborted
    }

    fn begin_large(&mut self) {
        while let Some((priority, first)) = self.large.begin_next() {
            self.levels.open(priority).push_encoded(&first, true);
        }
    }

    // ---- what waits

    /// Bytes of frames that wait, without the bodies that go in pieces.
    #[inline]
    pub(super) fn len(&self) -> usize {
        let signals = self.signals.as_ref().map_or(0, |signals| signals.len());
        signals + self.control.len() + self.levels.len()
    }

    /// Bytes of frames that wait, with the large bodies of notifications.
    #[inline]
    pub(super) fn notify_bytes(&self) -> usize {
        let large = match self.large.is_empty() {
            true => 0,
            false => self.large.bytes_of(CallId::CONNECTION),
        };
        self.len() + large
    }

    /// Bytes of volatile frames that wait. They are not among the others: what may be lost is in
    /// nobody's way.
    #[inline]
    pub(super) fn volatile_bytes(&self) -> usize {
        self.volatile.as_ref().map_or(0, |volatile| volatile.len())
    }

    /// Bytes of large bodies that wait.
    #[inline]
    pub(super) fn large_bytes(&self) -> usize {
        self.large.bytes()
    }

    /// Whether something waits that may be written now.
    #[inline]
    pub(super) fn has_output(&self) -> bool {
        if self.held {
            return self.has_signals();
        }
        // What is there as a rule comes first.
        let has_room = self.replay.has_room();
        (has_room && self.window > 0 && self.has_calls())
            || (has_room && !self.control.is_empty())
            || self.has_signals()
            || self.replay.is_restarted()
            || self.may_take_volatile()
    }

    #[inline]
    fn has_signals(&self) -> bool {
        let signals = self.signals.as_ref();
        signals.is_some_and(|signals| !signals.is_empty())
    }

    /// Whether something waits until the peer has taken in what was sent before.
    #[inline]
    pub(super) fn is_window_shut(&self) -> bool {
        !self.held && (self.window <= 0 || !self.replay.has_room()) && self.has_calls()
    }

    /// Whether something was sent and not acknowledged, or frames of calls wait.
    pub(super) fn is_owing(&self) -> bool {
        self.has_calls() || !self.replay.is_empty()
    }

    /// Whether frames of calls wait, or notifications.
    #[inline]
    pub(super) fn has_calls(&self) -> bool {
        !self.large.is_empty() || !self.levels.is_empty()
    }

    /// The number of the next counted frame of this priority, for [`Outbox::has_taken`].
    #[inline]
    pub(super) fn next_counted(&self, priority: Priority) -> u64 {
        self.levels.get(priority).map_or(1, Packer::next_counted)
    }

    /// Whether this frame was handed out to be written.
    #[inline]
    pub(super) fn has_taken(&self, priority: Priority, counted: u64) -> bool {
        self.levels
            .get(priority)
            .is_some_and(|level| level.has_taken(counted))
    }

    // ---- what goes

    /// Moves what goes next into `batch`, which must be empty, and may take over its buffers.
    ///
    /// Something goes of each priority: the higher has the larger part, and none starves.
    #[inline]
    pub(super) fn take(&mut self, batch: &mut Batch) {
        debug_assert!(batch.is_empty());
        if !self.held {
            self.take_unheld(batch);
        }
        self.take_signals(batch);
    }

    #[inline]
    fn take_unheld(&mut self, batch: &mut Batch) {
        if self.replay.is_restarted() {
            // It took its part of the window when it was sent first.
            self.replay.take(batch, BATCH_BYTES);
        }
        if !self.replay.is_restarted() && self.replay.has_room() {
            let first = batch.messages_len();
            self.take_counted(batch);
            self.replay.record(batch, first);
        }
        if self.may_take_volatile() {
            self.take_volatile(batch);
        }
    }

    /// Signals go before all else. They are few, and come into the batch when the others are there,
    /// which are not copied if they are the first.
    #[inline]
    fn take_signals(&mut self, batch: &mut Batch) {
        if let Some(signals) = &mut self.signals {
            batch.put_first(|batch| signals.take(batch));
        }
    }

    /// Whether volatile frames may go: not before the DEFINEs of their aliases, nor to a peer that
    /// takes in nothing.
    #[inline]
    fn may_take_volatile(&self) -> bool {
        self.volatile.is_some()
            && self.window > 0
            && !self.replay.is_restarted()
            && (self.control.is_empty() || self.replay.has_room())
    }

    fn take_volatile(&mut self, batch: &mut Batch) {
        let Some(volatile) = &mut self.volatile else {
            return;
        };
        // One in any case, beside whatever else there is.
        while volatile.take_message(batch) > 0 && batch.len() < BATCH_BYTES {}
        self.volatile.take_if(|volatile| volatile.is_empty());
    }

    #[inline]
    fn take_counted(&mut self, batch: &mut Batch) {
        self.control.take(batch);
        let control = batch.len();
        if control == 0 && self.window > 0 && self.is_in_order() {
            // As a rule. Nothing is copied.
            self.levels.take(batch);
            self.window -= batch.len() as i64;
            return;
        }
        // A peer may open its window for one message at a time.
        self.takes = self.takes.wrapping_add(1);
        let mut order = Priority::DESCENDING;
        if self.takes.is_multiple_of(LOWEST_FIRST) {
            order.reverse();
        }
        for priority in order {
            let before = batch.len();
            self.add_pieces(priority, before, batch);
            let Some(level) = self.levels.get_mut(priority) else {
                continue;
            };
            while self.window > 0 && (batch.len() == before || batch.len() < BATCH_BYTES) {
                let taken = level.take_message(batch);
                if taken == 0 {
                    break;
                }
                self.window -= taken as i64;
            }
        }
    }

    /// Moves all frames that wait into `batch`, but no further pieces of large bodies.
    pub(super) fn take_rest(&mut self, batch: &mut Batch) {
        if !self.held {
            self.replay.take(batch, usize::MAX);
            self.control.take(batch);
            self.levels.take(batch);
            if let Some(mut volatile) = self.volatile.take() {
                volatile.take(batch);
            }
        }
        self.take_signals(batch);
    }

    /// Leaves buffers that are empty to the thread.
    #[inline]
    pub(super) fn give_back_buffers(&mut self) {
        self.levels.give_back_buffers();
        self.control.give_back_buffer();
        if let Some(signals) = self.signals.as_mut().filter(|signals| signals.is_empty()) {
            signals.give_back_buffer();
            self.signals = None;
        }
    }

    /// Whether all that waits can go at once, since it is little and of one priority.
    #[inline]
    fn is_in_order(&self) -> bool {
        self.large.is_empty() && self.levels.are_in_order() && self.len() <= BATCH_BYTES
    }

    /// Queues pieces of large bodies behind the frames of their priority: one in any case, and more
    /// if little else is to be written, of which `before` bytes go before.
    fn add_pieces(&mut self, priority: Priority, before: usize, batch: &mut Batch) {
        let Outbox {
            large,
            levels,
            codec,
            window,
            ..
        } = self;
        let mut is_first = true;
        while *window > 0
            && large.contains_priority(priority)
            && (is_first
                || before + levels.get(priority).map_or(0, Packer::len) < PIECES_A_BATCH_BYTES)
        {
            is_first = false;
            let sent = large.next_piece(*codec, priority, |priority, output| {
                let level = levels.open(priority);
                match output {
                    Output::Frame(frame) => level.push(frame),
                    Output::Encoded(encoded, is_counted) => level.push_encoded(encoded, is_counted),
                }
            });
            batch.sent.extend(sent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Frames;

    const CODEC: Codec = Codec::MessagePack;

    fn item(id: u64, body: &[u8]) -> Frame<'_> {
        let id = CallId::new(id);
        Frame::with_payload(Head::Item { id }, body)
    }

    fn outbox() -> Outbox {
        Outbox::new(CODEC)
    }

    /// The ids and kinds of the frames that go next.
    fn taken(outbox: &mut Outbox) -> Vec<(u64, u8)> {
        let mut batch = Batch::default();
        outbox.take(&mut batch);
        batch
            .messages()
            .flat_map(|message| Frames::new(CODEC, message))
            .map(|frame| {
                let head = frame.expect("a frame").head;
                let id = match head {
                    Head::Item { id } | Head::Chunk { id, .. } => id.value(),
                    _ => 0,
                };
                (id, head.kind())
            })
            .collect()
    }

    fn ids(outbox: &mut Outbox) -> Vec<u64> {
        taken(outbox).into_iter().map(|(id, _)| id).collect()
    }

    #[test]
    fn what_is_more_urgent_goes_first_and_control_before_all() {
        let mut outbox = outbox();
        for (id, priority) in [
            (1, Priority::Low),
            (3, Priority::Normal),
            (5, Priority::High),
            (7, Priority::Normal),
        ] {
            outbox.push(priority, &item(id, b"x"));
        }
        outbox.push_control(&Frame::new(Head::Ping { count: 0, token: 0 }));
        assert_eq!(ids(&mut outbox), [0, 5, 3, 7, 1]);
        assert!(!outbox.has_output());
    }

    #[test]
    fn a_lower_priority_goes_on_while_a_higher_one_has_more_than_can_be_written() {
        let mut outbox = outbox();
        let body = vec![0; 60_000];
        for _ in 0..10 {
            outbox.push(Priority::High, &item(5, &body));
            outbox.push(Priority::Low, &item(1, &body));
        }
        let first = ids(&mut outbox);
        assert_eq!(first.iter().filter(|id| **id == 1).count(), 2, "{first:?}");
        assert_eq!(first.iter().filter(|id| **id == 5).count(), 4, "{first:?}");
        // What is urgent and comes now does not wait for what was there before.
        outbox.push(Priority::High, &item(7, b"x"));
        assert!(outbox.len() > 10 * 60_000);
        while !ids(&mut outbox).contains(&7) {}
        assert!(outbox.len() > 3 * 60_000, "the low ones are not through");
    }

    #[test]
    fn large_bodies_of_each_priority_go_on_and_the_higher_one_does_not_wait() {
        let mut outbox = outbox();
        let body = Bytes::from(vec![0; 1 << 20]);
        for (id, priority) in [(1, Priority::Low), (5, Priority::High)] {
            outbox.push_large(priority, &item(id, &[]), body.clone().into());
        }
        let mut ends: Vec<u64> = Vec::new();
        let mut low = 0;
        while outbox.has_output() {
            // As the peer does when it takes them in.
            outbox.open_window(1 << 20);
            let taken = taken(&mut outbox);
            let low_now = taken.iter().filter(|(id, _)| *id == 1).count();
            assert!(low_now > 0 || ends.contains(&1), "{taken:?}");
            if ends.is_empty() {
                low += low_now;
            }
            let has_ended = |id: &u64| !outbox.large.contains(CallId::new(*id));
            for id in [1, 5].into_iter().filter(has_ended) {
                if !ends.contains(&id) {
                    ends.push(id);
                }
            }
        }
        assert_eq!(ends[0], 5);
        assert!(low < 64, "{low} pieces of the lower one went before");
    }

    #[test]
    fn nothing_but_control_goes_beyond_the_window() {
        let mut outbox = outbox();
        let body = vec![0; 60_000];
        let mut items = 0;
        loop {
            outbox.push(Priority::Normal, &item(3, &body));
            if !outbox.has_output() {
                break;
            }
            items += ids(&mut outbox).len();
        }
        // One message may overshoot.
        assert!((17..=19).contains(&items), "{items}");
        assert!(outbox.is_window_shut());
        outbox.push_control(&Frame::new(Head::Ping { count: 0, token: 0 }));
        assert_eq!(ids(&mut outbox), [0]);
        outbox.open_window(70_000);
        assert!(!outbox.is_window_shut());
        assert_eq!(ids(&mut outbox), [3]);
    }
}
