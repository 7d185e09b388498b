//! Which locality setting is in force for one client and one service, and what it says for that client.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::origin;
use crate::api::{
    ContentHash, LoadBalancerSettings, LocalityDistribute, LocalityFailover, LocalityLoadBalancerSetting, MeshConfig,
    Object, ZoneAwareLoadBalancerSetting,
};
use crate::balance::locality::{label, matches};
use crate::compile::account::Ledger;
use crate::compile::cluster::{At, ClusterInput};
use crate::compile::memo::hash_debug;
use crate::model::{TrafficDistribution, Workload};
use crate::snapshot::{
    FailoverPlan, LocalityPlan, Near, OutlierPlan, Place, Provenance, ProxyId, ProxyKind, ZoneAwarePlan,
};
use crate::world::World;

/// Istio's switch of zone-aware routing: without it a proxy does not know its own service's instances.
const SELF_DISCOVERY: &str = "ISTIO_META_ENABLE_SELF_DISCOVERY";
/// `minClusterSize` where nobody says it.
const MIN_CLUSTER_SIZE: u32 = 6;
const NETWORK: &str = "topology.istio.io/network";
const NEAREST_FIRST: [&str; 4] =
    [NETWORK, "topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone"];
const NODE: &str = "kubernetes.io/hostname";

/// What balancing depends on beside the rules: the client, and the mesh's defaults.
#[derive(Clone, Debug)]
pub(in crate::compile) struct Client {
    workload: Option<Arc<Workload>>,
    place: Place,
    /// Instances of the own service by locality; empty: zones are not known, or not asked for.
    peers: Vec<(Place, u32)>,
    locality: Option<LocalityLoadBalancerSetting>,
    locality_origin: Provenance,
    zone_aware: Option<ZoneAwareLoadBalancerSetting>,
    zone_aware_origin: Provenance,
    pub(in crate::compile::cluster) outlier: Option<(OutlierPlan, Provenance)>,
    pub(in crate::compile) hash: ContentHash,
}

impl Client {
    pub(in crate::compile) fn of(world: &World, id: &ProxyId, workload: Option<&Arc<Workload>>) -> Self {
        let mesh = world.mesh();
        let setting = |field, default| Provenance::setting(mesh, field, default);
        let place = workload.map_or_else(Place::default, |w| Place::parse(&w.locality));
        let labels = workload.map(|w| (&w.labels, &w.network, &w.cluster));
        let mut client = Self {
            workload: workload.cloned(),
            peers: workload.filter(|_| discovers_itself(mesh, id)).map_or_else(Vec::new, |w| peers(world, w)),
            locality: Some(mesh.spec.locality_lb_setting.clone().unwrap_or_default()),
            locality_origin: setting("spec.localityLbSetting", "localities count by default"),
            zone_aware: mesh.spec.zone_aware_lb_setting.clone(),
            zone_aware_origin: setting("spec.zoneAwareLbSetting", "zones do not count by default"),
            outlier: super::mesh_outlier(mesh),
            hash: ContentHash::default(),
            place: place.clone(),
        };
        let outlier = client.outlier.as_ref().map(|(plan, _)| plan);
        let mesh = (&client.locality, &client.zone_aware, outlier);
        client.hash = hash_debug(&(labels, place, &client.peers, mesh));
        client
    }
}

fn discovers_itself(mesh: &Object<MeshConfig>, id: &ProxyId) -> bool {
    let metadata = mesh.spec.default_config.as_ref().map(|c| &c.proxy_metadata);
    id.kind == ProxyKind::Sidecar
        && metadata.and_then(|m| m.get(SELF_DISCOVERY)).is_some_and(|v| v == "true" || v == "1")
}

/// The instances of the first service that selects the workload, by locality.
fn peers(world: &World, own: &Workload) -> Vec<(Place, u32)> {
    let service = world.services().iter().find(|s| s.selects(own));
    let mut count: BTreeMap<Place, u32> = BTreeMap::new();
    for peer in service.into_iter().flat_map(|s| world.selected_workloads(s)) {
        *count.entry(Place::parse(&peer.locality)).or_default() += 1;
    }
    count.into_iter().collect()
}

