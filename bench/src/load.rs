//! The client of one run: it loads the server, and measures.

mod calls;
mod head_of_line;
mod idle;
mod pushes;
mod wire;

use std::net::SocketAddr;

use anyhow::Result;

use crate::{
    cli::LoadOptions,
    measure::Metric,
    peers::{Peer, bytes_of},
    scenario::{Scenario, Work},
    stalled, stopped,
    system::Process,
};

/// What a client is to do, and with which server.
pub(crate) struct Run {
    pub(crate) scenario: Scenario,
    pub(crate) address: SocketAddr,
    pub(crate) server: Process,
}

/// Measures and reports to the parent.
pub(crate) async fn run(options: &LoadOptions) -> Result<()> {
    let run = Run {
        scenario: options.scenario.clone(),
        address: options.address,
        server: Process::new(options.server_pid)?,
    };
    let metrics = match run.scenario.work {
        Work::Stalled => stalled::measure(&run).await?,
        Work::Stopped => stopped::measure(&run).await?,
        Work::StoppedReader => stopped::read(&run).await?,
        _ => options.peer.load(&run).await?,
    };
    for metric in metrics {
        println!("{}", serde_json::to_string(&metric)?);
    }
    Ok(())
}

/// Measures one peer.
pub(crate) async fn with_peer<P: Peer>(run: &Run) -> Result<Vec<Metric>> {
    match run.scenario.work {
        Work::Add => calls::measure::<P>(run, calls::Add).await,
        Work::Echo { bytes } if P::IS_PIPELINED && run.scenario.in_flight > 1 => {
            calls::measure::<P>(run, calls::Pipeline(bytes_of(bytes))).await
        }
        Work::Echo { bytes } => calls::measure::<P>(run, calls::Echo(bytes_of(bytes))).await,
        Work::EchoAfterWaiting { bytes } => {
            calls::measure::<P>(run, calls::EchoAfterWaiting(bytes_of(bytes))).await
        }
        Work::Idle => idle::measure::<P>(run).await,
        Work::Push { way, .. } => pushes::measure_pushes::<P>(run, way).await,
        Work::Latest => pushes::measure_latest::<P>(run).await,
        Work::Stream => pushes::measure_stream::<P>(run).await,
        Work::HeadOfLine(beside) => head_of_line::measure::<P>(run, beside).await,
        Work::Stalled | Work::Stopped | Work::StoppedReader => {
            anyhow::bail!("{:?} is no work of `compare`", run.scenario.work)
        }
    }
}
