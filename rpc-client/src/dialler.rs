//! What a client dials with, and one attempt at a connection or a session.

use std::{sync::Arc, time::Duration};

use http::{
    HeaderMap,
    header::{AUTHORIZATION, COOKIE},
};
use tokio::{task::JoinSet, time::timeout};
use wirecall_core::{
    CloseCode, CloseReason, ClosedBy, Codec, Limits, Router,
    connection::{self, Session},
    protocol::Token,
};

use crate::{
    endpoint::Endpoint,
    error::ConnectError,
    link::{Link, Linked, link},
    reconnect::{Attempt, Hook},
    renewal::TokenSource,
};

/// What a client dials with.
#[derive(Debug)]
pub(crate) struct Dialler {
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) router: Arc<Router>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) codecs: Vec<Codec>,
    pub(crate) headers: HeaderMap,
    pub(crate) connect_timeout: Duration,
    pub(crate) hook: Option<Hook>,
    pub(crate) token: Option<Token>,
    pub(crate) tokens: Option<TokenSource>,
}

impl Dialler {
    /// The endpoint whose turn it is.
    fn endpoint(&self, turn: usize) -> Endpoint {
        self.endpoints[turn % self.endpoints.len()].clone()
    }

    /// One attempt to go on with a session of this codec, up to the upgrade.
    pub(crate) async fn dial_again(
        &self,
        number: u32,
        turn: usize,
        elsewhere: Option<Endpoint>,
        codec: Codec,
    ) -> Result<Linked, ConnectError> {
        let endpoint = elsewhere.unwrap_or_else(|| self.endpoint(turn));
        self.dial_at(number, endpoint, &[codec], true).await
    }

    async fn dial_at(
        &self,
        number: u32,
        endpoint: Endpoint,
        codecs: &[Codec],
        is_resume: bool,
    ) -> Result<Linked, ConnectError> {
        let limit = self.connect_timeout;
        let dialled = async {
            let mut headers = self.headers.clone();
            let mut token = None;
            if self.endpoints.iter().any(|own| own.is_same_host(&endpoint)) {
                token = match &self.tokens {
                    Some(tokens) => Some(tokens.fetch().await?),
                    None => self.token.clone(),
                };
            } else {
                // A server that sends its clients elsewhere does not decide who gets their secrets.
                headers.remove(AUTHORIZATION);
                headers.remove(COOKIE);
            }
            let mut attempt = Attempt {
                number,
                endpoint,
                headers,
                token,
            };
            if let Some(hook) = &self.hook {
                attempt = hook.prepare(attempt).await?;
            }
            let Attempt {
                endpoint,
                headers,
                token,
                ..
            } = attempt;
            let mut linked = link(&endpoint, codecs, is_resume, &headers, &self.limits).await?;
            linked.token = token;
            Ok(linked)
        };
        match timeout(limit, Box::pin(dialled)).await {
            Ok(linked) => linked,
            Err(_) => Err(ConnectError::Timeout(limit)),
        }
    }

    /// Whether the next attempt may have another credential than this one.
    pub(crate) fn has_hook(&self) -> bool {
        self.hook.is_some() || self.tokens.is_some()
    }

    /// One attempt at a session, up to WELCOME.
    pub(crate) async fn connect(
        &self,
        number: u32,
        turn: usize,
        elsewhere: Option<Endpoint>,
        drivers: &mut JoinSet<()>,
    ) -> Result<(Session<Link>, Codec), ConnectError> {
        let endpoint = elsewhere.unwrap_or_else(|| self.endpoint(turn));
        let linked = self.dial_at(number, endpoint, &self.codecs, false).await?;
        let codec = linked.codec;
        let session = Unopened(Some(self.begin(linked, None, drivers)));
        let session = session.opened().await.map_err(ConnectError::Closed)?;
        Ok((session, codec))
    }

    /// Begins a session.
    pub(crate) fn begin(
        &self,
        linked: Linked,
        answer: Option<bytes::Bytes>,
        drivers: &mut JoinSet<()>,
    ) -> Session<Link> {
        let Linked {
            link,
            codec,
            info,
            token,
        } = linked;
        let (session, driver) = connection::dial(
            token,
            link,
            codec,
            self.limits.clone(),
            self.router.clone(),
            info,
            answer,
        );
        drivers.spawn(driver);
        session
    }
}

/// A session that is closed if nobody waits for it to open.
pub(crate) struct Unopened(pub(crate) Option<Session<Link>>);

impl Unopened {
    pub(crate) async fn opened(mut self) -> Result<Session<Link>, CloseReason> {
        if let Some(session) = &self.0 {
            session.opened().await?;
        }
        self.0.take().ok_or_else(nobody_left)
    }
}

impl Drop for Unopened {
    fn drop(&mut self) {
        if let Some(session) = &self.0 {
            session.close(CloseCode::NORMAL, "");
        }
    }
}

/// Why a session ends that nobody needs any more.
pub(crate) fn nobody_left() -> CloseReason {
    CloseReason {
        code: CloseCode::NORMAL,
        message: String::new(),
        by: ClosedBy::Local,
    }
}
