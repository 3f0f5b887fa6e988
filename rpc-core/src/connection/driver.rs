//! The task of a connection: it alone reads and writes the socket.
//!
//! Each turn reads what is there, starts handlers in place, and writes once what has come
//! together. Before writing it steps back once (a wake-up of itself) when more calls are in
//! flight, so that callers that were just woken can add their next request to the same write.

mod door;
mod end;
mod handlers;
mod session;
mod time;

use std::{
    cell::Cell,
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    task::AbortHandle,
    time::{Instant, Sleep},
};

use super::{
    Watcher,
    sessions::{Place, Sessions},
    shared::{Shared, State},
};
use crate::{
    body::{Codec, Rope},
    close::{CloseCode, CloseReason, ClosedBy},
    inbound_call::InboundCall,
    metadata::Metadata,
    peer::Peer,
    protocol::{
        Batch, CallId, Connection, Event, Events, Position, ProtocolError, Resume, StreamRef,
        Target,
    },
    service::{Dispatcher, Router},
    transport::{Message, MessageKind, Received, Transport, TransportError},
};
use door::Door;
use handlers::SLOW_POLL;
use session::Registered;
use time::{Life, lost};

/// Frames that are read before their answers are collected: a long message is no long silence.
const FRAMES_A_STEP: usize = 64;

/// Steps in a turn, before the task lets others run.
const STEPS_A_TURN: usize = 64;

/// A write that goes on slower than this within `write_stall` makes no progress.
const MIN_PROGRESS_BYTES: u64 = 4 << 10;

/// Bytes that are read in a turn, before the answers to them are written.
const BYTES_A_TURN: usize = 256 << 10;

/// Once the handlers of a turn have taken so long together, their answers are written before more is
/// read, and others have their turn.
const HANDLERS_A_TURN: Duration = Duration::from_millis(1);

/// How long the closing handshake may take (RFC 6455 §7.1.1).
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Drives a connection until it ends.
pub(crate) struct Driver<T> {
    /// None while the session waits for another one.
    transport: Option<T>,
    shared: Arc<Shared>,
    /// Where the next transport is handed over.
    place: Arc<Place<T>>,
    /// For acceptors: where the session is found by those who come back.
    registered: Option<Registered<T>>,
    /// For acceptors that want to know who comes in.
    door: Option<Box<Door>>,
    /// For the contexts of handlers.
    peer: Peer,
    router: Arc<Router>,
    stage: Stage,
    /// The session that HELLO asks for.
    wanted: Option<Resume>,
    /// Whether this task's waker has been left with the others.
    is_known: bool,

    /// One for each service, made when it is first called.
    dispatchers: Vec<Option<Box<dyn Dispatcher>>>,
    /// Notifications, by service.
    lanes: Vec<Lane>,
    /// Whether too much waits to be written for another handler to be started.
    is_congested: bool,
    /// How many bytes of answers make it so.
    room_bytes: usize,
    /// Calls that came while it did.
    deferred: VecDeque<(CallId, Target, InboundCall)>,

    /// The box of a call that has ended, for the next one. An idle connection has none after a while.
    spare: Option<InboundCall>,
    /// The message that is being read.
    message: Option<(Bytes, Position)>,
    work: Lent,
    notifications_handled: usize,
    /// Whether a handler's answer has left in this step already.
    has_answered: bool,
    /// Whether the last step was so slow that the next one looks for the handler to blame.
    suspicious: bool,
    /// How long the steps of this turn took that have started handlers.
    handling: Duration,

    is_flushing: bool,
    has_yielded: bool,
    max_body_bytes: usize,

    timer: Option<Pin<Box<Sleep>>>,
    /// When HELLO or WELCOME is overdue.
    hello_deadline: Option<Instant>,
    /// Until when the session waits for another transport.
    suspended_until: Option<Instant>,
    /// Whether that has passed.
    has_expired: bool,
    life: Life,
    /// Whether the peer has not been asked for a sign of life yet.
    is_first_beat: bool,
    /// Since when a write makes no progress, and how many bytes were written then.
    stalled: Option<(Instant, u64)>,
    /// Since when the peer's window is shut, and something waits for it to open.
    shut_since: Option<Instant>,
}

