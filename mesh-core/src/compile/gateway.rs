//! Listeners of a gateway: Gateway servers, merged by bind address and port, and the routes bound to them.

mod passthrough;
mod routes;
mod servers;
mod tls;

pub(super) use tls::{Terminating, downstream};

use std::net::IpAddr;
use std::sync::Arc;

use super::Run;
use super::cluster::{BLACK_HOLE, special};
use crate::api::{ContentHash, Gateway, Object, Server};
use crate::matching::HostPattern;
use crate::snapshot::{
    Address, Bind, BindDoor, ClientCertificate, Direction, DownstreamTls, EndpointSource, L4Rule, ListenerKey,
    ListenerPlan, Provenance, TlsServer, TlsThen, UpstreamProtocol,
};

/// What a server does with a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Speaks {
    /// HTTP in the clear.
    Http,
    /// Bytes in the clear.
    Tcp,
    /// TLS that is ended here, with HTTP inside.
    Https,
    /// TLS that is ended here, with bytes inside.
    TlsTcp,
    /// TLS that goes on as it is, by the server name, as routes say.
    Passthrough,
    /// TLS that goes on as it is, to the cluster that the server name names.
    AutoPassthrough,
}

impl Speaks {
    fn is_tls(self) -> bool {
        matches!(self, Self::Https | Self::TlsTcp | Self::Passthrough | Self::AutoPassthrough)
    }
}

/// A server that this proxy serves.
#[derive(Clone)]
struct Serving<'a> {
    gateway: &'a Arc<Object<Gateway>>,
    index: usize,
    /// Port as written; routes are for it.
    number: u16,
    /// `namespace/name` of the Gateway.
    name: Arc<str>,
    speaks: Speaks,
    redirect: bool,
    /// TLS that is ended here.
    tls: Option<Arc<DownstreamTls>>,
}

impl Serving<'_> {
    fn server(&self) -> &Server {
        &self.gateway.spec.servers[self.index]
    }

    fn field(&self) -> String {
        format!("spec.servers[{}]", self.index)
    }

    fn origin(&self) -> Provenance {
        Provenance::field(&self.gateway.key, &self.gateway.origin, &self.field())
    }

    /// `https.443.https.gateway.namespace`, Istio's name for a server's routes.
    fn table(&self) -> Arc<str> {
        let port = self.server().port.as_ref().map_or("", |p| &*p.name);
        let key = &self.gateway.key;
        format!("https.{}.{port}.{}.{}", self.number, key.name, key.namespace).into()
    }

    /// Names that clients ask for.
    fn sni(&self) -> Vec<HostPattern> {
        routes::server_hosts(self).map(|(_, host)| host).collect()
    }
}

pub(super) fn compile(run: &mut Run<'_>) {
    let defaults = run.cluster_defaults.clone();
    let none = Provenance::default("a destination without instances");
    let black_hole = special(BLACK_HOLE, EndpointSource::BlackHole, UpstreamProtocol::Client, none, &defaults);
    run.clusters.insert(BLACK_HOLE.into(), black_hole);
    for (place, servers) in servers::servers(run) {
        let key = place.key(servers[0].number);
        match servers[0].speaks {
            Speaks::Http => {
                let plan = routes::http_plan(
                    run,
                    &servers,
                    &format!("http.{}", servers[0].number),
                    &routes::Others::default(),
                );
                run.plain_listener(&place.name(), key, (Some(plan), false), None, servers[0].origin());
            }
            Speaks::Tcp => {
                if let Some(tcp) = routes::tcp_plan(run, &servers[0]) {
                    run.plain_listener(&place.name(), key, (None, false), Some(tcp), servers[0].origin());
                }
            }
            Speaks::Https | Speaks::TlsTcp | Speaks::Passthrough | Speaks::AutoPassthrough => {
                tls_listener(run, (&place, key), &servers);
            }
        }
        if let Place::Socket(path) = place
            && run.listeners.contains_key(&key)
        {
            run.binds.push(Bind { at: Address::Unix(path), door: BindDoor::Gateway(key) });
        }
    }
}

/// Where servers listen.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Place {
    /// A port of this address; `None`: of every one.
    Port(Option<IpAddr>, u16),
    /// A unix socket.
    Socket(Arc<str>),
}

impl Place {
    /// `number` is that of the server.
    fn key(&self, number: u16) -> ListenerKey {
        match self {
            Self::Port(address, port) => ListenerKey::new(Direction::Gateway, *address, *port),
            Self::Socket(path) => ListenerKey::socket(path, number),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Port(Some(ip), port) => format!("{ip}_{port}"),
            Self::Port(None, port) => format!("0.0.0.0_{port}"),
            Self::Socket(path) => path.to_string(),
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Port(_, port) => write!(f, "port {port}"),
            Self::Socket(path) => write!(f, "socket {path}"),
        }
    }
}

/// A port where the server name tells which server is meant.
fn tls_listener(run: &mut Run<'_>, (place, key): (&Place, ListenerKey), servers: &[Serving<'_>]) {
    let (mut tls, mut l4): (Vec<TlsServer>, Vec<L4Rule>) = Default::default();
    for serving in servers {
        let then = match serving.speaks {
            Speaks::Https => {
                let one = std::slice::from_ref(serving);
                Some(TlsThen::Http(routes::http_plan(run, one, &serving.table(), &others(serving, servers))))
            }
            Speaks::TlsTcp => routes::tcp_plan(run, serving).map(TlsThen::Tcp),
            Speaks::Passthrough => {
                passthrough::rules(run, serving, &mut l4);
                None
            }
            Speaks::AutoPassthrough => {
                passthrough::automatic(run, serving, &mut l4);
                None
            }
            Speaks::Http | Speaks::Tcp => None,
        };
        if let (Some(then), Some(settings)) = (then, &serving.tls) {
            let (sni, origin) = (serving.sni(), serving.origin());
            tls.push(TlsServer { name: serving.table(), sni, tls: settings.clone(), then, origin });
        }
    }
    if tls.is_empty() && l4.is_empty() {
        return;
    }
    l4.sort_by_key(super::l4::specificity);
    let plan = super::l4::with_hash(ListenerPlan {
        mesh: None,
        name: place.name().into(),
        key,
        detect: true,
        http: None,
        tls,
        l4,
        fallback: None,
        origin: servers[0].origin(),
        hash: ContentHash::default(),
    });
    run.add_listener(plan);
}

/// What the others of a port mean for a server that speaks HTTP inside TLS.
fn others(serving: &Serving<'_>, servers: &[Serving<'_>]) -> routes::Others {
    let own = serving.sni();
    let covered = |host: &HostPattern| own.iter().any(|o| host.subset_of(o) && host != o);
    let mut all = routes::Others::default();
    for other in servers.iter().filter(|o| o.speaks == Speaks::Https && o.index_of() != serving.index_of()) {
        let hosts = other.sni();
        let same = |tls: &DownstreamTls| serving.tls.as_ref().is_some_and(|own| own.asks_as(tls));
        if other.tls.as_ref().is_some_and(|tls| tls.client != ClientCertificate::None && !same(tls)) {
            all.guarded.extend(hosts.iter().filter(|h| covered(h)).cloned());
        }
        all.elsewhere.extend(hosts);
    }
    all
}

impl Serving<'_> {
    /// Which server of which Gateway.
    fn index_of(&self) -> (&crate::api::Key, usize) {
        (&self.gateway.key, self.index)
    }
}

#[cfg(test)]
mod tests;
