//! The errors that a call ends with: the method's own, or a [`Status`].

use std::{convert::Infallible, fmt, time::Duration};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    body::{self, Codec},
    status::{Code, Fate, Status},
};

/// Why a call failed: the method's own error, or anything else as a [`Status`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallError<E = Infallible> {
    /// The handler returned its error.
    Method(E),
    /// Everything else: no connection, a deadline, a limit, an unknown method, a panic, or a
    /// handler whose error type is [`Status`] itself.
    Status(Status),
}

impl<E: RpcError> CallError<E> {
    /// The code that travelled.
    pub fn code(&self) -> Code {
        match self {
            CallError::Method(error) => error.status().code(),
            CallError::Status(status) => status.code(),
        }
    }
}

impl<E> CallError<E> {
    /// What is known of the call's execution.
    pub fn fate(&self) -> Fate {
        match self {
            CallError::Method(_) => Fate::Executed,
            CallError::Status(status) => status.fate(),
        }
    }

    /// How long to wait before another attempt, where the peer said so.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            CallError::Method(_) => None,
            CallError::Status(status) => status.retry_after(),
        }
    }

    /// The method's own error, if that is what it was.
    pub fn method(self) -> Option<E> {
        match self {
            CallError::Method(error) => Some(error),
            CallError::Status(_) => None,
        }
    }
}

impl<E: fmt::Display> fmt::Display for CallError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::Method(error) => error.fmt(f),
            CallError::Status(status) => status.fmt(f),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for CallError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            CallError::Method(error) => error.source(),
            CallError::Status(_) => None,
        }
    }
}

impl<E> From<Status> for CallError<E> {
    fn from(status: Status) -> Self {
        CallError::Status(status)
    }
}

/// Lets a handler that calls on to another peer use `?` when its own error is a [`Status`].
impl<E: RpcError> From<CallError<E>> for Status {
    fn from(error: CallError<E>) -> Self {
        match error {
            CallError::Method(error) => error.status(),
            // The fate is that of the inner call; the handler that passes it on was executed.
            CallError::Status(status) => status.with_fate(Fate::Executed),
        }
    }
}

/// An error type that a method can return.
///
/// Derive it on an enum or struct that also derives serde's traits and implements `Display`:
/// the code and the message (from `Display`) go into the ERROR frame where every peer can read
/// them, the value itself goes along as details, and the caller gets the same value back in
/// [`CallError::Method`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the error of an RPC method",
    label = "not an RPC error",
    note = "derive `wirecall::RpcError` for it (with `Serialize`, `Deserialize` and `Display`), \
            or return a `wirecall::Status`"
)]
pub trait RpcError: Sized + Send + 'static {
    /// Code and message for the ERROR frame.
    fn status(&self) -> Status;

    /// Writes the error's data, to be decoded by [`RpcError::from_wire`]. Nothing, where code and
    /// message say it all.
    #[doc(hidden)]
    fn encode_details(&self, details: DetailsWriter<'_>) -> Result<(), Status>;

    /// The error as its caller sees it; the status itself, where the frame carries none of this
    /// type.
    #[doc(hidden)]
    fn from_wire(status: Status, details: Details<'_>) -> CallError<Self>;
}

impl RpcError for Infallible {
    fn status(&self) -> Status {
        match *self {}
    }

    fn encode_details(&self, _: DetailsWriter<'_>) -> Result<(), Status> {
        match *self {}
    }

    fn from_wire(status: Status, _: Details<'_>) -> CallError<Self> {
        CallError::Status(status)
    }
}

impl RpcError for Status {
    fn status(&self) -> Status {
        self.clone()
    }

    fn encode_details(&self, _: DetailsWriter<'_>) -> Result<(), Status> {
        Ok(())
    }

    fn from_wire(status: Status, _: Details<'_>) -> CallError<Self> {
        CallError::Status(status)
    }
}

/// Where an error's data is written; see [`RpcError::encode_details`].
#[derive(Debug)]
pub struct DetailsWriter<'a> {
    codec: Codec,
    out: &'a mut Vec<u8>,
}

impl<'a> DetailsWriter<'a> {
    pub(crate) fn new(codec: Codec, out: &'a mut Vec<u8>) -> Self {
        DetailsWriter { codec, out }
    }

    /// Encodes the value as the details.
    pub fn write<T: Serialize>(self, value: &T) -> Result<(), Status> {
        body::encode(self.codec, value, self.out).map_err(|error| error.into_status())
    }
}

/// An error's data as it came from the peer; see [`RpcError::from_wire`].
#[derive(Debug, Clone, Copy)]
pub struct Details<'a> {
    codec: Codec,
    bytes: &'a [u8],
    executed: bool,
}

impl<'a> Details<'a> {
    pub(crate) fn new(codec: Codec, bytes: &'a [u8], executed: bool) -> Self {
        Details {
            codec,
            bytes,
            executed,
        }
    }

    /// Decodes the details as `E`. What is no error of this type (a refusal, a limit, an unknown
    /// method) has none and stays a status.
    pub fn read<E: RpcError + DeserializeOwned>(self, status: Status) -> CallError<E> {
        if !self.executed || self.bytes.is_empty() {
            return CallError::Status(status);
        }
        match body::decode::<E>(self.codec, self.bytes) {
            // The code tells a unit struct from the `null` that stands for "no details" in JSON.
            Ok(error) if error.status().code() == status.code() => CallError::Method(error),
            _ => CallError::Status(status),
        }
    }
}
