//! Which HTTP/1 request heads are served, and what the others are told. Source: Envoy, as measured.

use std::mem::MaybeUninit;

use http::StatusCode;
use httparse::{Header, Request, Status};
use mesh_core::layers::LocalReply;
use mesh_core::record::Flag;

/// Largest head, request line included.
pub(super) const MAX_HEAD: usize = 60 * 1024;
/// Most header lines, `host` included.
const MAX_HEADERS: usize = 100;

/// How the body of a request ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Framing {
    None,
    Length(u64),
    Chunked,
    /// An upgrade or CONNECT: what follows need not be HTTP.
    Unknown,
}

/// What to do with a head.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Its end has not come yet.
    Incomplete,
    /// Serve it as it is.
    Pass { length: usize, framing: Framing },
    /// Serve it in another form.
    Rewrite { head: Vec<u8>, length: usize, framing: Framing, expects_continue: bool },
    /// Answer and close.
    Refuse(LocalReply),
}

fn bad(details: &'static str) -> LocalReply {
    LocalReply::new(StatusCode::BAD_REQUEST, "Bad Request", details).flagged(Flag::Dpe).closing()
}

fn too_large(details: &'static str) -> LocalReply {
    LocalReply::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "Request Header Fields Too Large", details)
        .flagged(Flag::Dpe)
        .closing()
}

fn old_version() -> LocalReply {
    LocalReply::new(StatusCode::UPGRADE_REQUIRED, "Upgrade Required", "low_version").flagged(Flag::Dpe).closing()
}

