//! Which part of the mesh that is still to come the fields belong to that nothing acts on yet.

/// Beginnings of fields of MeshConfig; of ProxyConfig below `defaultConfig`. The longest that fits counts.
const PARTS: &[(&str, &str)] = &[
    ("spec.ca", "certificate authorities outside the mesh"),
    ("spec.caCertificates", "a control plane that fetches SPIFFE bundles (`pem` is in force)"),
    ("spec.defaultConfig.envoyAccessLogService", TELEMETRY),
    ("spec.defaultConfig.envoyMetricsService", TELEMETRY),
    ("spec.defaultConfig.extraStatTags", TELEMETRY),
    ("spec.defaultConfig.meshId", TELEMETRY),
    ("spec.defaultConfig.proxyStatsMatcher", TELEMETRY),
    ("spec.defaultConfig.statsCompression", TELEMETRY),
    ("spec.defaultConfig.statsEvictionInterval", TELEMETRY),
    ("spec.defaultConfig.statsdUdpAddress", TELEMETRY),
    ("spec.defaultConfig.statusPort", TELEMETRY),
    ("spec.defaultProviders", TELEMETRY),
    ("spec.enableEnvoyAccessLogService", TELEMETRY),
    ("spec.enablePrometheusMerge", TELEMETRY),
    ("spec.extensionProviders", TELEMETRY),
    ("spec.defaultConfig.serviceCluster", TRACING),
    ("spec.defaultConfig.tracing", TRACING),
    ("spec.defaultConfig.tracingServiceName", TRACING),
    ("spec.defaultConfig.zipkinAddress", TRACING),
    ("spec.enableTracing", TRACING),
    ("spec.hboneIdleTimeout", "ambient"),
    ("spec.serviceScopeConfigs", "meshes of several clusters"),
    ("spec.ingress", "Ingress of Kubernetes"),
];

const TELEMETRY: &str = "telemetry beside the standard metrics and the access log";
const TRACING: &str = "tracing";

/// What a field of MeshConfig belongs to.
pub(super) fn belongs_to(field: &str) -> &'static str {
    let fits = PARTS.iter().filter(|(start, _)| field.starts_with(start));
    fits.max_by_key(|(start, _)| start.len()).map_or("a later version", |(_, part)| part)
}
