//! `compare`: every scenario with every peer, in turn, several times.

use std::process::ExitCode;

use anyhow::Result;

use crate::{
    cli::CompareOptions,
    peers::PeerName,
    process,
    report::Report,
    scenario::{self, Scenario},
};

const ROUNDS: u32 = 5;

/// A peer that fails in a scenario is told on standard error, and the others go on.
pub(crate) async fn run(options: &CompareOptions) -> Result<ExitCode> {
    let scenarios = chosen_scenarios(options);
    let peers = chosen_peers(options);
    let rounds = options
        .rounds
        .unwrap_or(if options.quick { 1 } else { ROUNDS });
    let mut report = Report::default();
    let mut failures = 0;
    for round in 1..=rounds {
        for scenario in &scenarios {
            // All peers close to each other in time: what else the machine does changes.
            for peer in peers.iter().filter(|peer| peer.can(scenario.work)) {
                eprintln!("round {round}/{rounds}: {} {}", scenario.name, peer.name());
                match process::run(*peer, scenario).await {
                    Ok(metrics) => {
                        for metric in metrics {
                            report.add(&scenario.name, peer.name(), metric);
                        }
                    }
                    Err(error) => {
                        failures += 1;
                        eprintln!("error: {} {}: {error:#}", scenario.name, peer.name());
                    }
                }
            }
        }
    }
    report.print(options.json)?;
    if failures > 0 {
        eprintln!("error: {failures} runs failed");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn chosen_scenarios(options: &CompareOptions) -> Vec<Scenario> {
    let is_asked_for = |scenario: &Scenario| {
        options.only.is_empty() || options.only.iter().any(|pattern| scenario.is_in(pattern))
    };
    scenario::all()
        .into_iter()
        .filter(|scenario| is_asked_for(scenario) && (scenario.is_quick || !options.quick))
        .collect()
}

fn chosen_peers(options: &CompareOptions) -> Vec<PeerName> {
    if options.peers.is_empty() {
        PeerName::ALL.to_vec()
    } else {
        options.peers.clone()
    }
}
