//! Client of [Wirecall](https://docs.rs/wirecall): connects, negotiates, and hands the connection
//! to the engine of `wirecall-core`.
//!
//! - `client`: [`ClientBuilder`] and [`Client`]
//! - `upkeep`: the task that keeps it connected
//! - `dialler`: what it dials with, and one attempt
//! - `finishing`: what keeps a session connected that its server has asked to leave
//! - `reconnect`: when it tries again, and what may change then
//! - `renewal`: its credential, and how that is renewed
//! - `link`: one transport, from the dialling to the upgrade
//! - `handshake`: the opening handshake, as RFC 6455 §4.1 has it, by hyper
//! - `endpoint`: what a client connects to
//! - `error`: why it could not

mod client;
mod dialler;
mod endpoint;
mod error;
mod finishing;
mod handshake;
mod link;
mod reconnect;
mod renewal;
mod upkeep;

pub use client::{Client, ClientBuilder, ClientState};
pub use endpoint::Endpoint;
pub use error::ConnectError;
pub use reconnect::{Attempt, Backoff};
