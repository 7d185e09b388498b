//! Certificates that live for seconds, under load: they are renewed, the CA goes away for longer than they live, the root
//! is replaced. No request may notice, and nobody may get anywhere with a certificate that has expired.
//!
//! The short forms end when they have seen what they wait for. The long ones take minutes of wall-clock time:
//!
//! ```text
//! cargo test --workspace --test tls soak -- --ignored --nocapture --test-threads 1
//! ```

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use mesh_core::record::RequestRecord;
use mesh_core::snapshot::TlsParameters;
use mesh_proxy::csr::{CertificateRequest, CsrClient, CsrServer, Redial, serve};
use mesh_proxy::net::HostEnv;
use mesh_tls::{
    Authority, AuthorityConfig, CaError, Carries, CertHandle, CertManager, CertState, CertificateInfo, Material,
    MtlsConnector, MtlsUpstream, Rotation, RotationConfig, SecretData, SecretRef, SecretState, Secrets, SpiffeId,
    TrustDomains, WorkloadCert, deliver,
};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Barrier, Notify};
use tokio::task::AbortHandle;

use crate::certificates::Ca;
use crate::mesh::{CLIENT, Mesh, SERVER, strict};
use crate::running::get;

/// Clients, each with a connection of its own that it keeps.
const CLIENTS: usize = 8;

/// How hard and how long.
#[derive(Clone, Copy)]
struct Soak {
    /// Life of a certificate in seconds.
    life: u64,
    /// Requests per second of all clients.
    rate: u64,
    /// How long each part takes at least; none: as long as it takes to see what it is about.
    part: Duration,
}

const SHORT: Soak = Soak { life: 2, rate: 500, part: Duration::ZERO };

/// A CA that can go away, with every connection to it, and come back.
#[derive(Default)]
struct Office {
    authority: Mutex<Option<Arc<Authority>>>,
    open: Mutex<Vec<AbortHandle>>,
}

impl Office {
    fn opens(&self, authority: Authority) {
        *self.authority.lock() = Some(Arc::new(authority));
    }

    fn dies(&self) {
        *self.authority.lock() = None;
        self.open.lock().drain(..).for_each(|connection| connection.abort());
    }

    fn authority(&self) -> Arc<Authority> {
        self.authority.lock().clone().expect("it is open")
    }

    fn dial(&self, id: SpiffeId) -> io::Result<DuplexStream> {
        let authority = self.authority.lock().clone().ok_or(io::ErrorKind::ConnectionRefused)?;
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let connection = tokio::spawn(serve(theirs, Arc::new(Desk { authority, id })));
        self.open.lock().push(connection.abort_handle());
        Ok(ours)
    }
}

/// The CA for whoever has this connection.
struct Desk {
    authority: Arc<Authority>,
    id: SpiffeId,
}

impl CsrServer for Desk {
    fn sign(&self, _: Option<&str>, request: &CertificateRequest) -> Result<Vec<String>, CaError> {
        let seconds = u64::try_from(request.validity_duration).unwrap_or(0);
        self.authority.issue(&self.id, request.csr.as_bytes(), Duration::from_secs(seconds))
    }
}

/// Gives a sidecar an identity that is kept fresh.
fn identify(office: &Arc<Office>, uri: &str, secrets: &Arc<Secrets>, soak: Soak) -> CertHandle {
    let id: SpiffeId = uri.parse().unwrap();
    let dial = {
        let (office, id) = (Arc::clone(office), id.clone());
        move || std::future::ready(office.dial(id.clone()))
    };
    let signer = CsrClient::new(Redial(dial), None, "Kubernetes");
    let config = RotationConfig { validity: Duration::from_secs(soak.life), ..RotationConfig::default() };
    let (manager, handle) = CertManager::new(id, signer, config, Arc::new(HostEnv));
    tokio::spawn(manager.run());
    let (delivered, secrets) = (handle.clone(), Arc::clone(secrets));
    tokio::spawn(async move { deliver(&delivered, &secrets).await });
    handle
}

/// What everybody has seen.
#[derive(Default)]
struct Tally {
    answered: AtomicU64,
    some: Notify,
    failed: Mutex<Vec<String>>,
    /// Handshakes that succeeded.
    fresh: AtomicU64,
    /// Handshakes with an expired certificate, all of which were refused.
    refused: AtomicU64,
    /// Connections between the sidecars.
    connections: AtomicU64,
}

