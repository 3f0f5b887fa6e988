//! Two ends of a connection in one hand, each test at a moment that few connections come to.

mod pressure;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Poll, Wake, Waker},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

use super::{Admission, Connection, Outgoing, StreamRef, StreamSpec};
use crate::{
    Code, Codec, Limits, Metadata, Priority,
    metadata::CallOptions,
    method::Method,
    protocol::{
        Answer, Batch, CallId, Event, Events, Frame, Frames, Head, ItemQueue, MethodKind,
        MethodRef, Offer, OptionsBuilder, Position, ProtocolError, Received, Resolve, ResumeToken,
        Side, StreamCredit, TOTAL_BYTES, Target,
        messagepack::{
            Plain, RESPONSE_ROOM, begin_item, complete_response, end_item, next_plain, put_request,
        },
        outbox::{Outbox, WINDOW_BYTES},
    },
};

const ACCEPTOR: usize = 0;
const DIALLER: usize = 1;

const KINDS: [(&str, MethodKind); 3] = [
    ("unary", MethodKind::Unary),
    ("up", MethodKind::ClientStreaming),
    ("down", MethodKind::ServerStreaming),
];

/// One that never holds anybody up.
const UNLIMITED: StreamCredit = StreamCredit {
    items: u32::MAX,
    bytes: u32::MAX,
};

struct Shapes;

impl Resolve for Shapes {
    fn resolve(&self, name: &str) -> Option<Target> {
        let method = name.strip_prefix("Shapes.")?;
        let kind = match KINDS.into_iter().find(|(name, _)| *name == method) {
            Some((_, kind)) => kind,
            None if method.starts_with("told") => MethodKind::Notification,
            None => return None,
        };
        Some(Target {
            service: 0,
            method: 0,
            kind,
        })
    }
}

/// The dialler calls, and the acceptor's handlers end as soon as they are told to stop.
struct Pair {
    codec: Codec,
    ends: [Connection; 2],
    methods: [Method; 3],
    /// All calls that have come, as their handlers know them.
    requests: Vec<StreamRef>,
}

impl Pair {
    fn new(codec: Codec, limits: Limits) -> Self {
        let mut pair = Pair::unopened(codec, limits);
        pair.settle();
        pair
    }

    /// Ends that keep what they have sent.
    fn with_session(codec: Codec) -> Self {
        let mut pair = Pair::unopened(codec, Limits::default());
        pair.ends[ACCEPTOR].offer_resume(Offer {
            token: ResumeToken::new("AAAA"),
            window: Duration::from_secs(60),
        });
        pair.settle();
        pair
    }

    fn unopened(codec: Codec, limits: Limits) -> Self {
        let limits = limits.default_deadline(None);
        let ends = [Side::Acceptor, Side::Dialler]
            .map(|side| Connection::new(side, codec, limits.clone()));
        Pair {
            codec,
            ends,
            methods: KINDS.map(|(name, _)| Method::new("Shapes", name)),
            requests: Vec::new(),
        }
    }

    // ---- what goes from one end to the other

    /// What one end writes next.
    fn take(&mut self, end: usize) -> Vec<Bytes> {
        let mut batch = Batch::default();
        let mut wakers = Vec::new();
        self.ends[end].take_output(&mut batch, &mut wakers);
        wakers.into_iter().for_each(Waker::wake);
        batch.messages().map(Bytes::copy_from_slice).collect()
    }

    fn receive(&mut self, end: usize, message: &Bytes) -> Result<(), ProtocolError> {
        let mut events = Events::default();
        let mut position = Position::default();
        let received = self.ends[end].receive(
            message,
            &mut position,
            usize::MAX,
            Instant::now(),
            &Shapes,
            &mut events,
        );
        for event in events.queue {
            match event {
                Event::Request { id, generation, .. } => {
                    self.requests.push(StreamRef { id, generation });
                }
                Event::Stop { id } => self.ends[end].handler_dropped(id, &mut events.wakers),
                Event::Open
                | Event::Resume(_)
                | Event::Resumed
                | Event::GoAway
                | Event::Pong
                | Event::Authenticate { .. }
                | Event::Renewed
                | Event::Notification { .. } => {}
            }
        }
        events.wakers.into_iter().for_each(Waker::wake);
        received.map(|is_at_end| assert!(is_at_end))
    }

    /// Lets the other end have what this one writes next, which it must accept.
    fn pump(&mut self, end: usize) -> Vec<Bytes> {
        let messages = self.take(end);
        for message in &messages {
            self.receive(1 - end, message).expect("of an honest peer");
        }
        messages
    }

