//! Buffers for each thread, so that connections and calls need none of their own.

use std::{
    cell::{Cell, RefCell},
    sync::Arc,
};

use bytes::Bytes;

/// A buffer larger than this is not kept.
const KEEP_BYTES: usize = 64 << 10;

/// A connection's output may have grown to this.
const KEEP_OUTPUT_BYTES: usize = 128 << 10;

/// Buffers for output are kept up to so many bytes together: a few large ones, or one for each of
/// many connections that are told something small.
const KEEP_OUTPUTS_BYTES: usize = 512 << 10;

/// And up to so many.
const KEEP_OUTPUTS: usize = 1024;

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static OUTPUTS: RefCell<Outputs> = const { RefCell::new(Outputs::NONE) };
}

/// Empty buffers for what connections are about to write.
struct Outputs {
    buffers: Vec<Vec<u8>>,
    /// How much they hold together.
    bytes: usize,
}

impl Outputs {
    const NONE: Outputs = Outputs {
        buffers: Vec::new(),
        bytes: 0,
    };

    #[inline]
    fn take(&mut self) -> Vec<u8> {
        let buffer = self.buffers.pop().unwrap_or_default();
        self.bytes -= buffer.capacity();
        buffer
    }

    #[inline]
    fn put(&mut self, buffer: Vec<u8>) {
        let bytes = self.bytes + buffer.capacity();
        if bytes <= KEEP_OUTPUTS_BYTES && self.buffers.len() < KEEP_OUTPUTS {
            self.bytes = bytes;
            self.buffers.push(buffer);
        }
    }
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

/// What is in a buffer: a copy if that is little, and else the buffer itself, which would not be kept.
pub(crate) fn into_bytes(buffer: Vec<u8>) -> Bytes {
    if buffer.capacity() > KEEP_BYTES {
        return buffer.into();
    }
    let bytes = Bytes::copy_from_slice(&buffer);
    put(buffer);
    bytes
}

/// A buffer for what a connection is about to write, empty.
#[inline]
pub(crate) fn take_output() -> Vec<u8> {
    let taken = OUTPUTS.try_with(|outputs| outputs.borrow_mut().take());
    taken.unwrap_or_default()
}

/// Gives an empty buffer back.
#[inline(never)]
pub(crate) fn put_output(buffer: Vec<u8>) {
    if buffer.capacity() > KEEP_OUTPUT_BYTES {
        return;
    }
    let _ = OUTPUTS.try_with(|outputs| outputs.borrow_mut().put(buffer));
}

/// Gives a buffer back that others may still have: whoever has it last does.
#[inline(never)]
pub(crate) fn release_output(buffer: Arc<Vec<u8>>) {
    if let Some(mut buffer) = Arc::into_inner(buffer) {
        buffer.clear();
        put_output(buffer);
    }
}
