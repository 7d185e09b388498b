//! `explain` against the running proxies: what it says from YAML alone has to be what clients, upstreams and logs see.
//!
//! The proxies are processes; configurations come to them as deltas, while they run. Nothing of their plan is looked at.
//! 2,000 pairs of configuration and request by default, and 600 that are asked twice, through a sidecar and with the mesh
//! inside; `MESH_PAIRS=10000` makes as many as that, `MESH_SEED=N` others.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use mesh_core::api::ContentHash;
use mesh_core::explain::{Decided, Explainer, Explanation, effective};
use mesh_core::world::World;
use serde_json::Value;

use super::about::Asker;
use super::client::{CLIENT, Client};
use super::compare::{Depth, Observed, differences};
use super::coverage::Coverage;
use super::echo::{Echo, Seen};
use super::expect::Expected;
use super::generate::{self, Config};
use super::lab::{Lab, Who, build};
use super::mutants;
use super::requests::{Ask, Manners};
use super::rng::Rng;
use super::secrets::Certificates;
use super::{secured, topology};

const CONFIGS: usize = 200;

/// Longest time for a request and its answer; only a failure takes that long.
const EXCHANGE: Duration = Duration::from_secs(30);

/// Pairs of one configuration.
pub(crate) struct Recorded {
    pub(crate) config: Config,
    pub(crate) pairs: Vec<(Ask, Observed)>,
}

/// Chosen destinations: how far the share of the first ones is from what it should be.
#[derive(Default)]
struct Weights {
    /// Sum of (chosen - share).
    off: f64,
    /// Sum of share * (1 - share).
    variance: f64,
    count: usize,
}

impl Weights {
    fn note(&mut self, expected: &Expected<'_>, observed: &Observed) {
        let targets = &expected.hop.clusters;
        if targets.len() < 2 || targets.iter().any(|t| t.reply.is_some()) {
            return;
        }
        let Some(chosen) = observed.log.as_ref().and_then(|l| l["cluster"].as_str()) else { return };
        let share = targets[0].share / 100.0;
        self.off += f64::from(u8::from(targets[0].cluster.value == chosen)) - share;
        self.variance += share * (1.0 - share);
        self.count += 1;
    }

    fn deviations(&self) -> f64 {
        self.off.abs() / self.variance.sqrt().max(1.0)
    }
}

pub(crate) fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().map_or(default, |v| v.parse().unwrap_or_else(|_| panic!("{name}={v} is no number")))
}

#[tokio::test]
async fn explain_says_what_the_proxies_do() {
    let mut course = Course::new(2000).await;
    let (mut recorded, mut weights) = (Vec::new(), Weights::default());
    for _ in 0..CONFIGS {
        let now = course.next().await;
        let mut pairs = Vec::new();
        while pairs.len() < course.each {
            let mut ask = course.ask(&now);
            if course.rng.percent(50) {
                ask.ask_member(&course.lab, course.rng.percent(50));
            }
            pairs.extend(course.explain(&now, ask));
        }
        let observed = course.check(&now, &pairs).await;
        for ((_, explanation), observed) in pairs.iter().zip(&observed) {
            weights.note(&Expected::of(explanation, &course.lab.certificates), observed);
        }
        let asks = pairs.into_iter().map(|(ask, _)| ask);
        recorded.push(Recorded { config: now.config, pairs: asks.zip(observed).collect() });
    }
    let Course { seed, pairs, objects, quarantined, .. } = course;
    let z = weights.deviations();
    assert!(z < 6.0, "seed {seed}: {} weighted choices are {z:.1} standard deviations off", weights.count);
    assert!(quarantined * 10 < objects, "{quarantined} of {objects} objects are not valid");
    let coverage = Coverage::of(&recorded);
    let refused = format!("{quarantined} of {objects} objects are refused");
    let by = |who: Who| recorded.iter().flat_map(|r| &r.pairs).filter(|(ask, _)| ask.who == who).count();
    let (member, side) = (by(Who::Member), by(Who::Side));
    println!("seed {seed}: {pairs} pairs, {CONFIGS} configurations; {refused}; {}", coverage.words());
    println!("{member} pairs are of an application with the mesh inside, {side} of clients of a server's own proxy");
    assert!(member * 20 > pairs, "of an application with the mesh inside there are {member} pairs only");
    assert!(coverage.missing.is_empty(), "in force, but never set:\n{}", coverage.missing.join("\n"));
    assert!(coverage.set_after_all.is_empty(), "they need no reason: {:?}", coverage.set_after_all);
    let missed = mutants::missed(&recorded, &course.lab);
    assert!(missed.is_empty(), "seed {seed}: mutants that no pair tells from the original: {missed:?}");
}

