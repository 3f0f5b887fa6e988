//! A TCP connection from its first byte to the upgrade.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use ::http::{Method, Request, StatusCode};
use bytes::Bytes;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use wirecall_core::{
    Codec, ConnectionInfo,
    protocol::Side,
    transport::{Role, WebSocket},
};

use crate::{
    connections::Connections,
    negotiation::{Answer, refusal, switching_protocols},
};

/// How long a request's head may take, from the connection or the last answer on.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// The largest head of a request.
const MAX_HEAD_BYTES: usize = 16 << 10;

/// Serves one connection. Returns when it has ended, as HTTP or as WebSocket.
pub(crate) async fn serve(
    stream: TcpStream,
    peer_addr: SocketAddr,
    local_addr: SocketAddr,
    connections: Arc<Connections>,
) {
    // Small frames are written when they are ready, not when others have joined them.
    let _ = stream.set_nodelay(true);
    let (upgraded, mut upgrade) = tokio::sync::oneshot::channel();
    let upgraded = std::sync::Mutex::new(Some(upgraded));
    let service = service_fn(|mut request: Request<Incoming>| {
        let answer = answer(&request, local_addr, &connections);
        let answer = match answer {
            Ok((codec, answer)) => {
                let on_upgrade = hyper::upgrade::on(&mut request);
                let info = info(&request, peer_addr, local_addr);
                let sender = upgraded.lock().map_or(None, |mut sender| sender.take());
                if let Some(sender) = sender {
                    let _ = sender.send((on_upgrade, codec, info));
                }
                answer
            }
            Err(answer) => *answer,
        };
        std::future::ready(Ok::<_, Infallible>(answer))
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    // In a box of its own: its buffers are gone once the connection is a WebSocket.
    if Box::pin(served).await.is_err() {
        return;
    }
    let Ok((on_upgrade, codec, info)) = upgrade.try_recv() else {
        return;
    };
    let Ok(upgraded) = on_upgrade.await else {
        return;
    };
    // The type is the one that went in a few lines above.
    let Ok(parts) = upgraded.downcast::<TokioIo<TcpStream>>() else {
        return;
    };
    run(
        parts.io.into_inner(),
        parts.read_buf,
        codec,
        info,
        &connections,
    )
    .await;
}

fn answer(
    request: &Request<Incoming>,
    local_addr: SocketAddr,
    connections: &Connections,
) -> Result<(Codec, Answer), Box<Answer>> {
    let path = request.uri().path();
    if path == "/healthz" && path != connections.offer.path {
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        return Err(if is_read {
            refusal(StatusCode::OK, "ok".to_owned())
        } else {
            refusal(StatusCode::METHOD_NOT_ALLOWED, "GET".to_owned())
        });
    }
    let codec = connections
        .offer
        .negotiate(request, local_addr.ip().is_loopback())?;
    Ok((codec, switching_protocols(request, codec)))
}

fn info(
    request: &Request<Incoming>,
    peer_addr: SocketAddr,
    local_addr: SocketAddr,
) -> ConnectionInfo {
    let mut info = ConnectionInfo::default();
    info.uri = request.uri().clone();
    info.headers = request.headers().clone();
    info.peer_addr = Some(peer_addr);
    info.local_addr = Some(local_addr);
    info
}

async fn run(
    stream: TcpStream,
    read_ahead: Bytes,
    codec: Codec,
    info: ConnectionInfo,
    connections: &Connections,
) {
    let limit = connections.limits.max_message_bytes;
    let transport = WebSocket::new(stream, read_ahead, Role::Server, limit).await;
    connections
        .run(transport, Side::Acceptor, codec, info)
        .await;
}
