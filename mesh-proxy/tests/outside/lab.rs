//! Proxies as processes, a configuration server, and the loopback addresses that pods have.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use mesh_core::api::{ContentHash, Key, Kind};
use mesh_core::compile::{Compiled, compile};
use mesh_core::convert::{Addresses, Options, Placement, builtin_gateway, inputs, quarantined};
use mesh_core::model::Health;
use mesh_core::scope::scope;
use mesh_core::snapshot::{ProxyId, ProxyKind};
use mesh_core::wire::{Delta, ResourceSet};
use mesh_core::world::World;
use mesh_policy::judge::Judge;
use mesh_proxy::csr::ENV_TOKEN_PATH;
use mesh_proxy::discovery::{self, ProxyStream};
use serde_json::Value;
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

use super::identities::Identities;
use super::secrets::Certificates;
use super::tokens::Tokens;
use super::topology::OUTSIDE;

/// Longest wait for anything; only a failure takes that long.
const LONG: Duration = Duration::from_secs(60);

/// The proxies of the laboratory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Who {
    /// Sidecar of `front.shop`.
    Front,
    /// Sidecar of `cron.other`.
    Cron,
    /// Sidecar of the server `side.shop`.
    Side,
    /// The ingress gateway.
    Gateway,
    /// The application `front.shop` itself, with the mesh inside instead of the sidecar.
    Member,
}

/// Ports of the gateway that Gateways may open for HTTP.
pub(crate) const GATEWAY_PORTS: [u16; 3] = [80, 7000, 9090];
/// For TLS.
pub(crate) const PORTS_TLS: [u16; 2] = [443, 7443];
/// For bytes.
pub(crate) const PORT_TCP: u16 = 7100;
/// Last byte of the address for listeners that say where they are.
pub(crate) const BOUND: u8 = 90;

/// A /24 of loopback addresses that no other run uses.
pub(crate) struct Block {
    prefix: [u8; 3],
    _guard: std::net::TcpListener,
    /// Port of the application of `side.shop`, also on the host's own loopback address.
    pub(crate) local: u16,
    app: std::net::TcpListener,
    /// Certificates and keys for those who read files.
    pub(crate) files: PathBuf,
    /// Hash and key of the clients' certificate.
    pub(crate) pins: [String; 2],
    pub(crate) tokens: Tokens,
}

impl Block {
    fn claim() -> Self {
        let start = std::process::id();
        for i in 0..1000_u32 {
            let n = start.wrapping_add(i.wrapping_mul(7919)) % (200 * 250);
            let prefix = [127, 20 + u8::try_from(n / 250).unwrap(), u8::try_from(n % 250).unwrap()];
            let [a, b, c] = prefix;
            if let Ok(guard) = std::net::TcpListener::bind((Ipv4Addr::new(a, b, c, 254), 15999)) {
                let app = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
                let files = std::env::temp_dir().join(format!("mesh-outside-{start}-{a}.{b}.{c}"));
                return Self {
                    prefix,
                    _guard: guard,
                    local: app.local_addr().unwrap().port(),
                    app,
                    files,
                    pins: Default::default(),
                    tokens: Tokens::new(),
                };
            }
        }
        panic!("no free block of loopback addresses");
    }

    /// The socket that holds the application's port.
    pub(crate) fn local_listener(&self) -> std::net::TcpListener {
        let listener = self.app.try_clone().unwrap();
        listener.set_nonblocking(true).unwrap();
        listener
    }

    pub(crate) fn ip(&self, last: u8) -> IpAddr {
        let [a, b, c] = self.prefix;
        Ipv4Addr::new(a, b, c, last).into()
    }
}

/// Documents -> World, as `meshctl apply` does it: what validation refuses is left out. Gives the World and how many
/// objects were refused.
pub(crate) fn build(docs: &[Value], pods: &BTreeMap<Key, Placement>) -> (World, usize) {
    let (mut resources, mut reports) = (Vec::new(), Vec::new());
    for doc in docs {
        let part = |field: &str| doc["metadata"][field].as_str().unwrap_or_default();
        let name = format!("{}-{}-{}.yaml", doc["kind"].as_str().unwrap_or_default(), part("namespace"), part("name"));
        let (found, said) = mesh_core::yaml::read(&name, &mesh_core::yaml::to_yaml(doc));
        resources.extend(found);
        reports.extend(said);
    }
    resources.extend(builtin_gateway(&resources));
    reports.extend(resources.iter().flat_map(mesh_core::validate::validate));
    let options = Options {
        quarantined: quarantined(&reports),
        placements: Some(pods),
        dns_capture: Some(true),
        ..Options::default()
    };
    let made = inputs(&resources, &options, &mut Addresses::default());
    reports.extend(made.reports);
    (made.world, quarantined(&reports).len())
}