impl Tally {
    fn fails(&self, what: String) {
        eprintln!("{what}");
        self.failed.lock().push(what);
        self.some.notify_waiters();
    }

    /// Until so many more requests have been answered.
    async fn more(&self, count: u64) {
        let until = self.answered.load(Ordering::Relaxed) + count;
        loop {
            let some = self.some.notified();
            if self.answered.load(Ordering::Relaxed) >= until || !self.failed.lock().is_empty() {
                return;
            }
            some.await;
        }
    }

    fn check(&self, what: &str) {
        let failed = self.failed.lock();
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        println!(
            "{what}: {} requests, {} failed; {} connections between the sidecars, {} more handshakes, {} with expired \
             certificates were refused",
            count(&self.answered),
            failed.len(),
            count(&self.connections),
            count(&self.fresh),
            count(&self.refused),
        );
        assert!(failed.is_empty(), "{what}: {} failed: {:#?}", failed.len(), &failed[..failed.len().min(5)]);
    }
}

/// An application that answers at once, and `/together` when every client asks for it.
async fn application() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let all = Arc::new(Barrier::new(CLIENTS));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let all = Arc::clone(&all);
            tokio::spawn(async move {
                while let Some(head) = head(&mut stream).await {
                    if head.starts_with("GET /together") {
                        all.wait().await;
                    }
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
                }
            });
        }
    });
    at
}

async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_buf(&mut head).await.ok().filter(|n| *n > 0)?;
    }
    String::from_utf8(head).ok()
}

async fn ask(stream: &mut TcpStream, path: &str) -> Result<(), String> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: server\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(|e| e.to_string())?;
    let head = head(stream).await.ok_or("the connection ended")?;
    if !head.starts_with("HTTP/1.1 200") {
        // What follows is not read: the connection is of no use any more.
        return Err(head);
    }
    Ok(())
}

/// One client, for as long as the test runs.
async fn client(at: SocketAddr, soak: Soak, tally: Arc<Tally>) {
    let mut stream = TcpStream::connect(at).await.unwrap();
    if let Err(why) = ask(&mut stream, "/together").await {
        tally.fails(why);
    }
    let mut pace = tokio::time::interval(Duration::from_secs(1) * CLIENTS as u32 / soak.rate as u32);
    loop {
        pace.tick().await;
        match ask(&mut stream, "/").await {
            Ok(()) => drop(tally.answered.fetch_add(1, Ordering::Relaxed)),
            Err(why) => {
                tally.fails(format!("{:?} {why}", SystemTime::now()));
                stream = TcpStream::connect(at).await.unwrap();
            }
        }
        tally.some.notify_waiters();
    }
}

/// Shows a certificate to the server, and asks for something if it is taken.
async fn shake(to: SocketAddr, shown: &WorkloadCert, roots: &WorkloadCert) -> Result<SystemTime, String> {
    let secrets = Secrets::default();
    let upstream = MtlsUpstream {
        host: "server.default.svc.cluster.local".into(),
        port: 80,
        subset: "".into(),
        accounts: vec![SERVER.into()],
        parameters: TlsParameters::mesh(false, []),
    };
    let connector = MtlsConnector::new(&upstream, &TrustDomains::default(), &secrets);
    secrets.set(&SecretRef::Workload, SecretState::Ready(Material::Identity(shown.identity.clone())));
    secrets.set(&SecretRef::MeshRoots, SecretState::Ready(Material::Roots(Arc::clone(&roots.roots))));
    let stream = TcpStream::connect(to).await.map_err(|e| e.to_string())?;
    let (mut stream, peer) = connector.connect(stream, Carries::Http1).await.map_err(|e| e.to_string())?;
    let answer = get(&mut stream, "server").await?;
    if !answer.starts_with("HTTP/1.1 200") {
        return Err(answer);
    }
    Ok(peer.certificate().not_after)
}

