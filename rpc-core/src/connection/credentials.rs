//! A dialler's credential, and how it gets a new one while the connection is open.

use std::{fmt, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Shared, shared::Validity};
use crate::protocol::Token;

/// For how long a dialler's credential is good, and what it says when it has a new one.
#[derive(Clone)]
pub struct Credentials {
    shared: Arc<Shared>,
    /// What was known when it was last asked.
    known: u64,
}

impl Credentials {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Credentials { shared, known: 0 }
    }

    /// Waits until the acceptor says anew that the credential has an end: when it said so, and for how
    /// long from then on.
    ///
    /// Cancel safe.
    pub async fn expiry(&mut self) -> (Instant, Duration) {
        let known = self.known;
        let told = self.shared.wait_for(|state| {
            let Validity { times, ends } = state.credential;
            ends.filter(|_| times > known).map(|ends| (times, ends))
        });
        let (times, ends) = told.await;
        self.known = times;
        ends
    }

    /// Sends a new one to the acceptor. It answers by saying for how long that is good, or ends the
    /// session.
    pub fn renew(&self, token: Token) {
        self.shared.update(|state, _| state.connection.renew(token));
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Credentials").field(&self.shared).finish()
    }
}
