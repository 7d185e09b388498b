//! A snapshot as JSON, for the config dump. Each struct is taken apart completely, so that a new field of a plan does
//! not compile until it has its place here.

mod balancing;
mod filters;
mod security;
mod tls;

use std::time::Duration;

use serde_json::{Map as Object, Value, json};

use super::{
    Action, ClusterPlan, DecidedBy, DirectResponse, HeaderOps, Http2Ping, HttpPlan, Keepalive, L4Rule, ListenerKey,
    ListenerPlan, NameEntry, PoolPlan, Provenance, ProxyPlan, RedirectPath, RedirectPlan, RetryBudgetPlan, RetryPlan,
    Rewrite, RewritePath, RoutePlan, RouteTable, Snapshot, SomeOps, TcpPlan, TlsServer, TlsThen, VirtualHostPlan,
    WeightedCluster,
};
use crate::matching::{
    ClaimMatch, HeaderMatch, HeaderValueTemplate, HostPattern, QueryMatch, RequestMatch, StringMatcher,
};

impl Snapshot {
    /// The whole plan as JSON, in a stable order, with where each part comes from.
    pub fn to_json(&self) -> Value {
        let Self { hash, proxy, listeners, binds, clusters, names, security } = self;
        let mut listeners: Vec<_> = listeners.values().collect();
        listeners.sort_by_key(|l| l.key);
        let mut clusters: Vec<_> = clusters.values().collect();
        clusters.sort_by(|a, b| a.name.cmp(&b.name));
        let mut names: Vec<_> = names.iter().collect();
        names.sort_by(|a, b| a.0.cmp(b.0));
        json!({
            "config": hash.to_string(),
            "proxy": proxy_json(proxy),
            "listeners": listeners.into_iter().map(|l| listener(l)).collect::<Vec<_>>(),
            "binds": binds.iter().map(|b| format!("{} {:?}", b.at, b.door)).collect::<Vec<_>>(),
            "clusters": clusters.into_iter().map(|c| cluster(c)).collect::<Vec<_>>(),
            "names": names.into_iter().map(|(n, e)| name(n, e)).collect::<Vec<_>>(),
            "security": security::json(security),
        })
    }
}

fn duration(d: Option<Duration>) -> Value {
    d.map_or(Value::Null, |d| Value::String(format!("{}s", d.as_secs_f64())))
}

fn provenance(p: &Provenance) -> Value {
    let DecidedBy { object, field, location } = &**p;
    json!({ "object": object.as_ref().map(ToString::to_string), "field": field, "location": location })
}

fn proxy_json(plan: &ProxyPlan) -> Value {
    let ProxyPlan {
        id,
        access_log,
        access_log_json,
        access_log_format,
        accepts_proxy_header,
        listener_log,
        ports,
        preserve_case,
        allow_any,
        detection_timeout,
        drain_duration,
        termination_drain_duration,
        authorities,
        workload,
        hash: _,
    } = plan;
    json!({
        "id": id,
        "accessLog": access_log,
        "accessLogEncoding": if *access_log_json { "JSON" } else { "TEXT" },
        "accessLogFormat": access_log_format,
        "acceptsProxyProtocol": accepts_proxy_header,
        "listenerLog": listener_log,
        "proxyListenPort": ports.outbound,
        "proxyInboundListenPort": ports.inbound,
        "proxyHttpPort": ports.http,
        "preserveHttp1HeaderCase": preserve_case,
        "outboundTrafficPolicy": if *allow_any { "ALLOW_ANY" } else { "REGISTRY_ONLY" },
        "protocolDetectionTimeout": duration(*detection_timeout),
        "drainDuration": duration(Some(*drain_duration)),
        "terminationDrainDuration": duration(Some(*termination_drain_duration)),
        "caCertificates": authorities.iter().map(tls::authority).collect::<Vec<_>>(),
        "workload": workload.as_ref().map(|w| &w.uid),
    })
}

