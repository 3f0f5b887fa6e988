//! `stopped`: what one client that is stopped costs the others that are subscribed to the same
//! topic, and what it costs the server in memory.

use std::{
    net::SocketAddr,
    process::{ExitCode, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use futures::StreamExt as _;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
    time::timeout,
};

use crate::{
    cli::ReportOptions,
    load::Run,
    measure::{Latencies, Metric, Tally, Tasks},
    peers::{PeerName, wirecall::follow::Subscriber},
    phases,
    scenario::Scenario,
    system::monotonic_time,
};

/// How often there is a client that is stopped, and for how long; before it there is none for as
/// long.
const ROUNDS: usize = 3;
const PHASE: Duration = Duration::from_secs(8);

/// What comes to pass before anything is measured.
const SETTLE: Duration = Duration::from_secs(1);

/// How long the other client may take to subscribe, or to end once it goes on.
const LIMIT: Duration = Duration::from_secs(10);

/// How much more memory the server may occupy with a client that is stopped than before: 1 MiB of
/// items waits for it at the most, and somewhat more on the way. 12.5 MiB are published to it.
const MAX_GROWTH_KIB: f64 = 4.0 * 1024.0;
const GROWTH: &str = "with/server_growth_kib";

/// In the parent: has it measured, prints what was, and fails if memory grew.
pub(crate) async fn run(options: &ReportOptions) -> Result<ExitCode> {
    phases::run(&Scenario::stopped(), options, |metric| {
        metric.name == GROWTH && metric.value > MAX_GROWTH_KIB
    })
    .await
}

/// In the client that has all the connections but one: measures without the other client and with
/// it, in turn. A metric is named after its phase.
pub(crate) async fn measure(run: &Run) -> Result<Vec<Metric>> {
    let address = run.address;
    let latencies = Latencies::new();
    let mut tasks = Tasks::default();
    for _ in 0..run.scenario.connections {
        let latencies = latencies.clone();
        tasks.spawn(|tally| async move { time_items(address, &tally, &latencies).await });
    }
    tasks.all_begun().await?;
    let mut metrics = Vec::new();
    for _ in 0..ROUNDS {
        tasks.go_on_for(SETTLE).await?;
        let before = run.server.resident_kib()?;
        latencies.reset();
        tasks.go_on_for(PHASE).await?;
        let without = latencies.metrics();
        let samples = latencies.count();
        let quiet = run.server.resident_kib()?;

        let reader = Stopped::start(address).await?;
        latencies.reset();
        tasks.go_on_for(PHASE).await?;
        let with = latencies.metrics();
        let grown = run.server.resident_kib()?;
        let times = latencies.count() as f64 / samples as f64;
        tasks.go_on_until(reader.end()).await??;

        for (without, with) in without.iter().zip(&with) {
            let name = &with.name;
            metrics.push(Metric::new(&format!("without/{name}"), without.value));
            metrics.push(Metric::new(&format!("with/{name}"), with.value));
            let ratio = with.value / without.value;
            metrics.push(Metric::new(&format!("ratio/{name}"), ratio));
        }
        let growth = |from: u64, to: u64| to as f64 - from as f64;
        metrics.push(Metric::new("without/samples", samples as f64));
        metrics.push(Metric::new(
            "without/server_growth_kib",
            growth(before, quiet),
        ));
        metrics.push(Metric::new(GROWTH, growth(quiet, grown)));
        metrics.push(Metric::new("ratio/samples", times));
    }
    Ok(metrics)
}

/// Follows the topic for ever. Nothing may be missing: nobody here is slow.
async fn time_items(address: SocketAddr, tally: &Tally, latencies: &Latencies) -> Result<()> {
    let mut subscriber = Subscriber::connect(address, true).await?;
    loop {
        let (_, item) = subscriber.next_item().await?;
        let sent = item.first_chunk().context("an item without its time")?;
        let sent = Duration::from_nanos(u64::from_be_bytes(*sent));
        latencies.record(monotonic_time()?.saturating_sub(sent));
        tally.add(1);
    }
}

/// In the other client: follows the topic and one with large items, until it is told to end.
pub(crate) async fn read(run: &Run) -> Result<Vec<Metric>> {
    let mut end = signal(SignalKind::terminate())?;
    let mut subscriber = Subscriber::connect(run.address, true).await?;
    let mut bulk = subscriber.bench.bulk().await?;
    println!("{READY}");
    loop {
        // Here some may be missing.
        tokio::select! {
            _ = end.recv() => break,
            item = subscriber.news.next() => item.context("the subscription has ended")??,
            item = bulk.next() => item.context("the subscription has ended")??,
        };
    }
    // Or the server would wait for it to come back, with a queue for it.
    subscriber.client.close().await;
    Ok(Vec::new())
}

/// What the other client says once it has subscribed.
const READY: &str = "subscribed";

/// The other client, while it is stopped. It is killed when this is dropped.
struct Stopped {
    process: Child,
    pid: Pid,
}

impl Stopped {
    async fn start(address: SocketAddr) -> Result<Self> {
        let scenario = Scenario::stopped_reader();
        let mut process = Command::new(std::env::current_exe()?)
            .args(["load", "--peer", PeerName::Wirecall.name()])
            .args(["--scenario", &scenario.name])
            .args(["--address", &address.to_string()])
            .args(["--server-pid", &std::process::id().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start the client that is to be stopped")?;
        let output = process.stdout.take().context("standard output is piped")?;
        let mut lines = BufReader::new(output).lines();
        let ready = timeout(LIMIT, lines.next_line()).await;
        let ready = ready.context("the client that is to be stopped does not subscribe")??;
        ensure!(ready.as_deref() == Some(READY), "it says {ready:?}");
        let pid = Pid::from_raw(process.id().context("it has ended")?.try_into()?);
        kill(pid, Signal::SIGSTOP)?;
        Ok(Stopped { process, pid })
    }

    /// Lets it go on, and end its session.
    async fn end(mut self) -> Result<()> {
        kill(self.pid, Signal::SIGTERM)?;
        kill(self.pid, Signal::SIGCONT)?;
        // Its standard input stays open: it ends of its own accord.
        let input = self.process.stdin.take();
        let status = timeout(LIMIT, self.process.wait()).await;
        drop(input);
        let status = status.context("the client that was stopped does not end")??;
        ensure!(
            status.success(),
            "the client that was stopped failed: {status}"
        );
        Ok(())
    }
}
