//! How a cluster's endpoints are dialled: `tls`, `proxyProtocol`, `tunnel` of a DestinationRule.

use std::sync::Arc;

use super::{At, Blocks, ClusterInput, upstream_protocol};
use crate::api::{
    ClientTlsMode, ClientTlsSettings, ContentHash, MeshConfig, Object, ProxyProtocol, ProxyProtocolVersion,
    TunnelSettings,
};
use crate::compile::account::Ledger;
use crate::compile::mtls;
use crate::identity::TrustDomains;
use crate::model::Location;
use crate::snapshot::{
    PeerNames, Provenance, ProxyHeader, SecretRef, Sni, TlsParameters, TunnelPlan, UpstreamProtocol, UpstreamTls,
};

/// The mesh's own TLS, as clients speak it.
#[derive(Clone, Debug)]
pub(super) struct MeshClient {
    /// `enableAutoMtls`: endpoints that take it are spoken to with it.
    auto: bool,
    /// Where that was said.
    origin: Provenance,
    pub(super) trust: TrustDomains,
    parameters: TlsParameters,
    /// Limits of TLS with servers outside the mesh.
    others: TlsParameters,
    /// The protocols that say that it is the mesh, and HTTP/2.
    protocols: [Arc<str>; 3],
}

impl MeshClient {
    pub(super) fn of(mesh: &Object<MeshConfig>) -> Self {
        let rule = "mutual TLS wherever the endpoint takes it";
        let origin = Provenance::setting(mesh, "spec.enableAutoMtls", rule);
        Self {
            auto: mesh.spec.enable_auto_mtls != Some(false),
            origin,
            trust: TrustDomains::of(&mesh.spec),
            parameters: mtls::parameters(&mesh.spec),
            others: mtls::client_defaults(&mesh.spec),
            protocols: ["istio-peer-exchange", "istio", "h2"].map(Into::into),
        }
    }
}

/// What is sent before the first byte of a request.
#[derive(Default)]
pub(super) struct Hops {
    pub(super) tls: Option<Arc<UpstreamTls>>,
    /// For the endpoints that take the mesh's own, where no rule says anything about TLS.
    pub(super) auto_tls: Option<Arc<UpstreamTls>>,
    pub(super) tls_origin: Option<Provenance>,
    pub(super) proxy_header: Option<ProxyHeader>,
    pub(super) tunnel: Option<Arc<TunnelPlan>>,
}

/// The hops of one cluster.
pub(super) fn plan(input: &ClusterInput<'_>, subset: &str, blocks: &Blocks<'_>) -> Hops {
    let http = upstream_protocol(input.port.protocol) != UpstreamProtocol::Tcp;
    Hops {
        tls: blocks.tls.and_then(|(tls, at)| upstream(input, subset, tls, at)).map(Arc::new),
        auto_tls: automatic(input, subset, blocks).map(Arc::new),
        tls_origin: Some(match blocks.tls {
            Some((_, at)) => Provenance::field(&at.rule.key, &at.rule.origin, &format!("{}.tls", at.place.path())),
            None if input.service.location == Location::External => {
                Provenance::field(&input.service.key, &input.service.origin, "spec.location")
            }
            None => input.defaults.mesh.origin.clone(),
        }),
        proxy_header: blocks.proxy_protocol.map(|(p, _)| version(p)),
        tunnel: blocks.tunnel.filter(|_| !http).map(|(t, _)| Arc::new(tunnel(t))),
    }
}

/// What services of the mesh are spoken to with, without anybody asking.
fn automatic(input: &ClusterInput<'_>, subset: &str, blocks: &Blocks<'_>) -> Option<UpstreamTls> {
    let MeshClient { auto, origin, .. } = &input.defaults.mesh;
    let inside = input.service.location == Location::Internal;
    (*auto && inside && blocks.tls.is_none()).then(|| mesh_tls(input, subset, origin.clone()).hashed())
}