/// Each request twice: by an application that has a sidecar, and by the same with the mesh inside.
#[tokio::test]
async fn an_application_decides_as_its_sidecar() {
    let mut course = Course::new(600).await;
    let (mut named, mut tunnelled) = (0, 0);
    for _ in 0..CONFIGS {
        let now = course.next().await;
        let mut pairs = Vec::new();
        while pairs.len() < 2 * course.each {
            let ask = course.ask(&now);
            let mut twin = ask.clone();
            twin.ask_member(&course.lab, course.rng.percent(60));
            if twin.who != Who::Member {
                continue;
            }
            twin.headers[0].1 = format!("twin/{}", ask.agent());
            // Without a name to call, it is a connection that both have.
            let by_name = twin.to.tunnel.is_none();
            if let (Some(one), Some(other)) = (course.explain(&now, ask), course.explain(&now, twin)) {
                *if by_name { &mut named } else { &mut tunnelled } += 1;
                pairs.extend([one, other]);
            }
        }
        course.check(&now, &pairs).await;
    }
    let Course { seed, .. } = course;
    println!("seed {seed}: asked twice: {named} requests by name, {tunnelled} over connections to addresses");
    assert!(named > tunnelled / 4 && tunnelled > named / 4, "there is little of one of them");
}

/// Configurations and requests, and the proxies that they are tried on.
struct Course {
    lab: Lab,
    bench: Bench,
    rng: Rng,
    asker: Asker,
    seed: usize,
    /// Requests of each configuration.
    each: usize,
    /// Configurations so far.
    index: usize,
    /// Requests that could be explained so far.
    pairs: usize,
    objects: usize,
    quarantined: usize,
}

/// A configuration that is in force.
struct Now {
    config: Config,
    world: World,
    manners: Manners,
    hashes: BTreeMap<Who, ContentHash>,
}

impl Course {
    /// `pairs`: how many, if the environment doesn't say.
    async fn new(pairs: usize) -> Self {
        let (total, seed) = (number("MESH_PAIRS", pairs), number("MESH_SEED", 1));
        let lab = Lab::new();
        let bench = Bench { clients: BTreeMap::new(), echo: topology::listen(&lab).await };
        Self {
            lab,
            bench,
            rng: Rng::new(seed as u64),
            asker: Asker::default(),
            seed,
            each: total.div_ceil(CONFIGS),
            index: 0,
            pairs: 0,
            objects: 0,
            quarantined: 0,
        }
    }

    /// Brings another configuration into force.
    async fn next(&mut self) -> Now {
        let config = generate::config(&mut self.rng, &self.lab.block);
        let (world, refused) = build(&config.documents(), &self.lab.pods);
        self.quarantined += refused;
        self.objects += config.made.len();
        if self.index == 0 {
            self.lab.start(&world).await;
        }
        self.index += 1;
        let hashes = self.lab.apply(&world).await;
        self.bench.forget();
        Now { manners: Manners::of(&config), config, world, hashes }
    }

    fn ask(&mut self, now: &Now) -> Ask {
        let mut ask = self.asker.next(&mut self.rng, &self.lab, &now.config, now.manners, self.pairs);
        if ask.old.is_some() {
            ask.old = Some(serves_http10(&now.world, &ask));
        }
        ask
    }

