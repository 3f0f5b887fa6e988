//! A session that its server has asked to leave, and that has calls in flight: they are finished there,
//! also if its connection breaks.

use std::sync::Arc;

use tokio::{
    task::JoinSet,
    time::{Duration, sleep},
};
use wirecall_core::{
    CloseCode, Codec, ConnectionInfo,
    connection::{Session, SessionChange},
};

use crate::{
    dialler::{Dialler, Unopened},
    endpoint::Endpoint,
    link::{Link, Linked},
    reconnect::{Backoff, Places, is_final},
};

/// Keeps such a session connected, beside the next one to which all new calls go.
pub(crate) struct Finishing {
    pub(crate) session: Session<Link>,
    pub(crate) dialler: Arc<Dialler>,
    pub(crate) backoff: Backoff,
    pub(crate) codec: Codec,
    /// Which endpoint it is at.
    pub(crate) turn: usize,
    /// Or where else its client was sent.
    pub(crate) elsewhere: Option<Endpoint>,
}

impl Finishing {
    /// Until the session has ended: as a rule since nothing is in flight any more.
    pub(crate) async fn run(mut self) {
        let mut attempts = 0;
        let mut places = Places::new(self.elsewhere.clone());
        loop {
            match self.session.changed().await {
                SessionChange::Ended(_) => break,
                SessionChange::Suspended => {}
                _ => continue,
            }
            let delay = self.backoff.delay(attempts);
            match self.go_on(attempts, delay, places.next()).await {
                true => {
                    attempts = 0;
                    places = Places::new(self.elsewhere.clone());
                }
                false => attempts = attempts.saturating_add(1),
            }
        }
        self.leave_next().await;
    }

    /// One attempt to go on on another connection.
    async fn go_on(&mut self, attempt: u32, delay: Duration, elsewhere: Option<Endpoint>) -> bool {
        let is_elsewhere = elsewhere.is_some();
        let dialled = async {
            sleep(delay).await;
            self.dialler
                .dial_again(attempt, self.turn, elsewhere, self.codec)
                .await
        };
        let dialled = tokio::select! {
            // Its time has run out, or nobody needs it any more.
            _ = self.session.ended() => return false,
            dialled = dialled => dialled,
        };
        match dialled {
            Ok(linked) => {
                if let Some(token) = linked.token {
                    self.session.present(token);
                }
                self.session.reconnect(linked.link).is_ok() && self.session.resumed().await
            }
            // There are the others.
            Err(_) if is_elsewhere => false,
            Err(error) => {
                self.turn += 1;
                if self.dialler.endpoints.len() == 1 && is_final(&error, self.dialler.has_hook()) {
                    self.session.close(CloseCode::GAP, &error.to_string());
                    self.session.ended().await;
                }
                false
            }
        }
    }

    /// A server that does not know the session has begun another one in its place, which nobody needs.
    async fn leave_next(&self) {
        let Some((link, answer)) = self.session.take_transport() else {
            return;
        };
        let linked = Linked {
            link,
            codec: self.codec,
            info: ConnectionInfo::default(),
            token: None,
        };
        let mut drivers = JoinSet::new();
        let next = self.dialler.begin(linked, Some(answer), &mut drivers);
        drop(Unopened(Some(next)));
        while drivers.join_next().await.is_some() {}
    }
}
