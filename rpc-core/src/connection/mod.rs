//! The engine: one task for a connection, around the [`protocol`](crate::protocol) and a
//! [`Transport`].

mod credentials;
mod driver;
mod gate;
mod session;
mod sessions;
mod shared;
mod watcher;

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    body::Codec,
    context::ConnectionInfo,
    limits::Limits,
    peer::Peer,
    protocol::{Side, Token},
    service::Router,
    transport::Transport,
};
pub use credentials::Credentials;
use driver::Driver;
pub use gate::{Admission, Authentication, Gate};
pub use session::{LineHandle, Session, SessionChange};
use sessions::Place;
pub use sessions::Sessions;
pub(crate) use shared::Shared;
pub use watcher::{EndedSession, Watcher, watch};

/// Sets up the acceptor's end of a connection on a transport that is up: returns the peer at its
/// other end, and what drives the connection.
///
/// The driver is to be spawned, and ends with the session, after the closing handshake. Dropping
/// it ends the session at once. It needs a tokio runtime with its time enabled.
///
/// With a `gate` nothing of the dialler is executed before that has let it in. A dialler may go
/// on with one of the `sessions` instead of beginning a new one. Then the driver ends, and the
/// transport is driven by that session's.
pub fn accept<T: Transport>(
    gate: Option<Box<dyn Gate>>,
    transport: T,
    codec: Codec,
    limits: Arc<Limits>,
    router: Arc<Router>,
    info: ConnectionInfo,
    sessions: Arc<Sessions<T>>,
) -> (Peer, impl Future<Output = ()> + Send + Unpin + 'static) {
    let shared = Arc::new(Shared::new(Side::Acceptor, codec, limits, info));
    let place = Arc::new(Place::new(shared.clone()));
    let mut driver = Driver::new(transport, place, Some(sessions), router);
    if let Some(gate) = gate {
        driver.stand_at(gate);
    }
    (Peer::new(shared), driver)
}

/// Sets up the dialler's end of a connection on a transport that is up: returns the session, and
/// what drives it.
///
/// The driver is to be spawned, and ends with the session, after the closing handshake. Dropping
/// it ends the session at once. It needs a tokio runtime with its time enabled.
///
/// The `token` says who the dialler is. `answer` is what the acceptor has said already, to a HELLO
/// that asked for another session; see [`Session::take_transport`].
pub fn dial<T: Transport>(
    token: Option<Token>,
    transport: T,
    codec: Codec,
    limits: Arc<Limits>,
    router: Arc<Router>,
    info: ConnectionInfo,
    answer: Option<Bytes>,
) -> (
    Session<T>,
    impl Future<Output = ()> + Send + Unpin + 'static,
) {
    let shared = Arc::new(Shared::new(Side::Dialler, codec, limits, info));
    if token.is_some() {
        shared.lock().connection.present(token);
    }
    let place = Arc::new(Place::new(shared.clone()));
    let mut driver = Driver::new(transport, place.clone(), None, router);
    if let Some(answer) = answer {
        shared.lock().connection.has_said_hello();
        driver.begin_with(answer);
    }
    (Session::new(place), driver)
}
