//! One direction of a connection: bytes are read, wait until they are due, and are written.

use std::{collections::VecDeque, io, time::Duration};

use tokio::{
    io::AsyncWriteExt as _,
    net::tcp::{ReadHalf, WriteHalf},
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{Direction, Fault, state::State};

/// As much is read at a time.
const READ_BYTES: usize = 16 << 10;

/// As much may wait here as a rule.
const HELD_BYTES: usize = 64 << 10;

/// As much may be on its way if it is delayed.
const DELAYED_BYTES: usize = 4 << 20;

/// How often what is throttled is written.
const THROTTLED_WRITES_PER_SECOND: u32 = 50;

pub(super) struct Pump<'a> {
    /// The number of the connection.
    connection: u64,
    direction: Direction,
    from: ReadHalf<'a>,
    to: WriteHalf<'a>,
    state: &'a watch::Sender<State>,
    buffer: Vec<u8>,
    /// What was read and is to be written, in order.
    held: VecDeque<Chunk>,
    held_bytes: usize,
    /// When the end of what is read is due, once it has come.
    end_due: Option<Instant>,
    /// When what is throttled may go on.
    throttled_until: Instant,
}

struct Chunk {
    due: Instant,
    bytes: Vec<u8>,
    /// How many of them have been written.
    written: usize,
}

impl<'a> Pump<'a> {
    pub(super) fn new(
        connection: u64,
        direction: Direction,
        from: ReadHalf<'a>,
        to: WriteHalf<'a>,
        state: &'a watch::Sender<State>,
    ) -> Self {
        Pump {
            connection,
            direction,
            from,
            to,
            state,
            buffer: vec![0; READ_BYTES],
            held: VecDeque::new(),
            held_bytes: 0,
            end_due: None,
            throttled_until: Instant::now(),
        }
    }

    /// Forwards until the end, which it passes on.
    pub(super) async fn run(mut self) -> io::Result<()> {
        let mut changes = self.state.subscribe();
        loop {
            let (fault, forwards) = {
                let state = changes.borrow_and_update();
                (state.fault, state.forwards(self.connection, self.direction))
            };
            let max_held_bytes = match fault {
                Fault::Delay(_) => DELAYED_BYTES,
                _ => HELD_BYTES,
            };
            let reads = forwards && self.end_due.is_none() && self.held_bytes < max_held_bytes;
            let due = self.due(fault).filter(|_| forwards);
            tokio::select! {
                biased;
                _ = changes.changed() => {}
                ready = self.from.readable(), if reads => {
                    ready?;
                    self.read(fault)?;
                }
                ready = until_due(&self.to, due), if due.is_some() => {
                    ready?;
                    if !self.held.is_empty() {
                        self.write(fault)?;
                    } else if self.is_let_through() {
                        return self.to.shutdown().await;
                    }
                    if fault == Fault::ByteWise {
                        // So that the byte can be read before the next one comes.
                        tokio::task::yield_now().await;
                    }
                }
            }
        }
    }

    /// When there is something to be passed on, if there is anything.
    fn due(&self, fault: Fault) -> Option<Instant> {
        let due = match self.held.front() {
            Some(chunk) => chunk.due,
            None => self.end_due?,
        };
        match fault {
            Fault::Throttle { .. } => Some(due.max(self.throttled_until)),
            _ => Some(due),
        }
    }

    /// Whether this direction is still forwarded.
    fn is_let_through(&self) -> bool {
        let state = self.state.borrow();
        state.forwards(self.connection, self.direction)
    }

    fn read(&mut self, fault: Fault) -> io::Result<()> {
        let read = match self.from.try_read(&mut self.buffer) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        let delay = match fault {
            Fault::Delay(delay) => delay,
            _ => Duration::ZERO,
        };
        let due = Instant::now() + delay;
        if read == 0 {
            self.end_due = Some(due);
            return Ok(());
        }
        self.held_bytes += read;
        self.held.push_back(Chunk {
            due,
            bytes: self.buffer[..read].to_vec(),
            written: 0,
        });
        Ok(())
    }

    /// Writes a piece of what has waited longest.
    fn write(&mut self, fault: Fault) -> io::Result<()> {
        let Some(chunk) = self.held.front_mut() else {
            return Ok(());
        };
        let rest = &chunk.bytes[chunk.written..];
        let piece = match fault {
            Fault::ByteWise => 1,
            Fault::Throttle { bytes_per_second } => {
                (bytes_per_second / THROTTLED_WRITES_PER_SECOND).max(1) as usize
            }
            _ => rest.len(),
        };
        let mut written = Ok(0);
        self.state.send_if_modified(|state| {
            let allowed = state.allowed(self.connection, self.direction, piece.min(rest.len()));
            if allowed == 0 {
                // This has changed since the piece was due.
                return false;
            }
            written = self.to.try_write(&rest[..allowed]);
            match written {
                Ok(written) => state.forwarded(self.direction, written),
                Err(_) => false,
            }
        });
        let written = match written {
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        chunk.written += written;
        if chunk.written == chunk.bytes.len() {
            self.held.pop_front();
        }
        self.held_bytes -= written;
        if let Fault::Throttle { bytes_per_second } = fault {
            let takes = Duration::from_secs(1) * written as u32 / bytes_per_second;
            self.throttled_until = self.throttled_until.max(Instant::now()) + takes;
        }
        Ok(())
    }
}

/// Waits until what is due then can be written.
async fn until_due(to: &WriteHalf<'_>, due: Option<Instant>) -> io::Result<()> {
    let Some(due) = due else {
        return Ok(());
    };
    // Most of it is due when it comes.
    if due > Instant::now() {
        sleep_until(due).await;
    }
    to.writable().await
}
