//! `meshctl mtls`: who speaks to whom with mutual TLS, who still in plaintext, and when last: which workloads could take
//! mutual TLS only. Out of the proxies themselves.

use serde_json::{Value, json};

use super::Outcome;
use super::admin;
use super::client::{ask, block_on};
use super::table::{Output, Table};
use crate::control::Request;
use crate::control::status::{MeshStatus, WorkloadStatus};

/// Arguments of `mtls`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// `NAME[.NAMESPACE]` of Deployments or Pods; none: all that have a sidecar.
    workloads: Vec<String>,
    /// Only what is plaintext.
    #[arg(long)]
    plaintext: bool,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// What connected to a workload.
struct Server {
    name: String,
    peers: Vec<Value>,
}

impl Server {
    /// Nobody would be refused whom it has served.
    fn is_ready(&self) -> bool {
        self.peers.iter().all(|p| is_mutual(p) || p["connections"] == 0)
    }
}

fn is_mutual(peer: &Value) -> bool {
    !peer["principal"].is_null()
}

pub(super) fn run(mesh: &str, args: &Args) -> Outcome {
    let status: MeshStatus = ask(mesh, &Request::Status)?;
    let with_sidecar = status.workloads.iter().filter(|w| w.proxy == "sidecar");
    let names: Vec<String> = match args.workloads.is_empty() {
        true => with_sidecar.map(WorkloadStatus::name).collect(),
        false => args.workloads.clone(),
    };
    let servers = block_on(async {
        let mut all = Vec::new();
        for name in names {
            let Value::Array(mut peers) = admin::json(mesh, &name, "/peers").await? else {
                return Err(format!("{name}'s proxy answers /peers with something else than a list"));
            };
            for peer in &mut peers {
                peer["client"] = client(peer, &status.workloads).into();
            }
            all.push(Server { name, peers });
        }
        Ok(all)
    })?;
    if args.output == Output::Json {
        let all = servers.iter().map(|s| json!({ "workload": s.name, "strict": s.is_ready(), "peers": s.peers }));
        return super::print_json(&all.collect::<Vec<_>>());
    }
    super::print(&text(&servers, args.plaintext));
    Ok(0)
}

/// Who a peer is: by its certificate, else by its address.
fn client(peer: &Value, workloads: &[WorkloadStatus]) -> String {
    if let Some(principal) = peer["principal"].as_str() {
        return principal.to_owned();
    }
    let address = peer["address"].as_str().unwrap_or_default();
    let by_address = workloads.iter().find(|w| w.ip == address).map(WorkloadStatus::name);
    by_address.unwrap_or_else(|| "outside the mesh".to_owned())
}

fn text(servers: &[Server], plaintext: bool) -> String {
    let mut table =
        Table::new(["WORKLOAD", "PORT", "MODE", "SPEAKS", "CLIENT", "ADDRESS", "LET IN", "REFUSED", "LAST SEEN"]);
    for server in servers {
        for peer in server.peers.iter().filter(|p| !plaintext || !is_mutual(p)) {
            let value = |name: &str| match &peer[name] {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            let speaks = if is_mutual(peer) { "mutual TLS" } else { "plaintext" };
            let mode = peer["mode"].as_str().unwrap_or("-").to_owned();
            let [port, client, address] = ["port", "client", "address"].map(value);
            let [let_in, refused, seen] = ["connections", "refused", "lastSeen"].map(value);
            table.row(vec![server.name.clone(), port, mode, speaks.into(), client, address, let_in, refused, seen]);
        }
    }
    let (ready, not): (Vec<_>, Vec<_>) = servers.iter().partition(|s| s.is_ready());
    let list = |all: &[&Server]| match all {
        [] => "none".to_owned(),
        all => all.iter().map(|s| &*s.name).collect::<Vec<_>>().join(", "),
    };
    format!(
        "{}\nserved nobody in plaintext: {}\nwould refuse somebody under STRICT: {}\n",
        table.text(),
        list(&ready),
        list(&not)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(address: &str, principal: Option<&str>, connections: u64, refused: u64) -> Value {
        json!({
            "port": 9080, "mode": "PERMISSIVE", "address": address, "principal": principal,
            "connections": connections, "open": 0, "refused": refused, "lastSeen": "2026-11-27T22:00:00Z",
        })
    }

    #[test]
    fn who_would_be_refused() {
        let id = "spiffe://cluster.local/ns/default/sa/a";
        let known = WorkloadStatus {
            pod: "sleep-1".into(),
            namespace: "default".into(),
            ip: "10.0.0.9".into(),
            ..WorkloadStatus::default()
        };
        let server = |name: &str, mut peers: Vec<Value>| {
            for p in &mut peers {
                p["client"] = client(p, std::slice::from_ref(&known)).into();
            }
            Server { name: name.into(), peers }
        };
        let servers = [
            server("a.default", vec![peer("10.0.0.2", Some(id), 3, 0), peer("10.0.0.9", None, 1, 0)]),
            server("b.default", vec![peer("10.0.0.2", Some(id), 3, 0), peer("192.0.2.1", None, 0, 2)]),
            server("c.default", vec![]),
        ];
        let shown = text(&servers, false);
        let row = |n: usize| -> Vec<&str> {
            shown.lines().nth(n).unwrap().split("  ").map(str::trim).filter(|c| !c.is_empty()).collect()
        };
        let time = "2026-11-27T22:00:00Z";
        assert_eq!(row(1), ["a.default", "9080", "PERMISSIVE", "mutual TLS", id, "10.0.0.2", "3", "0", time]);
        assert_eq!(row(2)[3..6], ["plaintext", "sleep-1.default", "10.0.0.9"]);
        assert_eq!(row(4)[3..8], ["plaintext", "outside the mesh", "192.0.2.1", "0", "2"]);
        assert!(shown.ends_with(
            "served nobody in plaintext: b.default, c.default\nwould refuse somebody under STRICT: a.default\n"
        ));
        assert_eq!(text(&servers, true).lines().filter(|l| l.contains("mutual TLS")).count(), 0);
    }
}
