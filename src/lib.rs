#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

pub use wirecall_core::*;

#[cfg(feature = "client")]
pub use wirecall_client::{
    Attempt, Backoff, Client, ClientBuilder, ClientState, ConnectError, Endpoint,
};
#[cfg(feature = "macros")]
pub use wirecall_macros::{RpcError, service};
#[cfg(feature = "server")]
pub use wirecall_server::{
    Audience, AuthRequest, Authenticator, BuildError, Credential, Drain, Drained, Hub, JoinError,
    Missed, Presence, PresenceEvents, ProxyHeader, Server, ServerBuilder, ServerHandle,
    SessionHooks, StaticTokens, async_trait,
};