    /// Goes on until neither end has anything to say, and returns what the dialler has said.
    fn settle(&mut self) -> Vec<Bytes> {
        let mut said = Vec::new();
        while self.ends.iter().any(Connection::has_output) {
            said.extend(self.pump(DIALLER));
            self.pump(ACCEPTOR);
        }
        said
    }

    fn heads<'a>(&self, messages: &'a [Bytes]) -> Vec<Head<'a>> {
        messages
            .iter()
            .flat_map(|message| Frames::new(self.codec, message))
            .map(|frame| frame.expect("a frame").head)
            .collect()
    }

    // ---- the caller

    fn call(&mut self, kind: MethodKind, priority: Priority) -> StreamRef {
        let has_stream = kind != MethodKind::Unary;
        let options = CallOptions {
            priority,
            streams: has_stream.then(|| kind.streams()),
            ..CallOptions::default()
        };
        let options = options.write(self.codec).finish();
        let spec = StreamSpec {
            kind,
            credit: UNLIMITED,
        };
        let method = KINDS.iter().position(|(_, known)| *known == kind);
        let call = Outgoing {
            method: &self.methods[method.expect("a kind")],
            options: options.as_options(),
            body: &mut b"1".to_vec(),
            streams: has_stream.then_some(spec),
            priority,
        };
        match self.ends[DIALLER].start_call(call, None, None, None, &mut Vec::new()) {
            Ok(Admission::Sent(started)) => StreamRef {
                id: CallId::of(started.index + 1, Side::Dialler),
                generation: started.generation,
            },
            other => panic!("{other:?}"),
        }
    }

    fn abandon(&mut self, id: CallId) {
        let caller = &mut self.ends[DIALLER];
        let index = caller.own_call(id).expect("a call");
        caller.abandon_call(index, Instant::now(), &mut Vec::new());
    }

    fn take_answer(&mut self, id: CallId) {
        let caller = &mut self.ends[DIALLER];
        let index = caller.own_call(id).expect("a call");
        let mut received = Received::default();
        let answer = caller.poll_answer(index, Waker::noop(), &mut received, &mut Vec::new());
        assert!(matches!(answer, Poll::Ready(Answer::Small)), "{answer:?}");
    }

    // ---- the callee

    /// The latest call of this id, as its handler knows it.
    fn request(&self, id: CallId) -> StreamRef {
        let mut latest = self.requests.iter().rev();
        *latest.find(|request| request.id == id).expect("it came")
    }

    fn accept(&mut self, id: CallId) -> StreamRef {
        let stream = self.request(id);
        self.ends[ACCEPTOR].accept_stream(stream, None, None, &Metadata::default());
        stream
    }

    /// The handler ends, and its answer goes to the caller.
    fn answer(&mut self, id: CallId) {
        self.accept(id);
        let mut frame = Vec::new();
        Frame::with_payload(Head::Response { id }, b"1").encode(self.codec, &mut frame);
        self.ends[ACCEPTOR].answer_encoded(id, &frame, &mut Vec::new());
        self.pump(ACCEPTOR);
    }

    fn send(&mut self, end: usize, stream: StreamRef, bytes: usize) {
        let mut item = vec![b'1'; bytes];
        self.ends[end].send_item(stream, &mut item).expect("sent");
    }
}

#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

// ---- frames of one id

/// W-ORD-1: what is left of a call's item does not come behind the REQUEST of the next with its id.
#[test]
fn a_request_does_not_overtake_what_is_left_of_the_last_call_of_its_id() {
    let mut pair = Pair::new(Codec::MessagePack, Limits::default());
    let up = pair.call(MethodKind::ClientStreaming, Priority::Normal);
    pair.send(DIALLER, up, 1 << 20);
    pair.pump(DIALLER);
    // The handler has seen enough.
    pair.answer(up.id);
    pair.take_answer(up.id);

    let again = pair.call(MethodKind::Unary, Priority::Normal);
    assert_eq!(again.id, up.id);
    pair.settle();
    assert_eq!(pair.requests.len(), 2);
    assert!(pair.ends[ACCEPTOR].is_running(again.id));
}

