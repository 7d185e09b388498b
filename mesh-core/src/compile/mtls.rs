//! The mesh's own TLS at the ports of a workload: PeerAuthentication, and the settings of the mesh about TLS.

use std::sync::Arc;

use super::Run;
use super::account::Ledger;
use crate::api::{MeshConfig, MeshTlsConfig, MeshTlsProtocol, MutualTls, MutualTlsMode, Object, PeerAuthentication};
use crate::peer::{PeerModes, Scopes, is_general};
use crate::snapshot::{CIPHER_SUITES, DownstreamTls, ECDH_CURVES, MeshTls, ProxyKind, TlsParameters, TlsVersion};

/// Modes of the workload's ports, and what ends the mesh's own TLS on them.
pub(super) struct Ports {
    modes: PeerModes,
    tls: Arc<DownstreamTls>,
}

impl Ports {
    pub(super) fn of(run: &Run<'_>) -> Self {
        let tls = DownstreamTls::mesh(run.workloads.clone(), parameters(&run.world.mesh().spec));
        let modes = PeerModes::of_scopes(Scopes::in_world(run.world, &run.id.namespace, &run.client.labels));
        Self { modes, tls: Arc::new(tls) }
    }

    /// How a port takes mesh TLS.
    pub(super) fn at(&self, port: u16) -> MeshTls {
        self.made(self.modes.port(port))
    }

    /// How ports that nobody names do.
    pub(super) fn others(&self) -> MeshTls {
        self.made(self.modes.general())
    }

    /// Ports with a mode of their own.
    pub(super) fn named(&self) -> impl Iterator<Item = u16> {
        self.modes.ports().map(|(port, _)| port)
    }

    fn made(&self, mode: &crate::peer::PortMode) -> MeshTls {
        MeshTls { mode: mode.mode, tls: Arc::clone(&self.tls), origin: mode.origin.clone() }
    }
}

/// Limits of the mesh's own TLS (`meshMTLS`).
pub(super) fn parameters(mesh: &MeshConfig) -> TlsParameters {
    let Some(MeshTlsConfig { min_protocol_version, ecdh_curves: _, cipher_suites }) = &mesh.mesh_mtls else {
        return TlsParameters::mesh(false, []);
    };
    let known = cipher_suites.iter().map(String::as_str).filter(|s| CIPHER_SUITES.contains(s));
    TlsParameters::mesh(*min_protocol_version == MeshTlsProtocol::Tlsv1_3, known)
}

/// Limits of TLS with others than the mesh, unless who asks for it says something else (`tlsDefaults`).
pub(crate) fn defaults(mesh: &MeshConfig) -> TlsParameters {
    let Some(MeshTlsConfig { min_protocol_version, ecdh_curves, cipher_suites }) = &mesh.tls_defaults else {
        return TlsParameters::default();
    };
    let min = match min_protocol_version {
        MeshTlsProtocol::Tlsv1_3 => TlsVersion::V1_3,
        MeshTlsProtocol::TlsAuto | MeshTlsProtocol::Tlsv1_2 => TlsVersion::V1_2,
    };
    let (cipher_suites, curves) = (known(cipher_suites, &CIPHER_SUITES), known(ecdh_curves, &ECDH_CURVES));
    TlsParameters { min, cipher_suites, curves, ..TlsParameters::default() }
}

/// The same for clients, to whom `minProtocolVersion` is nothing.
pub(super) fn client_defaults(mesh: &MeshConfig) -> TlsParameters {
    TlsParameters { min: TlsParameters::default().min, ..defaults(mesh) }
}

/// Names of a list that are among these, each once.
pub(super) fn known(names: &[String], all: &[&str]) -> Box<[Arc<str>]> {
    let mut out: Vec<Arc<str>> = Vec::new();
    for name in names.iter().filter(|n| all.contains(&n.as_str())) {
        if !out.iter().any(|o| **o == **name) {
            out.push(name.as_str().into());
        }
    }
    out.into()
}

/// Names of suites or curves: unknown ones, and ones that were named before, are left out.
pub(super) fn account_names(ledger: &mut Ledger<'_>, path: &str, list: &[String], known: &[&str]) {
    for (i, name) in list.iter().enumerate() {
        let at = format!("{path}[{i}]");
        if !known.contains(&name.as_str()) {
            let why =
                format!("{name} is not supported (TLS 1.3's suites are always on); supported are {}", known.join(", "));
            ledger.inert(&at, &why);
        } else if list[..i].contains(name) {
            ledger.inert(&at, "it was named before");
        } else {
            ledger.consumed(&at);
        }
    }
}

