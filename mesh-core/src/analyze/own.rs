//! What Istio's analyzers do not say.

use std::collections::{BTreeMap, BTreeSet};

use super::index::{DOMAIN, Index, full_name, go_list};
use super::messages::{MERGED, NEVER, NO_SERVICE, SHORT_HOST, SMALL_PERCENTAGE, WEIGHTS};
use crate::api::{Object, VirtualService};
use crate::matching::HostPattern;
use crate::report::Report;
use crate::scope::gateway_name;
use crate::world::full_host;

/// Short host names at gateways: they are completed, and then no request from outside has them.
pub(super) fn short_hosts(index: &Index<'_>) -> Vec<Report> {
    let mut found = Vec::new();
    for o in &index.virtual_services {
        if !o.spec.gateways.iter().any(|g| g != "mesh") {
            continue;
        }
        for (i, host) in o.spec.hosts.iter().enumerate() {
            let full = full_host(host, &o.key.namespace, DOMAIN);
            if *full == *host.to_ascii_lowercase() {
                continue;
            }
            let text = format!(
                "host {host:?} on a gateway stands for {full}; requests from outside that come with another Host get 404"
            );
            let report = SHORT_HOST.report((&o.key, &o.origin), &format!("spec.hosts[{i}]"), text);
            found
                .push(report.fix(format!("write the name that clients send, as {host}.example.com, or \"*\" for any")));
        }
    }
    found
}

/// Weights that are not percentages, and what they amount to.
pub(super) fn weights(index: &Index<'_>) -> Vec<Report> {
    let mut found = Vec::new();
    for o in &index.virtual_services {
        let http = o.spec.http.iter().map(|r| r.route.iter().map(|d| d.weight).collect());
        let tls = o.spec.tls.iter().map(|r| r.route.iter().map(|d| d.weight).collect());
        let tcp = o.spec.tcp.iter().map(|r| r.route.iter().map(|d| d.weight).collect());
        let lists: [(&str, Vec<Vec<i32>>); 3] =
            [("http", http.collect()), ("tls", tls.collect()), ("tcp", tcp.collect())];
        for (list, routes) in lists {
            for (i, weights) in routes.iter().enumerate().filter(|(_, w)| w.len() > 1) {
                let sum: i64 = weights.iter().map(|w| i64::from(*w)).sum();
                if sum == 100 || sum <= 0 {
                    continue;
                }
                let shares = weights.iter().map(|w| format!("{:.1}%", f64::from(*w) * 100.0 / sum as f64));
                let text = format!("weights sum to {sum}; the shares are {}", go_list(shares));
                found.push(WEIGHTS.report((&o.key, &o.origin), &format!("spec.{list}[{i}].route"), text));
            }
        }
    }
    found
}

/// Faults without a percentage.
pub(super) fn faults(index: &Index<'_>) -> Vec<Report> {
    let mut found = Vec::new();
    for o in &index.virtual_services {
        for (i, fault) in o.spec.http.iter().enumerate().filter_map(|(i, r)| Some((i, r.fault.as_ref()?))) {
            let delay = fault.delay.as_ref().filter(|d| d.percentage.is_none() && d.percent == 0).map(|_| "delay");
            let abort = fault.abort.as_ref().filter(|a| a.percentage.is_none()).map(|_| "abort");
            for what in [delay, abort].into_iter().flatten() {
                let text = format!("fault.{what} has no percentage, so it never happens");
                let report = NEVER.report((&o.key, &o.origin), &format!("spec.http[{i}].fault.{what}"), text);
                found.push(report.fix("write percentage: {value: 100} for every request"));
            }
        }
    }
    found
}

/// Several VirtualServices for one host at one gateway: Istio merges them, oldest first.
pub(super) fn merged(index: &Index<'_>) -> Vec<Report> {
    let mut by_host: BTreeMap<_, Vec<&Object<VirtualService>>> = BTreeMap::new();
    for o in &index.virtual_services {
        let gateways: BTreeSet<_> =
            o.spec.gateways.iter().filter(|g| *g != "mesh").map(|g| gateway_name(g, &o.key.namespace)).collect();
        for h in &o.spec.hosts {
            let host = HostPattern::parse(&full_host(h, &o.key.namespace, DOMAIN));
            for g in &gateways {
                by_host.entry((*g, host.clone())).or_default().push(o);
            }
        }
    }
    let mut found = Vec::new();
    for (((namespace, name), _), all) in by_host.iter().filter(|(_, a)| a.len() > 1) {
        let names: Vec<String> = all.iter().map(|o| full_name(o)).collect();
        for o in all {
            let text = format!(
                "VirtualServices {} are for one host at gateway {namespace}/{name}; their rules are merged, oldest object first",
                go_list(&names)
            );
            found.push(MERGED.report((&o.key, &o.origin), "spec.hosts", text));
        }
    }
    found
}

/// `percentage: {value: 0.5}` is half a percent.
pub(super) fn percentages(index: &Index<'_>) -> Vec<Report> {
    let mut found = Vec::new();
    for o in &index.virtual_services {
        for (i, rule) in o.spec.http.iter().enumerate() {
            let delay = rule.fault.as_ref().and_then(|f| f.delay.as_ref()?.percentage.as_ref());
            let abort = rule.fault.as_ref().and_then(|f| f.abort.as_ref()?.percentage.as_ref());
            let mut all = vec![
                ("fault.delay.percentage".to_owned(), delay),
                ("fault.abort.percentage".to_owned(), abort),
                ("mirrorPercentage".to_owned(), rule.mirror_percentage.as_ref()),
            ];
            let mirrors = rule.mirrors.iter().enumerate();
            all.extend(mirrors.map(|(m, x)| (format!("mirrors[{m}].percentage"), x.percentage.as_ref())));
            for (field, value) in all.into_iter().filter_map(|(f, p)| Some((f, p?.value))) {
                if value > 0.0 && value < 1.0 {
                    let text = format!(
                        "{field}.value {value} is {value} percent of the requests, not {} percent",
                        value * 100.0
                    );
                    let field = format!("spec.http[{i}].{field}.value");
                    let report = SMALL_PERCENTAGE.report((&o.key, &o.origin), &field, text);
                    found.push(report.fix(format!("write {} if that is what is meant", value * 100.0)));
                }
            }
        }
    }
    found
}

/// Hosts of the mesh that no Service and no ServiceEntry has: they are served on port 80 only.
pub(super) fn unknown_hosts(index: &Index<'_>) -> Vec<Report> {
    let mut found = Vec::new();
    let in_mesh =
        |o: &Object<VirtualService>| o.spec.gateways.is_empty() || o.spec.gateways.iter().any(|g| g == "mesh");
    for o in index.virtual_services.iter().filter(|o| in_mesh(o)) {
        for (i, host) in o.spec.hosts.iter().enumerate() {
            let known = || index.host(host, &o.key.namespace, &[&o.key.namespace]).is_some();
            if host.contains('*') || host.parse::<std::net::IpAddr>().is_ok() || known() {
                continue;
            }
            let full = full_host(host, &o.key.namespace, DOMAIN);
            let text =
                format!("no Service or ServiceEntry has the host {full}; in the mesh its rules hold on port 80 only");
            let report = NO_SERVICE.report((&o.key, &o.origin), &format!("spec.hosts[{i}]"), text);
            let short = *full != *host.to_ascii_lowercase();
            found.push(report.fix(match short {
                true => format!("{host} stands for {full}; write the full name if the service is in another namespace"),
                false => "write a ServiceEntry for it, or gateways: if it is meant for one only".to_owned(),
            }));
        }
    }
    found
}