    /// With what `explain` says of it, if there is something to compare.
    fn explain(&mut self, now: &Now, mut ask: Ask) -> Option<(Ask, Explanation)> {
        let explainer = Explainer::new(&now.world).judged_by(self.lab.judge.clone());
        let explanation = explainer.explain(&ask.question()).unwrap();
        if !possible(&mut ask, &explanation, now.manners.listener_log, &self.lab.certificates) {
            return None;
        }
        let hash = &explanation.hops[0].explain_config_hash;
        if *hash != now.hashes[&ask.who].to_string() {
            let why = self.lab.blame(&now.world, ask.who);
            panic!("seed {}, configuration {}: {:?} has another configuration: {why}", self.seed, self.index, ask.who);
        }
        self.pairs += 1;
        Some((ask, explanation))
    }

    /// Sends the requests; what becomes of each has to be what was said.
    async fn check(&mut self, now: &Now, pairs: &[(Ask, Explanation)]) -> Vec<Observed> {
        let asks: Vec<&Ask> = pairs.iter().map(|(ask, _)| ask).collect();
        let observed = self.bench.run(&self.lab, &asks).await;
        for ((ask, explanation), observed) in pairs.iter().zip(&observed) {
            let differences = differences(ask, explanation, observed, Depth::Provenance, &self.lab.certificates);
            if !differences.is_empty() {
                let smallest = shrink(&mut self.lab, &mut self.bench, &now.config, (ask, &differences)).await;
                panic!(
                    "seed {}, configuration {}, {}:\n{}\n\n{smallest}",
                    self.seed,
                    self.index,
                    ask.agent(),
                    differences.join("\n")
                );
            }
        }
        observed
    }
}

/// Whether the proxy speaks HTTP/1.0, as `explain config` says it.
fn serves_http10(world: &World, ask: &Ask) -> bool {
    let config = effective(world, &ask.question().from).unwrap();
    let mut values = config.items.iter().flat_map(|i| &i.values);
    values.any(|v| v.what == "http10" && v.decided.value == "true")
}

/// Makes sense of a request; false: there is nothing to compare. `listener_log`: connections that no listener takes are
/// logged.
pub(crate) fn possible(
    ask: &mut Ask,
    explanation: &Explanation,
    listener_log: bool,
    certificates: &Certificates,
) -> bool {
    let expected = Expected::of(explanation, certificates);
    if ask.value("x-do") == Some("hang") && (expected.is_tcp() || !expected.ends_soon()) {
        ask.headers.retain(|(n, _)| *n != "x-do");
    }
    ask.bytes = expected.is_tcp();
    ask.copied = expected.is_copied() && expected.hop.reply.is_none();
    ask.closed = expected.is_closed().then_some(secured::is_logged(&expected, listener_log));
    if !expected.welcomes(ask) {
        ask.closed = Some(false);
    }
    ask.answered_behind = secured::answered_behind(ask, &expected);
    if secured::is_unknown(ask, &expected) {
        return false;
    }
    // Bytes have no version, and in sidecars what is no version that they speak is bytes. The log's line of one that a
    // gateway doesn't speak does not say whose request it was.
    ask.old = ask.old.filter(|served| !ask.bytes && ask.closed.is_none() && (*served || ask.who == Who::Gateway));
    if ask.old == Some(false) {
        ask.closed = Some(false);
    }
    // Other hosts would be asked of a resolver, and addresses that the mesh makes up are nowhere.
    let is_address = match &ask.host {
        Some(_) if ask.bytes => ask.to.tls.is_none(),
        host => host.as_ref().is_some_and(|h| h.parse::<IpAddr>().is_ok()),
    };
    let leads = |to: &str| expected.hop.clusters.iter().flat_map(|c| &c.endpoints).any(|e| e.starts_with(to));
    if (leads("the host that") && !is_address) || (leads("the address that") && ask.is_by_name()) {
        return false;
    }
    // What listens at an address of its own is asked there, or not at all.
    let bound = |l: &Decided| ask.to.door.port() != 10_080 || l.value.contains(&ask.to.door.ip().to_string());
    if ask.who == Who::Gateway
        && ask.place.parse::<SocketAddr>().is_ok()
        && !expected.hop.listener.as_ref().is_some_and(bound)
    {
        return false;
    }
    // A client of an explicit proxy speaks HTTP to it, whatever the port's protocol is; and what is no name of the mesh
    // would be asked of a resolver.
    let unknown = expected.hop.name.as_ref().is_some_and(|n| n.contains("is no name of the mesh"));
    match (&ask.to.tls, &ask.host) {
        (Some(_), _) => !unknown,
        (None, Some(_)) => true,
        (None, None) => !(expected.is_tcp() || secured::is_stream_refused(&expected) || unknown),
    }
}