/// New connections all the time, with the certificate in force and with one that has been renewed long ago.
async fn handshakes(to: SocketAddr, (client, server): (CertHandle, CertHandle), tally: Arc<Tally>) {
    let first = client.current().expect("a certificate");
    let mut pace = tokio::time::interval(Duration::from_millis(50));
    loop {
        pace.tick().await;
        let began = SystemTime::now();
        if let (Some(shown), Some(_)) = (client.current(), server.current()) {
            let result = shake(to, &shown, &shown).await;
            let now = SystemTime::now();
            match result {
                Ok(not_after) if not_after >= began && shown.not_after >= began => {
                    tally.fresh.fetch_add(1, Ordering::Relaxed);
                }
                Ok(_) => tally.fails("a handshake with a certificate that has expired".into()),
                // The server may have lost its own meanwhile.
                Err(why) if now < shown.not_after && server.current().is_some_and(|c| now < c.not_after) => {
                    tally.fails(format!("{now:?} a handshake failed: {why}"));
                }
                Err(_) => {}
            }
            // The last second of its life belongs to it.
            if first.not_after + Duration::from_secs(1) <= began {
                match shake(to, &first, &shown).await {
                    Ok(_) => tally.fails("a certificate that has expired was taken".into()),
                    Err(_) => drop(tally.refused.fetch_add(1, Ordering::Relaxed)),
                }
            }
        }
    }
}

/// Looks at what the server's sidecar says of each connection when it sees it for the first time.
fn look(record: &RequestRecord, seen: &mut HashMap<SocketAddr, SystemTime>, tally: &Tally) {
    if record.http.is_none() {
        // Nobody was let in.
        return;
    }
    let Some(tls) = &record.cx.conn.tls else { return tally.fails("plaintext".into()) };
    let Some(peer) = &tls.identity else { return tally.fails("a peer without an identity".into()) };
    let not_after = peer.certificate().not_after;
    if seen.insert(record.cx.conn.peer, not_after) != Some(not_after) {
        if record.path() != "/x" {
            tally.connections.fetch_add(1, Ordering::Relaxed);
        }
        // The request follows the handshake at once.
        if not_after + Duration::from_secs(2) < record.start {
            tally.fails(format!("a connection with a certificate that has expired: {:?}", record.cx.conn.peer));
        }
    }
}

/// Two sidecars under load, with certificates from this CA.
struct Running {
    mesh: Mesh,
    client: CertHandle,
    server: CertHandle,
    tally: Arc<Tally>,
}

/// A connection of the sidecars serves so many requests, so that there are always new ones.
const CHURN: &str = "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: r, namespace: \
                     default}\nspec: {host: server, trafficPolicy: {connectionPool: {http: {maxRequestsPerConnection: \
                     20}}}}\n";

impl Running {
    async fn start(office: &Arc<Office>, soak: Soak, policy: &str) -> Self {
        let mut mesh = Mesh::nobody("HTTP", application().await, policy).await;
        let client = identify(office, CLIENT, &mesh.client.secrets, soak);
        let server = identify(office, SERVER, &mesh.server.secrets, soak);
        let tally = Arc::new(Tally::default());
        let running = {
            let (_, mut sent) = tokio::sync::mpsc::unbounded_channel();
            let (_, mut received) = tokio::sync::mpsc::unbounded_channel();
            std::mem::swap(&mut sent, &mut mesh.client.records);
            std::mem::swap(&mut received, &mut mesh.server.records);
            tokio::spawn(async move { while sent.recv().await.is_some() {} });
            let counted = Arc::clone(&tally);
            tokio::spawn(async move {
                let mut seen = HashMap::new();
                while let Some(record) = received.recv().await {
                    look(&record, &mut seen, &counted);
                }
            });
            Self { mesh, client, server, tally }
        };
        running.issued(1).await;
        for _ in 0..CLIENTS {
            tokio::spawn(self::client(running.mesh.client.at, soak, Arc::clone(&running.tally)));
        }
        let handles = (running.client.clone(), running.server.clone());
        tokio::spawn(handshakes(running.mesh.server.at, handles, Arc::clone(&running.tally)));
        running
    }

    /// Until both have had so many certificates more, and one is in force.
    async fn issued(&self, more: u64) {
        for handle in [&self.client, &self.server] {
            let until = handle.status().issued + more;
            let mut state = mesh_tls::CertSource::watch(handle);
            let there = |s: &CertState| matches!(s, CertState::Issued(_)) && handle.status().issued >= until;
            state.wait_for(there).await.unwrap();
        }
    }

