//! Headers that concern one connection only.

use http::header::{CONNECTION, HeaderName, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::layers::LocalReply;
use crate::record::Flag;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// What one pass over a request's header names found, so that nothing is removed that isn't there.
#[derive(Clone, Copy, Default)]
pub(super) struct Seen {
    connection: bool,
    hop: bool,
    te: bool,
    pub(super) upgrade: bool,
    /// A header that starts with `x-envoy-`.
    pub(super) internal: bool,
    /// A header that starts with `x-forwarded-`.
    pub(super) forwarded: bool,
}

pub(super) fn survey(headers: &HeaderMap) -> Seen {
    let mut seen = Seen::default();
    for name in headers.keys() {
        let text = name.as_str();
        match text.len() {
            2 => seen.te |= *name == TE,
            7 => seen.upgrade |= *name == UPGRADE,
            10 => {
                seen.connection |= *name == CONNECTION;
                seen.hop |= text == "keep-alive";
            }
            16 => seen.hop |= text == "proxy-connection",
            17 => seen.hop |= *name == TRANSFER_ENCODING,
            _ => {}
        }
        seen.internal |= text.starts_with("x-envoy-");
        seen.forwarded |= text.starts_with("x-forwarded-");
    }
    seen
}

fn rejected() -> LocalReply {
    LocalReply::new(StatusCode::BAD_REQUEST, "Bad Request", "http1.connection_header_rejected")
        .flagged(Flag::Dpe)
        .closing()
}

/// Removes hop-by-hop headers and the ones that `connection` names; keeps an accepted upgrade.
pub(super) fn clean_request(headers: &mut HeaderMap, seen: Seen) -> Result<(), LocalReply> {
    if !(seen.connection || seen.hop || seen.te || seen.upgrade) {
        return Ok(());
    }
    let nominated = if seen.connection { nominated(headers)? } else { Vec::new() };
    if nominated.iter().any(|n| n == "host") {
        // Naming it removes it, and without it there is nowhere to go.
        return Err(LocalReply::new(StatusCode::BAD_REQUEST, "", "missing_host_header").closing());
    }
    let asks_upgrade = nominated.iter().any(|n| n == "upgrade");
    let upgrade = match headers.get(UPGRADE) {
        Some(token) if asks_upgrade && token.as_bytes().eq_ignore_ascii_case(b"websocket") => true,
        Some(token) if asks_upgrade && !is_h2c(token) => {
            return Err(LocalReply::new(StatusCode::FORBIDDEN, "", "upgrade_failed").closing());
        }
        _ => false,
    };
    if seen.te && !(keep_te(headers)) {
        headers.remove(TE);
    }
    for name in &nominated {
        if name != "te" && name != "upgrade" {
            headers.remove(name.as_str());
        }
    }
    remove_hop(headers, upgrade);
    if upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    } else {
        headers.remove("http2-settings");
    }
    Ok(())
}

fn is_h2c(token: &HeaderValue) -> bool {
    token.as_bytes().split(|b| *b == b',').all(|t| t.trim_ascii().eq_ignore_ascii_case(b"h2c"))
}

/// `te` goes on as `trailers` or not at all.
fn keep_te(headers: &mut HeaderMap) -> bool {
    let trailers = headers
        .get_all(TE)
        .iter()
        .any(|v| v.as_bytes().split(|b| *b == b',').any(|t| t.trim_ascii().eq_ignore_ascii_case(b"trailers")));
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    trailers
}

/// Names in `connection`, lower case. Nominating what tells us where a request comes from is an attack.
fn nominated(headers: &HeaderMap) -> Result<Vec<String>, LocalReply> {
    let mut names = Vec::new();
    for value in headers.get_all(CONNECTION) {
        for token in value.as_bytes().split(|b| *b == b',') {
            let token = token.trim_ascii();
            if token.is_empty() {
                continue;
            }
            let name = String::from_utf8_lossy(token).to_ascii_lowercase();
            if name.starts_with(':') || matches!(&*name, "x-forwarded-for" | "x-forwarded-host" | "x-forwarded-proto") {
                return Err(rejected());
            }
            names.push(name);
        }
    }
    if names.len() >= 10 { Err(rejected()) } else { Ok(names) }
}

fn remove_hop(headers: &mut HeaderMap, upgrade: bool) {
    headers.remove(CONNECTION);
    headers.remove(KEEP_ALIVE);
    headers.remove(PROXY_CONNECTION);
    headers.remove(TRANSFER_ENCODING);
    if !upgrade {
        headers.remove(UPGRADE);
    }
}

/// Removes hop-by-hop headers of a response; what `connection` names stays, as in Envoy.
pub(super) fn clean_response(headers: &mut HeaderMap, switching: bool) {
    let hop = |name: &HeaderName| match name.as_str().len() {
        7 => *name == UPGRADE && !switching,
        10 => *name == CONNECTION || *name == KEEP_ALIVE,
        16 => *name == PROXY_CONNECTION,
        17 => *name == TRANSFER_ENCODING,
        _ => false,
    };
    if !headers.keys().any(hop) {
        return;
    }
    remove_hop(headers, switching);
    if switching {
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    }
}
