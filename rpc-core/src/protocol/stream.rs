//! One direction of a stream: what one end may still send, and what the other has not yet taken.

use std::task::{Poll, Waker};

use bytes::Bytes;

use super::{
    item_queue::ItemQueue,
    options::{OptionValue, OptionsBuilder},
    topic::{Opening, TopicPosition},
};

/// How much of a stream may be on its way: items, and bytes of their bodies. The last item may
/// overshoot the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamCredit {
    /// Items.
    pub items: u32,
    /// Bytes of bodies.
    pub bytes: u32,
}

impl Default for StreamCredit {
    /// 16 items, 256 KiB.
    fn default() -> Self {
        StreamCredit {
            items: 16,
            bytes: 256 << 10,
        }
    }
}

/// Keys of options of REQUEST and OPEN, with which a stream's receiver grants something else than
/// what it has announced for all streams.
pub(crate) const STREAM_ITEMS: u64 = 2;
pub(crate) const STREAM_BYTES: u64 = 4;

/// Key of an option of REQUEST: which streams the caller has in mind, see
/// [`MethodKind::streams`](super::MethodKind::streams).
pub(crate) const STREAMS: u64 = 6;

/// Key of an option of REQUEST: the call's [`Priority`](crate::Priority).
pub(crate) const PRIORITY: u64 = 3;

impl StreamCredit {
    pub(crate) fn write(self, options: &mut OptionsBuilder) {
        options.uint(STREAM_ITEMS, u64::from(self.items));
        options.uint(STREAM_BYTES, u64::from(self.bytes));
    }

    /// Takes over an option. Says whether it is a number.
    pub(crate) fn read(&mut self, key: u64, value: &OptionValue<'_>) -> bool {
        let Some(number) = value.uint() else {
            return false;
        };
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        match key {
            STREAM_ITEMS => self.items = number,
            _ => self.bytes = number,
        }
        true
    }
}

/// The end of a stream that items come in at.
#[derive(Debug)]
pub(super) struct Incoming {
    queue: ItemQueue,
    waker: Option<Waker>,
    /// What the peer may still send.
    items: u64,
    bytes: i64,
    /// The peer has sent its last item.
    ended: bool,
}

/// An item came for which there was no credit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BeyondCredit;

impl Incoming {
    pub(super) fn new(credit: StreamCredit) -> Self {
        Incoming {
            queue: ItemQueue::default(),
            waker: None,
            items: u64::from(credit.items),
            bytes: i64::from(credit.bytes),
            ended: false,
        }
    }

    /// Takes in an item. `whole` is the message that `body` stands in.
    pub(super) fn push(
        &mut self,
        body: &[u8],
        whole: &Bytes,
        wakers: &mut Vec<Waker>,
    ) -> Result<(), BeyondCredit> {
        if self.items == 0 || self.bytes <= 0 {
            return Err(BeyondCredit);
        }
        self.items -= 1;
        self.bytes -= i64::try_from(body.len()).unwrap_or(i64::MAX);
        if !self.ended {
            self.queue.push(body, whole);
            wakers.extend(self.waker.take());
        }
        Ok(())
    }

    /// The last item has come.
    pub(super) fn end(&mut self, wakers: &mut Vec<Waker>) {
        self.ended = true;
        wakers.extend(self.waker.take());
    }

    /// There is something else to look at than items.
    pub(super) fn wake(&mut self, wakers: &mut Vec<Waker>) {
        wakers.extend(self.waker.take());
    }

    /// Whether nothing more comes.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// What comes from now on is dropped. Says whether the end had come already.
    pub(super) fn refuse(&mut self) -> bool {
        self.queue.clear();
        std::mem::replace(&mut self.ended, true)
    }

    /// Lets the peer send that much more.
    pub(super) fn grant(&mut self, items: u64, bytes: u64) {
        self.items = self.items.saturating_add(items);
        self.bytes = self
            .bytes
            .saturating_add(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Moves all that has come to `taken`, which must be empty. Ready with nothing moved means the end.
    pub(super) fn take(&mut self, waker: &Waker, taken: &mut ItemQueue) -> Poll<()> {
        if self.queue.is_empty() && !self.ended {
            match &mut self.waker {
                Some(waiting) => waiting.clone_from(waker),
                None => self.waker = Some(waker.clone()),
            }
            return Poll::Pending;
        }
        self.queue.move_to(taken);
        Poll::Ready(())
    }
}

/// How much of a stream may be sent. The last item may overshoot the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SendRoom {
    pub(crate) items: u64,
    pub(crate) bytes: u64,
}

/// The end of a stream that items go out from.
#[derive(Debug)]
pub(super) struct Outgoing {
    waker: Option<Waker>,
    items: u64,
    bytes: i64,
    /// The other end wants no more.
    stopped: bool,
}

impl Outgoing {
    pub(super) fn new(credit: StreamCredit) -> Self {
        Outgoing {
            waker: None,
            items: u64::from(credit.items),
            bytes: i64::from(credit.bytes),
            stopped: false,
        }
    }

    /// Ready when an item may be sent, with how many and how many bytes; with nothing when nobody
    /// wants one any more.
    pub(super) fn poll_ready(&mut self, waker: &Waker, has_room: bool) -> Poll<Option<SendRoom>> {
        if self.stopped {
            return Poll::Ready(None);
        }
        if let Ok(bytes) = u64::try_from(self.bytes)
            && has_room
            && self.items > 0
            && bytes > 0
        {
            let items = self.items;
            return Poll::Ready(Some(SendRoom { items, bytes }));
        }
        self.wait(waker);
        Poll::Pending
    }

