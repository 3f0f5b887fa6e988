//! What went wrong with a call: a code, a message, and what happened to the call.

use std::{borrow::Cow, fmt, time::Duration};

/// The code of an error, as it stands in an ERROR frame.
///
/// 1 to 16 are gRPC's canonical status codes, with the same numbers and the same meaning
/// (<https://grpc.io/docs/guides/status-codes/>); 17 to 63 are reserved for Wirecall; 64 and
/// up belong to the application.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(u16);

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $value:literal,)*) => {
        impl Code {
            $($(#[$doc])* pub const $name: Code = Code($value);)*

            fn canonical_name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

codes! {
    /// The call was cancelled, as a rule by its caller.
    CANCELLED = 1,
    /// An error of no known kind.
    UNKNOWN = 2,
    /// An argument is wrong, whatever the state of the service.
    INVALID_ARGUMENT = 3,
    /// The deadline passed before the call ended.
    DEADLINE_EXCEEDED = 4,
    /// Something that was asked for does not exist.
    NOT_FOUND = 5,
    /// Something that was to be made exists already.
    ALREADY_EXISTS = 6,
    /// The caller is known and may not do this.
    PERMISSION_DENIED = 7,
    /// A limit was reached: calls in flight, the size of a body, a quota.
    RESOURCE_EXHAUSTED = 8,
    /// The state of the service does not allow this call.
    FAILED_PRECONDITION = 9,
    /// The call was given up, as a rule for a conflict with another one.
    ABORTED = 10,
    /// Past the valid range.
    OUT_OF_RANGE = 11,
    /// The peer has no such service or method.
    UNIMPLEMENTED = 12,
    /// A defect: a handler panicked, a value could not be encoded.
    INTERNAL = 13,
    /// The peer cannot be reached now; a later attempt may succeed.
    UNAVAILABLE = 14,
    /// Data was lost or is corrupt beyond repair.
    DATA_LOSS = 15,
    /// The caller has no valid credential.
    UNAUTHENTICATED = 16,
}

impl Code {
    /// The code with this number. 0 is no error code and becomes [`Code::UNKNOWN`].
    #[must_use]
    pub const fn new(value: u16) -> Self {
        if value == 0 {
            Code::UNKNOWN
        } else {
            Code(value)
        }
    }

    /// The number that travels in an ERROR frame.
    #[must_use]
    pub const fn value(self) -> u16 {
        self.0
    }

    /// Whether the number belongs to the application (64 and up).
    #[must_use]
    pub const fn is_application(self) -> bool {
        self.0 >= 64
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.canonical_name() {
            Some(name) => f.write_str(name),
            None => write!(f, "code {}", self.0),
        }
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// What is known of a failed call's execution. A caller decides on a retry from this and from
/// the [`Code`], never from the text of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fate {
    /// The request never left this process: a retry is safe.
    NotSent,
    /// The peer says that it did not start the call: a retry is safe.
    NotExecuted,
    /// The request was sent and nothing is known of what became of it.
    Unknown,
    /// The call was executed, wholly or in part.
    Executed,
}

impl Fate {
    /// Whether the call has certainly had no effect, so that it may be made again.
    #[must_use]
    pub const fn is_safe_to_retry(self) -> bool {
        matches!(self, Fate::NotSent | Fate::NotExecuted)
    }

    /// The number in an ERROR frame's option 1; absent means [`Fate::Executed`].
    pub(crate) const fn to_wire(self) -> u64 {
        match self {
            Fate::Executed => 0,
            Fate::NotExecuted => 1,
            Fate::Unknown => 2,
            Fate::NotSent => 3,
        }
    }

    /// The reverse of [`Fate::to_wire`]. What a later version may add reads as `Unknown`.
    pub(crate) const fn from_wire(value: u64) -> Self {
        match value {
            0 => Fate::Executed,
            1 => Fate::NotExecuted,
            _ => Fate::Unknown,
        }
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fate::NotSent => "not sent",
            Fate::NotExecuted => "not executed",
            Fate::Unknown => "fate unknown",
            Fate::Executed => "executed",
        })
    }
}

/// An error with a code, a message that is safe to show to the peer, and the call's [`Fate`].
///
/// Every failure of a call that is not the method's own typed error is a `Status`; a method may
/// also use it as its error type:
///
/// ```
/// use wirecall_core::{Code, Status};
///
/// fn find(room: &str) -> Result<u64, Status> {
///     Err(Status::new(Code::NOT_FOUND, format!("no room {room:?}")))
/// }
/// assert_eq!(find("attic").unwrap_err().code(), Code::NOT_FOUND);
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Status(Box<Inner>);

#[derive(Clone, PartialEq, Eq)]
struct Inner {
    code: Code,
    message: Cow<'static, str>,
    fate: Fate,
    retry_after: Option<Duration>,
}

impl Status {
    /// A status with [`Fate::Executed`], which is what a handler's own errors mean.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Status(Box::new(Inner {
            code,
            message: message.into(),
            fate: Fate::Executed,
            retry_after: None,
        }))
    }

    /// Sets what is known of the call's execution.
    #[must_use]
    pub fn with_fate(mut self, fate: Fate) -> Self {
        self.0.fate = fate;
        self
    }

    /// Tells the caller when another attempt may succeed. Travels in whole milliseconds.
    #[must_use]
    pub fn with_retry_after(mut self, retry_after: Duration) -> Self {
        self.0.retry_after = Some(retry_after);
        self
    }

    /// The code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The message, for people. Not for decisions.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What is known of the call's execution.
    #[must_use]
    pub fn fate(&self) -> Fate {
        self.0.fate
    }

    /// How long to wait before another attempt, where the peer said so.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.code, self.0.message)
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Status");
        debug
            .field("code", &self.0.code)
            .field("message", &self.0.message)
            .field("fate", &self.0.fate);
        if let Some(retry_after) = self.0.retry_after {
            debug.field("retry_after", &retry_after);
        }
        debug.finish()
    }
}

impl std::error::Error for Status {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_prints_its_canonical_name_or_its_number() {
        assert_eq!(Code::DEADLINE_EXCEEDED.to_string(), "DEADLINE_EXCEEDED");
        assert_eq!(Code::new(70).to_string(), "code 70");
        assert_eq!(Code::new(0), Code::UNKNOWN);
    }

    #[test]
    fn a_fate_survives_the_wire_and_an_unknown_one_is_unknown() {
        for fate in [Fate::Executed, Fate::NotExecuted, Fate::Unknown] {
            assert_eq!(Fate::from_wire(fate.to_wire()), fate);
        }
        assert_eq!(Fate::from_wire(99), Fate::Unknown);
    }
}
