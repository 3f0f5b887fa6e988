//! Starting handlers: in place first, in a task when they wait.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::FutureExt as _;
use tokio::time::Instant;

use super::{Driver, FRAMES_A_STEP, Lane, room_for_answers};
use crate::{
    connection::shared::{Answer, HandlerGuard, LaneGuard},
    idempotency::Arrival,
    inbound_call::{Ended, InboundCall, Reply},
    inherited,
    protocol::{CallId, MethodKind, Target},
    service::{Dispatched, Dispatcher, PendingHandler},
    transport::Transport,
};

/// A handler whose first poll takes longer has held up its connection.
pub(super) const SLOW_POLL: Duration = Duration::from_micros(100);

/// More bytes of answers are not collected before they go into the outbox, while they are still in the
/// processor's cache.
const ANSWERS_BYTES: usize = 16 << 10;

/// An answer of so many bytes goes into the outbox at once: to copy it takes longer than the lock.
const DIRECT_BYTES: usize = 1 << 10;

/// What a handler ends with, if only a panic.
fn reply_of(ended: Option<Ended>) -> Reply {
    ended.map_or_else(Reply::panicked, |mut ended| ended.take_reply())
}

impl<T: Transport> Driver<T> {
    #[inline]
    pub(super) fn start(
        &mut self,
        cx: &mut Context<'_>,
        id: CallId,
        target: Target,
        call: InboundCall,
    ) {
        if let Some(key) = &call.context().idempotency_key {
            let key = key.clone();
            return self.start_once(id, target, key, call);
        }
        // A stream's deadline ends when it is accepted: its handler's calls do not inherit it.
        let deadline = call
            .context()
            .deadline
            .filter(|_| target.kind == MethodKind::Unary);
        match inherited::scope(deadline, || self.dispatch(cx, target, call)) {
            Dispatched::Done(ended) => {
                let Some(mut ended) = ended else {
                    return self.answer(id, Reply::panicked());
                };
                if let Some(frame) = ended.frame(self.max_body_bytes) {
                    if frame.len() >= DIRECT_BYTES {
                        self.hand_over_with(id, frame);
                        return self.keep(ended.into_call());
                    }
                    self.work.get().answers.bytes.extend_from_slice(frame);
                    self.answered(id);
                    if self.work.get().answers.bytes.len() > ANSWERS_BYTES {
                        self.hand_over();
                    }
                } else {
                    let reply = ended.take_reply();
                    self.answer(id, reply);
                }
                self.keep(ended.into_call());
            }
            Dispatched::Pending(handler) => {
                let guard = HandlerGuard::new(self.shared.clone(), id, self.max_body_bytes);
                let task = tokio::spawn(HandlerTask {
                    handler: Some(handler),
                    deadline,
                    answer: None,
                    guard,
                });
                self.work.get().spawned.push((id, task.abort_handle()));
            }
        }
    }

    /// Takes down the answer of a handler that has ended in place.
    fn answer(&mut self, id: CallId, reply: Reply) {
        let reply = reply.limited(self.max_body_bytes);
        if reply.is_large() {
            let (body, metadata) = reply.into_large();
            self.work.get().answers.large.push((id, body, metadata));
            // One at a time: the next may have to wait until this one is written.
            self.is_congested = true;
            return;
        }
        let frame = reply.into_frame(id, self.shared.codec);
        self.work.get().answers.bytes.extend_from_slice(&frame);
        frame.give_back();
        self.answered(id);
    }

    /// What was added to the answers is this call's.
    #[inline]
    fn answered(&mut self, id: CallId) {
        let end = self.work.get().answers.bytes.len();
        self.work.get().answers.ends.push((id, end));
        self.is_congested |= end > self.room_bytes;
    }

    /// Starts the first call with an idempotency key; a further one gets the answer of the first.
    #[cold]
    fn start_once(&mut self, id: CallId, target: Target, key: Arc<str>, call: InboundCall) {
        let user = self.shared.identity().map(|own| own.shared_user());
        let results = self.router.results();
        match results.arrive(target, user, key, call.codec(), call.body()) {
            Arrival::First(execution) => {
                // Nobody aborts this task: the handler runs to its end, and keeps its call's slot
                // until then. A deadline that does not end it is not inherited either.
                let dispatched = self.dispatcher(target).dispatch(None, call);
                let guard = HandlerGuard::new(self.shared.clone(), id, self.max_body_bytes);
                tokio::spawn(async move {
                    let ended = match dispatched {
                        Dispatched::Done(ended) => ended,
                        Dispatched::Pending(handler) => {
                            let ended = AssertUnwindSafe(handler).catch_unwind().await;
                            ended.ok().flatten()
                        }
                    };
                    let reply = reply_of(ended);
                    execution.end(&reply);
                    guard.write(reply).await;
                });
            }
            Arrival::Repeated(repetition) => {
                let guard = HandlerGuard::new(self.shared.clone(), id, self.max_body_bytes);
                let task = tokio::spawn(async move {
                    let reply = repetition.reply().await;
                    guard.write(reply).await;
                });
                self.work.get().spawned.push((id, task.abort_handle()));
            }
            Arrival::Answered(reply) => self.answer(id, reply),
        }
    }