/// W-CANCEL-1: also while an item waits until others have been put together.
#[test]
fn a_call_whose_large_item_has_not_begun_is_cancelled_like_any_other() {
    let limits = Limits::default()
        .max_body_bytes(1 << 20)
        .max_assembly_bytes(1 << 20);
    let mut pair = Pair::new(Codec::MessagePack, limits);
    let [first, second] =
        [(); 2].map(|()| pair.call(MethodKind::ClientStreaming, Priority::Normal));
    pair.pump(DIALLER);
    // So much is put together at a time.
    pair.send(DIALLER, first, 1 << 20);
    pair.send(DIALLER, second, 1 << 20);
    pair.abandon(second.id);

    // Its terminal frame has not come: the id is not used again.
    let again = pair.call(MethodKind::Unary, Priority::Normal);
    assert_ne!(again.id, second.id);
    let said = pair.settle();
    let cancel = Head::Cancel { id: second.id };
    assert!(pair.heads(&said).contains(&cancel));
    assert!(!pair.ends[ACCEPTOR].is_running(second.id));
    assert_eq!(pair.ends[DIALLER].in_flight().0, 2);
}

/// W-ORD-1, W-ORD-5: the next call of an id may be more urgent than the last was.
#[test]
fn an_item_that_was_not_written_before_its_call_ended_is_none_of_the_next_call() {
    let mut pair = Pair::new(Codec::MessagePack, Limits::default());
    let low = pair.call(MethodKind::ClientStreaming, Priority::Low);
    pair.pump(DIALLER);
    pair.send(DIALLER, low, 1);
    pair.answer(low.id);
    pair.take_answer(low.id);

    let high = pair.call(MethodKind::ClientStreaming, Priority::High);
    assert_eq!(high.id, low.id);
    pair.settle();
    let stream = pair.request(high.id);
    let mut items = ItemQueue::default();
    let polled = pair.ends[ACCEPTOR].poll_items(stream, Waker::noop(), &mut items);
    assert!(polled.is_pending(), "{polled:?}");
    assert!(items.is_empty());
}

/// W-ORD-1, W-ORD-5.
#[test]
fn a_cancel_that_was_not_written_before_its_call_ended_does_not_stop_the_next_call() {
    let mut pair = Pair::new(Codec::MessagePack, Limits::default());
    let low = pair.call(MethodKind::Unary, Priority::Low);
    pair.pump(DIALLER);
    pair.abandon(low.id);
    pair.answer(low.id);

    let high = pair.call(MethodKind::Unary, Priority::High);
    assert_eq!(high.id, low.id);
    pair.settle();
    assert_eq!(pair.requests.len(), 2);
    assert!(pair.ends[ACCEPTOR].is_running(high.id));
}

/// W-CANCEL-2: a caller that gives up gets its slot back.
#[test]
fn a_call_that_is_given_up_behind_an_old_body_of_its_id_leaves_no_tombstone() {
    let mut pair = Pair::new(Codec::MessagePack, Limits::default());
    let up = pair.call(MethodKind::ClientStreaming, Priority::Normal);
    pair.send(DIALLER, up, 1 << 20);
    pair.pump(DIALLER);
    pair.answer(up.id);
    pair.take_answer(up.id);

    let again = pair.call(MethodKind::ClientStreaming, Priority::Normal);
    assert_eq!(again.id, up.id);
    pair.abandon(again.id);
    pair.settle();
    assert_eq!(pair.ends[DIALLER].in_flight().0, 0);
}

// ---- room

/// W-FLOW-8: a message counts with the bytes that are sent, in either codec.
#[test]
fn the_window_is_spent_by_what_is_sent_and_nothing_else() {
    let limits = Limits::default().stream_credit(UNLIMITED);
    for codec in Codec::ALL {
        let mut pair = Pair::new(codec, limits.clone());
        let up = pair.call(MethodKind::ClientStreaming, Priority::Normal);
        pair.pump(DIALLER);
        let mut sent = 0;
        loop {
            pair.send(DIALLER, up, 100);
            if pair.ends[DIALLER].is_window_shut() {
                break;
            }
            sent += pair.take(DIALLER).iter().map(Bytes::len).sum::<usize>();
        }
        // The REQUEST has gone before, and the last item may overshoot. There were some 10,000.
        assert!(sent.abs_diff(WINDOW_BYTES) < 1_000, "{codec:?}: {sent}");
    }
}

