//! Istio's annotations: which kinds they are for, and how far they are.
//!
//! A test compares it with Istio's own list.

/// An annotation that Istio knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Annotation {
    /// Name.
    pub name: &'static str,
    /// Kinds that it is for; `Any`: all.
    pub kinds: &'static [&'static str],
    /// Feature status Alpha, or none.
    pub alpha: bool,
    /// On its way out.
    pub deprecated: bool,
}

const fn known(name: &'static str, kinds: &'static [&'static str]) -> Annotation {
    Annotation { name, kinds, alpha: false, deprecated: false }
}

const fn alpha(name: &'static str, kinds: &'static [&'static str]) -> Annotation {
    Annotation { name, kinds, alpha: true, deprecated: false }
}

const fn old(name: &'static str, kinds: &'static [&'static str]) -> Annotation {
    Annotation { name, kinds, alpha: true, deprecated: true }
}

const POD: &[&str] = &["Pod"];
const SERVICE: &[&str] = &["Service"];
const GATEWAY: &[&str] = &["Gateway"];
const WORKLOAD: &[&str] = &["WorkloadEntry"];
const ANY: &[&str] = &["Any"];

/// All of them.
pub const ANNOTATIONS: &[Annotation] = &[
    alpha("prometheus.istio.io/merge-metrics", POD),
    old("alpha.istio.io/kubernetes-serviceaccounts", SERVICE),
    old("alpha.istio.io/canonical-serviceaccounts", SERVICE),
    alpha("networking.istio.io/exportTo", SERVICE),
    Annotation { alpha: false, ..old("sidecar.istio.io/inject", POD) },
    alpha("sidecar.istio.io/status", POD),
    alpha("sidecar.istio.io/rewriteAppHTTPProbers", POD),
    old("sidecar.istio.io/discoveryAddress", POD),
    alpha("sidecar.istio.io/proxyImage", POD),
    alpha("sidecar.istio.io/proxyImageType", POD),
    alpha("sidecar.istio.io/proxyCPU", POD),
    alpha("sidecar.istio.io/proxyCPULimit", POD),
    alpha("sidecar.istio.io/proxyMemory", POD),
    alpha("sidecar.istio.io/proxyMemoryLimit", POD),
    alpha("sidecar.istio.io/interceptionMode", POD),
    alpha("sidecar.istio.io/bootstrapOverride", POD),
    old("sidecar.istio.io/statsInclusionPrefixes", POD),
    old("sidecar.istio.io/statsInclusionSuffixes", POD),
    old("sidecar.istio.io/statsInclusionRegexps", POD),
    alpha("sidecar.istio.io/statsHistogramBuckets", POD),
    alpha("sidecar.istio.io/statsFlushInterval", POD),
    alpha("sidecar.istio.io/statsEvictionInterval", POD),
    alpha("sidecar.istio.io/statsHistogramBins", POD),
    alpha("sidecar.istio.io/userVolume", POD),
    alpha("sidecar.istio.io/userVolumeMount", POD),
    alpha("status.sidecar.istio.io/port", POD),
    alpha("sidecar.istio.io/logLevel", POD),
    alpha("sidecar.istio.io/componentLogLevel", POD),
    alpha("sidecar.istio.io/agentLogLevel", POD),
    alpha("sidecar.istio.io/nativeSidecar", POD),
    alpha("readiness.status.sidecar.istio.io/initialDelaySeconds", POD),
    alpha("readiness.status.sidecar.istio.io/periodSeconds", POD),
    alpha("readiness.status.sidecar.istio.io/failureThreshold", POD),
    alpha("readiness.status.sidecar.istio.io/applicationPorts", POD),
    known("traffic.istio.io/nodeSelector", SERVICE),
    alpha("traffic.sidecar.istio.io/includeOutboundIPRanges", POD),
    alpha("traffic.sidecar.istio.io/excludeOutboundIPRanges", POD),
    alpha("traffic.sidecar.istio.io/includeInboundPorts", POD),
    alpha("traffic.sidecar.istio.io/excludeInboundPorts", POD),
    alpha("traffic.sidecar.istio.io/excludeInterfaces", POD),
    alpha("traffic.sidecar.istio.io/includeOutboundPorts", POD),
    alpha("traffic.sidecar.istio.io/excludeOutboundPorts", POD),
    old("traffic.sidecar.istio.io/kubevirtInterfaces", POD),
    known("kubernetes.io/ingress.class", &["Ingress"]),
    alpha("galley.istio.io/analyze-suppress", ANY),
    known("proxy.istio.io/config", POD),
    alpha("istio.io/dry-run", &["AuthorizationPolicy"]),
    alpha("istio.io/rev", POD),
    alpha("proxy.istio.io/overrides", POD),
    alpha("inject.istio.io/templates", POD),
    old("sidecar.istio.io/extraStatTags", POD),
    alpha("istio.io/autoRegistrationGroup", WORKLOAD),
    alpha("istio.io/workloadController", WORKLOAD),
    alpha("istio.io/connectedAt", WORKLOAD),
    alpha("istio.io/disconnectedAt", WORKLOAD),
    alpha("topology.istio.io/controlPlaneClusters", &["Namespace"]),
    alpha("gateway.istio.io/controller-version", ANY),
    known("ambient.istio.io/redirection", POD),
    alpha("ambient.istio.io/waypoint-inbound-binding", &["GatewayClass", "Gateway"]),
    alpha("gateway.istio.io/service-account", GATEWAY),
    alpha("gateway.istio.io/name-override", GATEWAY),
    alpha("networking.istio.io/service-type", GATEWAY),
    alpha("networking.istio.io/traffic-distribution", &["Namespace", "Service", "ServiceEntry"]),
    alpha("istio.io/use-waypoint-canary-weight", &["Service", "ServiceEntry", "Namespace"]),
    alpha("ambient.istio.io/bypass-inbound-capture", POD),
    alpha("istio.io/reroute-virtual-interfaces", POD),
    alpha("ambient.istio.io/dns-capture", POD),
    old("sidecar.istio.io/statsCompression", POD),
];
