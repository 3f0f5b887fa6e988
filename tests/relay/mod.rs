//! A relay between clients and a server that does to their connections what networks do.
//!
//! - [`Fault`]: what it does to the bytes that pass; [`Direction`]
//! - `state`: what the relay and its connections share
//! - `connection`: the task of one connection
//! - `pump`: one direction of it
//!
//! What is told to the relay holds once the function that tells it has returned: nothing that a fault
//! keeps back is forwarded after that, on any thread.

#![allow(dead_code, reason = "each program uses a part of it")]

use std::net::SocketAddr;

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

mod connection;
mod fault;
mod pump;
mod state;

pub use fault::{Direction, Fault};
use state::{Fate, State};

/// Passes the bytes of TCP connections on to a server, for as long as it lives. Dropping it closes
/// its port and all connections.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    state: watch::Sender<State>,
    accepting: JoinHandle<()>,
}

impl Relay {
    /// Listens on a free port of this machine.
    pub async fn start(upstream: SocketAddr) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let state = watch::Sender::new(State::to(upstream));
        Relay {
            address: listener.local_addr().unwrap(),
            accepting: tokio::spawn(accept(listener, state.clone())),
            state,
        }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// The same for a WebSocket.
    pub fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// Does this from now on to all connections that there are and to those that come, in the place
    /// of what it did before.
    pub fn set(&self, fault: Fault) {
        if let Fault::Throttle { bytes_per_second } = fault {
            assert!(bytes_per_second > 0, "to let nothing through is `HalfOpen`");
        }
        self.state.send_modify(|state| state.fault = fault);
    }

    /// Passes everything on again. What a fault has kept back goes now, except for what is delayed:
    /// that comes when it is due.
    pub fn heal(&self) {
        self.set(Fault::None);
    }

    /// Has this server in the place of the one before, as a load balancer does. Connections that have
    /// reached that one stay there.
    pub fn lead_to(&self, upstream: SocketAddr) {
        self.state.send_modify(|state| state.upstream = upstream);
    }

    /// Closes all connections that there are, with a FIN to both ends, as a proxy does that is shut
    /// down. What was on its way within the relay is lost. New connections are accepted.
    pub fn cut(&self) {
        self.state.send_modify(State::cut);
    }

    /// Ends all connections that there are with a RST to both ends. What was on its way within the
    /// relay is lost. New connections are accepted.
    pub fn reset(&self) {
        self.state.send_modify(|state| state.end_all(Fate::Reset));
    }

    /// Makes all connections that there are half-open for ever: nothing more comes through, and
    /// nobody is told. New connections work. Seen from the server, that is a device that has changed
    /// its network.
    pub fn swallow(&self) {
        self.state.send_modify(State::swallow);
    }

    /// Cuts all connections, once, after so many more bytes have been forwarded in this direction;
    /// those of all connections are counted together. In the place of an earlier number for this
    /// direction.
    pub fn cut_after(&self, bytes: u64, direction: Direction) {
        self.state
            .send_modify(|state| state.cut_after(bytes, direction));
    }

    /// How many connections it has ever accepted, those that it refused among them.
    pub fn connections(&self) -> u64 {
        self.state.borrow().accepted
    }

    /// Waits until it has accepted so many connections since it was started.
    pub async fn wait_for_connections(&self, count: u64) {
        let mut changes = self.state.subscribe();
        // The sender is ours.
        let _ = changes.wait_for(|state| state.accepted >= count).await;
    }

    /// How many bytes it has ever forwarded in this direction, on all connections.
    pub fn forwarded(&self, direction: Direction) -> u64 {
        self.state.borrow().traffic(direction).bytes
    }

    /// In how many writes it has forwarded them.
    pub fn writes(&self, direction: Direction) -> u64 {
        self.state.borrow().traffic(direction).writes
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // The tasks of the connections belong to this one.
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, state: watch::Sender<State>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (client, _) = accepted.expect("the relay accepts connections");
                let mut admitted = None;
                state.send_modify(|state| admitted = state.admit());
                match admitted {
                    Some(number) => {
                        connections.spawn(connection::run(number, client, state.clone()));
                    }
                    None => reset(&client),
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Has the socket end with a RST when it is dropped.
fn reset(socket: &TcpStream) {
    // One that is gone already needs none.
    let _ = socket.set_zero_linger();
}
