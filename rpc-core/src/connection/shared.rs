//! What callers, handlers and the connection's task have in common.

use std::{
    fmt,
    future::poll_fn,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use tokio::{sync::Notify, task::AbortHandle, time::Instant};
use tokio_util::sync::CancellationToken;

use super::Watcher;
use crate::{
    body::{Codec, Rope},
    close::CloseReason,
    context::ConnectionInfo,
    identity::Identity,
    inbound_call::{EncodedFrame, Reply},
    limits::Limits,
    line::{Line, LineRef, NextSession},
    metadata::Metadata,
    peer::SessionId,
    protocol::{CallId, Connection, Side},
    session_state::Values,
    status::{Code, Status},
    topic::QueuedItems,
};

/// The number of the next session of this process.
static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// One connection, as everyone but its own task sees it.
pub(crate) struct Shared {
    pub(crate) id: SessionId,
    state: Mutex<State>,
    pub(crate) side: Side,
    pub(crate) codec: Codec,
    pub(crate) limits: Arc<Limits>,
    /// This end wants to end the connection: nothing more is read.
    pub(crate) is_closing: AtomicBool,
    /// Whether [`State::has_handover`] or [`State::is_interrupted`] has been set, so that the
    /// connection's task need not take the lock each time to look. Written under the lock.
    pub(crate) is_disturbed: AtomicBool,
    pub(crate) info: Arc<ConnectionInfo>,
    /// Under a lock of its own, which only those take who ask for it.
    identity: Mutex<Option<Identity>>,
    /// For a client: what its calls wait for when this session ends.
    pub(crate) line: LineRef,
    fails_fast: AtomicBool,
    /// What waits for the peer's subscriptions to topics.
    pub(crate) queued_items: QueuedItems,
    /// Acceptor: told when the session opens and when it ends.
    pub(crate) watcher: OnceLock<Arc<dyn Watcher>>,
    /// Told when the connection opens and when it closes.
    pub(crate) changed: Notify,
}

/// What the lock protects. It is held for a few moves of bytes, never while user code runs:
/// values are serialized before, wakers are called and tasks aborted after.
pub(crate) struct State {
    pub(crate) connection: Connection,
    /// The connection's task, while it has nothing to do. Whoever gives it something takes the
    /// waker out, and wakes it once the lock is released.
    pub(crate) driver: Option<Waker>,
    /// The connection's task, whatever it does.
    pub(crate) task: Option<Waker>,
    /// When the connection's task runs again in any case.
    pub(crate) armed: Option<Instant>,
    /// Whether the connection's task waits until something was written, so that only the socket
    /// and the timer wake it.
    pub(crate) is_blocked: bool,
    /// Whether another transport waits for the connection's task: nothing is read from the old one
    /// any more, and nothing written to it.
    pub(crate) has_handover: bool,
    /// Whether this end has had enough of its transport: the same holds until it is dropped.
    pub(crate) is_interrupted: bool,
    /// How often the session went on on another transport.
    pub(crate) resumes: u64,
    /// The time, while the connection's task is about to run.
    pub(crate) now: Option<Instant>,
    /// Whether callers or spawned handlers have put frames into the outbox since it was last
    /// emptied, or callers were woken. More of them may be about to do so.
    pub(crate) has_company: bool,
    /// The tasks of spawned handlers, by the slot in their call's id.
    pub(crate) tasks: Vec<Option<AbortHandle>>,
    /// Services whose spawned notification handler has ended.
    pub(crate) lanes_free: Vec<u32>,
    pub(crate) is_open: bool,
    /// What the application keeps with the session.
    pub(crate) values: Values,
    /// Dialler: until when its credential is good, as the acceptor has said.
    pub(crate) credential: Validity,
    /// For handlers of notifications: cancelled when the connection ends.
    pub(crate) closed_token: Option<CancellationToken>,
    /// What this end wants to end the connection with.
    pub(crate) close: Option<CloseReason>,
    /// Nobody can make calls any more: the connection ends when nothing is in flight.
    pub(crate) close_when_idle: bool,
}

impl Shared {
    pub(crate) fn new(side: Side, codec: Codec, limits: Arc<Limits>, info: ConnectionInfo) -> Self {
        Shared {
            id: SessionId(NEXT_ID.fetch_add(1, Ordering::Relaxed)),
            state: Mutex::new(State {
                connection: Connection::new(side, codec, limits.clone()),
                driver: None,
                task: None,
                armed: None,
                is_blocked: false,
                has_handover: false,
                is_interrupted: false,
                resumes: 0,
                now: None,
                has_company: false,
                tasks: Vec::new(),
                lanes_free: Vec::new(),
                is_open: false,
                values: Values::default(),
                credential: Validity::default(),
                closed_token: None,
                close: None,
                close_when_idle: false,
            }),
            side,
            codec,
            limits,
            is_closing: AtomicBool::new(false),
            is_disturbed: AtomicBool::new(false),
            info: Arc::new(info),
            identity: Mutex::new(None),
            line: LineRef::default(),
            fails_fast: AtomicBool::new(false),
            queued_items: QueuedItems::default(),
            watcher: OnceLock::new(),
            changed: Notify::new(),
        }
    }

    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under the lock would be a defect of ours; the state is as good as it gets.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who is at the other end.
    pub(crate) fn identity(&self) -> Option<Identity> {
        let identity = self.identity.lock();
        identity.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says who is at the other end. The one before is for the caller to drop, who may hold a lock:
    /// its claims are the application's.
    pub(crate) fn set_identity(&self, identity: Option<Identity>) -> Option<Identity> {
        let mut own = self.identity.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *own, identity)
    }

    /// Changes the state and wakes, without the lock, whom the change concerns.
    #[inline]
    pub(crate) fn update<T>(&self, change: impl FnOnce(&mut State, &mut Vec<Waker>) -> T) -> T {
        let mut wakers = Vec::new();
        let (result, task, driver) = self.change(&mut wakers, change);
        if let Some(task) = task {
            task.wake();
        }
        if let Some(driver) = driver {
            driver.wake();
        }
        // As a rule there are none.
        if !wakers.is_empty() {
            wakers.into_iter().for_each(Waker::wake);
        }
        result
    }

    /// Like [`Shared::update`], for taking something out that has come: with that nothing is to be
    /// written, and nothing is due earlier.
    #[inline]
    pub(crate) fn receive<T>(&self, take: impl FnOnce(&mut Connection, &mut Vec<Waker>) -> T) -> T {
        let mut wakers = Vec::new();
        let mut state = self.lock();
        let result = take(&mut state.connection, &mut wakers);
        let driver = match state.close_when_idle {
            true => state.driver.take(),
            false => None,
        };
        drop(state);
        if let Some(driver) = driver {
            driver.wake();
        }
        if !wakers.is_empty() {
            wakers.into_iter().for_each(Waker::wake);
        }
        result
    }

    /// Like [`Shared::update`], for those who hold another lock: they wake whom the change concerns
    /// once they have released it.
    #[inline]
    pub(crate) fn update_quietly<T>(
        &self,
        wakers: &mut Vec<Waker>,
        change: impl FnOnce(&mut State, &mut Vec<Waker>) -> T,
    ) -> T {
        let (result, task, driver) = self.change(wakers, change);
        wakers.extend(task);
        wakers.extend(driver);
        result
    }

    /// Changes the state, and returns the wakers of the connection's task that are to be called.
    #[inline]
    fn change<T>(
        &self,
        wakers: &mut Vec<Waker>,
        change: impl FnOnce(&mut State, &mut Vec<Waker>) -> T,
    ) -> (T, Option<Waker>, Option<Waker>) {
        let mut state = self.lock();
        let result = change(&mut state, wakers);
        let driver = if state.driver.is_none() && state.has_company {
            // It is about to look for output in any case.
            None
        } else if state.connection.has_output() {
            state.has_company = true;
            state.driver.take()
        } else if state.close_when_idle {
            state.driver.take()
        } else {
            None
        };
        let mut task = None;
        if state.driver.is_some() || state.is_blocked {
            // The connection's task is not about to run.
            state.now = None;
            if state.is_due_earlier() {
                task = state.task.clone();
            }
        }
        drop(state);
        (result, task, driver)
    }

    /// What tells a handler that it is to stop: that of its call, or of the connection for one that
    /// handles a notification.
    pub(crate) fn cancellation(&self, id: Option<CallId>) -> CancellationToken {
        let mut state = self.lock();
        let is_closed = state.connection.closed().is_some();
        let token = match id {
            Some(id) => state.connection.cancellation(id),
            None => Some(state.closed_token.get_or_insert_default().clone()),
        };
        drop(state);
        token.filter(|_| !is_closed).unwrap_or_else(|| {
            let cancelled = CancellationToken::new();
            cancelled.cancel();
            cancelled
        })
    }

    /// Asks the connection's task to end the connection.
    pub(crate) fn close(&self, reason: CloseReason) {
        self.is_closing.store(true, Ordering::Relaxed);
        self.wake_after(|state| {
            state.connection.refuse_calls(&reason);
            state.close.get_or_insert(reason);
        });
    }

    /// Asks the connection's task to drop the transport.
    pub(crate) fn interrupt(&self) {
        self.wake_after(|state| {
            state.is_interrupted = true;
            self.is_disturbed.store(true, Ordering::Relaxed);
        });
    }

    /// This is a session of that line.
    pub(crate) fn belongs_to(&self, line: &Arc<Line>) {
        self.line.set(line);
        self.fails_fast.store(line.fails_fast(), Ordering::Relaxed);
    }

    /// Nobody can make calls any more: ends the connection when nothing is in flight.
    pub(crate) fn release(&self) {
        self.wake_after(|state| state.close_when_idle = true);
        // Subscriptions move to the line's next session, if there is one.
        self.update(|state, wakers| state.connection.wake_readers(wakers));
    }

    /// Whether no more calls can be made in this session.
    pub(crate) fn is_over(&self) -> bool {
        let state = self.lock();
        state.connection.is_over() || state.close.is_some()
    }

    /// The session after this one, for what has failed here with a status and may be sent there
    /// instead; nothing, if it has failed for another reason than that this session is over.
    pub(crate) fn next(
        self: &Arc<Self>,
        status: &Status,
        deadline: Option<Instant>,
    ) -> Option<NextSession> {
        let line = self.line.get().filter(|line| !line.fails_fast())?;
        let is_for_that = status.code() == Code::UNAVAILABLE && self.is_over();
        is_for_that.then(|| line.after(self.clone(), deadline, status.fate()))
    }

    /// Whether calls fail at once while there is no connection.
    #[inline]
    pub(crate) fn fails_fast(&self) -> bool {
        self.fails_fast.load(Ordering::Relaxed)
    }

    /// Waits until the session has ended, and says why.
    pub(crate) async fn closed(&self) -> CloseReason {
        self.wait_for(|state| state.connection.closed().cloned())
            .await
    }

    /// Changes something that the connection's task has to look at, even if a write is blocked.
    fn wake_after(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        let task = state.task.clone();
        drop(state);
        task.into_iter().for_each(Waker::wake);
    }

    /// Waits until `ready` finds what it looks for.
    pub(crate) async fn wait_for<T>(&self, ready: impl Fn(&State) -> Option<T>) -> T {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Registered before the look, or a change in between would be missed.
            changed.as_mut().enable();
            if let Some(found) = ready(&self.lock()) {
                return found;
            }
            changed.await;
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("codec", &self.codec)
            .field("peer_addr", &self.info.peer_addr)
            .finish_non_exhaustive()
    }
}

/// For how long a dialler's credential is good.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Validity {
    /// How often that was said.
    pub(crate) times: u64,
    /// When it was said last, and for how long from then on, unless it is for ever.
    pub(crate) ends: Option<(Instant, Duration)>,
}

