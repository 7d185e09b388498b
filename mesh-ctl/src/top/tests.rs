use super::*;

/// What a proxy says, with so many requests of each kind: (reporter, status, duration's bucket, count).
fn said(started: f64, requests: &[(&str, &str, f64, u64)], connections: u64, cpu: f64) -> String {
    let mut text = "# TYPE istio_requests_total counter\n".to_owned();
    for (i, (reporter, status, took, count)) in requests.iter().enumerate() {
        let labels = format!("reporter=\"{reporter}\",source_app=\"a{i}\",response_code=\"{status}\"");
        text += &format!("istio_requests_total{{{labels}}} {count}\n");
        for le in [1., 5., 10., f64::INFINITY] {
            let (bound, n) =
                (if le.is_finite() { le.to_string() } else { "+Inf".into() }, if *took <= le { *count } else { 0 });
            text += &format!("istio_request_duration_milliseconds_bucket{{{labels},le=\"{bound}\"}} {n}\n");
        }
    }
    text += &format!("mesh_downstream_connections{{direction=\"inbound\"}} {connections}\n");
    text += "mesh_downstream_connections{direction=\"outbound\"} 1000\n";
    text += &format!("mesh_downstream_connections{{direction=\"gateway\"}} {}\n", connections + 1);
    text += &format!("process_start_time_seconds {started}\nprocess_cpu_seconds_total {cpu}\n");
    text + "process_resident_memory_bytes 1000\n"
}

fn pod(workload: &str, kind: Kind, at: u64, said: Option<String>, usage: Option<(f64, u64)>) -> Pod {
    let usage = usage.map(|(cpu_seconds, memory_bytes)| Usage { cpu_seconds, memory_bytes });
    let proxy = said.map(|text| Proxy::read(&text, kind));
    Pod { workload: workload.into(), kind, at: Duration::from_secs(at), proxy, usage }
}

fn look(pods: Vec<(&str, Pod)>) -> Look {
    pods.into_iter().map(|(name, pod)| (("default".to_owned(), name.to_owned()), pod)).collect()
}

fn row(before: Pod, now: Pod) -> Row {
    let rows = rows(&look(vec![("p", before)]), &look(vec![("p", now)]), false, Sort::Name);
    let [row] = &rows[..] else { panic!("{rows:?}") };
    row.clone()
}

#[test]
fn a_workload_with_a_sidecar() {
    use Kind::Sidecar;
    // What it sent to others, as a source, is not what it served.
    let before = said(7., &[("destination", "200", 5., 10), ("source", "200", 5., 90)], 3, 1.);
    let now = said(
        7.,
        &[
            ("destination", "200", 5., 40),
            ("source", "200", 10., 900),
            ("destination", "503", 1., 8),
            ("destination", "0", 1., 2),
        ],
        4,
        1.5,
    );
    let row =
        row(pod("w", Sidecar, 100, Some(before), Some((2., 500))), pod("w", Sidecar, 102, Some(now), Some((2.5, 600))));
    assert_eq!((row.workload.as_str(), row.namespace.as_str(), row.pods), ("w", "default", 1));
    // 40 in 2 s, of them 10 failed; 10 below 1 ms, 30 between 1 and 5.
    assert_eq!((row.requests_per_second, row.error_percent), (Some(20.), Some(25.)));
    let latency = row.latency_ms.unwrap();
    assert!((latency.p50 - (1. + 4. / 3.)).abs() < 1e-9 && latency.p99 > 4.9 && latency.p99 < 5., "{latency:?}");
    assert_eq!(row.connections, Some(4));
    assert_eq!(row.proxy, Some(Share { cpu_cores: Some(0.25), memory_bytes: Some(1000) }));
    assert_eq!((row.cpu_cores, row.memory_bytes), (Some(0.5), Some(1600)));
}

#[test]
fn gateways_members_and_workloads_without_a_proxy() {
    use Kind::{Bare, Embedded, Gateway};
    let before = said(7., &[("source", "200", 5., 10)], 3, 1.);
    let now = said(7., &[("source", "200", 5., 30), ("destination", "200", 5., 4)], 3, 2.);
    let gateway = row(
        pod("g", Gateway, 0, Some(before.clone()), Some((0., 0))),
        pod("g", Gateway, 10, Some(now.clone()), Some((0., 0))),
    );
    assert_eq!((gateway.requests_per_second, gateway.connections), (Some(2.), Some(4)));
    assert_eq!((gateway.cpu_cores, gateway.memory_bytes), (Some(0.1), Some(1000)));
    // One process is both: it is not counted twice, and known also where nobody looks at processes.
    let embedded = |usage: fn(f64) -> Option<(f64, u64)>| {
        row(
            pod("e", Embedded, 0, Some(before.clone()), usage(1.)),
            pod("e", Embedded, 10, Some(now.clone()), usage(3.)),
        )
    };
    let seen = embedded(|cpu| Some((cpu, 77)));
    assert_eq!((seen.requests_per_second, seen.proxy), (Some(0.4), None));
    assert_eq!((seen.cpu_cores, seen.memory_bytes), (Some(0.2), Some(77)));
    let told = embedded(|_| None);
    assert_eq!((told.cpu_cores, told.memory_bytes, told.proxy), (Some(0.1), Some(1000), None));
    let bare = row(pod("b", Bare, 0, None, Some((1., 5))), pod("b", Bare, 10, None, Some((2., 5))));
    assert_eq!((bare.requests_per_second, bare.latency_ms, bare.connections), (None, None, None));
    assert_eq!((bare.cpu_cores, bare.memory_bytes, bare.proxy), (Some(0.1), Some(5), None));
}

