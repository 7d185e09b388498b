//! Labels of the standard metrics and where their values come from.

use std::borrow::Cow;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use mesh_core::api::ContentHash;
use mesh_core::model::Workload;
use mesh_core::record::{Flag, RequestRecord, TlsInfo};
use mesh_core::snapshot::{ClusterPlan, Direction, RoutePlan, StatsPlan};

use super::{LabelKey, Neighbours, Protocol};

/// Label names and values in the order in which Istio emits them.
pub(super) type Labels = Vec<(&'static str, String)>;

const UNKNOWN: &str = "unknown";

/// What the labels of one record are made of.
pub(super) struct Facts<'a> {
    record: &'a RequestRecord,
    own: Option<&'a Arc<Workload>>,
    peer: Option<Arc<Workload>>,
    cluster: Option<&'a Arc<ClusterPlan>>,
    protocol: Protocol,
}

impl<'a> Facts<'a> {
    pub(super) fn of(record: &'a RequestRecord, neighbours: &'a Neighbours) -> Self {
        let cx = &record.cx;
        let peer = match cx.conn.direction {
            Direction::Inbound => neighbours.by_address.get(&cx.conn.peer.ip()).cloned(),
            Direction::Outbound | Direction::Gateway => cx.endpoint.get().map(|e| e.workload.clone()),
        };
        let protocol = match &record.http {
            None => Protocol::Tcp,
            Some(http) if http.grpc => Protocol::Grpc,
            Some(_) => Protocol::Http,
        };
        Self { record, own: neighbours.own.as_ref(), peer, cluster: cx.cluster.get(), protocol }
    }

    /// `hasher` is the one of the table that the key is for.
    pub(super) fn key(&self, hasher: &impl BuildHasher) -> LabelKey {
        let http = self.record.http.as_ref();
        let hash = |w: Option<&Arc<Workload>>| w.map_or_else(ContentHash::default, |w| w.hash);
        LabelKey {
            direction: self.record.cx.conn.direction,
            own: hash(self.own),
            peer: hash(self.peer.as_ref()),
            cluster: self.cluster.map_or_else(ContentHash::default, |c| c.hash),
            authority: self.host_fallback().map_or_else(ContentHash::default, |h| ContentHash::of(h.as_bytes())),
            status: http.and_then(|h| h.status).map_or(0, |s| s.as_u16()),
            grpc_status: http.and_then(|h| h.grpc_status),
            flags: self.record.cx.flags.load(Ordering::Relaxed),
            protocol: self.protocol,
            principals: self.principals().map(|p| hasher.hash_one(p)),
            route: self.stats().map_or_else(ContentHash::default, |(route, _)| route.hash),
        }
    }

