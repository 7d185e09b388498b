//! What the scenarios do in the node.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use mesh_ctl::localmesh::{
    CaptureRules, Child, Exit, MARK_TO_APP, Mode, Node, PodFile, PodId, PodRuntime, PodSpec, PodVolume, ProcessSpec,
    Role, Running, Status, Stdio, open_terminal, peer_uid,
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

fn block_on<F: Future<Output = u8>>(future: F) -> u8 {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Everything once, then the end.
pub(crate) fn pods(node: Node) -> u8 {
    block_on(async {
        let (owner, mode) = (node.owner_uid, node.config.mode);
        let mesh = Mesh { running: node.start().unwrap(), mode };
        if mode == Mode::Namespaces {
            mesh.capture().await;
            mesh.node_rules().await;
            mesh.files().await;
            mesh.covered().await;
        } else {
            mesh.explicit().await;
        }
        mesh.processes().await;
        mesh.terminal().await;
        mesh.dialer(owner).await;
        mesh.running.status.send(&Status::Ready("done".into()));
        0
    })
}

/// Two pods that run until they are killed or until somebody connects to the control socket.
pub(crate) fn hold(node: Node) -> u8 {
    block_on(async {
        let (owner, mode) = (node.owner_uid, node.config.mode);
        let mesh = Mesh { running: node.start().unwrap(), mode };
        for number in [1, 2] {
            let mut spec = mesh.spec(number);
            spec.capture = Some(CaptureRules::default());
            let pod = mesh.pods().create_pod(spec).await.unwrap();
            mesh.ready(pod, mesh.program(Role::App, &["leave-stray"])).await;
            if mode == Mode::Namespaces {
                mesh.ready(pod, mesh.program(Role::Sidecar, &["sidecar"])).await;
            }
        }
        let mut end = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
        mesh.running.status.send(&Status::Ready("up".into()));
        tokio::select! {
            connection = mesh.running.control.accept() => {
                let peer = peer_uid(&mesh.running.dialer, &connection.unwrap().0).await.unwrap();
                u8::from(peer != owner)
            }
            _ = end.recv() => 9,
        }
    })
}

struct Mesh {
    running: Running,
    mode: Mode,
}

impl Mesh {
    fn pods(&self) -> &Arc<dyn PodRuntime> {
        &self.running.pods
    }

    fn ip(&self, number: u8) -> Ipv4Addr {
        match self.mode {
            Mode::Namespaces => Ipv4Addr::new(10, 244, 1, number),
            Mode::Explicit => Ipv4Addr::new(127, 1, 77, number),
        }
    }

    fn spec(&self, number: u8) -> PodSpec {
        PodSpec::new(format!("pod-{number}"), "default", self.ip(number))
    }

    fn program(&self, role: Role, words: &[&str]) -> ProcessSpec {
        let this = std::env::current_exe().unwrap().into_os_string().into_string().unwrap();
        let mut spec = ProcessSpec::new(role, [&[this.as_str(), "program"], words].concat());
        spec.env.insert("PATH".into(), "/usr/bin:/bin".into());
        spec
    }

    /// Starts a program and waits until it says so.
    async fn ready(&self, pod: PodId, spec: ProcessSpec) -> Child {
        let mut child = self.pods().spawn(pod, spec).await.unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).await.unwrap();
        assert_eq!(line, "ready\n");
        child
    }

    /// Runs something to its end and gives what it printed.
    async fn output(&self, pod: PodId, spec: ProcessSpec) -> String {
        let mut child = self.pods().spawn(pod, spec).await.unwrap();
        let (mut text, mut errors) = (String::new(), String::new());
        child.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
        child.stderr.take().unwrap().read_to_string(&mut errors).await.unwrap();
        assert_eq!(child.wait().await, Exit::Code(0), "{errors}");
        text.trim().to_owned()
    }

    async fn run(&self, pod: PodId, words: &[&str]) -> String {
        self.output(pod, self.program(Role::App, words)).await
    }

    async fn shell(&self, pod: PodId, script: &str) -> String {
        let mut spec = ProcessSpec::new(Role::App, ["sh", "-c", script]);
        spec.env.insert("PATH".into(), "/usr/bin:/bin".into());
        self.output(pod, spec).await
    }

    /// A captured pod, a pod without a sidecar, and what becomes of their connections.
    async fn capture(&self) {
        let mut spec = self.spec(10);
        spec.capture = Some(CaptureRules {
            exclude_outbound_ports: vec![4444],
            exclude_inbound_ports: vec![9081],
            ..CaptureRules::default()
        });
        let captured = self.pods().create_pod(spec).await.unwrap();
        let plain = self.pods().create_pod(self.spec(11)).await.unwrap();
        let mut sidecar = self.ready(captured, self.program(Role::Sidecar, &["sidecar"])).await;
        self.ready(captured, self.program(Role::App, &["serve", "0.0.0.0:80"])).await;
        self.ready(captured, self.program(Role::App, &["serve", "0.0.0.0:9081"])).await;

        let own = "10.244.1.10";
        let table = [
            (captured, "10.96.0.99:80", "outbound to 10.96.0.99:80 from 10.244.1.10"),
            (captured, "[fd11::aaaa]:443", "outbound to [fd11::aaaa]:443 from fd11::af4:10a"),
            (captured, "127.0.0.1:80", "app to 127.0.0.1:80 from 127.0.0.1"),
            (captured, "10.244.1.11:4444", "error ConnectionRefused"),
            (plain, "10.244.1.10:80", "inbound to 10.244.1.10:80 from 10.244.1.11"),
            (plain, "[fd11::af4:10a]:80", "inbound to [fd11::af4:10a]:80 from fd11::af4:10b"),
            (plain, "10.244.1.10:9081", "app to 10.244.1.10:9081 from 10.244.1.11"),
        ];
        for (from, to, expected) in table {
            assert_eq!(self.run(from, &["connect", to]).await, expected, "to {to}");
        }
        assert_eq!(self.run(captured, &["ask", "8.8.8.8:53"]).await, "answer from 8.8.8.8:53");

        // Probes reach the application itself.
        let to = SocketAddr::new(self.ip(10).into(), 80);
        let stream = self.pods().connect_in_pod(captured, to, Some(MARK_TO_APP)).await.unwrap();
        assert_eq!(read_all(stream).await, format!("app to {own}:80 from {own}\n"));
        let refused = self.pods().connect_in_pod(captured, "127.0.0.1:1".parse().unwrap(), None).await.unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);

        let mut config = sidecar.config.take().unwrap();
        config.write_all(b"hello\n").await.unwrap();
        let mut line = String::new();
        BufReader::new(config).read_line(&mut line).await.unwrap();
        assert_eq!(line, "HELLO\n");

        self.capabilities(captured).await;
        self.pods().destroy(captured).await.unwrap();
        self.pods().destroy(plain).await.unwrap();
    }

    /// Applications can nothing, sidecars can mark, and nobody is root.
    async fn capabilities(&self, pod: PodId) {
        let uid = rustix::process::getuid().as_raw();
        assert!(is_ordinary(uid));
        // Containers with read-only settings need a capability for ports below 1024.
        let start = self.shell(pod, "cat /proc/sys/net/ipv4/ip_unprivileged_port_start").await;
        let low_ports = if start == "0" { 0 } else { 0x400 };
        let expected = |mark, caps: u64, fds| {
            let caps = caps | low_ports;
            format!(
                "{mark}, cannot write /etc, eff {caps:016x}, bnd {caps:016x}, nonewprivs 1, uid {uid}, descriptors {fds}"
            )
        };
        assert_eq!(self.run(pod, &["mark"]).await, expected("cannot mark", 0, 0));
        let sidecar = self.output(pod, self.program(Role::Sidecar, &["mark"])).await;
        assert_eq!(sidecar, expected("marks", 0x1000, 2));
    }

    /// The node sees what leaves pods without a sidecar, and where it wanted to go.
    async fn node_rules(&self) {
        let listener = tokio::net::TcpListener::bind("0.0.0.0:15099").await.unwrap();
        let dns = tokio::net::UdpSocket::bind("0.0.0.0:15053").await.unwrap();
        let pod = self.pods().create_pod(self.spec(12)).await.unwrap();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let to = socket2::SockRef::from(&stream).original_dst_v4().unwrap().as_socket().unwrap();
            stream.write_all(format!("node to {to}").as_bytes()).await.unwrap();
        };
        let (_, text) = tokio::join!(server, self.run(pod, &["connect", "93.184.216.34:443"]));
        assert_eq!(text, "node to 93.184.216.34:443");
        let server = async {
            let mut buffer = [0; 64];
            let (_, from) = dns.recv_from(&mut buffer).await.unwrap();
            dns.send_to(b"named", from).await.unwrap();
        };
        let (_, text) = tokio::join!(server, self.run(pod, &["ask", "10.96.0.10:53"]));
        assert_eq!(text, "named from 10.96.0.10:53");
        // Nobody answers IPv6 outside, so it must fail at once.
        assert_eq!(self.run(pod, &["connect", "[2001:db8::1]:80"]).await, "error NetworkUnreachable");
        self.pods().destroy(pod).await.unwrap();
    }

    async fn files(&self) {
        let file = |path: &str, text: &str| PodFile { path: path.into(), content: text.into(), mode: 0o640 };
        let mut spec = self.spec(13);
        let large = "x".repeat(300_000);
        spec.files = vec![
            file("/etc/hosts", "10.0.0.1 replaced\n"),
            file("/etc/not-there/deep/file", "deep"),
            file("/not-there-either/file", "top"),
            file("/run/own", "own"),
        ];
        let token = "/var/run/secrets/kubernetes.io/serviceaccount";
        let volume = |path: &str, files, writable| PodVolume { path: path.into(), files, writable };
        spec.volumes = vec![
            volume(token, vec![file("token", "secret")], false),
            volume("/etc/config", vec![file("sub/large", &large)], false),
            volume("/data", Vec::new(), true),
        ];
        let pod = self.pods().create_pod(spec).await.unwrap();
        let cases = [
            ("cat /etc/hosts", "10.0.0.1 replaced"),
            ("cat /etc/not-there/deep/file; stat -c ' %a' /etc/not-there/deep/file", "deep 640"),
            ("cat /not-there-either/file; ls /usr/bin/env", "top/usr/bin/env"),
            ("cat /run/own; ls -A /run", "ownown\nsecrets"),
            ("cat /var/run/secrets/kubernetes.io/serviceaccount/token", "secret"),
            ("wc -c < /etc/config/sub/large", "300000"),
            ("touch /etc/config/x 2>/dev/null || echo refused", "refused"),
            ("echo hi > /data/x; cat /data/x", "hi"),
            ("head -1 /etc/resolv.conf", "nameserver 10.96.0.10"),
            ("grep hosts /etc/nsswitch.conf", "hosts: files dns"),
            ("uname -n; cat /etc/hostname; cat /etc/passwd | head -c 4", "pod-13\npod-13\nroot"),
            ("echo $PPID", "1"),
            // A container that hides parts of /proc has no fresh one.
            ("[ ! /proc/self -ef /proc/$$ ] && echo mesh-pod || cat /proc/1/comm", "mesh-pod"),
        ];
        for (script, expected) in cases {
            assert_eq!(self.shell(pod, script).await, expected, "{script}");
        }
        self.pods().destroy(pod).await.unwrap();
        for path in ["/not-there-either", "/etc/not-there", "/etc/config", "/data/x"] {
            assert!(!std::path::Path::new(path).exists(), "{path} is seen outside the pod");
        }
    }

    /// A volume hides files of the host, but not the program that the pod shall run.
    async fn covered(&self) {
        let program = std::env::current_exe().unwrap();
        let mut spec = self.spec(14);
        let path = program.parent().unwrap().to_owned();
        spec.volumes = vec![PodVolume { path, files: Vec::new(), writable: true }];
        let pod = self.pods().create_pod(spec).await.unwrap();
        assert_eq!(self.shell(pod, &format!("[ -e {} ] || echo hidden", program.display())).await, "hidden");
        assert!(self.run(pod, &["mark"]).await.starts_with("cannot mark"));
        self.pods().destroy(pod).await.unwrap();
    }

    async fn explicit(&self) {
        let pod = self.pods().create_pod(self.spec(10)).await.unwrap();
        assert_eq!(
            self.shell(pod, "echo $http_proxy $MESH_POD_IP $MESH_MODE").await,
            "http://127.1.77.10:15001 127.1.77.10 explicit"
        );
        self.ready(pod, self.program(Role::App, &["serve", "127.1.77.10:9080"])).await;
        let to = "127.1.77.10:9080".parse().unwrap();
        let stream = self.pods().connect_in_pod(pod, to, Some(MARK_TO_APP)).await.unwrap();
        assert!(read_all(stream).await.starts_with("app to 127.1.77.10:9080"));
        let text = self.run(pod, &["mark"]).await;
        let uid = rustix::process::getuid().as_raw();
        assert!(is_ordinary(uid) && text.contains(&format!("nonewprivs 1, uid {uid}, descriptors 0")), "{text}");
        assert!(text.starts_with("cannot mark, cannot write /etc, eff 0000000000000000"), "{text}");
        let wrong = self.pods().create_pod(PodSpec::new("a", "b", Ipv4Addr::new(10, 244, 0, 9))).await.unwrap_err();
        assert!(wrong.to_string().contains("127.1.0.0/16"), "{wrong}");
        self.pods().destroy(pod).await.unwrap();
    }

    /// Starts, ends, signals, and errors.
    async fn processes(&self) {
        let pod = self.pods().create_pod(self.spec(20)).await.unwrap();
        let mut child = self.pods().spawn(pod, self.program(Role::App, &["exit", "7"])).await.unwrap();
        assert_eq!(child.wait().await, Exit::Code(7));
        let mut child = self.pods().spawn(pod, self.program(Role::App, &["wait"])).await.unwrap();
        self.pods().kill(pod, child.id, libc::SIGTERM).await.unwrap();
        assert_eq!(child.wait().await, Exit::Signal(libc::SIGTERM));
        self.pods().kill(pod, child.id, libc::SIGTERM).await.unwrap();
        let error = self.pods().spawn(pod, ProcessSpec::new(Role::App, ["no-such-program"])).await.unwrap_err();
        assert!(error.to_string().contains("pod default/pod-20: program no-such-program is not in PATH"), "{error}");
        let error = self.pods().spawn(pod, ProcessSpec::new(Role::App, ["/etc/hostname"])).await.unwrap_err();
        assert!(error.to_string().contains("program /etc/hostname"), "{error}");
        // What belongs to a process ends with it.
        let mut child = self.ready(pod, self.program(Role::App, &["leave-stray"])).await;
        let gone = self.pods().pod_gone(pod);
        self.pods().destroy(pod).await.unwrap();
        gone.await.unwrap();
        assert_eq!(child.wait().await, Exit::PodGone);
        assert!(self.pods().spawn(pod, ProcessSpec::new(Role::App, ["true"])).await.is_err());
        let many = (30..40).map(|number| self.pods().create_pod(self.spec(number)));
        for made in futures_util::future::join_all(many).await {
            self.pods().destroy(made.unwrap()).await.unwrap();
        }
    }

    async fn terminal(&self) {
        let pod = self.pods().create_pod(self.spec(21)).await.unwrap();
        let (ours, theirs) = open_terminal().unwrap();
        let copy = |fd: &OwnedFd| fd.try_clone().unwrap();
        let mut spec = ProcessSpec::new(Role::App, ["sh", "-c", "tty >/dev/null && stty size < /dev/tty && exit 5"]);
        spec.stdio = Stdio::Given { fds: [copy(&theirs), copy(&theirs), theirs], tty: true };
        rustix::termios::tcsetwinsize(
            &ours,
            rustix::termios::Winsize { ws_row: 33, ws_col: 77, ws_xpixel: 0, ws_ypixel: 0 },
        )
        .unwrap();
        let mut child = self.pods().spawn(pod, spec).await.unwrap();
        let exit = child.wait().await;
        let mut buffer = [0; 64];
        let length = rustix::io::read(&ours, &mut buffer).unwrap();
        assert_eq!(String::from_utf8_lossy(&buffer[..length]), "33 77\r\n");
        assert_eq!(exit, Exit::Code(5));
        self.pods().destroy(pod).await.unwrap();
    }

    /// Ports of the host, with and without somebody behind them, and who is who.
    async fn dialer(&self, owner: u32) {
        let dialer = &self.running.dialer;
        let (at, copies) = dialer.listen("127.0.0.1:0".parse().unwrap(), 1).await.unwrap();
        let taken = std::net::SocketAddr::from(([127, 0, 0, 1], at.port()));
        assert_eq!(dialer.listen(taken, 1).await.unwrap().0, at);
        let pod = self.pods().create_pod(self.spec(22)).await.unwrap();
        let mut spec = self.program(Role::Sidecar, &["gateway"]);
        spec.listeners = copies.into_iter().map(|listener| ("http".to_owned(), listener.into())).collect();
        self.ready(pod, spec).await;
        let stream = dialer.connect(at).await.unwrap();
        assert_eq!(read_all(stream).await, format!("gateway to {at} from 127.0.0.1\n"));
        self.pods().destroy(pod).await.unwrap();
        // The parent's copy keeps the port open, until it is given up.
        assert!(dialer.connect(at).await.is_ok());
        dialer.unlisten(at).await.unwrap();
        let refused = dialer.connect(at).await.unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "{refused}");
        let (shared, copies) = dialer.listen("127.0.0.1:0".parse().unwrap(), 2).await.unwrap();
        assert_eq!(copies.len(), 2);
        let busy = dialer.listen(shared, 1).await.unwrap_err();
        assert!(busy.to_string().contains("2 copies"), "{busy}");
        assert!(dialer.resolve("localhost").await.unwrap().addresses.iter().all(|ip| ip.is_loopback()));
        assert!(dialer.resolve("no.such.name.invalid").await.is_err());
        let (one, _other) = tokio::net::UnixStream::pair().unwrap();
        assert_eq!(dialer.peer_uid(&one).await.unwrap(), rustix::process::getuid().as_raw());
        let _ = owner;
    }
}

/// Not root, or root of a user namespace who is somebody else outside.
fn is_ordinary(uid: u32) -> bool {
    uid != 0 || std::env::var_os(crate::ROOT_OF_A_NAMESPACE).is_some()
}

async fn read_all(stream: std::net::TcpStream) -> String {
    let mut text = String::new();
    stream.set_nonblocking(true).unwrap();
    tokio::net::TcpStream::from_std(stream).unwrap().read_to_string(&mut text).await.unwrap();
    text
}