enum Stage {
    Running,
    /// The session waits for another transport.
    Suspended,
    /// Waiting for the end of the closing handshake.
    Closing,
}

#[derive(Default)]
struct Lane {
    waiting: VecDeque<(Target, InboundCall, bool)>,
    /// The task in which a handler of this service runs.
    busy: Option<AbortHandle>,
}

/// What one poll of the task works with. It is empty between two polls, and its buffers belong to
/// the thread: an idle connection has none.
#[derive(Default)]
struct Workspace {
    events: Events,
    /// Terminal frames of handlers that ended in place, until the lock is next taken.
    answers: Answers,
    spawned: Vec<(CallId, AbortHandle)>,
    batch: Batch,
}

/// A queue of events with room for more is given back.
const KEEP_EVENTS: usize = 1024;

/// The thread's, while a poll has it.
#[derive(Default)]
struct Lent(Option<Box<Workspace>>);

impl Workspace {
    #[inline]
    fn is_empty(&self) -> bool {
        self.events.queue.is_empty()
            && self.events.wakers.is_empty()
            && self.answers.ends.is_empty()
            && self.answers.large.is_empty()
            && self.spawned.is_empty()
            && self.batch.is_empty()
    }
}

impl Lent {
    /// Takes the thread's, unless there is still something in this one.
    #[inline]
    fn take(&mut self) {
        if self.0.is_none() {
            self.0 = WORKSPACE.take();
        }
    }

    #[inline]
    fn get(&mut self) -> &mut Workspace {
        self.0.get_or_insert_default()
    }

    /// Wakes those whom the last step concerns. Not under the lock.
    #[inline]
    fn wake(&mut self) {
        wake_all(&mut self.get().events.wakers);
    }

    /// Leaves it to the thread. What one connection has left must not become another's.
    #[inline]
    fn give_back(&mut self) {
        let Some(mut work) = self.0.take_if(|work| work.is_empty()) else {
            debug_assert!(self.0.is_none());
            return;
        };
        if work.events.queue.capacity() > KEEP_EVENTS {
            work.events.queue = Vec::new();
        }
        WORKSPACE.set(Some(work));
    }
}

thread_local!(static WORKSPACE: Cell<Option<Box<Workspace>>> = const { Cell::new(None) });

#[derive(Default)]
struct Answers {
    bytes: Vec<u8>,
    ends: Vec<(CallId, usize)>,
    /// Responses that go in pieces.
    large: Vec<(CallId, Rope, Metadata)>,
}

impl<T: Transport> Driver<T> {
    pub(super) fn new(
        transport: T,
        place: Arc<Place<T>>,
        sessions: Option<Arc<Sessions<T>>>,
        router: Arc<Router>,
    ) -> Self {
        let shared = place.shared.clone();
        let registered = sessions.map(|sessions| Registered::offer(sessions, &place));
        let hello_deadline = Instant::now().checked_add(shared.limits.hello_timeout);
        let max_body_bytes = shared.lock().connection.max_outgoing_body_bytes();
        Driver {
            transport: Some(transport),
            peer: Peer::new(shared.clone()),
            shared,
            place,
            registered,
            door: None,
            router,
            stage: Stage::Running,
            wanted: None,
            is_known: false,
            dispatchers: Vec::new(),
            lanes: Vec::new(),
            is_congested: false,
            room_bytes: 0,
            deferred: VecDeque::new(),
            spare: None,
            message: None,
            work: Lent::default(),
            notifications_handled: 0,
            has_answered: false,
            suspicious: false,
            handling: Duration::ZERO,
            is_flushing: false,
            has_yielded: false,
            max_body_bytes,
            timer: None,
            hello_deadline,
            suspended_until: None,
            has_expired: false,
            life: Life::default(),
            is_first_beat: false,
            stalled: None,
            shut_since: None,
        }
    }