/// The setting in force, by Istio's precedence; it is taken whole.
enum Setting<'a> {
    Locality(&'a LocalityLoadBalancerSetting),
    ZoneAware(&'a ZoneAwareLoadBalancerSetting),
    Distribution(TrafficDistribution),
}

fn setting<'a>(
    input: &'a ClusterInput<'_>,
    rule: Option<(&'a LoadBalancerSettings, At<'a>)>,
) -> Option<(Setting<'a>, Provenance)> {
    let client = &input.defaults.client;
    if let Some((settings, at)) = rule {
        if let Some(zones) = &settings.zone_aware_lb_setting {
            return Some((Setting::ZoneAware(zones), origin(at, ".loadBalancer.zoneAwareLbSetting")));
        }
        if let Some(locality) = &settings.locality_lb_setting {
            return Some((Setting::Locality(locality), origin(at, ".loadBalancer.localityLbSetting")));
        }
    }
    let service = input.service;
    if service.traffic_distribution != TrafficDistribution::Any {
        let at = Provenance::field(&service.key, &service.origin, "spec.trafficDistribution");
        return Some((Setting::Distribution(service.traffic_distribution), at));
    }
    if let Some(zones) = &client.zone_aware {
        return Some((Setting::ZoneAware(zones), client.zone_aware_origin.clone()));
    }
    client.locality.as_ref().map(|l| (Setting::Locality(l), client.locality_origin.clone()))
}

pub(super) fn plan(
    input: &ClusterInput<'_>,
    rule: Option<(&LoadBalancerSettings, At<'_>)>,
    outliers: bool,
) -> (LocalityPlan, Option<Provenance>) {
    let Some((setting, at)) = setting(input, rule) else { return (LocalityPlan::Ignored, None) };
    let client = &input.defaults.client;
    let plan = match setting {
        Setting::Locality(setting) => of_locality(client, setting, outliers),
        Setting::ZoneAware(setting) => of_zones(client, setting),
        // Nearness is what was asked for, so that it needs no outlier detection.
        Setting::Distribution(kind) => {
            let node = (kind == TrafficDistribution::SameNode).then_some(NODE);
            let labels = NEAREST_FIRST.into_iter().chain(node).map(|l| of_client(client, l)).collect();
            LocalityPlan::Failover(FailoverPlan { labels, near: None })
        }
    };
    let decides = plan != LocalityPlan::Ignored;
    (plan, decides.then_some(at))
}

fn of_locality(client: &Client, setting: &LocalityLoadBalancerSetting, outliers: bool) -> LocalityPlan {
    let LocalityLoadBalancerSetting { distribute, failover, failover_priority, enabled } = setting;
    if *enabled == Some(false) {
        return LocalityPlan::Ignored;
    }
    if !distribute.is_empty() {
        let own = distribute.iter().find(|d| matches(&d.from, &client.place));
        return own.map_or(LocalityPlan::Ignored, |own| {
            LocalityPlan::Distribute(own.to.iter().map(|(to, percent)| (to.as_str().into(), *percent)).collect())
        });
    }
    if !outliers {
        return LocalityPlan::Ignored;
    }
    let labels = priorities(client, failover_priority);
    let near = (labels.is_empty() || !failover.is_empty()).then(|| near(client, failover, false));
    LocalityPlan::Failover(FailoverPlan { labels, near })
}

fn of_zones(client: &Client, setting: &ZoneAwareLoadBalancerSetting) -> LocalityPlan {
    let ZoneAwareLoadBalancerSetting { enabled, failover, failover_priority, min_cluster_size } = setting;
    if *enabled == Some(false) || client.peers.is_empty() {
        return LocalityPlan::Ignored;
    }
    let labels = priorities(client, failover_priority);
    let near = labels.is_empty().then(|| near(client, failover, true));
    LocalityPlan::ZoneAware(ZoneAwarePlan {
        failover: FailoverPlan { labels, near },
        client: client.place.clone(),
        peers: client.peers.clone(),
        min_cluster_size: min_cluster_size.unwrap_or(MIN_CLUSTER_SIZE),
    })
}

fn near(client: &Client, failover: &[LocalityFailover], regions_only: bool) -> Near {
    let to = failover.iter().find(|f| *f.from == *client.place.region).map(|f| f.to.as_str().into());
    Near { client: client.place.clone(), to, regions_only }
}

/// `label` means the client's own value, `label=value` that value.
fn priorities(client: &Client, list: &[String]) -> Vec<(Arc<str>, Option<Arc<str>>)> {
    let one = |text: &String| match text.split_once('=') {
        Some((label, value)) => (label.into(), Some(value.into())),
        None => of_client(client, text),
    };
    list.iter().map(one).collect()
}

fn of_client(client: &Client, name: &str) -> (Arc<str>, Option<Arc<str>>) {
    (name.into(), client.workload.as_ref().and_then(|w| label(w, name)).map(|v| v.into_owned().into()))
}

const NO_OUTLIERS: &str = "without outlierDetection no endpoint is ever taken out, and localities do not count";

/// What became of the locality fields of a rule that decides.
pub(super) fn account(
    ledger: &mut Ledger<'_>,
    at: &str,
    settings: &LoadBalancerSettings,
    input: &ClusterInput<'_>,
    outliers: bool,
) {
    if let Some(zones) = &settings.zone_aware_lb_setting {
        if settings.locality_lb_setting.is_some() {
            ledger.overridden(&format!("{at}.localityLbSetting"), "zoneAwareLbSetting");
        }
        return account_zones(ledger, &format!("{at}.zoneAwareLbSetting"), zones, &input.defaults.client);
    }
    if let Some(setting) = &settings.locality_lb_setting {
        account_setting(ledger, &format!("{at}.localityLbSetting"), setting, &input.defaults.client, outliers);
    }
}

/// What became of the mesh's locality fields.
pub(in crate::compile) fn account_mesh_locality(ledger: &mut Ledger<'_>, mesh: &MeshConfig, client: &Client) {
    let at = "spec.localityLbSetting";
    if let Some(zones) = &mesh.zone_aware_lb_setting {
        account_zones(ledger, "spec.zoneAwareLbSetting", zones, client);
        if mesh.locality_lb_setting.is_some() {
            ledger.overridden(at, "zoneAwareLbSetting");
        }
    } else if let Some(setting) = &mesh.locality_lb_setting {
        // Outlier detection comes with each rule, so that it may matter for some destination.
        account_setting(ledger, at, setting, client, true);
    }
}

fn account_setting(
    ledger: &mut Ledger<'_>,
    at: &str,
    setting: &LocalityLoadBalancerSetting,
    client: &Client,
    outliers: bool,
) {
    let LocalityLoadBalancerSetting { distribute, failover, failover_priority, enabled } = setting;
    let list = |name: &str, i: usize| format!("{at}.{name}[{i}]");
    let rest = |ledger: &mut Ledger<'_>, because: &str| {
        (0..failover.len()).for_each(|i| ledger.inert(&list("failover", i), because));
        (0..failover_priority.len()).for_each(|i| ledger.inert(&list("failoverPriority", i), because));
    };
    ledger.consumed(at);
    if *enabled == Some(false) {
        ledger.take(at, "enabled", enabled);
        (0..distribute.len()).for_each(|i| ledger.inert(&list("distribute", i), "enabled is false"));
        return rest(ledger, "enabled is false");
    }
    if !distribute.is_empty() {
        ledger.take(at, "enabled", enabled);
        let own = distribute.iter().position(|d| matches(&d.from, &client.place));
        for (i, LocalityDistribute { from, to }) in distribute.iter().enumerate() {
            let at = list("distribute", i);
            match own {
                Some(own) if own == i => {
                    ledger.take(&at, "from", from);
                    ledger.take_map(&at, "to", to);
                }
                Some(_) => ledger.inert(&at, "an earlier entry is for this client's locality"),
                None => ledger.inert(&at, "this client is in another locality"),
            }
        }
        return rest(ledger, "distribute decides");
    }
    if !outliers {
        ledger.without_effect(at, "enabled", enabled, NO_OUTLIERS);
        return rest(ledger, NO_OUTLIERS);
    }
    ledger.take(at, "enabled", enabled);
    (0..failover_priority.len()).for_each(|i| ledger.consumed(&list("failoverPriority", i)));
    account_failover(ledger, at, failover, client);
}

