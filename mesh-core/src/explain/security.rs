//! What security policies say of a request. They are compiled elsewhere (mesh-policy); whoever explains with policies
//! brings along somebody who can ask them: a [`Judge`].

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use http::header::HOST;

use super::{Caller, Decided, Hop, NearMiss, Outcome, Policy};
use crate::identity::SpiffeId;
use crate::matching::Claims;
use crate::model::Workload;
use crate::record::{ClientCert, ConnInfo, PeerCertificate, PeerIdentity, TlsInfo};
use crate::snapshot::{ClientCertificate, Direction, DownstreamTls, ListenerPlan, SecurityPlan, Snapshot, XfccDetails};

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
    /// The client's address as headers and trusted proxies give it, or else the connection's peer.
    pub remote: IpAddr,
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
    /// Who passed it on with a PROXY header.
    direct: Option<SocketAddr>,
    /// Name in the certificate that it shows.
    name: Option<Arc<str>>,
}

impl Peer {
    /// Somebody who is no workload of the mesh's.
    pub(super) fn outside(caller: &Caller) -> Self {
        let Caller { address, through, name } = caller;
        let address = (address.unwrap_or(Ipv4Addr::UNSPECIFIED.into()), 0).into();
        Self { address, direct: through.map(|ip| (ip, 0).into()), name: name.clone() }
    }

    /// The proxy of a workload; it shows who it is if the hop is of the mesh's TLS.
    pub(super) fn proxy(workload: Option<&Workload>, trust_domain: &str, shows: bool) -> Self {
        let address = workload.and_then(|w| w.addresses.first().copied()).unwrap_or(Ipv4Addr::UNSPECIFIED.into());
        let id = |w: &Workload| SpiffeId::new(trust_domain, &w.namespace, account(w)).to_string().into();
        Self { address: (address, 0).into(), direct: None, name: workload.filter(|_| shows).map(id) }
    }

    pub(super) fn address(&self) -> IpAddr {
        self.address.ip()
    }

    /// Without its certificate.
    pub(super) fn anonymous(&self) -> Self {
        Self { name: None, ..self.clone() }
    }

    /// What a server of a gateway learns of it: a certificate that is not asked for, or not verified, names nobody.
    pub(super) fn shown_to(&self, tls: &DownstreamTls) -> Self {
        let asked = tls.client != ClientCertificate::None && tls.verify;
        if asked { self.clone() } else { self.anonymous() }
    }

    /// Why the mesh's own TLS does not come about.
    pub(super) fn unwelcome(&self, tls: &DownstreamTls) -> Option<String> {
        let Some(name) = &self.name else { return Some("the client shows no certificate of the mesh".into()) };
        match PeerIdentity::of(&Arc::new(certificate(name))) {
            Some(identity) if tls.welcomes(&identity) => None,
            Some(_) => Some(format!("{name} is of another trust domain")),
            None => Some(format!("{name} is no identity of the mesh")),
        }
    }

    /// The TLS that it speaks; `ends`: what ends it, and who that is, without `spiffe://`.
    pub(super) fn tls(&self, ends: Option<(&DownstreamTls, Option<&str>)>) -> TlsInfo {
        let (version, cipher, alpn) = ("TLSv1.3", "".into(), "".into());
        let peer = self.name.as_ref().map(|name| Arc::new(certificate(name)));
        let client_cert = ends.is_some().then(|| ClientCert::new(element));
        // A gateway's certificate may be for anybody.
        let own = ends.and_then(|(tls, own)| own.filter(|_| tls.workloads.is_some()));
        let own = own.map(|own| format!("spiffe://{own}").into());
        TlsInfo { version, cipher, alpn, peer, is_verified: false, identity: None, own, client_cert }.into_verified()
    }

    fn conn(&self, direction: Direction, local: SocketAddr, sni: &str) -> ConnInfo {
        let tls = self.name.as_ref().map(|_| Arc::new(self.tls(None)));
        ConnInfo {
            direction,
            peer: self.address,
            local,
            direct: self.direct,
            sni: sni.into(),
            tls,
            peer_text: Default::default(),
        }
    }
}

/// What `x-forwarded-client-cert` says of a client; `?` is what is not known of its certificate. Workloads' have no subject.
fn element(by: Option<&str>, peer: &PeerCertificate, details: XfccDetails) -> String {
    let uri = peer.uris.first();
    let parts = [
        by.map(|by| format!("By={by}")),
        Some("Hash=?".to_owned()),
        details.cert.then(|| "Cert=\"?\"".to_owned()),
        details.chain.then(|| "Chain=\"?\"".to_owned()),
        details.subject.then(|| format!("Subject=\"{}\"", if uri.is_some() { "" } else { "?" })),
        details.uri.then(|| format!("URI={}", uri.map_or("", |uri| uri))),
    ];
    let dns = peer.dns.iter().filter(|_| details.dns).map(|name| format!("DNS={name}"));
    parts.into_iter().flatten().chain(dns).collect::<Vec<_>>().join(";")
}

/// What is asked of policies.
pub(super) struct Asked<'a> {
    /// `None`: bytes.
    pub(super) request: Option<&'a http::Request<()>>,
    pub(super) scheme: &'a str,
    /// Server name of the client's TLS; empty: none.
    pub(super) sni: &'a str,
    /// The client's address as headers give it.
    pub(super) remote: IpAddr,
}

fn account(w: &Workload) -> &str {
    if w.service_account.is_empty() { "default" } else { &w.service_account }
}

fn certificate(name: &Arc<str>) -> PeerCertificate {
    let (uris, dns) = if name.contains("://") { (vec![name.clone()], vec![]) } else { (vec![], vec![name.clone()]) };
    PeerCertificate {
        uris,
        dns,
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

/// Asks the policies of a listener and writes down what they said; `None`: it goes no further.
pub(super) fn ask(
    judge: Option<&dyn Judge>,
    (snapshot, listener): (&Snapshot, &ListenerPlan),
    (peer, local): (&Peer, SocketAddr),
    asked: &Asked<'_>,
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
    let Asked { request, scheme, sni, remote } = *asked;
    let conn = peer.conn(listener.key.direction, local, sni);
    let port = if listener.key.direction == Direction::Gateway { listener.key.port } else { local.port() };
    let judgement = judge.judge(&Case { plan, egress, conn: &conn, remote, port, scheme, request, claims });
    let own = plan.identity.as_ref().filter(|_| egress).map(|id| format!("spiffe://{id}"));
    let who = own.as_deref().or(peer.name.as_deref()).unwrap_or("nobody: it shows no certificate of the mesh");
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
