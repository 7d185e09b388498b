//! TLS, tunnels.

use serde_json::{Value, json};

use super::provenance;
use crate::snapshot::{
    DownstreamTls, MeshAuthority, MeshTls, PeerNames, Sni, TlsParameters, TunnelPlan, UpstreamTls, Workloads,
};

pub(super) fn upstream(plan: &UpstreamTls) -> Value {
    let UpstreamTls { mode, identity, roots, sni, names, verify, alpn, parameters, origin, hash } = plan;
    json!({
        "mode": mode,
        "clientCertificate": identity.as_ref().map(ToString::to_string),
        "authorities": roots.to_string(),
        "sni": match sni {
            Sni::Host(default) => json!({ "host": default }),
            Sni::Name(name) => json!({ "name": name }),
        },
        "subjectAltNames": match names {
            PeerNames::Any => Value::Null,
            PeerNames::Host(default) => json!({ "host": default }),
            PeerNames::OneOf(names) => json!(names),
            PeerNames::Endpoint(others) => json!({ "serviceAccount": "of the endpoint", "or": others }),
        },
        "verify": verify,
        "alpn": alpn,
        "parameters": limits(parameters),
        "origin": provenance(origin),
        "hash": hash,
    })
}

pub(super) fn mesh(plan: &MeshTls) -> Value {
    let MeshTls { mode, tls, origin } = plan;
    json!({ "mode": mode.to_string(), "tls": downstream(tls), "origin": provenance(origin) })
}

pub(super) fn downstream(plan: &DownstreamTls) -> Value {
    let DownstreamTls { certificates, client, roots, workloads, names, spki, hashes, verify, .. } = plan;
    let DownstreamTls { alpn, parameters, origin, hash, .. } = plan;
    json!({
        "certificates": certificates.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "clientCertificate": format!("{client:?}"),
        "authorities": roots.as_ref().map(ToString::to_string),
        "trustDomains": match workloads {
            None => Value::Null,
            Some(Workloads::All) => json!("*"),
            Some(Workloads::Of(domains)) => json!(domains.accepted().collect::<Vec<_>>()),
        },
        "subjectAltNames": names,
        "verifyCertificateSpki": spki,
        "verifyCertificateHash": hashes,
        "verify": verify,
        "alpn": alpn,
        "parameters": limits(parameters),
        "origin": provenance(origin),
        "hash": hash,
    })
}

fn limits(parameters: &TlsParameters) -> Value {
    let TlsParameters { min, max, cipher_suites, curves } = parameters;
    json!({
        "min": format!("{min:?}"),
        "max": format!("{max:?}"),
        "cipherSuites": cipher_suites,
        "ecdhCurves": curves,
    })
}

pub(super) fn tunnel(plan: &TunnelPlan) -> Value {
    let TunnelPlan { post, target } = plan;
    json!({ "protocol": if *post { "POST" } else { "CONNECT" }, "target": target })
}

pub(super) fn authority(authority: &MeshAuthority) -> Value {
    let MeshAuthority { pem, trust_domains } = authority;
    json!({ "pem": pem, "trustDomains": trust_domains })
}
