//! TCP with length prefixes and nothing else: what any protocol over TCP is measured against.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use anyhow::{Result, anyhow};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use futures::future::poll_fn;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Mutex,
};
use tokio_util::io::{poll_read_buf, poll_write_buf};

use super::Peer;
use crate::{
    measure::Tally,
    scenario::{Scenario, Work},
};

#[derive(Clone)]
pub(crate) struct RawTcp(Arc<Mutex<Channel>>);

/// A socket, what was read from it and is not consumed, and what is not written to it yet.
struct Channel {
    stream: TcpStream,
    incoming: BytesMut,
    outgoing: BytesMut,
}

/// How much is read at a time, and written.
const BUFFER_BYTES: usize = 128 << 10;

const PREFIX_BYTES: usize = 4;

impl Peer for RawTcp {
    const IS_PIPELINED: bool = true;

    fn can(work: Work) -> bool {
        matches!(work, Work::Echo { .. } | Work::Idle)
    }

    async fn serve(listener: TcpListener, _: Scenario) -> Result<()> {
        loop {
            let channel = Channel::new(listener.accept().await?.0)?;
            tokio::spawn(channel.echo_all());
        }
    }

    async fn connect(address: SocketAddr) -> Result<Self> {
        let channel = Channel::new(TcpStream::connect(address).await?)?;
        Ok(RawTcp(Arc::new(Mutex::new(channel))))
    }

    async fn echo(&mut self, body: &Bytes) -> Result<Bytes> {
        let channel = &mut *self.0.lock().await;
        push_message(body, &mut channel.outgoing);
        channel.write().await?;
        loop {
            if let Some(message) = first_message(&channel.incoming) {
                let echo = Bytes::copy_from_slice(message);
                channel.incoming.advance(PREFIX_BYTES + echo.len());
                return Ok(echo);
            }
            channel.read().await?;
        }
    }

    async fn pipeline(&self, body: Bytes, in_flight: usize, tally: &Tally) -> Result<()> {
        let channel = &mut *self.0.lock().await;
        let mut sent = 0;
        poll_fn(|cx| {
            loop {
                while sent < in_flight && channel.outgoing.len() < BUFFER_BYTES {
                    push_message(&body, &mut channel.outgoing);
                    sent += 1;
                }
                // It reads also while it cannot write, since the server does not.
                let written = channel.poll_write(cx)?;
                let read = channel.poll_read(cx)?;
                while let Some(echo) = first_message(&channel.incoming) {
                    if *echo != *body {
                        return Poll::Ready(Err(anyhow!("a wrong echo")));
                    }
                    channel.incoming.advance(PREFIX_BYTES + body.len());
                    tally.add(1);
                    sent -= 1;
                }
                if read.is_pending() && (written.is_pending() || sent == in_flight) {
                    return Poll::Pending;
                }
            }
        })
        .await
    }
}

impl Channel {
    fn new(stream: TcpStream) -> Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Channel {
            stream,
            incoming: BytesMut::new(),
            outgoing: BytesMut::new(),
        })
    }

    /// Sends back what comes: all that was read, with one write.
    async fn echo_all(mut self) -> Result<()> {
        loop {
            self.read().await?;
            while let Some(message) = first_message(&self.incoming) {
                push_message(message, &mut self.outgoing);
                let bytes = PREFIX_BYTES + message.len();
                self.incoming.advance(bytes);
            }
            self.write().await?;
        }
    }

    async fn read(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_read(cx)).await
    }

    async fn write(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_write(cx)).await
    }

    /// Reads what is there.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.incoming.reserve(BUFFER_BYTES);
        let read = poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.incoming);
        Poll::Ready(match ready!(read)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        })
    }

    /// Writes all that waits.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.outgoing.has_remaining() {
            let stream = Pin::new(&mut self.stream);
            ready!(poll_write_buf(stream, cx, &mut self.outgoing))?;
        }
        Poll::Ready(Ok(()))
    }
}

fn push_message(message: &[u8], outgoing: &mut BytesMut) {
    outgoing.reserve(PREFIX_BYTES + message.len());
    outgoing.put_u32(message.len() as u32);
    outgoing.put_slice(message);
}

/// None while it has not come as a whole.
fn first_message(incoming: &[u8]) -> Option<&[u8]> {
    let (prefix, rest) = incoming.split_first_chunk()?;
    rest.get(..u32::from_be_bytes(*prefix) as usize)
}