    /// Ready when nobody wants an item any more.
    pub(super) fn poll_stopped(&mut self, waker: &Waker) -> Poll<()> {
        if self.stopped {
            return Poll::Ready(());
        }
        self.wait(waker);
        Poll::Pending
    }

    /// Whether an item may be sent, as far as its reader goes.
    #[inline]
    pub(super) fn has_credit(&self) -> bool {
        self.items > 0 && self.bytes > 0
    }

    fn wait(&mut self, waker: &Waker) {
        match &mut self.waker {
            Some(waiting) => waiting.clone_from(waker),
            None => self.waker = Some(waker.clone()),
        }
    }

    /// Items are sent.
    pub(super) fn spend(&mut self, items: u64, bytes: usize) {
        self.items = self.items.saturating_sub(items);
        self.bytes -= i64::try_from(bytes).unwrap_or(i64::MAX);
    }

    /// The peer gives credit.
    pub(super) fn grant(&mut self, items: u64, bytes: u64, wakers: &mut Vec<Waker>) {
        self.items = self.items.saturating_add(items);
        self.bytes = self
            .bytes
            .saturating_add(i64::try_from(bytes).unwrap_or(i64::MAX));
        wakers.extend(self.waker.take());
    }

    /// The last item has been sent. Says whether the other end still waits for it.
    pub(super) fn finish(&mut self) -> bool {
        !std::mem::replace(&mut self.stopped, true)
    }

    /// Whether nobody wants an item any more, or the last one has been sent.
    pub(super) fn has_stopped(&self) -> bool {
        self.stopped
    }

    /// Nobody wants an item any more.
    pub(super) fn stop(&mut self, wakers: &mut Vec<Waker>) {
        self.stopped = true;
        wakers.extend(self.waker.take());
    }

    /// There is room in the outbox again.
    pub(super) fn wake(&mut self, wakers: &mut Vec<Waker>) {
        wakers.extend(self.waker.take());
    }
}

/// Both directions of a call that has a stream.
#[derive(Debug)]
pub(super) struct Streams {
    pub(super) incoming: Option<Incoming>,
    pub(super) outgoing: Option<Outgoing>,
    /// OPEN has been sent or has come.
    pub(super) is_open: bool,
    /// The caller of a stream, while it waits for OPEN.
    pub(super) opening: Option<Waker>,
    /// Callee: where its caller wants to go on, if the stream is that of a topic.
    pub(super) asked: Option<TopicPosition>,
    /// Callee: whether it is that of a topic. It has no end of its own, and its caller goes on elsewhere.
    pub(super) is_topic: bool,
    /// Caller: where the callee has begun.
    pub(super) opened_at: Option<Opening>,
}

impl Streams {
    /// The call is over: nothing more comes, nothing more goes.
    pub(super) fn end(&mut self, wakers: &mut Vec<Waker>) {
        if let Some(incoming) = &mut self.incoming {
            incoming.end(wakers);
        }
        if let Some(outgoing) = &mut self.outgoing {
            outgoing.stop(wakers);
        }
        wakers.extend(self.opening.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREDIT: StreamCredit = StreamCredit {
        items: 3,
        bytes: 10,
    };

    #[test]
    fn one_item_may_overshoot_the_bytes_and_the_next_may_not() {
        let mut outgoing = Outgoing::new(CREDIT);
        let mut incoming = Incoming::new(CREDIT);
        let is_ready = |outgoing: &mut Outgoing| {
            let room = outgoing.poll_ready(Waker::noop(), true);
            room.is_ready()
        };
        let take_in = |incoming: &mut Incoming, body: &'static [u8]| {
            let body = Bytes::from_static(body);
            incoming.push(&body, &body, &mut Vec::new())
        };
        assert!(is_ready(&mut outgoing));
        outgoing.spend(1, 100);
        assert_eq!(take_in(&mut incoming, &[0; 100]), Ok(()));
        assert!(!is_ready(&mut outgoing));
        assert_eq!(take_in(&mut incoming, &[0]), Err(BeyondCredit));

        outgoing.grant(1, 100, &mut Vec::new());
        incoming.grant(1, 100);
        assert!(is_ready(&mut outgoing));
        assert_eq!(take_in(&mut incoming, &[0]), Ok(()));
    }

    #[test]
    fn items_beyond_the_credit_are_refused() {
        let mut incoming = Incoming::new(CREDIT);
        for _ in 0..3 {
            assert_eq!(incoming.push(&[], &Bytes::new(), &mut Vec::new()), Ok(()));
        }
        assert_eq!(
            incoming.push(&[], &Bytes::new(), &mut Vec::new()),
            Err(BeyondCredit)
        );
    }

    #[test]
    fn what_came_before_the_end_is_taken_before_the_end() {
        let mut incoming = Incoming::new(CREDIT);
        let mut taken = ItemQueue::default();
        assert!(incoming.take(Waker::noop(), &mut taken).is_pending());
        let body = Bytes::from_static(b"1");
        incoming.push(&body, &body, &mut Vec::new()).unwrap();
        incoming.end(&mut Vec::new());
        assert!(incoming.take(Waker::noop(), &mut taken).is_ready());
        assert_eq!(taken.pop(<[u8]>::to_vec).unwrap(), b"1");
        assert!(incoming.take(Waker::noop(), &mut taken).is_ready());
        assert!(taken.is_empty());
    }
}
