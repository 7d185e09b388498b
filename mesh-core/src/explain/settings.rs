//! Settings of a proxy with who wrote each: the pod's annotation, a ProxyConfig, the mesh, or nobody.

use super::policies::{Policy, line};
use crate::api::{Key, Kind, Origin};
use crate::model::Workload;
use crate::proxy_config::{ANNOTATION, Asker, resources};
use crate::snapshot::{HttpSettings, Keepalive, PoolPlan, Provenance, RouteHeaders};
use crate::world::World;
use crate::yaml;

/// Where the ProxyConfig of one proxy comes from.
pub(super) struct Sources<'w> {
    world: &'w World,
    /// The annotation's pod, and what is in it.
    annotation: Option<(Key, serde_json::Value)>,
    workload: Option<&'w Workload>,
}

impl<'w> Sources<'w> {
    pub(super) fn of(world: &'w World, workload: Option<&'w Workload>) -> Self {
        let annotation = workload.and_then(|w| {
            let (documents, _) = yaml::documents(w.annotations.get(ANNOTATION)?);
            let key = Key::new(Kind::new("", "Pod"), &w.namespace, &w.name);
            Some((key, documents.into_iter().next()?.value))
        });
        Self { world, annotation, workload }
    }

    /// Who decides a field of ProxyConfig (`connectionSettings.httpIdleTimeout`).
    pub(super) fn origin(&self, field: &str) -> Provenance {
        let pointer = format!("/{}", field.replace('.', "/"));
        match &self.annotation {
            Some((pod, value)) if value.pointer(&pointer).is_some() => {
                let field = format!("{}.{field}", yaml::child("metadata.annotations", ANNOTATION));
                Provenance::field(pod, &Origin::generated("the pod of this proxy"), &field)
            }
            _ => {
                let default = format!("{field} is not set");
                Provenance::setting(self.world.mesh(), &format!("spec.defaultConfig.{field}"), &default)
            }
        }
    }

    /// Who decides a variable of the proxy, if anybody does.
    fn variable(&self, name: &str) -> Option<Provenance> {
        let field = format!("proxyMetadata.{name}");
        let by_resource = self.workload.and_then(|w| {
            let asker = Asker { namespace: &w.namespace, labels: &w.labels, annotations: &w.annotations };
            let all = resources(self.world, asker);
            let last = all.into_iter().rev().find(|o| o.spec.environment_variables.contains_key(name))?;
            let field = yaml::child("spec.environmentVariables", name);
            Some(Provenance::field(&last.key, &last.origin, &field))
        });
        let own = self.origin(&field);
        let by_pod = own.object.as_ref().is_some_and(|k| &*k.kind.kind == "Pod");
        if by_pod { Some(own) } else { by_resource.or_else(|| own.object.is_some().then_some(own)) }
    }

    /// A line for a field of ProxyConfig.
    pub(super) fn line(&self, what: &'static str, field: &str, value: impl Into<String>) -> Policy {
        line(what, value, &self.origin(field))
    }

    /// A line for something that a variable decides if it is there, else a field.
    fn by_variable(&self, what: &'static str, name: &str, field: &str, value: String) -> Policy {
        line(what, value, &self.variable(name).unwrap_or_else(|| self.origin(field)))
    }

    /// How HTTP is spoken on a listener.
    pub(super) fn http(&self, settings: &HttpSettings) -> Vec<Policy> {
        let HttpSettings {
            request_id,
            forwarded_port,
            client_cert,
            client_cert_details,
            preserve_case,
            http10,
            underscores,
            escaped_slashes,
            headers_timeout,
            idle_timeout,
            max_connection_duration,
            drain_timeout,
            request_timeout,
            stream_idle_timeout,
            max_stream_duration,
            buffer_limit,
            max_streams,
            stream_window,
            connection_window,
        } = settings;
        let time = |t: &Option<std::time::Duration>| t.map_or("none".to_owned(), |t| format!("{t:?}"));
        let set = |what, field: &str, value: String| self.line(what, &format!("connectionSettings.{field}"), value);
        vec![
            self.line("requestId", "proxyHeaders.requestId.disabled", request_id.to_string()),
            self.line("xForwardedPort", "proxyHeaders.xForwardedPort.enabled", forwarded_port.to_string()),
            line("forwardedClientCert", format!("{client_cert:?}"), &self.client_cert()),
            self.line("clientCertDetails", "proxyHeaders.setCurrentClientCertDetails", client_cert_details.to_string()),
            self.line("preserveHttp1HeaderCase", "proxyHeaders.preserveHttp1HeaderCase", preserve_case.to_string()),
            self.by_variable("http10", "ISTIO_META_HTTP10", "proxyMetadata.ISTIO_META_HTTP10", http10.to_string()),
            set("underscores", "httpHeadersWithUnderscoresAction", format!("{underscores:?}")),
            set("escapedSlashes", "httpPathWithEscapedSlashesAction", format!("{escaped_slashes:?}")),
            set("httpRequestHeadersTimeout", "httpRequestHeadersTimeout", time(headers_timeout)),
            self.by_variable(
                "httpIdleTimeout",
                "ISTIO_META_IDLE_TIMEOUT",
                "connectionSettings.httpIdleTimeout",
                time(idle_timeout),
            ),
            set("httpMaxConnectionDuration", "httpMaxConnectionDuration", time(max_connection_duration)),
            set("httpDrainTimeout", "httpDrainTimeout", format!("{drain_timeout:?}")),
            set("httpRequestTimeout", "httpRequestTimeout", time(request_timeout)),
            set("httpStreamIdleTimeout", "httpStreamIdleTimeout", time(stream_idle_timeout)),
            set("httpMaxStreamDuration", "httpMaxStreamDuration", time(max_stream_duration)),
            set(
                "perConnectionBufferLimitBytes",
                "perConnectionBufferLimitBytes",
                buffer_limit.map_or("as the codecs like".to_owned(), |n| n.to_string()),
            ),
            set("http2MaxConcurrentStreams", "http2MaxConcurrentStreams", max_streams.to_string()),
            set("http2InitialStreamWindowSize", "http2InitialStreamWindowSize", stream_window.to_string()),
            set("http2InitialConnectionWindowSize", "http2InitialConnectionWindowSize", connection_window.to_string()),
        ]
    }

