//! VirtualServices as a static configuration of Envoy: what a control plane that follows the Traffic API would generate.
//! Written from the description of the API alone; nothing of the product takes part.

use std::net::SocketAddr;

use serde_json::{Map, Value, json};

use crate::lab::Block;

/// Who asks, as far as a VirtualService asks for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    /// The sidecar of `front.shop`, for a service on port 80.
    Sidecar,
    /// The ingress gateway's port 80, for `shop/gw1`.
    Gateway,
}

impl Side {
    fn gateway(self) -> &'static str {
        match self {
            Self::Sidecar => "mesh",
            Self::Gateway => "shop/gw1",
        }
    }

    fn namespace(self) -> &'static str {
        match self {
            Self::Sidecar => "shop",
            Self::Gateway => "istio-system",
        }
    }

    fn has_labels(self, wanted: &Map<String, Value>) -> bool {
        let own: &[(&str, &str)] = match self {
            Self::Sidecar => &[("app", "front"), ("tier", "web")],
            Self::Gateway => &[("istio", "ingressgateway"), ("app", "istio-ingressgateway")],
        };
        wanted.iter().all(|(k, v)| own.iter().any(|(name, value)| name == k && v == value))
    }
}

/// A service: its host, its ports with those of the endpoints, its subsets with the last byte of the endpoint's address
/// (0: there is none).
type Service = (&'static str, &'static [(u16, u16)], &'static [(&'static str, u8)]);

const SERVICES: [Service; 7] = [
    ("srv.shop.svc.cluster.local", &[(80, 8080), (8081, 8081)], &[("v1", 11), ("again", 11), ("v2", 12), ("v3", 13)]),
    ("back.back.svc.cluster.local", &[(80, 8080)], &[("v1", 21), ("v2", 22)]),
    ("dead.shop.svc.cluster.local", &[(80, 8080)], &[("", 41)]),
    ("empty.shop.svc.cluster.local", &[(80, 8080)], &[("", 0)]),
    ("rpc.other.svc.cluster.local", &[(80, 8080)], &[("", 42)]),
    ("ext.example.com", &[(80, 8080)], &[("v1", 51), ("v2", 52)]),
    ("copies.example.com", &[(80, 8080)], &[("", 53), ("one", 53)]),
];

/// A listener and the VirtualService that it serves.
pub(super) struct Door {
    pub(super) at: SocketAddr,
    pub(super) side: Side,
    pub(super) virtual_service: Value,
    /// `pathNormalization` of the mesh.
    pub(super) normalization: &'static str,
    /// Domains of its virtual host.
    pub(super) domains: Vec<String>,
}

const API: &str = "type.googleapis.com/envoy";

/// The whole configuration.
pub(super) fn bootstrap(block: &Block, doors: &[Door], log: &Value) -> Value {
    let listeners: Vec<Value> = doors.iter().map(|d| listener(d, log)).collect();
    json!({
        "static_resources": {"listeners": listeners, "clusters": clusters(block)},
        // As Istio starts it.
        "layered_runtime": {"layers": [{"name": "static", "static_layer": {
            "envoy.reloadable_features.http_reject_path_with_fragment": false,
        }}]},
    })
}

fn clusters(block: &Block) -> Vec<Value> {
    let mut out = Vec::new();
    for (host, ports, subsets) in SERVICES {
        for (port, target) in ports {
            for (subset, last) in subsets {
                let name = format!("outbound|{port}|{subset}|{host}");
                let endpoint = |last: u8| {
                    let address = json!({"address": block.ip(last).to_string(), "port_value": target});
                    json!({"endpoint": {"address": {"socket_address": address}}})
                };
                let endpoints: Vec<Value> = (*last != 0).then(|| endpoint(*last)).into_iter().collect();
                let mut cluster = json!({
                    "name": name,
                    "type": "STATIC",
                    "connect_timeout": "10s",
                    "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
                    "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
                });
                if host.starts_with("rpc.") {
                    cluster["typed_extension_protocol_options"] = json!({
                        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                            "@type": format!("{API}.extensions.upstreams.http.v3.HttpProtocolOptions"),
                            "explicit_http_config": {"http2_protocol_options": {}},
                        },
                    });
                }
                out.push(cluster);
            }
        }
    }
    out
}

