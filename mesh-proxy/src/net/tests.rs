use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::inherited::parse_names;
use super::*;

const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

#[test]
fn listener_names_are_read_and_nonsense_is_left_out() {
    let names = parse_names("inbound=64,gateway-8080=65,gateway-8080=66,broken,x=y");
    let names: Vec<_> = names.iter().map(|(n, fd)| (n.as_str(), *fd)).collect();
    assert_eq!(names, [("inbound", 64), ("gateway-8080", 65), ("gateway-8080", 66)]);
    assert!(parse_names("").is_empty());
}

#[test]
fn loopback_of_a_pod_without_a_namespace_is_its_applications_own_address() {
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let shared = AppAddress { ip: Some(ip("127.2.0.7")), captured: false };
    let own = AppAddress { ip: None, captured: true };
    for (named, in_shared, in_own) in [
        ("127.0.0.1", "127.2.0.7:80", "127.0.0.1:80"),
        ("::1", "127.2.0.7:80", "[::1]:80"),
        ("192.0.2.1", "192.0.2.1:80", "192.0.2.1:80"),
    ] {
        let at = |app: AppAddress| app.at(ip(named), 80).to_string();
        assert_eq!((&*at(shared), &*at(own)), (in_shared, in_own), "{named}");
    }
}

#[tokio::test]
async fn unix_sockets_by_path_and_by_name() {
    let net = HostNet::new();
    let path = std::env::temp_dir().join(format!("mesh-net-{}", std::process::id()));
    let name = format!("@mesh-net-{}", std::process::id());
    for at in [path.to_str().unwrap(), &name] {
        let mut listener = net.listen_unix(at).await.unwrap();
        let mut client = net.connect_unix(at).await.unwrap();
        let mut server = listener.accept().await.unwrap();
        client.write_all(b"hello").await.unwrap();
        client.shutdown().await.unwrap();
        let mut text = String::new();
        server.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "hello");
        assert_eq!((server.peer_addr().unwrap(), server.local_addr().unwrap()), (LOOPBACK, LOOPBACK));
        let taken = net.listen_unix(at).await.unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse, "somebody listens there");
        drop(listener);
        assert!(net.connect_unix(at).await.is_err());
    }
    assert!(!path.exists(), "the path is free again");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    drop(net.listen_unix(path.to_str().unwrap()).await.expect("what was left behind is replaced"));
    std::fs::write(&path, "a file").unwrap();
    assert_eq!(net.listen_unix(path.to_str().unwrap()).await.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "a file");
    std::fs::remove_file(&path).unwrap();
}

#[tokio::test]
async fn a_connection_that_was_not_captured_has_its_own_address_as_destination() {
    let net = HostNet::new();
    let mut listener = net.listen("test", LOOPBACK, Share::WHOLE).await.unwrap();
    let at = listener.local_addr().unwrap();
    let mut client = net.connect(at, ConnectOptions::default()).await.unwrap();
    let mut server = listener.accept().await.unwrap();
    assert_eq!(net.original_dst(&server).unwrap(), at);
    assert_eq!(server.peer_addr().unwrap(), client.local_addr().unwrap());
    client.write_all(b"hello").await.unwrap();
    client.shutdown().await.unwrap();
    let mut text = String::new();
    server.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "hello");
}

#[tokio::test]
async fn workers_share_a_port() {
    let net = HostNet::new();
    let first = net.listen("test", LOOPBACK, Share { index: 0, of: 2 }).await.unwrap();
    let at = first.local_addr().unwrap();
    let second = net.listen("test", at, Share { index: 1, of: 2 }).await.unwrap();
    assert_eq!(second.local_addr().unwrap(), at);
}

#[tokio::test]
async fn an_inherited_listener_goes_before_a_new_one() {
    let socket = std::net::TcpListener::bind(LOOPBACK).unwrap();
    let at = socket.local_addr().unwrap();
    let listeners = [("inbound".to_owned(), vec![OwnedFd::from(socket)])].into();
    let net = HostNet::with(Inherited { listeners, ..Inherited::default() }, false);
    assert_eq!(net.listen("inbound", LOOPBACK, Share::WHOLE).await.unwrap().local_addr().unwrap(), at);
    assert_ne!(net.listen("other", LOOPBACK, Share::WHOLE).await.unwrap().local_addr().unwrap(), at);
}