/// W-ORD-5: no priority waits for ever, however small the steps are in which the window opens.
#[test]
fn a_lower_priority_goes_on_behind_a_window_of_one_message() {
    const ROUNDS: usize = 100;
    let codec = Codec::MessagePack;
    let mut outbox = Outbox::new(codec);
    let push = |outbox: &mut Outbox, priority, id| {
        let id = CallId::new(id);
        outbox.push(
            priority,
            &Frame::with_payload(Head::Item { id }, &[0; 1000]),
        );
    };
    let take = |outbox: &mut Outbox| {
        let mut batch = Batch::default();
        outbox.take(&mut batch);
        batch
    };
    let bytes = |batch: &Batch| batch.messages().map(<[u8]>::len).sum::<usize>() as u64;

    let mut last = Batch::default();
    push(&mut outbox, Priority::Normal, 3);
    while outbox.has_output() {
        last = take(&mut outbox);
        push(&mut outbox, Priority::Normal, 3);
    }
    push(&mut outbox, Priority::Low, 1);
    let mut lower = Vec::new();
    for _ in 0..ROUNDS {
        push(&mut outbox, Priority::High, 5);
        outbox.open_window(bytes(&last));
        last = take(&mut outbox);
        let frames = last
            .messages()
            .flat_map(|message| Frames::new(codec, message));
        lower.extend(
            frames.filter_map(|frame| match frame.expect("a frame").head {
                Head::Item { id } if id.value() < 5 => Some(id.value()),
                _ => None,
            }),
        );
    }
    assert_eq!(lower, [1, 3]);
}

/// Small ones, and such as go in pieces themselves.
#[test]
fn items_behind_a_large_one_of_their_stream_find_room_only_for_a_while() {
    for size in [60_000, 65_600] {
        let limits = Limits::default().stream_credit(UNLIMITED);
        let mut pair = Pair::new(Codec::MessagePack, limits);
        let down = pair.call(MethodKind::ServerStreaming, Priority::Normal);
        pair.pump(DIALLER);
        let stream = pair.accept(down.id);
        pair.send(ACCEPTOR, stream, 2 << 20);
        // The caller grants a lot, and does not open its window.
        while pair.ends[ACCEPTOR].has_output() {
            pair.take(ACCEPTOR);
        }
        let mut bytes = 0;
        while pair.ends[ACCEPTOR]
            .poll_send(stream, Waker::noop())
            .is_ready()
        {
            pair.send(ACCEPTOR, stream, size);
            bytes += size;
            assert!(bytes < 64 << 20, "no bound");
        }
    }
}

#[test]
fn room_that_bodies_leave_which_are_broken_off_is_offered_to_those_who_wait() {
    let limits = Limits::default().stream_credit(UNLIMITED);
    let mut pair = Pair::new(Codec::MessagePack, limits);
    let calls = [(); 4].map(|()| pair.call(MethodKind::ServerStreaming, Priority::Normal));
    pair.pump(DIALLER);
    let [given_up @ .., waiting] = calls.map(|call| pair.accept(call.id));
    for stream in given_up {
        pair.send(ACCEPTOR, stream, 16 << 20);
    }
    let [answer, item] = [(); 2].map(|()| Arc::new(Flag::default()));
    let callee = &mut pair.ends[ACCEPTOR];
    let polled = callee.poll_room(true, &Waker::from(answer.clone()));
    assert!(polled.is_pending());
    let polled = callee.poll_send(waiting, &Waker::from(item.clone()));
    assert!(polled.is_pending());

    for stream in given_up {
        pair.abandon(stream.id);
    }
    pair.settle();
    let woken = [answer, item].map(|flag| flag.0.load(Ordering::Relaxed));
    assert_eq!(woken, [true, true]);
    let callee = &mut pair.ends[ACCEPTOR];
    assert!(callee.poll_room(true, Waker::noop()).is_ready());
    assert!(callee.poll_send(waiting, Waker::noop()).is_ready());
}

// ---- what a peer can make this end keep

/// W-CALL-5: their terminal frames wait to be read as well.
#[test]
fn a_flood_of_calls_that_are_cancelled_at_once_closes() {
    let mut pair = Pair::new(Codec::MessagePack, Limits::default());
    let mut message = Vec::new();
    let define = Head::Define {
        alias: 900,
        method: "Shapes.unary".into(),
    };
    Frame::new(define).encode(pair.codec, &mut message);
    let define = Bytes::from(std::mem::take(&mut message));
    pair.receive(ACCEPTOR, &define).expect("DEFINE");
    for slot in 1..=512 {
        let id = CallId::of(slot, Side::Dialler);
        let method = MethodRef::Alias(900);
        let request = Head::Request { id, method };
        Frame::with_payload(request, b"1").encode(pair.codec, &mut message);
        Frame::new(Head::Cancel { id }).encode(pair.codec, &mut message);
    }
    let message = Bytes::from(message);
    let flooded = loop {
        if let Err(error) = pair.receive(ACCEPTOR, &message) {
            break error;
        }
        assert!(pair.ends[ACCEPTOR].outbox.len() < 8 << 20, "no bound");
    };
    assert!(matches!(flooded, ProtocolError::Flood(_)), "{flooded:?}");
}

