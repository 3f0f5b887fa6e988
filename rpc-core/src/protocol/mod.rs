//! The protocol without I/O: bytes in, events out; commands in, bytes out. No sockets, no clock.
//!
//! - [`frame`](Frame): the kinds of frames; `messagepack` and `json` read and write them
//! - [`options`](Options): the map that a frame may carry
//! - [`packer`](Packer): frames packed into messages
//! - [`event`](Event): what the outside has to do
//! - [`connection`](Connection): one end of a connection, made of
//!   - `handshake`: HELLO and WELCOME
//!   - `resume`: what they say of a session that outlives its socket
//!   - `token`: what a dialler proves with who it is
//!   - `calls`: the pending table of this end's calls
//!   - `inbound`: the peer's calls
//!   - `stream`, `item_queue`: credit, and items that wait to be taken
//!   - `outbox`: what waits to be written, and in which order it goes
//!   - `replay`: what was sent and may have to be sent again
//!   - `topic`: where a subscriber stands, as REQUEST and OPEN say it
//!   - `large`, `assembly`: bodies that go and come in pieces
//!   - `waiters`: callers that wait for room
//!   - `backlog`: notifications that are kept for a peer that is behind
//!   - `slots`: the numbers in ids
//!   - `failure`: errors as they travel

mod assembly;
mod backlog;
mod calls;
mod connection;
mod event;
mod failure;
mod frame;
mod handshake;
mod inbound;
#[cfg(test)]
mod interleaving;
mod item_queue;
mod json;
mod large;
mod levels;
mod messagepack;
mod options;
mod outbox;
mod packer;
mod replay;
mod resume;
mod slots;
mod stream;
mod token;
mod topic;
mod waiters;

pub(crate) use calls::{Answer, Failure, Received, Small, earliest};
pub(crate) use connection::{
    Admission, EncodedItems, EncodedNotification, Offered, Outgoing, Started, StreamRef,
    StreamSpec, Told,
};
pub use connection::{Connection, GoAway};
pub use event::{Body, Event, Events, MethodKind, ProtocolError, Resolve, Target};
pub(crate) use failure::{body_too_large, closed_status, error_frame, error_options};
pub use frame::{
    CallId, ChunkState, Frame, FrameError, Frames, Head, MAX_METHOD_NAME_BYTES, MethodRef,
    Position, Side, next_frame,
};
pub use handshake::PeerLimits;
pub(crate) use handshake::deadline_ms;
pub(crate) use item_queue::ItemQueue;
pub(crate) use large::{FIRST_PIECE_BYTES, TOTAL_BYTES};
pub(crate) use messagepack::{
    RESPONSE_ROOM, begin_item, check_value, complete_response, end_item, put_uint,
};
pub use options::{EncodedOptions, OptionKey, OptionValue, Options, OptionsBuilder};
pub use packer::{Batch, Packer};
pub(crate) use resume::Offer;
pub use resume::{Heartbeat, RESUME_SUBPROTOCOL, Refusal, Resume, ResumeToken};
pub use stream::StreamCredit;
pub(crate) use stream::{PRIORITY, STREAM_BYTES, STREAM_ITEMS, STREAMS, SendRoom};
pub use token::{MAX_CREDENTIAL_BYTES, Token};
pub use topic::TopicPosition;
pub(crate) use topic::{Opening, PositionReader, Standing};
pub(crate) use waiters::Ticket;
