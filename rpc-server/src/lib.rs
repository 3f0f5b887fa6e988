//! Server of [Wirecall](https://docs.rs/wirecall): accepts connections, negotiates, and hands them
//! to the engine of `wirecall-core`.
//!
//! - `server`: [`ServerBuilder`] and [`Server`], and its listeners
//! - `connections`: those that are open
//! - `drain`: how a server leaves
//! - `http`: one TCP connection before it is a WebSocket, served by hyper
//! - `negotiation`: whether an upgrade request is accepted, as RFC 6455 §4.2 has it
//! - `placed`: a transport with its place among the connections
//! - `access`: which `Origin`s and `Host`s may come in

mod access;
mod connections;
mod drain;
mod http;
mod negotiation;
mod placed;
mod server;

pub use drain::{Drain, Drained, ServerHandle};
pub use server::{BuildError, Server, ServerBuilder};
