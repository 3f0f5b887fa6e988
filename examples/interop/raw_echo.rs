//! A plain WebSocket that sends back what it receives, without Wirecall's subprotocol.

use std::{convert::Infallible, future::poll_fn, task::Poll};

use http_body_util::Empty;
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use wirecall::transport::{Received, Role, Transport, TransportError, WebSocket};

/// Conformance suites send messages up to 16 MiB.
const MAX_MESSAGE_BYTES: usize = 64 << 20;

pub async fn serve(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            let served = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service_fn(answer))
                .with_upgrades();
            if let Err(error) = served.await {
                eprintln!("{error}");
            }
        });
    }
}

async fn answer(mut request: Request<Incoming>) -> Result<Response<Empty<Bytes>>, Infallible> {
    let mut response = Response::new(Empty::new());
    let Some(key) = request.headers().get(header::SEC_WEBSOCKET_KEY) else {
        *response.status_mut() = StatusCode::UPGRADE_REQUIRED;
        return Ok(response);
    };
    let accept = derive_accept_key(key.as_bytes());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    for (name, value) in [
        (header::CONNECTION, "Upgrade"),
        (header::UPGRADE, "websocket"),
        (header::SEC_WEBSOCKET_ACCEPT, &accept),
    ] {
        if let Ok(value) = value.parse() {
            response.headers_mut().insert(name, value);
        }
    }
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        if let Ok(upgraded) = upgrade.await
            && let Ok(parts) = upgraded.downcast::<TokioIo<TcpStream>>()
        {
            let stream = parts.io.into_inner();
            let socket = WebSocket::new(stream, parts.read_buf, Role::Server, MAX_MESSAGE_BYTES);
            if let Err(error) = echo(socket).await {
                eprintln!("{error}");
            }
        }
    });
    Ok(response)
}

async fn echo(mut socket: WebSocket<TcpStream>) -> Result<(), TransportError> {
    loop {
        let received = poll_fn(|cx| {
            let received = socket.poll_receive(cx);
            // Pongs are written by the flush alone.
            if received.is_pending()
                && socket.has_unflushed()
                && let Poll::Ready(Err(error)) = socket.poll_flush(cx)
            {
                return Poll::Ready(Err(error));
            }
            received
        });
        match received.await {
            Ok(Received::Message(message)) => {
                socket.send(message.kind, &message.data)?;
                poll_fn(|cx| socket.poll_flush(cx)).await?;
            }
            Ok(Received::Closed { .. }) => return poll_fn(|cx| socket.poll_flush(cx)).await,
            Err(error) => {
                if let Some(code) = error.close_code() {
                    socket.close(code, &error.to_string());
                    poll_fn(|cx| socket.poll_flush(cx)).await?;
                }
                return Err(error);
            }
        }
    }
}
