//! [`ConnectError`].

use std::{io, time::Duration};

use wirecall_core::{CloseCode, CloseReason, ClosedBy, Code, DuplicateService};

/// Why a client could not connect.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The URL cannot be used.
    #[error("{0}")]
    Url(String),
    /// No codec is on offer, so that no server could pick one.
    #[error("no codec is on offer")]
    NoCodec,
    /// A header cannot be sent.
    #[error("{0}")]
    Header(String),
    /// Two services of this client have the same name.
    #[error(transparent)]
    DuplicateService(#[from] DuplicateService),
    /// Nobody is reached there.
    #[error("cannot connect: {0}")]
    Io(#[from] io::Error),
    /// The server took longer than the connect timeout.
    #[error("not connected within {0:?}")]
    Timeout(Duration),
    /// The server answered the upgrade request with this instead.
    #[error("the server refused with status {status}: {body}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The first 4 KiB of the answer, which as a rule say in a line what is wrong.
        body: String,
    },
    /// The server's answer to the upgrade request breaks RFC 6455.
    #[error("bad handshake: {0}")]
    Handshake(String),
    /// The server does not speak HTTP, or broke off in the middle of it.
    #[error("no HTTP answer: {0}")]
    Http(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The connection ended before the server's WELCOME.
    #[error("{0}")]
    Closed(CloseReason),
}

impl ConnectError {
    /// Whether the server has found no valid credential, in the upgrade request or in the first frame.
    #[must_use]
    pub fn is_unauthenticated(&self) -> bool {
        match self {
            ConnectError::Refused { status, .. } => *status == 401,
            ConnectError::Closed(reason) if reason.by == ClosedBy::Peer => {
                let refusal = reason.refusal().map(|status| status.code());
                reason.code == CloseCode::UNAUTHENTICATED || refusal == Some(Code::UNAUTHENTICATED)
            }
            _ => false,
        }
    }
}
