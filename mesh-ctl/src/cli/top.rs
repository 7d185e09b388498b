//! `meshctl top`: what each workload of a running mesh does, out of the proxies' metrics and the pods' processes.

use std::io::IsTerminal;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use super::Outcome;
use super::admin;
use super::client::{answer, block_on};
use super::table::{Output, Table};
use crate::control::status::{MeshStatus, WorkloadStatus};
use crate::control::{PodUsage, Request};
use crate::top::{Kind, Look, Pod, Proxy, Row, Sort, rows};

/// A proxy that has not answered by then is shown without figures.
const PATIENCE: Duration = Duration::from_secs(5);

/// Arguments of `top`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// `NAME[.NAMESPACE]` of Deployments or Pods; none: all.
    workloads: Vec<String>,
    /// Only workloads of this namespace.
    #[arg(short, long)]
    namespace: Option<String>,
    /// A row for each pod instead of one for all pods of a workload.
    #[arg(long)]
    pods: bool,
    /// What rows are sorted by.
    #[arg(long, value_enum, default_value_t)]
    sort: Sort,
    /// Time between two looks, which rates and percentiles are of.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = interval)]
    interval: Duration,
    /// Show one table and end; so it is where standard output is no terminal.
    #[arg(long, conflicts_with = "count")]
    once: bool,
    /// Show so many tables, one after the other.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

fn interval(text: &str) -> Result<Duration, String> {
    let time = super::load::duration(text)?;
    if time < Duration::from_millis(100) { Err("at least 100ms".into()) } else { Ok(time) }
}

pub(super) fn run(mesh: &str, args: &Args) -> Outcome {
    let refreshed = std::io::stdout().is_terminal() && args.output == Output::Table;
    let count = match (args.once, args.count) {
        (true, _) => Some(1),
        (false, None) if !refreshed => Some(1),
        (false, count) => count,
    };
    // One after the other, so that a table that was asked for by number stays to be read.
    let refreshed = refreshed && count.is_none();
    block_on(async {
        let start = Instant::now();
        let mut before = look(mesh, args, start).await?;
        if refreshed {
            super::print(&format!("{CLEAR}mesh {mesh}: first figures in {:?}\n", args.interval));
        }
        let mut shown = 0;
        while count.is_none_or(|n| shown < n) {
            sleep(args.interval).await;
            let now = look(mesh, args, start).await?;
            let rows = rows(&before, &now, args.pods, args.sort);
            match args.output {
                Output::Json => drop(super::print_json(&json!({ "mesh": mesh, "workloads": rows }))?),
                Output::Table => {
                    let text = text(mesh, &rows, args);
                    super::print(&if refreshed { on_screen(&text) } else { text });
                }
            }
            (before, shown) = (now, shown + 1);
        }
        Ok(0)
    })
}

/// Home, and everything after it away.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// As many lines as there is room for, over the ones before.
fn on_screen(text: &str) -> String {
    // A terminal that does not say how large it is shows everything.
    let rows = rustix::termios::tcgetwinsize(std::io::stdout()).map_or(0, |size| usize::from(size.ws_row));
    let room = rows.checked_sub(1).filter(|n| *n > 0).unwrap_or(usize::MAX);
    let lines: Vec<String> = text.lines().take(room).map(|l| format!("{l}\x1b[K\n")).collect();
    format!("\x1b[H{}\x1b[J", lines.concat())
}

/// All pods that were asked for, as they are now.
async fn look(mesh: &str, args: &Args, start: Instant) -> Result<Look, String> {
    let status: MeshStatus = answer(mesh, &Request::Status).await?;
    let usages: Vec<PodUsage> = answer(mesh, &Request::Usage).await?;
    let asked = status.workloads.iter().filter(|w| is_wanted(w, args));
    let pods = asked.map(async |w| {
        let kind = Kind::of(&w.proxy);
        let name = format!("pod/{}", w.name());
        let said = match kind {
            Kind::Bare => None,
            Kind::Sidecar | Kind::Embedded | Kind::Gateway => {
                timeout(PATIENCE, admin::get(mesh, &name, "/stats/prometheus")).await.ok().and_then(Result::ok)
            }
        };
        let proxy = said.map(|text| Proxy::read(&String::from_utf8_lossy(&text), kind));
        let usage = usages.iter().find(|u| u.pod == w.pod && u.namespace == w.namespace).map(|u| u.usage);
        let pod = Pod { workload: w.workload.clone(), kind, at: start.elapsed(), proxy, usage };
        ((w.namespace.clone(), w.pod.clone()), pod)
    });
    let look: Look = join_all(pods).await.into_iter().collect();
    if look.is_empty() && !(args.workloads.is_empty() && args.namespace.is_none()) {
        return Err("no such workload runs; see: meshctl status".into());
    }
    Ok(look)
}

