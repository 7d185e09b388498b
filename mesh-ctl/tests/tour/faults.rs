//! What goes wrong on purpose, files 11 to 15: mirrors, faults and limits as callers in pods and at the gateway
//! see them.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::client::get;
use crate::deaths;
use crate::mesh::{MESHCTL, Mesh};
use crate::seed::Seed;

/// A workload with a sidecar, which takes what is started beside it.
const CALLER: &str = "details-v1";
pub(crate) const REVIEWS: &str = "/api/v1/products/0/reviews";

pub(crate) fn in_order(seed: &Seed<'_>, at: SocketAddr) {
    seed.in_force("11");
    mirror(seed.mesh, at);
    seed.in_force("12");
    aborts(seed.mesh);
    seed.in_force("13");
    aborts_for_one_user(seed.mesh);
    seed.mesh.run(&["delete", "vs", "ratings"]);
    // File 01 has the same host under an older name, and of two VirtualServices for one host the older one decides.
    seed.mesh.run(&["delete", "vs", "details-vs"]);
    seed.in_force("14");
    delay(seed, at);
    seed.mesh.run(&["delete", "vs", "details"]);
    seed.in_force("15");
    circuit_breaker(seed.mesh, at);
    seed.mesh.run(&["delete", "dr", "productpage"]);
}

