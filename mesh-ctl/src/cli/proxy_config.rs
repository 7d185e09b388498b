//! `meshctl proxy-config`: what a running proxy has in force, out of its own config dump, as istioctl's tables.

use serde_json::Value;

use super::client::block_on;
use super::table::Table;
use super::{Outcome, admin};

/// Arguments of `proxy-config`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Which part.
    #[arg(value_enum)]
    part: Part,
    /// `NAME[.NAMESPACE]` of a Deployment or Pod.
    workload: String,
    /// Only rows that contain this.
    #[arg(long, value_name = "TEXT", default_value = "")]
    grep: String,
    /// A table, or that part of the dump.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Destinations.
    #[value(alias = "cluster", alias = "c")]
    Clusters,
    /// Addresses and ports.
    #[value(alias = "listener", alias = "l")]
    Listeners,
    /// Rules by host.
    #[value(alias = "route", alias = "r")]
    Routes,
    /// Instances of each destination.
    #[value(alias = "endpoint", alias = "ep")]
    Endpoints,
    /// The whole dump; always JSON.
    All,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    #[default]
    #[value(alias = "text")]
    Short,
    Json,
}

pub(super) fn run(mesh: &str, args: &Args) -> Outcome {
    let dump = block_on(admin::json(mesh, &args.workload, "/config_dump"))?;
    if args.output == Output::Json || args.part == Part::All {
        return super::print_json(&part(&dump, args.part));
    }
    super::print(&table(&dump, args.part, &args.grep).text());
    Ok(0)
}

fn part(dump: &Value, part: Part) -> Value {
    match part {
        Part::Clusters => dump["clusters"].clone(),
        Part::Listeners => dump["listeners"].clone(),
        Part::Endpoints => dump["endpoints"].clone(),
        Part::All => dump.clone(),
        Part::Routes => {
            let tables = list(&dump["listeners"]).filter_map(|l| l.pointer("/http/routes"));
            Value::Array(tables.cloned().collect())
        }
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// A string, or the JSON of anything else; empty for null.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(s) => s.clone(),
        other => other.to_string(),
    }
}

/// Who made it: `VirtualService default/reviews`, with file and line where it came from a file.
fn origin(value: &Value) -> String {
    let (object, location) = (text(&value["object"]), text(&value["location"]));
    match (object.is_empty(), location.is_empty()) {
        (true, _) => text(&value["field"]),
        (false, true) => object,
        (false, false) => format!("{object} ({location})"),
    }
}

fn table(dump: &Value, part: Part, grep: &str) -> Table {
    let (header, rows) = match part {
        Part::Clusters => clusters(dump),
        Part::Listeners => listeners(dump),
        Part::Routes => routes(dump),
        Part::Endpoints | Part::All => endpoints(dump),
    };
    let mut table = Table::with_header(header.iter().map(|h| (*h).to_owned()).collect());
    for row in rows.into_iter().filter(|r| r.iter().any(|c| c.contains(grep))) {
        table.row(row);
    }
    table
}

type Rows = (&'static [&'static str], Vec<Vec<String>>);

fn clusters(dump: &Value) -> Rows {
    let rows = list(&dump["clusters"]).map(|c| {
        let name = text(&c["name"]);
        let parts: Vec<&str> = name.split('|').collect();
        let (direction, port, subset, host) = match parts[..] {
            [direction, port, subset, host] => (direction, port, if subset.is_empty() { "-" } else { subset }, host),
            _ => ("-", "-", "-", name.as_str()),
        };
        let source = text(&c["source"]);
        let kind = source.split([' ', '{']).next().unwrap_or_default().to_owned();
        vec![host.to_owned(), port.into(), subset.into(), direction.into(), kind, origin(&c["policyOrigin"])]
    });
    (&["SERVICE FQDN", "PORT", "SUBSET", "DIRECTION", "TYPE", "DECIDED BY"], rows.collect())
}

