//! A client's credential: what it says in HELLO, and where it gets another one before that runs out.

use std::{convert::Infallible, fmt, future::pending, pin::Pin, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, sleep_until};
use wirecall_core::{connection::Credentials, protocol::Token};

use crate::error::ConnectError;

/// The least time between two attempts to get a token.
const PAUSE: Duration = Duration::from_millis(100);

type Fetched = Pin<Box<dyn Future<Output = Result<String, ConnectError>> + Send>>;

/// Where a client gets its tokens.
#[derive(Clone)]
pub(crate) struct TokenSource(Arc<dyn Fn() -> Fetched + Send + Sync>);

impl TokenSource {
    pub(crate) fn new<F>(source: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<String, ConnectError>> + Send + 'static,
    {
        TokenSource(Arc::new(move || Box::pin(source())))
    }

    pub(crate) async fn fetch(&self) -> Result<Token, ConnectError> {
        (self.0)().await.map(Token::new)
    }
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSource")
    }
}

/// Gives the server a new token each time before the one in use runs out, as long as this is polled.
pub(crate) async fn keep_renewing(
    mut credentials: Credentials,
    source: Option<TokenSource>,
) -> Infallible {
    let Some(source) = source else {
        return pending().await;
    };
    loop {
        let (told, left) = credentials.expiry().await;
        sleep_until(told + renewal(left).max(PAUSE)).await;
        let token = loop {
            match source.fetch().await {
                Ok(token) => break token,
                // There is time for a few attempts. After that the server ends the session.
                Err(_) => sleep(retry(told, left)).await,
            }
        };
        credentials.renew(token);
    }
}

/// When to ask for another token: at about 80 % of the time, and not all clients at once that came at
/// once.
fn renewal(left: Duration) -> Duration {
    left.mul_f64(0.75 + 0.1 * rand::random::<f64>())
}

/// How long to wait after an attempt in vain.
fn retry(told: Instant, left: Duration) -> Duration {
    let remaining = (told + left).saturating_duration_since(Instant::now());
    (remaining / 4).max(PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_renewed_when_about_four_fifths_of_its_time_are_over() {
        for _ in 0..100 {
            let at = renewal(Duration::from_secs(1000)).as_secs();
            assert!((750..=850).contains(&at), "{at}");
        }
    }
}
