//! The command line.

use std::net::SocketAddr;

use clap::{Args, Parser, Subcommand};

use crate::{
    peers::PeerName,
    scenario::{self, Scenario},
};

/// Compares Wirecall with its peers, over loopback.
#[derive(Parser)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Runs the scenarios with every peer and prints the medians
    Compare(CompareOptions),
    /// Shows what a stream whose consumer stands still costs the rest of its connection
    Stalled(ReportOptions),
    /// Shows what one client among a thousand that is stopped costs the others
    Stopped(ReportOptions),
    /// The server of one run
    #[command(hide = true)]
    Serve(ServeOptions),
    /// The client of one run
    #[command(hide = true)]
    Load(LoadOptions),
}

#[derive(Args)]
pub(crate) struct CompareOptions {
    /// The scenarios that tell most, one round: a few minutes
    #[arg(long)]
    pub(crate) quick: bool,
    /// Prints one JSON object a line instead of tables
    #[arg(long)]
    pub(crate) json: bool,
    /// Only these scenarios, or groups of them: `echo32/1x16`, `echo32`, `head-of-line`
    #[arg(long, value_name = "SCENARIO", value_delimiter = ',', value_parser = known_pattern)]
    pub(crate) only: Vec<String>,
    /// Only these peers
    #[arg(long, value_name = "PEER", value_delimiter = ',')]
    pub(crate) peers: Vec<PeerName>,
    /// How often everything is measured: 5 times, or once with `--quick`
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: Option<u32>,
}

#[derive(Args)]
pub(crate) struct ReportOptions {
    /// Prints one JSON object a line instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct ServeOptions {
    #[arg(long)]
    pub(crate) peer: PeerName,
    #[arg(long, value_parser = Scenario::named)]
    pub(crate) scenario: Scenario,
}

#[derive(Args)]
pub(crate) struct LoadOptions {
    #[arg(long)]
    pub(crate) peer: PeerName,
    #[arg(long, value_parser = Scenario::named)]
    pub(crate) scenario: Scenario,
    #[arg(long)]
    pub(crate) address: SocketAddr,
    /// The server's process, whose memory and processor time are read
    #[arg(long)]
    pub(crate) server_pid: u32,
}

fn known_pattern(pattern: &str) -> Result<String, String> {
    if scenario::all()
        .iter()
        .any(|scenario| scenario.is_in(pattern))
    {
        return Ok(pattern.to_owned());
    }
    let names: Vec<_> = scenario::all().into_iter().map(|s| s.name).collect();
    Err(format!("there are only {}", names.join(", ")))
}
