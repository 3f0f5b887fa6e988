//! The processes of a run: a server and a client, each this program once more.

use std::{io::Read as _, net::SocketAddr, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, bail};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

use crate::{measure::Metric, peers::PeerName, scenario::Scenario};

const START_LIMIT: Duration = Duration::from_secs(10);

/// In a child: ends this process when the parent does, however it ends. The parent holds the other
/// end of standard input and never writes to it.
pub(crate) fn end_with_parent() {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(1);
    });
}

/// Runs one scenario with one peer, in processes of its own, and returns what the client measured.
pub(crate) async fn run(peer: PeerName, scenario: &Scenario) -> Result<Vec<Metric>> {
    let mut server = Role::start("serve", peer, scenario, &[])?;
    let address: SocketAddr = timeout(START_LIMIT, server.line())
        .await
        .context("the server does not start")??
        .context("the server ended at its start")?
        .parse()?;
    let server_pid = server.process.id().context("the server has ended")?;
    let arguments = [
        "--address".to_owned(),
        address.to_string(),
        "--server-pid".to_owned(),
        server_pid.to_string(),
    ];
    let client = Role::start("load", peer, scenario, &arguments)?;
    let limit = scenario.time_limit();
    let metrics = timeout(limit, client.metrics())
        .await
        .with_context(|| format!("it takes longer than {limit:?}"))??;
    server.process.kill().await?;
    Ok(metrics)
}

/// A child. It is killed when this is dropped.
struct Role {
    process: Child,
    output: Lines<BufReader<ChildStdout>>,
}

impl Role {
    fn start(
        command: &str,
        peer: PeerName,
        scenario: &Scenario,
        arguments: &[String],
    ) -> Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .args([command, "--peer", peer.name(), "--scenario", &scenario.name])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start `{command}`"))?;
        let output = process.stdout.take().context("standard output is piped")?;
        Ok(Role {
            process,
            output: BufReader::new(output).lines(),
        })
    }

    async fn line(&mut self) -> Result<Option<String>> {
        Ok(self.output.next_line().await?)
    }

    /// All that a client reports.
    async fn metrics(mut self) -> Result<Vec<Metric>> {
        let mut metrics = Vec::new();
        while let Some(line) = self.line().await? {
            metrics.push(serde_json::from_str(&line)?);
        }
        // `wait` closes standard input first, which must not end the client: it has ended.
        let status = self.process.wait().await?;
        if !status.success() {
            bail!("the client failed: {status}");
        }
        Ok(metrics)
    }
}
