use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

use mesh_core::record::ConnInfo;
use mesh_core::snapshot::{Direction, EndpointSource};

use super::*;
use crate::cluster::Choice;
use crate::net::{ConnectOptions, HostDatagrams, HostEnv, HostListener, HostNet, HostStream, Resolved, Share};

/// Addresses and their time to live in seconds; `None`: the look-up fails.
type Answer = Option<(&'static [&'static str], u64)>;

/// Answers of a resolver in order; the last one is repeated.
#[derive(Clone)]
struct Scripted {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    asked: Arc<AtomicUsize>,
    told: Arc<watch::Sender<usize>>,
}

impl Scripted {
    fn new(answers: &[Answer]) -> Self {
        let answers = Arc::new(Mutex::new(answers.iter().copied().collect()));
        Self { answers, asked: Arc::default(), told: Arc::new(watch::Sender::new(0)) }
    }

    /// Waits until so many look-ups were made; time passes meanwhile.
    async fn asked(&self, times: usize) {
        self.told.subscribe().wait_for(|n| *n >= times).await.unwrap();
        tokio::task::yield_now().await;
    }
}

impl Net for Scripted {
    type Stream = HostStream;
    type Listener = HostListener;
    type Datagrams = HostDatagrams;

    async fn connect(&self, to: SocketAddr, options: ConnectOptions) -> io::Result<HostStream> {
        HostNet::new().connect(to, options).await
    }
    async fn listen(&self, name: &str, at: SocketAddr, share: Share) -> io::Result<HostListener> {
        HostNet::new().listen(name, at, share).await
    }
    async fn listen_host(&self, name: &str, at: SocketAddr, share: Share) -> io::Result<HostListener> {
        HostNet::new().listen_host(name, at, share).await
    }
    async fn datagrams(&self, at: SocketAddr) -> io::Result<HostDatagrams> {
        HostNet::new().datagrams(at).await
    }
    async fn unlisten_host(&self, _: SocketAddr) -> io::Result<()> {
        Ok(())
    }
    async fn resolve(&self, _: &str) -> io::Result<Resolved> {
        let answer = {
            let mut answers = self.answers.lock();
            if answers.len() > 1 { answers.pop_front() } else { answers.front().copied() }
        };
        let count = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        self.told.send_replace(count);
        let (ips, ttl) = answer.flatten().ok_or_else(|| io::Error::other("no answer"))?;
        let addresses = ips.iter().map(|ip| ip.parse().unwrap()).collect();
        Ok(Resolved { addresses, ttl: Duration::from_secs(ttl) })
    }
    fn original_dst(&self, stream: &HostStream) -> io::Result<SocketAddr> {
        HostNet::new().original_dst(stream)
    }
}

fn source(first_only: bool) -> EndpointSource {
    let workload = Arc::new(mesh_core::model::Workload { weight: 3, ..Default::default() });
    let name = DnsName { host: "a.example".into(), port: 443, workload, mesh: Default::default() };
    EndpointSource::Dns { names: vec![name], first_only, retry: Duration::from_secs(60) }
}

fn plan(source: EndpointSource) -> mesh_core::snapshot::ClusterPlan {
    crate::cluster::testing::plan("outbound|443||a.example", source)
}

fn runtime(net: &Scripted) -> Arc<Runtime<Scripted>> {
    Arc::new(Runtime::new(net.clone(), Arc::new(HostEnv), Vec::new(), 1))
}

fn addresses(runtime: &Runtime<Scripted>) -> Vec<String> {
    runtime.endpoints("outbound|443||a.example").iter().map(|e| format!("{}*{}", e.address, e.weight)).collect()
}

fn conn(sni: &str) -> ConnInfo {
    let local = "10.0.0.1:8443".parse().unwrap();
    ConnInfo {
        direction: Direction::Outbound,
        peer: local,
        local,
        direct: None,
        sni: sni.into(),
        tls: None,
        peer_text: Default::default(),
    }
}

