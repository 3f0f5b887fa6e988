//! End-to-end tests: real sockets, both codecs, the public API.

#[path = "../../examples/interop/contract.rs"]
mod interop;
#[path = "../../examples/interop/hub.rs"]
mod interop_hub;
#[path = "../relay/mod.rs"]
mod relay;
mod support;

mod backlog;
mod calls;
mod cancellation;
mod connection_end;
mod drain;
mod errors;
mod fate;
mod foreign;
mod heartbeat;
mod herd;
mod hooks;
mod hostile;
mod hub;
mod idempotency;
mod identity;
mod large_bodies;
mod limits;
mod metadata;
mod negotiation;
mod notifications;
mod pressure;
mod raw_client;
mod raw_frames;
mod raw_server;
mod relay_itself;
mod resume;
mod services;
mod soak;
mod streams;
mod topics;
