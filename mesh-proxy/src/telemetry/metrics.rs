//! Istio's standard metrics, with Istio's names, labels and label values, in Prometheus text.
//!
//! A label set is put together once and its counters are kept; after that a request costs a hash look-up and a few
//! atomic additions. Without mutual TLS there is no authenticated peer: principals are `unknown`, and the peer of an
//! inbound request is the workload that has its source address.

mod histogram;
mod labels;
mod text;

#[cfg(test)]
pub(crate) mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arc_swap::ArcSwap;
use mesh_core::api::ContentHash;
use mesh_core::model::Workload;
use mesh_core::record::{CopyOutcome, RequestRecord, Sink};
use mesh_core::snapshot::{Direction, Map};
use parking_lot::Mutex;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use histogram::Histogram;
use labels::Labels;

/// What the proxy knows about itself and its neighbours, for labels.
#[derive(Clone, Debug, Default)]
pub struct Neighbours {
    /// The own workload.
    pub own: Option<Arc<Workload>>,
    /// Workloads by address, to name the peer of an inbound connection.
    pub by_address: Map<IpAddr, Arc<Workload>>,
}

/// The metrics of a process.
pub struct Metrics {
    registry: Registry,
    families: Families,
    neighbours: ArcSwap<Neighbours>,
    /// Copied on a miss, which happens once per label set; read without a lock.
    handles: ArcSwap<Map<LabelKey, Handles>>,
    misses: Mutex<()>,
}

/// What decides a label set. Hashes instead of names: nothing is compared or copied on a hit.
#[derive(Clone, PartialEq, Eq, Hash)]
struct LabelKey {
    direction: Direction,
    own: ContentHash,
    peer: ContentHash,
    cluster: ContentHash,
    /// Only where the label falls back to the Host header: unknown destinations.
    authority: ContentHash,
    status: u16,
    grpc_status: Option<u16>,
    flags: u32,
    protocol: Protocol,
    /// Who both ends of the connection are, hashed as the table does.
    principals: [u64; 2],
    /// The route, if it has counters of its own.
    route: ContentHash,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Protocol {
    Http,
    Grpc,
    Tcp,
}

struct Families {
    requests: Family<Labels, Counter>,
    duration: Family<Labels, Histogram>,
    request_bytes: Family<Labels, Histogram>,
    response_bytes: Family<Labels, Histogram>,
    tcp_opened: Family<Labels, Counter>,
    tcp_closed: Family<Labels, Counter>,
    tcp_sent: Family<Labels, Counter>,
    tcp_received: Family<Labels, Counter>,
    route_requests: Family<Labels, Counter>,
    copies: Family<Labels, Counter>,
}

#[derive(Clone)]
enum Handles {
    Http {
        requests: Counter,
        duration: Histogram,
        request_bytes: Histogram,
        response_bytes: Histogram,
        route: Option<Counter>,
    },
    Tcp {
        opened: Counter,
        closed: Counter,
        sent: Counter,
        received: Counter,
    },
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Metrics without a label set yet.
    pub fn new() -> Self {
        let families = Families {
            requests: Family::default(),
            duration: Family::default(),
            request_bytes: Family::default(),
            response_bytes: Family::default(),
            tcp_opened: Family::default(),
            tcp_closed: Family::default(),
            tcp_sent: Family::default(),
            tcp_received: Family::default(),
            route_requests: Family::default(),
            copies: Family::default(),
        };
        let mut registry = Registry::default();
        // The encoder adds `_total` to counters.
        registry.register("istio_requests", "Requests", families.requests.clone());
        registry.register(
            "istio_request_duration_milliseconds",
            "Time from the start of a request to the end of its response",
            families.duration.clone(),
        );
        registry.register("istio_request_bytes", "Size of request bodies", families.request_bytes.clone());
        registry.register("istio_response_bytes", "Size of response bodies", families.response_bytes.clone());
        registry.register("istio_tcp_connections_opened", "TCP connections opened", families.tcp_opened.clone());
        registry.register("istio_tcp_connections_closed", "TCP connections closed", families.tcp_closed.clone());
        registry.register("istio_tcp_sent_bytes", "Bytes sent to the downstream", families.tcp_sent.clone());
        registry.register(
            "istio_tcp_received_bytes",
            "Bytes received from the downstream",
            families.tcp_received.clone(),
        );
        registry.register(
            "envoy_vhost_route_upstream_rq",
            "Requests of routes with a statPrefix, by what the client was answered",
            families.route_requests.clone(),
        );
        registry.register(
            "mesh_mirrored_requests",
            "Copies of requests, by mirror and what became of them",
            families.copies.clone(),
        );
        let build: Family<Vec<(&'static str, &'static str)>, Gauge> = Family::default();
        build.get_or_create(&vec![("component", "proxy"), ("tag", env!("CARGO_PKG_VERSION"))]).set(1);
        registry.register("istio_build", "Version of this proxy", build);
        Self {
            registry,
            families,
            neighbours: ArcSwap::from_pointee(Neighbours::default()),
            handles: ArcSwap::from_pointee(Map::default()),
            misses: Mutex::new(()),
        }
    }