#[tokio::test(start_paused = true)]
async fn answers_are_used_for_their_time_and_kept_when_the_next_look_up_fails() {
    let net = Scripted::new(&[Some((&["192.0.2.1", "192.0.2.2"], 5)), None, Some((&["192.0.2.3"], 0))]);
    let runtime = runtime(&net);
    let began = Instant::now();
    let plan = plan(source(false));
    runtime.follow_names(&plan);
    let cluster = runtime.cluster(&plan.name);
    // The first request waits for the first answer.
    runtime.pick(&plan, &cluster, &conn(""), Choice::default()).await.unwrap();
    assert_eq!(addresses(&runtime), ["192.0.2.1:443*3", "192.0.2.2:443*3"]);
    assert!(began.elapsed() < Duration::from_secs(1));
    net.asked(2).await;
    assert!(began.elapsed() >= Duration::from_secs(5));
    assert_eq!(addresses(&runtime).len(), 2);
    net.asked(3).await;
    assert!(began.elapsed() >= Duration::from_secs(65), "dnsRefreshRate");
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(addresses(&runtime), ["192.0.2.3:443*3"]);
    // A time to live of nothing is a second.
    net.asked(4).await;
    assert!(began.elapsed() >= Duration::from_secs(66));
}

#[tokio::test(start_paused = true)]
async fn round_robin_uses_the_first_address() {
    let net = Scripted::new(&[Some((&["192.0.2.9", "192.0.2.1"], 60))]);
    let runtime = runtime(&net);
    let plan = plan(source(true));
    runtime.follow_names(&plan);
    let cluster = runtime.cluster(&plan.name);
    runtime.pick(&plan, &cluster, &conn(""), Choice::default()).await.unwrap();
    assert_eq!(addresses(&runtime), ["192.0.2.9:443*3"]);
    // The same plan again asks nothing again.
    runtime.follow_names(&plan);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(net.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_never_resolves_has_no_endpoint() {
    let net = Scripted::new(&[None]);
    let runtime = runtime(&net);
    let plan = plan(source(false));
    runtime.follow_names(&plan);
    let cluster = runtime.cluster(&plan.name);
    let error = runtime.pick(&plan, &cluster, &conn(""), Choice::default()).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::NoHealthyUpstream);
}

#[tokio::test(start_paused = true)]
async fn the_request_names_the_host() {
    let net = Scripted::new(&[Some((&["192.0.2.7"], 5)), None]);
    let runtime = runtime(&net);
    let plan = plan(EndpointSource::DynamicDns { port: None });
    let cluster = runtime.cluster(&plan.name);
    let at = async |host, sni: &str| {
        let choice = Choice { host, ..Choice::default() };
        let active = runtime.pick(&plan, &cluster, &conn(sni), choice).await?;
        Ok::<_, Error>(active.member().endpoint().address.to_string())
    };
    assert_eq!(at(Some("a.example"), "").await.unwrap(), "192.0.2.7:8443");
    assert_eq!(at(None, "A.example").await.unwrap(), "192.0.2.7:8443", "known, in any case of letters");
    assert_eq!(at(Some("192.0.2.8"), "").await.unwrap(), "192.0.2.8:8443");
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(at(Some("a.example"), "").await.unwrap_err().kind(), ErrorKind::DnsFailure);
    assert_eq!(at(None, "").await.unwrap(), "10.0.0.1:8443", "nothing names a host: where the client dialled");
}

#[tokio::test(start_paused = true)]
async fn a_name_that_leads_back_to_the_proxy_is_no_loop() {
    let net = Scripted::new(&[Some((&["127.0.0.1"], 5))]);
    let runtime = runtime(&net);
    for (direction, local, port, serves) in [
        (Direction::Gateway, "192.0.2.1:8080", None, false),
        (Direction::Gateway, "192.0.2.1:8080", Some(9090), true),
        (Direction::Outbound, "192.0.2.1:8080", None, true),
        (Direction::Outbound, "192.0.2.1:8080", Some(15001), false),
    ] {
        let plan = plan(EndpointSource::DynamicDns { port });
        let cluster = runtime.cluster(&plan.name);
        let conn = ConnInfo { direction, local: local.parse().unwrap(), ..conn("") };
        let choice = Choice { host: Some("here.example"), ..Choice::default() };
        let picked = runtime.pick(&plan, &cluster, &conn, choice).await;
        assert_eq!(picked.is_ok(), serves, "{direction:?} {port:?}");
    }
}
