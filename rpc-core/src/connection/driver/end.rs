//! How a connection ends: its calls, its handlers, and the closing handshake.

use std::task::{Context, Poll, Waker, ready};

use tokio::time::{Instant, sleep_until};

use super::{CLOSE_TIMEOUT, Driver, Stage};
use crate::{
    close::{CloseCode, CloseReason, ClosedBy},
    connection::watcher::EndedSession,
    transport::{Received, Transport},
};

impl<T: Transport> Driver<T> {
    /// Fails all calls, stops all handlers, and says goodbye where it can.
    pub(super) fn end(&mut self, reason: CloseReason) {
        if let Some(registered) = &mut self.registered {
            registered.leave(self.has_expired);
        }
        // Who asks whether a session may begin is not asked any longer.
        self.leave_door();
        let goodbye = match reason.by {
            ClosedBy::Local => Some(reason.code),
            ClosedBy::Peer | ClosedBy::Transport => None,
        };
        let text = reason.message.clone();
        let mut wakers = std::mem::take(&mut self.work.get().events.wakers);
        let mut state = self.shared.lock();
        if goodbye.is_some_and(|code| code != CloseCode::WRITE_STALL) {
            state.connection.take_rest(&mut self.work.get().batch);
        }
        let cancelled = state.connection.take_cancellations();
        state.connection.close(reason.clone(), &mut wakers);
        let tasks = std::mem::take(&mut state.tasks);
        let tokens = cancelled.into_iter().chain(state.closed_token.take());
        // Nothing that others do concerns this task any more.
        state.driver = None;
        state.task = None;
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        tokens.for_each(|token| token.cancel());
        let notified = self.lanes.drain(..).filter_map(|lane| lane.busy);
        let running = tasks.into_iter().flatten().chain(notified);
        running.for_each(|task| task.abort());
        self.deferred.clear();
        self.dispatchers.clear();
        self.shared.changed.notify_waiters();
        self.tell_of_end(reason);
        if let Some(code) = goodbye {
            let _ = self.transmit();
            if let Some(transport) = &mut self.transport {
                transport.close(code, &text);
            }
        }
        self.work.get().batch.clear();
        self.stage = Stage::Closing;
        self.timer = Some(Box::pin(sleep_until(Instant::now() + CLOSE_TIMEOUT)));
    }

    /// Writes what is left, and waits for the peer's Close.
    pub(super) fn poll_closing(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(timer) = &mut self.timer
            && timer.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(());
        }
        let Some(transport) = &mut self.transport else {
            return Poll::Ready(());
        };
        let flushed = transport.poll_flush(cx);
        if matches!(flushed, Poll::Ready(Err(_))) {
            return Poll::Ready(());
        }
        loop {
            match ready!(transport.poll_receive(cx)) {
                Ok(Received::Message(_)) => {}
                // The answer to a Close is written by the flush.
                Ok(Received::Closed { .. }) | Err(_) => {
                    return transport.poll_flush(cx).map(drop);
                }
            }
        }
    }
}

impl<T> Driver<T> {
    /// Last of all, since what the application keeps with the session goes then.
    fn tell_of_end(&self, reason: CloseReason) {
        let ended = EndedSession::new(self.shared.clone(), reason);
        if let Some(watcher) = self.shared.watcher.get() {
            watcher.ended(ended);
        }
    }
}

/// The task was dropped, with its runtime as a rule: nobody may wait for it any longer.
impl<T> Drop for Driver<T> {
    fn drop(&mut self) {
        if matches!(self.stage, Stage::Closing) {
            return;
        }
        let reason = CloseReason::local(CloseCode::GOING_AWAY, "the connection's task was dropped");
        if let Some(door) = &mut self.door {
            door.forget_question();
        }
        let mut wakers = Vec::new();
        let mut state = self.shared.lock();
        let cancelled = state.connection.take_cancellations();
        state.connection.close(reason.clone(), &mut wakers);
        let tasks = std::mem::take(&mut state.tasks);
        let tokens = cancelled.into_iter().chain(state.closed_token.take());
        state.driver = None;
        state.task = None;
        drop(state);
        tokens.for_each(|token| token.cancel());
        let notified = self.lanes.drain(..).filter_map(|lane| lane.busy);
        let running = tasks.into_iter().flatten().chain(notified);
        running.for_each(|task| task.abort());
        wakers.into_iter().for_each(Waker::wake);
        self.shared.changed.notify_waiters();
        self.tell_of_end(reason);
    }
}
