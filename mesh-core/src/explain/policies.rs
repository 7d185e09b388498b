//! What a plan decides besides where a request goes: one line for each feature, with who decided it.
//!
//! Plans are taken apart completely, so that a new field does not compile before it has its line here; with it, it is
//! in `explain request` and in `explain config`. Features that are off have no line, unless a default is worth knowing.

use serde::Serialize;

use super::config::setting;
use super::settings::Sources;
use super::{Decided, balancing};
use crate::snapshot::{
    ClusterPlan, HttpPlan, ListenerPlan, Provenance, ProxyPlan, RouteHeaders, RoutePlan, TcpPlan, TlsThen,
};
use crate::world::World;

/// One feature of a route or cluster.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// Name of the feature: `fault`, `mirror`, `connectTimeout`, …
    pub what: &'static str,
    /// Its value in words, and who decided it.
    #[serde(flatten)]
    pub decided: Decided,
}

/// A line.
pub(super) fn line(what: &'static str, value: impl Into<String>, from: &Provenance) -> Policy {
    Policy { what, decided: Decided::new(value, from) }
}

/// A route: everything but timeout and retries, which have places of their own.
pub(super) fn of_route(plan: &RoutePlan) -> Vec<Policy> {
    let RoutePlan {
        name: _,
        matches: _,
        action: _,
        request_headers: _,
        response_headers: _,
        rewrite: _,
        filters,
        headers,
        timeout: _,
        retry: _,
        replay: _,
        origin,
        timeout_origin: _,
        retry_origin: _,
        hash: _,
    } = plan;
    let made = (*headers != RouteHeaders::default()).then(|| {
        line("proxyHeaders", made_headers(*headers), &Provenance::default("proxyHeaders of the proxy's settings"))
    });
    super::filters::lines(filters, origin).into_iter().chain(made).collect()
}