/// Judges the bytes from the start of a head. `http10`: that version is served, too.
pub(super) fn check(bytes: &[u8], http10: bool) -> Verdict {
    let mut slots = [MaybeUninit::<Header<'_>>::uninit(); MAX_HEADERS];
    let mut request = Request::new(&mut []);
    match request.parse_with_uninit_headers(bytes, &mut slots) {
        Ok(Status::Partial) if bytes.len() > MAX_HEAD => Verdict::Refuse(too_large("http1.headers_too_large")),
        Ok(Status::Partial) => match request_line(bytes, http10) {
            Some(reply) => Verdict::Refuse(reply),
            None => Verdict::Incomplete,
        },
        Ok(Status::Complete(length)) if length > MAX_HEAD => Verdict::Refuse(too_large("http1.headers_too_large")),
        Ok(Status::Complete(length)) => match complete(bytes, length, &request, http10) {
            Ok(verdict) => verdict,
            Err(reply) => Verdict::Refuse(reply),
        },
        Err(error) => broken(bytes, error, http10),
    }
}

/// The codec's parser does not take it: what is wrong, or whether Envoy is more tolerant.
fn broken(bytes: &[u8], error: httparse::Error, http10: bool) -> Verdict {
    if error == httparse::Error::TooManyHeaders {
        return Verdict::Refuse(too_large("http1.too_many_headers"));
    }
    if let Some(reply) = request_line(bytes, http10) {
        return Verdict::Refuse(reply);
    }
    let end = end_of_head(bytes).unwrap_or(bytes.len());
    let head = &bytes[..end];
    if let Some(unfolded) = unfold(head) {
        return match check(&unfolded, http10) {
            Verdict::Pass { framing, .. } => {
                Verdict::Rewrite { head: unfolded, length: end, framing, expects_continue: false }
            }
            Verdict::Rewrite { head, framing, expects_continue, .. } => {
                Verdict::Rewrite { head, length: end, framing, expects_continue }
            }
            other => other,
        };
    }
    let nul = error == httparse::Error::HeaderValue && head.contains(&0);
    Verdict::Refuse(bad(if nul { "http1.invalid_characters" } else { "http1.codec_error" }))
}

/// Checks a request line on its own; `None`: nothing wrong with it, or it has not come completely.
fn request_line(bytes: &[u8], http10: bool) -> Option<LocalReply> {
    let start = bytes.iter().position(|b| !matches!(b, b'\r' | b'\n')).unwrap_or(bytes.len());
    let rest = &bytes[start..];
    let end = rest.iter().position(|b| *b == b'\n');
    let line = rest[..end.unwrap_or(rest.len())].trim_ascii_end();
    let mut words = line.split(|b| *b == b' ');
    let method = words.next().unwrap_or_default();
    if end.is_none() && method.len() == line.len() {
        // Only a part of a method: wait, unless no method begins like this.
        let possible = METHODS.iter().any(|m| m.as_bytes().starts_with(method));
        return (!possible).then(|| bad("http1.codec_error"));
    }
    if !is_known(method) {
        return Some(bad("http1.codec_error"));
    }
    end?;
    let words: Vec<_> = words.collect();
    match &*words {
        [_] => Some(old_version()),
        [target, b"HTTP/1.0"] if http10 => wrong_target(method, target),
        [.., version] if version.starts_with(b"HTTP/") && *version != b"HTTP/1.1" => Some(old_version()),
        [target, b"HTTP/1.1"] => wrong_target(method, target),
        _ => Some(bad("http1.codec_error")),
    }
}

/// Methods that Envoy knows; any other is an error.
const METHODS: &[&str] = &[
    "ACL",
    "BIND",
    "CHECKOUT",
    "CONNECT",
    "COPY",
    "DELETE",
    "GET",
    "HEAD",
    "LINK",
    "LOCK",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MOVE",
    "MSEARCH",
    "NOTIFY",
    "OPTIONS",
    "PATCH",
    "POST",
    "PROPFIND",
    "PROPPATCH",
    "PURGE",
    "PUT",
    "REBIND",
    "REPORT",
    "SEARCH",
    "SOURCE",
    "SUBSCRIBE",
    "TRACE",
    "UNBIND",
    "UNLINK",
    "UNLOCK",
    "UNSUBSCRIBE",
];

fn is_known(method: &[u8]) -> bool {
    matches!(method, b"GET" | b"POST" | b"PUT" | b"HEAD") || METHODS.iter().any(|m| m.as_bytes() == method)
}

fn wrong_target(method: &[u8], target: &[u8]) -> Option<LocalReply> {
    if target.iter().any(|b| *b >= 0x80) {
        return Some(bad("http1.codec_error"));
    }
    let scheme = |s: &[u8]| target.len() > s.len() && target[..s.len()].eq_ignore_ascii_case(s);
    match target {
        [b'/', ..] => None,
        b"*" if method == b"OPTIONS" => Some(LocalReply::new(StatusCode::NOT_FOUND, "", "absolute_path_rejected")),
        b"*" => Some(bad("http1.invalid_url")),
        _ if method == b"CONNECT" && !target.is_empty() => None,
        _ if scheme(b"http://") || scheme(b"https://") => None,
        _ => Some(bad("http1.codec_error")),
    }
}

/// What a complete head says about its body, and whether it may.
fn complete(bytes: &[u8], length: usize, request: &Request<'_, '_>, http10: bool) -> Result<Verdict, LocalReply> {
    if request.version != Some(1) && !(http10 && request.version == Some(0)) {
        return Err(old_version());
    }
    let method = request.method.unwrap_or_default().as_bytes();
    if !is_known(method) {
        return Err(bad("http1.codec_error"));
    }
    if let Some(reply) = wrong_target(method, request.path.unwrap_or_default().as_bytes()) {
        return Err(reply);
    }
    let (mut content_length, mut has_host) = (None, false);
    let (mut chunked, mut expects, mut asks_upgrade, mut websocket) = (false, false, false, false);
    for header in request.headers.iter() {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        match header.name.len() {
            // Two of them: proxies and applications could take different ones for true.
            4 if is("host") => {
                if has_host || !header.value.iter().all(|b| is_of_host(*b)) {
                    return Err(bad("http.invalid_authority"));
                }
                has_host = true;
            }
            6 if is("expect") => expects |= header.value.eq_ignore_ascii_case(b"100-continue"),
            7 if is("upgrade") => websocket |= header.value.eq_ignore_ascii_case(b"websocket"),
            10 if is("connection") => asks_upgrade |= names_upgrade(header.value),
            14 if is("content-length") => {
                let length = digits(header.value).filter(|_| content_length.is_none());
                content_length = Some(length.ok_or_else(|| bad("http1.codec_error"))?);
            }
            17 if is("transfer-encoding") => {
                if chunked || !header.value.eq_ignore_ascii_case(b"chunked") {
                    return Err(not_implemented());
                }
                chunked = true;
            }
            _ => {}
        }
    }
    if !has_host && method != b"CONNECT" && !request.path.unwrap_or_default().contains("://") {
        return Err(LocalReply::new(StatusCode::BAD_REQUEST, "", "missing_host_header").closing());
    }
    let upgrade = method == b"CONNECT" || (asks_upgrade && websocket);
    let framing = match (content_length, chunked) {
        (Some(_), true) => return Err(bad("http1.content_length_and_chunked_not_allowed")),
        (_, true) => Framing::Chunked,
        (None | Some(0), false) if upgrade => Framing::Unknown,
        (None | Some(0), false) => Framing::None,
        (Some(n), false) => Framing::Length(n),
    };
    if expects {
        return Ok(Verdict::Rewrite { head: without_expect(bytes, request), length, framing, expects_continue: true });
    }
    Ok(Verdict::Pass { length, framing })
}

/// Whether it may be in an authority: what would end it in a URL may not, for whoever makes one of it.
pub(super) fn is_of_host(byte: u8) -> bool {
    OF_HOST[usize::from(byte)]
}

/// Looked up: it is asked for each byte of each request's host.
const OF_HOST: [bool; 256] = {
    const OTHERS: &[u8] = b"-._~:[]!$&'()*+,;=%@";
    let mut of_host = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        of_host[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut at = 0;
    while at < OTHERS.len() {
        of_host[OTHERS[at] as usize] = true;
        at += 1;
    }
    of_host
};

fn not_implemented() -> LocalReply {
    LocalReply::new(StatusCode::NOT_IMPLEMENTED, "Not Implemented", "http1.invalid_transfer_encoding")
        .flagged(Flag::Dpe)
        .closing()
}

/// Whether a `connection` header asks for an upgrade.
pub(super) fn names_upgrade(value: &[u8]) -> bool {
    value.split(|b| *b == b',').any(|token| token.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
}

fn digits(value: &[u8]) -> Option<u64> {
    let digit =
        |n: Option<u64>, b: &u8| n?.checked_mul(10)?.checked_add(u64::from(b.checked_sub(b'0').filter(|d| *d < 10)?));
    if value.is_empty() { None } else { value.iter().fold(Some(0), digit) }
}

/// The head without `expect`, which the codec would answer itself; the upstream's answer goes through instead.
fn without_expect(_: &[u8], request: &Request<'_, '_>) -> Vec<u8> {
    let mut head = Vec::with_capacity(256);
    head.extend_from_slice(request.method.unwrap_or_default().as_bytes());
    head.push(b' ');
    head.extend_from_slice(request.path.unwrap_or_default().as_bytes());
    head.extend_from_slice(b" HTTP/1.1\r\n");
    for header in request.headers.iter().filter(|h| !h.name.eq_ignore_ascii_case("expect")) {
        head.extend_from_slice(header.name.as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(header.value);
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// Joins header lines that are continued on the next one; `None` if there is none.
fn unfold(head: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(head.len());
    let mut folded = false;
    let mut first_line = true;
    for line in head.split_inclusive(|b| *b == b'\n') {
        let continues = matches!(line.first(), Some(b' ' | b'\t')) && !line.trim_ascii().is_empty();
        if continues && !first_line {
            while matches!(out.last(), Some(b'\r' | b'\n')) {
                out.pop();
            }
            out.push(b' ');
            folded = true;
        }
        first_line &= line.trim_ascii().is_empty();
        out.extend_from_slice(line);
    }
    folded.then_some(out)
}

/// Whether an empty line is in the bytes, which may begin anywhere in a head: with what ends its last line, for example.
pub(super) fn has_end(bytes: &[u8]) -> bool {
    let mut line_is_empty = false;
    bytes.iter().any(|b| match b {
        b'\n' => std::mem::replace(&mut line_is_empty, true),
        b'\r' => false,
        _ => {
            line_is_empty = false;
            false
        }
    })
}

/// Length of a head with its empty line.
fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let start = bytes.iter().position(|b| !matches!(b, b'\r' | b'\n'))?;
    let mut line_is_empty = false;
    for (i, b) in bytes.iter().enumerate().skip(start) {
        match b {
            b'\n' if line_is_empty => return Some(i + 1),
            b'\n' => line_is_empty = true,
            b'\r' => {}
            _ => line_is_empty = false,
        }
    }
    None
}
