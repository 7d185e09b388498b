//! What security policies say of a request. They are compiled elsewhere (mesh-policy); whoever explains with policies
//! brings along somebody who can ask them: a [`Judge`].

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use http::header::HOST;

use super::{Decided, Hop, NearMiss, Outcome, Policy};
use crate::identity::SpiffeId;
use crate::matching::Claims;
use crate::model::Workload;
use crate::record::{ConnInfo, PeerCertificate, TlsInfo};
use crate::snapshot::{Direction, ListenerPlan, SecurityPlan, Snapshot};

/// Asks the policies of a plan.
pub trait Judge: Send + Sync {
    /// What they say.
    fn judge(&self, case: &Case<'_>) -> Judgement;
}

/// What is judged.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// The policies that apply.
    pub plan: &'a SecurityPlan,
    /// It is about what the workload asks of others, not about what is asked of it.
    pub egress: bool,
    /// The connection, with who the peer is.
    pub conn: &'a ConnInfo,
    /// Port as policies see it.
    pub port: u16,
    /// The scheme as the client used it.
    pub scheme: &'a str,
    /// The request, normalized; `None`: bytes.
    pub request: Option<&'a http::Request<()>>,
    /// Claims that the user's token is said to have; `None`: the tokens in the request are looked at.
    pub claims: Option<&'a Claims>,
}

/// What policies say.
#[derive(Clone, Debug, Default)]
pub struct Judgement {
    /// Each policy that was tried: its name, what it said, and where it is written.
    pub tried: Vec<Said>,
    /// The request as it goes on.
    pub request: Option<http::Request<()>>,
    /// Claims of its token.
    pub claims: Option<Claims>,
    /// It does not go on.
    pub refused: Option<Refused>,
}

/// What one policy said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Said {
    /// `authn`, `authz`, `extAuthz`.
    pub what: &'static str,
    /// In words.
    pub value: String,
    /// `AuthorizationPolicy default/x`.
    pub object: String,
    /// Field of it.
    pub field: String,
    /// `file:line`.
    pub location: Option<String>,
}

/// A refusal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused {
    /// Status.
    pub status: u16,
    /// Body.
    pub body: String,
    /// As the access log has it.
    pub details: String,
    /// The rule that came nearest to letting it through, and what it missed.
    pub nearest: Option<(Said, Vec<String>)>,
}

/// Who sends a request to a proxy.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    address: SocketAddr,
    /// SPIFFE id that it shows.
    identity: Option<Arc<str>>,
}

impl Peer {
    /// Somebody outside.
    pub(super) fn outside() -> Self {
        Self { address: (Ipv4Addr::UNSPECIFIED, 0).into(), identity: None }
    }

    /// The proxy of a workload; it shows who it is if the hop is of the mesh's TLS.
    pub(super) fn proxy(workload: Option<&Workload>, trust_domain: &str, shows: bool) -> Self {
        let address = workload.and_then(|w| w.addresses.first().copied()).unwrap_or(Ipv4Addr::UNSPECIFIED.into());
        let id = |w: &Workload| SpiffeId::new(trust_domain, &w.namespace, account(w)).to_string().into();
        Self { address: (address, 0).into(), identity: workload.filter(|_| shows).map(id) }
    }

    fn conn(&self, direction: Direction, local: SocketAddr, sni: &str) -> ConnInfo {
        let peer = self.identity.clone().map(|uri| Arc::new(certificate(uri)));
        let tls = peer.map(|peer| {
            let (version, cipher, alpn) = ("TLSv1.3", "".into(), "".into());
            let (is_verified, identity, own, client_cert) = (false, None, None, None);
            let tls = TlsInfo { version, cipher, alpn, peer: Some(peer), is_verified, identity, own, client_cert };
            Arc::new(tls.into_verified())
        });
        ConnInfo { direction, peer: self.address, local, direct: None, sni: sni.into(), tls }
    }
}

fn account(w: &Workload) -> &str {
    if w.service_account.is_empty() { "default" } else { &w.service_account }
}

fn certificate(uri: Arc<str>) -> PeerCertificate {
    PeerCertificate {
        uris: vec![uri],
        dns: Vec::new(),
        ips: Vec::new(),
        emails: Vec::new(),
        subject: "".into(),
        serial: "".into(),
        hash: "".into(),
        spki: "".into(),
        not_after: std::time::SystemTime::UNIX_EPOCH,
        chain: Vec::new(),
    }
}

/// Asks the policies of a listener and writes down what they said; `None`: it goes no further. `said` is the scheme of a
/// request, or the server name of bytes.
pub(super) fn ask(
    judge: Option<&dyn Judge>,
    (snapshot, listener): (&Snapshot, &ListenerPlan),
    (peer, local): (&Peer, SocketAddr),
    (request, said): (Option<&http::Request<()>>, &str),
    claims: Option<&Claims>,
    hop: &mut Hop,
) -> Option<Judgement> {
    let plan = &*snapshot.security;
    let egress = listener.key.direction == Direction::Outbound;
    let none = if egress { plan.egress.is_empty() } else { plan.is_empty() };
    if none {
        return Some(Judgement::default());
    }
    let Some(judge) = judge else {
        let count = if egress { plan.egress.len() } else { plan.authorization.len() + plan.authentication.len() };
        let value = format!("{count} policies apply and were not asked");
        hop.policies.push(line("authz", value, None, "spec", None));
        return Some(Judgement::default());
    };
    let (scheme, sni) = if request.is_some() { (said, "") } else { ("", said) };
    let conn = peer.conn(listener.key.direction, local, sni);
    let port = if listener.key.direction == Direction::Gateway { listener.key.port } else { local.port() };
    let judgement = judge.judge(&Case { plan, egress, conn: &conn, port, scheme, request, claims });
    let own = plan.identity.as_ref().filter(|_| egress).map(|id| format!("spiffe://{id}"));
    let who = own.as_deref().or(peer.identity.as_deref()).unwrap_or("nobody: it shows no certificate of the mesh");
    hop.policies.push(line("peer", who, None, "what the client shows", None));
    for Said { what, value, object, field, location } in &judgement.tried {
        hop.policies.push(line(what, value, Some(object.clone()), field, location.clone()));
    }
    let Some(refused) = &judgement.refused else { return Some(judgement) };
    hop.miss = refused.nearest.as_ref().map(|(said, why)| {
        let Said { what: _, value, object, field, location } = said.clone();
        let nearest = Decided { value, object: Some(object), field, location };
        NearMiss { nearest: Some(nearest), why: why.clone(), fix: None }
    });
    let status = request.map(|_| refused.status);
    let text = match status {
        Some(_) => format!("refused: {}", refused.details),
        None => format!("the connection is closed at the client's first byte: {}", refused.details),
    };
    hop.reply = Some(Outcome { status, flag: String::new(), body: refused.body.clone(), text });
    None
}

fn line(
    what: &'static str,
    value: impl Into<String>,
    object: Option<String>,
    field: &str,
    location: Option<String>,
) -> Policy {
    Policy { what, decided: Decided { value: value.into(), object, field: field.to_owned(), location } }
}

/// A request as policies see it.
pub(super) fn request(
    method: &http::Method,
    target: &str,
    headers: &http::HeaderMap,
    authority: &str,
) -> Option<http::Request<()>> {
    let mut request = http::Request::new(());
    *request.method_mut() = method.clone();
    *request.uri_mut() = target.parse().ok()?;
    *request.headers_mut() = headers.clone();
    if !request.headers().contains_key(HOST) {
        request.headers_mut().insert(HOST, authority.parse().ok()?);
    }
    Some(request)
}
