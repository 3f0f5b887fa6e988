//! The task that keeps a client connected: it dials, goes on with the session where that can be
//! done, begins another one where not, and leaves a server that asks for it.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep},
};
use wirecall_core::{
    CloseCode, CloseReason, ClosedBy, Codec, ConnectionInfo,
    connection::{LineHandle, Session, SessionChange},
    protocol::{GoAway, Token},
};

use crate::{
    client::ClientState,
    dialler::{Dialler, Unopened, nobody_left},
    endpoint::Endpoint,
    error::ConnectError,
    finishing::Finishing,
    link::{Link, Linked},
    reconnect::{Backoff, Next, Places, after_end, is_final, jitter},
    renewal::keep_renewing,
};

/// Keeps one client connected.
pub(crate) struct Upkeep {
    pub(crate) dialler: Arc<Dialler>,
    /// None if another connection is not wanted.
    pub(crate) backoff: Option<Backoff>,
    pub(crate) session: Session<Link>,
    /// Those before it that may still finish their calls.
    pub(crate) left: Vec<Session<Link>>,
    pub(crate) codec: Codec,
    /// What was said last of who the client is, to go on with a session.
    pub(crate) token: Option<Token>,
    pub(crate) line: LineHandle,
    pub(crate) state: watch::Sender<ClientState>,
    /// The tasks of sessions, and of what keeps those connected that finish their calls.
    pub(crate) drivers: JoinSet<()>,
    /// Attempts in vain since the last connection that was stable.
    pub(crate) attempts: u32,
    /// Which endpoint is next.
    pub(crate) turn: usize,
    /// Where the session is, if its client was sent there.
    pub(crate) elsewhere: Option<Endpoint>,
    pub(crate) ready_since: Instant,
    /// Which session it is.
    pub(crate) number: u64,
    /// What is known of the last connection on which it was asked to go on.
    pub(crate) info: ConnectionInfo,
}

/// No other session is to follow.
struct Over(CloseReason);

impl Upkeep {
    /// Until the client is closed, or cannot go on.
    pub(crate) async fn run(mut self) {
        let Over(reason) = self.keep().await;
        if self.line.is_closed() {
            // Not only the session that is current.
            for session in self.left.drain(..).chain([self.session]) {
                session.close(CloseCode::NORMAL, "");
            }
        } else {
            self.session.release();
        }
        self.line.end(reason.clone());
        self.state.send_replace(ClientState::Closed(reason));
        while self.drivers.join_next().await.is_some() {}
    }

    async fn keep(&mut self) -> Over {
        loop {
            let renewing = keep_renewing(self.session.credentials(), self.dialler.tokens.clone());
            let change = tokio::select! {
                change = self.session.changed() => change,
                never = renewing => match never {},
            };
            let over = match change {
                SessionChange::Suspended => self.resume().await,
                SessionChange::Ended(reason) => self.replace(reason).await,
                SessionChange::GoAway(going) => self.move_on(going).await,
                _ => Ok(()),
            };
            if let Err(over) = over {
                return over;
            }
        }
    }

    /// The connection is gone and the session is not: looks for another connection.
    async fn resume(&mut self) -> Result<(), Over> {
        self.state.send_replace(ClientState::Suspended);
        self.note_end();
        let mut places = Places::new(self.elsewhere.clone());
        loop {
            let attempt = self.attempts;
            let delay = self.next_delay();
            let elsewhere = places.next();
            // The session may end meanwhile: its time runs out, or nobody needs it any more.
            let dialled = tokio::select! {
                reason = self.session.ended() => return self.replace(reason).await,
                dialled = async {
                    sleep(delay).await;
                    let elsewhere = elsewhere.clone();
                    self.dialler.dial_again(attempt, self.turn, elsewhere, self.codec).await
                } => dialled,
            };
            let linked = match dialled {
                Ok(linked) => linked,
                // There are the others.
                Err(_) if elsewhere.is_some() => continue,
                Err(error) => {
                    self.turn += 1;
                    if self.is_final(&error) {
                        // Unless it is the fault of what is particular to this session.
                        self.session.close(CloseCode::GAP, &error.to_string());
                        let reason = self.session.ended().await;
                        return self.replace(reason).await;
                    }
                    continue;
                }
            };
            self.elsewhere = elsewhere;
            self.info = linked.info;
            if let Some(token) = linked.token {
                self.token = Some(token.clone());
                self.session.present(token);
            }
            if self.session.reconnect(linked.link).is_err() {
                // It has just ended.
                return Ok(());
            }
            if self.session.resumed().await {
                self.is_ready();
                return Ok(());
            }
            let has_ended = tokio::select! {
                biased;
                change = self.session.changed() => matches!(change, SessionChange::Ended(_)),
            };
            if has_ended {
                return Ok(());
            }
            // It lets one in, and says nothing.
            self.turn += 1;
        }
    }

    /// The session is over: begins another one, unless that is of no use.
    async fn replace(&mut self, reason: CloseReason) -> Result<(), Over> {
        self.replace_at(reason, None).await
    }

