//! Client of [Wirecall](https://docs.rs/wirecall): connects, negotiates, and hands the connection
//! to the engine of `wirecall-core`.
//!
//! - `client`: [`ClientBuilder`] and [`Client`]
//! - `handshake`: the opening handshake, as RFC 6455 §4.1 has it, by hyper
//! - `endpoint`: what a client connects to
//! - `error`: why it could not

mod client;
mod endpoint;
mod error;
mod handshake;

pub use client::{Client, ClientBuilder};
pub use endpoint::Endpoint;
pub use error::ConnectError;
