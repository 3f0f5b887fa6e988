//! Topics by name.

use std::{
    any::{Any, TypeId, type_name},
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use tokio::time::Instant;

use super::{
    Topic,
    history::{Budget, Ends},
    log::Log,
    settings::{Bounds, KeyOf, TopicLimits, TopicSettings},
};
use crate::status::{Code, Status};

/// The longest name of a topic, in bytes.
const MAX_NAME_BYTES: usize = 256;

/// Topics by their names. A server's are those of its hub.
///
/// A topic is there while somebody has a handle of it or is subscribed to it, and as long as its
/// history lasts. After that its name may be used for another, with an epoch of its own.
///
/// A cheap clone; all clones are the same topics.
#[derive(Clone)]
pub struct Topics(Arc<Register>);

struct Register {
    table: Mutex<Table>,
    budget: Arc<Budget>,
    max_topics: usize,
}

#[derive(Default)]
struct Table {
    topics: HashMap<Arc<str>, Entry>,
    /// Those that are there only for their histories, in the order in which they give way.
    idle: BTreeMap<Idle, Arc<str>>,
    next_idle: u64,
    /// Settings by prefixes of names.
    declared: BTreeMap<Box<str>, Declared>,
}

struct Entry {
    log: Arc<Log>,
    item: ItemType,
    /// The [`KeyOf`] of its items, if it has one.
    key: Arc<dyn Any + Send + Sync>,
    lease: Weak<Lease>,
    /// Where it stands among the idle ones, if it does.
    idle: Option<Idle>,
}

/// First those whose histories end, soonest first, then the others, in the order in which they were
/// left.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Idle {
    is_endless: bool,
    ends: Instant,
    number: u64,
}

#[derive(Clone)]
struct Declared {
    item: ItemType,
    bounds: Bounds,
    key: Arc<dyn Any + Send + Sync>,
}

#[derive(Clone, Copy)]
struct ItemType {
    id: TypeId,
    name: &'static str,
}

/// What all handles of a topic share: the topic goes when the last of them does.
pub(super) struct Lease {
    log: Arc<Log>,
    name: Arc<str>,
    register: Weak<Register>,
    budget: Arc<Budget>,
}

impl Lease {
    pub(super) fn log(&self) -> &Log {
        &self.log
    }

