use std::collections::BTreeMap;

use super::*;
use crate::api::kube::{Container, ContainerPort, DeploymentSpec, PodSpec, ServicePort, ServiceSpec};
use crate::api::{ContentHash, IntOrString, Key, Kind, Meta, Object, Origin, ServiceEntry, WorkloadEntry};
use crate::model::{AppProtocol, Location, Resolution, TlsMode};

fn object<S>(kind: Kind, namespace: &str, name: &str, spec: S) -> Object<S> {
    let meta = Meta { name: name.into(), namespace: namespace.into(), ..Meta::default() };
    let key = Key::new(kind, namespace, name);
    Object { key, meta, origin: Origin::generated("test"), hash: ContentHash::of(name.as_bytes()), spec }
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

#[test]
fn kubernetes_service() {
    let spec = ServiceSpec {
        cluster_ip: "10.0.0.7".into(),
        cluster_ips: vec!["10.0.0.7".into(), "fd00::7".into()],
        selector: labels(&[("app", "reviews")]),
        ports: vec![
            ServicePort {
                name: "http".into(),
                port: 80,
                target_port: Some(IntOrString::String("web".into())),
                ..ServicePort::default()
            },
            ServicePort { port: 3306, node_port: 30000, ..ServicePort::default() },
            ServicePort { name: "x".into(), port: 53, protocol: "UDP".into(), ..ServicePort::default() },
            ServicePort {
                name: "a".into(),
                app_protocol: Some("kubernetes.io/h2c".into()),
                port: 9,
                target_port: Some(IntOrString::Int(10)),
                ..ServicePort::default()
            },
        ],
        ..ServiceSpec::default()
    };
    let mut o = object(Kind::new("", "Service"), "default", "Reviews", spec);
    o.meta.annotations.insert(EXPORT_TO.into(), "., other".into());
    let s = service(&o, Some([10, 96, 1, 1].into()), &Settings::default());
    assert_eq!(&*s.hostname, "reviews.default.svc.cluster.local");
    assert_eq!(s.addresses, ["10.0.0.7".parse::<IpAddr>().unwrap(), "fd00::7".parse().unwrap()]);
    assert_eq!(s.export_to, ["default".into(), Arc::<str>::from("other")]);
    let ports: Vec<_> =
        s.ports.iter().map(|p| (p.number, p.protocol, p.target_port, p.target_name.as_deref())).collect();
    assert_eq!(
        ports,
        [
            (80, AppProtocol::Http, 0, Some("web")),
            (3306, AppProtocol::Tcp, 3306, None),
            (53, AppProtocol::Udp, 53, None),
            (9, AppProtocol::Http2, 10, None)
        ]
    );
    assert_eq!(s.ports[1].node_port, 30000);
}

#[test]
fn headless_external_and_given_addresses() {
    let of = |spec| {
        service(&object(Kind::new("", "Service"), "ns", "s", spec), Some([10, 96, 1, 1].into()), &Settings::default())
    };
    assert_eq!(of(ServiceSpec::default()).addresses, [IpAddr::from([10, 96, 1, 1])]);
    let headless = of(ServiceSpec { cluster_ip: "None".into(), ..ServiceSpec::default() });
    assert!(headless.headless && headless.addresses.is_empty());
    let external = of(ServiceSpec {
        r#type: "ExternalName".into(),
        external_name: "Example.com.".into(),
        ..ServiceSpec::default()
    });
    assert_eq!(external.external_name.as_deref(), Some("example.com"));
    assert!(external.addresses.is_empty() && external.selector.is_none());
}

#[test]
fn service_entry_makes_one_service_a_host() {
    let spec = ServiceEntry {
        hosts: vec!["a.example.com".into(), "*.example.org".into()],
        ports: vec![crate::api::ServicePort {
            number: 443,
            protocol: "TLS".into(),
            name: "tls".into(),
            target_port: 8443,
        }],
        resolution: crate::api::ServiceResolution::Static,
        endpoints: vec![
            WorkloadEntry { address: "10.1.1.1".into(), weight: 3, ..WorkloadEntry::default() },
            WorkloadEntry {
                address: "db.example.com".into(),
                service_account: "db".into(),
                ..WorkloadEntry::default()
            },
        ],
        export_to: vec!["~".into()],
        ..ServiceEntry::default()
    };
    let o = object(Kind::new("networking.istio.io", "ServiceEntry"), "default", "ext", spec);
    let mut asked = Vec::new();
    let made = service_entry(&o, &Settings::default(), |h| {
        asked.push(h.to_owned());
        Some([240, 240, 1, 1].into())
    });
    assert_eq!(asked, ["default/a.example.com"], "a wildcard host has no address");
    let hosts: Vec<_> = made.iter().map(|s| &*s.hostname).collect();
    assert_eq!(hosts, ["a.example.com", "*.example.org"]);
    assert_eq!((made[0].location, made[0].resolution), (Location::External, Resolution::Static));
    assert!(made[0].export_to.is_empty(), "~ is nobody");
    assert_eq!(made[0].ports[0].target_port, 8443);
    assert_eq!(made[0].endpoints[0].weight, 3);
    assert_eq!(made[0].endpoints[1].hostname.as_deref(), Some("db.example.com"));
    assert_eq!(made[0].endpoints[1].tls_mode, TlsMode::Istio);
    assert_ne!(made[0].hash, made[1].hash);
}

#[test]
fn pods_of_a_deployment_have_stable_names() {
    let port = ContainerPort { name: "http".into(), container_port: 9080, ..ContainerPort::default() };
    let mut spec = DeploymentSpec { replicas: Some(2), ..DeploymentSpec::default() };
    spec.template.metadata.labels = labels(&[("app", "reviews"), ("version", "v1")]);
    spec.template.spec = PodSpec {
        containers: vec![Container { ports: vec![port], ..Container::default() }],
        service_account_name: "bookinfo-reviews".into(),
        ..PodSpec::default()
    };
    let mut d = object(Kind::new("apps", "Deployment"), "default", "reviews-v1", spec);
    let (a, b) = (pods_of(&d), pods_of(&d));
    assert_eq!(a.len(), 2);
    assert!(a[0].key.name.starts_with("reviews-v1-") && a[0].key.name != a[1].key.name);
    assert_eq!(a, b);
    let owner = Owner { kind: "deployment", name: "reviews-v1" };
    let placement = Placement { addresses: vec![[10, 244, 1, 1].into()], ..Placement::default() };
    let w = pod(&a[0], Some(owner), &placement, &Settings::default());
    assert_eq!(
        (&*w.workload_name, &*w.workload_kind, &*w.service_account),
        ("reviews-v1", "deployment", "bookinfo-reviews")
    );
    assert_eq!(w.ports["http"], 9080);
    assert_eq!(w.labels["service.istio.io/canonical-name"], "reviews");
    assert_eq!(w.labels["service.istio.io/canonical-revision"], "v1");
    d.spec.template.metadata.labels.insert("x".into(), "y".into());
    assert_ne!(pods_of(&d)[0].key.name, a[0].key.name, "another template is another replica set");
}

#[test]
fn the_locality_of_a_pod() {
    let (region, zone) = ("topology.kubernetes.io/region", "topology.kubernetes.io/zone");
    for (pairs, want) in [
        (&[][..], ""),
        (&[("istio-locality", "r.z.s"), (region, "other")][..], "r/z/s"),
        (&[(region, "r"), (zone, "z")][..], "r/z"),
        (&[(zone, "z")][..], "/z"),
        (&[(region, "r"), ("topology.istio.io/subzone", "s")][..], "r//s"),
    ] {
        let mut o = object(Kind::new("", "Pod"), "default", "p", PodSpec::default());
        o.meta.labels = labels(pairs);
        assert_eq!(&*pod(&o, None, &Placement::default(), &Settings::default()).locality, want, "{pairs:?}");
    }
}

#[test]
fn addresses_follow_from_names() {
    let mut first = Addresses::default();
    let a = first.of(Range::Pods, "default/a").unwrap();
    let b = first.of(Range::Pods, "default/b").unwrap();
    assert_eq!(a.octets()[..2], [10, 244]);
    assert_ne!(a, b);
    assert_eq!(first.of(Range::Pods, "default/a"), Some(a));
    first.release(Range::Pods, "default/a");
    assert_eq!(first.of(Range::Pods, "default/a"), Some(a));
    let mut second = Addresses::default();
    assert_eq!(second.of(Range::Pods, "default/b"), Some(b), "independent of what came before");
    let mut third = Addresses::default();
    third.take(b);
    assert_ne!(third.of(Range::Pods, "default/b"), Some(b));
}

const MANIFESTS: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |-
    accessLogFile: /dev/stdout
    defaultServiceExportTo: ["."]
    defaultConfig:
      proxyMetadata:
        ISTIO_META_DNS_CAPTURE: "true"
---
apiVersion: v1
kind: Service
metadata: {name: reviews}
spec:
  selector: {app: reviews}
  ports: [{port: 9080, name: http}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: reviews-v1}
spec:
  replicas: 2
  template:
    metadata: {labels: {app: reviews}}
    spec: {containers: [{name: reviews}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: ext}
spec:
  hosts: [api.example.com]
  resolution: DNS
  ports: [{number: 443, name: tls, protocol: TLS}]
"#;

#[test]
fn manifests_to_world() {
    let (mut resources, reports) = crate::yaml::read("a.yaml", MANIFESTS);
    assert_eq!(reports, []);
    resources.extend(builtin_gateway(&resources));
    let made = inputs(&resources, &Options::default(), &mut Addresses::default());
    assert_eq!(made.reports, []);
    let world = made.world;
    assert_eq!(world.mesh().spec.access_log_file, "/dev/stdout");
    assert_eq!(world.mesh().origin.location("spec.accessLogFile").unwrap(), "a.yaml:7");
    let reviews = world.service("default", "reviews.default.svc.cluster.local").unwrap();
    assert_eq!(reviews.export_to, ["default".into()], "the mesh's default is in force");
    assert_eq!(reviews.addresses.len(), 1);
    assert_eq!(world.selected_workloads(reviews).count(), 2);
    let entry = world.service("default", "api.example.com").unwrap();
    assert!(entry.addresses[0].to_string().starts_with("240.240."), "{:?}", entry.addresses);
    let gateway = world.service("istio-system", "istio-ingressgateway.istio-system.svc.cluster.local").unwrap();
    assert_eq!(world.selected_workloads(gateway).count(), 1);
    assert!(builtin_gateway(&resources).is_empty(), "one is there already");
    let again = inputs(&resources, &Options::default(), &mut Addresses::default()).world;
    assert_eq!(**again.workloads(), **world.workloads(), "the same addresses in every run");
}

#[test]
fn a_bad_mesh_config_is_refused_as_a_whole() {
    let (resources, _) = crate::yaml::read("a.yaml", MANIFESTS);
    let good = inputs(&resources, &Options::default(), &mut Addresses::default()).world.mesh().clone();
    let (bad, _) = crate::yaml::read("a.yaml", &MANIFESTS.replace("accessLogFile: /dev/stdout", "accessLogFile: [1]"));
    let options = Options { mesh: Some(good.clone()), ..Options::default() };
    let made = inputs(&bad, &options, &mut Addresses::default());
    assert_eq!(made.world.mesh(), &good);
    assert_eq!((made.reports.len(), made.reports[0].span.line), (1, 7), "{:?}", made.reports);
    let none = inputs(&bad, &Options::default(), &mut Addresses::default());
    assert_eq!(none.world.mesh().spec.access_log_file, "", "without an earlier one the defaults are in force");
}

#[test]
fn quarantined_objects_are_left_out() {
    let (resources, _) = crate::yaml::read("a.yaml", MANIFESTS);
    let reports = [crate::api::codes::SCHEMA.report((resources[1].key(), resources[1].origin()), "spec", "bad")];
    let options = Options { quarantined: quarantined(&reports), ..Options::default() };
    let world = inputs(&resources, &options, &mut Addresses::default()).world;
    assert_eq!((world.services().len(), world.workloads().len()), (1, 2));
}
