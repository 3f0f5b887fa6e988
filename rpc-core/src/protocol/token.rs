//! What a dialler says to prove who it is.

use std::fmt;

use super::options::{OptionKey, OptionValue, Options};

/// The longest token that is accepted from a peer, in bytes.
pub const MAX_CREDENTIAL_BYTES: usize = 8 << 10;

/// What a dialler proves with who it is: a session key, a signed token. Secret: it is not printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Box<str>);

impl Token {
    /// Any text, as the acceptor's authenticator wants it. One of more than [`MAX_CREDENTIAL_BYTES`] is
    /// read as none.
    pub fn new(token: impl Into<String>) -> Self {
        Token(token.into().into_boxed_str())
    }

    /// As it travels.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The one under this key, if it is one.
    pub(super) fn read(options: Options<'_>, key: u64) -> Option<Self> {
        options.entries().find_map(|(other, value)| match value {
            OptionValue::Text(text)
                if other == OptionKey::Integer(key) && text.len() <= MAX_CREDENTIAL_BYTES =>
            {
                Some(Token(text.into()))
            }
            _ => None,
        })
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}
