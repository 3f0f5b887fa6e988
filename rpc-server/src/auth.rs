//! Who may come in: what an authenticator is asked, and the one that is ready-made.

use std::fmt;

use async_trait::async_trait;
use wirecall_core::{AuthError, ConnectionInfo, Identity};

/// Finds out who a client is, once for each connection: its calls are not asked again.
///
/// ```
/// use wirecall_core::{AuthError, Identity};
/// use wirecall_server::{AuthRequest, Authenticator, async_trait};
///
/// struct Sessions;
///
/// #[async_trait]
/// impl Authenticator for Sessions {
///     async fn authenticate(&self, request: &AuthRequest<'_>) -> Result<Identity, AuthError> {
///         match request.token() {
///             Some("alice's") => Ok(Identity::new("alice").with_scopes(["chat"])),
///             _ => Err(AuthError::refused()),
///         }
///     }
/// }
/// ```
///
/// A credential in the upgrade request is asked about before the upgrade, which is answered with 401 if
/// it is refused and with 503 if nobody can say now; a client that says none there is asked for the one
/// in its first frame.
///
/// It is also asked when a client comes back to a session, which goes on only for the same user, and
/// when a client sends a new credential because the old one runs out, which has to be the same user's.
/// Each connection is asked about in its own task: one that takes long holds up nobody else. After
/// [`Limits::hello_timeout`](wirecall_core::Limits::hello_timeout) it is given up. A panic counts as
/// [`AuthError::Unavailable`].
#[async_trait]
pub trait Authenticator: Send + Sync + 'static {
    /// Says who this is, or why nobody is let in.
    ///
    /// # Errors
    /// [`AuthError`]. The client is told what is in it.
    async fn authenticate(&self, request: &AuthRequest<'_>) -> Result<Identity, AuthError>;
}

/// Somebody who wants to come in.
#[non_exhaustive]
pub struct AuthRequest<'a> {
    /// The upgrade request: path, headers, addresses. Empty for a connection within the process.
    ///
    /// What is secret is in [`AuthRequest::credential`] alone: `Authorization`, `Cookie`, and the
    /// subprotocol with a credential have been taken out.
    pub connection: &'a ConnectionInfo,
    /// What the client proves with who it is, if it has said anything.
    pub credential: Option<Credential<'a>>,
}

impl AuthRequest<'_> {
    /// The credential, wherever it stands.
    #[must_use]
    pub fn token(&self) -> Option<&str> {
        self.credential.map(|credential| credential.as_str())
    }
}

/// The credential, and without it, that there is one.
impl fmt::Debug for AuthRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthRequest")
            .field("connection", self.connection)
            .field("credential", &self.credential)
            .finish()
    }
}

/// What a client proves with who it is, and where that stands. Of several in the upgrade request the
/// first of these counts, and has to be valid. One in HELLO counts in its place.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Credential<'a> {
    /// In HELLO, or sent later in its place. What [`ClientBuilder::token`] gives; browsers can do
    /// that, and it stands in no log.
    ///
    /// [`ClientBuilder::token`]: https://docs.rs/wirecall/latest/wirecall/struct.ClientBuilder.html
    Hello(&'a str),
    /// In the header `Authorization: Bearer …`.
    Header(&'a str),
    /// In `Sec-WebSocket-Protocol`, as `wirecall.bearer.` and base64 without padding (RFC 4648 §5).
    Subprotocol(&'a str),
    /// In the cookie of [`ServerBuilder::cookie_auth`](crate::ServerBuilder::cookie_auth).
    Cookie(&'a str),
}

impl<'a> Credential<'a> {
    /// The text itself.
    #[must_use]
    pub fn as_str(&self) -> &'a str {
        match *self {
            Credential::Hello(token)
            | Credential::Header(token)
            | Credential::Subprotocol(token)
            | Credential::Cookie(token) => token,
        }
    }
}

/// Where it stands, and not what it is.
impl fmt::Debug for Credential<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Credential::Hello(_) => "Hello(…)",
            Credential::Header(_) => "Header(…)",
            Credential::Subprotocol(_) => "Subprotocol(…)",
            Credential::Cookie(_) => "Cookie(…)",
        })
    }
}

/// A fixed list of tokens, for small set-ups: each is one user's, whatever way it comes in.
///
/// ```
/// use wirecall_core::Identity;
/// use wirecall_server::StaticTokens;
///
/// let tokens = StaticTokens::new()
///     .token("3yZ0…", Identity::new("alice").with_scopes(["admin"]))
///     .token("Qm7x…", Identity::new("bob"));
/// ```
///
/// Tokens are drawn at random and long, such as 32 characters of base64: they are compared so that
/// the time tells nothing of them, but nothing slows down who guesses.
#[derive(Clone, Default)]
pub struct StaticTokens(Vec<(Box<str>, Identity)>);

impl StaticTokens {
    /// Nobody yet.
    #[must_use]
    pub fn new() -> Self {
        StaticTokens::default()
    }

    /// Whoever has this token is this. Of two that are the same the last one counts.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>, identity: Identity) -> Self {
        self.0.push((token.into().into_boxed_str(), identity));
        self
    }

    /// Looks at all of them, whichever it is.
    fn find(&self, given: &str) -> Option<&Identity> {
        let mut found = None;
        for (token, identity) in &self.0 {
            if is_same(token.as_bytes(), given.as_bytes()) {
                found = Some(identity);
            }
        }
        found.filter(|_| !given.is_empty())
    }
}

/// In the same time wherever they differ; only the length may show.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    let differing = one.iter().zip(other).fold(0, |all, (a, b)| all | (a ^ b));
    one.len() == other.len() && std::hint::black_box(differing) == 0
}

#[async_trait]
impl Authenticator for StaticTokens {
    async fn authenticate(&self, request: &AuthRequest<'_>) -> Result<Identity, AuthError> {
        let identity = request.token().and_then(|token| self.find(token));
        identity.cloned().ok_or_else(AuthError::refused)
    }
}

/// The users, and not their tokens.
impl fmt::Debug for StaticTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let identities = self.0.iter().map(|(_, identity)| identity);
        f.debug_list().entries(identities).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_two_that_are_the_same_counts_and_nobody_has_none() {
        let tokens = StaticTokens::new()
            .token("", Identity::new("nobody"))
            .token("one", Identity::new("alice"))
            .token("one", Identity::new("bob"));
        let user = |token| tokens.find(token).map(|own| own.user().to_owned());
        assert_eq!(user("one").as_deref(), Some("bob"));
        for other in ["", "on", "onee", "One"] {
            assert_eq!(user(other), None, "{other}");
        }
    }

    #[test]
    fn no_token_is_printed() {
        let tokens = StaticTokens::new().token("hush", Identity::new("alice"));
        let request = AuthRequest {
            connection: &ConnectionInfo::default(),
            credential: Some(Credential::Cookie("hush")),
        };
        let printed = format!("{tokens:?} {request:?}");
        assert!(
            printed.contains("alice") && !printed.contains("hush"),
            "{printed}"
        );
    }
}
