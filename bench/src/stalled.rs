//! `stalled`: what a stream whose consumer stands still costs the rest of its connection, and what
//! it costs both processes in memory.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use futures::{Stream, StreamExt as _};
use wirecall::CallError;

use crate::{
    cli::ReportOptions,
    load::Run,
    measure::{Latencies, Metric},
    peers::{
        bytes_of,
        wirecall::{self as peer, BenchClient},
    },
    phases,
    scenario::{SMALL_BYTES, Scenario},
    system::Process,
};

/// Small calls that are timed before the stream stands still, and while it does.
const CALLS: u64 = 20_000;

/// For how long the stream stands still at least.
const STANDSTILL: Duration = Duration::from_secs(3);

/// What is read of the stream before it stands still, and once it goes on.
const ITEMS_BEFORE: u64 = 1_000;
const ITEMS_AFTER: u64 = 1_000_000;

/// How the consumer reads once it goes on: so many at once, and then nothing for a while.
const BURST: u64 = 10_000;
const PAUSE: Duration = Duration::from_millis(10);

/// How much more memory either process may occupy than before the stream.
const MAX_GROWTH_KIB: f64 = 16.0 * 1024.0;

/// In the parent: has it measured, prints what was, and fails if memory grew.
pub(crate) async fn run(options: &ReportOptions) -> Result<ExitCode> {
    phases::run(&Scenario::stalled(), options, |metric| {
        metric.name.ends_with("growth_kib") && metric.value > MAX_GROWTH_KIB
    })
    .await
}

/// In the client: goes through the phases, on one connection. A metric is named after its phase.
pub(crate) async fn measure(run: &Run) -> Result<Vec<Metric>> {
    let bench = peer::dial(run.address, true).await?;
    let mut metrics = Vec::new();

    time_calls(&bench, Duration::ZERO).await?;
    let latencies = time_calls(&bench, Duration::ZERO).await?;
    let mut memory = Memory::new(run.server)?;
    metrics.extend(phase("before", calls(&latencies), &memory));

    let mut numbers = Numbers {
        stream: bench.numbers().await?,
        next: 0,
    };
    numbers.read(ITEMS_BEFORE).await?;
    let latencies = time_calls(&bench, STANDSTILL).await?;
    memory.sample()?;
    metrics.extend(phase("while", calls(&latencies), &memory));

    let begin = Instant::now();
    for _ in 0..ITEMS_AFTER / BURST {
        numbers.read(BURST).await?;
        tokio::time::sleep(PAUSE).await;
        memory.sample()?;
    }
    let rate = ITEMS_AFTER as f64 / begin.elapsed().as_secs_f64();
    metrics.extend(phase(
        "after",
        vec![Metric::new("items_per_s", rate)],
        &memory,
    ));
    Ok(metrics)
}

/// Times calls, one at a time: so many, and for so long, at least.
async fn time_calls(bench: &BenchClient, time: Duration) -> Result<Latencies> {
    let latencies = Latencies::new();
    let body = bytes_of(SMALL_BYTES);
    let bench = bench.clone();
    let recorded = latencies.clone();
    let calls = tokio::spawn(async move {
        let begin = Instant::now();
        while recorded.count() < CALLS || begin.elapsed() < time {
            let begin = Instant::now();
            let echo = bench.echo(&body).await?;
            recorded.record(begin.elapsed());
            ensure!(*echo == *body, "a wrong echo");
        }
        Ok(())
    });
    calls.await??;
    Ok(latencies)
}

fn calls(latencies: &Latencies) -> Vec<Metric> {
    let samples = Metric::new("samples", latencies.count() as f64);
    latencies.metrics().into_iter().chain([samples]).collect()
}

/// The endless stream, and the item that comes next: none is lost, whatever its consumer does.
struct Numbers<S> {
    stream: S,
    next: u64,
}

impl<S: Stream<Item = Result<u64, CallError>> + Unpin> Numbers<S> {
    async fn read(&mut self, count: u64) -> Result<()> {
        for expected in self.next..self.next + count {
            let number = self.stream.next().await.context("the stream has ended")??;
            ensure!(number == expected, "item {expected} is {number}");
        }
        self.next += count;
        Ok(())
    }
}

/// The memory of both processes: what they began with, and the most that they have had since.
struct Memory {
    server: Process,
    client: Process,
    first: [u64; 2],
    most: [u64; 2],
}

impl Memory {
    fn new(server: Process) -> Result<Self> {
        let client = Process::this()?;
        let first = [server.resident_kib()?, client.resident_kib()?];
        Ok(Memory {
            server,
            client,
            first,
            most: first,
        })
    }

    fn sample(&mut self) -> Result<()> {
        let now = [self.server.resident_kib()?, self.client.resident_kib()?];
        for (most, now) in self.most.iter_mut().zip(now) {
            *most = now.max(*most);
        }
        Ok(())
    }

    fn metrics(&self) -> [Metric; 4] {
        let [server, client] = self.most;
        let growth = |index: usize| (self.most[index] - self.first[index]) as f64;
        [
            Metric::new("server_kib", server as f64),
            Metric::new("client_kib", client as f64),
            Metric::new("server_growth_kib", growth(0)),
            Metric::new("client_growth_kib", growth(1)),
        ]
    }
}

fn phase(name: &str, metrics: Vec<Metric>, memory: &Memory) -> Vec<Metric> {
    metrics
        .into_iter()
        .chain(memory.metrics())
        .map(|metric| Metric::new(&format!("{name}/{}", metric.name), metric.value))
        .collect()
}
