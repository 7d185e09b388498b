//! Sidecar.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use super::common::{self, fqdn, is_label, port, wildcard_domain};
use super::gateway::server_tls;
use super::traffic_policy::{client_tls, connection_pool};
use super::{Check, below};
use crate::api::{CaptureMode, IstioEgressListener, IstioIngressListener, OutboundTrafficPolicy};
use crate::api::{OutboundTrafficPolicyMode, ServerTlsMode, ServerTlsSettings, Sidecar};
use crate::yaml::{child, item};

pub(super) fn check(check: &mut Check<'_>, spec: &Sidecar) {
    if *spec == Sidecar::default() {
        let message = "sidecar: empty configuration provided";
        check.error_fix("spec", message, "write egress with the hosts that are used");
    }
    let Sidecar { workload_selector, ingress, egress, inbound_connection_pool, outbound_traffic_policy } = spec;
    if let Some(selector) = workload_selector {
        let text = "wildcard is not supported in selector";
        common::selector(check, "spec.workloadSelector.labels", &selector.labels, [text, text]);
    }
    let mut numbers = HashSet::new();
    for (i, listener) in ingress.iter().enumerate() {
        let path = item("spec.ingress", i);
        self::ingress(check, &path, listener);
        if let Some(p) = &listener.port
            && !numbers.insert(p.number)
        {
            let message = format!("sidecar: ports on ingress listeners must be unique, {} is not", p.number);
            check.error(&below(&path, "port.number"), message);
        }
    }
    self::egress(check, egress);
    if let Some(pool) = inbound_connection_pool {
        connection_pool(check, "spec.inboundConnectionPool", pool);
    }
    if let Some(policy) = outbound_traffic_policy {
        outbound_traffic_policy_rules(check, "spec.outboundTrafficPolicy", policy);
        if policy.mode == OutboundTrafficPolicyMode::AllowAnyDynamicDns {
            let message = "ALLOW_ANY_DYNAMIC_DNS is for the mesh's settings only";
            check.invalid("spec.outboundTrafficPolicy.mode", "ALLOW_ANY_DYNAMIC_DNS", message);
        }
    }
}

fn ingress(check: &mut Check<'_>, path: &str, listener: &IstioIngressListener) {
    let IstioIngressListener { port: number, bind, capture_mode: _, default_endpoint, tls, connection_pool: pool } =
        listener;
    match number {
        None => check.error(&child(path, "port"), "sidecar: port is required for ingress listeners"),
        Some(p) => check.ok(&below(path, "port.number"), port(p.number)),
    }
    if !bind.is_empty() && bind.parse::<IpAddr>().is_err() {
        check.error(&child(path, "bind"), format!("sidecar: {bind:?} is not a valid IP address"));
    }
    if !is_endpoint(default_endpoint) {
        let message = "sidecar: defaultEndpoint must be of form 127.0.0.1:<port>,0.0.0.0:<port>,[::1]:port,[::]:port,unix://filepath or unset";
        check.error(&child(path, "defaultEndpoint"), message);
    }
    if let Some(pool) = pool {
        connection_pool(check, &child(path, "connectionPool"), pool);
    }
    if let Some(tls) = tls {
        let protocol = number.as_ref().map(|p| p.protocol.to_ascii_uppercase()).unwrap_or_default();
        ingress_tls(check, &child(path, "tls"), tls, &protocol);
    }
}

fn is_endpoint(text: &str) -> bool {
    if text.is_empty() || text.strip_prefix("unix://").is_some_and(|p| !p.is_empty()) {
        return true;
    }
    if let Some(port) = text.strip_prefix(':') {
        return port.parse::<u16>().is_ok_and(|p| p > 0);
    }
    let here = |ip: IpAddr| ip.is_unspecified() || ["127.0.0.1", "::1"].contains(&ip.to_string().as_str());
    text.parse::<SocketAddr>().is_ok_and(|a| a.port() > 0 && here(a.ip()))
}

fn ingress_tls(check: &mut Check<'_>, path: &str, tls: &ServerTlsSettings, protocol: &str) {
    if !matches!(protocol, "HTTPS" | "TLS") {
        check.error(path, format!("sidecar: protocol for TLS must be HTTPS or TLS, but is {protocol:?}"));
    }
    if !matches!(tls.mode, ServerTlsMode::Simple | ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual) {
        check.error(&child(path, "mode"), "sidecar: tls mode must be SIMPLE, MUTUAL or OPTIONAL_MUTUAL");
    }
    for (field, written) in [
        ("httpsRedirect", tls.https_redirect),
        ("credentialName", !tls.credential_name.is_empty()),
        ("credentialNames", !tls.credential_names.is_empty()),
        ("tlsCertificates", !tls.tls_certificates.is_empty()),
        ("subjectAltNames", !tls.subject_alt_names.is_empty()),
    ] {
        if written {
            check.error(&child(path, field), format!("sidecar: {field} is not supported for ingress listeners"));
        }
    }
    server_tls(check, path, tls);
}

