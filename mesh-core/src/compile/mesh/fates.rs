//! What became of the fields of MeshConfig and ProxyConfig beside those that `mesh` reads itself.

use super::settings::idle_of_metadata;
use crate::api::{
    CertificateData, ConnectionProfile, ConnectionSettings, MeshConfig, ProxyConfig, ProxyHeaders,
    SetCurrentClientCertDetails,
};
use crate::compile::account::Ledger;
use crate::compile::mtls;
use crate::snapshot::{ProxyId, ProxyKind};

/// `proxyMetadata` that the plan reads; the rest is only the environment of the proxy's process.
const METADATA: [&str; 3] = ["ISTIO_META_HTTP10", "ISTIO_META_HTTP_PROXY_PORT", "ISTIO_META_DNS_CAPTURE"];
/// Sidecars only.
const IDLE_TIMEOUT: &str = "ISTIO_META_IDLE_TIMEOUT";

/// Fields of the mesh that this version has settled.
pub(super) fn mesh(ledger: &mut Ledger<'_>, mesh: &MeshConfig, id: &ProxyId) {
    let at = "spec";
    let sidecar = id.kind == ProxyKind::Sidecar;
    for (name, value) in [
        ("proxyListenPort", mesh.proxy_listen_port),
        ("proxyInboundListenPort", mesh.proxy_inbound_listen_port),
        ("proxyHttpPort", mesh.proxy_http_port),
    ] {
        let metadata = mesh.default_config.as_ref().map(|c| &c.proxy_metadata);
        let own_port = metadata.is_some_and(|m| m.contains_key("ISTIO_META_HTTP_PROXY_PORT"));
        match sidecar {
            true if name == "proxyHttpPort" && own_port && value != 0 => {
                ledger.overridden("spec.proxyHttpPort", "ISTIO_META_HTTP_PROXY_PORT of proxyMetadata");
            }
            true => {
                ledger.take(at, name, &value);
            }
            false => ledger.without_effect(at, name, &value, "gateways listen where their Gateways say"),
        }
    }
    if let Some(policy) = &mesh.inbound_traffic_policy {
        ledger.consumed("spec.inboundTrafficPolicy");
        match sidecar {
            true => {
                ledger.take("spec.inboundTrafficPolicy", "mode", &policy.mode);
            }
            false => ledger.inert("spec.inboundTrafficPolicy.mode", "a gateway has no application behind it"),
        }
    }
    mtls::account_parameters(ledger, mesh);
    mtls::account_defaults(ledger, mesh, id.kind);
    ledger.take(at, "trustDomain", &mesh.trust_domain);
    ledger.take_list(at, "trustDomainAliases", &mesh.trust_domain_aliases);
    for (i, certificate) in mesh.ca_certificates.iter().enumerate() {
        let CertificateData { pem, spiffe_bundle_url: _, cert_signers, trust_domains } = certificate;
        let at = format!("spec.caCertificates[{i}]");
        ledger.take(&at, "pem", pem);
        ledger.take_list(&at, "trustDomains", trust_domains);
        let signers = "it is for certificates that Kubernetes signs, and the mesh's CA signs them all";
        ledger.without_effect(&at, "certSigners", cert_signers, signers);
    }
    // What becomes of those that policies name, the policies say.
    for (i, provider) in crate::compile::authorizers(mesh) {
        let why = "no policy with action CUSTOM that applies here names it";
        ledger.inert(&format!("spec.extensionProviders[{i}].name"), why);
        ledger.inert(&format!("spec.extensionProviders[{i}].{}", provider.field), why);
    }
    ledger.take(at, "enableAutoMtls", &mesh.enable_auto_mtls);
    ledger.take(at, "dnsRefreshRate", &mesh.dns_refresh_rate);
    ledger.take(at, "disableEnvoyListenerLog", &mesh.disable_envoy_listener_log);
    let named = "no statistic of this proxy is named after a cluster; the standard metrics have the service in labels";
    ledger.without_effect(at, "outboundClusterStatName", &mesh.outbound_cluster_stat_name, named);
    ledger.without_effect(at, "inboundClusterStatName", &mesh.inbound_cluster_stat_name, named);
    let one_cluster = "all endpoints are in one cluster, so that each is local";
    ledger.without_effect(at, "serviceSettings", &mesh.service_settings, one_cluster);
    let files = "configuration comes from files and `meshctl apply`";
    ledger.without_effect(at, "configSources", &mesh.config_sources, files);
    let always = "servers are always verified, by the system's authorities where no others are named";
    ledger.without_effect(at, "verifyCertificateAtClient", &mesh.verify_certificate_at_client, always);
    let removed = "Istio has removed it";
    ledger.without_effect(at, "mixerCheckServer", &mesh.mixer_check_server, removed);
    ledger.without_effect(at, "thriftConfig", &mesh.thrift_config, removed);
    ledger.without_effect(at, "certificates", &mesh.certificates, removed);
    for i in 0..mesh.discovery_selectors.len() {
        ledger.consumed(&format!("spec.discoverySelectors[{i}]"));
        let selector = &mesh.discovery_selectors[i];
        let at = format!("spec.discoverySelectors[{i}]");
        ledger.take_map(&at, "matchLabels", &selector.match_labels);
        for (j, expression) in selector.match_expressions.iter().enumerate() {
            let at = format!("{at}.matchExpressions[{j}]");
            ledger.take(&at, "key", &expression.key);
            ledger.take(&at, "operator", &expression.operator);
            ledger.take_list(&at, "values", &expression.values);
        }
    }
}

