//! The deadline that a handler's own calls inherit.
//!
//! It holds while the handler is polled, on the thread that polls it: what the handler spawns is
//! on its own.

use std::cell::Cell;

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
