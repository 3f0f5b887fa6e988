//! Protocol, codecs and connection engine of [Wirecall](https://docs.rs/wirecall).
//!
//! Users depend on the `wirecall` crate, which re-exports what they need. The layers, from the
//! wire up:
//!
//! - [`protocol`]: frames and the state of one connection, without I/O
//! - [`body`]: what stands in a frame's payload

pub mod body;
mod close;
mod error;
mod limits;
mod metadata;
mod method;
pub mod protocol;
mod status;

pub use body::{Codec, bytes::Bytes};
pub use close::{CloseCode, CloseReason, ClosedBy};
pub use error::{CallError, Details, DetailsWriter, RpcError};
pub use limits::Limits;
pub use metadata::{Metadata, MetadataValue};
pub use method::{MAX_ALIASES, Method, Methods};
pub use status::{Code, Fate, Status};