/// What became of `tlsDefaults`.
pub(super) fn account_defaults(ledger: &mut Ledger<'_>, mesh: &MeshConfig, kind: ProxyKind) {
    let Some(MeshTlsConfig { min_protocol_version, ecdh_curves, cipher_suites }) = &mesh.tls_defaults else { return };
    let at = "spec.tlsDefaults";
    ledger.consumed(at);
    match kind {
        ProxyKind::Gateway => {
            ledger.take(at, "minProtocolVersion", min_protocol_version);
        }
        ProxyKind::Sidecar => {
            let servers = "it is for servers, of Gateways and of a Sidecar's ingress";
            ledger.without_effect(at, "minProtocolVersion", min_protocol_version, servers);
        }
    }
    account_names(ledger, &format!("{at}.cipherSuites"), cipher_suites, &CIPHER_SUITES);
    account_names(ledger, &format!("{at}.ecdhCurves"), ecdh_curves, &ECDH_CURVES);
}

/// What became of `meshMTLS`.
pub(super) fn account_parameters(ledger: &mut Ledger<'_>, mesh: &MeshConfig) {
    let Some(MeshTlsConfig { min_protocol_version, ecdh_curves, cipher_suites }) = &mesh.mesh_mtls else { return };
    let at = "spec.meshMTLS";
    ledger.consumed(at);
    ledger.take(at, "minProtocolVersion", min_protocol_version);
    ledger.without_effect(at, "ecdhCurves", ecdh_curves, "it is for tlsDefaults");
    let only_1_3 = *min_protocol_version == MeshTlsProtocol::Tlsv1_3;
    for (i, suite) in cipher_suites.iter().enumerate() {
        let at = format!("{at}.cipherSuites[{i}]");
        if only_1_3 {
            ledger.inert(&at, "suites of TLS 1.3 can't be chosen, and TLS 1.2 is not spoken");
        } else if CIPHER_SUITES.contains(&suite.as_str()) {
            ledger.consumed(&at);
        } else {
            ledger.inert(&at, &format!("{suite} is not supported; supported are {}", CIPHER_SUITES.join(", ")));
        }
    }
}

/// What became of the policies.
pub(super) fn account(run: &mut Run<'_>) {
    let world = run.world;
    let scopes = Scopes::in_world(world, &run.id.namespace, &run.client.labels);
    let modes = PeerModes::of_scopes(scopes);
    for policy in world.peer_authentications().iter() {
        let mut ledger = Ledger::new(policy);
        match why_not(run, policy, &scopes) {
            Some(Counts::Not(why)) => ledger.inert("spec", why),
            Some(Counts::Less(by)) => ledger.overridden("spec", &by),
            None => fields(&mut ledger, policy, &modes),
        }
        run.parts.push(Arc::new(ledger.notes));
    }
}

/// Why a policy has no say about this proxy.
enum Counts {
    Not(&'static str),
    Less(String),
}

fn why_not(run: &Run<'_>, policy: &Arc<Object<PeerAuthentication>>, scopes: &Scopes<'_>) -> Option<Counts> {
    if run.id.kind == ProxyKind::Gateway {
        return Some(Counts::Not("a gateway takes the connections that its servers say"));
    }
    let root = *policy.key.namespace == *run.world.root_namespace();
    if root && !is_general(policy) {
        return Some(Counts::Not("in the root namespace a policy with a selector selects nobody"));
    }
    if !root && policy.key.namespace != run.id.namespace {
        return Some(Counts::Not(
            "it is for the workloads of another namespace; their clients read of it what they offer",
        ));
    }
    let scope = match (root, is_general(policy)) {
        (true, _) => scopes.mesh,
        (false, true) => scopes.namespace,
        (false, false) => scopes.workload,
    };
    let selects = |p: &Object<PeerAuthentication>| {
        p.spec.selector.as_ref().is_none_or(|s| crate::world::covers(&s.match_labels, &run.client.labels))
    };
    match scope {
        _ if !selects(policy) => Some(Counts::Not("its selector does not pick this workload")),
        Some(first) if first.key != policy.key => {
            Some(Counts::Less(format!("{}, which is older, for the same workloads", first.key)))
        }
        _ => None,
    }
}

fn fields(ledger: &mut Ledger<'_>, policy: &Object<PeerAuthentication>, modes: &PeerModes) {
    let PeerAuthentication { selector, mtls, port_level_mtls } = &policy.spec;
    if let Some(selector) = selector {
        ledger.consumed("spec.selector");
        ledger.take_map("spec.selector", "matchLabels", &selector.match_labels);
    }
    if let Some(MutualTls { mode }) = mtls {
        let decides = modes.general().origin.object.as_ref();
        match decides.filter(|key| **key != policy.key) {
            Some(other) if *mode != MutualTlsMode::Unset => {
                ledger.overridden("spec.mtls", &format!("{other}, which is for fewer workloads"));
            }
            _ => {
                ledger.consumed("spec.mtls");
                ledger.take("spec.mtls", "mode", mode);
            }
        }
    }
    for (port, MutualTls { mode }) in port_level_mtls.iter().flatten() {
        let at = crate::yaml::child("spec.portLevelMtls", port);
        if is_general(policy) {
            ledger.inert(&at, "only a policy with a selector has modes of ports");
            continue;
        }
        ledger.consumed(&at);
        ledger.take(&at, "mode", mode);
    }
}

#[cfg(test)]
mod tests;