/// Clients and upstreams.
struct Bench {
    clients: BTreeMap<Who, Client>,
    echo: Echo,
}

impl Bench {
    /// Tunnels lead to where they were opened for; what is behind may be another thing now.
    fn forget(&mut self) {
        for client in self.clients.values_mut() {
            client.forget_tunnels(|to| to.tunnel.is_none() && to.door.port() == 15001);
        }
    }

    /// Each proxy gets its requests one after another, all proxies at the same time.
    async fn run(&mut self, lab: &Lab, asks: &[&Ask]) -> Vec<Observed> {
        let mut lanes: BTreeMap<Who, Vec<(usize, &Ask)>> = BTreeMap::new();
        for (i, ask) in asks.iter().copied().enumerate() {
            lanes.entry(ask.who).or_default().push((i, ask));
        }
        let echo = &self.echo;
        let lanes = lanes.into_iter().map(|(who, asks)| {
            let mut client =
                self.clients.remove(&who).unwrap_or_else(|| Client::new(&lab.certificates, &lab.identities));
            async move {
                let mut out = Vec::new();
                for (i, ask) in asks {
                    out.push((i, observe(lab, echo, &mut client, ask).await));
                }
                (who, client, out)
            }
        });
        let mut all = BTreeMap::new();
        for (who, client, out) in futures_util::future::join_all(lanes).await {
            self.clients.insert(who, client);
            all.extend(out);
        }
        all.into_values().collect()
    }
}

/// Who the proxy takes a client for, as its log says it. What an application has inside knows of no port of its.
fn said_address(ask: &Ask, own: SocketAddr) -> String {
    match ask.who {
        Who::Member => SocketAddr::new(own.ip(), 0).to_string(),
        _ if ask.to.proxy_header => format!("{CLIENT}:{}", own.port()),
        _ => own.to_string(),
    }
}

async fn observe(lab: &Lab, echo: &Echo, client: &mut Client, ask: &Ask) -> Observed {
    let (request, to_head) = (ask.raw(), ask.method == "HEAD");
    let sent = async {
        match ask.bytes {
            true => client.send_alone(&ask.to, &request, to_head).await,
            false => client.send(&ask.to, &request, to_head).await,
        }
    };
    let sent = tokio::time::timeout(EXCHANGE, sent).await;
    let reply = sent.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())).map_err(|e| e.kind());
    let mut log = None;
    if ask.closed != Some(false) && !matches!(reply, Err(std::io::ErrorKind::ConnectionRefused)) {
        let own = client.last.own.filter(|_| ask.bytes || ask.closed.is_some()).map(|own| said_address(ask, own));

        log = lab.log(ask.who, own.as_deref().unwrap_or(ask.agent())).await;
    }
    let is_copy = |s: &Seen| s.at.ip() == lab.block.ip(topology::COPIES);
    let mut seen = echo.take(ask.agent());
    // A copy is on its way when the answer is here.
    while ask.copied && seen.iter().any(|s| !is_copy(s)) && !seen.iter().any(is_copy) {
        let more = echo.next(ask.agent()).await;
        assert!(!more.is_empty(), "{}: no copy comes", ask.agent());
        seen.extend(more);
    }
    let (copies, seen): (Vec<Seen>, Vec<Seen>) = seen.into_iter().partition(is_copy);
    let behind = lab.block.ip(topology::SIDE_APP);
    let mut inbound = None;
    let reached = seen.last().is_some_and(|s| s.at.ip() == behind);
    let cluster = log.as_ref().and_then(|l: &Value| l["cluster"].as_str()).unwrap_or_default();
    if ask.who != Who::Side && (reached || ask.answered_behind.iter().any(|c| c == cluster)) {
        // A stream's line there has the address that it comes from.
        let from = log.as_ref().and_then(|l| l["up"].as_str()).filter(|_| ask.bytes);
        inbound = lab.log(Who::Side, from.unwrap_or(ask.agent())).await;
    }
    Observed { reply, certificate: client.last.certificate, seen, copies, log, inbound }
}