fn listener(plan: &ListenerPlan) -> Value {
    let ListenerPlan { name, key, detect, http, mesh, tls, l4, fallback, origin, hash } = plan;
    let ListenerKey { direction, address, port, socket } = key;
    json!({
        "name": name,
        "direction": format!("{direction:?}").to_lowercase(),
        "address": address,
        "port": port,
        "socket": socket.map(|_| name),
        "detectProtocol": detect,
        "http": http.as_ref().map(|h| http_plan(h)),
        "mesh": mesh.as_ref().map(tls::mesh),
        "tls": tls.iter().map(tls_server).collect::<Vec<_>>(),
        "l4": l4.iter().map(l4_rule).collect::<Vec<_>>(),
        "fallback": fallback.as_ref().map(|t| tcp(t)),
        "origin": provenance(origin),
        "hash": hash,
    })
}

fn http_plan(plan: &HttpPlan) -> Value {
    let HttpPlan { routes, server, use_remote_address, trusted_hops, path_normalization, settings, elsewhere, hash: _ } =
        plan;
    json!({
        "routes": route_table(routes),
        "server": format!("{server:?}"),
        "useRemoteAddress": use_remote_address,
        "numTrustedProxies": trusted_hops,
        "pathNormalization": format!("{path_normalization:?}"),
        "misdirected": patterns(elsewhere),
        "settings": format!("{settings:?}"),
    })
}

fn tls_server(server: &TlsServer) -> Value {
    let TlsServer { name, sni, tls, then, origin } = server;
    let (http, tcp) = match then {
        TlsThen::Http(plan) => (http_plan(plan), Value::Null),
        TlsThen::Tcp(plan) => (Value::Null, self::tcp(plan)),
    };
    json!({
        "name": name,
        "sniHosts": patterns(sni),
        "tls": tls::downstream(tls),
        "http": http,
        "tcp": tcp,
        "origin": provenance(origin),
    })
}

fn patterns(hosts: &[HostPattern]) -> Vec<String> {
    hosts.iter().map(ToString::to_string).collect()
}

fn l4_rule(rule: &L4Rule) -> Value {
    let L4Rule { sni, alpn, destination_subnets, plan } = rule;
    let sni = patterns(sni);
    let subnets: Vec<_> = destination_subnets.iter().map(|c| format!("{}/{}", c.address, c.length)).collect();
    json!({ "sniHosts": sni, "alpn": alpn, "destinationSubnets": subnets, "tcp": tcp(plan) })
}

fn tcp(plan: &TcpPlan) -> Value {
    let TcpPlan { route_name, clusters, origin, hash } = plan;
    json!({
        "routeName": route_name,
        "clusters": clusters.iter().map(weighted).collect::<Vec<_>>(),
        "origin": provenance(origin),
        "hash": hash,
    })
}

fn route_table(table: &RouteTable) -> Value {
    // Each virtual host names its domains itself.
    let RouteTable { name, hosts, domains: _, hash } = table;
    let mut hosts: Vec<_> = hosts.iter().collect();
    hosts.sort_by(|a, b| a.name.cmp(&b.name));
    json!({
        "name": name,
        "virtualHosts": hosts.into_iter().map(|v| virtual_host(v)).collect::<Vec<_>>(),
        "hash": hash,
    })
}

fn virtual_host(plan: &VirtualHostPlan) -> Value {
    // The index says what the routes say.
    let VirtualHostPlan { name, domains, routes, paths: _, origin, hash } = plan;
    json!({
        "name": name,
        "domains": domains,
        "routes": routes.iter().map(|r| route(r)).collect::<Vec<_>>(),
        "origin": provenance(origin),
        "hash": hash,
    })
}

fn route(plan: &RoutePlan) -> Value {
    let RoutePlan {
        name,
        matches,
        action,
        request_headers,
        response_headers,
        rewrite,
        filters,
        headers,
        timeout,
        retry,
        replay,
        origin,
        timeout_origin,
        retry_origin,
        hash,
    } = plan;
    json!({
        "name": name,
        "match": request_match(matches),
        "action": action_json(action),
        "requestHeaders": header_ops(request_headers),
        "responseHeaders": header_ops(response_headers),
        "rewrite": rewrite.as_deref().map(rewrite_json),
        "filters": filters::json(filters),
        "headers": format!("{headers:?}"),
        "timeout": duration(*timeout),
        "retries": retry.as_ref().map(retry_json),
        "replayBytes": replay,
        "origin": provenance(origin),
        "timeoutOrigin": provenance(timeout_origin),
        "retriesOrigin": provenance(retry_origin),
        "hash": hash,
    })
}

