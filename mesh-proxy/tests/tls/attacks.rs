//! What is tried against a sidecar by somebody who can reach its port, beside certificates that are not right (see `mesh`).
//! `docs/attacks.md` has the whole list.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh_core::snapshot::{SecretRef, TlsParameters};
use mesh_tls::{Carries, MtlsConnector, MtlsUpstream, Secrets, TlsStream, TrustDomains};
use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

use crate::mesh::{CLIENT, Mesh, SERVER, fate, strict};
use crate::programs::Folder;
use crate::running::{get, plain_upstream};

/// A connection of a workload that may speak to the server.
async fn workload(mesh: &Mesh, carries: Carries) -> TlsStream<TcpStream> {
    let secrets = Secrets::default();
    let upstream = MtlsUpstream {
        host: "server.default.svc.cluster.local".into(),
        port: 80,
        subset: "".into(),
        accounts: vec![SERVER.into()],
        parameters: TlsParameters::mesh(false, []),
    };
    let connector = MtlsConnector::new(&upstream, &TrustDomains::default(), &secrets);
    secrets.set(&SecretRef::MeshRoots, mesh.ca.roots());
    secrets.set(&SecretRef::Workload, mesh.ca.leaf(&[CLIENT]).material());
    connector.connect(mesh.server.connect().await, carries).await.unwrap().0
}

fn policy(spec: &str) -> String {
    let head = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: x, namespace: default}\n";
    format!("{}---\n{head}spec: {{selector: {{matchLabels: {{app: server}}}}, {spec}}}\n", strict())
}

fn hosts(action: &str, field: &str) -> String {
    policy(&format!(
        "action: {action}, rules: [{{to: [{{operation: {{{field}: [secret.example, 'secret.example:*']}}}}]}}]"
    ))
}

/// Answers with the request's head; what it got is noted.
async fn noted() -> (std::net::SocketAddr, Arc<Mutex<Vec<u8>>>) {
    let got = Arc::new(Mutex::new(Vec::new()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn({
        let got = Arc::clone(&got);
        async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let got = Arc::clone(&got);
                tokio::spawn(async move {
                    let mut buffer = [0; 4096];
                    while let Ok(n @ 1..) = stream.read(&mut buffer).await {
                        got.lock().extend_from_slice(&buffer[..n]);
                        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
                    }
                });
            }
        }
    });
    (at, got)
}

/// Every spelling of a host that is denied is denied, or is nobody's who is allowed.
#[tokio::test]
async fn spellings_of_a_host_open_nothing() {
    let spellings = [
        "secret.example",
        "SECRET.example",
        "Secret.Example:80",
        "secret.example.",
        "secret.example..",
        "secret.example.:80",
        "SECRET.EXAMPLE.:8080",
        "secret.example:",
        "user@secret.example",
        "public.example:80@SECRET.example.:80",
        "secret.example?x",
        "secret.example#x",
        "secret.example\\x",
    ];
    let mesh = Mesh::start("HTTP", plain_upstream().await, &strict()).await;
    for (policy, what) in [(hosts("DENY", "hosts"), "denied"), (hosts("ALLOW", "notHosts"), "not among the allowed")] {
        mesh.configure(&policy);
        for host in spellings {
            let answer = get(&mut workload(&mesh, Carries::Http1).await, host).await.unwrap();
            // A host that is none is refused before that.
            assert!(
                answer.starts_with("HTTP/1.1 403") || answer.starts_with("HTTP/1.1 400"),
                "{what} {host}: {answer}"
            );
        }
        let answer = get(&mut workload(&mesh, Carries::Http1).await, "public.example").await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{what}: {answer}");
    }
}

