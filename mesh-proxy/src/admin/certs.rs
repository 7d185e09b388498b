//! The proxy's own certificate, as Envoy's `/certs` shows it, and the metrics of Istio's agent about it.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use mesh_tls::{CertHandle, CertStatus, CertificateInfo};
use serde_json::{Value, json};

/// `{"certificates": [{"ca_cert": […], "cert_chain": […]}]}` as Envoy has it, and beside it how renewal goes.
pub(super) fn json(identity: Option<&CertHandle>, now: SystemTime) -> String {
    let all = |pem: &str| CertificateInfo::of_pem(pem).iter().map(|c| certificate(c, now)).collect::<Vec<_>>();
    let shown = identity
        .and_then(CertHandle::current)
        .map(|cert| json!({ "ca_cert": all(&cert.bundle), "cert_chain": all(&cert.chain) }));
    let value = json!({
        "certificates": Vec::from_iter(shown),
        "renewal": identity.map(|i| renewal(&i.status())),
    });
    format!("{value:#}\n")
}

fn certificate(info: &CertificateInfo, now: SystemTime) -> Value {
    let CertificateInfo { subject, issuer, serial, uris, dns, hash: _, spki: _, not_before, not_after } = info;
    const DAY: u64 = 24 * 60 * 60;
    let days = not_after.duration_since(now).unwrap_or_default().as_secs() / DAY;
    let names = uris.iter().map(|u| json!({ "uri": u })).chain(dns.iter().map(|d| json!({ "dns": d })));
    json!({
        "path": "<inline>",
        "serial_number": serial,
        "subject": subject,
        "issuer": issuer,
        "subject_alt_names": names.collect::<Vec<_>>(),
        "days_until_expiration": days.to_string(),
        "valid_from": rfc3339(*not_before),
        "expiration_time": rfc3339(*not_after),
    })
}

fn renewal(status: &CertStatus) -> Value {
    let CertStatus { issued, failures, last_error, serial: _, not_before: _, not_after: _, renew_at, clock_offset } =
        status;
    json!({
        "issued": issued,
        "failures": failures,
        "lastError": last_error,
        "renewAt": renew_at.map(rfc3339),
        "clockOffsetSeconds": clock_offset,
    })
}

pub(super) fn rfc3339(at: SystemTime) -> String {
    // To the second, as certificates have it.
    let seconds = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    jiff::Timestamp::try_from(at).map(|t| t.to_string()).unwrap_or_default()
}

/// Nothing for a proxy without identity.
pub(super) fn metrics(identity: Option<&CertHandle>, now: SystemTime) -> String {
    let Some(status) = identity.map(CertHandle::status) else { return String::new() };
    let mut text = String::new();
    let mut metric = |kind: &str, name: &str, value: Option<i64>| {
        let Some(value) = value else { return };
        let family = name.split('{').next().unwrap_or(name);
        writeln!(text, "# TYPE {family} {kind}\n{name} {value}").expect("invariant: a String takes all text");
    };
    let count = |n: u64| Some(i64::try_from(n).unwrap_or(i64::MAX));
    metric("gauge", "istio_agent_cert_expiry_seconds{resource_name=\"default\"}", status.expires_in(now));
    metric("gauge", "istio_agent_cert_clock_offset_seconds", status.clock_offset);
    metric(
        "counter",
        "istio_agent_num_outgoing_requests{request_type=\"csr\"}",
        count(status.issued + status.failures),
    );
    metric("counter", "istio_agent_num_failed_outgoing_requests{request_type=\"csr\"}", count(status.failures));
    text
}