fn is_wanted(w: &WorkloadStatus, args: &Args) -> bool {
    let named = |text: &String| {
        let (name, namespace) = text.split_once('.').unwrap_or((text, &w.namespace));
        (name == w.workload || name == w.pod) && namespace == w.namespace
    };
    args.namespace.as_ref().is_none_or(|n| *n == w.namespace)
        && (args.workloads.is_empty() || args.workloads.iter().any(named))
}

fn text(mesh: &str, rows: &[Row], args: &Args) -> String {
    let first = if args.pods { "POD" } else { "WORKLOAD" };
    let mut table = Table::new([
        first,
        "NAMESPACE",
        "RPS",
        "ERRORS",
        "P50",
        "P99",
        "CONNECTIONS",
        "CPU",
        "MEMORY",
        "PROXY CPU",
        "PROXY MEMORY",
    ]);
    for row in rows {
        let proxy = row.proxy.unwrap_or_default();
        table.row(vec![
            row.workload.clone(),
            row.namespace.clone(),
            figure(row.requests_per_second, |n| format!("{n:.1}")),
            figure(row.error_percent, |n| format!("{n:.1}%")),
            figure(row.latency_ms, |l| format!("{:.1}ms", l.p50)),
            figure(row.latency_ms, |l| format!("{:.1}ms", l.p99)),
            figure(row.connections, |n| n.to_string()),
            figure(row.cpu_cores, cores),
            figure(row.memory_bytes, mebibytes),
            figure(proxy.cpu_cores, cores),
            figure(proxy.memory_bytes, mebibytes),
        ]);
    }
    format!("mesh {mesh}, the last {:?}\n\n{}", args.interval, table.text())
}

fn figure<T>(value: Option<T>, text: impl Fn(T) -> String) -> String {
    value.map_or_else(|| "-".to_owned(), text)
}

/// Thousandths of a processor, as kubectl shows them.
fn cores(cores: f64) -> String {
    format!("{:.0}m", cores * 1000.)
}

#[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
fn mebibytes(bytes: u64) -> String {
    format!("{:.1}Mi", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::top::{Latency, Share};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn args(words: &[&str]) -> Args {
        Line::try_parse_from([&["top"], words].concat()).unwrap().args
    }

    #[test]
    fn a_table_of_what_is_known() {
        let busy = Row {
            workload: "reviews-v1".into(),
            namespace: "default".into(),
            pods: 1,
            requests_per_second: Some(12.34),
            error_percent: Some(0.5),
            latency_ms: Some(Latency { p50: 3.25, p99: 24. }),
            connections: Some(4),
            cpu_cores: Some(0.0126),
            memory_bytes: Some(64 << 20),
            proxy: Some(Share { cpu_cores: Some(0.0021), memory_bytes: Some(18 << 20) }),
        };
        let bare = Row { workload: "sleep".into(), namespace: "default".into(), pods: 1, ..Row::default() };
        let shown = text("demo", &[busy, bare], &args(&[]));
        let lines: Vec<Vec<&str>> = shown.lines().map(|l| l.split_whitespace().collect()).collect();
        assert_eq!(lines[0].join(" "), "mesh demo, the last 2s");
        assert_eq!(lines[2][..3], ["WORKLOAD", "NAMESPACE", "RPS"]);
        let figures = ["12.3", "0.5%", "3.2ms", "24.0ms", "4", "13m", "64.0Mi", "2m", "18.0Mi"];
        assert_eq!(lines[3], [&["reviews-v1", "default"], &figures[..]].concat());
        assert_eq!(lines[4], [&["sleep", "default"], &["-"; 9][..]].concat());
    }

    #[test]
    fn workloads_by_name_and_namespace() {
        let w = WorkloadStatus {
            workload: "reviews-v1".into(),
            pod: "reviews-v1-abc".into(),
            namespace: "shop".into(),
            ..WorkloadStatus::default()
        };
        for (words, wanted) in [
            (&[][..], true),
            (&["reviews-v1"], true),
            (&["reviews-v1.shop"], true),
            (&["other", "reviews-v1-abc"], true),
            (&["reviews-v1.default"], false),
            (&["reviews"], false),
            (&["-n", "shop"], true),
            (&["-n", "default"], false),
        ] {
            assert_eq!(is_wanted(&w, &args(words)), wanted, "{words:?}");
        }
    }

    #[test]
    fn intervals_have_a_least() {
        assert_eq!(args(&["--interval", "500ms"]).interval, Duration::from_millis(500));
        assert!(Line::try_parse_from(["top", "--interval", "1ms"]).is_err());
        assert!(Line::try_parse_from(["top", "--once", "--count", "3"]).is_err());
    }
}
