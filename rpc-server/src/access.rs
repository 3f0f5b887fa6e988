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
    pub(crate) fn check(
        &self,
        headers: &HeaderMap,
        listener_is_loopback: bool,
    ) -> Result<(), Denied> {
        let host = text(headers, header::HOST);
        if listener_is_loopback && !is_loopback(&host) && !contains(&self.hosts, &host) {
            return Err(Denied::Host(host));
        }
        if !headers.contains_key(header::ORIGIN) {
            return Ok(());
        }
        let origin = text(headers, header::ORIGIN);
        let own = origin
            .split_once("://")
            .is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(&host));
        if own || contains(&self.origins, &origin) {
            return Ok(());
        }
        Err(Denied::Origin(origin))
    }
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> String {
    let values = headers.get_all(name);
    let values: Vec<_> = values
        .iter()
        .map(|value| String::from_utf8_lossy(value.as_bytes()))
        .collect();
    // Several are no single host or origin, and match nothing.
    values.join(", ")
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
            .is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(access: &Access, host: &str, origin: Option<&str>) -> Result<(), Denied> {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        access.check(&headers, true)
    }

    #[test]
    fn a_loopback_listener_accepts_only_loopback_hosts() {
        let access = Access::default();
        for host in ["localhost", "LOCALHOST:9000", "127.0.0.1:1", "[::1]:9000"] {
            assert_eq!(check(&access, host, None), Ok(()), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:9000",
            "127.0.0.1.evil.example",
            "",
        ] {
            assert!(check(&access, host, None).is_err(), "{host}");
        }
    }

    #[test]
    fn a_listener_on_another_address_accepts_any_host() {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, "api.example".parse().unwrap());
        assert_eq!(Access::default().check(&headers, false), Ok(()));
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
