//! What one HTTP/1 request may cost: allocations, counted over the real stack as it is by default: at a gateway, with
//! Istio's retries and metrics, without an access log.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, unsafe_code)]
#![allow(dead_code, reason = "the mesh is shared with the tests of the rows")]

#[path = "http/mesh.rs"]
mod mesh;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mesh::{Config, DEFAULT, Mesh};
use mesh_proxy::telemetry::metrics::Metrics;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Allocations of a warm request at most: what was measured when this was written. The number goes down, never up; twelve
/// are the aim. Seven are the codec's: two buffers, two heads, a header name that is not a standard one, the channels of
/// the exchange and of the response's body.
const MOST: u64 = 18;
/// Requests before counting, so that connections, buffers and metrics are there.
const WARM: usize = 64;
const COUNTED: u64 = 512;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: everything is the system's allocator; besides, a number is counted.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static COUNTER: Counting = Counting;

const REQUEST: &[u8] =
    b"GET /api/items?x=1 HTTP/1.1\r\nhost: up.example\r\nuser-agent: budget\r\naccept: */*\r\nx-b3-traceid: 1\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 13\r\ncontent-type: text/plain\r\n\r\nHello, world!";

/// An upstream that allocates nothing for a request.
async fn upstream() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                while stream.read(&mut buffer).await.is_ok_and(|n| n > 0) {
                    stream.write_all(RESPONSE).await.unwrap();
                }
            });
        }
    });
    at
}

async fn exchange(client: &mut TcpStream, mesh: &mut Mesh) {
    client.write_all(REQUEST).await.unwrap();
    let mut buffer = [0; 4096];
    let mut got = 0;
    while !buffer[..got].ends_with(b"Hello, world!") {
        got += client.read(&mut buffer[got..]).await.unwrap();
    }
    assert!(buffer.starts_with(b"HTTP/1.1 200 OK\r\n"));
    drop(mesh.record().await);
}

/// Every limit of a request is on. They cost what a request's extensions cost, and no timer.
const LIMITS: &str = "---
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    defaultConfig:
      connectionSettings: {httpStreamIdleTimeout: 300s, httpRequestTimeout: 300s, httpMaxStreamDuration: 300s}
";
const MOST_WITH_LIMITS: u64 = MOST + 2;

/// Policies that let a request through cost it nothing.
const POLICIES: &str = "---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers, namespace: istio-system}
spec: {rules: [{from: [{source: {remoteIpBlocks: [127.0.0.0/8]}}], to: [{operation: {methods: [GET], paths: ['/api/*']}}]}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: nobody, namespace: istio-system}
spec: {action: DENY, rules: [{from: [{source: {namespaces: [evil]}}], to: [{operation: {hosts: ['*.example']}}]}]}
";

#[test]
fn allocations_of_a_request() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let usual = Config { routes: "[{route: [$up]}]", ..DEFAULT };
    let limited = Config { extra: LIMITS, ..usual };
    let guarded = Config { extra: POLICIES, ..usual };
    for (config, most) in [(usual, MOST), (guarded, MOST), (limited, MOST_WITH_LIMITS)] {
        let hundredths = runtime.block_on(allocations(&config));
        println!("{}.{:02} allocations per request", hundredths / 100, hundredths % 100);
        let allowed = most * 100 + 50;
        assert!(hundredths <= allowed, "{hundredths} hundredths of an allocation per request; {most} are allowed");
    }
}

/// In hundredths.
async fn allocations(config: &Config) -> u64 {
    let mut mesh = Mesh::start_with(config, Some(upstream().await), vec![Arc::new(Metrics::new())]).await;
    let mut client = mesh.connect().await;
    client.set_nodelay(true).unwrap();
    for _ in 0..WARM {
        exchange(&mut client, &mut mesh).await;
    }
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for _ in 0..COUNTED {
        exchange(&mut client, &mut mesh).await;
    }
    (ALLOCATIONS.load(Ordering::Relaxed) - before) * 100 / COUNTED
}