    /// Like [`Upkeep::replace`]. The next one may be elsewhere.
    async fn replace_at(
        &mut self,
        reason: CloseReason,
        mut elsewhere: Option<Endpoint>,
    ) -> Result<(), Over> {
        if self.backoff.is_none() || self.line.is_unwanted() || after_end(&reason) == Next::Stop {
            return Err(Over(reason));
        }
        self.note_end();
        if let Some((link, answer)) = self.session.take_transport() {
            // The server has begun one already, on the connection on which it refused to go on.
            let linked = Linked {
                link,
                codec: self.codec,
                info: self.info.clone(),
                // It was said, with the HELLO that is answered.
                token: self.token.take(),
            };
            let session = self.dialler.begin(linked, Some(answer), &mut self.drivers);
            let opened = tokio::select! {
                reason = self.line.unwanted() => {
                    return Err(Over(reason.unwrap_or_else(nobody_left)));
                }
                opened = Unopened(Some(session)).opened() => opened,
            };
            if let Ok(session) = opened {
                return self.follow(session, reason);
            }
        }
        loop {
            let number = self.attempts;
            self.state
                .send_replace(ClientState::Connecting { attempt: number });
            let delay = self.next_delay();
            if let Some(session) = self.attempt(number, delay, &mut elsewhere).await? {
                return self.follow(session, reason);
            }
        }
    }

    /// The server takes no more calls: connects to the next one first, and lets go of this one then.
    async fn move_on(&mut self, going: GoAway) -> Result<(), Over> {
        let Some(backoff) = self.backoff else {
            return Ok(());
        };
        let finishing = Finishing {
            session: self.session.clone(),
            dialler: self.dialler.clone(),
            backoff,
            codec: self.codec,
            turn: self.turn,
            elsewhere: self.elsewhere.clone(),
        };
        self.drivers.spawn(finishing.run());
        let mut elsewhere = going.url.map(Endpoint::from);
        let mut delay = jitter(going.spread);
        let was_stable = self.ready_since.elapsed() >= backoff.stable_after;
        self.note_end();
        if !was_stable {
            // Servers that send their clients to and fro are not to be hurried.
            delay = delay.max(self.next_delay());
        }
        let session = self.session.clone();
        loop {
            let number = self.attempts;
            let attempted = tokio::select! {
                reason = session.ended() => Err(reason),
                attempted = self.attempt(number, delay, &mut elsewhere) => Ok(attempted?),
            };
            match attempted {
                Ok(Some(session)) => return self.follow(session, nobody_left()),
                Ok(None) => delay = self.next_delay(),
                // Nothing is left to be let go of.
                Err(reason) => return self.replace_at(reason, elsewhere).await,
            }
        }
    }

    /// One attempt at another session, after this delay. There is none if a further attempt may do
    /// better: at another endpoint, as a rule.
    async fn attempt(
        &mut self,
        number: u32,
        delay: Duration,
        elsewhere: &mut Option<Endpoint>,
    ) -> Result<Option<Session<Link>>, Over> {
        let connected = tokio::select! {
            reason = self.line.unwanted() => {
                return Err(Over(reason.unwrap_or_else(nobody_left)));
            }
            connected = async {
                sleep(delay).await;
                let elsewhere = elsewhere.clone();
                let drivers = &mut self.drivers;
                self.dialler.connect(number, self.turn, elsewhere, drivers).await
            } => connected,
        };
        match connected {
            Ok((session, codec)) => {
                self.codec = codec;
                self.elsewhere = elsewhere.take();
                Ok(Some(session))
            }
            Err(error) => {
                // As a rule a place that does not exist; then the others may.
                let was_elsewhere = elsewhere.take().is_some();
                self.turn += 1;
                match !was_elsewhere && self.is_final(&error) {
                    true => Err(given_up(&error)),
                    false => Ok(None),
                }
            }
        }
    }

    /// Calls go to this session from now on.
    fn follow(&mut self, session: Session<Link>, reason: CloseReason) -> Result<(), Over> {
        // Those that have ended are not kept.
        while self.drivers.try_join_next().is_some() {}
        let is_wanted = self.line.renew(&session);
        let left = std::mem::replace(&mut self.session, session);
        left.release();
        self.left.retain(|session| !session.has_ended());
        self.left.push(left);
        self.number += 1;
        if !is_wanted || self.line.is_unwanted() {
            self.session.close(CloseCode::NORMAL, "");
            return Err(Over(reason));
        }
        self.is_ready();
        Ok(())
    }

    /// Whether no attempt that follows can do better than one that has failed like this: not, while
    /// there are other endpoints.
    fn is_final(&self, error: &ConnectError) -> bool {
        self.dialler.endpoints.len() == 1 && is_final(error, self.dialler.has_hook())
    }

    /// How long to wait before the attempt that is next.
    fn next_delay(&mut self) -> Duration {
        let backoff = self.backoff.unwrap_or_default();
        let delay = backoff.delay(self.attempts);
        self.attempts = self.attempts.saturating_add(1);
        delay
    }

    fn is_ready(&mut self) {
        self.ready_since = Instant::now();
        let session = self.number;
        self.state.send_replace(ClientState::Ready { session });
    }

    /// A connection has ended. One that was stable lets the next attempts begin anew.
    fn note_end(&mut self) {
        if self.ready_since.elapsed() >= self.backoff.unwrap_or_default().stable_after {
            self.attempts = 0;
        }
        // What comes now is no time of being connected.
        self.ready_since = Instant::now();
    }
}

fn given_up(error: &ConnectError) -> Over {
    Over(CloseReason {
        code: CloseCode::ABNORMAL,
        message: format!("cannot connect again: {error}"),
        by: ClosedBy::Transport,
    })
}
