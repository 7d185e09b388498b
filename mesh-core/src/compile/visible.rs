//! What a proxy may see: `exportTo`, and the Sidecar in force for it.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use crate::api::{CaptureMode, IstioEgressListener, Object, Sidecar};
use crate::matching::HostPattern;
use crate::model::{Route, Service, Workload};
use crate::snapshot::{Address, Bind, BindDoor, Map};
use crate::world::{World, covers};

/// Whether an object of namespace `own` is exported to `client`. An empty list means the mesh's default, which is
/// everyone.
pub(crate) fn exported_to<T: AsRef<str>>(list: &[T], default: &[String], own: &str, client: &str) -> bool {
    let one = |e: &str| match e {
        "*" => true,
        "." => own == client,
        "~" => false,
        name => name == client,
    };
    match (list, default) {
        ([], []) => true,
        ([], default) => default.iter().any(|e| one(e)),
        (list, _) => list.iter().any(|e| one(e.as_ref())),
    }
}

/// Whether an object is exported to nobody but its own namespace.
pub(crate) fn is_private<T: AsRef<str>>(list: &[T], default: &[String], own: &str) -> bool {
    let one = |e: &str| e == "." || e == own;
    match list {
        [] => !default.is_empty() && default.iter().all(|e| one(e)),
        list => list.iter().all(|e| one(e.as_ref())),
    }
}

/// Whether a service is exported to a namespace.
pub(crate) fn service_exported(service: &Service, client: &str) -> bool {
    service.export_to.iter().any(|e| &**e == "*" || **e == *client || (&**e == "." && *service.namespace == *client))
}

/// The Sidecar for a workload: of its namespace, the oldest that selects it, else one without selector; else the root
/// namespace's one without selector.
pub(crate) fn sidecar_for<'w>(
    world: &'w World,
    namespace: &str,
    workload: Option<&Workload>,
) -> Option<&'w Arc<Object<Sidecar>>> {
    fn in_namespace<'w>(world: &'w World, ns: &str) -> impl Iterator<Item = &'w Arc<Object<Sidecar>>> {
        world.sidecars().iter().filter(move |s| *s.key.namespace == *ns)
    }
    let selector = |s: &Object<Sidecar>| s.spec.workload_selector.as_ref().map(|s| s.labels.clone());
    let selected = |s: &&Arc<Object<Sidecar>>| {
        let labels = workload.map(|w| &w.labels);
        selector(s).is_some_and(|s| !s.is_empty() && labels.is_some_and(|l| covers(&s, l)))
    };
    let general = |s: &&Arc<Object<Sidecar>>| selector(s).is_none_or(|s| s.is_empty());
    in_namespace(world, namespace)
        .find(selected)
        .or_else(|| in_namespace(world, namespace).find(general))
        .or_else(|| in_namespace(world, world.root_namespace()).find(general))
}

/// One egress listener: what it imports, for which port.
#[derive(Clone, Debug)]
pub(crate) struct Egress {
    /// Port and declared protocol; `None`: every port that no other listener has.
    pub(crate) port: Option<(u16, Arc<str>)>,
    /// Address of its listeners, instead of the services' own.
    pub(crate) bind: Option<IpAddr>,
    /// A unix socket (`bind: unix://…`) is all that it has: nothing is captured for it.
    unix: Option<Address>,
    /// Applications dial it (`captureMode: NONE`).
    pub(crate) dialled: bool,
    imports: Vec<Import>,
}

#[derive(Clone, Debug)]
struct Import {
    /// Namespace; `None`: every.
    namespace: Option<Arc<str>>,
    host: HostPattern,
    exclude: bool,
}

impl Egress {
    /// Everything, as without a Sidecar.
    pub(crate) fn everything() -> Self {
        Self {
            port: None,
            bind: None,
            unix: None,
            dialled: false,
            imports: vec![Import { namespace: None, host: HostPattern::Any, exclude: false }],
        }
    }

    /// An egress listener of a Sidecar, for a workload of `namespace`.
    pub(crate) fn of(listener: &IstioEgressListener, namespace: &str) -> Self {
        let IstioEgressListener { port, bind, capture_mode, hosts } = listener;
        let dialled = *capture_mode == CaptureMode::None && port.is_some();
        let unix = Address::unix(bind).filter(|_| port.is_some());
        let bind = bind.parse().ok().or(dialled.then_some(Ipv4Addr::LOCALHOST.into()));
        let port = port.as_ref().and_then(|p| Some((u16::try_from(p.number).ok()?, p.protocol.as_str().into())));
        Self { port, bind, unix, dialled, imports: hosts.iter().filter_map(|h| import(h, namespace)).collect() }
    }

    /// Applications dial a socket that stands for all that it imports, instead of the services' addresses.
    pub(crate) fn is_door(&self) -> bool {
        self.is_http_proxy() || self.unix.is_some()
    }

