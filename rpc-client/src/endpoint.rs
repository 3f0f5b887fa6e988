//! What a client connects to.

use http::Uri;
use wirecall_core::transport::memory::MemoryEndpoint;

use crate::error::ConnectError;

/// A URL such as `ws://127.0.0.1:9000/`, or a server within the process.
#[derive(Clone, Debug)]
pub struct Endpoint(pub(crate) Kind);

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Url(String),
    Memory(MemoryEndpoint),
}

impl Endpoint {
    /// Whether both are the same place, whatever is asked for there.
    pub(crate) fn is_same_host(&self, other: &Endpoint) -> bool {
        match (&self.0, &other.0) {
            (Kind::Url(one), Kind::Url(other)) => match (parse(one), parse(other)) {
                (Ok(one), Ok(other)) => one.authority == other.authority,
                _ => false,
            },
            (Kind::Memory(_), Kind::Memory(_)) => true,
            _ => false,
        }
    }
}

impl From<&str> for Endpoint {
    fn from(url: &str) -> Self {
        Endpoint(Kind::Url(url.to_owned()))
    }
}

impl From<String> for Endpoint {
    fn from(url: String) -> Self {
        Endpoint(Kind::Url(url))
    }
}

impl From<&String> for Endpoint {
    fn from(url: &String) -> Self {
        Endpoint(Kind::Url(url.clone()))
    }
}

impl From<MemoryEndpoint> for Endpoint {
    fn from(endpoint: MemoryEndpoint) -> Self {
        Endpoint(Kind::Memory(endpoint))
    }
}

/// A `ws://` URL (RFC 6455 §3), taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Without brackets, as it is looked up.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// As it stands in the `Host` header.
    pub(crate) authority: String,
    pub(crate) path_and_query: String,
}

pub(crate) fn parse(url: &str) -> Result<Target, ConnectError> {
    let bad = |why: &str| ConnectError::Url(format!("{url:?} {why}"));
    let uri: Uri = url.parse().map_err(|_| bad("is no URL"))?;
    match uri.scheme_str() {
        Some("ws") => {}
        Some("wss") => return Err(bad("asks for TLS, which this version does not have")),
        _ => return Err(bad("does not begin with ws://")),
    }
    if url.contains('#') {
        return Err(bad("has a fragment, which WebSocket URLs must not have"));
    }
    let host = uri.host().filter(|host| !host.is_empty());
    let host = host.ok_or_else(|| bad("has no host"))?;
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    if authority.contains('@') {
        return Err(bad("has credentials in it; send them in a header"));
    }
    // Not `Uri::port`, which finds no port where there is a bad one. An empty one is the default
    // (RFC 3986 §3.2.3).
    let port = match authority.strip_prefix(host) {
        Some("" | ":") => 80,
        port => port
            .and_then(|port| port.strip_prefix(':'))
            .filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|port| port.parse().ok())
            .ok_or_else(|| bad("has a port that is not one of 0 to 65535"))?,
    };
    Ok(Target {
        host: host.trim_matches(['[', ']']).to_owned(),
        port,
        authority: match port {
            80 => host.to_owned(),
            port => format!("{host}:{port}"),
        },
        path_and_query: uri
            .path_and_query()
            .map_or_else(|| "/".to_owned(), ToString::to_string),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        let target = parse("ws://[::1]:9000/rpc?v=1").unwrap();
        assert_eq!((&*target.host, target.port), ("::1", 9000));
        assert_eq!(target.authority, "[::1]:9000");
        assert_eq!(target.path_and_query, "/rpc?v=1");
        let target = parse("ws://localhost").unwrap();
        assert_eq!((target.port, &*target.path_and_query), (80, "/"));
        assert_eq!(target.authority, "localhost");
        assert_eq!(
            parse("ws://localhost:").unwrap(),
            parse("ws://localhost").unwrap()
        );
    }

    #[test]
    fn a_port_that_is_none_is_refused_and_not_taken_for_the_default() {
        for url in [
            "ws://localhost:99999/",
            "ws://localhost:65536",
            "ws://[::1]:99999",
            "ws://[::1]9000",
            "ws://localhost:+80",
            "ws://localhost:http",
        ] {
            assert!(matches!(parse(url), Err(ConnectError::Url(_))), "{url}");
        }
    }

    #[test]
    fn what_is_no_websocket_url_is_refused() {
        for url in [
            "http://a",
            "wss://a",
            "a:1",
            "ws://",
            "",
            "ws://a/#x",
            "ws://u:p@a/",
            "ws://a b",
        ] {
            assert!(matches!(parse(url), Err(ConnectError::Url(_))), "{url}");
        }
    }
}
