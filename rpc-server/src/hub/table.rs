//! What a hub knows. Each thing is in two places: whoever changes one changes the other.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
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

type Index = HashMap<Arc<str>, BTreeSet<SessionId>>;

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
            add(&mut self.groups, group.clone(), id);
        }
        if let Some(user) = &user
            && add(&mut self.users, user.clone(), id)
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
        let session = self.sessions.get_mut(&id);
        let is_in = session.is_some();
        let own = session.map(|session| &mut session.groups);
        let own = own.or_else(|| self.coming.get_mut(&id));
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
        if is_in {
            add(&mut self.groups, group, id);
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

    /// Adds those who are at an address, and says whether somebody is missed there.
    pub(super) fn find(&self, address: &Address, found: &mut BTreeSet<SessionId>) -> bool {
        let (ids, is_missed) = match address {
            Address::All => {
                found.extend(self.sessions.keys());
                return false;
            }
            Address::Session(id) => {
                let is_there = self.sessions.contains_key(id);
                found.extend(is_there.then_some(id));
                return !is_there;
            }
            // Nobody is missed in a group.
            Address::Group(group) => (self.groups.get(group), false),
            Address::User(user) => {
                let ids = self.users.get(user);
                (ids, ids.is_none())
            }
        };
        found.extend(ids.into_iter().flatten());
        is_missed
    }

    pub(super) fn peer(&self, id: SessionId) -> Option<Peer> {
        Some(self.sessions.get(&id)?.peer.clone())
    }
}

/// Whether it is the first one there.
fn add(index: &mut Index, name: Arc<str>, id: SessionId) -> bool {
    let ids = index.entry(name).or_default();
    ids.insert(id);
    ids.len() == 1
}

/// Whether it was the last one there.
fn remove(index: &mut Index, name: &str, id: SessionId) -> bool {
    let Some(ids) = index.get_mut(name) else {
        return false;
    };
    ids.remove(&id);
    let is_empty = ids.is_empty();
    if is_empty {
        index.remove(name);
    }
    is_empty
}
