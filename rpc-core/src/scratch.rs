//! A buffer for each thread in which values are serialized before they are appended under a lock.

use std::cell::Cell;

/// A buffer larger than this is not kept.
const KEEP_BYTES: usize = 64 << 10;

thread_local!(static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) });

/// The thread's buffer, empty. Whoever takes it while it is taken gets a new one.
pub(crate) fn take() -> Vec<u8> {
    let mut buffer = SCRATCH.take();
    buffer.clear();
    buffer
}

/// Gives a buffer back, to this thread's if it was taken on another one.
pub(crate) fn put(buffer: Vec<u8>) {
    if buffer.capacity() <= KEEP_BYTES {
        SCRATCH.set(buffer);
    }
}
