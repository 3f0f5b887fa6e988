//! Large bodies on their way in: put together from pieces.

use std::{borrow::Cow, collections::HashMap};

use tokio::time::Instant;

use super::{
    frame::{CallId, Head, MethodRef},
    large::{self, TOTAL_BYTES},
    options::{EncodedOptions, Options, OptionsBuilder},
};
use crate::body::Codec;

/// So many times what has come of a body is reserved for what is to come.
const GROWTH: usize = 3;

/// The bodies of which pieces are missing.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    bodies: HashMap<CallId, Partial>,
    /// Bytes that have come, those of options included.
    bytes: usize,
}

/// A frame whose body is not complete.
#[derive(Debug)]
pub(super) struct Partial {
    pub(super) head: Head<'static>,
    pub(super) options: EncodedOptions,
    pub(super) body: Vec<u8>,
    /// When its first piece came.
    pub(super) since: Instant,
    total: usize,
    /// Bytes that are kept beside the body.
    beside: usize,
}

/// Why a piece cannot be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// More bytes than were announced.
    TooLong,
    /// More bytes are being put together than may be.
    Full,
}

impl Assembly {
    /// Whether a body of this key is being put together.
    #[inline]
    pub(super) fn contains(&self, key: CallId) -> bool {
        !self.bodies.is_empty() && self.bodies.contains_key(&key)
    }

    /// Begins with the first piece. What `total` claims reserves nothing.
    pub(super) fn begin(
        &mut self,
        key: CallId,
        head: &Head<'_>,
        options: EncodedOptions,
        total: usize,
        since: Instant,
    ) {
        let text = match head {
            Head::Error { message, .. } => message.len(),
            _ => 0,
        };
        let beside = options.as_options().raw().len() + text;
        self.bytes += beside;
        let partial = Partial {
            head: own(head),
            options,
            beside,
            body: Vec::new(),
            since,
            total,
        };
        if let Some(replaced) = self.bodies.insert(key, partial) {
            self.bytes -= replaced.body.len() + replaced.beside;
        }
    }

    /// Adds a piece. Nothing happens if no body of this key is being put together.
    pub(super) fn add(&mut self, key: CallId, piece: &[u8], limit: usize) -> Result<(), Refused> {
        let Some(partial) = self.bodies.get_mut(&key) else {
            return Ok(());
        };
        if piece.len() > partial.total - partial.body.len() {
            return Err(Refused::TooLong);
        }
        if self.bytes + piece.len() > limit {
            return Err(Refused::Full);
        }
        self.bytes += piece.len();
        if partial.body.capacity() - partial.body.len() < piece.len() {
            // A few times what has come, and no more than was announced: growing by halves would
            // copy a large body several times, while others wait.
            let missing = partial.total - partial.body.len();
            let growth = (GROWTH * partial.body.len()).max(piece.len());
            partial.body.reserve_exact(growth.min(missing));
        }
        partial.body.extend_from_slice(piece);
        Ok(())
    }

    /// Takes a body out, complete or not.
    pub(super) fn take(&mut self, key: CallId) -> Option<Partial> {
        let partial = self.bodies.remove(&key)?;
        self.bytes -= partial.body.len() + partial.beside;
        Some(partial)
    }
}

impl Partial {
    /// Whether as much has come as was announced.
    pub(super) fn is_whole(&self) -> bool {
        self.body.len() == self.total
    }
}

/// The options without the one that says that pieces follow.
pub(super) fn without_total(codec: Codec, options: Options<'_>) -> EncodedOptions {
    OptionsBuilder::from_options(codec, options, Some(TOTAL_BYTES)).finish()
}

fn own(head: &Head<'_>) -> Head<'static> {
    match head {
        Head::Request { id, method } => Head::Request {
            id: *id,
            method: own_method(method),
        },
        Head::Notify { method } => Head::Notify {
            method: own_method(method),
        },
        Head::Error { id, code, message } => Head::Error {
            id: *id,
            code: *code,
            message: Cow::Owned(message.clone().into_owned()),
        },
        Head::Item { id } => Head::Item { id: *id },
        // Only kinds with a payload are put together.
        _ => match large::key(head) {
            Some(id) => Head::Response { id },
            None => Head::Hello,
        },
    }
}

fn own_method(method: &MethodRef<'_>) -> MethodRef<'static> {
    match method {
        MethodRef::Name(name) => MethodRef::Name(Cow::Owned(name.clone().into_owned())),
        MethodRef::Alias(alias) => MethodRef::Alias(*alias),
    }
}
