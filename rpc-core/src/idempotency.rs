//! Calls with an idempotency key: each is executed once, and its result kept for repetitions.
//!
//! The first call of a key is executed to its end in a task of its own. A repetition that comes
//! meanwhile waits for the same answer, and one that comes later gets it at once. What is kept has
//! an end and bounds, which are looked at whenever a call with a key comes or ends: there is no
//! timer.

#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use crate::{
    body::Codec,
    inbound_call::Reply,
    protocol::Target,
    status::{Code, Fate, Status},
};

/// What is kept of the results of calls with an idempotency key, so that a repeated call is not
/// executed again: how much, and for how long.
///
/// A result that is no longer kept cannot be repeated: a call with its key is executed as a new
/// one.
///
/// ```
/// use std::time::Duration;
/// use wirecall_core::KeptResults;
///
/// let results = KeptResults::default()
///     .max_age(Duration::from_secs(3600))
///     .max_bytes(64 << 20);
/// assert_eq!(results.max_results, 10_000);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeptResults {
    /// How long a result is kept after its call has ended. 5 min.
    pub max_age: Duration,
    /// How many calls there may be, those that are being executed included. Beyond that the oldest
    /// results go, and where there are none, a call with a new key is refused with
    /// `RESOURCE_EXHAUSTED`. 10,000; 0 refuses all calls with a key.
    pub max_results: usize,
    /// How many bytes all results may have, keys and bookkeeping included. Beyond that the oldest
    /// ones go. 16 MiB.
    pub max_bytes: usize,
    /// How many bytes a result may have, or the error in its place. Of a larger one is only kept
    /// that there was one: those who wait for it get it, and a later repetition is refused with
    /// `FAILED_PRECONDITION` and the fate `Executed`. 64 KiB.
    pub max_result_bytes: usize,
}

impl Default for KeptResults {
    fn default() -> Self {
        KeptResults {
            max_age: Duration::from_secs(300),
            max_results: 10_000,
            max_bytes: 16 << 20,
            max_result_bytes: 64 << 10,
        }
    }
}

impl KeptResults {
    /// Sets [`KeptResults::max_age`].
    #[must_use]
    pub fn max_age(mut self, max_age: Duration) -> Self {
        self.max_age = max_age;
        self
    }

    /// Sets [`KeptResults::max_results`].
    #[must_use]
    pub fn max_results(mut self, max_results: usize) -> Self {
        self.max_results = max_results;
        self
    }

    /// Sets [`KeptResults::max_bytes`].
    #[must_use]
    pub fn max_bytes(mut self, max_bytes: usize) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    /// Sets [`KeptResults::max_result_bytes`].
    #[must_use]
    pub fn max_result_bytes(mut self, max_result_bytes: usize) -> Self {
        self.max_result_bytes = max_result_bytes;
        self
    }
}

/// What an entry takes beside its key and its result.
const ENTRY_BYTES: usize = 256;

/// The calls with a key, of all connections of one router.
#[derive(Default)]
pub(crate) struct ResultCache {
    bounds: KeptResults,
    /// Its keys are the process's own: a peer cannot find arguments that look like others.
    hasher: RandomState,
    table: Mutex<Table>,
}

/// What the lock protects. What goes is dropped after it is released.
#[derive(Default)]
struct Table {
    entries: HashMap<Key, Entry>,
    /// Those that have ended, in that order, which is that of their end of life, too.
    ended: VecDeque<Ended>,
    /// The sum of those of `ended`.
    bytes: usize,
}

/// What a call is known by. Nobody gets another one's result; where nobody is asked who they are,
/// keys are what nobody else comes up with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    /// In the numbers of the router, which are as good as names within it.
    service: u32,
    method: u32,
    user: Option<Arc<str>>,
    key: Arc<str>,
}

impl Key {
    fn bytes(&self) -> usize {
        self.key.len() + self.user.as_ref().map_or(0, |user| user.len())
    }
}

struct Entry {
    /// Of the arguments and their codec: repetitions have the same.
    fingerprint: u64,
    progress: Progress,
}

enum Progress {
    /// Tells those who wait for the result.
    Running(watch::Sender<Option<Arc<Reply>>>),
    Ended(Arc<Reply>),
}

struct Ended {
    key: Key,
    expires: Option<Instant>,
    bytes: usize,
}

/// What is to be done with a call that has a key.
pub(crate) enum Arrival {
    /// It is the first one: to be executed.
    First(Execution),
    /// The first one is being executed.
    Repeated(Repetition),
    /// The answer is known: that of the first one, or a refusal.
    Answered(Reply),
}

/// The first call of a key. Whatever becomes of it, it leaves a result.
pub(crate) struct Execution {
    cache: Arc<ResultCache>,
    key: Key,
    has_ended: bool,
}

/// A call that waits for the first one of its key.
pub(crate) struct Repetition(watch::Receiver<Option<Arc<Reply>>>);

impl ResultCache {
    pub(crate) fn new(bounds: KeptResults) -> Self {
        ResultCache {
            bounds,
            ..ResultCache::default()
        }
    }