#[test]
fn options_of_bodies_that_are_put_together_count_as_well() {
    const OPTION_BYTES: usize = 100_000;
    const CALLS: usize = 30;
    let limit = 1 << 20;
    let limits = Limits::default()
        .max_body_bytes(limit)
        .max_assembly_bytes(limit);
    let mut pair = Pair::new(Codec::MessagePack, limits);
    let mut options = OptionsBuilder::new(pair.codec);
    options.uint(TOTAL_BYTES, 2);
    // Odd, so that it may be ignored.
    options.text(99, &"x".repeat(OPTION_BYTES));
    let options = options.finish();
    let ids = (1..=CALLS).map(|slot| CallId::of(slot, Side::Dialler));
    for id in ids.clone() {
        let method = MethodRef::Name("Shapes.unary".into());
        let mut message = Vec::new();
        let frame = Frame {
            head: Head::Request { id, method },
            options: options.as_options(),
            payload: b"1",
        };
        frame.encode(pair.codec, &mut message);
        pair.receive(ACCEPTOR, &message.into()).expect("goes on");
    }
    let assembly = &pair.ends[ACCEPTOR].assembly;
    let kept = ids.filter(|id| assembly.contains(*id)).count();
    assert!((1..=limit / OPTION_BYTES).contains(&kept), "{kept}");

    let messages = pair.take(ACCEPTOR);
    let errors = pair.heads(&messages).into_iter();
    let codes: Vec<_> = errors
        .filter_map(|head| match head {
            Head::Error { code, .. } => Some(code),
            _ => None,
        })
        .collect();
    assert_eq!(codes, vec![Code::RESOURCE_EXHAUSTED.value(); CALLS - kept]);
}

// ---- sessions