    /// Takes over who is who, on a change of configuration or endpoints.
    pub fn set_neighbours(&self, neighbours: Neighbours) {
        self.neighbours.store(Arc::new(neighbours));
    }

    /// All metrics as text, in the format of [`Metrics::CONTENT_TYPE`].
    pub fn encode(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("invariant: writing to a String does not fail");
        text::plain(&text)
    }

    /// Content type of [`Metrics::encode`].
    pub const CONTENT_TYPE: &'static str = "text/plain; charset=UTF-8";

    /// Makes the counters of a label set that is new.
    fn add(&self, facts: &labels::Facts<'_>, key: LabelKey) -> Handles {
        let labels = facts.labels();
        let handles = match key.protocol {
            Protocol::Http | Protocol::Grpc => Handles::Http {
                requests: self.families.requests.get_or_create(&labels).clone(),
                duration: self.families.duration.get_or_create(&labels).clone(),
                request_bytes: self.families.request_bytes.get_or_create(&labels).clone(),
                response_bytes: self.families.response_bytes.get_or_create(&labels).clone(),
                route: facts.route_labels().map(|l| self.families.route_requests.get_or_create(&l).clone()),
            },
            Protocol::Tcp => Handles::Tcp {
                opened: self.families.tcp_opened.get_or_create(&labels).clone(),
                closed: self.families.tcp_closed.get_or_create(&labels).clone(),
                sent: self.families.tcp_sent.get_or_create(&labels).clone(),
                received: self.families.tcp_received.get_or_create(&labels).clone(),
            },
        };
        let _one_at_a_time = self.misses.lock();
        let mut all = Map::clone(&self.handles.load());
        all.insert(key, handles.clone());
        self.handles.store(Arc::new(all));
        handles
    }
}

impl Sink for Metrics {
    fn copied(&self, cluster: &str, outcome: CopyOutcome) {
        let outcome = match outcome {
            CopyOutcome::Sent => "sent",
            CopyOutcome::Failed => "failed",
            CopyOutcome::Lost => "lost",
        };
        let labels = vec![("destination_cluster", cluster.to_owned()), ("outcome", outcome.to_owned())];
        self.families.copies.get_or_create(&labels).inc();
    }

    fn record(&self, record: &RequestRecord) {
        let neighbours = self.neighbours.load();
        let facts = labels::Facts::of(record, &neighbours);
        let handles = self.handles.load();
        let key = facts.key(handles.hasher());
        match handles.get(&key) {
            Some(handles) => handles.count(record),
            None => self.add(&facts, key).count(record),
        }
    }
}

impl Handles {
    #[expect(clippy::cast_precision_loss, reason = "histograms are of f64; sizes above 2^53 bytes don't occur")]
    fn count(&self, record: &RequestRecord) {
        let sent = record.cx.response_bytes.load(Ordering::Relaxed);
        let received = record.cx.request_bytes.load(Ordering::Relaxed);
        match self {
            Handles::Http { requests, duration, request_bytes, response_bytes, route } => {
                requests.inc();
                if let Some(route) = route {
                    route.inc();
                }
                duration.observe(record.duration.as_secs_f64() * 1000.);
                request_bytes.observe(received as f64);
                response_bytes.observe(sent as f64);
            }
            Handles::Tcp { opened, closed, sent: sent_bytes, received: received_bytes } => {
                opened.inc();
                closed.inc();
                sent_bytes.inc_by(sent);
                received_bytes.inc_by(received);
            }
        }
    }
}