/// The smallest configuration that still differs in one of these ways, found by leaving out one thing after another.
async fn shrink(lab: &mut Lab, bench: &mut Bench, config: &Config, (ask, found): (&Ask, &[String])) -> String {
    let mut made = config.made.clone();
    let mut said = String::new();
    let mut budget = 400;
    // A request whose line never comes takes long.
    let enough = tokio::time::Instant::now() + Duration::from_secs(90);
    loop {
        let mut smaller = None;
        for candidate in candidates(&made) {
            if budget == 0 || tokio::time::Instant::now() > enough {
                break;
            }
            budget -= 1;
            let all: Vec<Value> = config.fixed.iter().chain(&candidate).cloned().collect();
            if let Some(text) = differs(lab, bench, &all, (ask, found), budget).await {
                (smaller, said) = (Some(candidate), text);
                break;
            }
        }
        let Some(candidate) = smaller else { break };
        made = candidate;
    }
    let text = made.iter().map(mesh_core::yaml::to_yaml).collect::<Vec<_>>().join("---\n");
    let settings = "the documents of topology.rs, and";
    format!(
        "smallest configuration: {settings}\n{text}\nrequest, {:?} to {:?}:\n{}\n{said}",
        ask.who,
        ask.to,
        ask.raw()
    )
}

async fn differs(
    lab: &mut Lab,
    bench: &mut Bench,
    docs: &[Value],
    (ask, before): (&Ask, &[String]),
    number: usize,
) -> Option<String> {
    let (world, _) = build(docs, &lab.pods);
    lab.apply(&world).await;
    bench.forget();
    let mut ask = ask.clone();
    let listener_log = ask.closed.unwrap_or(true);
    ask.headers[0].1 = format!("smaller/{number}");
    let explanation = Explainer::new(&world).judged_by(lab.judge.clone()).explain(&ask.question()).ok()?;
    if !possible(&mut ask, &explanation, listener_log, &lab.certificates) {
        return None;
    }
    let observed = bench.run(lab, &[&ask]).await.remove(0);
    let found = differences(&ask, &explanation, &observed, Depth::Provenance, &lab.certificates);
    // Another difference would be another story.
    let kind = |text: &String| text.split(": ").next().map(str::to_owned);
    let same = found.iter().any(|now| before.iter().any(|then| kind(now) == kind(then)));
    same.then(|| format!("{}\n{explanation}\n{observed:#?}", found.join("\n")))
}

/// The documents with one thing less: a document, or a field or item of its `spec`, the large things first.
fn candidates(docs: &[Value]) -> Vec<Vec<Value>> {
    let mut out = Vec::new();
    for (i, doc) in docs.iter().enumerate() {
        if doc["kind"] != "ConfigMap" {
            let mut less = docs.to_vec();
            less.remove(i);
            out.push(less);
        }
    }
    for (i, doc) in docs.iter().enumerate() {
        let mut paths = Vec::new();
        places(&doc["spec"], "/spec".to_owned(), &mut paths);
        paths.sort_by_key(|p| p.matches('/').count());
        for path in paths {
            let mut less = docs.to_vec();
            let (parent, last) = path.rsplit_once('/').unwrap();
            match less[i].pointer_mut(parent) {
                Some(Value::Array(items)) => drop(items.remove(last.parse().unwrap())),
                Some(Value::Object(map)) => drop(map.remove(&last.replace("~1", "/").replace("~0", "~"))),
                _ => {}
            }
            out.push(less);
        }
    }
    out
}

fn places(value: &Value, at: String, out: &mut Vec<String>) {
    let children: Vec<(String, &Value)> = match value {
        Value::Array(items) => items.iter().enumerate().map(|(i, v)| (i.to_string(), v)).collect(),
        Value::Object(map) => map.iter().map(|(k, v)| (k.replace('~', "~0").replace('/', "~1"), v)).collect(),
        _ => Vec::new(),
    };
    for (name, child) in children {
        let at = format!("{at}/{name}");
        out.push(at.clone());
        places(child, at, out);
    }
}
