//! A TCP connection from its first byte to the upgrade.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use bytes::Bytes;
use hyper::{body::Incoming, server::conn::http1, service::service_fn, upgrade::OnUpgrade};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, oneshot},
    time::{sleep, timeout},
};
use wirecall_core::{
    Codec, ConnectionInfo,
    transport::{self, Role, WebSocket},
};

use crate::{
    connections::{Connections, TooMany},
    credentials::{Offered, redact},
    crowd::Place,
    drain::GOING_DOWN,
    entrance::Newcomer,
    negotiation::{
        Answer, method_not_allowed, refusal, switching_protocols, unauthenticated, wants_to_resume,
    },
};

/// How long a request's head may take, from the connection or the last answer on.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection may stay HTTP, so that a client that never reads its answers does not keep
/// its place. One that asks every few seconds has to reconnect now and then.
const HTTP_TIMEOUT: Duration = Duration::from_secs(60);

/// How long the request in progress may take, once the connection must not stay HTTP.
const GRACE: Duration = Duration::from_secs(2);

/// Headers of every upgrade (RFC 6455 §4.1) that say nothing about who asks for it.
const UPGRADE_HEADERS: [HeaderName; 5] = [
    header::CONNECTION,
    header::UPGRADE,
    header::SEC_WEBSOCKET_KEY,
    header::SEC_WEBSOCKET_VERSION,
    header::SEC_WEBSOCKET_EXTENSIONS,
];

/// The largest head of a request.
const MAX_HEAD_BYTES: usize = 16 << 10;

/// A TCP connection that was accepted.
pub(crate) struct Accepted {
    pub(crate) stream: TcpStream,
    pub(crate) peer_addr: SocketAddr,
    pub(crate) local_addr: SocketAddr,
    /// Among all connections.
    pub(crate) place: OwnedSemaphorePermit,
    /// Among those who have not come in.
    pub(crate) outside: Option<Place>,
}

/// Serves one connection as HTTP, and hands it over once it is a WebSocket.
pub(crate) async fn serve(accepted: Accepted, connections: Arc<Connections>) {
    let Accepted {
        stream,
        peer_addr,
        local_addr,
        place,
        outside,
    } = accepted;
    let (upgraded, upgrading) = oneshot::channel();
    let front = Front {
        connections: &connections,
        peer_addr,
        local_addr,
        outside: Mutex::new(outside),
        upgraded: Mutex::new(Some(upgraded)),
    };
    let Some(upgraded) = front.serve(stream, upgrading).await else {
        return;
    };
    let limit = connections.limits.max_message_bytes;
    let transport = WebSocket::new(upgraded.stream, upgraded.read_ahead, Role::Server, limit);
    let Upgrade {
        codec,
        info,
        newcomer,
        ..
    } = upgraded.upgrade;
    connections.run(transport, codec, info, newcomer, Some(place));
}

/// What answers the requests of one connection.
struct Front<'a> {
    connections: &'a Connections,
    peer_addr: SocketAddr,
    local_addr: SocketAddr,
    outside: Mutex<Option<Place>>,
    /// Taken by the first request that is an upgrade.
    upgraded: Mutex<Option<oneshot::Sender<(OnUpgrade, Upgrade)>>>,
}

/// What was agreed on.
struct Upgrade {
    codec: Codec,
    info: ConnectionInfo,
    newcomer: Newcomer,
}

/// A connection on which the upgrade is done.
struct Upgraded {
    stream: TcpStream,
    /// What the client has sent behind its request.
    read_ahead: Bytes,
    upgrade: Upgrade,
}

impl Front<'_> {
    /// Answers requests until one of them is an upgrade, or until the connection has ended.
    async fn serve(
        &self,
        stream: TcpStream,
        mut upgrading: oneshot::Receiver<(OnUpgrade, Upgrade)>,
    ) -> Option<Upgraded> {
        // One that cannot be tuned is about to fail.
        let _ = transport::tune(&stream, self.connections.limits.dead_after());
        let service = service_fn(|request| self.respond(request));
        {
            let mut served = pin!(
                http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEADER_TIMEOUT)
                    .max_buf_size(MAX_HEAD_BYTES)
                    .serve_connection(TokioIo::new(stream), service)
                    .with_upgrades()
            );
            let ended = tokio::select! {
                ended = &mut served => ended,
                () = must_end(self.connections) => {
                    served.as_mut().graceful_shutdown();
                    timeout(GRACE, served).await.ok()?
                }
            };
            ended.ok()?;
        }
        let (on_upgrade, upgrade) = upgrading.try_recv().ok()?;
        // It is there, or fails, now that hyper's side of it is dropped. Should it ever not be so, the
        // connection must not stay.
        let upgraded = timeout(GRACE, on_upgrade).await.ok()?.ok()?;
        // The type is the one that went in a few lines above.
        let parts = upgraded.downcast::<TokioIo<TcpStream>>().ok()?;
        Some(Upgraded {
            stream: parts.io.into_inner(),
            read_ahead: parts.read_buf,
            upgrade,
        })
    }

    async fn respond(&self, request: Request<Incoming>) -> Result<Answer, Infallible> {
        Ok(match self.upgrade(request).await {
            Ok(answer) => answer,
            Err(answer) => *answer,
        })
    }

    /// Agrees to an upgrade, or answers what else is asked.
    async fn upgrade(&self, mut request: Request<Incoming>) -> Result<Answer, Box<Answer>> {
        let is_leaving = self.connections.not_ready.is_cancelled();
        let codec = answer(&request, self.local_addr, self.connections)?;
        let entrance = &self.connections.entrance;
        let offered = Offered::read(request.headers(), entrance.cookie.as_deref());
        let client = entrance
            .proxies
            .client(self.peer_addr.ip(), request.headers());
        let mut info = info(&request, self.peer_addr, self.local_addr);
        info.client_addr = Some(client);
        redact(&mut info.headers, entrance.authenticator.is_some());
        let outside = self.wait_outside(client)?;
        let limit = self.connections.limits.hello_timeout;
        let looked_at = entrance.look_at(&info, &offered, limit).await;
        let identity = looked_at.map_err(|error| unauthenticated(&error))?;
        if let Some(sender) = take(&self.upgraded) {
            let outside = outside.or_else(|| take(&self.outside));
            let upgrade = Upgrade {
                codec,
                info,
                newcomer: Newcomer {
                    identity,
                    outside,
                    may_only_resume: is_leaving,
                },
            };
            let _ = sender.send((hyper::upgrade::on(&mut request), upgrade));
        }
        Ok(switching_protocols(&request, codec))
    }

    /// A place among those who have not come in, for a client behind a proxy. The connection itself has
    /// one where it needs one.
    fn wait_outside(&self, client: IpAddr) -> Result<Option<Place>, Box<Answer>> {
        if client == self.peer_addr.ip().to_canonical() {
            return Ok(None);
        }
        let place = self.connections.wait_outside(client);
        place.map_err(|TooMany| {
            refusal(
                StatusCode::TOO_MANY_REQUESTS,
                "too many connections of this address".to_owned(),
            )
        })
    }
}

