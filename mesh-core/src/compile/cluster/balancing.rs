//! `loadBalancer` and `outlierDetection` -> how endpoints are chosen and taken out, for one client.

mod locality;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use http::HeaderName;

pub(in crate::compile) use locality::{Client, account_mesh_locality};

use super::{At, Blocks, ClusterInput};
use crate::api::{ConsistentHashLb, HttpCookie, LoadBalancerSettings, MagLev, OutlierDetection, RingHash, SimpleLb};
use crate::api::{MeshConfig, Object, WarmupConfiguration};
use crate::compile::account::Ledger;
use crate::snapshot::{Balancer, Balancing, CookiePlan, EndpointSource, HashKey, OutlierPlan, Provenance, Warmup};

/// Points of a ring where nobody says how many.
const RING_SIZE: u64 = 1024;
/// Size of a Maglev table where nobody says it.
const TABLE_SIZE: u64 = 65537;

/// The balancer of a cluster and what goes with it.
pub(super) fn plan(input: &ClusterInput<'_>, blocks: &Blocks<'_>, source: &EndpointSource) -> (Balancer, Balancing) {
    if !has_endpoints(source) {
        return (Balancer::default(), Balancing::default());
    }
    let settings = blocks.balancer.map(|(b, _)| b);
    let balancer = settings.map_or(Balancer::default(), balancer);
    let tcp = is_tcp(input);
    let hash = settings.and_then(|s| s.consistent_hash.as_ref());
    let warms_up = matches!(balancer, Balancer::LeastRequest | Balancer::RoundRobin);
    let (outlier, outlier_origin) = outlier(input, blocks).unzip();
    let (locality, locality_origin) = locality::plan(input, blocks.balancer, outlier.is_some());
    let balancing = Balancing {
        hash_key: hash.and_then(|h| key(h, tcp)),
        warmup: settings.filter(|_| warms_up).and_then(warmup),
        locality,
        locality_origin,
        outlier,
        outlier_origin,
    };
    (balancer, balancing)
}

/// Whether the proxy chooses among endpoints that it knows.
fn has_endpoints(source: &EndpointSource) -> bool {
    matches!(source, EndpointSource::Service { .. } | EndpointSource::Dns { .. })
}

fn is_tcp(input: &ClusterInput<'_>) -> bool {
    super::upstream_protocol(input.port.protocol) == crate::snapshot::UpstreamProtocol::Tcp
}

fn balancer(settings: &LoadBalancerSettings) -> Balancer {
    if let Some(hash) = &settings.consistent_hash {
        let or = |size: u64, default| if size == 0 { default } else { size };
        return match (&hash.maglev, &hash.ring_hash, hash.minimum_ring_size) {
            (Some(MagLev { table_size }), _, _) => Balancer::Maglev(or(*table_size, TABLE_SIZE)),
            (None, Some(RingHash { minimum_ring_size }), _) => Balancer::RingHash(or(*minimum_ring_size, RING_SIZE)),
            (None, None, size) => Balancer::RingHash(or(size.unwrap_or(0), RING_SIZE)),
        };
    }
    match settings.simple {
        Some(SimpleLb::RoundRobin) => Balancer::RoundRobin,
        Some(SimpleLb::Random) => Balancer::Random,
        Some(SimpleLb::LeastRequest | SimpleLb::LeastConn | SimpleLb::Unspecified | SimpleLb::Passthrough) | None => {
            Balancer::LeastRequest
        }
    }
}

/// The key that counts; of several the first of this order.
fn key(hash: &ConsistentHashLb, tcp: bool) -> Option<HashKey> {
    let source = hash.use_source_ip == Some(true);
    if tcp {
        return source.then_some(HashKey::SourceIp);
    }
    let header = hash.http_header_name.as_ref().and_then(|n| HeaderName::try_from(n.as_str()).ok());
    let of_cookie = || hash.http_cookie.as_ref().map(|c| HashKey::Cookie(cookie(c)));
    let of_query = || hash.http_query_parameter_name.as_ref().map(|q| HashKey::Query(q.as_str().into()));
    header.map(HashKey::Header).or_else(of_cookie).or_else(|| source.then_some(HashKey::SourceIp)).or_else(of_query)
}