fn listener(door: &Door, log: &Value) -> Value {
    let filter = |name: &str, kind: &str| json!({"name": name, "typed_config": {"@type": format!("{API}.extensions.filters.http.{kind}")}});
    let mut manager = json!({
        "@type": format!("{API}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "http",
        "server_name": if door.side == Side::Gateway { "istio-envoy" } else { "envoy" },
        "use_remote_address": door.side == Side::Gateway,
        "stream_idle_timeout": "0s",
        "proxy_100_continue": true,
        "normalize_path": door.normalization != "NONE",
        "merge_slashes": door.normalization.ends_with("MERGE_SLASHES"),
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "http_filters": [
            filter("envoy.filters.http.fault", "fault.v3.HTTPFault"),
            filter("envoy.filters.http.cors", "cors.v3.Cors"),
            filter("envoy.filters.http.router", "router.v3.Router"),
        ],
        "route_config": {
            "name": "80",
            "validate_clusters": false,
            "ignore_port_in_host_matching": true,
            "virtual_hosts": [{
                "name": "host",
                "domains": door.domains,
                "include_request_attempt_count": true,
                "routes": routes(&door.virtual_service, door.side),
            }],
        },
        "access_log": [{"name": "envoy.access_loggers.stdout", "typed_config": {
            "@type": format!("{API}.extensions.access_loggers.stream.v3.StdoutAccessLog"),
            "log_format": {"json_format": log},
        }}],
    });
    if door.normalization == "DECODE_AND_MERGE_SLASHES" {
        manager["path_with_escaped_slashes_action"] = json!("UNESCAPE_AND_FORWARD");
    }
    json!({
        "name": door.at.to_string(),
        "address": {"socket_address": {"address": door.at.ip().to_string(), "port_value": door.at.port()}},
        "filter_chains": [{"filters": [
            {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager},
        ]}],
    })
}

/// A side has routes of a VirtualService; without any a sidecar has none of its virtual hosts.
pub(super) fn has_routes(virtual_service: &Value, side: Side) -> bool {
    !routes(virtual_service, side).is_empty()
}

/// The routes that a side has, up to the first that takes everything.
fn routes(virtual_service: &Value, side: Side) -> Vec<Value> {
    let mut out = Vec::new();
    for rule in list(&virtual_service["spec"]["http"]) {
        let conditions = list(&rule["match"]);
        if conditions.is_empty() {
            out.push(route(rule, &json!({})));
            return out;
        }
        for condition in conditions.iter().filter(|c| concerns(c, side)) {
            out.push(route(rule, condition));
            if takes_everything(condition) {
                return out;
            }
        }
    }
    out
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn map(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

/// Conditions that are decided before any request: with `gateways` those of the source don't count.
fn concerns(condition: &Value, side: Side) -> bool {
    if condition["port"].as_u64().is_some_and(|p| p != 80) {
        return false;
    }
    let gateways = list(&condition["gateways"]);
    if !gateways.is_empty() {
        return gateways.iter().any(|g| g == side.gateway());
    }
    condition["sourceLabels"].as_object().is_none_or(|l| side.has_labels(l))
        && condition["sourceNamespace"].as_str().is_none_or(|n| n == side.namespace())
}

fn takes_everything(condition: &Value) -> bool {
    let without = |field: &str| condition.get(field).is_none_or(|v| v.as_object().is_some_and(Map::is_empty));
    let uri = &condition["uri"];
    ["headers", "withoutHeaders", "queryParams", "method", "scheme", "authority"].iter().all(|f| without(f))
        && (uri.is_null() || uri["prefix"] == "/" || uri["regex"] == ".*")
}

fn text(from: &Value) -> Value {
    match from["regex"].as_str() {
        Some(regex) => json!({"safe_regex": {"regex": regex}}),
        None => from.clone(),
    }
}

/// `{}` and `regex: "*"` ask only whether it is there.
fn present(from: &Value) -> bool {
    from.as_object().is_some_and(Map::is_empty) || from["regex"] == "*"
}

fn condition(from: &Value) -> Value {
    let mut out = json!({});
    let uri = &from["uri"];
    match (uri["exact"].as_str(), uri["prefix"].as_str(), uri["regex"].as_str()) {
        (Some(exact), ..) => out["path"] = json!(exact),
        (_, Some(prefix), _) => out["prefix"] = json!(prefix),
        (.., Some(regex)) => out["safe_regex"] = json!({"regex": regex}),
        _ => out["prefix"] = json!("/"),
    }
    if from["ignoreUriCase"] == true && uri.get("regex").is_none() {
        out["case_sensitive"] = json!(false);
    }
    let mut headers = Vec::new();
    for (name, value) in map(&from["headers"]) {
        // These have fields of their own, and are not looked at here.
        if ["uri", "scheme", "method", "authority"].contains(&name.as_str()) {
            continue;
        }
        let name = name.to_ascii_lowercase();
        headers.push(match present(value) {
            true => json!({"name": name, "present_match": true}),
            false => json!({"name": name, "string_match": text(value)}),
        });
    }
    for (name, value) in map(&from["withoutHeaders"]) {
        let name = name.to_ascii_lowercase();
        headers.push(match present(value) {
            true => json!({"name": name, "present_match": true, "invert_match": true}),
            false => json!({
                "name": name,
                "string_match": text(value),
                "invert_match": true,
                "treat_missing_header_as_empty": true,
            }),
        });
    }
    for field in ["method", "scheme", "authority"] {
        if let Some(value) = from.get(field) {
            headers.push(json!({"name": format!(":{field}"), "string_match": text(value)}));
        }
    }
    out["headers"] = headers.into();
    let query = map(&from["queryParams"]).map(|(name, value)| match present(value) {
        true => json!({"name": name, "present_match": true}),
        false => json!({"name": name, "string_match": text(value)}),
    });
    out["query_parameters"] = query.collect();
    out
}

fn route(rule: &Value, matched: &Value) -> Value {
    let names = [&rule["name"], &matched["name"]].map(|n| n.as_str().unwrap_or_default());
    let name = match names {
        [rule, ""] => rule.to_owned(),
        [rule, condition] => format!("{rule}.{condition}"),
    };
    let mut out = json!({"name": name, "match": condition(matched)});
    let mut own = Headers::of(&rule["headers"]);
    if let Some(to) = rule.get("redirect") {
        out["redirect"] = redirect(to);
    } else if let Some(answer) = rule.get("directResponse") {
        out["direct_response"] = direct(answer);
    } else {
        out["route"] = forward(rule, &mut own);
    }
    own.write(&mut out);
    let mut filters = json!({});
    if let Some(fault) = rule.get("fault") {
        filters["envoy.filters.http.fault"] = faults(fault);
    }
    if let Some(policy) = rule.get("corsPolicy") {
        filters["envoy.filters.http.cors"] = cors(policy);
    }
    out["typed_per_filter_config"] = filters;
    out
}

fn redirect(from: &Value) -> Value {
    let mut out = json!({});
    if let Some(uri) = from.get("uri") {
        out["path_redirect"] = uri.clone();
    }
    if let Some(prefix) = from.get("prefixRewrite") {
        out["prefix_rewrite"] = prefix.clone();
    }
    if let Some(authority) = from.get("authority") {
        out["host_redirect"] = authority.clone();
    }
    if let Some(scheme) = from.get("scheme") {
        out["scheme_redirect"] = scheme.clone();
    }
    let port = match from["derivePort"] == "FROM_REQUEST_PORT" {
        true => Some(80),
        false => from["port"].as_u64(),
    };
    // The usual port of the new scheme is left out.
    let usual = if from["scheme"] == "https" { 443 } else { 80 };
    if let Some(port) = port.filter(|p| *p != usual) {
        out["port_redirect"] = json!(port);
    }
    out["response_code"] = json!(match from["redirectCode"].as_u64() {
        Some(302) => "FOUND",
        Some(303) => "SEE_OTHER",
        Some(307) => "TEMPORARY_REDIRECT",
        Some(308) => "PERMANENT_REDIRECT",
        _ => "MOVED_PERMANENTLY",
    });
    out
}

fn direct(from: &Value) -> Value {
    let mut out = json!({"status": from["status"]});
    if let Some(text) = from["body"].get("string") {
        out["body"] = json!({"inline_string": text});
    }
    if let Some(bytes) = from["body"].get("bytes") {
        out["body"] = json!({"inline_bytes": bytes});
    }
    out
}

/// The name of the cluster that a destination means for a listener on port 80.
fn cluster(destination: &Value) -> String {
    let host = match destination["host"].as_str().expect("a host") {
        short if !short.contains('.') => format!("{short}.shop.svc.cluster.local"),
        full => full.to_owned(),
    };
    let subset = destination["subset"].as_str().unwrap_or_default();
    let only = SERVICES.iter().find(|s| s.0 == host).and_then(|s| match s.1 {
        [(only, _)] => Some(u64::from(*only)),
        _ => None,
    });
    let port = destination["port"]["number"].as_u64().or(only).unwrap_or(80);
    format!("outbound|{port}|{subset}|{host}")
}

fn forward(rule: &Value, own: &mut Headers) -> Value {
    let all = list(&rule["route"]);
    let many = all.iter().filter(|d| d["weight"].as_u64().is_some_and(|w| w > 0)).count() > 1;
    let chosen: Vec<&Value> = all.iter().filter(|d| all.len() == 1 || d["weight"].as_u64() > Some(0)).collect();
    let mut out = json!({"timeout": rule.get("timeout").map_or(json!("0s"), seconds)});
    out["max_grpc_timeout"] = out["timeout"].clone();
    let mut host = rule["rewrite"]["authority"].as_str().map(str::to_owned).or(own.host.take());
    if many {
        let clusters = chosen.iter().map(|d| {
            let mut cluster = json!({"name": cluster(&d["destination"]), "weight": d["weight"]});
            let headers = Headers::of(&d["headers"]);
            if let Some(host) = &headers.host {
                cluster["host_rewrite_literal"] = json!(host);
            }
            headers.write(&mut cluster);
            cluster
        });
        out["weighted_clusters"] = json!({"clusters": clusters.collect::<Vec<_>>()});
    } else {
        let only = chosen[0];
        out["cluster"] = json!(cluster(&only["destination"]));
        let mut headers = Headers::of(&only["headers"]);
        host = host.or(headers.host.take());
        own.extend(headers);
    }
    if let Some(host) = host {
        out["host_rewrite_literal"] = json!(host);
    }
    if let Some(uri) = rule["rewrite"].get("uri") {
        out["prefix_rewrite"] = uri.clone();
    }
    if let Some(regex) = rule["rewrite"].get("uriRegexRewrite") {
        out["regex_rewrite"] = json!({"pattern": {"regex": regex["match"]}, "substitution": regex["rewrite"]});
    }
    if let Some(policy) = retries(rule.get("retries")) {
        out["retry_policy"] = policy;
    }
    let single = rule.get("mirror").map(|m| (m, rule.get("mirrorPercentage")));
    let mirrors = list(&rule["mirrors"]).iter().map(|m| (&m["destination"], m.get("percentage"))).chain(single);
    let mirrors = mirrors.map(|(to, percentage)| {
        json!({
            "cluster": cluster(to),
            "runtime_fraction": {"default_value": share(percentage.map_or(&json!({"value": 100}), |p| p))},
            "disable_shadow_host_suffix_append": true,
        })
    });
    out["request_mirror_policies"] = mirrors.collect();
    out
}

/// A duration in the form that Envoy reads.
fn seconds(from: &Value) -> Value {
    let text = from.as_str().expect("a duration");
    match text.strip_suffix('h') {
        Some(hours) => json!(format!("{}s", hours.parse::<u32>().expect("a number") * 3600)),
        None => from.clone(),
    }
}

fn retries(from: Option<&Value>) -> Option<Value> {
    const DEFAULT: &str = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes";
    let from = from.cloned().unwrap_or_else(|| json!({"attempts": 2}));
    let attempts = from["attempts"].as_u64().filter(|a| *a > 0)?;
    let mut words = Vec::new();
    let mut codes: Vec<u16> = Vec::new();
    for word in from["retryOn"].as_str().unwrap_or(DEFAULT).split(',') {
        match word.parse() {
            Ok(code) => codes.push(code),
            Err(_) => words.push(word),
        }
    }
    if !codes.is_empty() {
        words.push("retriable-status-codes");
    }
    let mut out = json!({
        "retry_on": words.join(","),
        "num_retries": attempts,
        "retriable_status_codes": codes,
        "host_selection_retry_max_attempts": 5,
    });
    if from["retryIgnorePreviousHosts"] != false {
        out["retry_host_predicate"] = json!([{
            "name": "envoy.retry_host_predicates.previous_hosts",
            "typed_config": {"@type": format!("{API}.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate")},
        }]);
    }
    if let Some(each) = from.get("perTryTimeout") {
        out["per_try_timeout"] = seconds(each);
    }
    if let Some(pause) = from.get("backoff") {
        out["retry_back_off"] = json!({"base_interval": seconds(pause)});
    }
    Some(out)
}

fn share(percentage: &Value) -> Value {
    let value = percentage["value"].as_f64().unwrap_or_default();
    json!({"numerator": (value * 10_000.0) as u32, "denominator": "MILLION"})
}

fn faults(from: &Value) -> Value {
    let mut out = json!({"@type": format!("{API}.extensions.filters.http.fault.v3.HTTPFault")});
    if let Some(delay) = from.get("delay") {
        out["delay"] = json!({"fixed_delay": seconds(&delay["fixedDelay"]), "percentage": share(&delay["percentage"])});
    }
    if let Some(abort) = from.get("abort") {
        let mut with = json!({"percentage": share(&abort["percentage"])});
        match abort.get("httpStatus") {
            Some(status) => with["http_status"] = status.clone(),
            None => with["grpc_status"] = json!(if abort["grpcStatus"] == "UNAVAILABLE" { 14 } else { 5 }),
        }
        out["abort"] = with;
    }
    out
}

fn cors(from: &Value) -> Value {
    let words = |field: &str| {
        let all: Vec<&str> = list(&from[field]).iter().filter_map(Value::as_str).collect();
        (!all.is_empty()).then(|| all.join(","))
    };
    let mut out = json!({
        "@type": format!("{API}.extensions.filters.http.cors.v3.CorsPolicy"),
        "allow_origin_string_match": list(&from["allowOrigins"]).iter().map(text).collect::<Vec<_>>(),
        "filter_enabled": {"default_value": {"numerator": 100}},
    });
    for (field, to) in
        [("allowMethods", "allow_methods"), ("allowHeaders", "allow_headers"), ("exposeHeaders", "expose_headers")]
    {
        if let Some(words) = words(field) {
            out[to] = json!(words);
        }
    }
    if let Some(age) = from["maxAge"].as_str() {
        out["max_age"] = json!(age.trim_end_matches('s'));
    }
    if let Some(credentials) = from.get("allowCredentials") {
        out["allow_credentials"] = credentials.clone();
    }
    if from["unmatchedPreflights"] == "IGNORE" {
        out["forward_not_matching_preflights"] = json!(false);
    }
    out
}

/// Header operations of one level.
struct Headers {
    /// A new Host, which is no header operation.
    host: Option<String>,
    lists: Map<String, Value>,
}

impl Headers {
    fn of(from: &Value) -> Self {
        let (mut host, mut lists) = (None, Map::new());
        for side in ["request", "response"] {
            let mut add = Vec::new();
            for (field, action) in [("set", "OVERWRITE_IF_EXISTS_OR_ADD"), ("add", "APPEND_IF_EXISTS_OR_ADD")] {
                let mut all: Vec<_> = map(&from[side][field]).collect();
                all.sort_by_key(|(name, _)| name.as_str());
                for (name, value) in all {
                    if name == "host" {
                        host = host.or(value.as_str().map(str::to_owned));
                        continue;
                    }
                    add.push(json!({"header": {"key": name, "value": value}, "append_action": action}));
                }
            }
            lists.insert(format!("{side}_headers_to_add"), add.into());
            let remove: Vec<Value> = list(&from[side]["remove"]).to_vec();
            lists.insert(format!("{side}_headers_to_remove"), remove.into());
        }
        Self { host, lists }
    }

    /// Those of another level after these.
    fn extend(&mut self, other: Self) {
        for (name, more) in other.lists {
            if let (Some(Value::Array(all)), Value::Array(more)) = (self.lists.get_mut(&name), more) {
                all.extend(more);
            }
        }
    }

    fn write(self, to: &mut Value) {
        for (name, list) in self.lists {
            to[name] = list;
        }
    }
}