/// Requests that a workload's sidecar has let in.
fn let_in(mesh: &Mesh, workload: &str) -> u64 {
    let stats = "http://127.0.0.1:15090/stats/prometheus";
    let text = mesh.run(&["exec", workload, "--", "curl", "-s", "-m", "60", stats]);
    let own = |l: &&str| l.starts_with("istio_requests_total{") && l.contains(r#"reporter="destination""#);
    let counts = text.lines().filter(own).map(|l| l.rsplit(' ').next().unwrap().parse::<u64>().unwrap());
    counts.sum()
}

fn until_let_in(mesh: &Mesh, workload: &str, count: u64) {
    for _ in 0..2_000 {
        if let_in(mesh, workload) >= count {
            break;
        }
    }
    assert_eq!(let_in(mesh, workload), count, "requests that {workload} got");
}

fn signal(pid: i32, name: &str) {
    assert!(Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
}

/// v3 sees what v2 answers; whether it hangs or fails is nothing to the client.
fn mirror(mesh: &Mesh, at: SocketAddr) {
    let ask = || {
        for _ in 0..20 {
            let reply = get(at, REVIEWS, &[]);
            assert_eq!((reply.status, reply.reviews()), (200, "v2"));
        }
    };
    let before = let_in(mesh, "reviews-v3");
    ask();
    until_let_in(mesh, "reviews-v3", before + 20);

    let application = deaths::application_of(mesh, "reviews-v3", "reviews");
    signal(application, "-STOP");
    ask();
    signal(application, "-CONT");
    until_let_in(mesh, "reviews-v3", before + 40);

    deaths::kill_hard(application);
    ask();
    mesh.run(&["status", "--wait", "60"]);
}

/// `meshctl load` in a pod: answers by status.
fn load(mesh: &Mesh, workload: &str, args: &[&str]) -> Value {
    let command = ["exec", workload, "--", MESHCTL, "load", "-o", "json"];
    serde_json::from_str(&mesh.run(&[&command[..], args].concat())).unwrap()
}

fn count(report: &Value, code: &str) -> u64 {
    report["codes"][code]["count"].as_u64().unwrap_or(0)
}

/// 403 on three of ten, and ratings never hears of those.
fn aborts(mesh: &Mesh) {
    let before = let_in(mesh, "ratings-v1");
    let report = load(mesh, CALLER, &["-c", "4", "-n", "3000", "http://ratings:9080/ratings/0"]);
    let (good, aborted) = (count(&report, "200"), count(&report, "403"));
    assert_eq!(good + aborted, 3_000, "{report:#}");
    assert!((810..=990).contains(&aborted), "30 %, three points more or less: {report:#}");
    assert_eq!(let_in(mesh, "ratings-v1") - before, good, "an aborted request goes nowhere");
    assert_eq!(aborted_body(mesh, &[]), "fault filter abort");
}

/// The body of the first answer that is not a rating.
fn aborted_body(mesh: &Mesh, args: &[&str]) -> String {
    let command = ["exec", CALLER, "--", "curl", "-s", "-m", "60", "http://ratings:9080/ratings/0"];
    let bodies = (0..100).map(|_| mesh.run(&[&command[..], args].concat()));
    bodies.into_iter().find(|b| !b.contains("Reviewer1")).expect("a hundred times without an abort")
}

fn aborts_for_one_user(mesh: &Mesh) {
    let url = "http://ratings:9080/ratings/0";
    let others = load(mesh, CALLER, &["-c", "4", "-n", "300", url]);
    assert_eq!(count(&others, "200"), 300, "{others:#}");
    let user = ["-c", "4", "-n", "3000", "-H", "end-user: testing-user", url];
    let tested = load(mesh, CALLER, &user);
    assert!((810..=990).contains(&count(&tested, "403")), "{tested:#}");
    assert_eq!(count(&tested, "200") + count(&tested, "403"), 3_000, "{tested:#}");
    assert_eq!(aborted_body(mesh, &["-H", "end-user: testing-user"]), "fault filter abort");
}

const NO_DETAILS: &str = "Error fetching product details";
/// Pages that are asked for at one time: few enough that productpage waits for what delays it on purpose alone.
const AT_ONCE: usize = 20;

/// Seven seconds are longer than productpage waits for details, two are not; it is half of the requests. Who gave up on
/// whom is in the log; how long the pages took is only printed.
fn delay(seed: &Seed<'_>, at: SocketAddr) {
    let page = move || {
        let start = Instant::now();
        let reply = get(at, "/productpage", &[]);
        assert_eq!(reply.status, 200, "{reply:?}");
        (reply.body.contains(NO_DETAILS), start.elapsed())
    };
    let pages = |count: usize| {
        let (mut without, mut longest) = (0, Duration::ZERO);
        for _ in 0..count / AT_ONCE {
            let threads: Vec<_> = (0..AT_ONCE).map(|_| std::thread::spawn(page)).collect();
            for (no_details, took) in threads.into_iter().map(|t| t.join().unwrap()) {
                without += usize::from(no_details);
                longest = longest.max(took);
            }
        }
        (without, longest)
    };
    let before = let_in(seed.mesh, "details-v1");
    let (without, longest) = pages(100);
    println!("delay of 7 s: {without} of 100 pages without details, the last after {longest:.1?}");
    assert!((25..=75).contains(&without), "half of the pages without details, not {without} %");
    let seven = until_delayed(seed.mesh, |d| d.given_up >= without);
    seven.check(seed.mesh, without);
    assert_eq!(seven.answered, 0, "none waited for seven seconds");
    let asked = usize::try_from(let_in(seed.mesh, "details-v1") - before).unwrap();
    assert_eq!(asked, 100 - without, "a request that is given up while it is delayed goes nowhere");

    let patch = seed.path("patch-03");
    seed.mesh.run(&["patch", "vs", "details", "--type", "json", "--patch-file", &patch]);
    let url = "http://details:9080/details/0";
    let why = seed.mesh.run(&["explain", "request", "--from", "productpage-v1", "--url", url]);
    assert!(why.contains("50% delayed by 2s"), "{why}");
    let (late, longest) = pages(40);
    println!("delay of 2 s: {late} of 40 pages without details, the last after {longest:.1?}");
    let two = until_delayed(seed.mesh, |d| d.given_up >= without + late && d.answered > 0);
    two.check(seed.mesh, without + late);
    assert!((1..40).contains(&two.answered), "some are delayed and answered, and not all are: {}", two.answered);
}

/// Requests for details that a fault delayed (flag `DI`), as productpage's proxy logged them.
#[derive(Default)]
struct Delayed {
    /// The client closed the connection (flag `DC`) before there was a response.
    given_up: usize,
    /// They got details' response.
    answered: usize,
    /// Lines of those that were not delayed and not answered with 200: there should be none.
    others: Vec<String>,
}

impl Delayed {
    /// A page has details unless productpage gave up.
    fn check(&self, mesh: &Mesh, given_up: usize) {
        let said = || format!("others: {:#?}\nproductpage: {}", self.others, mesh.run(&["logs", "productpage-v1"]));
        assert!(self.given_up == given_up, "{} requests given up, not {given_up}; {}", self.given_up, said());
    }
}

fn until_delayed(mesh: &Mesh, enough: impl Fn(&Delayed) -> bool) -> Delayed {
    let mut seen = Delayed::default();
    for _ in 0..2_000 {
        seen = Delayed::default();
        let log = mesh.run(&["logs", "productpage-v1", "-c", "proxy"]);
        for line in log.lines() {
            let Some((_, after)) = line.split_once("\"GET /details/0 HTTP/1.1\" ") else { continue };
            let mut words = after.split(' ');
            let (code, flags) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            let has = |flag: &str| flags.split(',').any(|f| f == flag);
            match (has("DI"), has("DC"), code) {
                (true, true, "0") => seen.given_up += 1,
                (true, false, "200") => seen.answered += 1,
                (true, ..) => panic!("delayed, and neither given up nor answered: {line}"),
                (false, false, "200") => {}
                (false, ..) => seen.others.push(line.to_owned()),
            }
        }
        if enough(&seen) {
            break;
        }
    }
    seen
}

/// Milliseconds that a line of the access log gives.
fn took(line: &str) -> Option<u64> {
    let (_, after) = line.split_once("\" ")?;
    let (_, after) = after.split_once("\"-\" ").or_else(|| after.split_once("\" "))?;
    after.split(' ').nth(2)?.parse().ok()
}

/// A request that was passed on and answered, as a log has it.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    start: u64,
    took: u64,
    connection: String,
}

/// The requests with this in their path that a workload's proxy passed on to a cluster and that were answered.
fn seen(mesh: &Mesh, workload: &str, cluster: &str, path: &str) -> Vec<Seen> {
    let log = mesh.run(&["logs", workload, "-c", "proxy"]);
    let lines = log.lines().filter(|l| l.contains(path) && l.contains(cluster) && l.contains("\" 200 "));
    let mut all: Vec<_> = lines.map(|l| read(l, cluster).unwrap_or_else(|| panic!("{l}"))).collect();
    all.sort();
    all
}

fn read(line: &str, cluster: &str) -> Option<Seen> {
    // `[2026-11-22T09:30:07.334Z]`: milliseconds of the day are enough.
    let clock = line.get(line.find('T')? + 1..line.find("Z]")?)?;
    let mut parts = clock.split([':', '.']).map(|p| p.parse::<u64>().ok());
    let mut next = || parts.next().flatten();
    let start = ((next()? * 60 + next()?) * 60 + next()?) * 1_000 + next()?;
    let (_, after) = line.split_once(cluster)?;
    Some(Seen { start, took: took(line)?, connection: after.split(' ').next()?.to_owned() })
}

/// One connection to productpage, for one request; with a queue of one, whoever finds it full is told at once.
fn circuit_breaker(mesh: &Mesh, at: SocketAddr) {
    let url = |run: &str| format!("http://{at}/productpage?{run}");
    let run = |connections: &str, name: &str| {
        let args = ["load", "-c", connections, "-n", "50", "-o", "json", &url(name)];
        serde_json::from_str::<Value>(&mesh.run(&args)).unwrap()
    };
    let one = run("1", "one");
    assert_eq!(count(&one, "200"), 50, "{one:#}");
    let four = run("4", "four");
    assert_eq!(count(&four, "200") + count(&four, "503"), 50, "{four:#}");
    for (name, report) in [("one", &one), ("four", &four)] {
        let (path, good) = (format!("/productpage?{name} "), count(report, "200"));
        let outbound = " outbound|9080||productpage.default.svc.cluster.local ";
        let sent = seen(mesh, "istio-ingressgateway.istio-system", outbound, &path);
        let connections: BTreeSet<_> = sent.iter().map(|s| &s.connection).collect();
        assert_eq!(
            (sent.len() as u64, connections.len() as u64),
            (good, good),
            "{name}: a connection for each request"
        );
        let got = seen(mesh, "productpage-v1", " inbound|9080|| ", &path);
        assert_eq!(got.len() as u64, good, "{name}: what is refused never comes in");
        // Both figures are cut to whole milliseconds.
        let overlap = got.windows(2).find(|w| w[1].start + 1 < w[0].start + w[0].took);
        assert!(overlap.is_none(), "{name}: two connections at a time");
    }

    let queue = r#"{"spec": {"trafficPolicy": {"connectionPool": {"http": {"http1MaxPendingRequests": 1}}}}}"#;
    mesh.run(&["patch", "dr", "productpage", "--type", "merge", "-p", queue]);
    let full = run("4", "full");
    let (good, refused) = (count(&full, "200"), count(&full, "503"));
    assert!(good > 0 && refused > 0 && good + refused == 50, "{full:#}");
    assert_eq!(full["overloaded"], refused, "{full:#}");
    let threads: Vec<_> = (0..12).map(|_| std::thread::spawn(move || get(at, "/productpage", &[]))).collect();
    let replies: Vec<_> = threads.into_iter().map(|t| t.join().unwrap()).collect();
    let overflow = replies.iter().find(|r| r.status == 503).expect("twelve at a time overflow a queue of one");
    assert_eq!(overflow.header("x-envoy-overloaded"), Some("true"));
    let body = "upstream connect error or disconnect/reset before headers. reset reason: overflow";
    assert_eq!(overflow.body, body);
}
