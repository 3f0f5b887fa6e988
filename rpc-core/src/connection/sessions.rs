//! Sessions that can be gone on with: how a new transport finds the one that it belongs to.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    task::Waker,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use rand::Rng as _;

use super::{Shared, shared::State};
use crate::{
    body::Codec,
    identity::Identity,
    protocol::{Events, Offer, Refusal, Resume, ResumeToken},
};

/// So many sessions that have expired are remembered, so that their clients are told that.
const REMEMBERED: usize = 4096;

/// A transport for a session, with what was read of it and not executed.
pub(crate) struct Handover<T> {
    pub(crate) transport: T,
    pub(crate) message: Option<Bytes>,
}

/// One session, as those see it who have a transport for it.
pub(crate) struct Place<T> {
    pub(super) shared: Arc<Shared>,
    /// A transport on its way to the session's task, or back from it. Seldom there.
    pub(super) handover: Mutex<Option<Box<Handover<T>>>>,
}

impl<T> Place<T> {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Place {
            shared,
            handover: Mutex::new(None),
        }
    }

    /// Dialler: asks the acceptor to go on with the session on this transport. It comes back where
    /// the session has ended already.
    pub(crate) fn reconnect(&self, transport: T) -> Result<(), T> {
        let mut state = self.shared.lock();
        if state.connection.closed().is_some() || state.close.is_some() {
            return Err(transport);
        }
        state.connection.ask_to_resume();
        let superseded = self.hand_over(transport);
        self.announce(&mut state);
        let task = state.task.clone();
        drop(state);
        drop(superseded);
        task.into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// Acceptor: goes on with the session on this transport.
    /// Whoever is to be woken is returned, and what is to be dropped.
    fn resume(
        &self,
        resume: &Resume,
        offer: Offer,
        codec: Codec,
        identity: Option<Identity>,
        transport: T,
    ) -> Result<Superseding<T>, (T, Refusal)> {
        let mut events = Events::default();
        let mut state = self.shared.lock();
        if state.close.is_some() || self.shared.codec != codec {
            return Err((transport, Refusal::Unknown));
        }
        let expires = identity.as_ref().and_then(Identity::left);
        let connection = &mut state.connection;
        connection.is_good_for(expires);
        if let Err(refusal) = connection.resume(resume, offer, &mut events) {
            return Err((transport, refusal));
        }
        // Before the session's task can run on: it has been given another credential.
        let previous = self.shared.set_identity(identity);
        let superseded = self.hand_over(transport);
        self.announce(&mut state);
        state.resumes += 1;
        // What else there is to do about it, the session's task does.
        events.wakers.extend(state.task.clone());
        drop(state);
        drop(previous);
        Ok((events.wakers, superseded))
    }

    /// Says that there is another transport.
    fn announce(&self, state: &mut State) {
        state.has_handover = true;
        self.shared.is_disturbed.store(true, Ordering::Relaxed);
    }

    fn hand_over(&self, transport: T) -> Option<Handover<T>> {
        self.put(Handover {
            transport,
            message: None,
        })
    }

    /// Another one that was waiting is returned, to be dropped without a lock: it came earlier, and is
    /// of no use.
    pub(super) fn put(&self, handover: Handover<T>) -> Option<Handover<T>> {
        let before = self.lock().replace(Box::new(handover));
        before.map(|before| *before)
    }

    pub(crate) fn take(&self) -> Option<Handover<T>> {
        let taken = self.lock().take();
        taken.map(|taken| *taken)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Box<Handover<T>>>> {
        self.handover.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is left to be done without a lock, once a session goes on.
type Superseding<T> = (Vec<Waker>, Option<Handover<T>>);

/// The sessions of a server whose transports are of one type.
pub struct Sessions<T>(Mutex<Table<T>>);

struct Table<T> {
    live: HashMap<u64, Entry<T>>,
    /// The last ones that were waited for in vain.
    expired: VecDeque<u64>,
    suspended: usize,
    max_suspended: usize,
    /// How many of those that wait are whose.
    waiting: HashMap<Owner, usize>,
}

struct Entry<T> {
    place: Arc<Place<T>>,
    secret: Secret,
    /// The one before, until something has arrived that was sent by one who knows the new one: the
    /// WELCOME that carries it may have been lost.
    previous: Option<Secret>,
    /// How often the session went on: a token for each time.
    generation: u64,
}

/// Whose a session is, as far as that is known.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Owner {
    User(Arc<str>),
    /// Of one who was not asked. Many may share an address.
    Address(IpAddr),
}

impl Owner {
    pub(super) fn of(shared: &Shared) -> Option<Self> {
        if let Some(identity) = shared.identity() {
            return Some(Owner::User(identity.shared_user()));
        }
        let address = shared.info.client_addr?.to_canonical();
        (!address.is_loopback()).then_some(Owner::Address(address))
    }

    /// So many sessions may wait.
    fn max_suspended(&self) -> usize {
        match self {
            Owner::User(_) => 16,
            Owner::Address(_) => 1000,
        }
    }
}

type Secret = [u8; 16];

/// A token before it is text: which session, and what proves it.
fn token(id: u64, secret: &Secret) -> ResumeToken {
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(&id.to_be_bytes());
    bytes[8..].copy_from_slice(secret);
    ResumeToken::new(&URL_SAFE_NO_PAD.encode(bytes))
}

fn parse(token: &ResumeToken) -> Option<(u64, Secret)> {
    let bytes = URL_SAFE_NO_PAD.decode(token.as_str()).ok()?;
    let (id, secret) = bytes.split_first_chunk()?;
    Some((u64::from_be_bytes(*id), secret.try_into().ok()?))
}

/// In the same time wherever they differ.
fn is_same(one: &Secret, other: &Secret) -> bool {
    let differing = one.iter().zip(other).fold(0, |all, (a, b)| all | (a ^ b));
    differing == 0
}

impl<T> Sessions<T> {
    /// None yet. At most so many wait for their diallers at a time; a session whose connection
    /// breaks while there are that many ends with it.
    #[must_use]
    pub fn new(max_suspended: usize) -> Self {
        Sessions(Mutex::new(Table {
            live: HashMap::new(),
            expired: VecDeque::new(),
            suspended: 0,
            max_suspended,
            waiting: HashMap::new(),
        }))
    }

    /// How many sessions there are, and how many of them wait for their diallers.
    #[must_use]
    pub fn len(&self) -> (usize, usize) {
        let table = self.lock();
        (table.live.len(), table.suspended)
    }

    /// The token of a session that is about to begin, and its number in this table.
    pub(super) fn draw() -> (u64, ResumeToken, [u8; 16]) {
        let id = rand::rng().next_u64();
        let secret = draw_secret();
        (id, token(id, &secret), secret)
    }

    pub(super) fn enter(&self, id: u64, secret: [u8; 16], place: Arc<Place<T>>) {
        let entry = Entry {
            place,
            secret,
            previous: None,
            generation: 0,
        };
        self.lock().live.insert(id, entry);
    }

    pub(super) fn leave(&self, id: u64, has_expired: bool) {
        let mut table = self.lock();
        let entry = table.live.remove(&id);
        if entry.is_some() && has_expired {
            if table.expired.len() == REMEMBERED {
                table.expired.pop_front();
            }
            table.expired.push_back(id);
        }
        // Dropped without the lock, which what it holds may want.
        drop(table);
        drop(entry);
    }

    /// Whether another session may wait for its dialler: nobody has all the places.
    /// [`Sessions::unsuspend`] follows.
    pub(super) fn suspend(&self, owner: Option<&Owner>) -> bool {
        let mut table = self.lock();
        if table.suspended >= table.max_suspended {
            return false;
        }
        if let Some(owner) = owner {
            let waiting = table.waiting.entry(owner.clone()).or_default();
            if *waiting >= owner.max_suspended() {
                return false;
            }
            *waiting += 1;
        }
        table.suspended += 1;
        true
    }

    pub(super) fn unsuspend(&self, owner: Option<&Owner>) {
        let mut table = self.lock();
        table.suspended -= 1;
        if let Some(owner) = owner
            && let Some(waiting) = table.waiting.get_mut(owner)
        {
            *waiting -= 1;
            if *waiting == 0 {
                table.waiting.remove(owner);
            }
        }
    }

    /// Somebody who knows the session's last token has sent something.
    pub(super) fn confirm(&self, id: u64, generation: u64) {
        if let Some(entry) = self.lock().live.get_mut(&id)
            && entry.generation == generation
        {
            entry.previous = None;
        }
    }

    /// Hands a transport over to the session that its dialler asks for. It belongs to one user, who
    /// is known anew.
    pub(super) fn resume(
        &self,
        resume: &Resume,
        codec: Codec,
        identity: Option<Identity>,
        transport: T,
    ) -> Result<(), (T, Refusal)> {
        let Some((id, given)) = parse(&resume.token) else {
            return Err((transport, Refusal::Unknown));
        };
        let mut table = self.lock();
        let is_expired = table.expired.contains(&id);
        let Some(entry) = table.live.get_mut(&id) else {
            let refusal = match is_expired {
                true => Refusal::Expired,
                false => Refusal::Unknown,
            };
            return Err((transport, refusal));
        };
        let is_previous = entry.previous.is_some_and(|own| is_same(&own, &given));
        if !is_previous && !is_same(&entry.secret, &given) {
            return Err((transport, Refusal::Unknown));
        }
        let own = entry.place.shared.identity();
        if own.as_ref().map(Identity::user) != identity.as_ref().map(Identity::user) {
            return Err((transport, Refusal::Identity));
        }
        let secret = draw_secret();
        let offer = Offer {
            token: token(id, &secret),
            window: entry.place.shared.limits.resume_window,
        };
        let place = &entry.place;
        let (wakers, superseded) = place.resume(resume, offer, codec, identity, transport)?;
        entry.previous = Some(given);
        entry.secret = secret;
        entry.generation += 1;
        drop(table);
        drop(superseded);
        wakers.into_iter().for_each(Waker::wake);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Table<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn draw_secret() -> Secret {
    let mut secret = Secret::default();
    rand::rng().fill_bytes(&mut secret);
    secret
}

impl<T> fmt::Debug for Sessions<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (all, suspended) = self.len();
        f.debug_struct("Sessions")
            .field("all", &all)
            .field("suspended", &suspended)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_url_safe_text_and_comes_apart_again() {
        let secret = draw_secret();
        let token = token(7, &secret);
        assert_eq!(token.as_str().len(), 32);
        assert_eq!(parse(&token), Some((7, secret)));
        assert_eq!(format!("{token:?}"), "ResumeToken(…)");
        for other in ["", "x", "AAAA", &"A".repeat(64), "ä"] {
            assert_eq!(parse(&ResumeToken::new(other)), None, "{other}");
        }
    }

    #[test]
    fn nobody_has_all_the_places_of_those_who_wait() {
        let sessions = Sessions::<()>::new(30);
        let alice = Owner::User("alice".into());
        let office = Owner::Address([192, 0, 2, 1].into());
        let waiting = (0..20).filter(|_| sessions.suspend(Some(&alice)));
        assert_eq!(waiting.count(), 16);
        let waiting = (0..20).filter(|_| sessions.suspend(Some(&office)));
        assert_eq!(waiting.count(), 14);
        assert!(!sessions.suspend(None));
        sessions.unsuspend(Some(&alice));
        assert!(sessions.suspend(Some(&alice)));
        assert!(!sessions.suspend(Some(&alice)));
    }
}