fn listeners(dump: &Value) -> Rows {
    let rows = list(&dump["listeners"]).map(|l| {
        let address = if l["address"].is_null() { "0.0.0.0".to_owned() } else { text(&l["address"]) };
        let to = match (&l["http"], list(&l["l4"]).next().or(Some(&l["fallback"]))) {
            (Value::Object(http), _) => format!("Route: {}", text(&http["routes"]["name"])),
            (_, Some(tcp)) => {
                let plan = if tcp["tcp"].is_object() { &tcp["tcp"] } else { tcp };
                let clusters = list(&plan["clusters"]).map(|c| text(&c["cluster"]));
                format!("Cluster: {}", clusters.collect::<Vec<_>>().join(", "))
            }
            _ => String::new(),
        };
        vec![address, text(&l["port"]), text(&l["direction"]), to, origin(&l["origin"])]
    });
    (&["ADDRESS", "PORT", "DIRECTION", "DESTINATION", "DECIDED BY"], rows.collect())
}

fn routes(dump: &Value) -> Rows {
    let mut rows = Vec::new();
    for l in list(&dump["listeners"]) {
        let routes = &l["http"]["routes"];
        for host in list(&routes["virtualHosts"]) {
            let domains = list(&host["domains"]).map(text).collect::<Vec<_>>();
            let shown = match domains.len() {
                0..=2 => domains.join(", "),
                n => format!("{}, {} + {} more", domains[0], domains[1], n - 2),
            };
            for r in list(&host["routes"]) {
                rows.push(vec![
                    text(&routes["name"]),
                    text(&host["name"]),
                    shown.clone(),
                    text(&r["name"]),
                    origin(&r["origin"]),
                ]);
            }
        }
    }
    (&["NAME", "VHOST NAME", "DOMAINS", "ROUTE", "DECIDED BY"], rows)
}

fn endpoints(dump: &Value) -> Rows {
    let mut rows = Vec::new();
    for (cluster, all) in dump["endpoints"].as_object().into_iter().flatten() {
        for e in list(all) {
            let health = text(&e["health"]).to_uppercase();
            rows.push(vec![text(&e["address"]), health, text(&e["weight"]), cluster.clone(), text(&e["workload"])]);
        }
    }
    (&["ENDPOINT", "STATUS", "WEIGHT", "CLUSTER", "WORKLOAD"], rows)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tables_of_a_dump() {
        let by = json!({"object": "VirtualService default/reviews", "field": "spec.http[0]", "location": "r.yaml:7"});
        let dump = json!({
            "clusters": [
                {"name": "outbound|9080|v1|reviews.default.svc.cluster.local", "source": "Service { x }", "policyOrigin": {"field": "default"}},
                {"name": "PassthroughCluster", "source": "OriginalDst", "policyOrigin": {"field": "default"}}
            ],
            "listeners": [{"address": null, "port": 9080, "direction": "outbound", "origin": {"field": "x"},
                "http": {"routes": {"name": "9080", "virtualHosts": [
                    {"name": "reviews:9080", "domains": ["a", "b", "c"], "routes": [{"name": "quentin", "origin": by}]}]}}}],
            "endpoints": {"outbound|9080||reviews": [{"address": "10.0.0.1:9080", "health": "healthy", "weight": 1, "workload": "w"}]},
        });
        let show = |part, grep| table(&dump, part, grep).text();
        assert!(
            show(Part::Clusters, "").contains("reviews.default.svc.cluster.local   9080   v1"),
            "{}",
            show(Part::Clusters, "")
        );
        assert_eq!(show(Part::Clusters, "Passthrough").lines().count(), 2);
        assert!(
            show(Part::Listeners, "").contains("0.0.0.0   9080   outbound    Route: 9080"),
            "{}",
            show(Part::Listeners, "")
        );
        assert!(
            show(Part::Routes, "").contains("a, b + 1 more   quentin   VirtualService default/reviews (r.yaml:7)"),
            "{}",
            show(Part::Routes, "")
        );
        assert!(show(Part::Endpoints, "").contains("10.0.0.1:9080   HEALTHY   1"), "{}", show(Part::Endpoints, ""));
        assert_eq!(part(&dump, Part::Routes)[0]["name"], "9080");
    }
}
