//! A service that keeps account of what was executed, and a client that uses every shape of call.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{Stream, StreamExt as _, stream};
use tokio::{task::JoinSet, time::sleep};
use wirecall::{CallError, Client, Code, Context, Fate, Status, Streaming};

#[wirecall::service]
pub trait Ledger {
    /// Enters a booking, after a while. It must not be entered twice.
    async fn book(&self, number: u64, ms: u64) -> u64;

    /// Like `book`, but it may be.
    #[rpc(idempotent)]
    async fn look(&self, number: u64, ms: u64) -> u64;

    /// The numbers below `n`, one each `ms`.
    fn count(&self, n: u64, ms: u64) -> impl Stream<Item = u64>;

    /// What came, in order.
    async fn collect(&self, numbers: Streaming<u64>) -> Result<Vec<u64>, Status>;

    /// Twice what comes.
    fn double(&self, numbers: Streaming<u64>) -> impl Stream<Item = Result<u64, Status>>;

    /// Sends that many notifications, one each `ms`.
    async fn push(&self, cx: &Context, n: u64, ms: u64) -> Result<(), Status>;

    /// A notification of the client's.
    #[notify]
    async fn note(&self, number: u64);
}

#[wirecall::service]
pub trait LedgerEvents {
    #[notify]
    async fn noted(&self, number: u64);

    /// A call of the server's.
    async fn confirm(&self, number: u64) -> u64;
}

/// How often each booking was entered, and what was noted in which order.
#[derive(Clone, Default)]
pub struct Book {
    entries: Arc<Mutex<HashMap<u64, u64>>>,
    notes: Arc<Mutex<Vec<u64>>>,
}

impl Book {
    pub fn entered(&self, number: u64) -> u64 {
        let entries = self.entries.lock().unwrap();
        entries.get(&number).copied().unwrap_or_default()
    }

    pub fn entries(&self) -> HashMap<u64, u64> {
        self.entries.lock().unwrap().clone()
    }

    pub fn notes(&self) -> Vec<u64> {
        self.notes.lock().unwrap().clone()
    }

    async fn enter(&self, number: u64, ms: u64) -> u64 {
        *self.entries.lock().unwrap().entry(number).or_default() += 1;
        if ms > 0 {
            sleep(Duration::from_millis(ms)).await;
        }
        number
    }
}

impl Ledger for Book {
    async fn book(&self, number: u64, ms: u64) -> u64 {
        self.enter(number, ms).await
    }

    async fn look(&self, number: u64, ms: u64) -> u64 {
        self.enter(number, ms).await
    }

    fn count(&self, n: u64, ms: u64) -> impl Stream<Item = u64> {
        stream::iter(0..n).then(move |number| async move {
            if ms > 0 {
                sleep(Duration::from_millis(ms)).await;
            }
            number
        })
    }

    async fn collect(&self, numbers: Streaming<u64>) -> Result<Vec<u64>, Status> {
        let numbers: Vec<_> = numbers.collect().await;
        numbers.into_iter().collect()
    }

    fn double(&self, numbers: Streaming<u64>) -> impl Stream<Item = Result<u64, Status>> {
        numbers.map(|number| number.map(|number| number * 2))
    }

    async fn push(&self, cx: &Context, n: u64, ms: u64) -> Result<(), Status> {
        let events = LedgerEventsClient::new(cx);
        for number in 0..n {
            events.noted(number).await.map_err(failed)?;
            sleep(Duration::from_millis(ms)).await;
        }
        let answer = events.confirm(n).await.map_err(failed)?;
        assert_eq!(answer, n);
        Ok(())
    }

    async fn note(&self, number: u64) {
        self.notes.lock().unwrap().push(number);
    }
}

fn failed(error: CallError) -> Status {
    Status::new(Code::ABORTED, error.to_string())
}

/// What the client was told.
#[derive(Clone, Default)]
pub struct Told(Arc<Mutex<Vec<u64>>>);

impl Told {
    pub fn take(&self) -> Vec<u64> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl LedgerEvents for Told {
    async fn noted(&self, number: u64) {
        self.0.lock().unwrap().push(number);
    }

    async fn confirm(&self, number: u64) -> u64 {
        number
    }
}

/// Calls of every shape at once, for a few hundred milliseconds. All of them have to come out right,
/// whatever happens to the connection meanwhile. Bookings are numbered from `first` on.
pub async fn every_shape(client: &Client, told: &Told, first: u64) {
    let ledger = LedgerClient::new(client);
    told.take();
    let mut work = JoinSet::new();
    for lane in 0..8 {
        let ledger = ledger.clone();
        work.spawn(async move {
            for round in 0..20 {
                let number = first + lane * 20 + round;
                assert_eq!(ledger.book(number, round % 4 * 10).await.unwrap(), number);
            }
        });
    }
    let down = ledger.clone();
    work.spawn(async move {
        let items = down.count(100, 3).await.unwrap();
        let items: Vec<_> = items.map(|item| item.unwrap()).collect().await;
        assert_eq!(items, (0..100).collect::<Vec<_>>());
    });
    let up = ledger.clone();
    work.spawn(async move {
        let collected = up.collect(paced(100)).await.unwrap();
        assert_eq!(collected, (0..100).collect::<Vec<_>>());
    });
    let both = ledger.clone();
    work.spawn(async move {
        let items = both.double(paced(100)).await.unwrap();
        let items: Vec<_> = items.map(|item| item.unwrap()).collect().await;
        assert_eq!(items, (0..100).map(|n| n * 2).collect::<Vec<_>>());
    });
    let noting = ledger.clone();
    work.spawn(async move {
        for number in 0..100 {
            noting.note(first + number).await.unwrap();
            sleep(Duration::from_millis(3)).await;
        }
    });
    work.spawn(async move { ledger.push(100, 3).await.unwrap() });
    while let Some(done) = work.join_next().await {
        done.unwrap();
    }
    assert_eq!(told.take(), (0..100).collect::<Vec<_>>());
}

fn paced(n: u64) -> impl Stream<Item = u64> + Send + 'static {
    stream::iter(0..n).then(|number| async move {
        sleep(Duration::from_millis(3)).await;
        number
    })
}

/// That [`every_shape`] was executed once, and its notes came in order.
pub fn assert_executed_once(book: &Book, first: u64) {
    for number in first..first + 160 {
        assert_eq!(book.entered(number), 1, "booking {number}");
    }
    let notes: Vec<_> = book
        .notes()
        .into_iter()
        .filter(|note| (first..first + 100).contains(note))
        .collect();
    assert_eq!(notes, (first..first + 100).collect::<Vec<_>>());
}

/// What may be said of a call that has failed, beside what the ledger knows.
pub fn assert_fate(book: &Book, number: u64, failed: &CallError) {
    let entered = book.entered(number);
    match failed.fate() {
        Fate::NotSent | Fate::NotExecuted => assert_eq!(entered, 0, "booking {number}: {failed}"),
        Fate::Executed => assert_eq!(entered, 1, "booking {number}: {failed}"),
        _ => assert!(entered <= 1, "booking {number}: {failed}"),
    }
}
