//! The opening handshake, the server's side of it (RFC 6455 §4.2).

use ::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use bytes::Bytes;
use http_body_util::Full;
use tungstenite::handshake::derive_accept_key;
use wirecall_core::{AuthError, Codec, protocol::RESUME_SUBPROTOCOL};

use crate::access::{self, Access, Denied};

/// What the server has to offer.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub(crate) path: String,
    pub(crate) codecs: Vec<Codec>,
    pub(crate) access: Access,
}

pub(crate) type Answer = Response<Full<Bytes>>;

impl Offer {
    /// Settles on a codec, or says in a line why not.
    pub(crate) fn negotiate<B>(
        &self,
        request: &Request<B>,
        listener_is_loopback: bool,
    ) -> Result<Codec, Box<Answer>> {
        let headers = request.headers();
        if request.uri().path() != self.path {
            return Err(refusal(
                StatusCode::NOT_FOUND,
                format!("nothing here; the RPC endpoint is {}", self.path),
            ));
        }
        let host = access::host(headers).ok_or_else(|| {
            refusal(
                StatusCode::BAD_REQUEST,
                "a request names one Host".to_owned(),
            )
        })?;
        self.access
            .check(host, headers, listener_is_loopback)
            .map_err(|denied| {
                let (what, value) = match denied {
                    Denied::Origin(origin) => ("Origin", origin),
                    Denied::Host(host) => ("Host", host),
                };
                refusal(
                    StatusCode::FORBIDDEN,
                    format!("{what} {value:?} is not allowed"),
                )
            })?;
        if request.method() != Method::GET {
            return Err(method_not_allowed("GET"));
        }
        if request.version() < Version::HTTP_11
            || !has_token(headers, header::CONNECTION, "upgrade")
            || !has_token(headers, header::UPGRADE, "websocket")
        {
            return Err(upgrade_required(format!(
                "this is a WebSocket endpoint; upgrade with subprotocol {}",
                self.subprotocols()
            )));
        }
        if headers
            .get(header::SEC_WEBSOCKET_VERSION)
            .is_none_or(|version| version != "13")
        {
            return Err(upgrade_required(
                "Sec-WebSocket-Version 13 is supported".to_owned(),
            ));
        }
        let key = headers.get(header::SEC_WEBSOCKET_KEY);
        if !key.is_some_and(|key| is_key(key.as_bytes())) {
            return Err(refusal(
                StatusCode::BAD_REQUEST,
                "Sec-WebSocket-Key must be 16 bytes in base64".to_owned(),
            ));
        }
        tokens(headers, header::SEC_WEBSOCKET_PROTOCOL)
            .filter_map(Codec::from_subprotocol)
            .find(|codec| self.codecs.contains(codec))
            .ok_or_else(|| {
                refusal(
                    StatusCode::BAD_REQUEST,
                    format!(
                        "no common subprotocol; supported are {}",
                        self.subprotocols()
                    ),
                )
            })
    }

    fn subprotocols(&self) -> String {
        let names: Vec<_> = self
            .codecs
            .iter()
            .map(|codec| codec.subprotocol())
            .collect();
        names.join(", ")
    }
}

/// Whether the client wants to go on with a session.
pub(crate) fn wants_to_resume<B>(request: &Request<B>) -> bool {
    let mut offered = tokens(request.headers(), header::SEC_WEBSOCKET_PROTOCOL);
    offered.any(|token| token == RESUME_SUBPROTOCOL)
}

/// The 101 to a request that was negotiated.
pub(crate) fn switching_protocols<B>(request: &Request<B>, codec: Codec) -> Answer {
    let key = request.headers().get(header::SEC_WEBSOCKET_KEY);
    let accept = derive_accept_key(key.map(HeaderValue::as_bytes).unwrap_or_default());
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(
        header::SEC_WEBSOCKET_PROTOCOL,
        HeaderValue::from_static(codec.subprotocol()),
    );
    if let Ok(accept) = HeaderValue::try_from(accept) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    answer
}

/// An answer of one line of text.
pub(crate) fn refusal(status: StatusCode, mut line: String) -> Box<Answer> {
    line.push('\n');
    let mut answer = Response::new(Full::from(line));
    *answer.status_mut() = status;
    answer.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    Box::new(answer)
}

/// 401 (RFC 9110 §15.5.2), with the scheme that it wants to be named, or 503 if nobody can say now
/// whether a credential is valid.
pub(crate) fn unauthenticated(error: &AuthError) -> Box<Answer> {
    let status = match error {
        AuthError::Refused(_) => StatusCode::UNAUTHORIZED,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    let mut answer = refusal(status, error.to_string());
    if status == StatusCode::UNAUTHORIZED {
        let headers = answer.headers_mut();
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    answer
}

/// 405 (RFC 9110 §15.5.6), which names the methods that are.
pub(crate) fn method_not_allowed(allowed: &'static str) -> Box<Answer> {
    let line = format!("the method here is {allowed}");
    let mut answer = refusal(StatusCode::METHOD_NOT_ALLOWED, line);
    answer
        .headers_mut()
        .insert(header::ALLOW, HeaderValue::from_static(allowed));
    answer
}

/// 426 (RFC 9110 §15.5.22), with the version that RFC 6455 §4.2.2 wants to be named.
fn upgrade_required(line: String) -> Box<Answer> {
    let mut answer = refusal(StatusCode::UPGRADE_REQUIRED, line);
    let headers = answer.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(
        header::SEC_WEBSOCKET_VERSION,
        HeaderValue::from_static("13"),
    );
    answer
}

/// The elements of a header that is a list, which may be spread over several lines.
fn tokens(headers: &HeaderMap, name: header::HeaderName) -> impl Iterator<Item = &str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

fn has_token(headers: &HeaderMap, name: header::HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|other| other.eq_ignore_ascii_case(token))
}

/// Whether this is what 16 bytes look like in base64.
fn is_key(key: &[u8]) -> bool {
    let alphabet = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/".contains(byte);
    key.len() == 24 && key.ends_with(b"==") && key[..22].iter().all(alphabet)
}