/// Attributes in Envoy's order: Max-Age, Path, the user's, and HttpOnly always at the end.
fn cookie(cookie: &HttpCookie) -> CookiePlan {
    let HttpCookie { name, path, ttl, attributes } = cookie;
    let attributes = ttl.map(|ttl| {
        let ttl: Duration = ttl.into();
        let mut text = String::new();
        if !ttl.is_zero() {
            text += &format!("; Max-Age={}", ttl.as_secs());
        }
        if !path.is_empty() {
            text += &format!("; Path={path}");
        }
        for a in attributes {
            text += &match a.value.as_str() {
                "" => format!("; {}", a.name),
                value => format!("; {}={value}", a.name),
            };
        }
        (text + "; HttpOnly").into()
    });
    CookiePlan { name: name.as_str().into(), attributes }
}

/// `warmup`, else its deprecated form.
fn warmup(settings: &LoadBalancerSettings) -> Option<Warmup> {
    let full = settings.warmup.clone();
    let old = || Some(WarmupConfiguration { duration: settings.warmup_duration_secs, ..Default::default() });
    let WarmupConfiguration { duration, minimum_percent, aggression } = full.or_else(old)?;
    let duration: Duration = duration?.into();
    let warmup =
        Warmup { duration, minimum: minimum_percent.unwrap_or(10.0) / 100.0, aggression: aggression.unwrap_or(1.0) };
    (!duration.is_zero()).then_some(warmup)
}

/// The block of the rule, else the mesh's default; a subset's entry for the port replaces even that.
fn outlier(input: &ClusterInput<'_>, blocks: &Blocks<'_>) -> Option<(OutlierPlan, Provenance)> {
    if let Some((block, at)) = blocks.outlier {
        let field = format!("{}.outlierDetection", at.place.path());
        return Some((outlier_plan(block), Provenance::field(&at.rule.key, &at.rule.origin, &field)));
    }
    input.defaults.client.outlier.clone().filter(|_| !blocks.of_subset_port)
}

/// The mesh's default for every destination.
pub(super) fn mesh_outlier(mesh: &Object<MeshConfig>) -> Option<(OutlierPlan, Provenance)> {
    let block = mesh.spec.default_traffic_policy.as_ref()?.outlier_detection.as_ref()?;
    let field = "spec.defaultTrafficPolicy.outlierDetection";
    Some((outlier_plan(block), Provenance::field(&mesh.key, &mesh.origin, field)))
}

fn outlier_plan(block: &OutlierDetection) -> OutlierPlan {
    let default = OutlierPlan::default();
    let percent = |p: i32| u32::try_from(p.clamp(0, 100)).unwrap_or(0);
    let codes = block.outlier_detection_http_error_codes.iter().filter_map(|c| u16::try_from(*c).ok());
    OutlierPlan {
        consecutive_5xx: block.consecutive_5xx_errors.unwrap_or(default.consecutive_5xx),
        consecutive_gateway: block.consecutive_gateway_errors.unwrap_or(0),
        split_local: block.split_external_local_origin_errors,
        consecutive_local: block.consecutive_local_origin_failures.unwrap_or(default.consecutive_local),
        interval: block.interval.map_or(default.interval, Into::into),
        base_ejection_time: block.base_ejection_time.map_or(default.base_ejection_time, Into::into),
        max_ejection_percent: match percent(block.max_ejection_percent) {
            0 => default.max_ejection_percent,
            p => p,
        },
        min_health_percent: percent(block.min_health_percent),
        error_codes: Some(codes.collect()).filter(|c: &BTreeSet<u16>| !c.is_empty()),
    }
}

/// A copy for hashing: where things were written does not count.
pub(super) fn without_origins(balancing: &Balancing) -> Balancing {
    Balancing { locality_origin: None, outlier_origin: None, ..balancing.clone() }
}

