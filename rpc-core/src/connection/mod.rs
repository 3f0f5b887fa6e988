//! The engine: one task for a connection, around the [`protocol`](crate::protocol) and a
//! [`Transport`].

mod driver;
mod shared;

use std::sync::Arc;

use tokio::task::JoinHandle;

use crate::{
    body::Codec, context::ConnectionInfo, limits::Limits, peer::Peer, protocol::Side,
    service::Router, transport::Transport,
};
use driver::Driver;
pub(crate) use shared::Shared;

/// Runs one end of a connection on a transport that is up: spawns its task on the current tokio
/// runtime and returns the peer at its other end.
///
/// The task ends with the connection, after the closing handshake.
///
/// # Panics
/// Outside a tokio runtime.
pub fn spawn<T: Transport>(
    transport: T,
    side: Side,
    codec: Codec,
    limits: Limits,
    router: Arc<Router>,
    info: ConnectionInfo,
) -> (Peer, JoinHandle<()>) {
    let shared = Arc::new(Shared::new(side, codec, limits, info));
    let driver = Driver::new(transport, shared.clone(), router);
    (Peer::new(shared), tokio::spawn(driver))
}
