//! What an upgrade request says of who its sender is. It is taken out of what is kept of the request.

use std::borrow::Cow;

use ::http::{HeaderMap, HeaderValue, header};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::auth::Credential;

/// What stands before a credential among the subprotocols.
const BEARER: &str = "wirecall.bearer.";

/// The credentials of an upgrade request.
#[derive(Default)]
pub(crate) struct Offered {
    header: Option<Box<str>>,
    subprotocol: Option<Box<str>>,
    cookie: Option<Box<str>>,
}

impl Offered {
    /// Looks at the headers of a request; the cookie is that of this name.
    pub(crate) fn read(headers: &HeaderMap, cookie: Option<&str>) -> Self {
        Offered {
            header: bearer(headers).map(Into::into),
            subprotocol: subprotocol(headers),
            cookie: cookie.and_then(|name| Some(find_cookie(headers, name)?.into())),
        }
    }

    pub(crate) fn credential(&self) -> Option<Credential<'_>> {
        let header = self.header.as_deref().map(Credential::Header);
        let subprotocol = self.subprotocol.as_deref().map(Credential::Subprotocol);
        let cookie = self.cookie.as_deref().map(Credential::Cookie);
        header.or(subprotocol).or(cookie)
    }
}

/// Takes out what is secret. Without an authenticator the application may look at `Authorization` and
/// cookies itself; then they are only not printed.
pub(crate) fn redact(headers: &mut HeaderMap, has_authenticator: bool) {
    for name in [
        header::AUTHORIZATION,
        header::COOKIE,
        header::PROXY_AUTHORIZATION,
    ] {
        if has_authenticator {
            headers.remove(name);
        } else if let header::Entry::Occupied(mut values) = headers.entry(name) {
            for value in values.iter_mut() {
                value.set_sensitive(true);
            }
        }
    }
    let subprotocols = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let has_bearer = |value: &HeaderValue| {
        let bytes = value.as_bytes();
        bytes
            .windows(BEARER.len())
            .any(|part| part == BEARER.as_bytes())
    };
    let mut values = subprotocols.cloned().collect::<Vec<_>>();
    if !values.iter().any(has_bearer) {
        return;
    }
    headers.remove(header::SEC_WEBSOCKET_PROTOCOL);
    for value in &mut values {
        let others: Vec<_> = entries(value)
            .filter(|entry| !entry.starts_with(BEARER))
            .collect();
        if let Ok(value) = HeaderValue::from_str(&others.join(", "))
            && !value.is_empty()
        {
            headers.append(header::SEC_WEBSOCKET_PROTOCOL, value);
        }
    }
}

/// RFC 6750 §2.1. The scheme is the same in capitals (RFC 9110 §11.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next()?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let is_alone = values.next().is_none();
    (is_alone && scheme.eq_ignore_ascii_case("bearer")).then_some(token.trim_ascii())
}

fn subprotocol(headers: &HeaderMap) -> Option<Box<str>> {
    let values = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let encoded = values
        .flat_map(entries)
        .find_map(|entry| entry.strip_prefix(BEARER))?;
    let token = URL_SAFE_NO_PAD.decode(encoded).ok()?;
    Some(String::from_utf8(token).ok()?.into_boxed_str())
}

fn entries(value: &HeaderValue) -> impl Iterator<Item = &str> {
    let text = value.to_str().unwrap_or_default();
    text.split(',').map(str::trim)
}

/// RFC 6265 §4.2.1. Of several of one name none counts: another host may have set one of them.
fn find_cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<Cow<'a, str>> {
    let values = headers.get_all(header::COOKIE).iter();
    let pairs = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'));
    let mut found = pairs.filter_map(|pair| {
        let (own, value) = pair.trim().split_once('=')?;
        (own == name).then_some(value)
    });
    let value = found.next()?;
    found.next().is_none().then_some(Cow::Borrowed(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let lines = lines.iter();
        lines
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect()
    }

    fn read<'a>(offered: &'a Offered, kind: fn(&'a str) -> Credential<'a>) -> Option<&'a str> {
        let credential = offered.credential()?;
        (credential == kind(credential.as_str())).then_some(credential.as_str())
    }

    #[test]
    fn each_way_in_is_found() {
        let offered = Offered::read(&headers(&[("authorization", "bearer one.two")]), None);
        assert_eq!(read(&offered, Credential::Header), Some("one.two"));
        let list = "wirecall.v1+json, wirecall.bearer.w6Q_";
        let offered = Offered::read(&headers(&[("sec-websocket-protocol", list)]), None);
        assert_eq!(read(&offered, Credential::Subprotocol), Some("ä?"));
        let cookies = headers(&[("cookie", "a=1; session=x=y; b=2")]);
        let offered = Offered::read(&cookies, Some("session"));
        assert_eq!(read(&offered, Credential::Cookie), Some("x=y"));
        assert_eq!(Offered::read(&cookies, None).credential(), None);
    }

    #[test]
    fn what_is_ambiguous_or_malformed_is_no_credential() {
        for lines in [
            &[("authorization", "Basic eA=="), ("x", "y")],
            &[("authorization", "Bearer a"), ("authorization", "Bearer b")],
            &[("sec-websocket-protocol", "wirecall.bearer.*"), ("x", "y")],
            &[("cookie", "session=a; session=b"), ("x", "y")],
        ] {
            let offered = Offered::read(&headers(lines), Some("session"));
            assert_eq!(offered.credential(), None, "{lines:?}");
        }
    }

    #[test]
    fn nothing_secret_is_kept_or_printed() {
        let lines = [
            ("authorization", "Bearer hush"),
            ("cookie", "session=hush"),
            (
                "sec-websocket-protocol",
                "wirecall.bearer.aHVzaA, wirecall.v1+json",
            ),
            ("x-trace", "7"),
        ];
        for has_authenticator in [true, false] {
            let mut kept = headers(&lines);
            redact(&mut kept, has_authenticator);
            let printed = format!("{kept:?}");
            assert!(
                !printed.contains("hush") && !printed.contains("aHVzaA"),
                "{printed}"
            );
            assert!(printed.contains("x-trace"), "{printed}");
            assert_eq!(kept[header::SEC_WEBSOCKET_PROTOCOL], "wirecall.v1+json");
            assert_eq!(kept.contains_key(header::COOKIE), !has_authenticator);
        }
    }
}