    fn drive(&mut self, cx: &mut Context<'_>) -> Result<(), CloseReason> {
        if !self.is_known {
            self.shared.lock().task = Some(cx.waker().clone());
            self.is_known = true;
        }
        self.adopt()?;
        self.check_time(cx)?;
        // What is queued is still written then, and nothing is added to it.
        let drained = self.shared.is_closing.load(Ordering::Relaxed) || self.read(cx)?;
        self.check_credential(cx)?;
        self.check_life()?;
        if self.transport.as_ref().is_some_and(T::has_unflushed) {
            self.is_flushing = true;
        }
        self.run_deferred(cx);
        self.run_lanes(cx);
        if matches!(self.stage, Stage::Suspended) {
            return self.rest(cx);
        }
        if !drained {
            // Before the write, which may find itself blocked: nobody else would wake this task.
            cx.waker().wake_by_ref();
        }
        self.write(cx)
    }

    // ---- reading

    /// Says whether all that has come was read.
    fn read(&mut self, cx: &mut Context<'_>) -> Result<bool, CloseReason> {
        if self.is_outside() && !self.wait_at_door(cx)? {
            return Ok(true);
        }
        let mut bytes = 0;
        self.handling = Duration::ZERO;
        for _ in 0..STEPS_A_TURN {
            if self.handling > HANDLERS_A_TURN {
                break;
            }
            let Some((message, position)) = self.message.take() else {
                if bytes > BYTES_A_TURN {
                    break;
                }
                if let Some(message) = self.held_back() {
                    bytes += message.len();
                    self.message = Some((message, Position::default()));
                    continue;
                }
                let Some(transport) = &mut self.transport else {
                    return Ok(true);
                };
                match transport.poll_receive(cx) {
                    Poll::Ready(Ok(Received::Message(message))) => {
                        bytes += message.data.len();
                        self.message = Some((self.check_kind(message)?, Position::default()));
                        continue;
                    }
                    Poll::Ready(Ok(Received::Closed { code, reason })) => {
                        return Err(closed_by_peer(code, reason));
                    }
                    Poll::Ready(Err(error)) => return Err(transport_failed(&error)),
                    Poll::Pending => {
                        self.note_life(bytes > 0);
                        return Ok(true);
                    }
                }
            };
            self.step(cx, message, position)?;
            if self.is_outside() {
                // The session does not go on that was asked for: may another one begin?
                return Ok(false);
            }
        }
        Ok(false)
    }

    #[inline]
    fn check_kind(&self, message: Message) -> Result<Bytes, CloseReason> {
        let expected = match self.shared.codec {
            Codec::MessagePack => MessageKind::Binary,
            Codec::Json => MessageKind::Text,
        };
        if message.kind == expected {
            return Ok(message.data);
        }
        Err(CloseReason::local(
            CloseCode::UNSUPPORTED_DATA,
            format!(
                "{} takes {expected:?} messages",
                self.shared.codec.subprotocol()
            ),
        ))
    }

