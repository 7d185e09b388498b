//! The programs that run inside pods.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

pub(crate) fn run(words: &[&str]) -> ExitCode {
    match words {
        ["serve", at] => serve(at),
        ["sidecar"] => sidecar(),
        ["gateway"] => gateway(),
        ["connect", to] => say(&connect(to)),
        ["ask", server] => say(&ask(server)),
        ["mark"] => say(&mark()),
        ["leave-stray"] => leave_stray(),
        ["stray"] => stray(),
        ["wait"] => wait(),
        ["exit", code] => return ExitCode::from(code.parse::<u8>().unwrap()),
        other => panic!("no program {other:?}"),
    }
    ExitCode::SUCCESS
}

fn say(text: &str) {
    println!("{text}");
}

fn listen(at: SocketAddr) -> TcpListener {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&at.into()).unwrap();
    socket.listen(64).unwrap();
    socket.into()
}

/// Answers each connection with one line: who it is, the original destination, and the caller.
fn greet(name: &'static str, listener: TcpListener) {
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let _ = writeln!(
            stream,
            "{name} to {} from {}",
            original(&stream),
            stream.peer_addr().unwrap().ip().to_canonical()
        );
    }
}

fn original(stream: &TcpStream) -> SocketAddr {
    let socket = SockRef::from(stream);
    let v4 = stream.local_addr().unwrap().ip().to_canonical().is_ipv4();
    let found = if v4 { socket.original_dst_v4() } else { socket.original_dst_v6() };
    found.map_or_else(|_| stream.local_addr().unwrap(), |address| address.as_socket().unwrap())
}

fn serve(at: &str) {
    let listener = listen(at.parse().unwrap());
    say("ready");
    greet("app", listener);
}

/// What a sidecar listens on, without what it does.
fn sidecar() {
    let outbound = listen("[::]:15001".parse().unwrap());
    let inbound = listen("[::]:15006".parse().unwrap());
    // Where the redirect leads; from a wildcard socket the answer would leave with the address of the pod.
    let dns = UdpSocket::bind("127.0.0.1:15053").unwrap();
    let config: i32 = std::env::var("MESH_CONFIG_FD").unwrap().parse().unwrap();
    say("ready");
    std::thread::spawn(move || greet("outbound", outbound));
    std::thread::spawn(move || greet("inbound", inbound));
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        let (_, from) = dns.recv_from(&mut buffer).unwrap();
        dns.send_to(b"answer", from).unwrap();
    });
    // SAFETY of the number: it was given to us by whoever started us, and nobody else in here uses it.
    #[allow(unsafe_code)]
    let mut config = unsafe { std::os::unix::net::UnixStream::from_raw_fd(config) };
    let mut line = String::new();
    BufReader::new(config.try_clone().unwrap()).read_line(&mut line).unwrap();
    config.write_all(line.to_uppercase().as_bytes()).unwrap();
    wait();
}

/// Serves the listener called `http` that it inherits.
fn gateway() {
    let fds = std::env::var("MESH_LISTEN_FDS").unwrap();
    let number = fds.split(',').find_map(|entry| entry.strip_prefix("http=")).unwrap().parse().unwrap();
    // SAFETY of the number: as above.
    #[allow(unsafe_code)]
    let listener = unsafe { TcpListener::from_raw_fd(number) };
    listener.set_nonblocking(false).unwrap();
    say("ready");
    greet("gateway", listener);
}

fn connect(to: &str) -> String {
    match TcpStream::connect_timeout(&to.parse().unwrap(), Duration::from_secs(10)) {
        Ok(mut stream) => {
            let mut text = String::new();
            let _ = stream.read_to_string(&mut text);
            text.trim().to_owned()
        }
        Err(error) => format!("error {:?}", error.kind()),
    }
}

/// Asks as a resolver does: a datagram may get lost, so the question is repeated.
fn ask(server: &str) -> String {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    let mut buffer = [0; 64];
    let answer = (0..5).find_map(|_| {
        socket.send_to(b"question", server).unwrap();
        socket.recv_from(&mut buffer).ok()
    });
    let (length, from) = answer.expect("an answer to one of five questions");
    format!("{} from {from}", String::from_utf8_lossy(&buffer[..length]))
}

/// What this process may do.
fn mark() -> String {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let mark = if socket.set_mark(0x539).is_ok() { "marks" } else { "cannot mark" };
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_whitespace().nth(1).unwrap_or_default().to_owned()
    };
    let etc = if std::fs::File::create("/etc/mesh-test-file").is_ok() { "writes /etc" } else { "cannot write /etc" };
    let open: Vec<i32> = (3..100).filter(|fd| std::path::Path::new(&format!("/proc/self/fd/{fd}")).exists()).collect();
    // Reading /proc/self/fd needs none, and the socket is ours.
    let open = open.into_iter().filter(|fd| *fd != socket.as_raw_fd()).count();
    let (eff, bnd, quiet) = (field("CapEff:"), field("CapBnd:"), field("NoNewPrivs:"));
    format!("{mark}, {etc}, eff {eff}, bnd {bnd}, nonewprivs {quiet}, uid {}, descriptors {open}", field("Uid:"))
}

/// Leaves a process behind that has nothing to do with us any more: another session, another parent.
fn leave_stray() {
    assert!(again("stray").status().unwrap().success());
    say("ready");
    wait();
}

#[expect(clippy::zombie_processes, reason = "it is meant to lose its parent")]
fn stray() {
    rustix::process::setsid().unwrap();
    again("wait").spawn().unwrap();
}

/// This program once more. By way of /proc, since the file may be out of reach for who we are here.
fn again(part: &str) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.args(["program", part]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn wait() {
    loop {
        std::thread::park();
    }
}
