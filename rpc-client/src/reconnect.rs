//! When a client that has lost its connection tries again, and what it can change about the attempt.

use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, header};
use wirecall_core::{CloseCode, CloseReason, ClosedBy, protocol::Token};

use crate::{endpoint::Endpoint, error::ConnectError};

/// How long a client waits before it tries again: a random time between nothing and a bound that
/// doubles with each attempt in vain ("full jitter"), so that many clients do not come back at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The bound before the first attempt. 250 ms.
    pub first: Duration,
    /// The largest bound. 30 s.
    pub max: Duration,
    /// A connection that has lasted so long was a good one: the next attempt is a first one. 10 s.
    pub stable_after: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff {
            first: Duration::from_millis(250),
            max: Duration::from_secs(30),
            stable_after: Duration::from_secs(10),
        }
    }
}

impl Backoff {
    /// The bound before this attempt, the first one being 0.
    fn bound(&self, attempt: u32) -> Duration {
        let factor = 2_u32.saturating_pow(attempt.min(31));
        self.first.saturating_mul(factor).min(self.max)
    }

    /// How long to wait before this attempt.
    pub(crate) fn delay(&self, attempt: u32) -> Duration {
        jitter(self.bound(attempt))
    }
}

/// A random time up to this one.
pub(crate) fn jitter(bound: Duration) -> Duration {
    bound.mul_f64(rand::random::<f64>())
}

/// An attempt to connect, as a hook sees it before it is made.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub(crate) number: u32,
    pub(crate) endpoint: Endpoint,
    pub(crate) headers: HeaderMap,
    /// What HELLO says.
    pub(crate) token: Option<Token>,
}

impl Attempt {
    /// 0 for the first one; counted anew after each connection that was stable.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Where it goes.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Lets it go elsewhere.
    #[must_use]
    pub fn to(mut self, endpoint: impl Into<Endpoint>) -> Self {
        self.endpoint = endpoint.into();
        self
    }

    /// Sets what the client says of who it is, in its first frame: a fresh token, say. It is not
    /// printed.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(Token::new(token));
        self
    }

    /// Sets a header of the upgrade request, in place of one of the same name: a fresh token, say.
    ///
    /// # Errors
    /// [`ConnectError::Header`], when name or value cannot stand in a header.
    pub fn header(mut self, name: &str, value: &str) -> Result<Self, ConnectError> {
        let (name, value) = header(name, value).map_err(ConnectError::Header)?;
        self.headers.insert(name, value);
        Ok(self)
    }
}

/// A header that a user wants to be sent.
pub(crate) fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), String> {
    let parsed: HeaderName = name
        .parse()
        .map_err(|_| format!("bad header name {name:?}"))?;
    let mut value: HeaderValue = value
        .parse()
        .map_err(|_| format!("bad value for the header {name}"))?;
    // Such are not printed.
    let is_secret = [header::AUTHORIZATION, header::COOKIE].contains(&parsed);
    value.set_sensitive(is_secret);
    Ok((parsed, value))
}

type Prepared = Pin<Box<dyn Future<Output = Result<Attempt, ConnectError>> + Send>>;

/// What is called before each attempt.
#[derive(Clone)]
pub(crate) struct Hook(Arc<dyn Fn(Attempt) -> Prepared + Send + Sync>);

impl Hook {
    pub(crate) fn new<F>(hook: impl Fn(Attempt) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Attempt, ConnectError>> + Send + 'static,
    {
        Hook(Arc::new(move |attempt| Box::pin(hook(attempt))))
    }

    pub(crate) async fn prepare(&self, attempt: Attempt) -> Result<Attempt, ConnectError> {
        (self.0)(attempt).await
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hook")
    }
}

/// What a client does after its connection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Somebody has to fix something first.
    Stop,
    /// Connect again, after the usual wait.
    Reconnect,
}

/// What the end of a session asks for; see [`CloseCode`].
pub(crate) fn after_end(reason: &CloseReason) -> Next {
    match (reason.by, reason.code.value()) {
        (ClosedBy::Transport, _) => Next::Reconnect,
        // This end has found a fault of the other, which would be there again; but for one that
        // only was too slow.
        (ClosedBy::Local, code) => match CloseCode::new(code) {
            CloseCode::WRITE_STALL
            | CloseCode::HELLO_TIMEOUT
            | CloseCode::TOMBSTONES
            | CloseCode::GAP
            | CloseCode::BEHIND => Next::Reconnect,
            _ => Next::Stop,
        },
        // Whether there is a credential to be had, nobody knows but `is_final`.
        (ClosedBy::Peer, 1001 | 1005 | 1006 | 1011..=1014 | 4100..=4399) => Next::Reconnect,
        (ClosedBy::Peer, _) => Next::Stop,
    }
}

/// Whether there is no use in another attempt after one that has failed like this.
pub(crate) fn is_final(error: &ConnectError, has_hook: bool) -> bool {
    if error.is_unauthenticated() {
        // With a hook the next attempt has another credential.
        return !has_hook;
    }
    match error {
        ConnectError::Url(_)
        | ConnectError::NoCodec
        | ConnectError::Header(_)
        | ConnectError::DuplicateService(_) => true,
        ConnectError::Refused { status, .. } => match status {
            403 => !has_hook,
            400 | 404 | 426 => true,
            _ => false,
        },
        ConnectError::Closed(reason) => after_end(reason) == Next::Stop,
        _ => false,
    }
}

/// Where a session is looked for: where it is, if its client was sent there, and at the client's own
/// endpoints, in turn. One of these may be how to get there, or have another session.
pub(crate) struct Places {
    elsewhere: Option<Endpoint>,
    was_elsewhere: bool,
}

impl Places {
    pub(crate) fn new(elsewhere: Option<Endpoint>) -> Self {
        Places {
            elsewhere,
            was_elsewhere: false,
        }
    }

    /// The next one; nothing for that of the client's own whose turn it is.
    pub(crate) fn next(&mut self) -> Option<Endpoint> {
        self.was_elsewhere = !self.was_elsewhere;
        self.elsewhere.clone().filter(|_| self.was_elsewhere)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_doubles_up_to_the_largest() {
        let backoff = Backoff::default();
        let bounds: Vec<_> = (0..9)
            .map(|attempt| backoff.bound(attempt).as_millis())
            .collect();
        let expected = [250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000];
        assert_eq!(bounds, expected);
        assert_eq!(backoff.bound(u32::MAX), backoff.max);
    }

    #[test]
    fn delays_are_spread_over_the_whole_time_up_to_the_bound() {
        let backoff = Backoff::default();
        let mut quarters = [0; 4];
        for _ in 0..1000 {
            let delay = backoff.delay(2);
            assert!(delay < Duration::from_secs(1));
            quarters[delay.as_millis() as usize / 250] += 1;
        }
        assert!(quarters.iter().all(|count| *count > 150), "{quarters:?}");
    }

    #[test]
    fn close_codes_are_obeyed() {
        let end = |by, code| {
            after_end(&CloseReason {
                code: CloseCode::new(code),
                message: String::new(),
                by,
            })
        };
        for code in [1001, 1006, 1012, 1013, 4100, 4200, 4301] {
            assert_eq!(end(ClosedBy::Peer, code), Next::Reconnect, "{code}");
        }
        for code in [1000, 1002, 1008, 4000, 4003] {
            assert_eq!(end(ClosedBy::Peer, code), Next::Stop, "{code}");
        }
        assert_eq!(end(ClosedBy::Transport, 1006), Next::Reconnect);
        assert_eq!(end(ClosedBy::Local, 1000), Next::Stop);
    }
}
