//! Who is addressed, to be told something or to be asked.

use std::{fmt, sync::Arc, time::Duration};

use futures::{
    future::join_all,
    stream::{FuturesUnordered, StreamExt as _},
};
use tokio::time::timeout;
use wirecall_core::{Broadcast, CallError, Code, Fate, Peer, Receivers, SessionId, Status};

use super::Hub;

/// Those whom a hub addresses. Who that is, is found each time that something is sent.
///
/// To tell them something, give it to a notifier: `ChatEventsNotifier::to(hub.user("alice"))`. To ask
/// them something: [`Audience::first`], [`Audience::each`]. Each session counts once, however it is
/// addressed.
#[derive(Clone)]
#[must_use = "nobody is told anything yet"]
pub struct Audience {
    hub: Hub,
    to: Vec<Address>,
    except: Vec<SessionId>,
}

#[derive(Clone, Debug)]
pub(super) enum Address {
    User(Arc<str>),
    Session(SessionId),
    Group(Arc<str>),
    All,
}

impl Audience {
    pub(super) fn new(hub: Hub, to: Address) -> Self {
        Audience {
            hub,
            to: vec![to],
            except: Vec::new(),
        }
    }

    /// And all sessions of this user.
    pub fn and_user(mut self, user: &str) -> Self {
        self.to.push(Address::User(user.into()));
        self
    }

    /// And all sessions in this group.
    pub fn and_group(mut self, group: &str) -> Self {
        self.to.push(Address::Group(group.into()));
        self
    }

    /// Without this session, such as the one that said it. Its user counts as present.
    pub fn except(mut self, peer: impl AsRef<Peer>) -> Self {
        self.except.push(peer.as_ref().session_id());
        self
    }

    /// The sessions, in the order in which they began.
    #[must_use]
    pub fn peers(&self) -> Vec<Peer> {
        self.find().0
    }

    /// Asks all of them at once. The first result counts, and the other calls are cancelled.
    ///
    /// ```no_run
    /// # use wirecall_core::{CallError, Peer};
    /// # struct Client;
    /// # impl Client {
    /// #     fn new(_: &Peer) -> Self { Client }
    /// #     async fn confirm(self, _: &str) -> Result<bool, CallError> { Ok(true) }
    /// # }
    /// # type ConfirmClient = Client;
    /// # async fn ask(hub: wirecall_server::Hub) -> Result<(), CallError> {
    /// let yes = hub
    ///     .user("alice")
    ///     .first(|peer| ConfirmClient::new(&peer).confirm("really?"))
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// A session that waits for its client to come back is asked when it does, within the deadline of
    /// the call. Dropping the future cancels all calls.
    ///
    /// # Errors
    /// When nobody is there, `UNAVAILABLE` that was not sent. When all have failed: the error of the
    /// first whose method has answered with one, or otherwise that of the last.
    pub async fn first<F, T, E>(&self, mut ask: impl FnMut(Peer) -> F) -> Result<T, CallError<E>>
    where
        F: IntoFuture<Output = Result<T, CallError<E>>>,
    {
        let peers = self.peers().into_iter();
        let calls = peers.map(|peer| ask(peer).into_future());
        let mut calls: FuturesUnordered<_> = calls.collect();
        let mut failed = None;
        while let Some(answer) = calls.next().await {
            match answer {
                Ok(answer) => return Ok(answer),
                Err(_) if matches!(failed, Some(CallError::Method(_))) => {}
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.unwrap_or_else(|| {
            let nobody = Status::new(Code::UNAVAILABLE, "nobody is there to be asked");
            CallError::Status(nobody.with_fate(Fate::NotSent))
        }))
    }

    /// Asks all of them at once, and returns what each has answered, in the order in which their
    /// sessions began: nothing, when nobody is there. Whoever has not answered by the deadline has
    /// failed with `DEADLINE_EXCEEDED`, and the call is cancelled. A call ends earlier that has a
    /// shorter deadline of its own: 30 s, unless you say otherwise.
    ///
    /// Dropping the future cancels all calls.
    pub async fn each<F, T, E>(
        &self,
        deadline: Duration,
        mut ask: impl FnMut(Peer) -> F,
    ) -> Vec<(Peer, Result<T, CallError<E>>)>
    where
        F: IntoFuture<Output = Result<T, CallError<E>>>,
    {
        let calls = self.peers().into_iter().map(|peer| {
            let call = timeout(deadline, ask(peer.clone()).into_future());
            async move {
                let answer = call.await.unwrap_or_else(|_| {
                    let late = Status::new(Code::DEADLINE_EXCEEDED, "no answer by the deadline");
                    Err(CallError::Status(late.with_fate(Fate::Unknown)))
                });
                (peer, answer)
            }
        });
        join_all(calls).await
    }
}

impl Receivers for Audience {
    fn find(&self) -> (Vec<Peer>, usize) {
        let table = self.hub.lock();
        let mut found = Vec::new();
        let missed = self.to.iter().filter(|to| table.find(to, &mut found));
        let absent = missed.count();
        if self.to.len() > 1 {
            found.sort_unstable_by_key(|(id, _)| *id);
            found.dedup_by_key(|(id, _)| *id);
        }
        let is_meant = |id: &SessionId| !self.except.contains(id);
        let peers = found.into_iter().filter(|(id, _)| is_meant(id));
        (peers.map(|(_, peer)| peer.clone()).collect(), absent)
    }
}

impl From<Audience> for Broadcast {
    fn from(audience: Audience) -> Self {
        Broadcast::to(audience)
    }
}

impl From<&Audience> for Broadcast {
    fn from(audience: &Audience) -> Self {
        Broadcast::to(audience.clone())
    }
}

impl fmt::Debug for Audience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audience")
            .field("to", &self.to)
            .field("except", &self.except)
            .finish_non_exhaustive()
    }
}
