//! Who is at the other end.

use std::{
    any::Any,
    borrow::Cow,
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

/// Who is at the other end of a session, as the server's authenticator has found out: a user, what
/// they may do, and until when that holds.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use wirecall_core::Identity;
///
/// #[derive(Debug, PartialEq)]
/// struct Claims {
///     tenant: u32,
/// }
///
/// let alice = Identity::new("alice")
///     .with_claims(Claims { tenant: 7 })
///     .with_scopes(["chat", "chat.moderate"])
///     .with_expiry(SystemTime::now() + Duration::from_secs(3600));
/// assert_eq!(alice.user(), "alice");
/// assert_eq!(alice.claims(), Some(&Claims { tenant: 7 }));
/// assert!(alice.has_scope("chat") && !alice.has_scope("admin"));
/// ```
///
/// A cheap clone.
#[derive(Clone)]
pub struct Identity(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    user: Arc<str>,
    /// Of a type of the application's own.
    claims: Option<Arc<dyn Any + Send + Sync>>,
    scopes: Vec<Box<str>>,
    expires: Option<SystemTime>,
}

impl Identity {
    /// That of a user, without claims and scopes, which does not expire. An empty string is no user:
    /// a server refuses whoever has it.
    pub fn new(user: impl Into<String>) -> Self {
        Identity(Arc::new(Inner {
            user: user.into().into(),
            claims: None,
            scopes: Vec::new(),
            expires: None,
        }))
    }

    /// Sets what else the application knows of the user, of a type of its own.
    #[must_use]
    pub fn with_claims<T: Any + Send + Sync>(mut self, claims: T) -> Self {
        self.change().claims = Some(Arc::new(claims));
        self
    }

    /// Sets what the user may do, for methods that say what one needs: `#[rpc(scope = "…")]`.
    #[must_use]
    pub fn with_scopes<S: Into<String>>(mut self, scopes: impl IntoIterator<Item = S>) -> Self {
        let scopes = scopes
            .into_iter()
            .map(|scope| scope.into().into_boxed_str());
        self.change().scopes = scopes.collect();
        self
    }

    /// Sets until when the identity holds. The client needs a new credential before.
    #[must_use]
    pub fn with_expiry(mut self, expires: SystemTime) -> Self {
        self.change().expires = Some(expires);
        self
    }

    /// The user, by what the application knows them by. It is the same for as long as a session
    /// lives, and not empty there.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.0.user
    }

    /// What else the application knows of the user; nothing, if that is of another type.
    #[must_use]
    pub fn claims<T: Any>(&self) -> Option<&T> {
        self.0.claims.as_deref()?.downcast_ref()
    }

    /// Whether the user may do this.
    #[must_use]
    pub fn has_scope(&self, scope: &str) -> bool {
        self.0.scopes.iter().any(|own| **own == *scope)
    }

    /// What the user may do.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        self.0.scopes.iter().map(|scope| &**scope)
    }

    /// Until when it holds; for ever, if that is not said.
    #[must_use]
    pub fn expires(&self) -> Option<SystemTime> {
        self.0.expires
    }

    /// Whether it is one of somebody, and holds now. A server refuses whoever has another.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        !self.user().is_empty() && self.left().is_none_or(|left| !left.is_zero())
    }

    pub(crate) fn shared_user(&self) -> Arc<str> {
        self.0.user.clone()
    }

    /// For how much longer it holds; for ever, if that is `None`.
    pub(crate) fn left(&self) -> Option<Duration> {
        let expires = self.0.expires?;
        let left = expires.duration_since(SystemTime::now());
        Some(left.unwrap_or_default())
    }

    fn change(&mut self) -> &mut Inner {
        Arc::make_mut(&mut self.0)
    }
}

/// Without the claims, which may be anything.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("user", &self.0.user)
            .field("scopes", &self.0.scopes)
            .field("expires", &self.0.expires)
            .finish_non_exhaustive()
    }
}

/// Why somebody is not let in, as an authenticator says it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// The credential is not valid, or there is none. The connection is closed with 4100, and the
    /// client is told this: nothing secret, and nothing that helps to guess.
    #[error("{0}")]
    Refused(Cow<'static, str>),
    /// It cannot be told now: a database is out of reach, say. The client is asked to come back later
    /// (1013); one that is in already stays in until its credential runs out.
    #[error("cannot be authenticated now")]
    Unavailable,
}

impl AuthError {
    /// [`AuthError::Refused`], without saying why.
    #[must_use]
    pub fn refused() -> Self {
        AuthError::Refused(Cow::Borrowed("no valid credential"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_found_under_their_own_type_alone() {
        let identity = Identity::new("alice").with_claims(7_u32);
        assert_eq!(identity.claims::<u32>(), Some(&7));
        assert_eq!(identity.claims::<u64>(), None);
        assert_eq!(Identity::new("bob").claims::<u32>(), None);
    }

    #[test]
    fn a_clone_keeps_what_it_was_when_another_is_changed() {
        let first = Identity::new("alice").with_scopes(["read"]);
        let second = first.clone().with_scopes(["read", "write"]);
        assert!(!first.has_scope("write"));
        assert!(second.has_scope("write"));
    }

    #[test]
    fn claims_are_not_printed() {
        let printed = format!("{:?}", Identity::new("alice").with_claims("secret"));
        assert!(
            printed.contains("alice") && !printed.contains("secret"),
            "{printed}"
        );
    }
}
