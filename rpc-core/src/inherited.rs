//! The deadline that a handler's own calls inherit.
//!
//! It holds while the handler is polled, on the thread that polls it: what the handler spawns is
//! on its own.

use std::{
    cell::Cell,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::time::Instant;

thread_local!(static DEADLINE: Cell<Option<Instant>> = const { Cell::new(None) });

/// The deadline of the handler that is being polled, if there is one.
#[inline]
pub(crate) fn deadline() -> Option<Instant> {
    DEADLINE.get()
}

/// Does something, with a deadline for the calls that are made meanwhile.
#[inline]
pub(crate) fn scope<T>(deadline: Option<Instant>, poll: impl FnOnce() -> T) -> T {
    /// Also after a panic.
    struct Restore(Option<Instant>);

    impl Drop for Restore {
        fn drop(&mut self) {
            DEADLINE.set(self.0);
        }
    }

    let _restore = Restore(DEADLINE.replace(deadline));
    poll()
}

/// A future that is polled in a scope.
pub(crate) struct Scoped<F> {
    pub(crate) deadline: Option<Instant>,
    pub(crate) future: F,
}

impl<F: Future + Unpin> Future for Scoped<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.get_mut();
        scope(this.deadline, || Pin::new(&mut this.future).poll(cx))
    }
}