fn judge(block: &Block, time: SystemTime) -> Arc<Judge> {
    Arc::new(Judge::at(time).knowing(super::services::KEYS, block.tokens.remote_keys().as_bytes()))
}

/// Where a pod runs.
pub(crate) fn placed(namespace: &str, name: &str, ip: IpAddr) -> (Key, Placement) {
    let placement = Placement { addresses: vec![ip], health: Health::Healthy, sidecar: name == "side" };
    (Key::new(Kind::new("", "Pod"), namespace, name), placement)
}

/// Access log lines by proxy and `user-agent`.
#[derive(Clone, Default)]
pub(crate) struct Logs(Arc<(Mutex<Lines>, Notify)>);

struct Running {
    who: Who,
    child: Child,
    id: ProxyId,
    stream: ProxyStream,
    held: ResourceSet,
    /// What it was sent.
    sent: Vec<Delta>,
}

/// Ends the proxies if the test's process ends before it does so itself, killed for example: a shell that collects their
/// process ids until nobody is left who could send more.
pub(crate) struct Guard(Child);

impl Guard {
    pub(crate) fn new() -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", "while read -r pid; do all=\"$all $pid\"; done; kill -9 $all"]);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        // In a group of its own: what ends the test's group must leave it to its work.
        Self(command.process_group(0).spawn().unwrap())
    }

    pub(crate) fn watch(&mut self, child: &Child) {
        writeln!(self.0.stdin.as_mut().unwrap(), "{}", child.id()).unwrap();
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Everything that runs.
pub(crate) struct Lab {
    pub(crate) block: Block,
    pub(crate) pods: BTreeMap<Key, Placement>,
    pub(crate) certificates: Arc<Certificates>,
    pub(crate) identities: Arc<Identities>,
    /// Asked about policies by who explains.
    pub(crate) judge: Arc<Judge>,
    proxies: Vec<Running>,
    logs: Logs,
    nonce: u64,
    guard: Guard,
}

impl Lab {
    /// Claims addresses and says where pods are; then [`Lab::start`].
    pub(crate) fn new() -> Self {
        let mut block = Block::claim();
        let pods = super::topology::pods(&block);
        let certificates = Arc::new(Certificates::new(&OUTSIDE.map(|last| block.ip(last))));
        certificates.write(&block.files);
        block.pins = certificates.pins().clone();
        let judge = judge(&block, SystemTime::now());
        Self {
            block,
            pods,
            certificates,
            identities: Arc::new(Identities::new()),
            judge,
            proxies: Vec::new(),
            logs: Logs::default(),
            nonce: 0,
            guard: Guard::new(),
        }
    }

    /// Somebody who asks policies as they would be at another time.
    pub(crate) fn judge_at(&self, time: SystemTime) -> Arc<Judge> {
        judge(&self.block, time)
    }

    /// Starts the proxies with a first World.
    pub(crate) async fn start(&mut self, world: &World) {
        let name = format!("mesh-outside-{}-{}", std::process::id(), self.block.ip(0));
        let at = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
        let listener = std::os::unix::net::UnixListener::bind_addr(&at).unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = tokio::net::UnixListener::from_std(listener).unwrap();
        let (tell, mut streams) = mpsc::channel(8);
        let (secrets, identities) = (self.certificates.clone(), self.identities.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(discovery::serve_with(stream, tell.clone(), secrets.clone(), identities.clone()));
            }
        });
        for who in [Who::Front, Who::Cron, Who::Side, Who::Gateway, Who::Member] {
            let id = identity(world, who);
            let identity = self.identities.admit(world, &id, &self.block.files);
            let child = self.spawn(who, &id, &name, identity);
            self.guard.watch(&child);
            let stream = timeout(LONG, streams.recv()).await.expect("the proxy subscribes").unwrap();
            assert_eq!(stream.id, id);
            self.proxies.push(Running { who, child, id, stream, held: ResourceSet::new(), sent: Vec::new() });
        }
    }

    fn spawn(&self, who: Who, id: &ProxyId, server: &str, (account, token): (String, PathBuf)) -> Child {
        let mut command = match who {
            Who::Member => super::member::program(self.door(who), server),
            Who::Gateway => Command::new(env!("CARGO_BIN_EXE_mesh-gateway")),
            _ => Command::new(env!("CARGO_BIN_EXE_mesh-proxy")),
        };
        if who != Who::Member {
            command.args(["--admin-port", "off", "--health-port", "off", "--metrics-port", "off"]);
            command.args(["--xds", &format!("@{server}")]);
        }
        match who {
            Who::Gateway => {
                for port in GATEWAY_PORTS.into_iter().chain(PORTS_TLS).chain([PORT_TCP]) {
                    command.args(["--gateway-port", &format!("{port}={}", self.gateway(port))]);
                }
                command.args(["--listen-offset", "10000"]);
            }
            Who::Side => {
                command.env("MESH_MODE", "explicit").env("MESH_POD_IP", id.addresses[0].to_string());
                command.env(discovery::ENV_APP_IP, self.block.ip(super::topology::SIDE_APP).to_string());
                let ports = format!("{},{}", self.block.local, super::topology::SIDE_BYTES);
                command.env(discovery::ENV_APP_PORTS, ports);
            }
            Who::Member => {}
            Who::Front | Who::Cron => {
                command.args(["--explicit", &id.addresses[0].to_string()]);
            }
        }
        command.env(discovery::ENV_PROXY, serde_json::to_string(id).unwrap());
        command.env("SERVICE_ACCOUNT", account).env(ENV_TOKEN_PATH, token).env("ECC_SIGNATURE_ALGORITHM", "ECDSA");
        command.env("RUST_LOG", "error").stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let logs = self.logs.clone();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        std::thread::Builder::new().spawn(move || logs.read(who, lines)).unwrap();
        child
    }

    /// Where an application's proxy takes what is to go out, or the application that has none.
    pub(crate) fn door(&self, who: Who) -> SocketAddr {
        let last = match who {
            Who::Front => 1,
            Who::Cron => 2,
            Who::Member => 5,
            Who::Gateway | Who::Side => panic!("{who:?} sends nothing"),
        };
        SocketAddr::new(self.block.ip(last), 15001)
    }

    /// Where a port of the gateway is opened.
    pub(crate) fn gateway(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.block.ip(3), 10_000 + port)
    }

    /// Sends every proxy what a World changes for it and waits until it is in force. Gives the hash of the configuration
    /// that each names.
    pub(crate) async fn apply(&mut self, world: &World) -> BTreeMap<Who, ContentHash> {
        // An address may come again: what nobody asked for is not to be taken for another one's line.
        self.logs.0.0.lock().unwrap().clear();
        let mut in_force = BTreeMap::new();
        for proxy in &mut self.proxies {
            let set = scope(world, &proxy.id);
            self.nonce += 1;
            let delta = Delta { nonce: self.nonce.to_string(), ..Delta::between(&proxy.held, &set) };
            proxy.held = set;
            proxy.sent.push(delta.clone());
            proxy.stream.deltas.send(delta).await.expect("the proxy runs");
        }
        for proxy in &mut self.proxies {
            let ack = timeout(LONG, proxy.stream.acks.recv()).await.expect("an acknowledgement").expect("it runs");
            assert!(ack.rejected.is_empty(), "{:?} refused {:?}", proxy.who, ack.rejected);
            in_force.insert(proxy.who, ack.config);
        }
        in_force
    }

    /// Why the configuration of a proxy is not the one that a World compiles to: where the plans differ that are made of
    /// the whole World, of what is sent of it, and of the deltas so far.
    pub(crate) fn blame(&self, world: &World, who: Who) -> String {
        let proxy = self.proxies.iter().find(|p| p.who == who).expect("a proxy of the laboratory");
        let whole = compile(world, &proxy.id, None).snapshot;
        let sent = compile(&World::from_wire(&proxy.held).0, &proxy.id, None).snapshot;
        let mut twin: (World, Option<Compiled>) = (World::new(), None);
        for delta in &proxy.sent {
            twin.0 = twin.0.with_delta(delta).0;
            twin.1 = Some(compile(&twin.0, &proxy.id, twin.1.as_ref()));
        }
        let followed = &twin.1.as_ref().expect("it has a configuration").snapshot;
        let mut said = format!("the whole is {}, scoped {}, followed {}", whole.hash, sent.hash, followed.hash);
        for (name, other) in [("scoped", &sent), ("followed", followed)] {
            let mut found = Vec::new();
            places_that_differ(&whole.to_json(), &other.to_json(), String::new(), &mut found);
            said += &format!("\n{name}:\n{}", found.join("\n"));
        }
        said
    }

    /// The access log line of a request, by its `user-agent`.
    pub(crate) async fn log(&self, who: Who, agent: &str) -> Option<Value> {
        self.logs.line(who, agent).await
    }
}

