//! How a client measures: counters, windows of time, latencies.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::system::Process;

/// One figure of one run, as the client reports it to the parent: a line of JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Metric {
    #[serde(rename = "metric")]
    pub(crate) name: String,
    pub(crate) value: f64,
}

impl Metric {
    pub(crate) fn new(name: &str, value: f64) -> Self {
        Metric {
            name: name.to_owned(),
            value,
        }
    }
}

/// Counts what one task has done. It has a cache line of its own, and one task writes to it, so
/// that counting costs next to nothing and never more on two cores than on one.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Tally(AtomicU64);

impl Tally {
    pub(crate) fn add(&self, count: u64) {
        // No read-modify-write: nobody else writes.
        let sum = self.0.load(Ordering::Relaxed) + count;
        self.0.store(sum, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How long calls took. Recording costs a lock that nobody else wants, which is little beside a
/// call that is awaited alone.
#[derive(Clone, Debug)]
pub(crate) struct Latencies(Arc<Mutex<Histogram<u64>>>);

impl Latencies {
    pub(crate) fn new() -> Self {
        let up_to_a_minute = Histogram::new_with_bounds(1, 60_000_000_000, 3);
        let histogram = up_to_a_minute.expect("the bounds are in order");
        Latencies(Arc::new(Mutex::new(histogram)))
    }

    pub(crate) fn record(&self, latency: Duration) {
        self.lock().saturating_record(nanoseconds(latency));
    }

    /// Counts as well what a caller would have waited who had come meanwhile, once in each
    /// `interval`. Without them, the calls of one who waits for each answer before the next call
    /// are fewest when they take longest.
    pub(crate) fn record_steady(&self, latency: Duration, interval: Duration) {
        let [latency, interval] = [latency, interval].map(nanoseconds);
        // Longer ones than a minute are failures.
        let _ = self.lock().record_correct(latency, interval);
    }

    /// Forgets what was recorded so far.
    pub(crate) fn reset(&self) {
        self.lock().reset();
    }

    pub(crate) fn count(&self) -> u64 {
        self.lock().len()
    }

    /// Quantiles, under these names.
    pub(crate) fn metrics(&self) -> Vec<Metric> {
        let histogram = self.lock();
        [("p50_us", 0.5), ("p99_us", 0.99), ("p999_us", 0.999)]
            .map(|(name, quantile)| {
                Metric::new(name, histogram.value_at_quantile(quantile) as f64 / 1e3)
            })
            .into()
    }

    fn lock(&self) -> MutexGuard<'_, Histogram<u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Long enough for connections to reach their pace and for buffers to grow.
pub(crate) const WARM_UP: Duration = Duration::from_millis(300);
pub(crate) const WINDOW: Duration = Duration::from_secs(1);

/// Tasks that do the same thing over and over, each with its tally. They have no end; one that
/// ends has failed.
#[derive(Default)]
pub(crate) struct Tasks {
    running: JoinSet<Result<()>>,
    tallies: Vec<Arc<Tally>>,
}

impl Tasks {
    pub(crate) fn spawn<F>(&mut self, task: impl FnOnce(Arc<Tally>) -> F)
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let tally = Arc::<Tally>::default();
        self.tallies.push(tally.clone());
        self.running.spawn(task(tally));
    }

    /// What all of them have done so far.
    pub(crate) fn sum(&self) -> u64 {
        self.tallies.iter().map(|tally| tally.get()).sum()
    }

    /// Waits until each of them has done something.
    pub(crate) async fn all_begun(&mut self) -> Result<()> {
        while self.tallies.iter().any(|tally| tally.get() == 0) {
            self.go_on_for(Duration::from_millis(10)).await?;
        }
        Ok(())
    }

    /// Lets them go on for that long.
    pub(crate) async fn go_on_for(&mut self, time: Duration) -> Result<()> {
        self.go_on_until(tokio::time::sleep(time)).await
    }

    /// Lets them go on until something else is done.
    pub(crate) async fn go_on_until<T>(&mut self, done: impl Future<Output = T>) -> Result<T> {
        tokio::select! {
            value = done => Ok(value),
            Some(ended) = self.running.join_next() => {
                ended??;
                bail!("a task has ended early")
            }
        }
    }

    pub(crate) async fn stop(mut self) {
        self.running.shutdown().await;
    }
}

/// What was counted in a window of time, and what it cost both processes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    count: u64,
    elapsed: Duration,
    client_cpu: Duration,
    server_cpu: Duration,
}

impl Window {
    pub(crate) async fn measure(tasks: &mut Tasks, server: Process) -> Result<Self> {
        let client = Process::this()?;
        let (client_cpu, server_cpu) = (client.cpu_time()?, server.cpu_time()?);
        let (begin, count) = (Instant::now(), tasks.sum());
        tasks.go_on_for(WINDOW).await?;
        let (elapsed, count) = (begin.elapsed(), tasks.sum() - count);
        ensure!(count > 0, "nothing came to an end within {elapsed:?}");
        Ok(Window {
            count,
            elapsed,
            client_cpu: client.cpu_time()? - client_cpu,
            server_cpu: server.cpu_time()? - server_cpu,
        })
    }

    /// So many in this window, for each second of it.
    pub(crate) fn per_second(&self, count: u64) -> f64 {
        count as f64 / self.elapsed.as_secs_f64()
    }

    /// The rate under this name, and the processor time for a million.
    pub(crate) fn metrics(&self, rate: &str) -> Vec<Metric> {
        let millions = self.count as f64 / 1e6;
        let per_million = |cpu: Duration| cpu.as_secs_f64() / millions;
        vec![
            Metric::new(rate, self.per_second(self.count)),
            Metric::new("client_cpu_s_per_m", per_million(self.client_cpu)),
            Metric::new("server_cpu_s_per_m", per_million(self.server_cpu)),
        ]
    }
}