/// Fields of `defaultConfig` that this version has settled.
pub(super) fn proxy(ledger: &mut Ledger<'_>, config: &ProxyConfig, id: &ProxyId) {
    let at = "spec.defaultConfig";
    let envoy = "it is for Envoy's files, and this proxy has none";
    for (name, value) in [
        ("configPath", &config.config_path),
        ("binaryPath", &config.binary_path),
        ("customConfigFile", &config.custom_config_file),
        ("proxyBootstrapTemplatePath", &config.proxy_bootstrap_template_path),
    ] {
        ledger.without_effect(at, name, value, envoy);
    }
    let names = "names of statistics have no limit here";
    ledger.without_effect(at, "statNameLength", &config.stat_name_length, names);
    ledger.without_effect(at, "runtimeValues", &config.runtime_values, "they are keys of Envoy's runtime");
    let lines = "log lines are written as they come";
    ledger.without_effect(at, "fileFlushInterval", &config.file_flush_interval, lines);
    ledger.without_effect(at, "fileFlushMinSizeKb", &config.file_flush_min_size_kb, lines);
    let image = "the proxy is a program beside meshctl, not an image";
    ledger.without_effect(at, "image", &config.image, image);
    let told = "whoever starts a proxy tells it where its configuration comes from";
    ledger.without_effect(at, "discoveryAddress", &config.discovery_address, told);
    ledger.without_effect(at, "controlPlaneAuthPolicy", &config.control_plane_auth_policy, told);
    ledger.without_effect(at, "tls", &config.tls, told);
    let keys = "keys are made and used in the proxy's own memory";
    ledger.without_effect(at, "privateKeyProvider", &config.private_key_provider, keys);
    let machines = "no machine registers itself here, and pods have probes of their own";
    ledger.without_effect(at, "readinessProbe", &config.readiness_probe, machines);
    let start = "the application always waits for its proxy here";
    let hold = &config.hold_application_until_proxy_starts;
    ledger.without_effect(at, "holdApplicationUntilProxyStarts", hold, start);
    ledger.take_list(at, "caCertificatesPem", &config.ca_certificates_pem);
    // Read where the proxy is started: by the node of a local mesh, by the injector elsewhere.
    for (name, written) in [
        ("concurrency", config.concurrency.is_some()),
        ("proxyAdminPort", config.proxy_admin_port != 0),
        ("interceptionMode", config.interception_mode != Default::default()),
    ] {
        if written {
            ledger.consumed(&format!("{at}.{name}"));
        }
    }
    for name in config.proxy_metadata.keys() {
        let field = crate::yaml::child(&format!("{at}.proxyMetadata"), name);
        match name.as_str() {
            IDLE_TIMEOUT if id.kind == ProxyKind::Gateway => ledger.inert(&field, "it is for sidecars"),
            IDLE_TIMEOUT if idle_of_metadata(config).is_none() => ledger.inert(&field, "it is not a duration, as 90s"),
            IDLE_TIMEOUT => ledger.consumed(&field),
            name if METADATA.contains(&name) => ledger.consumed(&field),
            _ => ledger.inert(&field, "no part of this proxy reads it"),
        }
    }
    if let Some(headers) = &config.proxy_headers {
        proxy_headers(ledger, headers);
    }
    if let Some(topology) = config.gateway_topology.as_ref() {
        let at = format!("{at}.gatewayTopology");
        let mode = &topology.forward_client_cert_details;
        match id.kind {
            ProxyKind::Gateway => {
                ledger.take(&at, "forwardClientCertDetails", mode);
            }
            ProxyKind::Sidecar => ledger.without_effect(&at, "forwardClientCertDetails", mode, "it is for gateways"),
        }
    }
    if let Some(settings) = &config.connection_settings {
        let by_metadata = id.kind == ProxyKind::Sidecar && idle_of_metadata(config).is_some();
        connection(ledger, settings, by_metadata);
    }
}