    /// The mesh says it, or the proxy's slashes.
    pub(super) fn path_normalization(&self) -> Provenance {
        let slashes = self.origin("connectionSettings.httpMergeSlashes");
        let default = "BASE, by default";
        let mesh = || Provenance::setting(self.world.mesh(), "spec.pathNormalization.normalization", default);
        if slashes.object.is_some() { slashes } else { mesh() }
    }

    /// At gateways the topology says it, elsewhere the proxy's headers.
    fn client_cert(&self) -> Provenance {
        let topology = self.origin("gatewayTopology.forwardClientCertDetails");
        if topology.object.is_some() { topology } else { self.origin("proxyHeaders.forwardedClientCert") }
    }

    /// Headers that a route makes.
    pub(super) fn route(&self, headers: RouteHeaders) -> Vec<Policy> {
        let RouteHeaders { attempt_count, debug, forwarded_host } = headers;
        let set = |what, field: &str, value: bool| self.line(what, &format!("proxyHeaders.{field}"), value.to_string());
        vec![
            set("attemptCount", "attemptCount.disabled", attempt_count),
            set("envoyDebugHeaders", "envoyDebugHeaders.disabled", debug),
            set("xForwardedHost", "xForwardedHost.enabled", forwarded_host),
        ]
    }
}

/// Every limit of a cluster, also those that are none.
pub(super) fn pool(plan: &PoolPlan, origin: &Provenance) -> Vec<Policy> {
    let PoolPlan {
        max_connections,
        keepalive,
        tcp_idle_timeout,
        max_connection_duration,
        max_pending,
        max_requests,
        max_requests_per_connection,
        max_retries,
        retry_budget,
        idle_timeout,
        max_concurrent_streams,
        http2_keepalive,
    } = plan;
    let count = |n: u32| if n == u32::MAX { "unlimited".to_owned() } else { n.to_string() };
    let time = |t: &Option<std::time::Duration>| t.map_or("none".to_owned(), |t| format!("{t:?}"));
    let keepalive = keepalive.map(|Keepalive { probes, time: first, interval }| {
        let probes = probes.map_or("the system's".to_owned(), |p| p.to_string());
        format!("time {}, interval {}, probes {probes}", time(&first), time(&interval))
    });
    let budget = retry_budget.as_ref().map(|b| format!("{}%, at least {}", b.percent, b.min_concurrency));
    let ping = http2_keepalive.map(|p| format!("{:?}, timeout {:?}", p.interval, p.timeout));
    let off = || "off".to_owned();
    [
        ("maxConnections", count(*max_connections)),
        ("http1MaxPendingRequests", count(*max_pending)),
        ("http2MaxRequests", count(*max_requests)),
        ("maxRequestsPerConnection", count(max_requests_per_connection.unwrap_or(u32::MAX))),
        ("maxRetries", count(*max_retries)),
        ("retryBudget", budget.unwrap_or_else(off)),
        ("maxConcurrentStreams", count(*max_concurrent_streams)),
        ("http idleTimeout", time(idle_timeout)),
        ("tcp idleTimeout", time(tcp_idle_timeout)),
        ("maxConnectionDuration", time(max_connection_duration)),
        ("tcpKeepalive", keepalive.unwrap_or_else(|| "the system's".to_owned())),
        ("http2KeepAlive", ping.unwrap_or_else(off)),
    ]
    .into_iter()
    .map(|(what, value)| line(what, value, origin))
    .collect()
}
