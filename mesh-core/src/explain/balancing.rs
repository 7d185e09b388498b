//! How a cluster's endpoints are chosen, in words.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use crate::balance::{Host, Layout};
use crate::model::Health;
use crate::snapshot::{
    Balancer, Balancing, ClusterPlan, CookiePlan, Endpoint, FailoverPlan, HashKey, LocalityPlan, Near, OutlierPlan,
    Place, Warmup, ZoneAwarePlan,
};

/// The algorithm as users write it.
pub(super) fn balancer(balancer: Balancer) -> String {
    match balancer {
        Balancer::LeastRequest => "LEAST_REQUEST".into(),
        Balancer::RoundRobin => "ROUND_ROBIN".into(),
        Balancer::Random => "RANDOM".into(),
        Balancer::RingHash(size) => format!("ring hash, {size} points or more"),
        Balancer::Maglev(size) => format!("Maglev, table of {size}"),
    }
}

pub(super) fn hash_key(key: &HashKey) -> String {
    match key {
        HashKey::Header(name) => format!("by header {name}; any endpoint without it"),
        HashKey::Cookie(CookiePlan { name, attributes: None }) => format!("by cookie {name}; any endpoint without it"),
        HashKey::Cookie(CookiePlan { name, attributes: Some(rest) }) => {
            format!("by cookie {name}; a client without it gets one{rest}")
        }
        HashKey::SourceIp => "by the client's address".into(),
        HashKey::Query(name) => format!("by query parameter {name}; any endpoint without it"),
    }
}

pub(super) fn warmup(warmup: Warmup) -> String {
    let Warmup { duration, minimum, aggression } = warmup;
    let shape =
        if (aggression - 1.0).abs() < f64::EPSILON { String::new() } else { format!(", aggression {aggression}") };
    format!(
        "new endpoints start at {:.0}% of their share and have all of it after {duration:?}{shape}",
        minimum * 100.0
    )
}

pub(super) fn locality(plan: &LocalityPlan) -> Option<String> {
    match plan {
        LocalityPlan::Ignored => None,
        LocalityPlan::Distribute(shares) => {
            let shares: Vec<_> = shares.iter().map(|(to, percent)| format!("{percent}% to {to}")).collect();
            Some(format!("distribute {}, nothing elsewhere", shares.join(", ")))
        }
        LocalityPlan::Failover(plan) => Some(failover(plan)),
        LocalityPlan::ZoneAware(ZoneAwarePlan { failover: plan, client, peers: _, min_cluster_size }) => {
            Some(format!("zone-aware from {}, from {min_cluster_size} endpoints on; {}", place(client), failover(plan)))
        }
    }
}

fn place(place: &Place) -> String {
    let Place { region, zone, subzone } = place;
    let text = format!("{region}/{zone}/{subzone}");
    match text.trim_end_matches('/') {
        "" => "an unknown locality".into(),
        text => text.into(),
    }
}

fn failover(plan: &FailoverPlan) -> String {
    let FailoverPlan { labels, near } = plan;
    let labels = (!labels.is_empty()).then(|| {
        let all: Vec<_> = labels.iter().map(|(l, v)| format!("{l}={}", v.as_deref().unwrap_or("(none)"))).collect();
        format!("failover by {}", all.join(", "))
    });
    let near = near.as_ref().map(|Near { client, to, regions_only }| {
        let what = if *regions_only { "same region first" } else { "nearest first" };
        let then = to.as_ref().map_or(String::new(), |to| format!(", then region {to}"));
        format!("{what}, seen from {}{then}", place(client))
    });
    labels.into_iter().chain(near).collect::<Vec<_>>().join("; ")
}

pub(super) fn outlier(plan: &OutlierPlan) -> String {
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
    let errors = match error_codes {
        None => "5xx".to_owned(),
        Some(codes) => codes.iter().map(u16::to_string).collect::<Vec<_>>().join("/"),
    };
    let counts = [
        (*consecutive_5xx > 0).then(|| format!("{consecutive_5xx} {errors} in a row")),
        (*consecutive_gateway > 0).then(|| format!("{consecutive_gateway} gateway errors in a row")),
        (*split_local && *consecutive_local > 0)
            .then(|| format!("{consecutive_local} failures in a row to reach it, counted apart")),
    ];
    let counts: Vec<_> = counts.into_iter().flatten().collect();
    let counts = if counts.is_empty() { "never".to_owned() } else { format!("after {}", counts.join(", or ")) };
    let panic = match min_health_percent {
        0 => String::new(),
        p => format!("; below {p}% healthy all are used"),
    };
    format!(
        "ejects {counts}, for {base_ejection_time:?} or more, at most {max_ejection_percent}% of the endpoints, checked \
         every {interval:?}{panic}"
    )
}

/// Whether balancing needs lines of its own.
pub(super) fn lines(balancing: &Balancing) -> [(&'static str, Option<String>); 3] {
    [
        ("consistentHash", balancing.hash_key.as_ref().map(hash_key)),
        ("warmup", balancing.warmup.map(warmup)),
        ("locality", locality(&balancing.locality)),
    ]
}

/// An endpoint that nothing has been sent to yet.
struct Fresh {
    endpoint: Endpoint,
    turn: AtomicU64,
}

impl Host for Fresh {
    fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    fn active(&self) -> u32 {
        0
    }

    fn turn(&self) -> &AtomicU64 {
        &self.turn
    }

    fn is_ejected(&self) -> bool {
        false
    }

    fn joined(&self) -> Duration {
        Duration::ZERO
    }
}

/// An endpoint that could be used.
pub(super) struct Usable {
    pub(super) text: String,
    /// Its locality is not left out.
    pub(super) gets: bool,
    pub(super) endpoint: Endpoint,
}

/// Healthy endpoints, those that get most first, each in words; the layout is the proxy's own.
pub(super) fn endpoints(plan: &ClusterPlan, all: &[Endpoint]) -> Vec<Usable> {
    let fresh = |e: &Endpoint| Arc::new(Fresh { endpoint: e.clone(), turn: AtomicU64::new(0) });
    let hosts: Vec<_> = all.iter().map(fresh).collect();
    let layout = Layout::build(&hosts, plan.balancer, &plan.balancing, 0);
    let healthy = all.iter().filter(|e| e.health == Health::Healthy);
    let mut out: Vec<_> = healthy.map(|e| (layout.standing(&e.address), e)).collect();
    out.sort_by(|(a, _), (b, _)| b.map_or(-1.0, |s| s.share).total_cmp(&a.map_or(-1.0, |s| s.share)));
    let same = out.iter().all(|(s, _)| {
        let (first, this) = (out[0].0.map(|s| s.share), s.map(|s| s.share));
        matches!((first, this), (Some(a), Some(b)) if (a - b).abs() < 0.01)
    });
    let words = |(standing, e): (Option<crate::balance::Standing>, &Endpoint)| {
        let name = format!("{} {}", e.address, e.workload.name);
        let text = match standing {
            _ if same => name,
            None => {
                format!("{name}, gets nothing: distribute leaves out {}", place(&Place::parse(&e.workload.locality)))
            }
            Some(s) if s.priority > 0 => format!("{name}, {:.1}%, priority {}", s.share, s.priority),
            Some(s) => format!("{name}, {:.1}%", s.share),
        };
        Usable { text, gets: standing.is_some(), endpoint: e.clone() }
    };
    out.into_iter().map(words).collect()
}
