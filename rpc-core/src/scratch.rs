//! Buffers for each thread, so that connections and calls need none of their own.

use std::cell::{Cell, RefCell};

/// A buffer larger than this is not kept.
const KEEP_BYTES: usize = 64 << 10;

/// A connection's output may have grown to this.
const KEEP_OUTPUT_BYTES: usize = 128 << 10;

/// So many buffers for output are kept: one that is being filled while another is being written,
/// of more than one connection.
const KEEP_OUTPUTS: usize = 4;

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static OUTPUTS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// The thread's buffer in which values are serialized before they are appended under a lock, empty.
/// Whoever takes it while it is taken gets a new one.
#[inline]
pub(crate) fn take() -> Vec<u8> {
    // There is none while the thread ends.
    let mut buffer = SCRATCH.try_with(Cell::take).unwrap_or_default();
    buffer.clear();
    buffer
}

/// Gives a buffer back, to this thread's if it was taken on another one.
#[inline]
pub(crate) fn put(buffer: Vec<u8>) {
    if buffer.capacity() <= KEEP_BYTES {
        let _ = SCRATCH.try_with(|scratch| scratch.set(buffer));
    }
}

/// A buffer for what a connection is about to write, empty.
#[inline]
pub(crate) fn take_output() -> Vec<u8> {
    let taken = OUTPUTS.try_with(|outputs| outputs.borrow_mut().pop());
    taken.ok().flatten().unwrap_or_default()
}

/// Gives an empty buffer back.
#[inline]
pub(crate) fn put_output(buffer: Vec<u8>) {
    if buffer.capacity() > KEEP_OUTPUT_BYTES {
        return;
    }
    let _ = OUTPUTS.try_with(|outputs| {
        let mut outputs = outputs.borrow_mut();
        if outputs.len() < KEEP_OUTPUTS {
            outputs.push(buffer);
        }
    });
}