/// What became of a balancer's fields, where it decides.
pub(super) fn account(
    ledger: &mut Ledger<'_>,
    at: &str,
    settings: &LoadBalancerSettings,
    input: &ClusterInput<'_>,
    ejects: bool,
) {
    let LoadBalancerSettings {
        simple,
        consistent_hash,
        locality_lb_setting,
        zone_aware_lb_setting,
        warmup_duration_secs,
        warmup,
    } = settings;
    match consistent_hash {
        Some(hash) => {
            if simple.is_some() {
                ledger.overridden(&format!("{at}.simple"), "consistentHash");
            }
            account_hash(ledger, &format!("{at}.consistentHash"), hash, is_tcp(input));
        }
        None => {
            ledger.take(at, "simple", simple);
        }
    }
    let none = (!chooses(input, Some(settings)))
        .then_some("this destination has no endpoints to choose from: the client dials one");
    if let Some(because) = none {
        ledger.without_effect(at, "localityLbSetting", locality_lb_setting, because);
        ledger.without_effect(at, "zoneAwareLbSetting", zone_aware_lb_setting, because);
        ledger.without_effect(at, "warmup", warmup, because);
        ledger.without_effect(at, "warmupDurationSecs", warmup_duration_secs, because);
        return;
    }
    locality::account(ledger, at, settings, input, ejects);
    if !matches!(balancer(settings), Balancer::LeastRequest | Balancer::RoundRobin) {
        let because = "only ROUND_ROBIN and LEAST_REQUEST warm endpoints up";
        ledger.without_effect(at, "warmup", warmup, because);
        ledger.without_effect(at, "warmupDurationSecs", warmup_duration_secs, because);
        return;
    }
    match warmup {
        Some(WarmupConfiguration { duration, minimum_percent, aggression }) => {
            if warmup_duration_secs.is_some() {
                ledger.overridden(&format!("{at}.warmupDurationSecs"), "warmup");
            }
            let at = format!("{at}.warmup");
            ledger.consumed(&at);
            ledger.take(&at, "duration", duration);
            ledger.take(&at, "minimumPercent", minimum_percent);
            ledger.take(&at, "aggression", aggression);
        }
        None => {
            ledger.take(at, "warmupDurationSecs", warmup_duration_secs);
        }
    }
}

fn account_hash(ledger: &mut Ledger<'_>, at: &str, hash: &ConsistentHashLb, tcp: bool) {
    let ConsistentHashLb {
        http_header_name,
        http_cookie,
        use_source_ip,
        http_query_parameter_name,
        ring_hash,
        maglev,
        minimum_ring_size,
    } = hash;
    ledger.consumed(at);
    let key = key(hash, tcp);
    let because = match (tcp, &key) {
        (true, _) => "TCP has only useSourceIp",
        (false, None) => "it is no header name",
        (false, Some(_)) => "of several keys the first of httpHeaderName, httpCookie, useSourceIp counts",
    };
    match &key {
        Some(HashKey::Header(_)) => {
            ledger.take(at, "httpHeaderName", http_header_name);
        }
        _ => ledger.without_effect(at, "httpHeaderName", http_header_name, because),
    }
    match (&key, http_cookie) {
        (Some(HashKey::Cookie(_)), Some(cookie)) => account_cookie(ledger, &format!("{at}.httpCookie"), cookie),
        _ => ledger.without_effect(at, "httpCookie", http_cookie, because),
    }
    match (&key, use_source_ip) {
        (Some(HashKey::SourceIp) | None, _) | (Some(HashKey::Query(_)), Some(false)) => {
            ledger.take(at, "useSourceIp", use_source_ip);
        }
        _ => ledger.without_effect(at, "useSourceIp", use_source_ip, because),
    }
    match &key {
        Some(HashKey::Query(_)) => {
            ledger.take(at, "httpQueryParameterName", http_query_parameter_name);
        }
        _ => ledger.without_effect(at, "httpQueryParameterName", http_query_parameter_name, because),
    }
    match (maglev, ring_hash) {
        (Some(MagLev { table_size }), _) => {
            ledger.consumed(&format!("{at}.maglev"));
            ledger.take(&format!("{at}.maglev"), "tableSize", table_size);
            ledger.without_effect(at, "ringHash", ring_hash, "maglev is set, too");
            ledger.without_effect(at, "minimumRingSize", minimum_ring_size, "maglev has no ring");
        }
        (None, Some(RingHash { minimum_ring_size: size })) => {
            ledger.consumed(&format!("{at}.ringHash"));
            ledger.take(&format!("{at}.ringHash"), "minimumRingSize", size);
            if minimum_ring_size.is_some() {
                ledger.overridden(&format!("{at}.minimumRingSize"), "ringHash");
            }
        }
        (None, None) => {
            ledger.take(at, "minimumRingSize", minimum_ring_size);
        }
    }
}