/// The mesh's own TLS with the endpoints of a cluster. The name that is sent is the one by which east-west gateways route
/// without ending TLS.
fn mesh_tls(input: &ClusterInput<'_>, subset: &str, origin: Provenance) -> UpstreamTls {
    let MeshClient { trust, parameters, .. } = &input.defaults.mesh;
    // No TLS library sends a star; which of its names is meant, nobody asks here.
    let host = input.service.hostname.trim_start_matches("*.");
    let sni = format!("outbound_.{}_.{subset}_.{host}", input.port.number);
    let others = trust.expand(input.service.subject_alt_names.iter().map(|n| &**n));
    UpstreamTls {
        mode: "ISTIO_MUTUAL",
        identity: Some(SecretRef::Workload),
        roots: SecretRef::MeshRoots,
        sni: Sni::Name(sni.into()),
        names: PeerNames::Endpoint(others.into_iter().map(Arc::from).collect()),
        verify: true,
        alpn: alpn(input),
        parameters: parameters.clone(),
        origin,
        hash: ContentHash::default(),
    }
}

fn version(header: &ProxyProtocol) -> ProxyHeader {
    match header.version {
        ProxyProtocolVersion::V1 => ProxyHeader::V1,
        ProxyProtocolVersion::V2 => ProxyHeader::V2,
    }
}

fn tunnel(settings: &TunnelSettings) -> TunnelPlan {
    let TunnelSettings { protocol, target_host, target_port } = settings;
    let host = match target_host.parse::<std::net::Ipv6Addr>() {
        Ok(ip) => format!("[{ip}]"),
        Err(_) => target_host.clone(),
    };
    TunnelPlan { post: protocol.eq_ignore_ascii_case("POST"), target: format!("{host}:{target_port}").into() }
}

/// A sidecar reads Secrets only for rules that select it; with any other rule it drops TLS, as Istio's do.
fn drops_credential(input: &ClusterInput<'_>, tls: &ClientTlsSettings, at: At<'_>) -> bool {
    !tls.credential_name.is_empty() && !input.gateway && at.rule.spec.workload_selector.is_none()
}

fn upstream(input: &ClusterInput<'_>, subset: &str, tls: &ClientTlsSettings, at: At<'_>) -> Option<UpstreamTls> {
    let (mode, mesh) = match tls.mode {
        ClientTlsMode::Disable => return None,
        ClientTlsMode::Simple => ("SIMPLE", false),
        ClientTlsMode::Mutual => ("MUTUAL", false),
        ClientTlsMode::IstioMutual => ("ISTIO_MUTUAL", true),
    };
    if !mesh && drops_credential(input, tls, at) {
        return None;
    }
    let origin = Provenance::field(&at.rule.key, &at.rule.origin, &format!("{}.tls", at.place.path()));
    let own_sni = (!tls.sni.is_empty()).then(|| Sni::Name(tls.sni.as_str().into()));
    let own_names = (!tls.subject_alt_names.is_empty())
        .then(|| PeerNames::OneOf(tls.subject_alt_names.iter().map(|n| n.as_str().into()).collect()));
    let plan = match mesh {
        true => mesh_tls(input, subset, origin),
        false => {
            let (identity, roots) = materials(tls, input.namespace, &at.rule.key.namespace);
            UpstreamTls {
                mode,
                identity,
                roots,
                sni: Sni::Host(input.service.hostname.clone()),
                names: names(input),
                verify: tls.insecure_skip_verify != Some(true),
                alpn: Vec::new(),
                parameters: input.defaults.mesh.others.clone(),
                origin,
                hash: ContentHash::default(),
            }
        }
    };
    let (sni, names) = (own_sni.unwrap_or(plan.sni), own_names.unwrap_or(plan.names));
    Some(UpstreamTls { sni, names, ..plan }.hashed())
}

