//! Both ends of a connection in one hand, with calls of every shape in any order of steps, and a
//! model beside them that knows what has to come of it.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Poll, Wake, Waker},
    time::Duration,
};

use bytes::Bytes;
use proptest::{collection::vec, prelude::*, test_runner::RngSeed};
use tokio::time::Instant;

use super::{
    Admission, Answer, Batch, CallId, Connection, Event, Events, Frame, Frames, Head, ItemQueue,
    MethodKind, Offer, Outgoing, Position, Received, Resolve, ResumeToken, Side, StreamCredit,
    StreamRef, StreamSpec, Target, error_frame, error_options,
};
use crate::{
    Code, Codec, Fate, Limits, Metadata, Priority, Status, metadata::CallOptions, method::Method,
};

const KINDS: [(&str, MethodKind); 4] = [
    ("unary", MethodKind::Unary),
    ("down", MethodKind::ServerStreaming),
    ("up", MethodKind::ClientStreaming),
    ("both", MethodKind::Bidirectional),
];

/// How many items each direction of a stream has by the end: more than any credit.
const ITEMS: u64 = 12;

/// The deadline of every second call, and how far one step moves the clock.
const DEADLINE: Duration = Duration::from_millis(150);
const TICK: Duration = Duration::from_millis(60);

/// Blanks that make a body travel in pieces.
const LARGE: usize = 70_000;

struct AllShapes;

impl Resolve for AllShapes {
    fn resolve(&self, name: &str) -> Option<Target> {
        let method = name.strip_prefix("Shapes.")?;
        let (_, kind) = KINDS.into_iter().find(|(name, _)| *name == method)?;
        Some(Target {
            service: 0,
            method: 0,
            kind,
        })
    }
}

