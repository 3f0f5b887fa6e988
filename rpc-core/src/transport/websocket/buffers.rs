//! Buffers that belong to a thread, and are lent to the connection that reads or writes just now:
//! those that are idle hold none.
//!
//! Whoever takes a buffer while it is lent gets a new one, and one that comes back to a thread that
//! has one already takes its place.

use std::cell::Cell;

/// As much as is read at once.
pub(super) const READ_BYTES: usize = 64 << 10;

/// Enough for what the engine writes at once, in a buffer that has grown by doubling.
const KEEP_BYTES: usize = 256 << 10;

thread_local! {
    static READ: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static WRITE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A buffer of [`READ_BYTES`] to read into. It holds what others have read before.
pub(super) fn take_for_reading() -> Vec<u8> {
    let buffer = READ.take();
    if buffer.len() == READ_BYTES {
        buffer
    } else {
        vec![0; READ_BYTES]
    }
}

/// Gives back a buffer that was read into.
pub(super) fn put_after_reading(buffer: Vec<u8>) {
    if buffer.len() == READ_BYTES {
        READ.set(buffer);
    }
}

/// An empty buffer to put together in what is to be written.
pub(super) fn take_for_writing() -> Vec<u8> {
    WRITE.take()
}

/// Gives back a buffer of which all is written.
pub(super) fn put_after_writing(mut buffer: Vec<u8>) {
    if buffer.capacity() <= KEEP_BYTES {
        buffer.clear();
        WRITE.set(buffer);
    }
}
