//! Server of [Wirecall](https://docs.rs/wirecall): accepts connections, negotiates, and hands them
//! to the engine of `wirecall-core`.
//!
//! - `server`: [`ServerBuilder`] and [`Server`], and its listeners
//! - `connections`: those that are open
//! - `hub`: who is there, and how to reach them
//! - `hooks`: what an application does when sessions begin, break, go on and end
//! - `drain`: how a server leaves
//! - `http`: one TCP connection before it is a WebSocket, served by hyper
//! - `negotiation`: whether an upgrade request is accepted, as RFC 6455 §4.2 has it
//! - `placed`: a transport with its place among the connections
//! - `auth`: who may come in; `entrance`: where that is asked; `credentials`: what an upgrade request says of that; `crowd`: those who
//!   have not come in
//! - `proxies`: whom a request comes from that a proxy has passed on
//! - `contained`: code of the application's, bounded in time and with its panics
//! - `access`: which `Origin`s and `Host`s may come in

mod access;
mod auth;
mod connections;
mod contained;
mod credentials;
mod crowd;
mod drain;
mod entrance;
mod hooks;
mod http;
mod hub;
mod negotiation;
mod placed;
mod proxies;
mod server;

pub use async_trait::async_trait;
pub use auth::{AuthRequest, Authenticator, Credential, StaticTokens};
pub use drain::{Drain, Drained, ServerHandle};
pub use hooks::SessionHooks;
pub use hub::{Audience, Hub, JoinError, Missed, Presence, PresenceEvents};
pub use proxies::ProxyHeader;
pub use server::{BuildError, Server, ServerBuilder};