    /// A call with a key has come.
    pub(crate) fn arrive(
        self: &Arc<Self>,
        target: Target,
        user: Option<Arc<str>>,
        key: Arc<str>,
        codec: Codec,
        arguments: &[u8],
    ) -> Arrival {
        let key = Key {
            service: target.service,
            method: target.method,
            user,
            key,
        };
        let fingerprint = self.hasher.hash_one((codec, arguments));
        let now = Instant::now();
        let mut gone = Vec::new();
        let mut table = self.lock();
        table.expire(now, &mut gone);
        if let Some(entry) = table.entries.get(&key) {
            if entry.fingerprint != fingerprint {
                return refused(
                    Code::INVALID_ARGUMENT,
                    "the idempotency key was used with other arguments, or in another codec",
                );
            }
            let reply = match &entry.progress {
                Progress::Running(sender) => {
                    return Arrival::Repeated(Repetition(sender.subscribe()));
                }
                Progress::Ended(reply) => reply.clone(),
            };
            drop(table);
            return Arrival::Answered(reply.detached());
        }
        if table.entries.len() >= self.bounds.max_results && !table.forget_oldest(&mut gone) {
            return refused(
                Code::RESOURCE_EXHAUSTED,
                "too many calls with an idempotency key are being executed",
            );
        }
        let entry = Entry {
            fingerprint,
            progress: Progress::Running(watch::Sender::new(None)),
        };
        table.entries.insert(key.clone(), entry);
        drop(table);
        Arrival::First(Execution {
            cache: self.clone(),
            key,
            has_ended: false,
        })
    }

    /// The first call of a key has ended.
    fn end(&self, key: &Key, reply: &Reply) {
        let kept = self.kept(reply).map(Arc::new);
        let now = Instant::now();
        let mut gone = Vec::new();
        let mut table = self.lock();
        table.expire(now, &mut gone);
        let replaced = match &kept {
            Some(kept) => {
                let ended = Ended {
                    key: key.clone(),
                    expires: now.checked_add(self.bounds.max_age),
                    bytes: ENTRY_BYTES + key.bytes() + kept.kept_bytes(),
                };
                table.end(ended, kept.clone())
            }
            None => table.entries.remove(key).map(|entry| entry.progress),
        };
        // The last one stays: it is what its caller may ask for next.
        while table.bytes > self.bounds.max_bytes && table.ended.len() > 1 {
            table.forget_oldest(&mut gone);
        }
        drop(table);
        // Nobody joins those who wait any more. They get what the first caller gets.
        if let Some(Progress::Running(waiting)) = replaced
            && waiting.receiver_count() > 0
        {
            waiting.send_replace(Some(Arc::new(reply.detached())));
        }
    }

    /// What later repetitions get. None for a call that had no effect: the next one of its key is
    /// executed.
    fn kept(&self, reply: &Reply) -> Option<Reply> {
        if reply.says_not_executed() {
            return None;
        }
        let bytes = reply.kept_bytes();
        let limit = self.bounds.max_result_bytes.min(self.bounds.max_bytes);
        if bytes <= limit {
            return Some(reply.to_keep());
        }
        let message = format!(
            "the call was executed, and its result not kept: it has {bytes} bytes, the limit is \
             {limit}"
        );
        Some(Reply::error(Status::new(
            Code::FAILED_PRECONDITION,
            message,
        )))
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Forgets what has been kept long enough.
    fn expire(&mut self, now: Instant, gone: &mut Vec<Progress>) {
        while let Some(oldest) = self.ended.front()
            && oldest.expires.is_some_and(|expires| expires <= now)
        {
            self.forget_oldest(gone);
        }
    }

    /// Forgets a result. Says whether there was one.
    fn forget_oldest(&mut self, gone: &mut Vec<Progress>) -> bool {
        let Some(oldest) = self.ended.pop_front() else {
            return false;
        };
        self.bytes -= oldest.bytes;
        let entry = self.entries.remove(&oldest.key);
        gone.extend(entry.map(|entry| entry.progress));
        true
    }

    /// Puts a result in the place of the call that runs, which is returned.
    fn end(&mut self, ended: Ended, kept: Arc<Reply>) -> Option<Progress> {
        let entry = self.entries.get_mut(&ended.key)?;
        self.bytes += ended.bytes;
        self.ended.push_back(ended);
        Some(std::mem::replace(
            &mut entry.progress,
            Progress::Ended(kept),
        ))
    }
}

fn refused(code: Code, message: &'static str) -> Arrival {
    let status = Status::new(code, message).with_fate(Fate::NotExecuted);
    Arrival::Answered(Reply::error(status))
}

/// What is said for a handler of which nobody knows the end.
fn dropped() -> Reply {
    let status = Status::new(Code::ABORTED, "the handler was dropped before it ended");
    Reply::error(status.with_fate(Fate::Unknown))
}

impl Execution {
    /// Leaves the result, and gives it to those who wait for it.
    pub(crate) fn end(mut self, reply: &Reply) {
        self.has_ended = true;
        self.cache.end(&self.key, reply);
    }
}

/// Its task was dropped, with its runtime as a rule.
impl Drop for Execution {
    fn drop(&mut self) {
        if !self.has_ended {
            self.cache.end(&self.key, &dropped());
        }
    }
}

impl Repetition {
    /// Waits for the result of the first call.
    pub(crate) async fn reply(mut self) -> Reply {
        let reply = self.0.wait_for(Option::is_some).await;
        let reply = reply.ok().and_then(|reply| (*reply).clone());
        reply.map_or_else(dropped, |reply| reply.detached())
    }
}

impl fmt::Debug for ResultCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResultCache")
            .field("bounds", &self.bounds)
            .finish_non_exhaustive()
    }
}
