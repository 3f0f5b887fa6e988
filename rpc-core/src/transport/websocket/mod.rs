//! WebSocket after its handshake (RFC 6455), over anything that reads and writes bytes.
//!
//! - `header`: what precedes a payload
//! - `mask`: what a client's payloads are combined with
//! - `decoder`: bytes in, messages and control frames out; the rules of RFC 6455 §5, without I/O
//! - `output`: frames that wait to be written
//! - `buffers`: what connections share, so that an idle one holds no buffer

mod buffers;
mod decoder;
mod header;
mod mask;
mod output;
#[cfg(test)]
mod tests;

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use self::{
    decoder::{Decoded, Decoder, may_be_sent},
    header::{MAX_CONTROL_BYTES, Opcode},
    output::Output,
};
use super::{MessageKind, Received, Transport, TransportError};
use crate::close::CloseCode;

/// RFC 6455 §7.4.1.
const PROTOCOL_ERROR: CloseCode = CloseCode::new(1002);
const NO_STATUS: CloseCode = CloseCode::new(1005);
const INVALID_DATA: CloseCode = CloseCode::new(1007);

/// A peer that reads leaves no more than a few pongs unwritten.
const MAX_PONG_BYTES: usize = 64 << 10;

/// Frames that are read in one call without a message among them, before the task lets others run
/// and writes its pongs: those of so many pings are within [`MAX_PONG_BYTES`].
const FRAMES_A_CALL: usize = 512;

/// Bytes that are read in one call without a message among them.
const BYTES_A_CALL: usize = 256 << 10;

/// The end of a WebSocket that masks its frames is the client (RFC 6455 §5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The end that sent the upgrade request.
    Client,
    /// The end that answered it.
    Server,
}

impl Role {
    fn other(self) -> Role {
        match self {
            Role::Client => Role::Server,
            Role::Server => Role::Client,
        }
    }
}

/// A WebSocket after its handshake, over anything that reads and writes bytes.
///
/// It reads through a buffer that belongs to the thread, and puts together what it sends in
/// another one: a connection of which nothing is on its way holds neither.
///
/// Pings are answered by [`Transport::poll_flush`], which is due when
/// [`Transport::has_unflushed`] says so; a Close is, too.
pub struct WebSocket<S> {
    stream: S,
    role: Role,
    decoder: Decoder,
    receiving: Receiving,
    unread: Unread,
    output: Output,
    /// Whether a Close frame was queued, behind which nothing may be sent.
    is_close_sent: bool,
    /// Whether something was queued that nobody has asked for, since all was last written.
    has_unflushed: bool,
    /// Bytes of pongs that were queued since then.
    pong_bytes: usize,
    bytes_read: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Receiving {
    Frames,
    /// The server's Close has come: it is for the server to end the connection below, so that the
    /// state that TCP has to keep stays there (RFC 6455 §7.1.1).
    EndOfStream,
    /// All was said.
    Nothing,
}

/// Bytes that were read and not decoded, in the buffer that they were read into.
#[derive(Default)]
struct Unread {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// Takes over a connection on which the upgrade is done. `read_ahead` is what came behind the
    /// other end's handshake and was read together with it.
    pub fn new(stream: S, read_ahead: Bytes, role: Role, max_message_bytes: usize) -> WebSocket<S> {
        WebSocket {
            stream,
            role,
            decoder: Decoder::new(role.other(), max_message_bytes),
            receiving: Receiving::Frames,
            unread: Unread {
                start: 0,
                end: read_ahead.len(),
                // Not the buffer itself, which may be far larger than what is left in it.
                buffer: read_ahead.to_vec(),
            },
            output: Output::new(role),
            is_close_sent: false,
            has_unflushed: false,
            pong_bytes: 0,
            bytes_read: 0,
        }
    }

