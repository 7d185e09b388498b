//! Clusters whose endpoints are DNS names: resolved when a request needs them, kept for the answer's time to live.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::{Cluster, Member, Runtime};
use crate::net::Net;

/// An answer is used for at least this long, so that a time to live of 0 does not mean a look-up for each request.
const SHORTEST: Duration = Duration::from_secs(1);
/// And at most this long: Envoy's refresh rate for DNS clusters that Istio sets.
const LONGEST: Duration = Duration::from_secs(60);

/// When the names have to be looked up again.
pub(super) struct Names {
    made: Instant,
    /// Milliseconds after `made`; 0: never looked up.
    until: AtomicU64,
}

impl Default for Names {
    fn default() -> Self {
        Self { made: Instant::now(), until: AtomicU64::new(0) }
    }
}

impl Names {
    /// The members now. Only who finds the answer too old waits for a look-up; the others go on with the old one.
    pub(super) async fn members<N: Net>(
        &self,
        runtime: &Runtime<N>,
        cluster: &Cluster<N>,
        names: &[(Arc<str>, u16)],
        first_only: bool,
    ) -> Arc<Vec<Arc<Member<N>>>> {
        let now = u64::try_from(self.made.elapsed().as_millis()).unwrap_or(u64::MAX);
        let until = self.until.load(Ordering::Acquire);
        let claim = now + SHORTEST.as_millis() as u64;
        let mine =
            until <= now && self.until.compare_exchange(until, claim, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if mine || (cluster.members.load().is_empty() && until == 0) {
            self.look_up(runtime, cluster, names, first_only, now).await;
        }
        cluster.members.load_full()
    }

    async fn look_up<N: Net>(
        &self,
        runtime: &Runtime<N>,
        cluster: &Cluster<N>,
        names: &[(Arc<str>, u16)],
        first_only: bool,
        now: u64,
    ) {
        let mut addresses: Vec<SocketAddr> = Vec::new();
        let mut ttl = LONGEST;
        for (name, port) in names {
            if let Ok(ip) = name.parse::<IpAddr>() {
                addresses.push(SocketAddr::new(ip, *port));
                continue;
            }
            match runtime.net.resolve(name).await {
                Ok(found) => {
                    let wanted = if first_only { 1 } else { usize::MAX };
                    addresses.extend(found.addresses.iter().take(wanted).map(|ip| SocketAddr::new(*ip, *port)));
                    ttl = ttl.min(found.ttl);
                }
                Err(error) => {
                    tracing::debug!(%name, %error, "name does not resolve");
                    ttl = SHORTEST;
                }
            }
        }
        // A failed look-up keeps what was known.
        if !addresses.is_empty() {
            addresses.sort();
            addresses.dedup();
            let endpoints = addresses.into_iter().map(|a| Arc::new(runtime.endpoint_at(a))).collect();
            cluster.set(endpoints, runtime.workers);
        }
        let ttl = ttl.max(SHORTEST).as_millis() as u64;
        self.until.store(now + ttl, Ordering::Release);
    }
}