/// Sees to it that a spawned handler's call is answered exactly once, whatever becomes of the
/// handler.
pub(super) struct HandlerGuard {
    shared: Arc<Shared>,
    id: CallId,
    /// The largest body that the peer takes.
    max_body_bytes: usize,
    answered: bool,
}

impl HandlerGuard {
    pub(super) fn new(shared: Arc<Shared>, id: CallId, max_body_bytes: usize) -> Self {
        HandlerGuard {
            shared,
            id,
            max_body_bytes,
            answered: false,
        }
    }

    /// The reply as it can be written.
    pub(super) fn answer(&self, reply: Reply) -> Answer {
        let reply = reply.limited(self.max_body_bytes);
        if reply.is_large() {
            let (body, metadata) = reply.into_large();
            Answer::Large(body, metadata)
        } else {
            Answer::Frame(reply.into_frame(self.id, self.shared.codec))
        }
    }

    /// Writes the reply, as soon as there is room for it.
    pub(super) async fn write(mut self, reply: Reply) {
        let answer = self.answer(reply);
        poll_fn(|cx| self.poll_write(cx, &answer)).await;
        if let Answer::Frame(frame) = answer {
            frame.give_back();
        }
    }

    /// Writes the answer, as soon as there is room for it, under the lock that has shown it. Until
    /// then the call keeps its slot: no more calls come than can be answered.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, answer: &Answer) -> Poll<()> {
        let is_large = matches!(answer, Answer::Large(..));
        let written = self.shared.update(|state, wakers| {
            let connection = &mut state.connection;
            ready!(connection.poll_room(is_large, cx.waker()));
            match answer {
                Answer::Frame(frame) => connection.answer_encoded(self.id, frame, wakers),
                Answer::Large(body, metadata) => {
                    connection.answer_large(self.id, body.clone(), metadata, wakers);
                }
            }
            state.forget_task(self.id);
            Poll::Ready(())
        });
        self.answered |= written.is_ready();
        written
    }
}

