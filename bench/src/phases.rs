//! Scenarios that are measured in phases, by one client of Wirecall, and fail when memory grows.

use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::{
    cli::ReportOptions, measure::Metric, peers::PeerName, process, report::Report,
    scenario::Scenario,
};

/// Has it measured, prints what was, by phase, and fails if a metric says that too much memory is
/// occupied. A metric is named after its phase.
pub(crate) async fn run(
    scenario: &Scenario,
    options: &ReportOptions,
    is_too_much: impl Fn(&Metric) -> bool,
) -> Result<ExitCode> {
    let peer = PeerName::Wirecall;
    let mut report = Report::default();
    let mut has_grown = false;
    let metrics = process::run(peer, scenario).await?;
    for metric in &metrics {
        let (phase, name) = metric
            .name
            .split_once('/')
            .context("a metric of no phase")?;
        let scenario = format!("{}/{phase}", scenario.name);
        report.add(&scenario, peer.name(), Metric::new(name, metric.value));
    }
    report.print(options.json)?;
    for metric in metrics.iter().filter(|metric| is_too_much(metric)) {
        eprintln!("error: {}: {} KiB", metric.name, metric.value);
        has_grown = true;
    }
    Ok(match has_grown {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}
