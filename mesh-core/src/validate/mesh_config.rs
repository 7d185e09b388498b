//! MeshConfig and ProxyConfig. A settings object with errors is refused as a whole; the previous one stays in force.

use std::collections::BTreeSet;

use super::common::{fqdn, is_label};
use super::{Check, below, http_route, proxy_config, sidecar, traffic_policy};
use crate::api::{CertificateData, Duration, ExtAuthzProvider, ExtAuthzSettings, Key, MeshConfig, Origin};
use crate::report::Report;
use crate::yaml::{child, item};

const BASE: &str = "data.mesh";

/// What is wrong with the mesh's settings, at the fields of the ConfigMap that they were read from.
pub fn validate_mesh_config(config: &MeshConfig, key: &Key, origin: &Origin) -> Vec<Report> {
    let mut check = Check::new(key, origin);
    ports(&mut check, config);
    durations(&mut check, config);
    if !is_label(&config.root_namespace) {
        let message = format!("rootNamespace {:?} is not the name of a namespace", config.root_namespace);
        check.error(&child(BASE, "rootNamespace"), message);
    }
    let visible = [
        ("defaultServiceExportTo", &config.default_service_export_to),
        ("defaultVirtualServiceExportTo", &config.default_virtual_service_export_to),
        ("defaultDestinationRuleExportTo", &config.default_destination_rule_export_to),
    ];
    for (field, values) in visible {
        let is_valid = |v: &String| matches!(v.as_str(), "*" | "." | "~") || is_label(v);
        if let Some(wrong) = values.iter().find(|v| !is_valid(v)) {
            check.error(&child(BASE, field), format!("{field}: {wrong:?} must be *, . or the name of a namespace"));
        }
        if values.len() > 1 && values.iter().any(|v| v == "*") {
            check.error(
                &child(BASE, field),
                "cannot have both public (*) and non-public exportTo values for a resource",
            );
        }
    }
    domains(&mut check, config);
    authorities(&mut check, config);
    discovery(&mut check, config);
    blocks(&mut check, config);
    providers(&mut check, config);
    if let Some(proxy) = &config.default_config {
        proxy_config::check(&mut check, &child(BASE, "defaultConfig"), proxy);
    }
    check.reports
}

fn ports(check: &mut Check<'_>, config: &MeshConfig) {
    let values = [
        ("proxyListenPort", config.proxy_listen_port, 1),
        ("proxyInboundListenPort", config.proxy_inbound_listen_port, 1),
        ("proxyHttpPort", config.proxy_http_port, 0),
    ];
    for (field, number, least) in values {
        if !(least..=65535).contains(&number) {
            check.error(&child(BASE, field), format!("{field} {number} must be in the range {least}..65535"));
        }
    }
}

fn durations(check: &mut Check<'_>, config: &MeshConfig) {
    let in_range = |d: Duration| (1..=3_600_000).contains(&d.0.as_millis());
    if let Some(wrong) = config.connect_timeout.filter(|d| !in_range(*d)) {
        check.error(&child(BASE, "connectTimeout"), format!("connectTimeout {wrong} must be from 1ms to 1h"));
    }
    if let Some(wrong) = config.dns_refresh_rate.filter(|d| d.0.as_millis() == 0) {
        check.error(&child(BASE, "dnsRefreshRate"), format!("dnsRefreshRate {wrong} must be greater than 1ms"));
    }
}

/// The trust domain and its aliases.
fn domains(check: &mut Check<'_>, config: &MeshConfig) {
    check.ok(&child(BASE, "trustDomain"), fqdn(&config.trust_domain).map_err(|e| format!("trustDomain: {e}")));
    for (i, alias) in config.trust_domain_aliases.iter().enumerate() {
        let field = item(&child(BASE, "trustDomainAliases"), i);
        check.ok(&field, fqdn(alias).map_err(|e| format!("trustDomainAliases: {e}")));
    }
}

/// Authorities beside the mesh's CA. Whether a certificate can be used, is found out where it is.
fn authorities(check: &mut Check<'_>, config: &MeshConfig) {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    for (i, CertificateData { pem, spiffe_bundle_url, cert_signers: _, trust_domains }) in
        config.ca_certificates.iter().enumerate()
    {
        let at = item(&child(BASE, "caCertificates"), i);
        if pem.as_ref().is_some_and(|pem| !pem.contains(BEGIN)) {
            check.error(&child(&at, "pem"), "there is no certificate in PEM in it");
        }
        if pem.is_some() == spiffe_bundle_url.is_some() {
            check.error(&at, "it needs one of pem and spiffeBundleUrl");
        }
        for (j, domain) in trust_domains.iter().enumerate() {
            let field = item(&child(&at, "trustDomains"), j);
            check.ok(&field, fqdn(domain).map_err(|e| format!("trustDomains: {e}")));
        }
    }
}

/// Label selectors of namespaces.
fn discovery(check: &mut Check<'_>, config: &MeshConfig) {
    for (i, selector) in config.discovery_selectors.iter().enumerate() {
        let at = item(&child(BASE, "discoverySelectors"), i);
        for (j, e) in selector.match_expressions.iter().enumerate() {
            let at = item(&child(&at, "matchExpressions"), j);
            match (e.operator.as_str(), e.values.is_empty()) {
                ("In" | "NotIn", false) | ("Exists" | "DoesNotExist", true) => {}
                ("In" | "NotIn", true) => check.error(&at, format!("operator {} needs values", e.operator)),
                ("Exists" | "DoesNotExist", false) => {
                    check.error(&at, format!("operator {} takes no values", e.operator))
                }
                (other, _) => {
                    check.error(&child(&at, "operator"), format!("{other:?} is not a valid label selector operator"))
                }
            }
        }
    }
}

