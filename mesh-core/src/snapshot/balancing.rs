//! How a cluster's endpoints are chosen and taken out: `loadBalancer` and `outlierDetection`, merged and ready to use.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use super::Provenance;

/// Algorithm of `loadBalancer`. `PASSTHROUGH` is no balancer but [`super::EndpointSource::OriginalDst`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Balancer {
    /// Power of two choices by active requests; with unequal weights in turn, each by weight / (active + 1).
    #[default]
    LeastRequest,
    /// In turn, by weight.
    RoundRobin,
    /// Uniformly at random, by weight.
    Random,
    /// Consistent hashing over a ring of at least this many points.
    RingHash(u64),
    /// Consistent hashing over a table of this prime size.
    Maglev(u64),
}

impl Balancer {
    /// Chooses by [`Balancing::hash_key`].
    pub fn hashes(self) -> bool {
        matches!(self, Self::RingHash(_) | Self::Maglev(_))
    }
}

/// What goes with the balancer. The default is Istio's without any DestinationRule.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Balancing {
    /// What a consistent hash is made of; `None`: nothing, every choice is random.
    pub hash_key: Option<HashKey>,
    /// Slow start of new endpoints.
    pub warmup: Option<Warmup>,
    /// Preference by locality.
    pub locality: LocalityPlan,
    /// Who says so; `None` where locality plays no part.
    pub locality_origin: Option<Provenance>,
    /// Ejection of endpoints that fail; `None`: never.
    pub outlier: Option<OutlierPlan>,
    /// Who says so.
    pub outlier_origin: Option<Provenance>,
}

/// Key of `consistentHash`.
#[derive(Clone, PartialEq, Debug)]
pub enum HashKey {
    /// `httpHeaderName`.
    Header(HeaderName),
    /// `httpCookie`.
    Cookie(CookiePlan),
    /// `useSourceIp`; the only one that TCP has.
    SourceIp,
    /// `httpQueryParameterName`.
    Query(Arc<str>),
}

/// A cookie as key.
#[derive(Clone, PartialEq, Debug)]
pub struct CookiePlan {
    /// Name.
    pub name: Arc<str>,
    /// What follows `NAME="VALUE"` in the cookie that is made for a client without one; `None`: none is made.
    pub attributes: Option<Arc<str>>,
}

/// `warmup`: the weight of an endpoint is multiplied by `max(minimum, (age / duration) ^ (1 / aggression))`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Warmup {
    /// Age from which an endpoint has its full weight.
    pub duration: Duration,
    /// Least factor, 0 to 1; default 0.1.
    pub minimum: f64,
    /// Shape of the ramp; 1 is linear, the default.
    pub aggression: f64,
}

impl Warmup {
    /// The factor at an age.
    pub fn factor(&self, age: Duration) -> f64 {
        if age >= self.duration {
            return 1.0;
        }
        let passed = age.as_secs_f64() / self.duration.as_secs_f64();
        passed.powf(self.aggression.recip()).max(self.minimum).min(1.0)
    }
}

/// `region/zone/subzone`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Place {
    /// Region.
    pub region: Arc<str>,
    /// Zone.
    pub zone: Arc<str>,
    /// Subzone.
    pub subzone: Arc<str>,
}

impl Place {
    /// From `region/zone/subzone`; what is missing is empty.
    pub fn parse(text: &str) -> Self {
        let mut parts = text.splitn(3, '/').map(Arc::from);
        let mut next = || parts.next().unwrap_or_else(|| "".into());
        Self { region: next(), zone: next(), subzone: next() }
    }
}

/// How the client's locality and an endpoint's make priorities and shares.
#[derive(Clone, PartialEq, Debug, Default)]
pub enum LocalityPlan {
    /// All endpoints alike.
    #[default]
    Ignored,
    /// `distribute`: patterns of localities (`region/zone/*`) with percents; other localities get nothing.
    Distribute(Vec<(Arc<str>, u32)>),
    /// Priorities.
    Failover(FailoverPlan),
    /// `zoneAwareLbSetting`: the own region first, inside it the own zone as far as it has its share of the capacity.
    ZoneAware(ZoneAwarePlan),
}

/// Priorities by labels, by nearness, or by both (labels first).
#[derive(Clone, PartialEq, Debug, Default)]
pub struct FailoverPlan {
    /// `failoverPriority`: labels with the value that a preferred endpoint has; `None` as value: the endpoint must not
    /// have the label either.
    pub labels: Vec<(Arc<str>, Option<Arc<str>>)>,
    /// Nearness to the client; `None`: only labels count.
    pub near: Option<Near>,
}

/// Nearness: same subzone, same zone, same region, the region that takes over, the rest.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Near {
    /// The client's locality.
    pub client: Place,
    /// Region that takes over from the client's; `None`: any.
    pub to: Option<Arc<str>>,
    /// Zones and subzones don't count.
    pub regions_only: bool,
}

/// Zone-aware routing.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct ZoneAwarePlan {
    /// Priorities: the own region, the one that takes over, the rest; or by labels.
    pub failover: FailoverPlan,
    /// The client's locality.
    pub client: Place,
    /// Instances of the client's own service by locality.
    pub peers: Vec<(Place, u32)>,
    /// Least number of endpoints for it to apply.
    pub min_cluster_size: u32,
}

/// `outlierDetection` with its defaults filled in.
#[derive(Clone, PartialEq, Debug)]
pub struct OutlierPlan {
    /// Consecutive 5xx (or of `error_codes`) until ejection; 0: never.
    pub consecutive_5xx: u32,
    /// Consecutive 502, 503 and 504 until ejection; 0: never.
    pub consecutive_gateway: u32,
    /// Failures of the proxy itself (connecting, resets, timeouts) are counted apart.
    pub split_local: bool,
    /// Consecutive ones until ejection, if they are counted apart; 0: never.
    pub consecutive_local: u32,
    /// Time between sweeps.
    pub interval: Duration,
    /// An ejection lasts this times the number of ejections so far, at most `max(300 s, this)`.
    pub base_ejection_time: Duration,
    /// Share of the endpoints that may be ejected at a time.
    pub max_ejection_percent: u32,
    /// Below this share of healthy endpoints all are used; 0: never.
    pub min_health_percent: u32,
    /// The statuses that are errors, instead of 5xx.
    pub error_codes: Option<BTreeSet<u16>>,
}

impl Default for OutlierPlan {
    /// `outlierDetection: {}`.
    fn default() -> Self {
        Self {
            consecutive_5xx: 5,
            consecutive_gateway: 0,
            split_local: false,
            consecutive_local: 5,
            interval: Duration::from_secs(10),
            base_ejection_time: Duration::from_secs(30),
            max_ejection_percent: 10,
            min_health_percent: 0,
            error_codes: None,
        }
    }
}
