//! What policies refuse, as clients and logs see it.

use mesh_core::explain::{Decided, Hop, Outcome, Target};

use super::expect::{Expected, is_behind};
use super::requests::Ask;
use super::services::{REFUSED, admits};

/// A proxy's answer instead of what is behind it.
#[derive(Debug)]
pub(crate) struct Answer {
    /// `None`: the connection ends without one.
    pub(crate) status: Option<u16>,
    pub(crate) body: String,
    /// As the log has them; `None`: whatever it has.
    pub(crate) details: Option<String>,
    pub(crate) flag: String,
}

/// What a proxy answers itself.
pub(crate) fn answer(hop: &Hop, ask: &Ask) -> Option<Answer> {
    if is_refused_by_others(hop, ask) {
        let (status, body) = REFUSED;
        let details = Some("ext_authz_denied".to_owned());
        return Some(Answer { status: Some(status), body: body.into(), details, flag: "UAEX".into() });
    }
    let Outcome { status, flag, body, text: _ } = hop.reply.clone()?;
    let details = hop.reply.as_ref().and_then(details).map(str::to_owned);
    Some(Answer { status, body, details, flag })
}

/// An external authorizer is asked, and refuses.
pub(crate) fn is_refused_by_others(hop: &Hop, ask: &Ask) -> bool {
    hop.policies.iter().any(|p| p.what == "extAuthz") && !admits(ask.method)
}

/// Whether an authorizer that let a request through has marked it; `None`: the mesh's settings say whether it may.
pub(crate) fn is_marked<'h>(hops: impl Iterator<Item = &'h Hop>) -> Option<bool> {
    let asked: Vec<&str> = hops
        .flat_map(|hop| &hop.policies)
        .filter(|p| p.what == "extAuthz")
        .map(|p| p.decided.value.split(' ').next().unwrap_or_default())
        .collect();
    // Over gRPC the authorizer decides what becomes of headers.
    match asked.is_empty() || asked.contains(&"call-check") {
        true => Some(!asked.is_empty()),
        false => None,
    }
}

/// Why policies refuse a request, or a stream of bytes.
pub(crate) fn details(reply: &Outcome) -> Option<&str> {
    let stream = "the connection is closed at the client's first byte: ";
    reply.text.strip_prefix("refused: ").or_else(|| reply.text.strip_prefix(stream))
}

/// Policies refuse a stream of bytes.
pub(crate) fn is_stream_refused(expected: &Expected<'_>) -> bool {
    expected.hop.reply.as_ref().is_some_and(|reply| reply.status.is_none() && details(reply).is_some())
}

/// Whether a connection without an answer has a line in the log.
pub(crate) fn is_logged(expected: &Expected<'_>, listener_log: bool) -> bool {
    let Some(reply) = &expected.hop.reply else { return false };
    let no_chain = reply.flag == "NR" && reply.status.is_none();
    details(reply).is_some() || (listener_log && no_chain)
}

/// Clusters whose server's proxy refuses, and writes so in its log.
pub(crate) fn answered_behind(ask: &Ask, expected: &Expected<'_>) -> Vec<String> {
    let clusters = expected.hop.clusters.iter().filter(|t| is_behind(t)).map(|t| t.cluster.value.clone());
    let says = |cluster: &String| {
        let answer = expected.inbound(cluster).and_then(|hop| answer(hop, ask));
        answer.is_some_and(|a| a.status.is_some() || a.details.is_some())
    };
    clusters.filter(says).collect()
}

/// Endpoints that are partly of the mesh; the mesh's own TLS that an application is to end; and a host that a rule makes
/// of what no host has, which HTTP/2 has no place for.
pub(crate) fn is_unknown(ask: &Ask, expected: &Expected<'_>) -> bool {
    let (hop, clusters) = (expected.hop, &expected.hop.clusters);
    let is_mutual = |d: &Decided| d.value.starts_with("mutual TLS");
    let partly = |t: &Target| !is_behind(t) && t.transport.iter().any(is_mutual) && !t.transport.iter().all(is_mutual);
    let http2 = || clusters.iter().any(|t| t.policies.iter().any(|p| p.decided.value == "Http2"));
    if clusters.iter().any(partly) || (hop.changes.iter().any(|c| c.contains("Host becomes %REQ")) && http2()) {
        return true;
    }
    expected.is_tcp() && hop.tls.is_none() && ask.to.identity.is_some()
}

/// `x-forwarded-client-cert` without what is not known of certificates.
pub(crate) fn without_certificates(value: &str) -> String {
    let mut out = Vec::new();
    for element in value.split(',') {
        let known = |part: &&str| !["Hash=", "Cert=", "Chain=", "Subject=", "DNS="].iter().any(|p| part.starts_with(p));
        out.push(element.split(';').filter(known).collect::<Vec<_>>().join(";"));
    }
    out.join(",")
}