    /// It is an HTTP proxy (protocol `HTTP_PROXY`): clients name where they want to go.
    pub(crate) fn is_http_proxy(&self) -> bool {
        self.port.as_ref().is_some_and(|(_, protocol)| protocol.eq_ignore_ascii_case("HTTP_PROXY"))
    }

    /// The socket that applications dial, if they do. An HTTP proxy can't be captured, so that it always has one.
    pub(crate) fn socket(&self, door: BindDoor) -> Option<Bind> {
        let (port, _) = self.port.as_ref().filter(|_| self.dialled || door == BindDoor::HttpProxy)?;
        let ip = self.bind.unwrap_or(Ipv4Addr::LOCALHOST.into());
        Some(Bind { at: SocketAddr::new(ip, *port).into(), door })
    }

    /// The unix socket that applications dial.
    pub(crate) fn unix(&self) -> Option<&Address> {
        self.unix.as_ref()
    }

    /// The port that is captured for it only; `None`: every port that no other listener has, or none at all.
    pub(crate) fn captured_port(&self) -> Option<u16> {
        self.port.as_ref().filter(|_| self.unix.is_none()).map(|(port, _)| *port)
    }

    /// Whether a host of a namespace is imported.
    pub(crate) fn imports(&self, namespace: &str, host: &HostPattern) -> bool {
        self.any(namespace, |i| host.subset_of(i))
    }

    /// Whether some host of a route is imported: one of them overlaps.
    pub(crate) fn imports_route(&self, route: &Route) -> bool {
        self.imports_some(&route.key.namespace, &route.hosts)
    }

    /// The same for the hosts of a route in a namespace.
    pub(crate) fn imports_some(&self, namespace: &str, hosts: &[HostPattern]) -> bool {
        self.any(namespace, |i| hosts.iter().any(|h| h.overlaps(i)))
    }

    fn any(&self, namespace: &str, hit: impl Fn(&HostPattern) -> bool) -> bool {
        let here = |i: &&Import| i.namespace.as_deref().is_none_or(|n| n == namespace);
        let mut matching = self.imports.iter().filter(here).filter(|i| hit(&i.host)).peekable();
        matching.peek().is_some() && matching.all(|i| !i.exclude)
    }
}

/// The egress listeners of a Sidecar; without one, or without any of them, one that imports everything.
pub(crate) fn egress(sidecar: Option<&Sidecar>, namespace: &str) -> Vec<Egress> {
    match sidecar.map_or(&[][..], |s| &s.egress) {
        [] => vec![Egress::everything()],
        list => list.iter().map(|e| Egress::of(e, namespace)).collect(),
    }
}

fn import(text: &str, own: &str) -> Option<Import> {
    let (namespace, host) = text.split_once('/')?;
    let (exclude, namespace) = match namespace.strip_prefix('~') {
        // `~/*` is nothing; `~/a.b` excludes the host in every namespace.
        Some("") if host == "*" => return None,
        Some("") => (true, "*"),
        Some(ns) => (true, ns),
        None => (false, namespace),
    };
    let namespace = match namespace {
        "*" => None,
        "." => Some(own.into()),
        ns => Some(ns.into()),
    };
    Some(Import { namespace, host: HostPattern::parse(host), exclude })
}

/// Services that a listener may use, one per host name: the client's own namespace first, then Kubernetes' own before
/// ServiceEntries, then the oldest.
pub(crate) fn services<'w>(world: &'w World, client: &str, egress: &Egress) -> Vec<&'w Arc<Service>> {
    let mut by_host: Map<&str, &'w Arc<Service>> = Map::default();
    let mut order: Vec<&str> = Vec::new();
    for service in world.services().iter() {
        let host = Cow::<str>::Borrowed(&service.hostname);
        if !service_exported(service, client) || !egress.imports(&service.namespace, &HostPattern::parse(&host)) {
            continue;
        }
        match by_host.get_mut(&*service.hostname) {
            Some(known) => {
                if preference(service, client) < preference(known, client) {
                    *known = service;
                }
            }
            None => {
                order.push(&service.hostname);
                by_host.insert(&service.hostname, service);
            }
        }
    }
    order.into_iter().filter_map(|h| by_host.get(h).copied()).collect()
}

/// Lower is preferred among services of one host name.
pub(crate) fn preference(service: &Service, client: &str) -> (bool, bool) {
    (*service.namespace != *client, &*service.key.kind.kind != "Service")
}

/// The service that a client means by a host name, by `exportTo` alone: what routes name is visible without an import.
pub(crate) fn service_of<'w>(world: &'w World, client: &str, host: &str) -> Option<&'w Arc<Service>> {
    let exported = world.services_of_host(host).iter().filter(|s| service_exported(s, client));
    exported.min_by_key(|s| preference(s, client))
}
