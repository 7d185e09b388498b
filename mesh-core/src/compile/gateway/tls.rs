//! `tls` of a Gateway's server, or of a Sidecar's `ingress`.

use std::sync::Arc;

use crate::api::{ContentHash, MeshConfig, ServerTlsCertificate, ServerTlsMode, ServerTlsSettings, TlsProtocol};
use crate::compile::account::Ledger;
use crate::compile::mtls;
use crate::snapshot::{
    CIPHER_SUITES, ClientCertificate, DownstreamTls, ECDH_CURVES, SecretRef, TlsParameters, TlsVersion, Workloads,
};

/// Who terminates what kind of TLS where.
pub(in crate::compile) struct Terminating<'a> {
    pub(in crate::compile) path: &'a str,
    pub(in crate::compile) tls: &'a ServerTlsSettings,
    /// The server speaks HTTP inside.
    pub(in crate::compile) http: bool,
    /// Namespace of the gateway's pod: its Secrets are used.
    pub(in crate::compile) namespace: &'a Arc<str>,
    /// Which workloads may be clients of a server of the mesh.
    pub(in crate::compile) workloads: &'a Workloads,
    /// Settings of the mesh.
    pub(in crate::compile) mesh: &'a MeshConfig,
}

/// Reads the settings of a server that terminates TLS.
pub(in crate::compile) fn downstream(ledger: &mut Ledger<'_>, of: &Terminating<'_>) -> DownstreamTls {
    let mesh = of.tls.mode == ServerTlsMode::IstioMutual;
    let client = match of.tls.mode {
        ServerTlsMode::Mutual | ServerTlsMode::IstioMutual => ClientCertificate::Required,
        ServerTlsMode::OptionalMutual => ClientCertificate::Optional,
        ServerTlsMode::Simple | ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough => ClientCertificate::None,
    };
    let asks = client != ClientCertificate::None;
    account(ledger, of, mesh, asks);
    let list = |texts: &[String]| if asks { texts.iter().map(|t| t.as_str().into()).collect() } else { Vec::new() };
    let alpn: &[&str] = match (mesh, of.http) {
        (_, true) => &["h2", "http/1.1"],
        // Not `istio-peer-exchange`, which Istio has here: it promises an exchange of metadata.
        (true, false) => &["h2", "http/1.1"],
        (false, false) => &[],
    };
    let plan = DownstreamTls {
        certificates: certificates(of, mesh),
        client,
        roots: asks.then(|| roots(of, mesh)),
        workloads: mesh.then(|| of.workloads.clone()),
        names: list(&of.tls.subject_alt_names),
        spki: list(&of.tls.verify_certificate_spki),
        hashes: list(&of.tls.verify_certificate_hash),
        // What the mesh ends is always verified.
        verify: mesh || of.tls.insecure_skip_verify != Some(true),
        alpn: alpn.iter().map(|p| (*p).into()).collect(),
        // The mesh's defaults are for TLS with others.
        parameters: parameters(of.tls, if mesh { TlsParameters::default() } else { mtls::defaults(of.mesh) }),
        origin: ledger.origin(of.path),
        hash: ContentHash::default(),
    };
    plan.hashed()
}

/// The server's own limits, and where it has none the mesh's.
fn parameters(tls: &ServerTlsSettings, defaults: TlsParameters) -> TlsParameters {
    // What is below 1.2 is not spoken: a lower limit there is 1.2, an upper one there leaves nothing.
    let min = match tls.min_protocol_version {
        TlsProtocol::TlsAuto => defaults.min,
        TlsProtocol::Tlsv1_3 => TlsVersion::V1_3,
        TlsProtocol::Tlsv1_0 | TlsProtocol::Tlsv1_1 | TlsProtocol::Tlsv1_2 => TlsVersion::V1_2,
    };
    let (min, max) = match tls.max_protocol_version {
        TlsProtocol::TlsAuto | TlsProtocol::Tlsv1_3 => (min, TlsVersion::V1_3),
        TlsProtocol::Tlsv1_2 => (min, TlsVersion::V1_2),
        TlsProtocol::Tlsv1_0 | TlsProtocol::Tlsv1_1 => (TlsVersion::V1_3, TlsVersion::V1_2),
    };
    let own = |names: &[String], all: &[&str], default: Box<[Arc<str>]>| {
        let own = mtls::known(names, all);
        if own.is_empty() { default } else { own }
    };
    let cipher_suites = own(&tls.cipher_suites, &CIPHER_SUITES, defaults.cipher_suites);
    TlsParameters { min, max, cipher_suites, curves: own(&tls.ecdh_curves, &ECDH_CURVES, defaults.curves) }
}

