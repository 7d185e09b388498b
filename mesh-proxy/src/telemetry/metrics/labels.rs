//! Labels of the standard metrics and where their values come from.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use mesh_core::api::ContentHash;
use mesh_core::model::Workload;
use mesh_core::record::{Flag, RequestRecord};
use mesh_core::snapshot::{ClusterPlan, Direction};

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
            Direction::Outbound | Direction::Gateway => cx.endpoint.load().as_ref().map(|e| e.workload.clone()),
        };
        let protocol = match &record.http {
            None => Protocol::Tcp,
            Some(http) if http.grpc => Protocol::Grpc,
            Some(_) => Protocol::Http,
        };
        Self { record, own: neighbours.own.as_ref(), peer, cluster: cx.cluster.get(), protocol }
    }

    pub(super) fn key(&self) -> LabelKey {
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
        }
    }

    /// The Host header, where it stands in for an unknown destination: only on sidecar outbound, because elsewhere a
    /// client could make up as many label sets as it likes.
    fn host_fallback(&self) -> Option<&str> {
        let known = self.cluster.is_some_and(|c| !c.service.is_empty());
        (!known && self.record.cx.conn.direction == Direction::Outbound)
            .then_some(self.record.http.as_ref()?)
            .map(|http| http.authority.as_str())
    }

    pub(super) fn labels(&self) -> Labels {
        let inbound = self.record.cx.conn.direction == Direction::Inbound;
        let (source, destination) = match inbound {
            true => (self.peer.as_deref(), self.own.map(|w| &**w)),
            false => (self.own.map(|w| &**w), self.peer.as_deref()),
        };
        let mut labels = Labels::with_capacity(26);
        labels.push(("reporter", if inbound { "destination" } else { "source" }.into()));
        side(&mut labels, &SOURCE, source);
        side(&mut labels, &DESTINATION, destination);
        self.service(&mut labels, destination);
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
        labels.push(("response_flags", Flag::names(self.record.cx.flags.load(Ordering::Relaxed))));
        labels.push(("connection_security_policy", if inbound { "none" } else { UNKNOWN }.into()));
        labels
    }

    fn service(&self, labels: &mut Labels, destination: Option<&Workload>) {
        let cluster = self.cluster.filter(|c| !c.service.is_empty());
        let special = self
            .cluster
            .map(|c| &*c.name)
            .filter(|name| matches!(*name, "BlackHoleCluster" | "PassthroughCluster" | "InboundPassthroughCluster"));
        let own_name =
            || destination.map(canonical_name).filter(|_| self.record.cx.conn.direction == Direction::Inbound);
        let fallback = || self.host_fallback().map(str::to_owned).or_else(own_name).unwrap_or_else(|| UNKNOWN.into());
        let service = cluster.map(|c| c.service.to_string()).unwrap_or_else(fallback);
        let name = match (cluster, special) {
            (Some(c), _) => c.service_name.to_string(),
            (None, Some(special)) => special.into(),
            (None, None) => fallback(),
        };
        labels.push(("destination_service", service));
        labels.push(("destination_service_name", name));
        labels.push(("destination_service_namespace", text(destination.map(|w| &*w.namespace))));
    }
}

/// Label names of one side.
struct Names {
    workload: &'static str,
    namespace: &'static str,
    principal: &'static str,
    app: &'static str,
    version: &'static str,
    canonical_service: &'static str,
    canonical_revision: &'static str,
    cluster: &'static str,
}

const SOURCE: Names = Names {
    workload: "source_workload",
    namespace: "source_workload_namespace",
    principal: "source_principal",
    app: "source_app",
    version: "source_version",
    canonical_service: "source_canonical_service",
    canonical_revision: "source_canonical_revision",
    cluster: "source_cluster",
};

const DESTINATION: Names = Names {
    workload: "destination_workload",
    namespace: "destination_workload_namespace",
    principal: "destination_principal",
    app: "destination_app",
    version: "destination_version",
    canonical_service: "destination_canonical_service",
    canonical_revision: "destination_canonical_revision",
    cluster: "destination_cluster",
};

fn side(labels: &mut Labels, names: &Names, workload: Option<&Workload>) {
    // An absent app or version is empty on a known workload, `unknown` on an unknown one.
    let label = |key: &str| match workload {
        Some(w) => w.labels.get(key).cloned().unwrap_or_default(),
        None => UNKNOWN.into(),
    };
    labels.push((names.workload, text(workload.map(|w| &*w.workload_name))));
    labels.push((names.canonical_service, workload.map_or_else(|| UNKNOWN.into(), canonical_name)));
    labels.push((names.canonical_revision, workload.map_or_else(|| "latest".into(), canonical_revision)));
    labels.push((names.namespace, text(workload.map(|w| &*w.namespace))));
    labels.push((names.principal, UNKNOWN.into()));
    labels.push((names.app, label("app")));
    labels.push((names.version, label("version")));
    labels.push((names.cluster, text(workload.map(|w| &*w.cluster))));
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
