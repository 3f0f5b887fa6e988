//! The opening handshake, the client's side of it (RFC 6455 §4.1).

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinSet};
use tungstenite::handshake::{client::generate_key, derive_accept_key};
use wirecall_core::{Codec, protocol::RESUME_SUBPROTOCOL};

use crate::{endpoint::Target, error::ConnectError};

/// How much of a refusal's body is kept.
const MAX_REFUSAL_BYTES: usize = 4 << 10;

/// A connection on which the upgrade is done.
pub(crate) struct Upgraded {
    pub(crate) stream: TcpStream,
    /// What the server has sent behind its 101.
    pub(crate) read_ahead: Bytes,
    pub(crate) codec: Codec,
    pub(crate) headers: HeaderMap,
}

/// Asks the server to make the connection a WebSocket, and checks that it did.
pub(crate) async fn upgrade(
    stream: TcpStream,
    target: &Target,
    codecs: &[Codec],
    is_resume: bool,
    headers: &HeaderMap,
) -> Result<Upgraded, ConnectError> {
    let key = generate_key();
    let request = request(target, codecs, is_resume, headers, &key)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(http_failed)?;
    // Aborted when this future is dropped, so that giving up closes the socket.
    let mut driver = JoinSet::new();
    driver.spawn(connection.with_upgrades());
    let response = sender.send_request(request).await.map_err(http_failed)?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(refused(response).await);
    }
    let codec = check(response.headers(), codecs, &key)?;
    let headers = copy(response.headers());
    let upgraded = hyper::upgrade::on(response).await.map_err(http_failed)?;
    let parts = upgraded
        .downcast::<TokioIo<TcpStream>>()
        .map_err(|_| ConnectError::Handshake("the connection is of another type".to_owned()))?;
    Ok(Upgraded {
        stream: parts.io.into_inner(),
        read_ahead: parts.read_buf,
        codec,
        headers,
    })
}

fn request(
    target: &Target,
    codecs: &[Codec],
    is_resume: bool,
    headers: &HeaderMap,
    key: &str,
) -> Result<Request<Empty<Bytes>>, ConnectError> {
    let codecs = codecs.iter().map(|codec| codec.subprotocol());
    // A server that goes down lets in whoever says this (W-NEG-11).
    let subprotocols: Vec<_> = codecs
        .chain(is_resume.then_some(RESUME_SUBPROTOCOL))
        .collect();
    let mut request = Request::builder()
        .uri(&target.path_and_query)
        .header(header::HOST, &target.authority)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, key)
        .header(header::SEC_WEBSOCKET_PROTOCOL, subprotocols.join(", "))
        .body(Empty::new())
        .map_err(|error| ConnectError::Url(error.to_string()))?;
    for (name, value) in headers {
        if is_reserved(name) {
            return Err(ConnectError::Header(format!(
                "the header {name} belongs to the handshake"
            )));
        }
        request.headers_mut().append(name, value.clone());
    }
    Ok(request)
}

/// Headers that a user cannot set.
fn is_reserved(name: &HeaderName) -> bool {
    [header::HOST, header::CONNECTION, header::UPGRADE].contains(name)
        || name.as_str().starts_with("sec-websocket-")
}

/// Checks a 101, and finds the codec that the server has picked.
fn check(headers: &HeaderMap, codecs: &[Codec], key: &str) -> Result<Codec, ConnectError> {
    let failed = |why: &str| Err(ConnectError::Handshake(why.to_owned()));
    if !is(headers.get(header::UPGRADE), "websocket") {
        return failed("the server upgraded to something else than a WebSocket");
    }
    let accept = headers.get(header::SEC_WEBSOCKET_ACCEPT);
    if accept.is_none_or(|accept| accept.as_bytes() != derive_accept_key(key.as_bytes()).as_bytes())
    {
        return failed("Sec-WebSocket-Accept does not match the key");
    }
    if headers.contains_key(header::SEC_WEBSOCKET_EXTENSIONS) {
        return failed("the server uses an extension that was not offered");
    }
    let mut picked = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let codec = match (picked.next(), picked.next()) {
        (Some(picked), None) => codecs
            .iter()
            .find(|codec| picked.as_bytes() == codec.subprotocol().as_bytes()),
        _ => None,
    };
    match codec {
        Some(codec) => Ok(*codec),
        None => failed("the server picked no subprotocol that was offered"),
    }
}

fn is(value: Option<&HeaderValue>, expected: &str) -> bool {
    value.is_some_and(|value| {
        value
            .as_bytes()
            .trim_ascii()
            .eq_ignore_ascii_case(expected.as_bytes())
    })
}

/// The same headers in memory of their own. The values that hyper hands out are slices of its read
/// buffer, all of which would live for as long as the connection.
fn copy(headers: &HeaderMap) -> HeaderMap {
    let mut copy = HeaderMap::with_capacity(headers.keys_len());
    for (name, value) in headers {
        // What was a value before is one again.
        if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
            copy.append(name, value);
        }
    }
    copy
}

async fn refused(response: Response<Incoming>) -> ConnectError {
    let status = response.status().as_u16();
    let mut body = response.into_body();
    let mut text = Vec::new();
    while text.len() < MAX_REFUSAL_BYTES
        && let Some(Ok(frame)) = body.frame().await
    {
        text.extend_from_slice(frame.data_ref().map_or(&[], |data| &**data));
    }
    text.truncate(MAX_REFUSAL_BYTES);
    ConnectError::Refused {
        status,
        body: String::from_utf8_lossy(&text).trim_end().to_owned(),
    }
}

fn http_failed(error: hyper::Error) -> ConnectError {
    ConnectError::Http(Box::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_a_connection_does_not_keep_the_read_buffer() {
        let buffer = Bytes::from(b"one two ".repeat(100));
        let mut headers = HeaderMap::new();
        for range in [0..3, 4..7] {
            let value = HeaderValue::from_maybe_shared(buffer.slice(range)).unwrap();
            headers.append("x", value);
        }
        let copy = copy(&headers);
        assert_eq!(copy, headers);
        drop(headers);
        assert!(buffer.is_unique());
    }
}