fn string_matcher(matcher: &StringMatcher) -> Value {
    match matcher {
        StringMatcher::Exact(v) => json!({ "exact": v }),
        StringMatcher::Prefix(v) => json!({ "prefix": v }),
        StringMatcher::Regex(r) => json!({ "regex": r.as_str() }),
        StringMatcher::Present => json!({ "present": true }),
    }
}

fn request_match(matches: &RequestMatch) -> Value {
    let RequestMatch { uri, ignore_uri_case, segment_prefix, scheme, method, authority, headers, query, claims } =
        matches;
    let mut out = Object::new();
    for (key, matcher) in [("uri", uri), ("scheme", scheme), ("method", method), ("authority", authority)] {
        if let Some(matcher) = matcher {
            out.insert(key.into(), string_matcher(matcher));
        }
    }
    for (key, set) in [("ignoreUriCase", ignore_uri_case), ("segmentPrefix", segment_prefix)] {
        if *set {
            out.insert(key.into(), Value::Bool(true));
        }
    }
    if !headers.is_empty() {
        out.insert("headers".into(), headers.iter().map(header_match).collect());
    }
    if !query.is_empty() {
        let query =
            query.iter().map(|QueryMatch { name, value }| json!({ "name": name, "value": string_matcher(value) }));
        out.insert("queryParams".into(), query.collect());
    }
    if !claims.is_empty() {
        let claims = claims.iter().map(|ClaimMatch { path, value, invert }| {
            json!({ "path": path.to_vec(), "value": string_matcher(value), "invert": invert })
        });
        out.insert("claims".into(), claims.collect());
    }
    Value::Object(out)
}

fn header_match(header: &HeaderMatch) -> Value {
    let HeaderMatch { name, pseudo, value, invert } = header;
    let name = name.as_ref().map(http::HeaderName::as_str).or(pseudo.as_deref());
    json!({ "name": name, "value": string_matcher(value), "invert": invert })
}

fn action_json(action: &Action) -> Value {
    match action {
        Action::Forward(clusters) => json!({ "route": clusters.iter().map(weighted).collect::<Vec<_>>() }),
        Action::Redirect(redirect) => {
            let RedirectPlan { code, scheme, authority, port, path } = &**redirect;
            json!({ "redirect": {
                "code": code.as_u16(),
                "scheme": scheme,
                "authority": authority,
                "port": port,
                "path": path.as_ref().map(|p| match p {
                    RedirectPath::Full(path) => json!({ "full": path }),
                    RedirectPath::Prefix(length, with) => json!({ "prefixLength": length, "with": with }),
                }),
            }})
        }
        Action::Direct(DirectResponse { status, body }) => json!({ "directResponse": {
            "status": status.as_u16(),
            "body": String::from_utf8_lossy(body),
        }}),
    }
}

fn weighted(target: &WeightedCluster) -> Value {
    let WeightedCluster { cluster, weight, request_headers, response_headers, authority, origin, missing_status } =
        target;
    json!({
        "cluster": cluster,
        "weight": weight,
        "requestHeaders": header_ops(request_headers),
        "responseHeaders": header_ops(response_headers),
        "authority": authority.as_ref().map(template),
        "missingStatus": missing_status.as_u16(),
        "origin": provenance(origin),
    })
}

fn header_ops(ops: &HeaderOps) -> Value {
    let SomeOps { remove, set, add } = &**ops;
    if ops.is_empty() {
        return Value::Null;
    }
    let values = |list: &[(http::HeaderName, HeaderValueTemplate)]| -> Object<String, Value> {
        list.iter().map(|(name, value)| (name.to_string(), template(value))).collect()
    };
    json!({
        "remove": remove.iter().map(http::HeaderName::as_str).collect::<Vec<_>>(),
        "set": values(set),
        "add": values(add),
    })
}

