//! `meshctl certs`: identities, chains and expiry of the mesh's certificates, out of the proxies themselves.

use serde_json::{Value, json};

use super::Outcome;
use super::admin;
use super::client::{ask, block_on};
use super::table::{Output, Table};
use crate::control::status::{MeshStatus, WorkloadStatus};
use crate::control::{CaStatus, Request};

/// Arguments of `certs`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// `NAME[.NAMESPACE]` of Deployments or Pods; none: all that have a proxy.
    workloads: Vec<String>,
    /// First begin to replace the mesh's root by one with another key. Nothing is interrupted: the new root is trusted for
    /// the life of a certificate before it signs, and the old one for as long after that.
    #[arg(long)]
    rotate_root: bool,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(mesh: &str, args: &Args) -> Outcome {
    let ca: CaStatus = ask(mesh, &Request::Certs { rotate_root: args.rotate_root })?;
    let status: MeshStatus = ask(mesh, &Request::Status)?;
    let with_proxy = status.workloads.iter().filter(|w| w.proxy != "none");
    let names: Vec<String> = match args.workloads.is_empty() {
        true => with_proxy.map(WorkloadStatus::name).collect(),
        false => args.workloads.clone(),
    };
    let proxies = block_on(async {
        let mut all = Vec::new();
        for name in names {
            let certs = admin::json(mesh, &name, "/certs").await?;
            all.push((name, certs));
        }
        Ok(all)
    })?;
    if args.output == Output::Json {
        let workloads = proxies.iter().map(|(name, certs)| json!({ "workload": name, "proxy": certs }));
        return super::print_json(&json!({ "ca": ca, "workloads": workloads.collect::<Vec<_>>() }));
    }
    super::print(&text(&ca, &proxies));
    Ok(0)
}

fn text(ca: &CaStatus, proxies: &[(String, Value)]) -> String {
    let mut roots = Table::new(["ROOT", "SERIAL", "EXPIRES", "SIGNS"]);
    for root in &ca.roots {
        let signs = if root.signs { "yes" } else { "no" };
        roots.row(vec![root.subject.clone(), root.serial.clone(), root.not_after.clone(), signs.into()]);
    }
    let mut table = Table::new(["WORKLOAD", "IDENTITY", "SERIAL", "EXPIRES", "RENEWED AT", "PROBLEM"]);
    for (name, certs) in proxies {
        table.row(row(name, certs));
    }
    format!("rotation: {}\n{}\n{}", ca.rotation, roots.text(), table.text())
}

fn row(name: &str, certs: &Value) -> Vec<String> {
    let leaf = &certs["certificates"][0]["cert_chain"][0];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let problem = match (certs["renewal"].is_null(), certs["renewal"]["lastError"].as_str()) {
        (true, _) => "it has no identity".to_owned(),
        (false, Some(error)) => error.to_owned(),
        (false, None) => String::new(),
    };
    vec![
        name.to_owned(),
        text(&leaf["subject_alt_names"][0]["uri"]),
        text(&leaf["serial_number"]),
        text(&leaf["expiration_time"]),
        text(&certs["renewal"]["renewAt"]),
        problem,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::RootStatus;

    #[test]
    fn each_workload_with_its_identity_or_its_problem() {
        let root = RootStatus {
            subject: "O=cluster.local".into(),
            serial: "01".into(),
            not_after: "2036".into(),
            signs: true,
        };
        let ca = CaStatus { rotation: "stable".into(), roots: vec![root] };
        let good = json!({
            "certificates": [{ "ca_cert": [], "cert_chain": [{
                "subject_alt_names": [{ "uri": "spiffe://cluster.local/ns/default/sa/a" }],
                "serial_number": "7f", "expiration_time": "2026-11-28T10:00:00Z",
            }] }],
            "renewal": { "lastError": null, "renewAt": "2026-11-27T22:00:00Z" },
        });
        let failed =
            json!({ "certificates": [], "renewal": { "lastError": "the CA can't be reached: x", "renewAt": null } });
        let none = json!({ "certificates": [], "renewal": null });
        let shown = text(&ca, &[("a".into(), good), ("b".into(), failed), ("c".into(), none)]);
        let lines: Vec<Vec<&str>> =
            shown.lines().map(|l| l.split("  ").map(str::trim).filter(|c| !c.is_empty()).collect()).collect();
        assert_eq!(lines[0], ["rotation: stable"]);
        assert_eq!(lines[2], ["O=cluster.local", "01", "2036", "yes"]);
        assert_eq!(
            lines[5],
            ["a", "spiffe://cluster.local/ns/default/sa/a", "7f", "2026-11-28T10:00:00Z", "2026-11-27T22:00:00Z"]
        );
        assert_eq!(lines[6], ["b", "the CA can't be reached: x"]);
        assert_eq!(lines[7], ["c", "it has no identity"]);
    }
}