/// What runs at one end on behalf of a call. Once everything has quietened down it runs only when
/// it was woken, so that a wake-up that is lost shows.
struct Task {
    woken: Arc<Flag>,
    waker: Waker,
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Task {
    fn new() -> Self {
        let woken = Arc::new(Flag(AtomicBool::new(true)));
        let waker = Waker::from(woken.clone());
        Task { woken, waker }
    }

    fn is_woken(&self) -> bool {
        self.woken.0.load(Ordering::Relaxed)
    }

    /// Polls. What is ready may be polled again.
    fn poll<T>(&self, poll: impl FnOnce(&Waker) -> Poll<T>) -> Option<T> {
        self.woken.0.store(false, Ordering::Relaxed);
        match poll(&self.waker) {
            Poll::Ready(value) => {
                self.waker.wake_by_ref();
                Some(value)
            }
            Poll::Pending => None,
        }
    }
}

/// Where one direction of a call's stream has got to.
struct Direction {
    sender: Task,
    receiver: Task,
    sent: u64,
    /// One of the items travels in pieces.
    has_large: bool,
    /// The sender has sent its last item, or was told that nobody wants one.
    is_sent: bool,
    received: u64,
    /// The receiver was told of the end, or wants no more.
    is_received: bool,
    /// What the receiver has granted at first, and what it has taken since it last gave some back.
    credit: StreamCredit,
    used: (u64, u64),
}

impl Direction {
    fn new(credit: StreamCredit) -> Self {
        Direction {
            sender: Task::new(),
            receiver: Task::new(),
            sent: 0,
            has_large: false,
            is_sent: false,
            received: 0,
            is_received: false,
            credit,
            used: (0, 0),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Handler {
    /// The REQUEST has not come, or was refused.
    Absent,
    Running {
        is_stopped: bool,
    },
    Ended,
}

struct Call {
    serial: usize,
    kind: MethodKind,
    /// The end that made it.
    caller: usize,
    index: usize,
    own: StreamRef,
    /// Takes the answer.
    main: Task,
    is_opened: bool,
    /// It waited for items after OPEN: its deadline is over.
    is_streaming: bool,
    /// The answer was taken, or is not wanted.
    is_over: bool,
    handler: Handler,
    theirs: StreamRef,
    accepts: Option<StreamCredit>,
    is_accepted: bool,
    answer: Option<Result<(), Code>>,
    up: Direction,
    down: Direction,
}

struct End {
    connection: Connection,
    /// What this end grants for all streams.
    announced: StreamCredit,
    /// Messages that have been written to it.
    inbox: VecDeque<Bytes>,
    position: Position,
}

/// A call as it can be seen between the ends.
#[derive(Default)]
struct Seen {
    serial: usize,
    is_answered: bool,
    has_ended: bool,
    opens: usize,
    cancels: [usize; 2],
}

struct World {
    codec: Codec,
    now: Instant,
    ends: [End; 2],
    calls: Vec<Call>,
    methods: [Method; 4],
    /// The last call of each id.
    seen: HashMap<CallId, Seen>,
    requests: usize,
    terminals: usize,
    is_cut: bool,
    /// What the acceptor had read a part of when the dialler came back.
    left: Option<Bytes>,
}

fn offer() -> Offer {
    Offer {
        token: ResumeToken::new("token"),
        window: Duration::from_secs(60),
    }
}

fn side(end: usize) -> Side {
    [Side::Acceptor, Side::Dialler][end]
}

/// What an item or a result says: whose it is, which, and some blanks to make it longer.
fn body(serial: usize, number: u64, padding: usize) -> Vec<u8> {
    format!("[{serial},{number},\"{}\"]", " ".repeat(padding)).into_bytes()
}

/// Most bodies are small, and some so large that they travel in pieces.
fn padding(pick: usize) -> usize {
    match pick % 40 {
        0 => LARGE,
        small => small,
    }
}

/// Whose a body is, and which; also of one of which there is but a piece.
fn read_body(body: &[u8]) -> (usize, u64) {
    let text = std::str::from_utf8(body).expect("as it was written");
    let mut numbers = text.trim_start_matches(['[', '"']).split(',');
    let mut number = || numbers.next().and_then(|digits| digits.parse().ok());
    (
        number().expect("a serial") as usize,
        number().expect("a number"),
    )
}

impl World {
    fn new(codec: Codec, credits: [StreamCredit; 2], outbound_queue_bytes: usize) -> Self {
        let ends = [0, 1].map(|end| {
            let mut limits = Limits::default()
                .max_in_flight(6)
                .outbound_queue_bytes(outbound_queue_bytes)
                .default_deadline(None);
            limits.stream_credit = credits[end];
            let mut connection = Connection::new(side(end), codec, limits);
            if side(end) == Side::Acceptor {
                connection.offer_resume(offer());
            }
            End {
                connection,
                announced: credits[end],
                inbox: VecDeque::new(),
                position: Position::default(),
            }
        });
        World {
            codec,
            now: Instant::now(),
            ends,
            calls: Vec::new(),
            methods: KINDS.map(|(name, _)| Method::new("Shapes", name)),
            seen: HashMap::new(),
            requests: 0,
            terminals: 0,
            is_cut: false,
            left: None,
        }
    }

    fn start(&mut self, end: usize, pick: usize) {
        let kind = KINDS[pick % 4].1;
        let serial = self.calls.len();
        let announced = self.ends[end].announced;
        let granted = match pick / 4 % 3 {
            0 => StreamCredit {
                items: 2,
                bytes: 100,
            },
            _ => announced,
        };
        let deadline = (pick / 100).is_multiple_of(2).then_some(DEADLINE);
        let priority = Priority::DESCENDING[pick / 7 % 3];
        let options = CallOptions {
            deadline_ms: deadline.map(|deadline| deadline.as_millis() as u64),
            credit: (kind.returns_stream() && granted != announced).then_some(granted),
            priority,
            ..CallOptions::default()
        };
        let options = options.write(self.codec).finish();
        let outgoing = Outgoing {
            method: &self.methods[pick % 4],
            options: options.as_options(),
            body: &mut body(serial, 0, padding(pick / 24)),
            streams: (kind != MethodKind::Unary).then_some(StreamSpec {
                kind,
                credit: granted,
            }),
            priority,
        };
        let mut wakers = Vec::new();
        let deadline = deadline.map(|deadline| self.now + deadline);
        let connection = &mut self.ends[end].connection;
        let admission = connection.start_call(outgoing, deadline, None, None, &mut wakers);
        wake(wakers);
        let Ok(Admission::Sent(started)) = admission else {
            assert!(matches!(admission, Ok(Admission::Full)), "{admission:?}");
            return;
        };
        let own = StreamRef {
            id: CallId::of(started.index + 1, side(end)),
            generation: started.generation,
        };
        let accepts = (pick / 12).is_multiple_of(2).then_some(StreamCredit {
            items: 5,
            bytes: 60,
        });
        let callee = self.ends[1 - end].announced;
        self.calls.push(Call {
            serial,
            kind,
            caller: end,
            index: started.index,
            own,
            main: Task::new(),
            is_opened: false,
            is_streaming: false,
            is_over: false,
            handler: Handler::Absent,
            theirs: own,
            accepts,
            is_accepted: false,
            answer: None,
            up: Direction::new(accepts.unwrap_or(callee)),
            down: Direction::new(granted),
        });
    }

    // ---- what travels

    /// Takes what an end has written to the other.
    fn transmit(&mut self, end: usize) -> bool {
        let mut batch = Batch::default();
        let mut wakers = Vec::new();
        let connection = &mut self.ends[end].connection;
        connection.take_output(&mut batch, &mut wakers);
        wake(wakers);
        for message in batch.messages() {
            let inbox = &mut self.ends[1 - end].inbox;
            inbox.push_back(Bytes::copy_from_slice(message));
        }
        !batch.is_empty()
    }

    /// Looks at what is about to be delivered. What was lost on the way is sent again, and seen only
    /// then.
    fn look_at_message(&mut self, from: usize, message: &Bytes) {
        for frame in Frames::new(self.codec, message) {
            self.look_at(from, &frame.expect("a frame"));
        }
    }

    /// What may be seen between the ends, whatever they do.
    fn look_at(&mut self, end: usize, frame: &Frame<'_>) {
        if let Head::Request { id, .. } = &frame.head {
            assert_eq!(id.side(), side(end));
            self.requests += 1;
            let serial = read_body(frame.payload).0;
            let before = self.seen.insert(
                *id,
                Seen {
                    serial,
                    ..Seen::default()
                },
            );
            assert!(before.is_none_or(|before| before.is_answered), "{id} lives");
            return;
        }
        let (Head::Response { id }
        | Head::Error { id, .. }
        | Head::Item { id }
        | Head::End { id }
        | Head::Cancel { id }
        | Head::Credit { id, .. }
        | Head::Open { id }) = frame.head
        else {
            return;
        };
        let seen = self.seen.get_mut(&id).expect("an id of a call");
        let is_callee = id.side() != side(end);
        // What the callee writes is in order with its answer; what the caller writes may be late.
        assert!(!is_callee || !seen.is_answered, "{id} has ended");
        match &frame.head {
            Head::Response { .. } | Head::Error { .. } => {
                assert!(is_callee);
                seen.is_answered = true;
                self.terminals += 1;
                if let Head::Error { code, message, .. } = &frame.head {
                    let is_beyond = message.contains("credit");
                    assert!(!is_beyond, "{id} fails: {code} {message}");
                }
            }
            Head::Open { .. } => {
                assert!(is_callee);
                seen.opens += 1;
                assert_eq!(seen.opens, 1);
            }
            Head::Item { .. } => {
                assert_eq!(read_body(frame.payload).0, seen.serial);
                assert!(is_callee || !seen.has_ended, "an item behind END");
                assert!(!is_callee || seen.opens == 1, "an item before OPEN");
            }
            Head::End { .. } => {
                assert!(!is_callee && !seen.has_ended);
                seen.has_ended = true;
            }
            Head::Cancel { .. } => {
                let cancels = &mut seen.cancels[usize::from(is_callee)];
                *cancels += 1;
                assert_eq!(*cancels, 1);
            }
            _ => {}
        }
    }

    /// Lets an end read some frames of what was written to it.
    fn deliver(&mut self, end: usize, frames: usize) -> bool {
        let Some(message) = self.ends[end].inbox.front().cloned() else {
            return false;
        };
        let comes_again = side(end) == Side::Acceptor && self.left.as_ref() == Some(&message);
        if comes_again {
            // As it was sent before.
            self.left = None;
        } else if self.ends[end].position == Position::default() {
            self.look_at_message(1 - end, &message);
        }
        let this = &mut self.ends[end];
        let mut events = Events::default();
        let position = &mut this.position;
        let received = this.connection.receive(
            &message,
            position,
            frames,
            self.now,
            &AllShapes,
            &mut events,
        );
        if received.expect("an honest peer") {
            this.inbox.pop_front();
            this.position = Position::default();
        }
        self.handle(end, events, &message);
        true
    }

    // ---- what becomes of the connection

    /// The connection breaks, if both ends could go on on another one. Some of what is on its way
    /// arrives before that.
    fn cut(&mut self, pick: usize) {
        let may_resume = |end: &End| end.connection.resume_window().is_some();
        if !self.ends.iter().all(may_resume) || self.is_cut {
            return;
        }
        for end in [0, 1] {
            if self.ends[end].position != Position::default() {
                // The dialler may be back while the acceptor is in the middle of a message.
                if side(end) == Side::Acceptor && pick.is_multiple_of(2) {
                    self.ends[end].position = Position::default();
                    self.left = self.ends[end].inbox.pop_front();
                    self.ends[end].inbox.clear();
                    continue;
                }
                // As a rule a message is executed as a whole.
                self.deliver(end, usize::MAX);
            }
            for _ in 0..(pick >> end) % 4 {
                self.deliver(end, usize::MAX);
            }
        }
        for end in [0, 1] {
            // An end that has not noticed goes on writing.
            if (pick >> (2 + end)).is_multiple_of(2) {
                self.transmit(end);
            }
            self.ends[end].connection.suspend();
        }
        self.ends.iter_mut().for_each(|end| end.inbox.clear());
        self.is_cut = true;
    }

    /// The dialler goes on with the session on another connection.
    fn heal(&mut self) {
        if !std::mem::take(&mut self.is_cut) {
            return;
        }
        let connection = &mut self.ends[1].connection;
        connection.ask_to_resume();
        let mut hello = Batch::default();
        let mut wakers = Vec::new();
        connection.take_output(&mut hello, &mut wakers);
        wake(wakers);
        assert_eq!(hello.messages().count(), 1, "nothing follows HELLO");
        let hello = Bytes::copy_from_slice(hello.messages().next().expect("HELLO"));
        let mut answering = Connection::new(Side::Acceptor, self.codec, Limits::default());
        let mut events = Events::default();
        let position = &mut Position::default();
        let read = answering.receive(&hello, position, 2, self.now, &AllShapes, &mut events);
        assert!(read.expect("HELLO"));
        let [Event::Resume(resume)] = &events.queue[..] else {
            panic!("{:?}", events.queue);
        };
        let mut events = Events::default();
        let resumed = self.ends[0].connection.resume(resume, offer(), &mut events);
        assert_eq!(resumed, Ok(()));
        self.handle(0, events, &[]);
    }

    /// Lets both ends read all that was written.
    fn exchange(&mut self) -> bool {
        let mut has_moved = false;
        for end in [0, 1] {
            has_moved |= self.transmit(end);
            while self.deliver(1 - end, usize::MAX) {}
        }
        has_moved
    }

    fn handle(&mut self, end: usize, events: Events, message: &[u8]) {
        wake(events.wakers);
        for event in events.queue {
            match event {
                Event::Open | Event::Resume(_) | Event::Resumed | Event::GoAway | Event::Pong => {}
                Event::Authenticate { .. } | Event::Renewed => panic!("nobody is asked"),
                Event::Request {
                    id,
                    target,
                    body,
                    generation,
                    ..
                } => {
                    let call = &mut self.calls[read_body(body.bytes(message)).0];
                    assert_eq!((call.own.id, call.caller), (id, 1 - end));
                    assert_eq!((call.kind, call.handler), (target.kind, Handler::Absent));
                    call.handler = Handler::Running { is_stopped: false };
                    call.theirs = StreamRef { id, generation };
                }
                Event::Stop { id } => {
                    let call = self.calls.iter_mut().find(|call| {
                        call.caller != end
                            && call.own.id == id
                            && matches!(call.handler, Handler::Running { .. })
                    });
                    let handler = &mut call.expect("a call that runs").handler;
                    assert_eq!(*handler, Handler::Running { is_stopped: false });
                    *handler = Handler::Running { is_stopped: true };
                }
                Event::Notification { .. } => panic!("nobody has sent one"),
            }
        }
    }

    fn tick(&mut self, end: usize) {
        self.now += TICK;
        let mut events = Events::default();
        let connection = &mut self.ends[end].connection;
        let timeout = connection.handle_timeout(self.now, &mut events);
        timeout.expect("goes on");
        for call in self.calls.iter().filter(|call| call.is_accepted) {
            let id = call.own.id;
            let is_it =
                |event: &Event| matches!(event, Event::Stop { id: stopped } if *stopped == id);
            let is_running = matches!(call.handler, Handler::Running { .. });
            let has_expired = is_running && call.caller != end && events.queue.iter().any(is_it);
            assert!(!has_expired, "a deadline after OPEN");
        }
        self.handle(end, events, &[]);
    }

    // ---- what the handles of a call do

    /// Sends the next item of a direction if that is possible now.
    fn send(&mut self, serial: usize, is_up: bool, padding: usize) -> bool {
        let call = &mut self.calls[serial];
        let (end, stream) = handle(call, is_up, true);
        let connection = &mut self.ends[end].connection;
        let direction = if is_up { &mut call.up } else { &mut call.down };
        let sender = &direction.sender;
        match sender.poll(|waker| connection.poll_send(stream, waker)) {
            Some(Some(_)) => {
                let mut item = body(serial, direction.sent, padding);
                connection.send_item(stream, &mut item).expect("an item");
                direction.sent += 1;
                direction.has_large |= padding > LARGE / 2;
            }
            Some(None) => direction.is_sent = true,
            None => return false,
        }
        true
    }

    /// Takes the items that have come, and gives their credit back as a reader of a stream does.
    fn take(&mut self, serial: usize, is_up: bool) -> bool {
        let call = &mut self.calls[serial];
        let (end, stream) = handle(call, is_up, false);
        let connection = &mut self.ends[end].connection;
        let is_over = call.is_over;
        let direction = if is_up { &mut call.up } else { &mut call.down };
        let mut taken = ItemQueue::default();
        let receiver = if is_up {
            &direction.receiver
        } else {
            &call.main
        };
        let polled = receiver.poll(|waker| connection.poll_items(stream, waker, &mut taken));
        let Some(is_there) = polled else {
            call.is_streaming |= !is_up;
            return false;
        };
        if !is_there {
            assert!(is_up || is_over, "the caller's handle outlives its stream");
            assert!(taken.is_empty());
        }
        if taken.is_empty() {
            // Else the end of the call, which its answer tells of.
            if is_there && is_up && !direction.is_received {
                assert_eq!(direction.received, direction.sent, "the end came too early");
            }
            direction.is_received = true;
        }
        while let Some((item, bytes)) = taken.pop(|item| (read_body(item), item.len())) {
            assert!(!direction.is_received, "an item behind the end");
            assert_eq!(item, (serial, direction.received));
            direction.received += 1;
            direction.used.0 += 1;
            direction.used.1 += bytes as u64;
        }
        let half_of_items = direction.used.0 * 2 >= u64::from(direction.credit.items);
        let half_of_bytes = direction.used.1 * 2 >= u64::from(direction.credit.bytes);
        if half_of_items || half_of_bytes {
            self.give_credit(serial, is_up);
        }
        true
    }

    fn give_credit(&mut self, serial: usize, is_up: bool) {
        let call = &mut self.calls[serial];
        let (end, stream) = handle(call, is_up, false);
        let direction = if is_up { &mut call.up } else { &mut call.down };
        let (items, bytes) = std::mem::take(&mut direction.used);
        if items > 0 {
            let connection = &mut self.ends[end].connection;
            connection.give_credit(stream, items, bytes);
        }
    }

    fn end_items(&mut self, serial: usize) {
        let call = &mut self.calls[serial];
        if call.kind.takes_stream() {
            let connection = &mut self.ends[call.caller].connection;
            connection.end_items(call.own);
            call.up.is_sent = true;
        }
    }

    fn refuse_items(&mut self, serial: usize) {
        let call = &mut self.calls[serial];
        let (end, stream) = handle(call, true, false);
        if call.kind.takes_stream() && call.handler != Handler::Absent {
            self.ends[end].connection.refuse_items(stream);
            call.up.is_received = true;
        }
    }

    fn accept(&mut self, serial: usize) {
        let call = &mut self.calls[serial];
        if call.kind == MethodKind::Unary || call.handler == Handler::Absent {
            return;
        }
        let connection = &mut self.ends[1 - call.caller].connection;
        connection.accept_stream(call.theirs, call.accepts, None, &Metadata::default());
        call.is_accepted = true;
    }

    fn answer(&mut self, serial: usize, result: Result<(), Code>) {
        if result.is_ok() {
            self.accept(serial);
        }
        let call = &mut self.calls[serial];
        let Handler::Running { .. } = call.handler else {
            return;
        };
        let id = call.theirs.id;
        let mut frame = Vec::new();
        match result {
            Ok(()) => {
                let body = body(serial, 0, 0);
                Frame::with_payload(Head::Response { id }, &body).encode(self.codec, &mut frame);
            }
            Err(code) => {
                let status = Status::new(code, "no");
                let options = error_options(self.codec, &status);
                error_frame(id, &status, &options, &[]).encode(self.codec, &mut frame);
            }
        }
        call.answer = Some(result);
        call.handler = Handler::Ended;
        let connection = &mut self.ends[1 - call.caller].connection;
        assert!(connection.is_running(id));
        let mut wakers = Vec::new();
        connection.answer_encoded(id, &frame, &mut wakers);
        assert!(!connection.is_running(id));
        wake(wakers);
    }

    fn drop_handler(&mut self, serial: usize) {
        let call = &mut self.calls[serial];
        if call.handler != (Handler::Running { is_stopped: true }) {
            return;
        }
        call.handler = Handler::Ended;
        let connection = &mut self.ends[1 - call.caller].connection;
        let mut wakers = Vec::new();
        if call.is_accepted {
            connection.handler_dropped(call.theirs.id, &mut wakers);
        } else {
            connection.handler_not_started(call.theirs.id, &mut wakers);
        }
        wake(wakers);
    }

    fn abandon(&mut self, serial: usize) {
        let call = &mut self.calls[serial];
        if std::mem::replace(&mut call.is_over, true) {
            return;
        }
        let mut wakers = Vec::new();
        let connection = &mut self.ends[call.caller].connection;
        connection.abandon_call(call.index, self.now, &mut wakers);
        wake(wakers);
    }

    /// What the caller waits for: OPEN, the items, the answer.
    fn wait(&mut self, serial: usize) -> bool {
        let call = &mut self.calls[serial];
        if call.is_over {
            return false;
        }
        let connection = &mut self.ends[call.caller].connection;
        let has_stream = call.kind.returns_stream();
        if has_stream && !call.is_opened {
            let own = call.own;
            let Some(is_open) = call.main.poll(|waker| connection.poll_open(own, waker)) else {
                return false;
            };
            call.is_opened = true;
            call.down.is_received |= !is_open;
            return true;
        }
        if has_stream && !call.down.is_received {
            return self.take(serial, false);
        }
        let mut received = Received::default();
        let mut wakers = Vec::new();
        let index = call.index;
        let answer = call
            .main
            .poll(|waker| connection.poll_answer(index, waker, &mut received, &mut wakers));
        wake(wakers);
        let Some(answer) = answer else {
            return false;
        };
        call.is_over = true;
        let is_local = match answer {
            Answer::Small => {
                assert_eq!(read_body(received.small.bytes()), (serial, 0));
                assert_eq!(call.answer, Some(Ok(())));
                false
            }
            Answer::Copied | Answer::Shared => panic!("the answer is small"),
            Answer::Failed(failure) => {
                let status = failure.status;
                assert_ne!(status.code(), Code::INTERNAL, "{status:?}");
                if status.fate() == Fate::Executed {
                    assert_eq!(call.answer, Some(Err(status.code())));
                }
                let is_local = status.message().ends_with("as the caller noticed");
                assert!(!(is_local && call.is_streaming), "a deadline after OPEN");
                is_local
            }
        };
        if has_stream && !is_local {
            assert_eq!(call.down.received, call.down.sent, "items are lost");
        }
        true
    }

    // ---- steps

    fn step(&mut self, step: Step) {
        let Step { what, end, pick } = step;
        let serial = match self.calls.len() {
            0 => None,
            // The latest: those before them have ended, as a rule.
            calls => Some(calls - 1 - pick % calls.min(8)),
        };
        match (what, serial) {
            (0..=2, _) => self.start(end, pick),
            (3..=6, _) => _ = self.transmit(end),
            (7..=12, _) => _ = self.deliver(end, 1 + pick % 4),
            (13, _) => self.tick(end),
            (36..=38, _) => _ = self.exchange(),
            (39, _) => self.cut(pick),
            (40 | 41, _) => self.heal(),
            (_, None) => {}
            (what, Some(serial)) => self.step_call(what, serial, pick / 7),
        }
    }

    fn step_call(&mut self, what: usize, serial: usize, pick: usize) {
        let call = &self.calls[serial];
        let (takes, returns) = (call.kind.takes_stream(), call.kind.returns_stream());
        let is_there = call.handler != Handler::Absent;
        match what {
            14..=17 if takes && !call.up.is_sent => _ = self.send(serial, true, padding(pick)),
            18 => self.end_items(serial),
            19 => self.accept(serial),
            20..=23 if returns && call.is_accepted => _ = self.send(serial, false, padding(pick)),
            24 | 25 if takes && is_there => _ = self.take(serial, true),
            26 | 27 => _ = self.wait(serial),
            28 if is_there => self.give_credit(serial, true),
            29 => self.give_credit(serial, false),
            30 => self.answer(serial, Ok(())),
            31 => self.answer(serial, Err(Code::NOT_FOUND)),
            32 => self.refuse_items(serial),
            33 => self.abandon(serial),
            34 | 35 => self.drop_handler(serial),
            _ => {}
        }
    }

    /// Goes on until nothing more happens. Nobody looks for something to do who was not woken.
    fn settle(&mut self) {
        self.heal();
        loop {
            let mut has_moved = self.exchange();
            for serial in 0..self.calls.len() {
                has_moved |= self.settle_caller(serial) | self.settle_handler(serial);
            }
            if !has_moved {
                return;
            }
        }
    }

    fn settle_caller(&mut self, serial: usize) -> bool {
        let call = &self.calls[serial];
        if call.kind.takes_stream() && !call.up.is_sent && call.up.sender.is_woken() {
            if call.up.sent < ITEMS {
                return self.send(serial, true, 0);
            }
            self.end_items(serial);
            return true;
        }
        !call.is_over && call.main.is_woken() && self.wait(serial)
    }

    fn settle_handler(&mut self, serial: usize) -> bool {
        let call = &self.calls[serial];
        let Handler::Running { is_stopped } = call.handler else {
            return false;
        };
        if is_stopped {
            self.drop_handler(serial);
            return true;
        }
        if !call.is_accepted && call.kind != MethodKind::Unary {
            self.accept(serial);
            return true;
        }
        let is_received = !call.kind.takes_stream() || call.up.is_received;
        let is_sent = !call.kind.returns_stream() || call.down.is_sent || call.down.sent >= ITEMS;
        if is_received && is_sent {
            self.answer(serial, Ok(()));
            return true;
        }
        let mut has_moved = false;
        if !is_received && call.up.receiver.is_woken() {
            has_moved |= self.take(serial, true);
        }
        if !is_sent && self.calls[serial].down.sender.is_woken() {
            has_moved |= self.send(serial, false, 0);
        }
        has_moved
    }

    /// Everything is answered, and both ends have seen it.
    fn assert_settled(&self) {
        for call in &self.calls {
            let at = (call.kind, call.caller, call.handler);
            assert!(call.is_over, "call {} waits, {at:?}", call.serial);
            let is_running = matches!(call.handler, Handler::Running { .. });
            assert!(!is_running, "call {} runs, {at:?}", call.serial);
            let is_sent = !call.kind.takes_stream() || call.up.is_sent;
            assert!(is_sent, "call {} sends, {at:?}", call.serial);
        }
        for end in &self.ends {
            assert_eq!(end.connection.in_flight(), (0, 0));
        }
        assert_eq!(self.terminals, self.requests);
        assert!(self.seen.values().all(|seen| seen.is_answered));
    }
}

/// Who sends or receives in this direction, and what it knows the call by.
fn handle(call: &Call, is_up: bool, sends: bool) -> (usize, StreamRef) {
    if is_up == sends {
        (call.caller, call.own)
    } else {
        (1 - call.caller, call.theirs)
    }
}

fn wake(wakers: Vec<Waker>) {
    wakers.into_iter().for_each(Waker::wake);
}

#[derive(Clone, Copy, Debug)]
struct Step {
    what: usize,
    end: usize,
    pick: usize,
}

fn step() -> impl Strategy<Value = Step> {
    (0..42_usize, 0..2_usize, 0..10_000_usize).prop_map(|(what, end, pick)| Step {
        what,
        end,
        pick,
    })
}

fn credit() -> impl Strategy<Value = StreamCredit> {
    (1..6_u32, 1..200_u32).prop_map(|(items, bytes)| StreamCredit { items, bytes })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        rng_seed: RngSeed::Fixed(0x57_49_52_45),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// W-CALL-1, W-FLOW-1, W-RESUME-1: whatever the order, and however often the connection breaks,
    /// each call ends once at both ends, and no item is lost, doubled, out of order or beyond its
    /// credit.
    #[test]
    fn calls_of_every_shape_end_in_any_order_of_steps(
        is_json in any::<bool>(),
        credits in [credit(), credit()],
        is_congested in any::<bool>(),
        is_early in any::<bool>(),
        steps in vec(step(), 0..300),
    ) {
        let codec = if is_json { Codec::Json } else { Codec::MessagePack };
        let outbound_queue_bytes = if is_congested { 100 } else { 1 << 20 };
        let mut world = World::new(codec, credits, outbound_queue_bytes);
        if !is_early {
            world.settle();
        }
        for step in steps {
            world.step(step);
        }
        world.settle();
        world.assert_settled();
    }
}
