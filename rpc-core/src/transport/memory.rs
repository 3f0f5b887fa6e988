//! Connections within a process: the same engine, no sockets.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{Message, MessageKind, Received, Transport, TransportError};
use crate::close::CloseCode;

/// A writer is held up while that many bytes are unread.
const CAPACITY_BYTES: usize = 64 << 10;

/// Two ends of one connection.
#[must_use]
pub fn pair() -> (MemoryTransport, MemoryTransport) {
    let there = Arc::new(Pipe::default());
    let back = Arc::new(Pipe::default());
    let end = |incoming: &Arc<Pipe>, outgoing: &Arc<Pipe>| MemoryTransport {
        incoming: incoming.clone(),
        outgoing: outgoing.clone(),
        written: 0,
        read: 0,
    };
    (end(&there, &back), end(&back, &there))
}

/// One end of a connection within a process.
pub struct MemoryTransport {
    incoming: Arc<Pipe>,
    outgoing: Arc<Pipe>,
    written: u64,
    read: u64,
}

#[derive(Default)]
struct Pipe(Mutex<PipeState>);

#[derive(Default)]
struct PipeState {
    messages: VecDeque<Message>,
    bytes: usize,
    closed: Option<(CloseCode, String)>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Pipe {
    fn lock(&self) -> MutexGuard<'_, PipeState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self, code: CloseCode, reason: &str) {
        let mut state = self.lock();
        if state.closed.is_none() {
            state.closed = Some((code, reason.to_owned()));
        }
        let wakers = [state.reader.take(), state.writer.take()];
        drop(state);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

impl Transport for MemoryTransport {
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, TransportError>> {
        let mut state = self.incoming.lock();
        if let Some(message) = state.messages.pop_front() {
            state.bytes -= message.data.len();
            self.read += message.data.len() as u64;
            let has_room = state.bytes < CAPACITY_BYTES;
            let writer = state.writer.take_if(|_| has_room);
            drop(state);
            writer.into_iter().for_each(Waker::wake);
            return Poll::Ready(Ok(Received::Message(message)));
        }
        if let Some((code, reason)) = state.closed.clone() {
            drop(state);
            // The closing handshake: a Close is answered by one.
            self.outgoing.close(code, &reason);
            return Poll::Ready(Ok(Received::Closed { code, reason }));
        }
        state.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    fn send(&mut self, kind: MessageKind, message: &[u8]) -> Result<(), TransportError> {
        let data = Bytes::copy_from_slice(message);
        let mut state = self.outgoing.lock();
        if state.closed.is_some() {
            return Err(std::io::Error::from(std::io::ErrorKind::BrokenPipe).into());
        }
        self.written += data.len() as u64;
        state.bytes += data.len();
        state.messages.push_back(Message { kind, data });
        let reader = state.reader.take();
        drop(state);
        reader.into_iter().for_each(Waker::wake);
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        let mut state = self.outgoing.lock();
        if state.bytes < CAPACITY_BYTES || state.closed.is_some() {
            return Poll::Ready(Ok(()));
        }
        state.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    fn close(&mut self, code: CloseCode, reason: &str) {
        self.outgoing.close(code, reason);
    }

    fn bytes_written(&self) -> u64 {
        self.written
    }

    fn bytes_read(&self) -> u64 {
        self.read
    }
}

impl Drop for MemoryTransport {
    fn drop(&mut self) {
        self.outgoing.close(CloseCode::ABNORMAL, "");
        self.incoming.close(CloseCode::ABNORMAL, "");
    }
}

impl fmt::Debug for MemoryTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryTransport").finish_non_exhaustive()
    }
}

/// A place to connect to within a process: what a server hands out and a client dials.
#[derive(Clone, Debug)]
pub struct MemoryEndpoint {
    accept: mpsc::Sender<MemoryTransport>,
}

/// The other side of a [`MemoryEndpoint`].
#[derive(Debug)]
pub struct MemoryListener {
    accepted: mpsc::Receiver<MemoryTransport>,
}

/// A listener and the endpoint that leads to it.
#[must_use]
pub fn listen() -> (MemoryListener, MemoryEndpoint) {
    let (accept, accepted) = mpsc::channel(16);
    (MemoryListener { accepted }, MemoryEndpoint { accept })
}

impl MemoryEndpoint {
    /// A new connection; `None` when the listener is gone.
    ///
    /// Cancel safe: a connection is made or not.
    pub async fn connect(&self) -> Option<MemoryTransport> {
        let (ours, theirs) = pair();
        self.accept.send(theirs).await.ok()?;
        Some(ours)
    }
}

impl MemoryListener {
    /// The next connection; `None` when every endpoint is gone.
    ///
    /// Cancel safe: no connection is lost.
    pub async fn accept(&mut self) -> Option<MemoryTransport> {
        self.accepted.recv().await
    }
}
