use std::collections::BTreeMap;

use mesh_core::snapshot::{Balancing, OutlierPlan};

use super::*;
use crate::net::{HostEnv, HostNet};

#[tokio::test(start_paused = true)]
async fn a_cluster_is_made_when_it_is_first_used_and_says_the_same_before() {
    let runtime = Runtime::new(HostNet::new(), Arc::new(HostEnv), Vec::new(), 2);
    let (namespace, hostname, labels) = ("ns".into(), "a".into(), BTreeMap::new());
    let mut plan = testing::plan("outbound|80||a", EndpointSource::Service { namespace, hostname, port: 80, labels });
    plan.balancing = Balancing { outlier: Some(OutlierPlan::default()), ..Balancing::default() }.into();
    runtime.expect([&plan.name].into_iter());
    let one = || vec![Arc::new(testing::endpoint())];
    assert!(runtime.set_endpoints(&plan.name, one()));
    runtime.configure(&plan);
    assert!(!runtime.set_endpoints(&plan.name, one()), "it has these already");
    let cluster = runtime.cluster(&plan.name);
    let said = || format!("{:?}", runtime.all_endpoints());
    let before = said();
    assert!(before.contains("10.0.0.1:80") && before.contains("outliers: Some"), "{before}");
    assert_eq!(runtime.endpoints(&plan.name).len(), 1);
    assert!(cluster.used.get().is_none(), "nobody has asked for it");

    tokio::time::advance(Duration::from_secs(7)).await;
    let member = Arc::clone(&cluster.members.load()[0]);
    assert!(cluster.used.get().is_some());
    assert_eq!(mesh_core::balance::Host::joined(&member), Duration::ZERO, "it came before the first use");
    assert_eq!(said(), before);
    assert!(!runtime.set_endpoints(&plan.name, one()));
    assert!(runtime.set_endpoints(&plan.name, Vec::new()) && runtime.endpoints(&plan.name).is_empty());
}