fn account_cookie(ledger: &mut Ledger<'_>, at: &str, cookie: &HttpCookie) {
    let HttpCookie { name, path, ttl, attributes } = cookie;
    ledger.consumed(at);
    ledger.take(at, "name", name);
    ledger.take(at, "ttl", ttl);
    if ttl.is_none() {
        let because = "without ttl no cookie is made";
        ledger.without_effect(at, "path", path, because);
        ledger.without_effect(at, "attributes", attributes, because);
        return;
    }
    ledger.take(at, "path", path);
    for (i, attribute) in attributes.iter().enumerate() {
        let at = format!("{at}.attributes[{i}]");
        ledger.take(&at, "name", &attribute.name);
        ledger.take(&at, "value", &attribute.value);
    }
}

/// What became of an outlier block's fields, where it decides.
pub(in crate::compile) fn account_outlier(ledger: &mut Ledger<'_>, at: &str, block: &OutlierDetection) {
    let OutlierDetection {
        consecutive_errors,
        split_external_local_origin_errors,
        consecutive_local_origin_failures,
        consecutive_gateway_errors,
        consecutive_5xx_errors,
        interval,
        base_ejection_time,
        max_ejection_percent,
        min_health_percent,
        outlier_detection_http_error_codes,
    } = block;
    ledger.consumed(at);
    let deprecated = "it is deprecated and does nothing; write consecutive5xxErrors";
    ledger.without_effect(at, "consecutiveErrors", consecutive_errors, deprecated);
    ledger.take(at, "splitExternalLocalOriginErrors", split_external_local_origin_errors);
    match split_external_local_origin_errors {
        true => {
            ledger.take(at, "consecutiveLocalOriginFailures", consecutive_local_origin_failures);
        }
        false => ledger.without_effect(
            at,
            "consecutiveLocalOriginFailures",
            consecutive_local_origin_failures,
            "splitExternalLocalOriginErrors is not set",
        ),
    }
    let errors = consecutive_5xx_errors.unwrap_or(5);
    match consecutive_gateway_errors {
        Some(n) if errors > 0 && *n >= errors => ledger.inert(
            &format!("{at}.consecutiveGatewayErrors"),
            "consecutive5xxErrors, which counts gateway errors, too, is reached first",
        ),
        _ => {
            ledger.take(at, "consecutiveGatewayErrors", consecutive_gateway_errors);
        }
    }
    ledger.take(at, "consecutive5xxErrors", consecutive_5xx_errors);
    ledger.take(at, "interval", interval);
    ledger.take(at, "baseEjectionTime", base_ejection_time);
    ledger.take(at, "maxEjectionPercent", max_ejection_percent);
    ledger.take(at, "minHealthPercent", min_health_percent);
    ledger.take_list(at, "outlierDetectionHttpErrorCodes", outlier_detection_http_error_codes);
}

/// Whether the proxy chooses among endpoints under this balancer.
pub(super) fn chooses(input: &ClusterInput<'_>, balancer: Option<&LoadBalancerSettings>) -> bool {
    let passthrough = balancer.is_some_and(|b| b.consistent_hash.is_none() && b.simple == Some(SimpleLb::Passthrough));
    (!passthrough || input.gateway) && has_endpoints(&super::source(input, BTreeMap::new()))
}

/// Where a block was written.
fn origin(at: At<'_>, field: &str) -> Provenance {
    Provenance::field(&at.rule.key, &at.rule.origin, &format!("{}{field}", at.place.path()))
}

#[cfg(test)]
mod tests;