    /// Before something is published: sees to it that there is room for it in the history, as long as
    /// others are there that nobody holds.
    #[inline]
    pub(super) fn make_room(&self) {
        if self.log.has_history()
            && self.budget.excess() > 0
            && let Some(register) = self.register.upgrade()
        {
            register.shrink();
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

impl Topics {
    /// None yet.
    #[must_use]
    pub fn new(limits: TopicLimits) -> Self {
        Topics(Arc::new(Register {
            table: Mutex::default(),
            budget: Budget::new(limits.max_history_bytes),
            max_topics: limits.max_topics,
        }))
    }

    /// Says what topics are like whose names begin with `prefix`, the longest that fits: for those
    /// that come to be from now on. An earlier declaration of the same prefix is replaced.
    pub fn declare<T: 'static>(&self, prefix: &str, settings: TopicSettings<T>) {
        let declared = Declared {
            item: ItemType::of::<T>(),
            bounds: settings.bounds,
            key: Arc::new(settings.key),
        };
        let before = self.0.lock().declared.insert(prefix.into(), declared);
        // Without the lock: with it may go the user's key function.
        drop(before);
    }

    /// The topic of this name, which comes to be if it is not there. Whoever keeps the handle need
    /// not look it up again.
    ///
    /// A topic that cannot be had gives a handle that says why, when it is published to or returned
    /// to a subscriber: `FAILED_PRECONDITION` where its items, or those that were declared, are of
    /// another type; `RESOURCE_EXHAUSTED` where there are too many topics; `INVALID_ARGUMENT` for a
    /// name of more than 256 bytes.
    #[must_use]
    pub fn get<T: 'static>(&self, name: &str) -> Topic<T> {
        match self.0.lease(name, ItemType::of::<T>()) {
            Ok((lease, key)) => {
                let key: Option<&Option<KeyOf<T>>> = key.downcast_ref();
                Topic::new(Ok(lease), key.cloned().flatten())
            }
            Err(status) => Topic::new(Err(status), None),
        }
    }

    /// How many topics there are.
    #[must_use]
    pub fn len(&self) -> usize {
        let mut gone = Vec::new();
        let mut table = self.0.lock();
        table.sweep(Instant::now(), &mut gone);
        table.topics.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes their histories have.
    #[must_use]
    pub fn history_bytes(&self) -> usize {
        self.0.budget.used()
    }
}

impl Register {
    fn lease(
        self: &Arc<Self>,
        name: &str,
        item: ItemType,
    ) -> Result<(Arc<Lease>, Arc<dyn Any + Send + Sync>), Status> {
        if name.len() > MAX_NAME_BYTES {
            return Err(Status::new(
                Code::INVALID_ARGUMENT,
                format!("the name of a topic has more than {MAX_NAME_BYTES} bytes"),
            ));
        }
        // Declared before the lock is taken, and so dropped after it.
        let mut gone = Vec::new();
        let mut table = self.lock();
        table.sweep(Instant::now(), &mut gone);
        if !table.topics.contains_key(name) {
            let (bounds, key) = match table.declared(name) {
                Some(declared) => {
                    declared.item.check(name, item)?;
                    (declared.bounds, declared.key.clone())
                }
                None => (TopicSettings::<()>::default().bounds, Arc::new(()) as _),
            };
            table.make_room(self.max_topics, &mut gone)?;
            let entry = Entry {
                log: Arc::new(Log::new(bounds, self.budget.clone())),
                item,
                key,
                lease: Weak::new(),
                idle: None,
            };
            table.topics.insert(name.into(), entry);
        }
        let Table { topics, idle, .. } = &mut *table;
        let name: Arc<str> = match topics.get_key_value(name) {
            Some((name, _)) => name.clone(),
            None => name.into(),
        };
        let Some(entry) = topics.get_mut(&name) else {
            return Err(Status::new(Code::INTERNAL, "the topic is not there"));
        };
        entry.item.check(&name, item)?;
        let lease = match entry.lease.upgrade() {
            Some(lease) => lease,
            None => {
                let lease = Arc::new(Lease {
                    log: entry.log.clone(),
                    name,
                    register: Arc::downgrade(self),
                    budget: self.budget.clone(),
                });
                entry.lease = Arc::downgrade(&lease);
                lease
            }
        };
        if let Some(place) = entry.idle.take() {
            idle.remove(&place);
        }
        let key = entry.key.clone();
        drop(table);
        Ok((lease, key))
    }

    /// The last handle of a topic has gone, unless somebody has got another one meanwhile.
    fn release(&self, log: &Arc<Log>, name: &Arc<str>) {
        let now = Instant::now();
        let mut gone = Vec::new();
        let mut table = self.lock();
        table.sweep(now, &mut gone);
        let number = table.next_idle;
        let Table {
            topics,
            idle,
            next_idle,
            ..
        } = &mut *table;
        let Some(entry) = topics.get_mut(name) else {
            return;
        };
        let is_held = entry.lease.strong_count() > 0;
        if is_held || entry.idle.is_some() || !Arc::ptr_eq(&entry.log, log) {
            return;
        }
        let Some(ends) = log.history_ends(now) else {
            gone.extend(topics.remove(name));
            return;
        };
        *next_idle += 1;
        let place = Idle {
            is_endless: ends == Ends::Never,
            ends: match ends {
                Ends::At(ends) => ends,
                Ends::Never => now,
            },
            number,
        };
        entry.idle = Some(place);
        idle.insert(place, name.clone());
    }

    /// Topics that are there only for their histories give way while those together take too much.
    /// Who publishes does not wait for the table: somebody else does it later.
    #[cold]
    fn shrink(&self) {
        let mut gone = Vec::new();
        let Ok(mut table) = self.table.try_lock() else {
            return;
        };
        let excess = self.budget.excess();
        let mut freed = 0;
        while freed < excess && !table.idle.is_empty() {
            let before = gone.len();
            table.pop_idle(&mut gone);
            let histories = gone[before..].iter().map(|entry| entry.log.history_bytes());
            freed += histories.sum::<usize>();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Takes out those whose histories are over, to be dropped without the lock.
    fn sweep(&mut self, now: Instant, gone: &mut Vec<Entry>) {
        while let Some((place, _)) = self.idle.first_key_value()
            && !place.is_endless
            && place.ends <= now
        {
            self.pop_idle(gone);
        }
    }

    fn pop_idle(&mut self, gone: &mut Vec<Entry>) {
        if let Some((_, name)) = self.idle.pop_first() {
            gone.extend(self.topics.remove(&name));
        }
    }

    /// Sees to it that one more fits.
    fn make_room(&mut self, max_topics: usize, gone: &mut Vec<Entry>) -> Result<(), Status> {
        while self.topics.len() >= max_topics {
            if self.idle.is_empty() {
                return Err(Status::new(
                    Code::RESOURCE_EXHAUSTED,
                    format!("there are {max_topics} topics already"),
                ));
            }
            self.pop_idle(gone);
        }
        Ok(())
    }

    /// What was declared for the longest prefix of this name.
    fn declared(&self, name: &str) -> Option<&Declared> {
        let ends = name.char_indices().map(|(at, _)| at);
        let ends = ends.chain([name.len()]).rev();
        ends.map(|end| &name[..end])
            .find_map(|prefix| self.declared.get(prefix))
    }
}

impl ItemType {
    fn of<T: 'static>() -> Self {
        ItemType {
            id: TypeId::of::<T>(),
            name: type_name::<T>(),
        }
    }

    /// Whether this topic's items are of that type.
    fn check(self, topic: &str, other: ItemType) -> Result<(), Status> {
        if self.id == other.id {
            return Ok(());
        }
        Err(Status::new(
            Code::FAILED_PRECONDITION,
            format!(
                "the items of the topic {topic:?} are of type {}, not {}",
                self.name, other.name
            ),
        ))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(register) = self.register.upgrade() {
            register.release(&self.log, &self.name);
        }
    }
}

impl Default for Topics {
    fn default() -> Self {
        Topics::new(TopicLimits::default())
    }
}

impl fmt::Debug for Topics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topics")
            .field("len", &self.len())
            .field("history_bytes", &self.history_bytes())
            .finish()
    }
}
