//! What a client's stubs call: one session after the other.

use std::{
    fmt,
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use arc_swap::ArcSwap;
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    close::CloseReason,
    connection::Shared,
    status::{Code, Fate, Status},
};

/// So many calls may wait for the next session.
const MAX_WAITING: usize = 1 << 16;

/// A connection that is made anew when it is lost. Calls go to the session that is current when they
/// are made.
pub(crate) struct Line {
    /// The first session, which is the only one as a rule: it is had for less than the current one.
    first: Arc<Shared>,
    /// Whether another one has followed.
    is_renewed: AtomicBool,
    current: ArcSwap<Shared>,
    /// No session comes any more.
    ended: OnceLock<CloseReason>,
    /// Told of each new session, and of the end.
    changed: Notify,
    waiting: AtomicUsize,
    /// Whether calls fail at once while there is no connection.
    fails_fast: bool,
    /// Cancelled when no other session is wanted: it was ended, or nobody can make calls any more.
    released: CancellationToken,
}

impl Line {
    pub(crate) fn new(first: Arc<Shared>, fails_fast: bool) -> Arc<Self> {
        let line = Arc::new(Line {
            first: first.clone(),
            is_renewed: AtomicBool::new(false),
            current: ArcSwap::new(first.clone()),
            ended: OnceLock::new(),
            changed: Notify::new(),
            waiting: AtomicUsize::new(0),
            fails_fast,
            released: CancellationToken::new(),
        });
        first.belongs_to(&line);
        line
    }

    #[inline]
    pub(crate) fn current(&self) -> Arc<Shared> {
        if !self.is_renewed.load(Ordering::Acquire) {
            return self.first.clone();
        }
        self.current.load_full()
    }

    pub(crate) fn with_current<R>(&self, look: impl FnOnce(&Arc<Shared>) -> R) -> R {
        look(&self.current.load())
    }

    pub(crate) fn fails_fast(&self) -> bool {
        self.fails_fast
    }

    /// Calls that are made from now on go there.
    pub(crate) fn renew(self: &Arc<Self>, session: Arc<Shared>) {
        session.belongs_to(self);
        self.current.store(session);
        self.is_renewed.store(true, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// There will be no other session.
    pub(crate) fn end(&self, reason: CloseReason) {
        let _ = self.ended.set(reason);
        self.released.cancel();
        self.changed.notify_waiters();
    }

    pub(crate) fn ended(&self) -> Option<&CloseReason> {
        self.ended.get()
    }

    /// Waits until there will be no other session, and says why.
    pub(crate) async fn closed(&self) -> CloseReason {
        self.wait_for(|| self.ended.get().cloned()).await
    }

    /// Ready when nobody can make calls any more.
    pub(crate) fn released(&self) -> CancellationToken {
        self.released.clone()
    }

    async fn wait_for<T>(&self, ready: impl Fn() -> Option<T>) -> T {
        loop {
            let mut changed = pin!(self.changed.notified());
            // Registered before the look, or a change in between would be missed.
            changed.as_mut().enable();
            if let Some(found) = ready() {
                return found;
            }
            changed.await;
        }
    }

    /// The session after this one, for a call whose fate this is.
    pub(crate) fn after(
        self: Arc<Self>,
        last: Arc<Shared>,
        deadline: Option<Instant>,
        fate: Fate,
    ) -> NextSession {
        Box::pin(async move {
            if self.waiting.fetch_add(1, Ordering::Relaxed) >= MAX_WAITING {
                self.waiting.fetch_sub(1, Ordering::Relaxed);
                return Err(Status::new(
                    Code::RESOURCE_EXHAUSTED,
                    format!("{MAX_WAITING} calls wait for a connection already"),
                )
                .with_fate(fate));
            }
            let _place = Waiting(&self.waiting);
            let next = self.wait_for(|| {
                if let Some(reason) = self.ended.get() {
                    let status = Status::new(Code::UNAVAILABLE, reason.to_string());
                    return Some(Err(status.with_fate(fate)));
                }
                let current = self.current();
                (!Arc::ptr_eq(&current, &last)).then_some(Ok(current))
            });
            match deadline {
                None => next.await,
                Some(deadline) => timeout_at(deadline, next).await.unwrap_or_else(|_| {
                    Err(
                        Status::new(Code::DEADLINE_EXCEEDED, "no connection within the deadline")
                            .with_fate(fate),
                    )
                }),
            }
        })
    }
}

/// What [`Line::after`] returns.
pub(crate) type NextSession = Pin<Box<dyn Future<Output = Result<Arc<Shared>, Status>> + Send>>;

struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The last one who could make calls has gone: the session ends when nothing is in flight.
impl Drop for Line {
    fn drop(&mut self) {
        self.released.cancel();
        self.current.load().release();
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line")
            .field("current", &*self.current.load())
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

/// The line that a session belongs to, while somebody can make calls.
#[derive(Debug, Default)]
pub(crate) struct LineRef(OnceLock<Weak<Line>>);

impl LineRef {
    pub(crate) fn set(&self, line: &Arc<Line>) {
        let _ = self.0.set(Arc::downgrade(line));
    }

    pub(crate) fn get(&self) -> Option<Arc<Line>> {
        self.0.get()?.upgrade()
    }
}
