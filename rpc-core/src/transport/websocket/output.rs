//! Frames that wait to be written.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::AsyncWrite;

use super::{
    Role, buffers,
    header::{Header, MAX_HEADER_BYTES, Opcode},
    mask,
};

/// Room in a buffer that is not worth giving back while a write is blocked.
const SPARE_ROOM_BYTES: usize = 4 << 10;

/// Puts frames together and writes them. Holds no memory when nothing waits.
#[derive(Debug)]
pub(super) struct Output {
    /// Whose frames these are: a client masks them.
    sender: Role,
    buffer: Vec<u8>,
    /// So much of the buffer is written.
    written: usize,
    /// Bytes ever written.
    bytes_written: u64,
}

impl Output {
    pub(super) fn new(sender: Role) -> Self {
        Output {
            sender,
            buffer: Vec::new(),
            written: 0,
            bytes_written: 0,
        }
    }

    pub(super) fn bytes_written(&self) -> u64 {
        self.bytes_written
    }

    /// Appends a frame: a whole message, or a control frame.
    pub(super) fn push(&mut self, opcode: Opcode, payload: &[u8]) {
        if self.buffer.capacity() == 0 {
            self.buffer = buffers::take_for_writing();
        }
        // Moved at most as often as bytes have been written.
        if self.written > self.buffer.len() / 2 {
            self.buffer.drain(..self.written);
            self.written = 0;
        }
        let mask = match self.sender {
            Role::Client => Some(mask::fresh()),
            Role::Server => None,
        };
        let header = Header {
            is_final: true,
            opcode,
            payload_bytes: payload.len() as u64,
            mask,
        };
        self.buffer.reserve(MAX_HEADER_BYTES + payload.len());
        header.encode(&mut self.buffer);
        mask::append(&mut self.buffer, payload, mask);
    }

    /// Ready once all is written and the stream below is flushed.
    pub(super) fn poll_flush<S: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<io::Result<()>> {
        while self.written < self.buffer.len() {
            let rest = &self.buffer[self.written..];
            match Pin::new(&mut *stream).poll_write(cx, rest)? {
                Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(bytes) => {
                    self.written += bytes;
                    self.bytes_written += bytes as u64;
                }
                Poll::Pending => {
                    self.keep_the_rest();
                    return Poll::Pending;
                }
            }
        }
        self.written = 0;
        if self.buffer.capacity() > 0 {
            buffers::put_after_writing(std::mem::take(&mut self.buffer));
        }
        ready!(Pin::new(stream).poll_flush(cx))?;
        Poll::Ready(Ok(()))
    }

    /// A peer that does not read holds no large buffer for the little that it has left unread.
    fn keep_the_rest(&mut self) {
        let rest = &self.buffer[self.written..];
        if self.buffer.capacity() > 4 * rest.len() + SPARE_ROOM_BYTES {
            let rest = rest.to_vec();
            buffers::put_after_writing(std::mem::replace(&mut self.buffer, rest));
            self.written = 0;
        }
    }

    /// What the buffer takes.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.buffer.capacity()
    }
}