#[test]
fn what_is_not_known_is_absent() {
    use Kind::Sidecar;
    let text = said(7., &[("destination", "200", 5., 10)], 3, 1.);
    let now = pod("w", Sidecar, 10, Some(text.clone()), Some((2., 500)));
    // A pod that was not there before has gauges only.
    let rows = rows(&Look::new(), &look(vec![("p", now.clone())]), false, Sort::Name);
    assert_eq!((rows[0].requests_per_second, rows[0].cpu_cores, rows[0].latency_ms), (None, None, None));
    assert_eq!((rows[0].connections, rows[0].memory_bytes), (Some(3), Some(1500)));
    // Without requests there are no percentiles, but a rate.
    let idle = row(pod("w", Sidecar, 0, Some(text.clone()), None), now.clone());
    assert_eq!((idle.requests_per_second, idle.error_percent, idle.latency_ms), (Some(0.), None, None));
    // The proxy does not answer any more.
    let silent = row(now.clone(), pod("w", Sidecar, 20, None, Some((3., 500))));
    assert_eq!((silent.requests_per_second, silent.connections, silent.proxy), (None, None, None));
    assert_eq!(silent.cpu_cores, Some(0.1));
    // Both looks at once: nothing can be divided by no time.
    assert_eq!(row(now.clone(), now).requests_per_second, None);
}

#[test]
fn another_process_counts_from_zero_and_processes_that_end_do_not_count_backwards() {
    use Kind::Sidecar;
    let before = said(7., &[("destination", "200", 5., 1000)], 3, 50.);
    let now = said(9., &[("destination", "200", 5., 20)], 1, 0.5);
    let row =
        row(pod("w", Sidecar, 0, Some(before), Some((90., 500))), pod("w", Sidecar, 10, Some(now), Some((1., 500))));
    assert_eq!((row.requests_per_second, row.proxy.unwrap().cpu_cores), (Some(2.), Some(0.05)));
    assert_eq!(row.cpu_cores, Some(0.05));
}

#[test]
fn pods_of_a_workload_are_one_row_or_each_its_own() {
    use Kind::Sidecar;
    let at = |n: u64, at: u64| {
        pod("w", Sidecar, at, Some(said(7., &[("destination", "200", 5., n)], 1, 0.)), Some((0., 10)))
    };
    let before = look(vec![("w-1", at(0, 0)), ("w-2", at(0, 0))]);
    let now = look(vec![("w-1", at(10, 10)), ("w-2", at(30, 10)), ("w-3", at(99, 10))]);
    let [all] = &rows(&before, &now, false, Sort::Name)[..] else { panic!("one workload") };
    assert_eq!(
        (all.pods, all.requests_per_second, all.connections, all.memory_bytes),
        (3, Some(4.), Some(3), Some(3030))
    );
    let each = rows(&before, &now, true, Sort::Rps);
    let names: Vec<_> = each.iter().map(|r| (r.workload.as_str(), r.requests_per_second)).collect();
    assert_eq!(names, [("w-2", Some(3.)), ("w-1", Some(1.)), ("w-3", None)]);
}

#[test]
fn figures_downwards_names_upwards() {
    use Kind::Sidecar;
    let slow = |ms: f64, n: u64| said(7., &[("destination", "200", ms, n)], n, 0.);
    let two = |name: &'static str, text: Option<String>, cpu: f64, memory: u64| {
        let zero = text.as_ref().map(|_| said(7., &[], 0, 0.));
        (name, pod(name, Sidecar, 0, zero, Some((0., memory))), pod(name, Sidecar, 1, text, Some((cpu, memory))))
    };
    let all = [two("a", Some(slow(1., 5)), 3., 1), two("b", Some(slow(10., 1)), 2., 9), two("c", None, 1., 20)];
    let (before, now): (Vec<_>, Vec<_>) =
        all.into_iter().map(|(name, before, now)| ((name, before), (name, now))).unzip();
    let (before, now) = (look(before), look(now));
    let order = |sort| rows(&before, &now, false, sort).iter().map(|r| r.workload.clone()).collect::<String>();
    for (sort, wanted) in [
        (Sort::Name, "abc"),
        (Sort::Rps, "abc"),
        (Sort::P99, "bac"),
        (Sort::Connections, "abc"),
        (Sort::Cpu, "abc"),
        (Sort::Memory, "bac"),
    ] {
        assert_eq!(order(sort), wanted, "{sort:?}");
    }
}