    /// Reads some frames of a message, executes what they ask for, and collects the answers.
    #[inline]
    fn step(
        &mut self,
        cx: &mut Context<'_>,
        message: Bytes,
        mut position: Position,
    ) -> Result<(), CloseReason> {
        let now = Instant::now();
        let mut state = self.shared.lock();
        if state.has_handover || state.is_interrupted {
            // It came on a transport that is not used any more, and comes again.
            return Ok(());
        }
        let received = state.connection.receive(
            &message,
            &mut position,
            FRAMES_A_STEP,
            now,
            &*self.router,
            &mut self.work.get().events,
        );
        // Callers that are about to be woken may have something to write at once.
        state.has_company |= !self.work.get().events.wakers.is_empty();
        (self.is_congested, self.room_bytes) = room_for_answers(&state.connection);
        drop(state);
        self.life.heard = Some(now);
        if let Some(registered) = self.registered.as_mut().filter(|own| own.is_unconfirmed) {
            registered.confirm();
        }
        let finished = match received {
            Ok(finished) => finished,
            Err(ProtocolError::NotResumed(refusal)) => {
                self.give_back_transport(message);
                return Err(lost(&refusal.to_string()));
            }
            Err(error) => {
                return Err(CloseReason::local(error.close_code(), error.to_string()));
            }
        };
        self.handle_events(cx, &message);
        if let Some(resume) = self.wanted.take() {
            self.look_for_session(&resume)?;
            self.handle_events(cx, &message);
        }
        if !finished {
            self.message = Some((message, position));
        }
        let has_run = std::mem::take(&mut self.has_answered)
            || !self.work.get().answers.ends.is_empty()
            || self.notifications_handled > 0;
        let spent = if has_run {
            now.elapsed()
        } else {
            Duration::ZERO
        };
        self.suspicious = spent > SLOW_POLL;
        self.handling += spent;
        self.hand_over();
        Ok(())
    }

    #[inline]
    fn handle_events(&mut self, cx: &mut Context<'_>, message: &Bytes) {
        self.work.wake();
        let mut queue = std::mem::take(&mut self.work.get().events.queue);
        for event in queue.drain(..) {
            match event {
                Event::Open => self.open(),
                Event::Resume(resume) => self.wanted = Some(resume),
                Event::Authenticate { token, resume } => self.knock(token, resume),
                Event::Renewed => self.renewed(),
                Event::Resumed => self.resumed(),
                Event::GoAway | Event::Pong => self.shared.changed.notify_waiters(),
                Event::Request {
                    id,
                    target,
                    body,
                    generation,
                    deadline,
                    priority,
                    idempotency_key,
                    metadata,
                } => {
                    let mut call = self.spare_call();
                    let context = call.fill(target.method, body, message);
                    context.id = Some(id);
                    context.deadline = deadline;
                    context.priority = priority;
                    if idempotency_key.is_some() {
                        context.idempotency_key = idempotency_key;
                    }
                    if !metadata.is_empty() {
                        context.metadata = metadata;
                    }
                    if generation > 0 {
                        let stream = StreamRef { id, generation };
                        call.set_stream(stream, self.router.credit(target));
                    }
                    if self.is_congested || !self.deferred.is_empty() {
                        self.deferred.push_back((id, target, call));
                    } else {
                        self.start(cx, id, target, call);
                    }
                }
                Event::Notification {
                    target,
                    body,
                    metadata,
                    volatile,
                } => {
                    let mut call = self.spare_call();
                    call.fill(target.method, body, message).metadata = metadata;
                    self.notify(cx, target, call, volatile);
                }
                Event::Stop { id } => self.stop(id),
            }
        }
        self.work.get().events.queue = queue;
    }

    fn tell_watcher(&self, tell: impl FnOnce(&dyn Watcher, &Peer)) {
        if let Some(watcher) = self.shared.watcher.get() {
            tell(&**watcher, &Peer::new(self.shared.clone()));
        }
    }

    fn open(&mut self) {
        self.hello_deadline = None;
        let mut state = self.shared.lock();
        state.is_open = true;
        state.note_validity();
        self.max_body_bytes = state.connection.max_outgoing_body_bytes();
        drop(state);
        self.register();
        self.tell_watcher(|watcher, peer| watcher.opened(peer));
        self.begin_life();
        self.shared.changed.notify_waiters();
    }

    /// One to be filled.
    #[inline]
    fn spare_call(&mut self) -> InboundCall {
        let spare = self.spare.take();
        spare.unwrap_or_else(|| InboundCall::new(self.peer.clone()))
    }

