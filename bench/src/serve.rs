//! The server of one run.

use std::net::Ipv4Addr;

use anyhow::Result;
use tokio::net::TcpListener;

use crate::cli::ServeOptions;

/// Listens, tells the parent where, and serves until the parent ends it.
pub(crate) async fn run(options: &ServeOptions) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("{}", listener.local_addr()?);
    options.peer.serve(listener, options.scenario.clone()).await
}
