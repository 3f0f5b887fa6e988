//! A transport with its place among the connections of a server.

use std::task::{Context, Poll};

use tokio::sync::OwnedSemaphorePermit;
use wirecall_core::{
    CloseCode,
    transport::{MessageKind, Received, Transport, TransportError},
};

/// A transport that gives its place back when it goes. A session that waits for another transport
/// takes none.
pub(crate) struct Placed<T> {
    pub(crate) transport: T,
    pub(crate) _place: Option<OwnedSemaphorePermit>,
}

impl<T: Transport> Transport for Placed<T> {
    #[inline]
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, TransportError>> {
        self.transport.poll_receive(cx)
    }

    #[inline]
    fn send(&mut self, kind: MessageKind, message: &[u8]) -> Result<(), TransportError> {
        self.transport.send(kind, message)
    }

    #[inline]
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        self.transport.poll_flush(cx)
    }

    #[inline]
    fn has_unflushed(&self) -> bool {
        self.transport.has_unflushed()
    }

    fn close(&mut self, code: CloseCode, reason: &str) {
        self.transport.close(code, reason);
    }

    fn ping(&mut self) {
        self.transport.ping();
    }

    fn bytes_written(&self) -> u64 {
        self.transport.bytes_written()
    }

    fn bytes_read(&self) -> u64 {
        self.transport.bytes_read()
    }
}