    /// Keeps the box of a call that has ended for the next one.
    #[inline]
    fn keep(&mut self, mut call: InboundCall) {
        call.clear();
        self.spare = Some(call);
    }

    /// Gives the lock's owner what the last handlers have left: one lock for all of them.
    #[inline]
    fn hand_over(&mut self) {
        let work = self.work.get();
        if work.answers.ends.is_empty()
            && work.answers.large.is_empty()
            && work.spawned.is_empty()
            && self.notifications_handled == 0
        {
            return;
        }
        self.hand_over_and(|_, _| ());
    }

    /// The same, and an answer behind it: collected with the others it would be copied once more.
    #[inline(never)]
    fn hand_over_with(&mut self, id: CallId, frame: &[u8]) {
        let (is_congested, room_bytes) = self.hand_over_and(|connection, wakers| {
            connection.answer_encoded(id, frame, wakers);
            room_for_answers(connection)
        });
        self.has_answered = true;
        self.is_congested |= is_congested;
        self.room_bytes = room_bytes;
    }

    #[inline]
    fn hand_over_and<R>(&mut self, last: impl FnOnce(&mut Connection, &mut Vec<Waker>) -> R) -> R {
        let work = self.work.get();
        let wakers = &mut work.events.wakers;
        let answers = &mut work.answers;
        let mut state = self.shared.lock();
        let connection = &mut state.connection;
        let mut start = 0;
        for (id, end) in answers.ends.drain(..) {
            connection.answer_encoded(id, &answers.bytes[start..end], wakers);
            start = end;
        }
        for (id, body, metadata) in answers.large.drain(..) {
            connection.answer_large(id, body, &metadata, wakers);
        }
        for _ in 0..std::mem::take(&mut self.notifications_handled) {
            connection.notification_handled();
        }
        let result = last(connection, wakers);
        for (id, task) in work.spawned.drain(..) {
            state.remember_task(id, task);
        }
        drop(state);
        wake_all(wakers);
        answers.bytes.clear();
        if answers.bytes.capacity() > 64 << 10 {
            answers.bytes = Vec::new();
        }
        result
    }

    // ---- writing

    fn write(&mut self, cx: &mut Context<'_>) -> Result<(), CloseReason> {
        loop {
            if self.is_flushing {
                self.flush(cx)?;
                if self.is_flushing {
                    return Ok(());
                }
            }
            let shared = self.shared.clone();
            let mut state = shared.lock();
            state.now = None;
            state.is_blocked = false;
            if state.has_handover || state.is_interrupted {
                // What is sent from now on belongs to the next one.
                drop(state);
                cx.waker().wake_by_ref();
                return Ok(());
            }
            if !state.connection.has_output() {
                self.has_yielded = false;
                return self.idle(cx, &mut state);
            }
            let (calls, handlers) = state.connection.in_flight();
            let is_alone = calls <= 1 && handlers <= 1;
            if state.has_company && !self.has_yielded && !is_alone {
                self.has_yielded = true;
                state.now = Some(Instant::now());
                drop(state);
                cx.waker().wake_by_ref();
                return Ok(());
            }
            state.has_company = false;
            // Control frames alone go through a window that is shut, and open nothing.
            if !state.connection.is_window_shut() {
                self.shut_since = None;
            }
            let work = self.work.get();
            state
                .connection
                .take_output(&mut work.batch, &mut work.events.wakers);
            let has_more = state.connection.has_output();
            self.has_yielded = false;
            // As a rule nothing comes while this is written, and then the next lock is spared.
            let is_last = is_alone && !has_more && self.deferred.is_empty() && !state.is_ending();
            if is_last {
                self.idle(cx, &mut state)?;
            }
            drop(state);
            self.work.wake();
            self.transmit()?;
            if is_last {
                return self.flush(cx);
            }
            if has_more {
                // What comes in between, and is more urgent, goes before the rest.
                cx.waker().wake_by_ref();
                return self.flush(cx);
            }
            if !self.deferred.is_empty() {
                cx.waker().wake_by_ref();
            }
        }
    }