    /// TLS between the two workloads that the record is about.
    fn tls(&self) -> Option<&'a TlsInfo> {
        let cx = &self.record.cx;
        match cx.conn.direction {
            Direction::Inbound => cx.conn.tls.as_deref(),
            Direction::Outbound | Direction::Gateway => cx.upstream_tls.get().and_then(Option::as_deref),
        }
    }

    /// Identities of source and destination, of verified certificates only.
    fn principals(&self) -> [Option<&'a str>; 2] {
        let Some(tls) = self.tls() else { return [None; 2] };
        let (own, peer) = (tls.own.as_deref(), tls.identity.as_ref().map(|i| &**i.uri()));
        match self.record.cx.conn.direction {
            Direction::Inbound => [peer, own],
            Direction::Outbound | Direction::Gateway => [own, peer],
        }
    }

    /// The route, if it has counters of its own.
    fn stats(&self) -> Option<(&RoutePlan, &StatsPlan)> {
        let route = self.record.cx.route.get()?;
        route.filters.stats.as_ref().map(|stats| (&**route, stats))
    }

    /// Labels of a route's own counters, as Envoy's Prometheus output names them; `None`: it has none, or nothing was
    /// answered.
    pub(super) fn route_labels(&self) -> Option<Labels> {
        let (_, StatsPlan { virtual_host, prefix }) = self.stats()?;
        let status = self.record.http.as_ref()?.status?;
        Some(vec![
            ("envoy_virtual_host", virtual_host.to_string()),
            ("envoy_route", prefix.to_string()),
            ("envoy_response_code", status.as_str().to_owned()),
        ])
    }

    /// The Host header, where it stands in for an unknown destination: only on sidecar outbound, because elsewhere a
    /// client could make up as many label sets as it likes.
    fn host_fallback(&self) -> Option<Cow<'_, str>> {
        let known = self.cluster.is_some_and(|c| !c.service.is_empty());
        let stands_in = !known && self.record.cx.conn.direction == Direction::Outbound && self.record.http.is_some();
        stands_in.then(|| self.record.authority())
    }

    pub(super) fn labels(&self) -> Labels {
        let inbound = self.record.cx.conn.direction == Direction::Inbound;
        let (source, destination) = match inbound {
            true => (self.peer.as_deref(), self.own.map(|w| &**w)),
            false => (self.own.map(|w| &**w), self.peer.as_deref()),
        };
        let mut labels = Labels::with_capacity(26);
        labels.push(("reporter", if inbound { "destination" } else { "source" }.into()));
        let [from, to] = self.principals();
        // A client that is none of the workloads known here still says by its certificate where it is.
        let namespace = self.tls().filter(|_| inbound && source.is_none()).and_then(|t| t.identity.as_ref()?.id());
        let mut client = Side::of(source).with_principal(from);
        client.namespace = namespace.map_or(client.namespace, |id| id.namespace().to_owned());
        source_labels(&mut labels, client);
        self.destination_labels(&mut labels, destination, to);
        labels.push((
            "request_protocol",
            match self.protocol {
                Protocol::Http => "http",
                Protocol::Grpc => "grpc",
                Protocol::Tcp => "tcp",
            }
            .into(),
        ));
        if let Some(http) = &self.record.http {
            labels.push(("response_code", http.status.map_or(0, |s| s.as_u16()).to_string()));
            labels.push(("grpc_response_status", http.grpc_status.map(|s| s.to_string()).unwrap_or_default()));
        }
        labels.push((
            "response_flags",
            Flag::names_of(self.record.cx.flags.load(Ordering::Relaxed), self.record.http.is_none()),
        ));
        let security = match (inbound, from, to) {
            (false, ..) => UNKNOWN,
            (true, Some(_), Some(_)) => "mutual_tls",
            (true, ..) => "none",
        };
        labels.push(("connection_security_policy", security.into()));
        labels
    }

    fn destination_labels(&self, labels: &mut Labels, destination: Option<&Workload>, principal: Option<&str>) {
        let (service, service_name) = self.service(destination);
        let side = Side::of(destination).with_principal(principal);
        labels.extend([
            ("destination_workload", side.workload),
            ("destination_workload_namespace", side.namespace.clone()),
            ("destination_principal", side.principal),
            ("destination_app", side.app),
            ("destination_version", side.version),
            ("destination_service", service),
            ("destination_canonical_service", side.canonical_service),
            ("destination_canonical_revision", side.canonical_revision),
            ("destination_service_name", service_name),
            // The workload's, also where the service is of another namespace.
            ("destination_service_namespace", side.namespace),
            ("destination_cluster", side.cluster),
        ]);
    }

    /// Host and short name of the service that was asked for.
    fn service(&self, destination: Option<&Workload>) -> (String, String) {
        let cluster = self.cluster.filter(|c| !c.service.is_empty());
        let special = self.cluster.map(|c| &*c.name).filter(|name| {
            matches!(
                *name,
                "BlackHoleCluster" | "AllowAnyDynamicDNSCluster" | "PassthroughCluster" | "InboundPassthroughCluster"
            )
        });
        let own_name =
            || destination.map(canonical_name).filter(|_| self.record.cx.conn.direction == Direction::Inbound);
        let fallback = || self.host_fallback().map(Cow::into_owned).or_else(own_name).unwrap_or_else(|| UNKNOWN.into());
        let service = cluster.map(|c| c.service.to_string()).unwrap_or_else(fallback);
        let name = match (cluster, special) {
            (Some(c), _) => c.service_name.to_string(),
            (None, Some(special)) => special.into(),
            (None, None) => fallback(),
        };
        (service, name)
    }
}

fn source_labels(labels: &mut Labels, side: Side) {
    labels.extend([
        ("source_workload", side.workload),
        ("source_canonical_service", side.canonical_service),
        ("source_canonical_revision", side.canonical_revision),
        ("source_workload_namespace", side.namespace),
        ("source_principal", side.principal),
        ("source_app", side.app),
        ("source_version", side.version),
        ("source_cluster", side.cluster),
    ]);
}

/// Values of one side.
struct Side {
    workload: String,
    namespace: String,
    principal: String,
    app: String,
    version: String,
    canonical_service: String,
    canonical_revision: String,
    cluster: String,
}

impl Side {
    fn of(workload: Option<&Workload>) -> Self {
        // An absent app or version is empty on a known workload, `unknown` on an unknown one.
        let label = |key: &str| match workload {
            Some(w) => w.labels.get(key).cloned().unwrap_or_default(),
            None => UNKNOWN.into(),
        };
        Self {
            workload: text(workload.map(|w| &*w.workload_name)),
            namespace: text(workload.map(|w| &*w.namespace)),
            principal: UNKNOWN.into(),
            app: label("app"),
            version: label("version"),
            canonical_service: workload.map_or_else(|| UNKNOWN.into(), canonical_name),
            canonical_revision: workload.map_or_else(|| "latest".into(), canonical_revision),
            cluster: text(workload.map(|w| &*w.cluster)),
        }
    }
}

impl Side {
    fn with_principal(self, principal: Option<&str>) -> Self {
        Self { principal: text(principal), ..self }
    }
}

fn text(value: Option<&str>) -> String {
    value.filter(|v| !v.is_empty()).unwrap_or(UNKNOWN).to_owned()
}

fn first_label(workload: &Workload, keys: [&str; 3]) -> Option<String> {
    keys.iter().find_map(|k| workload.labels.get(*k)).filter(|v| !v.is_empty()).cloned()
}

fn canonical_name(workload: &Workload) -> String {
    first_label(workload, ["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"])
        .unwrap_or_else(|| workload.workload_name.to_string())
}

fn canonical_revision(workload: &Workload) -> String {
    first_label(workload, ["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"])
        .unwrap_or_else(|| "latest".into())
}