fn certificates(of: &Terminating<'_>, mesh: bool) -> Vec<SecretRef> {
    let tls = of.tls;
    let credential = |name: &str| SecretRef::Credential { namespace: of.namespace.clone(), name: secret_name(name) };
    if mesh {
        return vec![SecretRef::Workload];
    }
    if !tls.credential_name.is_empty() {
        return vec![credential(&tls.credential_name)];
    }
    if !tls.credential_names.is_empty() {
        return tls.credential_names.iter().map(|n| credential(n)).collect();
    }
    let files = |certificate: &str, key: &str| SecretRef::Files { certificate: certificate.into(), key: key.into() };
    if !tls.tls_certificates.is_empty() {
        return tls.tls_certificates.iter().map(|c| files(&c.server_certificate, &c.private_key)).collect();
    }
    vec![files(&tls.server_certificate, &tls.private_key)]
}

/// The part after the scheme of a name as the Gateway API has them translated.
fn secret_name(name: &str) -> Arc<str> {
    name.strip_prefix("kubernetes://").unwrap_or(name).into()
}

fn roots(of: &Terminating<'_>, mesh: bool) -> SecretRef {
    let tls = of.tls;
    let file = |path: &str| (!path.is_empty()).then(|| Arc::from(path));
    let of_secret =
        |name: &str| SecretRef::CredentialRoots { namespace: of.namespace.clone(), name: secret_name(name) };
    if mesh {
        return SecretRef::MeshRoots;
    }
    if !tls.ca_cert_credential_name.is_empty() {
        return of_secret(&tls.ca_cert_credential_name);
    }
    if let Some(name) = Some(&tls.credential_name).filter(|n| !n.is_empty()).or(tls.credential_names.first()) {
        return of_secret(name);
    }
    let of_pair = tls.tls_certificates.iter().map(|c| &c.ca_certificates).find(|c| !c.is_empty());
    let roots = file(&tls.ca_certificates).or_else(|| of_pair.and_then(|c| file(c)));
    SecretRef::RootsFile { roots, crl: file(&tls.ca_crl) }
}