/// Over HTTP/2 there may be two names. Policies see the one that the application gets.
#[tokio::test]
async fn an_authority_and_another_host() {
    let mesh = Mesh::start("HTTP", plain_upstream().await, &strict()).await;
    for (policy, authority, host, status) in [
        (hosts("DENY", "hosts"), "secret.example", "public.example", 403),
        (hosts("DENY", "hosts"), "public.example", "secret.example", 200),
        (hosts("ALLOW", "hosts"), "public.example", "secret.example", 403),
        (hosts("ALLOW", "hosts"), "secret.example", "public.example", 200),
    ] {
        mesh.configure(&policy);
        let io = TokioIo::new(workload(&mesh, Carries::Http2).await);
        let (mut client, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        let request = http::Request::get(format!("http://{authority}/x")).header("host", host);
        let answer = client.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{authority} {host}");
        if status == 200 {
            let seen = answer.into_body().collect().await.unwrap().to_bytes();
            let seen = String::from_utf8_lossy(&seen).to_lowercase();
            let names: Vec<&str> = seen.lines().filter_map(|l| l.strip_prefix("host: ")).collect();
            assert_eq!(names, [authority], "{seen}");
        }
    }
}

/// Early data would be this: what somebody has recorded is sent once more. There is none, and no session to have it in.
#[tokio::test]
async fn a_recorded_connection_is_of_no_use() {
    let (app, got) = noted().await;
    let mesh = Mesh::start("HTTP", app, &strict()).await;
    // Between a workload and the server.
    let between = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (at, to) = (between.local_addr().unwrap(), mesh.server.at);
    let recorded = tokio::spawn(async move {
        let (client, _) = between.accept().await.unwrap();
        let mut server = TcpStream::connect(to).await.unwrap();
        let mut client = Recording { io: client, read: Vec::new() };
        let _ = copy_bidirectional(&mut client, &mut server).await;
        client.read
    });
    let secrets = Secrets::default();
    let upstream = MtlsUpstream {
        host: "server.default.svc.cluster.local".into(),
        port: 80,
        subset: "".into(),
        accounts: vec![SERVER.into()],
        parameters: TlsParameters::mesh(false, []),
    };
    let connector = MtlsConnector::new(&upstream, &TrustDomains::default(), &secrets);
    secrets.set(&SecretRef::MeshRoots, mesh.ca.roots());
    secrets.set(&SecretRef::Workload, mesh.ca.leaf(&[CLIENT]).material());
    let stream = TcpStream::connect(at).await.unwrap();
    let (mut stream, _) = connector.connect(stream, Carries::Http1).await.unwrap();
    assert!(get(&mut stream, "server").await.unwrap().starts_with("HTTP/1.1 200"));
    drop(stream);
    let recorded = recorded.await.unwrap();
    assert!(got.lock().starts_with(b"GET /x"), "it was a request");
    got.lock().clear();
    assert!(recorded.len() > 1000, "{}", recorded.len());
    let answer = fate(mesh.server.connect().await, &recorded).await;
    // A handshake begins again, and goes nowhere.
    assert!(answer.is_none_or(|a| !String::from_utf8_lossy(&a).contains("HTTP/1.1")));
    assert!(got.lock().is_empty(), "{}", String::from_utf8_lossy(&got.lock()));
    assert!(get(&mut workload(&mesh, Carries::Http1).await, "server").await.unwrap().starts_with("HTTP/1.1 200"));
}

pin_project_lite::pin_project! {
    /// Notes what is read.
    struct Recording {
        #[pin]
        io: TcpStream,
        read: Vec<u8>,
    }
}

impl tokio::io::AsyncRead for Recording {
    fn poll_read(
        self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        let this = self.project();
        let before = buf.filled().len();
        let polled = this.io.poll_read(cx, buf);
        this.read.extend_from_slice(&buf.filled()[before..]);
        polled
    }
}

impl tokio::io::AsyncWrite for Recording {
    fn poll_write(
        self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        self.project().io.poll_write(cx, buf)
    }

    fn poll_flush(
        self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        self.project().io.poll_flush(cx)
    }

    fn poll_shutdown(
        self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        self.project().io.poll_shutdown(cx)
    }
}

/// OpenSSL's client with a workload's certificate.
fn openssl(mesh: &Mesh, folder: &Folder, arguments: &[&str]) -> Option<Child> {
    let leaf = mesh.ca.leaf(&[CLIENT]);
    let files = [("leaf.pem", &leaf.pem), ("leaf.key", &leaf.key), ("ca.pem", &mesh.ca.pem)];
    let [cert, key, ca] = files.map(|(name, text)| folder.file(name, text));
    let to = mesh.server.at.to_string();
    let base = ["s_client", "-connect", &to, "-cert", &cert, "-key", &key, "-CAfile", &ca, "-alpn", "istio-http/1.1"];
    let mut command = Command::new("openssl");
    command.args(base).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.kill_on_drop(true).spawn();
    child.inspect_err(|error| eprintln!("SKIPPED: openssl can't be run: {error}")).ok()
}

/// What it says until the server ends the connection.
async fn exchanged(mut client: Child) -> String {
    let mut stdin = client.stdin.take().unwrap();
    stdin.write_all(b"GET /x HTTP/1.1\r\nhost: server\r\nconnection: close\r\n\r\n").await.unwrap();
    let output = tokio::time::timeout(Duration::from_secs(60), client.wait_with_output());
    let output = output.await.expect("the server ends the connection").unwrap();
    drop(stdin);
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

/// A session of another server, as openssl keeps it: it may be gone on with, and early data may be sent in it. `false`: there
/// is no openssl.
async fn session_of_another(mesh: &Mesh, folder: &Folder, into: &str) -> bool {
    let leaf = mesh.ca.leaf(&[SERVER]);
    let (cert, key) = (folder.file("other.pem", &leaf.pem), folder.file("other.key", &leaf.key));
    let run = |arguments: &[&str]| {
        let mut command = Command::new("openssl");
        command.args(arguments).args(["-tls1_3", "-alpn", "istio-http/1.1"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true).spawn()
    };
    let server =
        ["s_server", "-accept", "127.0.0.1:0", "-cert", &cert, "-key", &key, "-early_data", "-num_tickets", "1"];
    let Ok(mut server) = run(&server) else { return false };
    let until = async |child: &mut Child, text: &str| {
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        loop {
            let line = lines.next_line().await.unwrap().expect("openssl goes on");
            if line.contains(text) {
                // What else it says has to go somewhere.
                tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
                return line;
            }
        }
    };
    let at = until(&mut server, "ACCEPT ").await.replace("ACCEPT ", "");
    // What is said inside comes after the session.
    server.stdin.as_mut().unwrap().write_all(b"done\n").await.unwrap();
    let mut client = run(&["s_client", "-connect", &at, "-sess_out", into]).unwrap();
    until(&mut client, "done").await;
    true
}

#[tokio::test]
async fn there_are_no_sessions_and_no_early_data() {
    let (app, got) = noted().await;
    let mesh = Mesh::start("HTTP", app, &strict()).await;
    let folder = Folder::new("sessions");
    for version in ["-tls1_3", "-tls1_2"] {
        let session = folder.file("session.pem", "");
        let Some(client) = openssl(&mesh, &folder, &[version, "-sess_out", &session]) else { return };
        let said = exchanged(client).await;
        assert!(said.contains("HTTP/1.1 200"), "{version}: {said}");
        assert!(!said.contains("New Session Ticket") && !said.contains("TLS session ticket:"), "{version}: {said}");
        // Where there is a session to speak of, it has no name to come back by.
        let names: Vec<&str> = said.lines().filter_map(|l| l.trim().strip_prefix("Session-ID:")).collect();
        assert!(names.len() == usize::from(version == "-tls1_2") && names.iter().all(|n| n.is_empty()), "{said}");
    }
    // One that somebody else has made is of no use, and what comes with it is not read.
    let session = folder.file("other-session.pem", "");
    assert!(session_of_another(&mesh, &folder, &session).await);
    let early = folder.file("early", "GET /early HTTP/1.1\r\nhost: server\r\n\r\n");
    got.lock().clear();
    let arguments = ["-tls1_3", "-sess_in", &session, "-early_data", &early];
    let Some(client) = openssl(&mesh, &folder, &arguments) else { return };
    let said = exchanged(client).await;
    assert!(said.contains("Early data was rejected") && !said.contains("Reused, TLS"), "{said}");
    assert!(said.contains("HTTP/1.1 200"), "the handshake goes on without it: {said}");
    let got = String::from_utf8_lossy(&got.lock()).into_owned();
    assert!(got.starts_with("GET /x ") && !got.contains("/early"), "{got}");
}

#[tokio::test]
async fn nobody_renegotiates() {
    let (app, got) = noted().await;
    let mesh = Mesh::start("HTTP", app, &strict()).await;
    let folder = Folder::new("renegotiation");
    let Some(mut client) = openssl(&mesh, &folder, &["-tls1_2"]) else { return };
    // An `R` on a line of its own asks for it.
    client.stdin.as_mut().unwrap().write_all(b"R\n").await.unwrap();
    let mut lines = BufReader::new(client.stderr.take().unwrap()).lines();
    while !lines.next_line().await.unwrap().expect("it tries").contains("RENEGOTIATING") {}
    // Others are served. It is not: it gets no second handshake, in which certificates would be verified.
    assert!(get(&mut workload(&mesh, Carries::Http1).await, "server").await.unwrap().starts_with("HTTP/1.1 200"));
    got.lock().clear();
    client.start_kill().unwrap();
    while let Some(line) = lines.next_line().await.unwrap() {
        assert!(!line.contains("verify return"), "{line}");
    }
    assert!(got.lock().is_empty());
}

/// Handshakes that have begun and say no more.
async fn silent(mesh: &Mesh) -> Vec<TcpStream> {
    let mut all = Vec::new();
    for _ in 0..100 {
        let mut stream = mesh.server.connect().await;
        stream.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc]).await.unwrap();
        all.push(stream);
    }
    all
}

#[tokio::test]
async fn slow_handshakes_hold_nobody_up() {
    let mesh = Mesh::start("HTTP", plain_upstream().await, &strict()).await;
    let _silent = silent(&mesh).await;
    assert!(get(&mut workload(&mesh, Carries::Http1).await, "server").await.unwrap().starts_with("HTTP/1.1 200"));
}

/// Whoever says nothing, or one octet at a time, is given up.
#[tokio::test(start_paused = true)]
async fn slow_handshakes_are_given_up() {
    let mesh = Mesh::start("HTTP", plain_upstream().await, &strict()).await;
    let silent = silent(&mesh).await;
    let began = tokio::time::Instant::now();
    let mut dripping = mesh.server.connect().await;
    let (mut from, mut to) = dripping.split();
    let drips = async {
        let mut hello = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3].into_iter().chain(std::iter::repeat(7));
        while to.write_all(&[hello.next().unwrap()]).await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let ends = async { while from.read_u8().await.is_ok() {} };
    tokio::select! {
        () = drips => {}
        () = ends => {}
    }
    // For the first record, and for the rest.
    assert!(began.elapsed() <= Duration::from_secs(31), "{:?}", began.elapsed());
    for mut stream in silent {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    }
    assert!(began.elapsed() <= Duration::from_secs(62), "{:?}", began.elapsed());
}
