//! Protocol, codecs and connection engine of [Wirecall](https://docs.rs/wirecall).
//!
//! Users depend on the `wirecall` crate, which re-exports what they need. The layers, from the
//! wire up:
//!
//! - [`transport`]: what carries messages, a WebSocket or a queue within the process
//! - [`protocol`]: frames and the state of one connection, without I/O
//! - [`body`]: what stands in a frame's payload
//! - [`connection`]: the engine, one task that brings the three together
//! - [`Peer`], [`Call`], [`Notification`]: the other end of a connection, as callers see it
//! - [`Topic`], [`Subscription`]: items that many subscribe to, at both ends
//! - [`service`]: what executes the peer's calls, with their [`Context`]
//! - [`CallError`], [`Status`], [`CloseReason`]: what can go wrong, and what it means

pub mod body;
mod call;
mod close;
pub mod connection;
mod context;
mod delivery;
mod error;
mod idempotency;
mod identity;
mod inbound_call;
mod inherited;
mod items;
mod limits;
mod line;
mod metadata;
mod method;
mod notification;
mod peer;
mod pressure;
mod priority;
pub mod protocol;
mod scratch;
pub mod service;
mod session_state;
mod status;
mod streaming;
mod topic;
pub mod transport;

pub use body::{Codec, bytes::Bytes};
pub use call::{
    BySender, Call, DuplexCall, ItemSender, PendingCall, PendingStream, ResponseStream, StreamCall,
    Subscription, TopicCall, Update, UploadCall, Values, WithMetadata,
};
pub use close::{CloseCode, CloseReason, ClosedBy};
pub use context::{ConnectionInfo, Context};
pub use delivery::Delivery;
pub use error::{CallError, Details, DetailsWriter, RpcError};
pub use idempotency::KeptResults;
pub use identity::{AuthError, Identity};
pub use inbound_call::{Ended, InboundCall, Reply};
pub use limits::Limits;
pub use metadata::{Metadata, MetadataValue};
pub use method::{MAX_ALIASES, Method, Methods, StubMethod};
pub use notification::{Broadcast, Notification, Receivers};
pub use peer::{Peer, SessionId};
pub use pressure::Pressure;
pub use priority::Priority;
pub use protocol::{Heartbeat, StreamCredit, TopicPosition};
pub use service::{DuplicateService, Router, Service};
pub use session_state::SessionState;
pub use status::{Code, Fate, Status};
pub use streaming::Streaming;
pub use tokio_util::sync::CancellationToken;
pub use topic::{Published, Topic, TopicLimits, TopicPressure, TopicSettings, Topics};

/// What the macros' code refers to. No part of the public API.
#[doc(hidden)]
pub mod __private {
    pub use serde;

    pub use crate::{
        Broadcast, Call, CallError, Code, Context, Delivery, Details, DetailsWriter, DuplexCall,
        InboundCall, Method, Methods, Notification, Peer, Pressure, Reply, RpcError, Status,
        StreamCall, StreamCredit, Streaming, StubMethod, Topic, TopicCall, UploadCall,
        body::args::{BorrowedBytes, BorrowedStr, ByteSlice, NoArguments},
        service::{Dispatcher, MethodInfo, MethodKind, PollOnce, Service},
    };
}