    fn poll_frames(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, TransportError>> {
        let mut bytes = 0;
        for _ in 0..FRAMES_A_CALL {
            while self.unread.is_empty() {
                if bytes >= BYTES_A_CALL {
                    return yield_now(cx);
                }
                let filled = ready!(self.unread.poll_fill(cx, &mut self.stream))?;
                self.bytes_read += filled as u64;
                bytes += match filled {
                    // The end of the stream without a Close.
                    0 => {
                        let error = io::Error::from(io::ErrorKind::ConnectionReset);
                        return Poll::Ready(Err(error.into()));
                    }
                    bytes => bytes,
                };
            }
            match self.unread.decode(&mut self.decoder)? {
                Decoded::Message(message) => return Poll::Ready(Ok(Received::Message(message))),
                Decoded::Close(body) => return Poll::Ready(Ok(self.closed(body))),
                Decoded::Ping(payload) => self.pong(&payload)?,
                Decoded::NeedsInput | Decoded::Fragment | Decoded::Pong => {}
            }
        }
        yield_now(cx)
    }

    /// Answers a ping (RFC 6455 §5.5.3). Each one: to answer only the last would be allowed, but
    /// there are peers that count.
    fn pong(&mut self, payload: &[u8]) -> Result<(), TransportError> {
        if self.is_close_sent {
            return Ok(());
        }
        self.output.push(Opcode::Pong, payload);
        self.has_unflushed = true;
        self.pong_bytes += payload.len() + 2;
        if self.pong_bytes > MAX_PONG_BYTES {
            return Err(TransportError::Violation {
                code: CloseCode::FLOOD,
                message: "more pings than pongs are read".to_owned(),
            });
        }
        Ok(())
    }

    /// The peer's Close has come, and is answered if it is not an answer itself
    /// (RFC 6455 §5.5.1).
    fn closed(&mut self, body: Option<(CloseCode, String)>) -> Received {
        self.stop_receiving(match self.role {
            Role::Client => Receiving::EndOfStream,
            Role::Server => Receiving::Nothing,
        });
        let (code, reason) = body.unwrap_or((NO_STATUS, String::new()));
        if !self.is_close_sent {
            self.push_close(code, &reason);
            self.has_unflushed = true;
        }
        Received::Closed { code, reason }
    }

    fn push_close(&mut self, code: CloseCode, reason: &str) {
        let mut body = Vec::new();
        // A code that is only for those at this end, such as that there was none.
        if may_be_sent(code) {
            body.extend_from_slice(&code.value().to_be_bytes());
            let room = MAX_CONTROL_BYTES - body.len();
            let end = (0..=reason.len().min(room)).rfind(|end| reason.is_char_boundary(*end));
            body.extend_from_slice(&reason.as_bytes()[..end.unwrap_or_default()]);
        }
        self.output.push(Opcode::Close, &body);
        self.is_close_sent = true;
    }

    /// Reads what is of no interest any more, until the server hangs up.
    fn poll_end_of_stream(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut bytes = 0;
        while bytes < BYTES_A_CALL {
            match ready!(self.unread.poll_fill(cx, &mut self.stream)) {
                Ok(0) | Err(_) => return Poll::Ready(()),
                Ok(more) => bytes += more,
            }
            self.unread.release();
        }
        yield_now(cx)
    }

    fn stop_receiving(&mut self, receiving: Receiving) {
        self.receiving = receiving;
        self.unread.release();
        self.decoder.clear();
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Transport for WebSocket<S> {
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, TransportError>> {
        match self.receiving {
            Receiving::Frames => {
                let received = self.poll_frames(cx);
                if matches!(received, Poll::Ready(Err(_))) {
                    self.stop_receiving(Receiving::Nothing);
                }
                return received;
            }
            Receiving::EndOfStream => {
                ready!(self.poll_end_of_stream(cx));
                self.receiving = Receiving::Nothing;
            }
            Receiving::Nothing => {}
        }
        Poll::Ready(Ok(Received::Closed {
            code: CloseCode::ABNORMAL,
            reason: String::new(),
        }))
    }

    fn send(&mut self, kind: MessageKind, message: &[u8]) -> Result<(), TransportError> {
        if self.is_close_sent {
            return Err(io::Error::from(io::ErrorKind::BrokenPipe).into());
        }
        let opcode = match kind {
            MessageKind::Text => {
                debug_assert!(std::str::from_utf8(message).is_ok(), "text is UTF-8");
                Opcode::Text
            }
            MessageKind::Binary => Opcode::Binary,
        };
        self.output.push(opcode, message);
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        ready!(self.output.poll_flush(cx, &mut self.stream))?;
        self.has_unflushed = false;
        self.pong_bytes = 0;
        Poll::Ready(Ok(()))
    }

    fn has_unflushed(&self) -> bool {
        self.has_unflushed
    }

    fn close(&mut self, code: CloseCode, reason: &str) {
        if !self.is_close_sent {
            self.push_close(code, reason);
        }
    }

    fn ping(&mut self) {
        if !self.is_close_sent {
            self.output.push(Opcode::Ping, &[]);
        }
    }

    fn bytes_written(&self) -> u64 {
        self.output.bytes_written()
    }

    fn bytes_read(&self) -> u64 {
        self.bytes_read
    }
}

impl<S: fmt::Debug> fmt::Debug for WebSocket<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocket")
            .field("stream", &self.stream)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

impl Unread {
    fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Reads into the thread's buffer, which is kept only if there is something in it then. Ready
    /// with 0 at the end of the stream.
    ///
    /// A socket of tokio that has filled less than the buffer is known to be drained: the call
    /// after that one, which registers the waker, asks the kernel for nothing.
    fn poll_fill<S: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<io::Result<usize>> {
        let mut buffer = buffers::take_for_reading();
        let mut read = ReadBuf::new(&mut buffer);
        let polled = Pin::new(stream).poll_read(cx, &mut read);
        let bytes = read.filled().len();
        if polled.is_ready() && bytes > 0 {
            *self = Unread {
                buffer,
                start: 0,
                end: bytes,
            };
        } else {
            buffers::put_after_reading(buffer);
        }
        polled.map_ok(|()| bytes)
    }

    fn decode(&mut self, decoder: &mut Decoder) -> Result<Decoded, TransportError> {
        let mut input = &self.buffer[self.start..self.end];
        let decoded = decoder.decode(&mut input);
        self.start = self.end - input.len();
        if self.is_empty() {
            self.release();
        }
        decoded
    }

    fn release(&mut self) {
        buffers::put_after_reading(std::mem::take(self).buffer);
    }
}

/// Lets others run.
fn yield_now<T>(cx: &mut Context<'_>) -> Poll<T> {
    cx.waker().wake_by_ref();
    Poll::Pending
}

fn violation(message: &str) -> TransportError {
    TransportError::Violation {
        code: PROTOCOL_ERROR,
        message: message.to_owned(),
    }
}
