//! `meshctl status`.

use super::Outcome;
use super::client::ask;
use super::table::{Output, Table};
use crate::control::Request;
use crate::control::status::{MeshStatus, WorkloadStatus};

/// Arguments of `status`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    /// Wait until every workload is ready (or can't become so), at most this many seconds.
    #[arg(long, value_name = "SECONDS")]
    wait: Option<u64>,
}

pub(super) fn run(mesh: &str, args: &Args) -> Outcome {
    let request = match args.wait {
        Some(seconds) => Request::Wait { timeout_ms: seconds.saturating_mul(1000) },
        None => Request::Status,
    };
    let status: MeshStatus = ask(mesh, &request)?;
    match args.output {
        Output::Json => super::print_json(&status)?,
        Output::Table => {
            super::print(&text(&status));
            0
        }
    };
    Ok(u8::from(args.wait.is_some() && !status.ready))
}

fn text(status: &MeshStatus) -> String {
    let mut table =
        Table::new(["WORKLOAD", "POD", "NAMESPACE", "IP", "READY", "PROXY", "CONFIG", "RESTARTS", "STATUS"]);
    for w in &status.workloads {
        table.row(vec![
            w.workload.clone(),
            w.pod.clone(),
            w.namespace.clone(),
            w.ip.clone(),
            if w.ready { "yes".into() } else { "no".into() },
            proxy(w),
            config(w),
            format!("{}/{}", w.restarts, w.proxy_restarts),
            if w.reason.is_empty() { w.phase.clone() } else { format!("{}: {}", w.phase, w.reason) },
        ]);
    }
    let mut out = format!("mesh {} ({} mode)\n\n{}", status.name, status.mode, table.text());
    if !status.urls.is_empty() {
        let mut urls = Table::new(["URL", "LEADS TO"]);
        for u in &status.urls {
            urls.row(vec![u.url.clone(), format!("{} {}, port {}", u.kind, u.name, u.port)]);
        }
        out.push_str(&format!("\n{}", urls.text()));
    }
    for w in status.workloads.iter().filter(|w| !w.rejected.is_empty()) {
        out.push_str(&format!("\n{} refuses:\n", w.pod));
        for r in &w.rejected {
            out.push_str(&format!("  {r}\n"));
        }
    }
    out
}

fn proxy(w: &WorkloadStatus) -> String {
    match (w.proxy.as_str(), w.proxy_ready) {
        ("none", _) => "-".into(),
        (kind, true) => kind.to_owned(),
        (kind, false) => format!("{kind} (not ready)"),
    }
}

fn config(w: &WorkloadStatus) -> String {
    match (w.config.as_str(), w.synced) {
        ("", _) => "-".into(),
        (hash, true) => hash.chars().take(8).collect(),
        (hash, false) => format!("{} (old)", hash.chars().take(8).collect::<String>()),
    }
}