    #[inline]
    fn dispatch(&mut self, cx: &mut Context<'_>, target: Target, call: InboundCall) -> Dispatched {
        if self.router.spawns(target) {
            return self.dispatcher(target).dispatch(None, call);
        }
        if !self.suspicious {
            return self.dispatcher(target).dispatch(Some(cx), call);
        }
        let before = Instant::now();
        let dispatched = self.dispatcher(target).dispatch(Some(cx), call);
        if before.elapsed() > SLOW_POLL {
            self.router.was_slow(target);
        }
        dispatched
    }

    #[inline]
    fn dispatcher(&mut self, target: Target) -> &mut Box<dyn Dispatcher> {
        if self.dispatchers.is_empty() {
            self.dispatchers.resize_with(self.router.len(), || None);
        }
        self.dispatchers[target.service as usize]
            .get_or_insert_with(|| self.router.dispatcher(target))
    }

    /// Cancels a handler, or a call that has not been started.
    pub(super) fn stop(&mut self, id: CallId) {
        self.hand_over();
        let deferred = self.deferred.iter().position(|(other, ..)| *other == id);
        let removed = deferred.and_then(|index| self.deferred.remove(index));
        let mut state = self.shared.lock();
        if removed.is_some() {
            let wakers = &mut self.work.get().events.wakers;
            state.connection.handler_not_started(id, wakers);
        }
        let task = state
            .tasks
            .get_mut(id.slot() as usize)
            .and_then(Option::take);
        let token = state.connection.take_cancellation(id);
        drop(state);
        if let Some(token) = token {
            token.cancel();
        }
        self.work.wake();
        if let Some(task) = task {
            task.abort();
        }
    }

    /// Starts what was put off while too much waited to be written.
    pub(super) fn run_deferred(&mut self, cx: &mut Context<'_>) {
        while !self.deferred.is_empty() {
            (self.is_congested, self.room_bytes) = room_for_answers(&self.shared.lock().connection);
            for _ in 0..FRAMES_A_STEP {
                if self.is_congested {
                    break;
                }
                let Some((id, target, call)) = self.deferred.pop_front() else {
                    break;
                };
                self.start(cx, id, target, call);
            }
            self.hand_over();
            if self.is_congested {
                return;
            }
        }
    }

    pub(super) fn notify(
        &mut self,
        cx: &mut Context<'_>,
        target: Target,
        call: InboundCall,
        volatile: bool,
    ) {
        if self.lanes.is_empty() {
            self.lanes.resize_with(self.router.len(), Lane::default);
        }
        let lane = &mut self.lanes[target.service as usize];
        // What was counted is within its credit; what may be dropped has the same bound.
        if volatile && lane.waiting.len() >= self.shared.limits.notification_credit {
            return;
        }
        lane.waiting.push_back((target, call, volatile));
        self.run_lane(cx, target.service as usize);
    }

    /// Handles a service's notifications, one at a time and in order.
    fn run_lane(&mut self, cx: &mut Context<'_>, service: usize) {
        while self.lanes[service].busy.is_none() {
            let Some((target, call, volatile)) = self.lanes[service].waiting.pop_front() else {
                return;
            };
            match self.dispatch(cx, target, call) {
                Dispatched::Done(ended) => {
                    if let Some(ended) = ended {
                        self.keep(ended.into_call());
                    }
                    self.notifications_handled += usize::from(!volatile);
                }
                Dispatched::Pending(handler) => {
                    let guard = LaneGuard {
                        shared: self.shared.clone(),
                        service: target.service,
                        volatile,
                    };
                    let task = tokio::spawn(async move {
                        // A panic was reported by the panic hook; nobody waits for an answer.
                        let _ = AssertUnwindSafe(handler).catch_unwind().await;
                        drop(guard);
                    });
                    self.lanes[service].busy = Some(task.abort_handle());
                }
            }
        }
    }

    pub(super) fn run_lanes(&mut self, cx: &mut Context<'_>) {
        if self.lanes.iter().all(|lane| lane.busy.is_none()) {
            return;
        }
        let free = std::mem::take(&mut self.shared.lock().lanes_free);
        for service in free {
            self.lanes[service as usize].busy = None;
            self.run_lane(cx, service as usize);
        }
        self.hand_over();
    }
}

/// Polls on a handler that waits, and answers. By hand, since it is moved a few times before it is
/// where it stays: it is a tenth of what an `async` block of the same would be.
struct HandlerTask {
    handler: Option<PendingHandler>,
    /// What the handler's own calls inherit.
    deadline: Option<Instant>,
    /// What waits for room, once the handler has ended.
    answer: Option<Answer>,
    guard: HandlerGuard,
}

impl Future for HandlerTask {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let task = self.get_mut();
        if let Some(handler) = &mut task.handler {
            // Nothing of the handler is touched after a panic but its destructor.
            let polled = catch_unwind(AssertUnwindSafe(|| {
                inherited::scope(task.deadline, || Pin::new(handler).poll(cx))
            }));
            let reply = match polled {
                Ok(polled) => reply_of(ready!(polled)),
                Err(_) => Reply::panicked(),
            };
            task.handler = None;
            task.answer = Some(task.guard.answer(reply));
        }
        if let Some(answer) = &task.answer {
            ready!(task.guard.poll_write(cx, answer));
            if let Some(Answer::Frame(frame)) = task.answer.take() {
                frame.give_back();
            }
        }
        Poll::Ready(())
    }
}
