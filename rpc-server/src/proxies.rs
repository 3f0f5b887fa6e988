//! The addresses of clients that come through proxies.
//!
//! Anybody can write anything into a header. What a trusted proxy has added itself stands at its end:
//! so it is read from there, as far as those who have added something are trusted.

use std::net::{IpAddr, SocketAddr};

use ::http::{HeaderMap, HeaderName, header};
use ipnet::{IpNet, Ipv4Net};

/// The header in which trusted proxies say whom they have a connection from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProxyHeader {
    /// `X-Forwarded-For: 192.0.2.7, 10.0.0.1`, the one that most proxies write.
    #[default]
    XForwardedFor,
    /// `Forwarded: for=192.0.2.7, for="[2001:db8::1]:4711";proto=https` (RFC 7239).
    Forwarded,
}

/// Those who are believed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proxies {
    trusted: Vec<IpNet>,
    header: ProxyHeader,
}

impl Proxies {
    /// Addresses and networks; the first that is neither comes back.
    pub(crate) fn new(trusted: &[String], header: ProxyHeader) -> Result<Self, String> {
        let networks = trusted
            .iter()
            .map(|entry| network(entry).ok_or_else(|| entry.clone()));
        Ok(Proxies {
            trusted: networks.collect::<Result<_, _>>()?,
            header,
        })
    }

    pub(crate) fn is_trusted(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let mut trusted = self.trusted.iter();
        trusted.any(|network| network.contains(&address))
    }

    /// Whom a request comes from that came over a connection from this address: the last in the header
    /// who is no trusted proxy. What stands before that is anybody's. Where a trusted proxy has
    /// written nothing that is an address, it is the proxy.
    pub(crate) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        let lines = headers.get_all(self.header.name()).iter().rev();
        let mut added = lines.flat_map(|line| {
            let mut rest = Some(line.as_bytes());
            std::iter::from_fn(move || self.header.last(&mut rest))
        });
        while self.is_trusted(client) {
            let Some(before) = added.next().and_then(|entry| self.header.address(entry)) else {
                break;
            };
            client = before;
        }
        client
    }
}

impl ProxyHeader {
    fn name(self) -> HeaderName {
        match self {
            ProxyHeader::XForwardedFor => HeaderName::from_static("x-forwarded-for"),
            ProxyHeader::Forwarded => header::FORWARDED,
        }
    }

    /// Takes the last entry of a line.
    ///
    /// Of bytes: what a client has put before it may be no text.
    fn last<'a>(self, rest: &mut Option<&'a [u8]>) -> Option<&'a [u8]> {
        let line = (*rest)?;
        let comma = match self {
            ProxyHeader::XForwardedFor => line.iter().rposition(|byte| *byte == b','),
            ProxyHeader::Forwarded => last_unquoted_comma(line),
        };
        let (before, entry) = match comma {
            Some(comma) => (Some(&line[..comma]), &line[comma + 1..]),
            None => (None, line),
        };
        *rest = before;
        Some(entry)
    }

    /// That of one entry.
    fn address(self, entry: &[u8]) -> Option<IpAddr> {
        let entry = str::from_utf8(entry).ok()?;
        match self {
            ProxyHeader::XForwardedFor => address(entry.trim()),
            ProxyHeader::Forwarded => {
                let pairs = unquoted_pairs(entry).filter_map(|pair| pair.split_once('='));
                let mut nodes = pairs
                    .filter(|(name, _)| name.trim().eq_ignore_ascii_case("for"))
                    .map(|(_, node)| node.trim());
                let node = nodes.next().filter(|_| nodes.next().is_none())?;
                let quoted = node
                    .strip_prefix('"')
                    .and_then(|node| node.strip_suffix('"'));
                address(quoted.unwrap_or(node))
            }
        }
    }
}

/// Where the last entry begins. Quotes are looked for from the end: there stands what a proxy has
/// written, such as a host in quotes in which its client has put a comma, and no quote that a client
/// has opened before that reaches into it.
fn last_unquoted_comma(line: &[u8]) -> Option<usize> {
    let mut is_quoted = false;
    for (at, byte) in line.iter().enumerate().rev() {
        let is_escaped = || {
            let before = line[..at].iter().rev();
            before.take_while(|byte| **byte == b'\\').count() % 2 == 1
        };
        match byte {
            b'"' if !is_escaped() => is_quoted = !is_quoted,
            b',' if !is_quoted => return Some(at),
            _ => {}
        }
    }
    None
}