fn counted(heads: &[Head<'_>]) -> u64 {
    heads.iter().filter(|head| head.is_counted()).count() as u64
}

/// W-RESUME-4: an answer is a write, and an acknowledgement costs nothing there.
#[test]
fn acknowledgements_go_along_with_answers_and_are_no_write_of_their_own() {
    for codec in Codec::ALL {
        let mut pair = Pair::with_session(codec);
        let (mut sent, mut acknowledged) = (0, 0);
        for _ in 0..640 {
            let call = pair.call(MethodKind::Unary, Priority::Normal);
            let messages = pair.pump(DIALLER);
            sent += counted(&pair.heads(&messages));
            assert!(!pair.ends[ACCEPTOR].has_output(), "an ACK by itself");
            let mut frame = Vec::new();
            let response = Head::Response { id: call.id };
            Frame::with_payload(response.clone(), b"1").encode(codec, &mut frame);
            let callee = &mut pair.ends[ACCEPTOR];
            callee.answer_encoded(call.id, &frame, &mut Vec::new());
            let is_due = sent - acknowledged >= 64;
            let messages = pair.pump(ACCEPTOR);
            let heads = pair.heads(&messages);
            assert!(heads.contains(&response));
            let ack = Head::Ack { count: sent };
            assert_eq!(heads.contains(&ack), is_due, "{codec:?}: {heads:?}");
            if is_due {
                acknowledged = sent;
            }
            pair.take_answer(call.id);
        }
        assert!(acknowledged >= 576, "{codec:?}: {acknowledged}");
    }
}

/// W-RESUME-4: where nothing else is written one comes once there is a lot, or after a while.
#[test]
fn what_is_not_answered_is_acknowledged_by_itself_once_there_is_a_lot_of_it() {
    for codec in Codec::ALL {
        let mut pair = Pair::with_session(codec);
        let mut sent = 0;
        while sent < 256 {
            assert!(!pair.ends[ACCEPTOR].has_output(), "{codec:?}: {sent}");
            pair.call(MethodKind::Unary, Priority::Normal);
            let messages = pair.pump(DIALLER);
            sent += counted(&pair.heads(&messages));
        }
        assert!(pair.ends[ACCEPTOR].has_output());
        assert_eq!(pair.ends[ACCEPTOR].next_timeout(), None);
        let messages = pair.pump(ACCEPTOR);
        assert_eq!(pair.heads(&messages), [Head::Ack { count: sent }]);

        pair.call(MethodKind::Unary, Priority::Normal);
        pair.pump(DIALLER);
        let callee = &mut pair.ends[ACCEPTOR];
        let due = callee.next_timeout().expect("in a while");
        assert!(!callee.has_output());
        let mut events = Events::default();
        callee.handle_timeout(due, &mut events).expect("goes on");
        let messages = pair.pump(ACCEPTOR);
        assert_eq!(pair.heads(&messages), [Head::Ack { count: sent + 1 }]);
    }
}

/// Or the task would be busy until the session goes on.
#[test]
fn given_up_calls_of_a_session_that_waits_for_a_socket_ask_for_no_time() {
    for given_up_before in [0, 300, 600] {
        let mut pair = Pair::with_session(Codec::MessagePack);
        let calls = [(); 600].map(|()| pair.call(MethodKind::Unary, Priority::Normal));
        pair.pump(DIALLER);
        let (before, after) = calls.split_at(given_up_before);
        for call in before {
            pair.abandon(call.id);
        }
        assert_eq!(
            pair.ends[DIALLER].next_timeout().is_some(),
            given_up_before == 600,
            "the peer has a while to answer them"
        );
        pair.ends[DIALLER].suspend();
        for call in after {
            pair.abandon(call.id);
        }
        let mut now = Instant::now();
        for _ in 0..10 {
            let caller = &mut pair.ends[DIALLER];
            assert!(caller.next_timeout().is_none_or(|next| next > now));
            now += Duration::from_secs(60);
            let mut events = Events::default();
            caller.handle_timeout(now, &mut events).expect("goes on");
        }
        assert_eq!(pair.ends[DIALLER].next_timeout(), None);
    }
}

// ---- frames as they are as a rule

const CODEC: Codec = Codec::MessagePack;

/// Those at which the encoding of a number becomes longer.
fn ids() -> impl Iterator<Item = CallId> {
    let values = [
        2,
        3,
        0x7f,
        0x80,
        0xff,
        0x100,
        0xffff,
        0x1_0000,
        0xffff_ffff,
        0x1_0000_0000,
        u64::MAX,
    ];
    values.into_iter().map(CallId::new)
}

const LENGTHS: [usize; 9] = [0, 1, 31, 32, 255, 256, 65_535, 65_536, 70_000];

#[test]
fn a_plain_request_is_written_and_read_like_any_other() {
    for id in ids() {
        for length in LENGTHS {
            let body = vec![7; length];
            for alias in [0, 127, 128, 255, 256, 1023] {
                let (mut plain, mut general) = (Vec::new(), Vec::new());
                put_request(&mut plain, id, alias, &body);
                let method = MethodRef::Alias(alias);
                Frame::with_payload(Head::Request { id, method }, &body)
                    .encode(CODEC, &mut general);
                assert_eq!(plain, general);
                let mut position = Position::default();
                if let Some(read) = next_plain(&plain, &mut position) {
                    let Plain::Request {
                        id: read_id,
                        alias: read_alias,
                        payload,
                    } = read
                    else {
                        panic!("another kind");
                    };
                    assert_eq!((read_id, read_alias, payload), (id, alias, &body[..]));
                    assert!(next_plain(&plain, &mut position).is_none());
                }
                for length in [1, 2, 3, 5, plain.len() - 1] {
                    let cut = &plain[..length.min(plain.len() - 1)];
                    assert!(next_plain(cut, &mut Position::default()).is_none());
                }
            }
        }
    }
}

#[test]
fn an_answer_or_item_around_a_body_is_written_like_any_other() {
    for id in ids() {
        for length in LENGTHS {
            let body = vec![7; length];
            let mut around = RESPONSE_ROOM.to_vec();
            around.extend_from_slice(&body);
            let start = complete_response(&mut around, id);
            let mut general = Vec::new();
            Frame::with_payload(Head::Response { id }, &body).encode(CODEC, &mut general);
            assert_eq!(around[start..], general);

            let mut around = b"before".to_vec();
            let mut general = around.clone();
            let start = begin_item(&mut around, id);
            around.extend_from_slice(&body);
            let start = end_item(&mut around, start);
            assert_eq!(around[start..], body);
            Frame::with_payload(Head::Item { id }, &body).encode(CODEC, &mut general);
            assert_eq!(around, general);
        }
    }
}