fn places_that_differ(a: &Value, b: &Value, at: String, out: &mut Vec<String>) {
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            for key in x.keys().chain(y.keys().filter(|k| !x.contains_key(*k))) {
                places_that_differ(&a[key], &b[key], format!("{at}.{key}"), out);
            }
        }
        (Value::Array(x), Value::Array(y)) if x.iter().chain(y).all(|i| i["name"].is_string()) => {
            let by_name = |list: &[Value]| -> Value {
                list.iter().map(|i| (i["name"].as_str().unwrap_or_default().to_owned(), i.clone())).collect()
            };
            places_that_differ(&by_name(x), &by_name(y), at, out);
        }
        (Value::Array(x), Value::Array(y)) if x.len() == y.len() => {
            x.iter().zip(y).enumerate().for_each(|(i, (x, y))| places_that_differ(x, y, format!("{at}[{i}]"), out));
        }
        _ if a != b => out.push(format!("{at}: {} and {}", short(a), short(b))),
        _ => {}
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for proxy in &mut self.proxies {
            let _ = proxy.child.kill();
            let _ = proxy.child.wait();
        }
        let _ = std::fs::remove_dir_all(&self.block.files);
    }
}

impl Logs {
    /// The line of a request, by its `user-agent`.
    pub(crate) async fn line(&self, who: Who, agent: &str) -> Option<Value> {
        let key = (who, agent.to_owned());
        let (lines, changed) = &*self.0;
        let wait = async {
            loop {
                let next = changed.notified();
                let mut next = std::pin::pin!(next);
                next.as_mut().enable();
                if let Some(line) = lines.lock().unwrap().remove(&key) {
                    return line;
                }
                next.await;
            }
        };
        timeout(Duration::from_secs(20), wait).await.ok()
    }