fn account(ledger: &mut Ledger<'_>, of: &Terminating<'_>, mesh: bool, asks: bool) {
    let at = of.path;
    let ServerTlsSettings {
        https_redirect,
        mode,
        server_certificate,
        private_key,
        ca_certificates,
        ca_crl,
        credential_name,
        credential_names,
        ca_cert_credential_name,
        tls_certificates,
        subject_alt_names,
        verify_certificate_spki,
        verify_certificate_hash,
        min_protocol_version: _,
        max_protocol_version: _,
        cipher_suites: _,
        ecdh_curves: _,
        insecure_skip_verify,
    } = of.tls;
    ledger.without_effect(at, "httpsRedirect", https_redirect, "the server is not plain HTTP");
    ledger.take(at, "mode", mode);
    let of_mesh = mesh.then_some("ISTIO_MUTUAL uses the mesh's own certificates");
    let named = !credential_name.is_empty() || !credential_names.is_empty();
    let secret = named.then_some("the credential's Secret decides");
    let pairs = (!tls_certificates.is_empty()).then_some("tlsCertificates decide");
    let no_client = (!asks).then_some("the mode does not ask for client certificates");
    let skipped =
        (!mesh && *insecure_skip_verify == Some(true)).then_some("insecureSkipVerify accepts every certificate");
    let other_ca = (!ca_cert_credential_name.is_empty()).then_some("caCertCredentialName decides");
    let own_ca = (!ca_certificates.is_empty()).then_some("caCertificates decides");
    take(ledger, at, "serverCertificate", server_certificate, of_mesh.or(secret).or(pairs));
    take(ledger, at, "privateKey", private_key, of_mesh.or(secret).or(pairs));
    take(ledger, at, "credentialName", credential_name, of_mesh);
    match of_mesh.or((!credential_name.is_empty()).then_some("credentialName decides")) {
        Some(why) => ledger.without_effect(at, "credentialNames", credential_names, why),
        None => {
            ledger.take_list(at, "credentialNames", credential_names);
        }
    }
    let no_files = no_client.or(of_mesh).or(skipped).or(other_ca).or(secret);
    take(ledger, at, "caCertificates", ca_certificates, no_files);
    take(ledger, at, "caCrl", ca_crl, no_files);
    take(ledger, at, "caCertCredentialName", ca_cert_credential_name, no_client.or(of_mesh).or(skipped));
    let mut first_ca = no_files.or(own_ca);
    for (i, pair) in tls_certificates.iter().enumerate() {
        let ServerTlsCertificate { server_certificate, private_key, ca_certificates } = pair;
        let at = format!("{at}.tlsCertificates[{i}]");
        take(ledger, &at, "serverCertificate", server_certificate, of_mesh.or(secret));
        take(ledger, &at, "privateKey", private_key, of_mesh.or(secret));
        take(ledger, &at, "caCertificates", ca_certificates, first_ca);
        if !ca_certificates.is_empty() {
            first_ca = first_ca.or(Some("the caCertificates of the first certificate decide"));
        }
    }
    for (name, list) in [
        ("subjectAltNames", subject_alt_names),
        ("verifyCertificateSpki", verify_certificate_spki),
        ("verifyCertificateHash", verify_certificate_hash),
    ] {
        match no_client.or(skipped) {
            Some(why) => ledger.without_effect(at, name, list, why),
            None => {
                ledger.take_list(at, name, list);
            }
        }
    }
    match no_client.or(of_mesh) {
        Some(why) => ledger.without_effect(at, "insecureSkipVerify", insecure_skip_verify, why),
        None => {
            ledger.take(at, "insecureSkipVerify", insecure_skip_verify);
        }
    }
    account_limits(ledger, at, of.tls);
}

/// Versions, suites and curves.
fn account_limits(ledger: &mut Ledger<'_>, at: &str, tls: &ServerTlsSettings) {
    let ServerTlsSettings { min_protocol_version, max_protocol_version, cipher_suites, ecdh_curves, .. } = tls;
    version(
        ledger,
        at,
        "minProtocolVersion",
        *min_protocol_version,
        "TLS below 1.2 is not spoken: the lower limit is 1.2",
    );
    let nothing = "TLS below 1.2 is not spoken: no handshake with this server can succeed";
    version(ledger, at, "maxProtocolVersion", *max_protocol_version, nothing);
    mtls::account_names(ledger, &format!("{at}.cipherSuites"), cipher_suites, &CIPHER_SUITES);
    mtls::account_names(ledger, &format!("{at}.ecdhCurves"), ecdh_curves, &ECDH_CURVES);
}

fn take(ledger: &mut Ledger<'_>, at: &str, name: &str, value: &String, inert: Option<&str>) {
    match inert {
        Some(why) => ledger.without_effect(at, name, value, why),
        None => {
            ledger.take(at, name, value);
        }
    }
}

fn version(ledger: &mut Ledger<'_>, at: &str, name: &str, value: TlsProtocol, below: &str) {
    ledger.take(at, name, &value);
    if matches!(value, TlsProtocol::Tlsv1_0 | TlsProtocol::Tlsv1_1) {
        ledger.report(crate::compile::codes::VERSION_NOT_SPOKEN, &format!("{at}.{name}"), below.into());
    }
}