    /// Writes what was handed to the transport, as far as that goes.
    fn flush(&mut self, cx: &mut Context<'_>) -> Result<(), CloseReason> {
        let Some(transport) = &mut self.transport else {
            return Ok(());
        };
        match transport.poll_flush(cx) {
            Poll::Ready(Ok(())) => {
                self.is_flushing = false;
                self.stalled = None;
                Ok(())
            }
            Poll::Ready(Err(error)) => Err(transport_failed(&error)),
            Poll::Pending => self.watch_write(cx),
        }
    }

    fn transmit(&mut self) -> Result<(), CloseReason> {
        let kind = match self.shared.codec {
            Codec::MessagePack => MessageKind::Binary,
            Codec::Json => MessageKind::Text,
        };
        if let Some(transport) = &mut self.transport {
            for message in self.work.get().batch.messages() {
                transport
                    .send(kind, message)
                    .map_err(|error| transport_failed(&error))?;
            }
        }
        self.work.get().batch.clear();
        self.is_flushing = true;
        Ok(())
    }

    /// Nothing is to be written: publish that, under the lock that has shown it.
    fn idle(&mut self, cx: &mut Context<'_>, state: &mut State) -> Result<(), CloseReason> {
        self.arm_timer(cx, state);
        self.watch_window(cx, state);
        if self.timer.is_none() {
            // Nothing would take it away later.
            self.spare = None;
        }
        if state.is_ending() {
            self.check_ending(state)?;
        }
        state.connection.give_back_buffers();
        match &mut state.driver {
            Some(waker) => waker.clone_from(cx.waker()),
            None => state.driver = Some(cx.waker().clone()),
        }
        Ok(())
    }

    /// All was written: nothing keeps a connection that is to end any more, or only what is in flight.
    fn check_ending(&self, state: &State) -> Result<(), CloseReason> {
        if let Some(reason) = state.close.clone() {
            return Err(reason);
        }
        let is_done =
            state.connection.in_flight() == (0, 0) && !state.connection.has_calls_queued();
        if is_done && self.is_quiet() {
            return Err(CloseReason::local(CloseCode::NORMAL, ""));
        }
        Ok(())
    }

    fn is_quiet(&self) -> bool {
        self.deferred.is_empty() && self.lanes.iter().all(|lane| lane.busy.is_none())
    }
}

impl<T: Transport> Future for Driver<T> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if !matches!(self.stage, Stage::Closing) {
            self.work.take();
            let driven = match self.drive(cx) {
                Ok(()) => Ok(()),
                Err(reason) => self.try_suspend(cx, reason),
            };
            match driven {
                Ok(()) => {
                    self.work.give_back();
                    return Poll::Pending;
                }
                Err(reason) => self.end(reason),
            }
        }
        self.poll_closing(cx)
    }
}

/// Whether too much waits to be written for another handler to be started, and how many bytes of
/// answers make it so.
#[inline]
fn room_for_answers(connection: &Connection) -> (bool, usize) {
    let room = connection.room_bytes();
    let is_congested = room.is_none() || connection.is_catching_up();
    (is_congested, room.unwrap_or_default())
}

#[inline]
fn wake_all(wakers: &mut Vec<Waker>) {
    if !wakers.is_empty() {
        wakers.drain(..).for_each(Waker::wake);
    }
}

fn closed_by_peer(code: CloseCode, message: String) -> CloseReason {
    let by = match code {
        CloseCode::ABNORMAL => ClosedBy::Transport,
        _ => ClosedBy::Peer,
    };
    CloseReason { code, message, by }
}

fn transport_failed(error: &TransportError) -> CloseReason {
    match error.close_code() {
        Some(code) => CloseReason::local(code, error.to_string()),
        None => CloseReason {
            code: CloseCode::ABNORMAL,
            message: error.to_string(),
            by: ClosedBy::Transport,
        },
    }
}
