//! Profiles of the real gateway binary, over its admin port.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};

use prost::Message;

use crate::process::{Gateway, gateway, routes};

/// What is read of pprof's messages here.
#[derive(Clone, PartialEq, prost::Message)]
struct Profile {
    #[prost(message, repeated, tag = "1")]
    kinds: Vec<Kind>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    mappings: Vec<Mapping>,
    #[prost(message, repeated, tag = "4")]
    locations: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    functions: Vec<Function>,
    #[prost(string, repeated, tag = "6")]
    strings: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Kind {
    #[prost(int64, tag = "1")]
    name: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Sample {
    #[prost(uint64, repeated, tag = "1")]
    locations: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    values: Vec<i64>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Mapping {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "5")]
    file: i64,
    #[prost(int64, tag = "6")]
    build_id: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Location {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(uint64, tag = "2")]
    mapping: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Function {
    #[prost(int64, tag = "2")]
    name: i64,
}

impl Profile {
    fn unpacked(body: &[u8]) -> Self {
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(body).read_to_end(&mut bytes).unwrap();
        Self::decode(&bytes[..]).unwrap()
    }

    fn text(&self, place: i64) -> &str {
        &self.strings[usize::try_from(place).unwrap()]
    }

    fn kinds(&self) -> Vec<&str> {
        self.kinds.iter().map(|k| self.text(k.name)).collect()
    }

    fn sum(&self, kind: usize) -> i64 {
        self.samples.iter().map(|s| s.values[kind]).sum()
    }

    /// Something of a stack is the program's, and it is named.
    fn is_about_the_gateway(&self) {
        let own = self.mappings.iter().find(|m| self.text(m.file).ends_with("mesh-gateway")).unwrap();
        assert!(self.text(own.build_id).len() >= 16, "{:?}", self.mappings);
        let is_own = |id: &u64| self.locations.iter().any(|l| l.id == *id && l.mapping == own.id);
        assert!(self.samples.iter().any(|s| s.locations.iter().any(is_own)));
        let names: Vec<&str> = self.functions.iter().map(|f| self.text(f.name)).collect();
        assert!(names.iter().any(|n| n.contains("mesh_proxy::")), "{names:?}");
        assert!(!names.iter().any(|n| n.contains("perf_signal_handler")), "{names:?}");
    }
}

fn ask(at: SocketAddr, path: &str) -> (u16, Vec<u8>) {
    let mut stream = TcpStream::connect(at).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let head = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    let status = std::str::from_utf8(&answer[..head]).unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer.split_off(head + 4))
}

/// A gateway with direct responses and its admin port.
fn start(name: &str, more: &[&str]) -> (Gateway, SocketAddr, SocketAddr) {
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let files = [("gateway.yaml", gateway(&[80])), ("routes.yaml", routes(upstream))];
    let files: Vec<_> = files.iter().map(|(n, t)| (*n, t.as_str())).collect();
    let mut gateway = Gateway::start(name, &files, &[&["--admin-port", "0"], more].concat());
    let admin = gateway.port("admin");
    let at = gateway.port("gateway-80");
    (gateway, admin, at)
}

/// Requests from several clients as long as something else goes on.
fn under_load<T>(at: SocketAddr, work: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut stream = TcpStream::connect(at).unwrap();
                let mut buffer = [0; 4096];
                while !over.load(Ordering::Relaxed) {
                    write!(stream, "GET /direct HTTP/1.1\r\nhost: a.example\r\n\r\n").unwrap();
                    assert!(stream.read(&mut buffer).unwrap() > 0);
                }
            });
        }
        let done = work();
        over.store(true, Ordering::Relaxed);
        done
    })
}

#[test]
fn profiles_are_off_unless_the_program_is_told() {
    let (_gateway, admin, _) = start("no-profiles", &[]);
    for path in ["/debug/pprof/profile?seconds=1", "/debug/pprof/heap"] {
        let (status, body) = ask(admin, path);
        assert!(status == 404 && String::from_utf8_lossy(&body).contains("--profiling"), "{status} {body:?}");
    }
}

#[test]
fn where_time_and_memory_go_under_load() {
    let (_gateway, admin, at) = start("profiles", &["--profiling"]);
    let (status, body) = ask(admin, "/debug/pprof/profile?seconds=99");
    assert!(status == 400 && String::from_utf8_lossy(&body).contains("1 to 60"), "{status} {body:?}");
    let (cpu, heap) =
        under_load(at, || (ask(admin, "/debug/pprof/profile?seconds=2"), ask(admin, "/debug/pprof/heap")));
    assert_eq!((cpu.0, heap.0), (200, 200));

    let cpu = Profile::unpacked(&cpu.1);
    assert_eq!(cpu.kinds(), ["samples", "cpu"]);
    assert!(cpu.sum(0) > 0 && cpu.sum(1) == cpu.sum(0) * 10_000_000, "{} {}", cpu.sum(0), cpu.sum(1));
    assert!(cpu.strings.iter().any(|s| s == "worker-0"), "threads are named");
    cpu.is_about_the_gateway();

    let heap = Profile::unpacked(&heap.1);
    assert_eq!(heap.kinds(), ["alloc_objects", "alloc_space", "inuse_objects", "inuse_space"]);
    // Two seconds of requests, of many kilobytes each.
    assert!(heap.sum(1) > 1 << 20 && heap.sum(0) > 0, "{}", heap.sum(1));
    assert!(heap.sum(3) < heap.sum(1) && heap.sum(3) >= 0, "{} of {}", heap.sum(3), heap.sum(1));
    heap.is_about_the_gateway();
}

#[test]
fn one_profile_at_a_time() {
    let (_gateway, admin, _) = start("one-profile", &["--profiling"]);
    let one = || ask(admin, "/debug/pprof/profile?seconds=2");
    // Two that are asked for at once; on a busy machine the second may come when the first is over.
    let refused = (0..10).find_map(|_| {
        let both = std::thread::scope(|scope| [scope.spawn(one), scope.spawn(one)].map(|asked| asked.join().unwrap()));
        assert!(both.iter().any(|(status, _)| *status == 200), "one of them is taken");
        both.into_iter().find(|(status, _)| *status != 200)
    });
    let (status, body) = refused.expect("two were under way at once");
    assert!(status == 429 && String::from_utf8_lossy(&body).contains("one at a time"), "{status} {body:?}");
    assert_eq!(ask(admin, "/debug/pprof/heap").0, 200);
}