/// What stands between the semicolons of an entry that are not in quotes.
fn unquoted_pairs(entry: &str) -> impl Iterator<Item = &str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    entry.split(move |char| {
        match char {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            ';' => return !is_quoted,
            _ => {}
        }
        false
    })
}

/// An address, perhaps with a port; one of IPv6 may stand in brackets, and has to before a port.
fn address(text: &str) -> Option<IpAddr> {
    let bracketed = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let address = match bracketed {
        Some(text) => text.parse().ok().map(IpAddr::V6),
        None => text.parse().ok(),
    };
    let with_port = || Some(text.parse::<SocketAddr>().ok()?.ip());
    Some(address.or_else(with_port)?.to_canonical())
}

/// A single address is a network of one. One of IPv4 that is written as one of IPv6 is what addresses
/// are held against.
fn network(text: &str) -> Option<IpNet> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(IpNet::from(address.to_canonical()));
    }
    let network: IpNet = text.parse().ok()?;
    match (network.addr().to_canonical(), network) {
        (IpAddr::V4(address), IpNet::V6(mapped)) => {
            let length = mapped.prefix_len().checked_sub(96)?;
            Some(Ipv4Net::new(address, length).ok()?.into())
        }
        _ => Some(network),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(proxies: &Proxies, peer: &str, lines: &[&str]) -> String {
        let lines = lines.iter().map(|line| (proxies.header.name(), *line));
        let headers = lines.map(|(name, line)| (name, line.parse().unwrap()));
        let client = proxies.client(peer.parse().unwrap(), &headers.collect());
        client.to_string()
    }

    fn proxies(header: ProxyHeader) -> Proxies {
        let trusted = ["10.0.0.0/8", "192.0.2.9", "2001:db8:1::/48"];
        Proxies::new(&trusted.map(str::to_owned), header).unwrap()
    }

    #[test]
    fn networks_of_ipv4_may_be_written_as_ipv6() {
        for network in ["::ffff:10.0.0.0/104", "10.0.0.0/8"] {
            let proxies = Proxies::new(&[network.to_owned()], ProxyHeader::default()).unwrap();
            let is_trusted = |address: &str| proxies.is_trusted(address.parse().unwrap());
            assert!(
                is_trusted("10.1.2.3") && is_trusted("::ffff:10.1.2.3"),
                "{network}"
            );
            assert!(!is_trusted("11.0.0.1") && !is_trusted("::1"), "{network}");
        }
        // More than all of IPv4.
        let wider = ["::ffff:10.0.0.0/95".to_owned()];
        assert!(Proxies::new(&wider, ProxyHeader::default()).is_err());
    }

    #[test]
    fn the_last_one_that_is_no_trusted_proxy_is_the_client() {
        let proxies = proxies(ProxyHeader::XForwardedFor);
        for (lines, expected) in [
            (&["203.0.113.7"][..], "203.0.113.7"),
            (&["1.1.1.1, 203.0.113.7"], "203.0.113.7"),
            (
                &["1.1.1.1, 203.0.113.7, 10.1.2.3 ,192.0.2.9"],
                "203.0.113.7",
            ),
            (&["1.1.1.1", "203.0.113.7", "10.1.2.3"], "203.0.113.7"),
            (&["10.1.1.1, 10.1.2.3"], "10.1.1.1"),
            (&["203.0.113.7:4711"], "203.0.113.7"),
            (&["::ffff:203.0.113.7"], "203.0.113.7"),
            (&["2001:db8:2::7, 2001:db8:1::1"], "2001:db8:2::7"),
            (&["[2001:db8:2::7]:4711"], "2001:db8:2::7"),
            (&["[2001:db8:2::7]"], "2001:db8:2::7"),
        ] {
            for peer in ["10.0.0.1", "::ffff:10.0.0.1", "2001:db8:1::5"] {
                assert_eq!(client(&proxies, peer, lines), expected, "{lines:?}");
            }
        }
    }

    #[test]
    fn nobody_else_is_believed() {
        let proxies = proxies(ProxyHeader::XForwardedFor);
        for peer in ["203.0.113.1", "192.0.2.8", "11.0.0.1", "2001:db8:2::1"] {
            assert_eq!(client(&proxies, peer, &["1.1.1.1"]), peer);
        }
        let nobody = Proxies::default();
        assert_eq!(client(&nobody, "127.0.0.1", &["1.1.1.1"]), "127.0.0.1");
    }

    #[test]
    fn behind_what_is_no_address_nothing_is_believed() {
        let proxies = proxies(ProxyHeader::XForwardedFor);
        for lines in [
            &[][..],
            &[""],
            &["1.1.1.1, unknown"],
            &["1.1.1.1,"],
            &["1.1.1.1", ""],
            &["1.1.1.1, 999.1.1.1"],
            &["1.1.1.1, [2001:db8:2::7"],
            &["1.1.1.1, [1.2.3.4]"],
            &["1.1.1.1, 203.0.113.7:x"],
            &["1.1.1.1, fe80::1%eth0"],
        ] {
            assert_eq!(client(&proxies, "10.0.0.1", lines), "10.0.0.1", "{lines:?}");
        }
        // As far as the last proxy goes.
        let lines = ["1.1.1.1, ?, 10.7.7.7"];
        assert_eq!(client(&proxies, "10.0.0.1", &lines), "10.7.7.7");
    }

    /// Or a client could say with it that it is the proxy.
    #[test]
    fn what_is_no_text_hides_nothing_of_what_a_proxy_adds() {
        for (header, lines) in [
            (
                ProxyHeader::XForwardedFor,
                [
                    (&b"1.1.1.1, \xff"[..], "10.0.0.1"),
                    (b"\xff, 203.0.113.7", "203.0.113.7"),
                ],
            ),
            (
                ProxyHeader::Forwarded,
                [
                    (b"for=1.1.1.1, for=\xff", "10.0.0.1"),
                    (b"for=\xff, for=203.0.113.7", "203.0.113.7"),
                ],
            ),
        ] {
            let proxies = proxies(header);
            for (line, expected) in lines {
                let value = ::http::HeaderValue::from_bytes(line).unwrap();
                let headers = [(header.name(), value)].into_iter().collect();
                let client = proxies.client("10.0.0.1".parse().unwrap(), &headers);
                assert_eq!(client.to_string(), expected);
            }
        }
    }

    #[test]
    fn the_standard_header_is_read_where_it_is_chosen() {
        let proxies = proxies(ProxyHeader::Forwarded);
        for (line, expected) in [
            ("for=203.0.113.7", "203.0.113.7"),
            (
                "For=\"203.0.113.7:80\"; proto=https;by=10.0.0.1",
                "203.0.113.7",
            ),
            (
                "for=1.1.1.1, proto=http;FOR=\"[2001:db8:2::7]:4711\"",
                "2001:db8:2::7",
            ),
            // A quote that a client has opened hides nothing of what the proxy adds.
            ("for=\"1.1.1.1, for=203.0.113.7", "203.0.113.7"),
            // What a client has chosen stands in quotes of the proxy's own.
            ("for=203.0.113.7;host=\"x,for=1.1.1.1;y\"", "203.0.113.7"),
            ("for=203.0.113.7;host=\"x,y\"", "203.0.113.7"),
            ("host=\"x;for=1.1.1.1\";for=203.0.113.7", "203.0.113.7"),
            (
                r#"for=203.0.113.7;host="x\",for=1.1.1.1;\\", for=10.1.2.3"#,
                "203.0.113.7",
            ),
            (
                "for=1.1.1.1;host=\"x, for=203.0.113.7;host=\"a,b\"",
                "203.0.113.7",
            ),
            ("for=1.1.1.1, for=_hidden", "10.0.0.1"),
            ("for=1.1.1.1, for=unknown", "10.0.0.1"),
            ("for=1.1.1.1, by=203.0.113.7", "10.0.0.1"),
            ("for=1.1.1.1, for=203.0.113.7;for=2.2.2.2", "10.0.0.1"),
        ] {
            assert_eq!(client(&proxies, "10.0.0.1", &[line]), expected, "{line}");
        }
        let mut headers = HeaderMap::new();
        headers.append("x-forwarded-for", "1.1.1.1".parse().unwrap());
        let peer = "10.0.0.1".parse().unwrap();
        assert_eq!(proxies.client(peer, &headers), peer);
    }

    #[test]
    fn what_is_no_network_comes_back() {
        for entry in [
            "",
            "proxy.example",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.1:80",
        ] {
            let refused = Proxies::new(&[entry.to_owned()], ProxyHeader::default());
            assert_eq!(refused.unwrap_err(), entry);
        }
    }
}
