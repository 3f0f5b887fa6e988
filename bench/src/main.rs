//! Compares Wirecall with its peers: `cargo run --release -- compare`. See README.md.
//!
//! The program that a user starts is the parent ([`compare`], [`stalled`], [`stopped`]). It measures nothing
//! itself: for each run it starts itself twice more, as a server ([`serve`]) and as a client that
//! loads it and measures ([`load`]).

mod cli;
mod compare;
mod load;
mod measure;
mod peers;
mod phases;
mod process;
mod report;
mod scenario;
mod serve;
mod stalled;
mod stopped;
mod system;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser as _;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    system::raise_open_files()?;
    match command {
        Command::Compare(options) => parent(compare::run(&options)),
        Command::Stalled(options) => parent(stalled::run(&options)),
        Command::Stopped(options) => parent(stopped::run(&options)),
        Command::Serve(options) => child(&options.scenario, serve::run(&options)),
        Command::Load(options) => child(&options.scenario, load::run(&options)),
    }
}

/// Waits for children most of the time, and must not take the cores that they are measured on.
fn parent(work: impl Future<Output = Result<ExitCode>>) -> Result<ExitCode> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(work)
}

fn child(
    scenario: &scenario::Scenario,
    work: impl Future<Output = Result<()>>,
) -> Result<ExitCode> {
    process::end_with_parent();
    // Before there is a runtime, which has as many workers as there are cores to run on.
    if scenario.one_core {
        system::stay_on_one_core()?;
    }
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(work)?;
    Ok(ExitCode::SUCCESS)
}
