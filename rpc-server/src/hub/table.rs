//! What a hub knows. Each thing is in two places: whoever changes one changes the other.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    task::Waker,
};

use wirecall_core::{Peer, SessionId};

use super::{Hub, JoinError, audience::Address, presence::Log};

#[derive(Default)]
pub(super) struct Table {
    /// In the order in which they began.
    sessions: BTreeMap<SessionId, Session>,
    /// Those of which it is not decided yet whether they begin, with the groups that they are to be in
    /// then.
    coming: HashMap<SessionId, HashSet<Arc<str>>>,
    /// Only those who have one.
    users: Index,
    /// Only those in which somebody is.
    groups: Index,
    pub(super) presence: Log,
}

/// With a handle of each, so that it need not be looked up to be told something.
type Index = HashMap<Arc<str>, BTreeMap<SessionId, Peer>>;

/// One that is in.
pub(super) struct Session {
    peer: Peer,
    user: Option<Arc<str>>,
    groups: HashSet<Arc<str>>,
}

impl Table {
    /// Lets a session join groups that has not begun. [`Table::begin`] follows, or [`Table::end`].
    pub(super) fn announce(&mut self, id: SessionId) {
        self.coming.insert(id, HashSet::new());
    }

    pub(super) fn begin(&mut self, peer: Peer, user: Option<Arc<str>>, wakers: &mut Vec<Waker>) {
        let id = peer.session_id();
        let groups = self.coming.remove(&id).unwrap_or_default();
        for group in &groups {
            add(&mut self.groups, group.clone(), &peer);
        }
        if let Some(user) = &user
            && add(&mut self.users, user.clone(), &peer)
        {
            self.presence.note(user, true, wakers);
        }
        let session = Session { peer, user, groups };
        self.sessions.insert(id, session);
    }

    /// Returns what is to be dropped without the lock.
    pub(super) fn end(&mut self, id: SessionId, wakers: &mut Vec<Waker>) -> Option<Session> {
        self.coming.remove(&id);
        let session = self.sessions.remove(&id)?;
        for group in &session.groups {
            remove(&mut self.groups, group, id);
        }
        if let Some(user) = &session.user
            && remove(&mut self.users, user, id)
        {
            self.presence.note(user, false, wakers);
        }
        Some(session)
    }

    pub(super) fn join(&mut self, id: SessionId, group: &str) -> Result<(), JoinError> {
        let (own, peer) = match self.sessions.get_mut(&id) {
            Some(session) => (Some(&mut session.groups), Some(&session.peer)),
            None => (self.coming.get_mut(&id), None),
        };
        let own = own.ok_or(JoinError::NoSession)?;
        if own.contains(group) {
            return Ok(());
        }
        if own.len() >= Hub::MAX_GROUPS {
            return Err(JoinError::TooManyGroups);
        }
        // One name for all who are in it.
        let group = match self.groups.get_key_value(group) {
            Some((group, _)) => group.clone(),
            None => group.into(),
        };
        own.insert(group.clone());
        if let Some(peer) = peer {
            add(&mut self.groups, group, peer);
        }
        Ok(())
    }

    pub(super) fn leave(&mut self, id: SessionId, group: &str) -> bool {
        if let Some(own) = self.coming.get_mut(&id) {
            return own.remove(group);
        }
        let session = self.sessions.get_mut(&id);
        let was_in = session.is_some_and(|session| session.groups.remove(group));
        if was_in {
            remove(&mut self.groups, group, id);
        }
        was_in
    }

    pub(super) fn groups_of(&self, id: SessionId) -> Vec<Arc<str>> {
        let groups = self.sessions.get(&id).map(|session| &session.groups);
        let groups = groups.or_else(|| self.coming.get(&id));
        let mut groups: Vec<_> = groups.into_iter().flatten().cloned().collect();
        groups.sort_unstable();
        groups
    }

    pub(super) fn is_online(&self, user: &str) -> bool {
        self.users.contains_key(user)
    }

    pub(super) fn users(&self) -> Vec<Arc<str>> {
        self.users.keys().cloned().collect()
    }

    /// Sessions, users and groups.
    pub(super) fn sizes(&self) -> (usize, usize, usize) {
        (self.sessions.len(), self.users.len(), self.groups.len())
    }

    /// Adds those who are at an address, in the order in which they began, and says whether somebody is
    /// missed there.
    pub(super) fn find<'a>(
        &'a self,
        address: &Address,
        found: &mut Vec<(SessionId, &'a Peer)>,
    ) -> bool {
        let (members, is_missed) = match address {
            Address::All => {
                let all = self.sessions.iter();
                found.extend(all.map(|(id, session)| (*id, &session.peer)));
                return false;
            }
            Address::Session(id) => {
                let session = self.sessions.get(id);
                found.extend(session.map(|session| (*id, &session.peer)));
                return session.is_none();
            }
            // Nobody is missed in a group.
            Address::Group(group) => (self.groups.get(group), false),
            Address::User(user) => {
                let sessions = self.users.get(user);
                (sessions, sessions.is_none())
            }
        };
        let members = members.into_iter().flatten();
        found.extend(members.map(|(id, peer)| (*id, peer)));
        is_missed
    }
}

/// Whether it is the first one there.
fn add(index: &mut Index, name: Arc<str>, peer: &Peer) -> bool {
    let members = index.entry(name).or_default();
    members.insert(peer.session_id(), peer.clone());
    members.len() == 1
}

/// Whether it was the last one there.
fn remove(index: &mut Index, name: &str, id: SessionId) -> bool {
    let Some(members) = index.get_mut(name) else {
        return false;
    };
    // Not the last handle: the session's own one goes after it, without the lock.
    members.remove(&id);
    let is_empty = members.is_empty();
    if is_empty {
        index.remove(name);
    }
    is_empty
}
