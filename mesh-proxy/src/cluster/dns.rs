//! Endpoints that DNS knows: the names of a cluster, looked up again and again in the background, and names that only a
//! request tells.
//!
//! An answer is used for its time to live. A look-up that fails keeps what the one before found, and is repeated after
//! `dnsRefreshRate`. Requests wait only for the very first answer.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use mesh_core::env::Env;
use mesh_core::error::{Error, ErrorKind};
use mesh_core::model::Health;
use mesh_core::snapshot::{Address, DnsName, Endpoint, Map};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until, timeout};

use super::{Cluster, Runtime};
use crate::net::Net;

/// Envoy's smallest pause between look-ups: a time to live of 0 must not mean one after the other.
const SHORTEST: Duration = Duration::from_secs(1);
/// Pauses are longer by up to this, so that proxies that were started together don't ask together for ever.
const JITTER_MILLIS: u64 = 100;
/// Names that requests told are forgotten when there are more.
const MAX_ASKED: usize = 1024;

/// What is looked up for a cluster.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Wanted {
    pub(super) names: Vec<DnsName>,
    pub(super) first_only: bool,
    pub(super) retry: Duration,
}

/// The names of one cluster.
pub(super) struct Names {
    task: Mutex<Option<(Wanted, AbortHandle)>>,
    answered: watch::Sender<bool>,
}

impl Default for Names {
    fn default() -> Self {
        Self { task: Mutex::default(), answered: watch::Sender::new(false) }
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        if let Some((_, task)) = self.task.get_mut() {
            task.abort();
        }
    }
}

impl Names {
    /// Looks these names up from now on; the same ones go on as they are. Outside of a tokio runtime nothing can be looked
    /// up, and the cluster stays empty.
    pub(super) fn follow<N: Net>(&self, runtime: &Arc<Runtime<N>>, cluster: &Arc<Cluster<N>>, wanted: Wanted) {
        let mut task = self.task.lock();
        if task.as_ref().is_some_and(|(now, _)| *now == wanted) {
            return;
        }
        let Ok(handle) = tokio::runtime::Handle::try_current() else { return };
        if let Some((_, old)) = task.take() {
            old.abort();
        }
        // The task must not keep alive what it works for.
        let (runtime, cluster) = (Arc::downgrade(runtime), Arc::downgrade(cluster));
        let mut round = Round::new(wanted.clone());
        let running = handle.spawn(async move {
            loop {
                sleep_until(round.next()).await;
                let (Some(runtime), Some(cluster)) = (runtime.upgrade(), cluster.upgrade()) else { return };
                round.look_up(&*runtime.env, &runtime.net).await;
                cluster.set(round.endpoints(), runtime.env.random());
                cluster.dns.answered.send_replace(true);
            }
        });
        *task = Some((wanted, running.abort_handle()));
    }

    /// Waits until the names were looked up once, with whatever result.
    pub(super) async fn first_answer(&self, longest: Duration) {
        let mut answered = self.answered.subscribe();
        // Without an answer there is no endpoint, which the caller sees.
        let _ = timeout(longest, answered.wait_for(|a| *a)).await;
    }
}

/// The state of a task: what each name stood for last, and when it is to be looked up again.
struct Round {
    wanted: Wanted,
    found: Vec<(Vec<IpAddr>, Instant)>,
}

impl Round {
    fn new(wanted: Wanted) -> Self {
        let now = Instant::now();
        let found = wanted.names.iter().map(|_| (Vec::new(), now)).collect();
        Self { wanted, found }
    }

    fn next(&self) -> Instant {
        let earliest = self.found.iter().map(|(_, due)| *due).min();
        earliest.unwrap_or_else(|| Instant::now() + self.wanted.retry)
    }

    /// Looks up the names that are due.
    async fn look_up<N: Net>(&mut self, env: &dyn Env, net: &N) {
        let now = Instant::now();
        let due = self.wanted.names.iter().zip(&mut self.found).filter(|(_, (_, due))| *due <= now);
        let retry = self.wanted.retry;
        let all = due.map(|(name, (addresses, due))| async move {
            let pause = match name.host.parse::<IpAddr>() {
                Ok(ip) => {
                    *addresses = vec![ip];
                    FOREVER
                }
                Err(_) => match net.resolve(&name.host).await {
                    Ok(found) if !found.addresses.is_empty() => {
                        *addresses = found.addresses;
                        found.ttl.max(SHORTEST)
                    }
                    Ok(_) => retry,
                    Err(error) => {
                        tracing::info!(name = %name.host, %error, "the name does not resolve");
                        retry
                    }
                },
            };
            *due = Instant::now() + pause.min(FOREVER) + Duration::from_millis(env.below(JITTER_MILLIS));
        });
        futures_util::future::join_all(all).await;
    }

    fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        let mut all: Vec<Arc<Endpoint>> = Vec::new();
        for (name, (addresses, _)) in self.wanted.names.iter().zip(&self.found) {
            let most = if self.wanted.first_only { 1 } else { usize::MAX };
            for ip in addresses.iter().take(most) {
                let address = Address::Ip(SocketAddr::new(*ip, name.port));
                if all.iter().any(|e| e.address == address) {
                    continue;
                }
                let (weight, workload) = (name.workload.weight.max(1), name.workload.clone());
                let (health, mesh) = (Health::Healthy, name.mesh.clone());
                all.push(Arc::new(Endpoint { address, weight, health, workload, mesh }));
            }
        }
        all.sort_by(|a, b| a.address.cmp(&b.address));
        all
    }
}

/// Longest pause; also of an address that needs no look-up.
const FOREVER: Duration = Duration::from_secs(24 * 3600);

/// Names that requests told, with their addresses as long as they are good.
#[derive(Default)]
pub(super) struct Asked {
    known: ArcSwap<Map<Arc<str>, (IpAddr, Instant)>>,
}

impl Asked {
    /// The address of a host that a request asks for; of several its first.
    pub(super) async fn address<N: Net>(
        &self,
        runtime: &Runtime<N>,
        host: &str,
        port: u16,
    ) -> Result<SocketAddr, Error> {
        let host = host.trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase();
        if let Ok(ip) = host.parse() {
            return Ok(SocketAddr::new(ip, port));
        }
        if let Some((ip, until)) = self.known.load().get(&*host)
            && *until > Instant::now()
        {
            return Ok(SocketAddr::new(*ip, port));
        }
        if host.is_empty() {
            return Err(Error::new(ErrorKind::DnsFailure));
        }
        let found = runtime.net.resolve(&host).await.map_err(|e| Error::new(ErrorKind::DnsFailure).because(e))?;
        let ip = *found.addresses.first().ok_or_else(|| Error::new(ErrorKind::DnsFailure))?;
        let now = Instant::now();
        self.known.rcu(|all| {
            let mut all = Map::clone(all);
            if all.len() >= MAX_ASKED {
                all.retain(|_, (_, until)| *until > now);
            }
            if all.len() < MAX_ASKED {
                all.insert(host.as_str().into(), (ip, now + found.ttl.clamp(SHORTEST, FOREVER)));
            }
            all
        });
        Ok(SocketAddr::new(ip, port))
    }
}

#[cfg(test)]
mod tests;