fn take<T>(place: &Mutex<Option<T>>) -> Option<T> {
    place.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Waits until a connection must not stay HTTP any longer.
async fn must_end(connections: &Connections) {
    tokio::select! {
        () = connections.shutdown.cancelled() => {}
        () = sleep(HTTP_TIMEOUT) => {}
    }
}

/// Which codec an upgrade is to; or the answer to what is none, or not allowed.
fn answer(
    request: &Request<Incoming>,
    local_addr: SocketAddr,
    connections: &Connections,
) -> Result<Codec, Box<Answer>> {
    let path = request.uri().path();
    if path == "/healthz" && path != connections.offer.path {
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        return Err(if is_read {
            refusal(StatusCode::OK, "ok".to_owned())
        } else {
            method_not_allowed("GET, HEAD")
        });
    }
    if path == "/readyz" && path != connections.offer.path {
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        return Err(match (is_read, connections.not_ready.is_cancelled()) {
            (false, _) => method_not_allowed("GET, HEAD"),
            (true, false) => refusal(StatusCode::OK, "ready".to_owned()),
            (true, true) => refusal(StatusCode::SERVICE_UNAVAILABLE, "going down".to_owned()),
        });
    }
    // A listener on `[::]` has `::ffff:127.0.0.1` for 127.0.0.1.
    let listener_is_loopback = local_addr.ip().to_canonical().is_loopback();
    let codec = connections.offer.negotiate(request, listener_is_loopback)?;
    if connections.not_ready.is_cancelled() && !wants_to_resume(request) {
        return Err(refusal(
            StatusCode::SERVICE_UNAVAILABLE,
            GOING_DOWN.to_owned(),
        ));
    }
    Ok(codec)
}

fn info<B>(request: &Request<B>, peer_addr: SocketAddr, local_addr: SocketAddr) -> ConnectionInfo {
    let mut info = ConnectionInfo::default();
    info.uri = copy_of_uri(request.uri());
    info.headers = copy_of_headers(request.headers());
    info.peer_addr = Some(peer_addr);
    info.local_addr = Some(local_addr);
    info
}

/// Path and query. Like the headers' values, those that hyper hands out are slices of its read
/// buffer, all 16 KiB of which would live for as long as the connection.
fn copy_of_uri(uri: &Uri) -> Uri {
    let path_and_query = uri.path_and_query().map_or("/", |path| path.as_str());
    // What has been parsed before is parsed again.
    Uri::try_from(path_and_query).unwrap_or_default()
}

/// The request's headers, without those that only say how to become a WebSocket: they live for as
/// long as the connection.
fn copy_of_headers(headers: &HeaderMap) -> HeaderMap {
    let is_kept = |name: &HeaderName| !UPGRADE_HEADERS.contains(name);
    let kept = headers.keys().filter(|name| is_kept(name)).count();
    let mut copy = HeaderMap::with_capacity(kept);
    for (name, value) in headers.iter().filter(|(name, _)| is_kept(name)) {
        // What was a value before is one again.
        if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
            copy.append(name, value);
        }
    }
    copy
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_a_connection_does_not_keep_the_read_buffer() {
        let buffer = Bytes::from(b"/rpc?a=1 one two ".repeat(100));
        let address = "127.0.0.1:1".parse().unwrap();
        let mut request = Request::new(());
        *request.uri_mut() = Uri::from_maybe_shared(buffer.slice(..8)).unwrap();
        for range in [9..12, 13..16] {
            let value = HeaderValue::from_maybe_shared(buffer.slice(range)).unwrap();
            request.headers_mut().append("x", value);
        }
        let info = info(&request, address, address);
        drop(request);
        assert!(buffer.is_unique());
        assert_eq!(info.uri, "/rpc?a=1");
        let values: Vec<_> = info.headers.get_all("x").iter().collect();
        assert_eq!(values, ["one", "two"]);
    }
}