/// What ends a call.
pub(super) enum Answer {
    Frame(EncodedFrame),
    /// A response that goes in pieces.
    Large(Rope, Metadata),
}

impl Drop for HandlerGuard {
    fn drop(&mut self) {
        if !self.answered {
            self.shared.update(|state, wakers| {
                state.connection.handler_dropped(self.id, wakers);
                state.forget_task(self.id);
            });
        }
    }
}

/// Lets the next notification of a service be handled once a spawned handler has ended.
pub(super) struct LaneGuard {
    pub(super) shared: Arc<Shared>,
    pub(super) service: u32,
    pub(super) volatile: bool,
}

impl Drop for LaneGuard {
    fn drop(&mut self) {
        self.shared.wake_after(|state| {
            if !self.volatile {
                state.connection.notification_handled();
            }
            state.lanes_free.push(self.service);
        });
    }
}

impl State {
    /// Whether the connection's task has to look at its timer, or at a window that is shut.
    fn is_due_earlier(&self) -> bool {
        let next = self.connection.next_timeout();
        let is_earlier = next.is_some_and(|next| self.armed.is_none_or(|armed| next < armed));
        is_earlier || self.connection.is_window_shut()
    }

    /// Whether this end wants to end the connection, at once or when nothing is in flight.
    #[inline]
    pub(super) fn is_ending(&self) -> bool {
        self.close.is_some() || self.close_when_idle
    }

    /// The time, as good as it is needed for deadlines: of those who make calls before the
    /// connection's task runs again, only the first looks at the clock.
    #[inline]
    pub(crate) fn now(&mut self) -> Instant {
        if let Some(now) = self.now {
            return now;
        }
        let now = Instant::now();
        if self.driver.is_some() {
            self.now = Some(now);
        }
        now
    }

    /// The acceptor may have said for how long the credential is good.
    pub(crate) fn note_validity(&mut self) {
        self.credential.times += 1;
        let ends = self.connection.credential_expires();
        self.credential.ends = ends.map(|left| (Instant::now(), left));
    }

    /// Keeps the handle of a handler that was spawned, unless it has ended already.
    pub(super) fn remember_task(&mut self, id: CallId, task: AbortHandle) {
        if !self.connection.is_running(id) {
            return;
        }
        let slot = id.slot() as usize;
        if self.tasks.len() <= slot {
            self.tasks.resize(slot + 1, None);
        }
        self.tasks[slot] = Some(task);
    }

    #[inline]
    fn forget_task(&mut self, id: CallId) {
        if let Some(task) = self.tasks.get_mut(id.slot() as usize) {
            *task = None;
        }
    }
}