    /// Until neither has a certificate that is valid.
    async fn expired(&self) {
        for handle in [&self.client, &self.server] {
            let mut state = mesh_tls::CertSource::watch(handle);
            state.wait_for(|s| matches!(s, CertState::Failed(_))).await.unwrap();
        }
    }
}

fn cacerts(ca: &Ca) -> SecretData {
    let key = ca.issuer.key().serialize_pem();
    let files = [("ca-cert.pem", &ca.pem), ("ca-key.pem", &key), ("root-cert.pem", &ca.pem)];
    SecretData(files.map(|(name, text)| (name.to_owned(), text.clone().into_bytes())).into())
}

/// Renewals, then a time without a CA that is longer than a certificate lives, then renewals again.
async fn without_a_ca(soak: Soak) {
    let files = cacerts(&Ca::new("root"));
    let authority = || Authority::plugged_in(&files, AuthorityConfig::default(), Arc::new(HostEnv)).unwrap();
    let office = Arc::new(Office::default());
    office.opens(authority());
    let running = Running::start(&office, soak, &strict()).await;
    let tally = &running.tally;
    tokio::join!(running.issued(3), tally.more(500), tokio::time::sleep(soak.part * 3));

    office.dies();
    tokio::join!(
        async {
            running.expired().await;
            tally.more(300).await
        },
        tokio::time::sleep(soak.part * 2)
    );
    assert!(running.client.current().is_none() && running.server.current().is_none());
    // Whoever is there goes on. Nobody else gets in, and nobody gets out.
    assert!(get(&mut running.mesh.server.connect().await, "server").await.is_err(), "STRICT");
    let before = tally.fresh.load(Ordering::Relaxed);

    office.opens(authority());
    tokio::join!(running.issued(2), tally.more(300), tokio::time::sleep(soak.part * 3));
    assert!(tally.fresh.load(Ordering::Relaxed) > before, "new connections are made again");
    assert!(tally.refused.load(Ordering::Relaxed) > 0);
    assert_eq!(tally.connections.load(Ordering::Relaxed), CLIENTS as u64, "those of the beginning");
    tally.check("a CA that goes away");
}

/// From one root to another, while connections are made all the time.
async fn another_root(soak: Soak) {
    let office = Arc::new(Office::default());
    office.opens(Authority::self_signed(AuthorityConfig::default(), Arc::new(HostEnv)).unwrap());
    let running = Running::start(&office, soak, &(strict() + CHURN)).await;
    let authority = office.authority();
    let root = || CertificateInfo::of_pem(&authority.trust_bundle().borrow())[0].serial.to_string();
    let old = root();
    authority.rotate_root().unwrap();
    assert_eq!(authority.rotation(), Rotation::Announced);
    for reached in [Rotation::Retiring, Rotation::Stable] {
        let mut bundle = authority.trust_bundle();
        while authority.rotation() != reached {
            tokio::join!(running.tally.more(200), running.issued(1));
            running.tally.check("on the way");
            bundle.borrow_and_update();
        }
        println!("the rotation is {reached:?}");
        running.issued(1).await;
    }
    assert_ne!(root(), old);
    tokio::join!(running.issued(2), running.tally.more(300), tokio::time::sleep(soak.part));
    assert!(running.tally.connections.load(Ordering::Relaxed) > 20);
    running.tally.check("another root");
}

#[tokio::test]
async fn no_request_notices_that_the_ca_is_away() {
    without_a_ca(SHORT).await;
}

#[tokio::test]
async fn no_request_notices_another_root() {
    another_root(SHORT).await;
}

/// Certificates for 10 s, 500 requests a second for two minutes, the CA away for 30 s in the middle.
#[tokio::test]
#[ignore = "takes two minutes"]
async fn soak_without_a_ca() {
    without_a_ca(Soak { life: 10, rate: 500, part: Duration::from_secs(15) }).await;
}

#[tokio::test]
#[ignore = "takes a minute"]
async fn soak_another_root() {
    another_root(Soak { life: 10, rate: 500, part: Duration::from_secs(15) }).await;
}