fn blocks(check: &mut Check<'_>, config: &MeshConfig) {
    if let Some(policy) = &config.outbound_traffic_policy {
        sidecar::outbound_traffic_policy_rules(check, &child(BASE, "outboundTrafficPolicy"), policy);
    }
    if let Some(setting) = &config.locality_lb_setting {
        // Outlier detection comes with each rule; nothing can be said about it here.
        traffic_policy::locality(check, &child(BASE, "localityLbSetting"), setting, true);
    }
    if let Some(retry) = &config.default_http_retry_policy {
        http_route::retries(check, &child(BASE, "defaultHttpRetryPolicy"), retry);
    }
    if let Some(retry) = &config.default_inbound_http_retry_policy {
        let path = child(BASE, "defaultInboundHttpRetryPolicy");
        http_route::retries(check, &path, retry);
        let ignored = [
            ("perTryTimeout", retry.per_try_timeout.is_some()),
            ("retryRemoteLocalities", retry.retry_remote_localities.is_some()),
            ("retryIgnorePreviousHosts", retry.retry_ignore_previous_hosts.is_some()),
        ];
        for (field, _) in ignored.iter().filter(|(_, written)| *written) {
            check.warn(&child(&path, field), format!("{field} is ignored for inbound retries"));
        }
    }
    if let Some(policy) = &config.default_traffic_policy {
        let path = child(BASE, "defaultTrafficPolicy");
        if let Some(pool) = &policy.connection_pool {
            traffic_policy::connection_pool(check, &child(&path, "connectionPool"), pool);
        }
        if let Some(outliers) = &policy.outlier_detection {
            traffic_policy::outlier_detection(check, &child(&path, "outlierDetection"), outliers);
        }
    }
    if config.mesh_mtls.as_ref().is_some_and(|tls| !tls.ecdh_curves.is_empty()) {
        check.error(&below(BASE, "meshMTLS.ecdhCurves"), "mesh TLS does not support ECDH curves configuration");
    }
}

/// Names of `extensionProviders`, and what external authorizers are.
fn providers(check: &mut Check<'_>, config: &MeshConfig) {
    let mut names = BTreeSet::new();
    for (i, provider) in config.extension_providers.iter().enumerate() {
        let at = format!("{BASE}.extensionProviders[{i}]");
        let name = provider.get("name").and_then(|n| n.as_str()).unwrap_or_default();
        let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let edge = name.starts_with('-') || name.ends_with('-');
        match ExtAuthzProvider::read(provider) {
            None => {}
            Some(Err(message)) => check.error(&at, message),
            Some(Ok(provider)) => authorizer(check, &child(&at, provider.field), &provider.settings),
        }
        if !(1..=63).contains(&name.len()) || !name.bytes().all(good) || edge {
            check.error(&child(&at, "name"), format!("provider name {name:?} must be 1 to 63 of a-z, 0-9 and -"));
        }
        if !names.insert(name) {
            check.error(&child(&at, "name"), format!("there are two providers {name:?}"));
        }
    }
}

fn authorizer(check: &mut Check<'_>, at: &str, settings: &ExtAuthzSettings) {
    let host = settings.service.rsplit('/').next().unwrap_or_default();
    if host.is_empty() || settings.service.matches('/').count() > 1 {
        check.error(&child(at, "service"), "service must be HOST or NAMESPACE/HOST");
    }
    if !(1..=65535).contains(&settings.port) {
        check.error(&child(at, "port"), format!("port number {} must be in the range 1..65535", settings.port));
    }
    if !settings.path_prefix.is_empty() && !settings.path_prefix.starts_with('/') {
        check.error(&child(at, "pathPrefix"), "pathPrefix must begin with /");
    }
    let status = settings.status_on_error.as_str();
    if !status.is_empty() && !status.parse().is_ok_and(|s: u16| (200..600).contains(&s)) {
        check.error(&child(at, "statusOnError"), format!("statusOnError {status:?} is no HTTP status"));
    }
    let empty = |b: &crate::api::RequestBodyInCheck| b.max_request_bytes == 0;
    if settings.include_request_body_in_check.as_ref().is_some_and(empty) {
        check.error(&below(at, "includeRequestBodyInCheck.maxRequestBytes"), "maxRequestBytes must be greater than 0");
    }
    for (name, list) in [
        ("includeRequestHeadersInCheck", &settings.include_request_headers_in_check),
        ("headersToUpstreamOnAllow", &settings.headers_to_upstream_on_allow),
        ("headersToDownstreamOnDeny", &settings.headers_to_downstream_on_deny),
        ("headersToDownstreamOnAllow", &settings.headers_to_downstream_on_allow),
    ] {
        if list.iter().any(|n| n == "*" || n.is_empty()) {
            check.error(&child(at, name), format!("{name} must not have * alone; write the headers that are meant"));
        }
    }
}
