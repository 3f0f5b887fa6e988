//! A session that outlives its socket: what both ends say of it in HELLO and WELCOME.

use std::{fmt, time::Duration};

/// What a dialler that comes back to a session offers beside the session's subprotocol (W-NEG-11).
pub const RESUME_SUBPROTOCOL: &str = "wirecall.resume";

/// The longest token that is accepted from a peer, in bytes.
pub(super) const MAX_TOKEN_BYTES: usize = 128;

/// What proves that a dialler belongs to a session. Secret: whoever has it can take the session
/// over. It means something to the acceptor that made it, and nothing to anybody else.
#[derive(Clone, PartialEq, Eq)]
pub struct ResumeToken(pub(super) Box<str>);

impl ResumeToken {
    /// A token of the acceptor's own making: visible ASCII characters, at most 128.
    #[must_use]
    pub fn new(token: &str) -> Self {
        ResumeToken(token.into())
    }

    /// As it travels.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ResumeToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResumeToken(…)")
    }
}

/// What a dialler says that wants to go on with a session.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resume {
    /// Which session.
    pub token: ResumeToken,
    /// Counted frames that it has received.
    pub received: u64,
    /// Counted frames that it has sent.
    pub sent: u64,
}

/// What an acceptor offers beside the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) token: ResumeToken,
    /// How long the session waits for its dialler to come back.
    pub(crate) window: Duration,
}

/// Why a session does not go on. A new one begins on the same socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// There is no such session, or none any more: the acceptor was started anew, say.
    #[error("the session is not known")]
    Unknown,
    /// It was waited for long enough.
    #[error("the session has expired")]
    Expired,
    /// What one end has missed is not there any more.
    #[error("the session cannot go on without a gap")]
    Gap,
    /// It belongs to somebody else.
    #[error("the session belongs to another identity")]
    Identity,
}

impl Refusal {
    pub(super) fn to_wire(self) -> u64 {
        match self {
            Refusal::Unknown => 1,
            Refusal::Expired => 2,
            Refusal::Gap => 3,
            Refusal::Identity => 4,
        }
    }

    /// One that this version does not know ends the session as well.
    pub(super) fn from_wire(reason: u64) -> Self {
        match reason {
            2 => Refusal::Expired,
            3 => Refusal::Gap,
            4 => Refusal::Identity,
            _ => Refusal::Unknown,
        }
    }
}

/// How often an acceptor makes sure that the other end is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// After so long without a byte the peer is asked for a sign of life.
    pub interval: Duration,
    /// How long it may take to give one.
    pub timeout: Duration,
}

impl Heartbeat {
    /// After so long without a byte the peer is gone.
    #[must_use]
    pub fn dead_after(&self) -> Duration {
        self.interval.saturating_add(self.timeout)
    }
}

impl Default for Heartbeat {
    /// 25 s and 10 s: NAT boxes and proxies forget connections that are idle for minutes.
    fn default() -> Self {
        Heartbeat {
            interval: Duration::from_secs(25),
            timeout: Duration::from_secs(10),
        }
    }
}