fn egress(check: &mut Check<'_>, listeners: &[IstioEgressListener]) {
    let mut numbers = HashSet::new();
    for (i, listener) in listeners.iter().enumerate() {
        let path = item("spec.egress", i);
        let IstioEgressListener { port: number, bind, capture_mode, hosts, .. } = listener;
        let is_unix = bind.starts_with("unix://");
        match number {
            None => {
                if i + 1 != listeners.len() {
                    let message =
                        "sidecar: the egress listener with empty port should be the last listener in the list";
                    check.error(&path, message);
                }
                if !bind.is_empty() {
                    check.error(&child(&path, "bind"), "sidecar: bind needs a port");
                }
            }
            Some(p) if p.number == 0 => {
                if !is_unix {
                    let message = "sidecar: port number 0 needs bind to a unix domain socket";
                    check.error(&below(&path, "port.number"), message);
                }
                if *capture_mode == CaptureMode::Iptables {
                    let message = "sidecar: captureMode must be DEFAULT/NONE for unix domain socket listeners";
                    check.error(&child(&path, "captureMode"), message);
                }
            }
            Some(p) => {
                check.ok(&below(&path, "port.number"), port(p.number));
                if !numbers.insert(p.number) {
                    let message = format!("sidecar: ports on egress listeners must be unique, {} is not", p.number);
                    check.error(&below(&path, "port.number"), message);
                }
            }
        }
        if !bind.is_empty() && !is_unix && bind.parse::<IpAddr>().is_err() {
            check.error(&child(&path, "bind"), format!("sidecar: {bind:?} is not a valid IP address"));
        }
        egress_hosts(check, &child(&path, "hosts"), hosts);
    }
}

fn egress_hosts(check: &mut Check<'_>, field: &str, hosts: &[String]) {
    if hosts.is_empty() {
        check.error(field, "sidecar: egress listener must contain at least one host");
    }
    let mut seen = HashSet::new();
    for (i, host) in hosts.iter().enumerate() {
        let path = item(field, i);
        if !seen.insert(host) {
            check.warn(&path, format!("duplicate host {host:?}"));
        }
        let Some((namespace, name)) = host.split_once('/') else {
            let message = format!("sidecar: host must be of form namespace/dnsName: {host:?}");
            check.error_fix(&path, message, &format!("write */{host} or ./{host}"));
            continue;
        };
        let bare = namespace.strip_prefix('~').unwrap_or(namespace);
        if !matches!(bare, "*" | "." | "") && !is_label(bare) || namespace.is_empty() {
            check.error(&path, format!("sidecar: invalid namespace value {namespace:?} in {host:?}"));
        }
        if name == "*" {
            continue;
        }
        if let Err(message) = wildcard_domain(name) {
            check.error(&path, message);
        } else if name.starts_with('*') && !name.starts_with("*.") {
            check.error_fix(&path, format!("partial wildcard {name:?} not allowed"), "write *.suffix or *");
        } else if !name.contains('.') {
            check.error(&path, format!("short names (non FQDN) are not allowed: {name:?}"));
        }
    }
    if hosts.len() > 1 && hosts.iter().any(|h| h == "*/*") {
        check.warn(field, "*/* covers the other hosts of this listener");
    }
}

/// Traffic to unknown destinations, of a Sidecar or of the mesh.
pub(super) fn outbound_traffic_policy_rules(check: &mut Check<'_>, path: &str, policy: &OutboundTrafficPolicy) {
    if let Some(tls) = &policy.tls {
        client_tls(check, &child(path, "tls"), tls);
    }
    let Some(proxy) = &policy.egress_proxy else {
        return;
    };
    let at = child(path, "egressProxy");
    if policy.mode != OutboundTrafficPolicyMode::AllowAny {
        let message = "sidecar: egress_proxy must be set only with ALLOW_ANY outbound_traffic_policy mode";
        check.error(&at, message);
    }
    check.ok(&child(&at, "host"), fqdn(&proxy.host));
    match &proxy.port {
        None => check.error(&child(&at, "port"), "sidecar: egressProxy port must be set"),
        Some(p) => check.ok(&below(&at, "port.number"), port(p.number)),
    }
}