/// A dialer of one request: takes it, answers with `reply` and `fds`, and gives the request's text.
fn answer_one(channel: OwnedFd, reply: &'static str, fds: Vec<OwnedFd>) -> std::sync::mpsc::Receiver<String> {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::Builder::new()
        .spawn(move || {
            let mut bytes = [0; 256];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let buffers = &mut [std::io::IoSliceMut::new(&mut bytes)];
            let n = rustix::net::recvmsg(&channel, buffers, &mut control, RecvFlags::empty()).unwrap().bytes;
            let Some(RecvAncillaryMessage::ScmRights(mut got)) = control.drain().next() else {
                panic!("no descriptor")
            };
            let socket = got.next().unwrap();
            let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !fds.is_empty() {
                assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
            }
            let text = [std::io::IoSlice::new(reply.as_bytes())];
            rustix::net::sendmsg(&socket, &text, &mut control, SendFlags::empty()).unwrap();
            tell.send(String::from_utf8_lossy(&bytes[..n]).into_owned()).unwrap();
        })
        .unwrap();
    told
}

fn dialer() -> (HostNet, OwnedFd) {
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    (HostNet::with(Inherited { dialer: Some(ours), ..Inherited::default() }, false), theirs)
}

#[tokio::test]
async fn the_outside_is_reached_through_the_dialer() {
    let listener = std::net::TcpListener::bind(LOOPBACK).unwrap();
    let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut peer, _) = listener.accept().unwrap();
    let (net, theirs) = dialer();
    let asked = answer_one(theirs, "OK", vec![stream.into()]);
    let to = "192.0.2.7:443".parse().unwrap();
    let mut stream = net.connect(to, ConnectOptions::default()).await.unwrap();
    assert_eq!(asked.recv().unwrap(), "CONNECT 192.0.2.7 443");
    stream.write_all(b"x").await.unwrap();
    let mut byte = [0];
    std::io::Read::read_exact(&mut peer, &mut byte).unwrap();
    assert_eq!(&byte, b"x");
}

#[tokio::test]
async fn a_refusal_by_the_dialer_is_a_refused_connection() {
    let (net, theirs) = dialer();
    let asked = answer_one(theirs, "ERR Connection refused (os error 111)", Vec::new());
    let error = net.connect("192.0.2.7:1".parse().unwrap(), ConnectOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    drop(asked);
}

#[tokio::test]
async fn names_and_host_ports_are_the_dialers() {
    let (net, theirs) = dialer();
    let asked = answer_one(theirs, "OK 17 192.0.2.1 2001:db8::1", Vec::new());
    let found = net.resolve("example.com").await.unwrap();
    assert_eq!(asked.recv().unwrap(), "RESOLVE example.com");
    assert_eq!(found.ttl, Duration::from_secs(17));
    assert_eq!(found.addresses, ["192.0.2.1".parse::<IpAddr>().unwrap(), "2001:db8::1".parse().unwrap()]);

    let socket = std::net::TcpListener::bind(LOOPBACK).unwrap();
    let at = socket.local_addr().unwrap();
    let (net, theirs) = dialer();
    let asked = answer_one(theirs, "OK 127.0.0.1:8080", vec![socket.into()]);
    let listener = net.listen_host("gateway-8080", "127.0.0.1:8080".parse().unwrap(), Share::WHOLE).await.unwrap();
    assert_eq!(asked.recv().unwrap(), "LISTEN 127.0.0.1 8080 1");
    assert_eq!(listener.local_addr().unwrap(), at);
}

#[tokio::test]
async fn a_dialer_that_is_gone_is_an_error() {
    let (net, theirs) = dialer();
    drop(theirs);
    assert!(net.resolve("example.com").await.is_err());
}

#[tokio::test]
async fn a_burst_of_datagrams_waits_for_its_reader() {
    let to = HostDatagrams::bind(LOOPBACK).await.unwrap();
    let from = std::net::UdpSocket::bind(LOOPBACK).unwrap();
    for number in 0..400_u16 {
        from.send_to(&number.to_be_bytes(), to.local_addr().unwrap()).unwrap();
    }
    let mut buffer = [0; 2];
    for number in 0..400_u16 {
        let received = tokio::time::timeout(Duration::from_secs(10), to.receive(&mut buffer)).await;
        received.unwrap_or_else(|_| panic!("only {number} have waited")).unwrap();
        assert_eq!(u16::from_be_bytes(buffer), number);
    }
}