fn account_failover(ledger: &mut Ledger<'_>, at: &str, failover: &[LocalityFailover], client: &Client) {
    let own = failover.iter().position(|f| *f.from == *client.place.region);
    for (i, LocalityFailover { from, to }) in failover.iter().enumerate() {
        let at = format!("{at}.failover[{i}]");
        match own {
            Some(own) if own == i => {
                ledger.take(&at, "from", from);
                ledger.take(&at, "to", to);
            }
            Some(_) => ledger.inert(&at, "an earlier entry is for this client's region"),
            None => ledger.inert(&at, "this client is in another region"),
        }
    }
}

fn account_zones(ledger: &mut Ledger<'_>, at: &str, setting: &ZoneAwareLoadBalancerSetting, client: &Client) {
    let ZoneAwareLoadBalancerSetting { enabled, failover, failover_priority, min_cluster_size } = setting;
    let because = match (client.peers.is_empty(), enabled) {
        (true, _) => {
            "it needs proxyMetadata ISTIO_META_ENABLE_SELF_DISCOVERY: \"true\" and a sidecar whose workload \
                      is part of a service"
        }
        (false, Some(false)) => "enabled is false",
        (false, _) => "",
    };
    if !because.is_empty() {
        match client.peers.is_empty() {
            true => ledger.inert(at, because),
            false => {
                ledger.take(at, "enabled", enabled);
                ledger.without_effect(at, "failover", failover, because);
                ledger.without_effect(at, "failoverPriority", failover_priority, because);
                ledger.without_effect(at, "minClusterSize", min_cluster_size, because);
            }
        }
        return;
    }
    ledger.consumed(at);
    ledger.take(at, "enabled", enabled);
    ledger.take(at, "minClusterSize", min_cluster_size);
    ledger.take_list(at, "failoverPriority", failover_priority);
    match failover_priority.is_empty() {
        true => account_failover(ledger, at, failover, client),
        false => ledger.without_effect(at, "failover", failover, "failoverPriority decides"),
    }
}
