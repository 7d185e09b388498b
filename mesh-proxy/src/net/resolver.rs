//! Names of the outside, looked up as the host is configured, with the time that an answer is good for.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::{Resolver as Hickory, TokioResolver};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::Resolved;

/// What decides how the host looks names up. Changes of it are followed: a laptop changes networks.
const FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];
/// How long an answer of the C library is used, which tells no time to live.
const DEFAULT_TTL: Duration = Duration::from_secs(30);
/// Longest use of an answer; one from `/etc/hosts` would be good for ever.
const LONGEST: Duration = Duration::from_secs(3600);

type Stamp = [Option<SystemTime>; 2];

/// Looks names up. It must be used inside a tokio runtime that outlives it.
#[derive(Debug, Default)]
pub struct Resolver {
    server: Option<SocketAddr>,
    current: Mutex<Option<(Stamp, Option<Arc<TokioResolver>>)>>,
}

impl Resolver {
    /// One that asks as the host's configuration says (`/etc/resolv.conf`, `/etc/hosts`); what neither knows is asked of
    /// the C library, which may know more ways.
    pub fn system() -> Self {
        Self::default()
    }

    /// One that asks this server only.
    pub fn of_server(at: SocketAddr) -> Self {
        Self { server: Some(at), current: Mutex::default() }
    }

    /// Addresses of a name: IPv4, or if there are none IPv6.
    ///
    /// # Errors
    /// The name has none ([`io::ErrorKind::NotFound`]), or it could not be looked up.
    pub async fn resolve(&self, name: &str) -> io::Result<Resolved> {
        let by_server = match self.current() {
            Some(resolver) => ask(&resolver, name).await,
            None => Err(io::Error::other("the configuration of the host's resolver can't be read")),
        };
        match by_server {
            Err(error) if self.server.is_none() => by_library(name).await.map_err(|_| error),
            answer => answer,
        }
    }

    /// The resolver for the configuration as it is now.
    fn current(&self) -> Option<Arc<TokioResolver>> {
        let stamp: Stamp = match self.server {
            Some(_) => [None, None],
            None => FILES.map(|file| std::fs::metadata(file).and_then(|about| about.modified()).ok()),
        };
        let mut current = self.current.lock();
        match &*current {
            Some((made_of, resolver)) if *made_of == stamp => resolver.clone(),
            _ => {
                let resolver = build(self.server).map(Arc::new);
                *current = Some((stamp, resolver.clone()));
                resolver
            }
        }
    }
}

fn build(server: Option<SocketAddr>) -> Option<TokioResolver> {
    let provider = TokioRuntimeProvider::default();
    let mut builder = match server {
        None => Hickory::builder(provider).ok()?,
        Some(at) => {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut c| {
                c.port = at.port();
                c
            });
            let server = NameServerConfig::new(at.ip(), true, connections.into());
            let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
            let mut builder = Hickory::builder_with_config(config, provider);
            builder.options_mut().use_hosts_file = ResolveHosts::Never;
            builder
        }
    };
    // A lost datagram is asked for again soon; the default of 5 s is longer than most clients wait.
    builder.options_mut().timeout = Duration::from_secs(2);
    builder.build().ok()
}

async fn ask(resolver: &TokioResolver, name: &str) -> io::Result<Resolved> {
    // A name with a dot is complete: the search list is for the short names that people type.
    let complete = match name.contains('.') && !name.ends_with('.') {
        true => format!("{name}."),
        false => name.to_owned(),
    };
    let found = resolver.lookup_ip(complete).await.map_err(|error| {
        let kind = if error.is_no_records_found() { io::ErrorKind::NotFound } else { io::ErrorKind::Other };
        io::Error::new(kind, error.to_string())
    })?;
    let mut addresses: Vec<IpAddr> = found.iter().collect();
    addresses.dedup();
    let until = Instant::from_std(found.as_lookup().valid_until());
    Ok(Resolved { addresses, ttl: until.saturating_duration_since(Instant::now()).min(LONGEST) })
}

async fn by_library(name: &str) -> io::Result<Resolved> {
    let found = tokio::net::lookup_host((name, 0)).await?;
    let mut addresses: Vec<IpAddr> = found.map(|a| a.ip()).collect();
    addresses.dedup();
    Ok(Resolved { addresses, ttl: DEFAULT_TTL })
}