/// What a route makes of headers that is not usual.
fn made_headers(headers: RouteHeaders) -> String {
    let RouteHeaders { attempt_count, debug, forwarded_host } = headers;
    let words = [
        (!attempt_count).then_some("no x-envoy-attempt-count"),
        (!debug).then_some("no other x-envoy headers"),
        forwarded_host.then_some("x-forwarded-host"),
    ];
    words.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// A cluster: everything but the balancer.
pub(super) fn of_cluster(plan: &ClusterPlan) -> Vec<Policy> {
    let ClusterPlan {
        name: _,
        source: _,
        protocol,
        balancer: _,
        balancing,
        connect_timeout,
        pool,
        tls,
        auto_tls: _,
        tls_origin: _,
        proxy_header,
        tunnel,
        service: _,
        service_name: _,
        service_namespace: _,
        external: _,
        subset: _,
        origin,
        policy_origin,
        pool_origin,
        hash: _,
    } = plan;
    let lines = [
        Some(line("protocol", format!("{protocol:?}"), origin)),
        Some(line("connectTimeout", format!("{connect_timeout:?}"), pool_origin)),
        pool.has_limits().then(|| line("limits", pool.to_string(), pool_origin)),
        tls.as_ref().map(|t| line("tls", t.to_string(), &t.origin)),
        proxy_header.map(|v| line("proxyProtocol", format!("{v:?}"), policy_origin)),
        tunnel.as_ref().map(|t| line("tunnel", t.to_string(), policy_origin)),
    ];
    let [hash, warmup, locality] = balancing::lines(balancing);
    let by_locality = balancing.locality_origin.as_ref().unwrap_or(policy_origin);
    let outlier = balancing.outlier.as_ref().zip(balancing.outlier_origin.as_ref());
    let balancing = [(hash, policy_origin), (warmup, policy_origin), (locality, by_locality)];
    let balancing = balancing.into_iter().filter_map(|((what, value), at)| Some(line(what, value?, at)));
    let outlier = outlier.map(|(plan, at)| line("outlierDetection", balancing::outlier(plan), at));
    lines.into_iter().flatten().chain(balancing).chain(outlier).collect()
}

/// Settings of the whole proxy.
pub(super) fn of_proxy(world: &World, sources: &Sources<'_>, plan: &ProxyPlan) -> Vec<Policy> {
    let ProxyPlan {
        id,
        access_log,
        access_log_json,
        access_log_format,
        accepts_proxy_header,
        listener_log,
        ports,
        preserve_case: _,
        allow_any,
        detection_timeout,
        drain_duration,
        termination_drain_duration,
        authorities,
        workload,
        hash: _,
    } = plan;
    let set = |what, field: &str, value: String| setting(world, what, field, value);
    let file = if *access_log { "/dev/stdout" } else { "none" };
    let encoding = if *access_log_json { "JSON" } else { "TEXT" };
    let format = access_log_format.as_ref().map_or("Istio's default".to_owned(), |f| format!("{f:?}"));
    let detection = detection_timeout.map_or("none".to_owned(), |t| format!("{t:?}"));
    let policy = if *allow_any { "ALLOW_ANY" } else { "REGISTRY_ONLY" };
    let by = crate::compile::outbound_policy(world, id, workload.as_ref()).origin;
    let header = if *accepts_proxy_header { "expected" } else { "none" };
    let own = "the mesh's own".to_owned();
    let others = authorities.iter().map(|a| match &a.trust_domains[..] {
        [] => "another".to_owned(),
        domains => format!("another for {}", domains.join(", ")),
    });
    let authorities = std::iter::once(own).chain(others).collect::<Vec<_>>().join("; ");
    vec![
        set("caCertificates", "spec.caCertificates", authorities),
        sources.line("proxyProtocol", "gatewayTopology.proxyProtocol", header),
        set("accessLogFile", "spec.accessLogFile", file.into()),
        set("accessLogEncoding", "spec.accessLogEncoding", encoding.into()),
        set("accessLogFormat", "spec.accessLogFormat", format),
        set("disableEnvoyListenerLog", "spec.disableEnvoyListenerLog", (!listener_log).to_string()),
        set("proxyListenPort", "spec.proxyListenPort", ports.outbound.to_string()),
        set("proxyInboundListenPort", "spec.proxyInboundListenPort", ports.inbound.to_string()),
        set("proxyHttpPort", "spec.proxyHttpPort", ports.http.map_or("off".to_owned(), |p| p.to_string())),
        line("outboundTrafficPolicy", policy, &by),
        set(
            "tlsDefaults",
            "spec.tlsDefaults",
            format!("{}{}", "TLS 1.2 or 1.3", crate::compile::tls_defaults(&world.mesh().spec)),
        ),
        set("protocolDetectionTimeout", "spec.protocolDetectionTimeout", detection),
        sources.line("drainDuration", "drainDuration", format!("{drain_duration:?}")),
        sources.line("terminationDrainDuration", "terminationDrainDuration", format!("{termination_drain_duration:?}")),
    ]
}

/// A listener: everything but its routes and L4 rules.
pub(super) fn of_listener(sources: &Sources<'_>, plan: &ListenerPlan) -> Vec<Policy> {
    let ListenerPlan { name: _, key: _, detect, http, mesh, tls, l4: _, fallback: _, origin, hash: _ } = plan;
    let protocol = match (detect, http) {
        _ if !tls.is_empty() => "TLS, by server name",
        (true, Some(_)) => "HTTP or bytes, as the first bytes say",
        (false, Some(_)) => "HTTP",
        (_, None) => "bytes",
    };
    let mut lines = vec![line("protocol", protocol, origin)];
    lines.extend(mesh.iter().map(|m| line("mutual TLS", m.mode.to_string(), &m.origin)));
    lines.extend(http.iter().flat_map(|h| of_http(sources, h, origin)));
    for server in tls {
        lines.push(line("tls", format!("{}: {}", server.name, server.tls), &server.tls.origin));
        if let TlsThen::Http(http) = &server.then {
            lines.extend(of_http(sources, http, &server.origin));
        }
    }
    lines
}

fn of_http(sources: &Sources<'_>, plan: &HttpPlan, origin: &Provenance) -> Vec<Policy> {
    let HttpPlan {
        routes: _,
        server,
        use_remote_address,
        trusted_hops,
        path_normalization,
        settings,
        elsewhere,
        hash: _,
    } = plan;
    let edge = || sources.line("numTrustedProxies", "gatewayTopology.numTrustedProxies", trusted_hops.to_string());
    let lines = [
        Some(sources.line("server", "proxyHeaders.server", format!("{server:?}"))),
        use_remote_address.then(edge),
        Some(line("pathNormalization", format!("{path_normalization:?}"), &sources.path_normalization())),
        (!elsewhere.is_empty()).then(|| {
            let hosts: Vec<String> = elsewhere.iter().map(ToString::to_string).collect();
            line("misdirected", format!("421 for {}", hosts.join(", ")), origin)
        }),
    ];
    lines.into_iter().flatten().chain(sources.http(settings)).collect()
}

/// Where bytes go: everything but the clusters, whose limits are theirs.
pub(super) fn of_tcp(plan: &TcpPlan) -> Vec<Policy> {
    let TcpPlan { route_name, clusters: _, origin, hash: _ } = plan;
    (!route_name.is_empty()).then(|| line("routeName", &**route_name, origin)).into_iter().collect()
}
