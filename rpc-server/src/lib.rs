//! Server of [Wirecall](https://docs.rs/wirecall): accepts connections, negotiates, and hands them
//! to the engine of `wirecall-core`.
//!
//! - `server`: [`ServerBuilder`] and [`Server`], listeners and the life of connections
//! - `http`: one TCP connection before it is a WebSocket, served by hyper
//! - `negotiation`: whether an upgrade request is accepted, as RFC 6455 §4.2 has it
//! - `access`: which `Origin`s and `Host`s may come in

mod access;
mod http;
mod negotiation;
mod server;

pub use server::{BuildError, Server, ServerBuilder};