/// TLS to hosts that no service stands for (`outboundTrafficPolicy.tls`): the one that a request names is the server.
pub(in crate::compile) fn to_unknown(
    tls: &ClientTlsSettings,
    proxy: &Arc<str>,
    mesh: &Object<MeshConfig>,
    origin: Provenance,
) -> Option<UpstreamTls> {
    let mode = match tls.mode {
        ClientTlsMode::Disable => return None,
        ClientTlsMode::Simple => "SIMPLE",
        ClientTlsMode::Mutual => "MUTUAL",
        ClientTlsMode::IstioMutual => "ISTIO_MUTUAL",
    };
    let nobody: Arc<str> = "".into();
    let (identity, roots) = materials(tls, proxy, &mesh.key.namespace);
    let plan = UpstreamTls {
        mode,
        identity,
        roots,
        sni: if tls.sni.is_empty() { Sni::Host(nobody.clone()) } else { Sni::Name(tls.sni.as_str().into()) },
        names: match (&tls.subject_alt_names[..], tls.mode) {
            ([], ClientTlsMode::IstioMutual) => PeerNames::Endpoint(Vec::new()),
            ([], _) => PeerNames::Host(nobody),
            (names, _) => PeerNames::OneOf(names.iter().map(|n| n.as_str().into()).collect()),
        },
        verify: tls.insecure_skip_verify != Some(true) || tls.mode == ClientTlsMode::IstioMutual,
        alpn: Vec::new(),
        parameters: match tls.mode {
            ClientTlsMode::IstioMutual => TlsParameters::default(),
            _ => mtls::client_defaults(&mesh.spec),
        },
        origin,
        hash: ContentHash::default(),
    };
    Some(plan.hashed())
}

/// Between sidecars the protocols say that the mesh speaks.
fn alpn(input: &ClusterInput<'_>) -> Vec<Arc<str>> {
    let all = &input.defaults.mesh.protocols;
    let spoken = match upstream_protocol(input.port.protocol) {
        UpstreamProtocol::Http2 => &all[..],
        UpstreamProtocol::Http1 | UpstreamProtocol::Client | UpstreamProtocol::Tcp => &all[..2],
    };
    spoken.to_vec()
}

/// Names of a server outside the mesh: those of the ServiceEntry, else the host.
fn names(input: &ClusterInput<'_>) -> PeerNames {
    match &input.service.subject_alt_names[..] {
        [] => PeerNames::Host(input.service.hostname.clone()),
        own => PeerNames::OneOf(own.to_vec()),
    }
}

/// Key and authorities, of Secrets in the proxy's namespace and ConfigMaps in the rule's.
fn materials(tls: &ClientTlsSettings, proxy: &Arc<str>, rule: &Arc<str>) -> (Option<SecretRef>, SecretRef) {
    if tls.mode == ClientTlsMode::IstioMutual {
        return (Some(SecretRef::Workload), SecretRef::MeshRoots);
    }
    let file = |path: &str| (!path.is_empty()).then(|| Arc::from(path));
    let mutual = tls.mode == ClientTlsMode::Mutual;
    if let Some(name) = tls.credential_name.strip_prefix("configmap://") {
        let namespace = rule.clone();
        return (None, SecretRef::ConfigMapRoots { namespace, name: name.into() });
    }
    if !tls.credential_name.is_empty() {
        let (namespace, name) = (proxy.clone(), Arc::from(&*tls.credential_name));
        let identity = mutual.then(|| SecretRef::Credential { namespace: namespace.clone(), name: Arc::clone(&name) });
        return (identity, SecretRef::CredentialRoots { namespace, name });
    }
    let identity = mutual.then(|| SecretRef::Files {
        certificate: tls.client_certificate.as_str().into(),
        key: tls.private_key.as_str().into(),
    });
    (identity, SecretRef::RootsFile { roots: file(&tls.ca_certificates), crl: file(&tls.ca_crl) })
}

/// Which of the blocks at one place decide a cluster.
#[derive(Clone, Copy)]
pub(super) struct Used {
    pub(super) tls: bool,
    pub(super) proxy_protocol: bool,
    pub(super) tunnel: bool,
}

