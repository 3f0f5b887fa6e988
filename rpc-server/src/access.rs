//! Which web pages may connect.
//!
//! A browser lets every page open a WebSocket to every host, sends its user's cookies along, and
//! says in `Origin` whose page it is (RFC 6455 §10.2): the server has to look. A page can also have
//! its own name resolve to 127.0.0.1 (DNS rebinding): a loopback listener has to look at `Host`.

use std::net::IpAddr;

use ::http::{HeaderMap, header};

/// The allow-lists. Entries are compared as a whole, without regard to case.
#[derive(Clone, Debug, Default)]
pub(crate) struct Access {
    pub(crate) origins: Vec<String>,
    pub(crate) hosts: Vec<String>,
}

/// Why a request is turned away.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    Origin(String),
    Host(String),
}

impl Access {
    /// Checks a request for this host.
    pub(crate) fn check(
        &self,
        host: &str,
        headers: &HeaderMap,
        listener_is_loopback: bool,
    ) -> Result<(), Denied> {
        if listener_is_loopback && !is_loopback(host) && !contains(&self.hosts, host) {
            return Err(Denied::Host(host.to_owned()));
        }
        let Some(origin) = origin(headers) else {
            return Ok(());
        };
        let own = origin
            .split_once("://")
            .is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host));
        if own || contains(&self.origins, &origin) {
            return Ok(());
        }
        Err(Denied::Origin(origin))
    }
}

/// The host that a request is for. `None` when no `Host` says so, or several do, which RFC 9112
/// §3.2 forbids: what stands in front of the server may have looked at another one.
pub(crate) fn host(headers: &HeaderMap) -> Option<&str> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next()?.to_str().ok()?;
    (!host.is_empty() && hosts.next().is_none()).then_some(host)
}

fn origin(headers: &HeaderMap) -> Option<String> {
    let origins: Vec<_> = headers
        .get_all(header::ORIGIN)
        .iter()
        .map(|origin| String::from_utf8_lossy(origin.as_bytes()))
        .collect();
    // Several are no single origin, and match nothing.
    (!origins.is_empty()).then(|| origins.join(", "))
}

fn contains(list: &[String], value: &str) -> bool {
    list.iter().any(|entry| entry.eq_ignore_ascii_case(value))
}

/// Whether `Host` names this machine to itself: `localhost` or a loopback address, at any port.
fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'))
        .unwrap_or(name);
    name.eq_ignore_ascii_case("localhost")
        || address
            .parse()
            .is_ok_and(|address: IpAddr| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(access: &Access, host: &str, origin: Option<&str>) -> Result<(), Denied> {
        let mut headers = HeaderMap::new();
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        access.check(host, &headers, true)
    }

    #[test]
    fn a_loopback_listener_accepts_only_loopback_hosts() {
        let access = Access::default();
        for host in [
            "localhost",
            "LOCALHOST:9000",
            "127.0.0.1:1",
            "[::1]:9000",
            "[::ffff:127.0.0.1]:9000",
        ] {
            assert_eq!(check(&access, host, None), Ok(()), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:9000",
            "127.0.0.1.evil.example",
            "[::ffff:192.0.2.1]",
        ] {
            assert!(check(&access, host, None).is_err(), "{host}");
        }
    }

    #[test]
    fn a_listener_on_another_address_accepts_any_host() {
        let checked = Access::default().check("api.example", &HeaderMap::new(), false);
        assert_eq!(checked, Ok(()));
    }

    #[test]
    fn a_request_is_for_one_host() {
        let mut headers = HeaderMap::new();
        assert_eq!(host(&headers), None);
        headers.insert(header::HOST, "".parse().unwrap());
        assert_eq!(host(&headers), None);
        headers.insert(header::HOST, "a".parse().unwrap());
        assert_eq!(host(&headers), Some("a"));
        headers.append(header::HOST, "a".parse().unwrap());
        assert_eq!(host(&headers), None);
    }

    #[test]
    fn an_origin_is_the_own_host_or_on_the_list() {
        let access = Access {
            origins: vec!["https://app.example".to_owned()],
            hosts: Vec::new(),
        };
        let host = "localhost:9000";
        for origin in ["http://localhost:9000", "https://app.example"] {
            assert_eq!(check(&access, host, Some(origin)), Ok(()), "{origin}");
        }
        for origin in [
            "http://localhost:9001",
            "https://app.example.evil.example",
            "null",
        ] {
            assert!(check(&access, host, Some(origin)).is_err(), "{origin}");
        }
    }
}
