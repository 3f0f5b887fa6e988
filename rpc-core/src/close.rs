//! How a connection ends, and what its peer should do then.

use std::fmt;

use crate::status::{Code, Fate, Status};

/// A WebSocket close code (RFC 6455 §7.4).
///
/// The codes of Wirecall say what to do by their hundreds digit: 40xx is fatal, something has to
/// be fixed; 41xx asks for a new credential or for dropping state, then for a new connection;
/// 42xx asks for a new connection now; 43xx asks to back off first.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CloseCode(u16);

macro_rules! close_codes {
    ($($(#[$doc:meta])* $name:ident = $value:literal,)*) => {
        impl CloseCode {
            $($(#[$doc])* pub const $name: CloseCode = CloseCode($value);)*
        }
    };
}

close_codes! {
    /// The end has done what it came for.
    NORMAL = 1000,
    /// The server goes down or the page is left; reconnect with backoff.
    GOING_AWAY = 1001,
    /// A message of the wrong type: text on a MessagePack connection, or binary on a JSON one.
    UNSUPPORTED_DATA = 1003,
    /// Never sent: the connection broke without a Close frame. Reconnect with backoff.
    ABNORMAL = 1006,
    /// A message larger than the limit.
    MESSAGE_TOO_BIG = 1009,
    /// A message that is no sequence of frames.
    FRAMING = 4000,
    /// A frame that is not allowed here: no HELLO at first, an id that is live or of the wrong side,
    /// an alias defined twice, an option that must be understood and is not.
    PROTOCOL = 4001,
    /// No HELLO or WELCOME in time.
    HELLO_TIMEOUT = 4002,
    /// Far more was sent than any limit announced allows.
    FLOOD = 4003,
    /// Nobody comes in here without a valid credential, or with this one: get a new one, and connect
    /// again.
    UNAUTHENTICATED = 4100,
    /// The credential has run out, and no new one has come: get one, and connect again.
    CREDENTIAL_EXPIRED = 4101,
    /// The server has ended all sessions of this user: get a new credential, and connect again.
    SESSION_ENDED = 4102,
    /// The session went on, and this end has not got all of it: drop it, and begin another one.
    GAP = 4104,
    /// Half the calls that may be in flight were given up and stayed unanswered.
    TOMBSTONES = 4105,
    /// The peer has not kept up with notifications that may not be missed: drop what is known, and
    /// begin another session.
    BEHIND = 4106,
    /// The server takes its leave: connect again, here or elsewhere.
    MOVED = 4200,
    /// Writes to the peer made no progress; it does not read, or is gone.
    WRITE_STALL = 4301,
}

impl CloseCode {
    /// The code with this number.
    #[must_use]
    pub const fn new(value: u16) -> Self {
        CloseCode(value)
    }

    /// The number in the Close frame.
    #[must_use]
    pub const fn value(self) -> u16 {
        self.0
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The last of gRPC's codes.
const LAST_CANONICAL: u16 = Code::UNAUTHENTICATED.value();

fn is_canonical(code: &u16) -> bool {
    (1..=LAST_CANONICAL).contains(code)
}

/// Why a connection has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseReason {
    /// The code that this end or the other gave; [`CloseCode::ABNORMAL`] where none could.
    pub code: CloseCode,
    /// For people.
    pub message: String,
    /// Who ended it.
    pub by: ClosedBy,
}

/// Who ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClosedBy {
    /// This end.
    Local,
    /// The peer, with a Close frame.
    Peer,
    /// Neither: the transport failed.
    Transport,
}

/// What is added to the code of a status with which somebody was not let in: the hundreds digit of
/// the close code says what to do.
const REFUSED: [u16; 3] = [4050, 4150, 4350];

impl CloseReason {
    /// A session was refused with this status. A code beyond the canonical ones goes as `UNKNOWN`.
    pub(crate) fn refused(status: &Status) -> Self {
        let [fatal, credential, later] = REFUSED;
        let canonical = Some(status.code()).filter(|code| code.value() <= LAST_CANONICAL);
        let code = canonical.unwrap_or(Code::UNKNOWN);
        let base = match code {
            Code::UNAUTHENTICATED => credential,
            Code::UNAVAILABLE
            | Code::RESOURCE_EXHAUSTED
            | Code::ABORTED
            | Code::DEADLINE_EXCEEDED => later,
            _ => fatal,
        };
        CloseReason::local(CloseCode::new(base + code.value()), status.message())
    }

    /// What the server has refused the client with when its session was about to begin, or nothing
    /// if it has ended for another reason. The message is cut at 123 bytes.
    #[must_use]
    pub fn refusal(&self) -> Option<Status> {
        let code = self.code.value();
        let code = REFUSED
            .iter()
            .find_map(|base| code.checked_sub(*base).filter(is_canonical))?;
        let status = Status::new(Code::new(code), self.message.clone());
        Some(status.with_fate(Fate::NotExecuted))
    }

    pub(crate) fn local(code: CloseCode, message: impl Into<String>) -> Self {
        CloseReason {
            code,
            message: message.into(),
            by: ClosedBy::Local,
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = match self.by {
            ClosedBy::Local => "closed by this end",
            ClosedBy::Peer => "closed by the peer",
            ClosedBy::Transport => "connection lost",
        };
        write!(f, "{by} ({})", self.code)?;
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        Ok(())
    }
}