/// What became of the fields. `at` is the path of the policy.
pub(super) fn account(
    ledger: &mut Ledger<'_>,
    path: &str,
    (tls, tunnel, header): (Option<&ClientTlsSettings>, Option<&TunnelSettings>, Option<&ProxyProtocol>),
    input: &ClusterInput<'_>,
    (used, at): (Used, At<'_>),
) {
    let by = "a more specific policy (of the port or the subset)";
    if let Some(tls) = tls {
        match used.tls {
            true => account_tls(ledger, &format!("{path}.tls"), tls, input, at),
            false => ledger.overridden(&format!("{path}.tls"), by),
        }
    }
    if let Some(TunnelSettings { protocol, target_host, target_port }) = tunnel {
        let path = format!("{path}.tunnel");
        if upstream_protocol(input.port.protocol) != UpstreamProtocol::Tcp {
            ledger.inert(&path, "it is for TCP and TLS routes, and this port carries HTTP");
        } else if used.tunnel {
            ledger.consumed(&path);
            ledger.take(&path, "protocol", protocol);
            ledger.take(&path, "targetHost", target_host);
            ledger.take(&path, "targetPort", target_port);
        } else {
            ledger.overridden(&path, by);
        }
    }
    if let Some(ProxyProtocol { version }) = header {
        let path = format!("{path}.proxyProtocol");
        match used.proxy_protocol {
            true => {
                ledger.consumed(&path);
                ledger.take(&path, "version", version);
            }
            false => ledger.overridden(&path, by),
        }
    }
}

fn account_tls(ledger: &mut Ledger<'_>, path: &str, tls: &ClientTlsSettings, input: &ClusterInput<'_>, at: At<'_>) {
    let dropped =
        !matches!(tls.mode, ClientTlsMode::Disable | ClientTlsMode::IstioMutual) && drops_credential(input, tls, at);
    if dropped {
        let why = "a sidecar uses a credentialName only of a rule with a workloadSelector: there is no TLS at all, as \
                   with Istio";
        ledger.inert(path, why);
        let field = format!("{path}.credentialName");
        let text = format!("{why}; add a workloadSelector");
        ledger.report(crate::compile::codes::CREDENTIAL_NOT_USED, &field, text);
        return;
    }
    account_settings(ledger, path, tls);
}

/// What became of the settings of TLS to an upstream.
pub(in crate::compile) fn account_settings(ledger: &mut Ledger<'_>, path: &str, tls: &ClientTlsSettings) {
    let ClientTlsSettings {
        mode,
        client_certificate,
        private_key,
        ca_certificates,
        credential_name,
        subject_alt_names,
        sni,
        insecure_skip_verify,
        ca_crl,
    } = tls;
    ledger.consumed(path);
    ledger.take(path, "mode", mode);
    let skip = *insecure_skip_verify == Some(true) && *mode != ClientTlsMode::IstioMutual;
    let no_tls = (*mode == ClientTlsMode::Disable).then_some("mode is DISABLE");
    let of_mesh = (*mode == ClientTlsMode::IstioMutual).then_some("ISTIO_MUTUAL uses the mesh's own certificates");
    let unverified = skip.then_some("insecureSkipVerify accepts every server");
    let secret = (!credential_name.is_empty()).then_some("credentialName decides");
    let simple = (*mode == ClientTlsMode::Simple).then_some("SIMPLE shows no client certificate");
    let mutual_skip = unverified.filter(|_| *mode == ClientTlsMode::Simple);
    let mut text = |name: &str, value: &String, why: Option<&str>| match why {
        Some(why) => ledger.without_effect(path, name, value, why),
        None => {
            ledger.take(path, name, value);
        }
    };
    text("clientCertificate", client_certificate, no_tls.or(of_mesh).or(secret).or(simple));
    text("privateKey", private_key, no_tls.or(of_mesh).or(secret).or(simple));
    text("caCertificates", ca_certificates, no_tls.or(of_mesh).or(unverified).or(secret));
    text("caCrl", ca_crl, no_tls.or(of_mesh).or(unverified).or(secret));
    text("credentialName", credential_name, no_tls.or(of_mesh).or(mutual_skip));
    text("sni", sni, no_tls);
    match no_tls.or(unverified) {
        Some(why) => ledger.without_effect(path, "subjectAltNames", subject_alt_names, why),
        None => {
            ledger.take_list(path, "subjectAltNames", subject_alt_names);
        }
    }
    match no_tls.or(of_mesh.map(|_| "workloads are always verified")) {
        Some(why) => ledger.without_effect(path, "insecureSkipVerify", insecure_skip_verify, why),
        None => {
            ledger.take(path, "insecureSkipVerify", insecure_skip_verify);
        }
    }
}

#[cfg(test)]
mod tests;
