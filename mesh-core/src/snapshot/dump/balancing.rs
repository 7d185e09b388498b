//! Balancing of a cluster as JSON.

use serde_json::{Value, json};

use super::{duration, provenance};
use crate::snapshot::{
    Balancer, Balancing, CookiePlan, FailoverPlan, HashKey, LocalityPlan, Near, OutlierPlan, Place, Warmup,
    ZoneAwarePlan,
};

pub(super) fn json(balancer: Balancer, balancing: &Balancing) -> Value {
    let Balancing { hash_key, warmup, locality, locality_origin, outlier, outlier_origin } = balancing;
    let algorithm = match balancer {
        Balancer::LeastRequest => json!("LEAST_REQUEST"),
        Balancer::RoundRobin => json!("ROUND_ROBIN"),
        Balancer::Random => json!("RANDOM"),
        Balancer::RingHash(size) => json!({ "ringHash": { "minimumRingSize": size } }),
        Balancer::Maglev(size) => json!({ "maglev": { "tableSize": size } }),
    };
    json!({
        "algorithm": algorithm,
        "hashKey": hash_key.as_ref().map(key),
        "warmup": warmup.map(|Warmup { duration: time, minimum, aggression }| json!({
            "duration": duration(Some(time)), "minimum": minimum, "aggression": aggression,
        })),
        "locality": locality_json(locality),
        "localityOrigin": locality_origin.as_ref().map(provenance),
        "outlierDetection": outlier.as_ref().map(outlier_json),
        "outlierDetectionOrigin": outlier_origin.as_ref().map(provenance),
    })
}

fn key(key: &HashKey) -> Value {
    match key {
        HashKey::Header(name) => json!({ "httpHeaderName": name.as_str() }),
        HashKey::Cookie(CookiePlan { name, attributes }) => {
            json!({ "httpCookie": { "name": name, "attributes": attributes } })
        }
        HashKey::SourceIp => json!({ "useSourceIp": true }),
        HashKey::Query(name) => json!({ "httpQueryParameterName": name }),
    }
}

fn place(place: &Place) -> String {
    let Place { region, zone, subzone } = place;
    format!("{region}/{zone}/{subzone}").trim_end_matches('/').to_owned()
}

fn locality_json(plan: &LocalityPlan) -> Value {
    match plan {
        LocalityPlan::Ignored => Value::Null,
        LocalityPlan::Distribute(shares) => {
            let shares: Vec<_> = shares.iter().map(|(to, percent)| json!({ "to": to, "percent": percent })).collect();
            json!({ "distribute": shares })
        }
        LocalityPlan::Failover(plan) => json!({ "failover": failover(plan) }),
        LocalityPlan::ZoneAware(ZoneAwarePlan { failover: plan, client, peers, min_cluster_size }) => {
            let peers: Vec<_> = peers.iter().map(|(at, n)| json!({ "locality": place(at), "instances": n })).collect();
            json!({ "zoneAware": {
                "failover": failover(plan),
                "client": place(client),
                "peers": peers,
                "minClusterSize": min_cluster_size,
            }})
        }
    }
}

fn failover(plan: &FailoverPlan) -> Value {
    let FailoverPlan { labels, near } = plan;
    let labels: Vec<_> = labels.iter().map(|(label, value)| json!({ "label": label, "value": value })).collect();
    let near = near.as_ref().map(
        |Near { client, to, regions_only }| json!({ "client": place(client), "to": to, "regionsOnly": regions_only }),
    );
    json!({ "labels": labels, "near": near })
}

fn outlier_json(plan: &OutlierPlan) -> Value {
    let OutlierPlan {
        consecutive_5xx,
        consecutive_gateway,
        split_local,
        consecutive_local,
        interval,
        base_ejection_time,
        max_ejection_percent,
        min_health_percent,
        error_codes,
    } = plan;
    json!({
        "consecutive5xxErrors": consecutive_5xx,
        "consecutiveGatewayErrors": consecutive_gateway,
        "splitExternalLocalOriginErrors": split_local,
        "consecutiveLocalOriginFailures": consecutive_local,
        "interval": duration(Some(*interval)),
        "baseEjectionTime": duration(Some(*base_ejection_time)),
        "maxEjectionPercent": max_ejection_percent,
        "minHealthPercent": min_health_percent,
        "outlierDetectionHttpErrorCodes": error_codes,
    })
}