    /// Reads lines to the end.
    pub(crate) fn read(&self, who: Who, lines: impl Iterator<Item = std::io::Result<String>>) {
        for line in lines.map_while(Result::ok) {
            let Ok(line) = serde_json::from_str::<Value>(&line) else { continue };
            // A TCP stream has no user agent; its line has the address of the client's socket.
            let agent = line["agent"].as_str().or(line["remote"].as_str()).unwrap_or_default().to_owned();
            self.0.0.lock().unwrap().insert((who, agent), line);
            self.0.1.notify_waiters();
        }
    }
}

/// Who a proxy is.
pub(crate) fn identity(world: &World, who: Who) -> ProxyId {
    let (namespace, name, kind) = match who {
        Who::Front | Who::Member => ("shop", "front", ProxyKind::Sidecar),
        Who::Cron => ("other", "cron", ProxyKind::Sidecar),
        Who::Side => ("shop", "side", ProxyKind::Sidecar),
        Who::Gateway => ("istio-system", "istio-ingressgateway", ProxyKind::Gateway),
    };
    let workload = world.workloads_in(namespace).iter().find(|w| *w.workload_name == *name).expect("a workload");
    ProxyId::of(kind, workload)
}

/// Access-log lines by proxy and request.
type Lines = HashMap<(Who, String), Value>;

fn short(value: &Value) -> String {
    value.to_string().chars().take(300).collect()
}