fn template(value: &HeaderValueTemplate) -> Value {
    match value {
        HeaderValueTemplate::Literal(v) => Value::String(String::from_utf8_lossy(v.as_bytes()).into_owned()),
        HeaderValueTemplate::Parts(parts) => Value::String(format!("{parts:?}")),
    }
}

fn rewrite_json(rewrite: &Rewrite) -> Value {
    let Rewrite { path, authority } = rewrite;
    let path = path.as_ref().map(|p| match p {
        RewritePath::Prefix(length, with) => json!({ "prefixLength": length, "with": with }),
        RewritePath::Full(path) => json!({ "full": path }),
        RewritePath::Regex(regex, with) => json!({ "regex": regex.as_str(), "with": with }),
    });
    json!({ "path": path, "authority": authority.as_ref().map(template) })
}

fn retry_json(retry: &RetryPlan) -> Value {
    let RetryPlan { attempts, per_try_timeout, on, status_codes, backoff, remote_localities, ignore_previous_hosts } =
        retry;
    json!({
        "attempts": attempts,
        "perTryTimeout": duration(*per_try_timeout),
        "retryOn": on.to_string(),
        "retriableStatusCodes": status_codes,
        "backoff": duration(Some(*backoff)),
        "retryRemoteLocalities": remote_localities,
        "retryIgnorePreviousHosts": ignore_previous_hosts,
    })
}

fn cluster(plan: &ClusterPlan) -> Value {
    let ClusterPlan {
        name,
        source,
        protocol,
        balancer,
        balancing,
        connect_timeout,
        tls,
        auto_tls,
        tls_origin,
        proxy_header,
        tunnel,
        pool,
        service,
        service_name,
        service_namespace,
        external,
        subset,
        origin,
        policy_origin,
        pool_origin,
        hash,
    } = plan;
    json!({
        "name": name,
        "source": format!("{source:?}"),
        "protocol": format!("{protocol:?}"),
        "loadBalancer": balancing::json(*balancer, balancing),
        "connectTimeout": duration(Some(*connect_timeout)),
        "tls": tls.as_ref().map(|t| tls::upstream(t)),
        "tlsOrigin": provenance(tls_origin),
        "autoMtls": auto_tls.as_ref().map(|t| tls::upstream(t)),
        "proxyProtocol": proxy_header.map(|v| format!("{v:?}")),
        "tunnel": tunnel.as_ref().map(|t| tls::tunnel(t)),
        "connectionPool": pool_json(pool),
        "service": service,
        "serviceName": service_name,
        "serviceNamespace": service_namespace,
        "external": external,
        "subset": subset,
        "origin": provenance(origin),
        "policyOrigin": provenance(policy_origin),
        "connectionPoolOrigin": provenance(pool_origin),
        "hash": hash,
    })
}

fn pool_json(plan: &PoolPlan) -> Value {
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
    json!({
        "maxConnections": max_connections,
        "tcpKeepalive": keepalive.as_ref().map(|Keepalive { probes, time, interval }| json!({
            "probes": probes, "time": duration(*time), "interval": duration(*interval),
        })),
        "tcpIdleTimeout": duration(*tcp_idle_timeout),
        "maxConnectionDuration": duration(*max_connection_duration),
        "http1MaxPendingRequests": max_pending,
        "http2MaxRequests": max_requests,
        "maxRequestsPerConnection": max_requests_per_connection,
        "maxRetries": max_retries,
        "retryBudget": retry_budget.as_ref().map(|RetryBudgetPlan { percent, min_concurrency, interval }| json!({
            "percent": percent, "minRetryConcurrency": min_concurrency, "budgetInterval": duration(Some(*interval)),
        })),
        "httpIdleTimeout": duration(*idle_timeout),
        "maxConcurrentStreams": max_concurrent_streams,
        "http2KeepAlive": http2_keepalive.as_ref().map(|Http2Ping { interval, timeout }| json!({
            "interval": duration(Some(*interval)), "timeout": duration(Some(*timeout)),
        })),
    })
}

fn name(name: &str, entry: &NameEntry) -> Value {
    let NameEntry { hostname, addresses } = entry;
    json!({ "name": name, "hostname": hostname, "addresses": addresses })
}