fn proxy_headers(ledger: &mut Ledger<'_>, headers: &ProxyHeaders) {
    let ProxyHeaders {
        forwarded_client_cert,
        set_current_client_cert_details,
        request_id,
        server: _,
        attempt_count,
        envoy_debug_headers,
        metadata_exchange_headers,
        preserve_http1_header_case,
        x_forwarded_host,
        x_forwarded_port,
    } = headers;
    let at = "spec.defaultConfig.proxyHeaders";
    ledger.take(at, "forwardedClientCert", forwarded_client_cert);
    if let Some(details) = set_current_client_cert_details {
        let SetCurrentClientCertDetails { subject, cert, chain, dns, uri } = details;
        let at = format!("{at}.setCurrentClientCertDetails");
        ledger.consumed(&at);
        for (name, value) in [("subject", subject), ("cert", cert), ("chain", chain), ("dns", dns), ("uri", uri)] {
            ledger.take(&at, name, value);
        }
    }
    ledger.take(at, "preserveHttp1HeaderCase", preserve_http1_header_case);
    let nothing = "proxies tell each other nothing about themselves in headers, inside the mesh or outside";
    ledger.without_effect(at, "metadataExchangeHeaders", metadata_exchange_headers, nothing);
    for (name, header) in
        [("requestId", request_id), ("attemptCount", attempt_count), ("envoyDebugHeaders", envoy_debug_headers)]
    {
        if let Some(header) = header {
            ledger.consumed(&format!("{at}.{name}"));
            ledger.take(&format!("{at}.{name}"), "disabled", &header.disabled);
        }
    }
    for (name, header) in [("xForwardedHost", x_forwarded_host), ("xForwardedPort", x_forwarded_port)] {
        if let Some(header) = header {
            ledger.consumed(&format!("{at}.{name}"));
            ledger.take(&format!("{at}.{name}"), "enabled", &header.enabled);
        }
    }
}

fn connection(ledger: &mut Ledger<'_>, settings: &ConnectionSettings, idle_by_metadata: bool) {
    let ConnectionSettings {
        profile,
        http_idle_timeout,
        http_max_connection_duration,
        http_drain_timeout,
        http_request_timeout,
        http_request_headers_timeout,
        http_stream_idle_timeout,
        http_max_stream_duration,
        per_connection_buffer_limit_bytes,
        http2_max_concurrent_streams,
        http2_initial_stream_window_size,
        http2_initial_connection_window_size,
        http_headers_with_underscores_action,
        http_merge_slashes,
        http_path_with_escaped_slashes_action,
    } = settings;
    let at = "spec.defaultConfig.connectionSettings";
    ledger.consumed(at);
    match profile {
        ConnectionProfile::Sidecar => ledger.inert(&format!("{at}.profile"), "it is what holds without a profile"),
        _ => {
            ledger.take(at, "profile", profile);
        }
    }
    match http_idle_timeout {
        Some(_) if idle_by_metadata => {
            ledger.overridden(&format!("{at}.httpIdleTimeout"), "ISTIO_META_IDLE_TIMEOUT of proxyMetadata");
        }
        _ => {
            ledger.take(at, "httpIdleTimeout", http_idle_timeout);
        }
    }
    ledger.take(at, "httpMaxConnectionDuration", http_max_connection_duration);
    ledger.take(at, "httpDrainTimeout", http_drain_timeout);
    ledger.take(at, "httpRequestTimeout", http_request_timeout);
    ledger.take(at, "httpStreamIdleTimeout", http_stream_idle_timeout);
    ledger.take(at, "httpMaxStreamDuration", http_max_stream_duration);
    ledger.take(at, "perConnectionBufferLimitBytes", per_connection_buffer_limit_bytes);
    ledger.take(at, "httpRequestHeadersTimeout", http_request_headers_timeout);
    ledger.take(at, "http2MaxConcurrentStreams", http2_max_concurrent_streams);
    ledger.take(at, "http2InitialStreamWindowSize", http2_initial_stream_window_size);
    ledger.take(at, "http2InitialConnectionWindowSize", http2_initial_connection_window_size);
    ledger.take(at, "httpHeadersWithUnderscoresAction", http_headers_with_underscores_action);
    ledger.take(at, "httpMergeSlashes", http_merge_slashes);
    ledger.take(at, "httpPathWithEscapedSlashesAction", http_path_with_escaped_slashes_action);
}
