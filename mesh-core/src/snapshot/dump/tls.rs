//! TLS, tunnels.

use serde_json::{Value, json};

use super::provenance;
use crate::snapshot::{DownstreamTls, PeerNames, Sni, TlsParameters, TunnelPlan, UpstreamTls};

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
        },
        "verify": verify,
        "alpn": alpn,
        "parameters": limits(parameters),
        "origin": provenance(origin),
        "hash": hash,
    })
}

pub(super) fn downstream(plan: &DownstreamTls) -> Value {
    let DownstreamTls { certificates, client, roots, names, spki, hashes, verify, alpn, parameters, origin, hash } =
        plan;
    json!({
        "certificates": certificates.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "clientCertificate": format!("{client:?}"),
        "authorities": roots.as_ref().map(ToString::to_string),
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
