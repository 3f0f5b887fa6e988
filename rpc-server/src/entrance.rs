//! Where clients come in: who is asked about them, and what is known of one that has not come in.

use std::{
    fmt,
    future::ready,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use wirecall_core::{
    AuthError, CloseCode, CloseReason, ClosedBy, ConnectionInfo, Identity, Peer,
    connection::{Admission, Authentication, Gate},
    protocol::Token,
};

use crate::{
    auth::{AuthRequest, Authenticator, Credential},
    contained::contained,
    credentials::Offered,
    crowd::Place,
    drain::GOING_DOWN,
    hooks::Lifecycle,
    proxies::Proxies,
};

/// How a server asks who its clients are.
pub(crate) struct Entrance {
    /// Whoever comes may come in, if there is none.
    pub(crate) authenticator: Option<Arc<dyn Authenticator>>,
    /// The name of the cookie that is a credential.
    pub(crate) cookie: Option<String>,
    /// So many of one address may not have come in.
    pub(crate) max_unauthenticated: usize,
    /// Who is believed where somebody comes from.
    pub(crate) proxies: Proxies,
}

impl Entrance {
    /// Looks at the credential of an upgrade request, if it has one and somebody wants to know.
    pub(crate) async fn look_at(
        &self,
        connection: &ConnectionInfo,
        offered: &Offered,
        limit: Duration,
    ) -> Result<Option<Identity>, AuthError> {
        let credential = offered.credential();
        let Some((authenticator, _)) = self.authenticator.as_ref().zip(credential) else {
            return Ok(None);
        };
        let request = AuthRequest {
            connection,
            credential,
        };
        let found = contained(limit, async { authenticator.authenticate(&request).await });
        let identity = found.await.unwrap_or(Err(AuthError::Unavailable))?;
        match identity.is_valid() {
            true => Ok(Some(identity)),
            false => Err(AuthError::refused()),
        }
    }
}

impl fmt::Debug for Entrance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entrance")
            .field("is_guarded", &self.authenticator.is_some())
            .field("cookie", &self.cookie)
            .field("max_unauthenticated", &self.max_unauthenticated)
            .field("proxies", &self.proxies)
            .finish()
    }
}

/// What is known of somebody who has not come in.
#[derive(Default)]
pub(crate) struct Newcomer {
    /// Whose the credential of the upgrade request is, if there was one.
    pub(crate) identity: Option<Identity>,
    /// Among those who have not come in.
    pub(crate) outside: Option<Place>,
    /// The server is going down: only those come in who go on with a session.
    pub(crate) may_only_resume: bool,
}

/// Where one connection is asked who it is, and whether its session may begin.
pub(crate) struct Doorkeeper {
    authenticator: Option<Arc<dyn Authenticator>>,
    /// Who it is unless HELLO says another credential. Later only what is new counts.
    identity: Option<Identity>,
    /// Among those who have not come in.
    place: Arc<Mutex<Option<Place>>>,
    may_only_resume: bool,
    lifecycle: Option<Lifecycle>,
}

impl Doorkeeper {
    /// None where everybody may come in.
    pub(crate) fn gate(
        authenticator: Option<Arc<dyn Authenticator>>,
        lifecycle: Option<Lifecycle>,
        newcomer: Newcomer,
    ) -> Option<Box<dyn Gate>> {
        if authenticator.is_none() && lifecycle.is_none() && !newcomer.may_only_resume {
            return None;
        }
        Some(Box::new(Doorkeeper {
            authenticator,
            identity: newcomer.identity,
            place: Arc::new(Mutex::new(newcomer.outside)),
            may_only_resume: newcomer.may_only_resume,
            lifecycle,
        }))
    }
}

impl Gate for Doorkeeper {
    fn is_guarded(&self) -> bool {
        self.authenticator.is_some()
    }

    fn ask(&mut self, info: Arc<ConnectionInfo>, token: Option<Token>) -> Authentication {
        let Some(authenticator) = self.authenticator.clone() else {
            return Box::pin(ready(Err(AuthError::Unavailable)));
        };
        let known = self.identity.take().filter(|_| token.is_none());
        let place = self.place.clone();
        Box::pin(async move {
            let token = token.as_ref();
            let request = AuthRequest {
                connection: &info,
                credential: token.map(|token| Credential::Hello(token.as_str())),
            };
            let identity = match known {
                Some(identity) => identity,
                None => authenticator.authenticate(&request).await?,
            };
            drop(place.lock().unwrap_or_else(PoisonError::into_inner).take());
            Ok(identity)
        })
    }

    fn admit(&mut self, session: &Peer) -> Result<Option<Admission>, CloseReason> {
        if self.may_only_resume {
            // This ends what its client has come back for, and it begins anew elsewhere.
            return Err(CloseReason {
                code: CloseCode::GOING_AWAY,
                message: GOING_DOWN.to_owned(),
                by: ClosedBy::Local,
            });
        }
        let lifecycle = self.lifecycle.as_ref();
        Ok(lifecycle.map(|lifecycle| lifecycle.admission(session)))
    }
}
