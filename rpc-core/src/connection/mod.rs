//! The engine: one task for a connection, around the [`protocol`](crate::protocol) and a
//! [`Transport`].

mod driver;
mod shared;

use std::sync::Arc;

use crate::{
    body::Codec, context::ConnectionInfo, limits::Limits, peer::Peer, protocol::Side,
    service::Router, transport::Transport,
};
use driver::Driver;
pub(crate) use shared::Shared;

/// Sets up one end of a connection on a transport that is up: returns the peer at its other end, and
/// what drives the connection.
///
/// The driver is to be spawned, and ends with the connection, after the closing handshake. Dropping
/// it ends the connection at once. It needs a tokio runtime with its time enabled.
pub fn drive<T: Transport>(
    transport: T,
    side: Side,
    codec: Codec,
    limits: Arc<Limits>,
    router: Arc<Router>,
    info: ConnectionInfo,
) -> (Peer, impl Future<Output = ()> + Send + Unpin + 'static) {
    let shared = Arc::new(Shared::new(side, codec, limits, info));
    let driver = Driver::new(transport, shared.clone(), router);
    (Peer::new(shared), driver)
}
