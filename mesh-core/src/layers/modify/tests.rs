use http::StatusCode;

use super::*;
use crate::layers::testing::{Seen, answer, call, context, get, route, scripted, status, with};
use crate::matching::Regex;
use crate::snapshot::{DirectResponse, RedirectPath, RedirectPlan, Rewrite, RewritePath};

fn ops(remove: &[&str], set: &[(&str, &str)], add: &[(&str, &str)]) -> HeaderOps {
    let values = |list: &[(&str, &str)]| {
        list.iter().map(|(n, v)| (n.parse().unwrap(), HeaderValueTemplate::parse(v).unwrap())).collect()
    };
    let remove = remove.iter().map(|n| n.parse().unwrap()).collect();
    crate::snapshot::SomeOps { remove, set: values(set), add: values(add) }.into()
}

fn layer(route: RoutePlan) -> ModifyLayer {
    let variables = BTreeMap::from([("POD_IP".to_owned(), "10.0.0.1".to_owned())]);
    let node = Arc::new(NodeFacts { hostname: "pod-1".into(), variables });
    ModifyLayer::new(ModifyConfig { route: Arc::new(route), destination: 0, node })
}

async fn sent(route: RoutePlan, request: Request) -> (Seen, Response) {
    let (seen, inner) = scripted(vec![Ok(answer(200, &[("x-r", "up")]))]);
    let response = call(&layer(route), inner, with(request, &context())).await.unwrap();
    (seen, response)
}

fn to_destination(route: &mut RoutePlan, change: impl FnOnce(&mut WeightedCluster)) {
    if let Action::Forward(clusters) = &mut route.action {
        change(&mut clusters[0]);
    }
}

#[tokio::test]
async fn the_destinations_operations_come_before_the_routes() {
    // L1
    let mut plan = route();
    plan.request_headers = ops(&[], &[("x-s", "route"), ("x-back", "route")], &[("x-a", "route")]);
    to_destination(&mut plan, |d| d.request_headers = ops(&["x-back"], &[("x-s", "cluster")], &[("x-a", "cluster")]));
    let (seen, _) = sent(plan, get("/", &[("x-back", "app")])).await;
    assert_eq!(seen.lines("x-s"), ["route"]);
    assert_eq!(seen.lines("x-a"), ["cluster", "route"]);
    assert_eq!(seen.lines("x-back"), ["route"]);
}

#[tokio::test]
async fn operations_of_one_level() {
    // L2, L3, L4, L5
    let mut plan = route();
    plan.request_headers = ops(
        &["x-r", "x-request-id"],
        &[("x-set", "S"), ("x-none", "%REQ(nope)%"), ("x-text", "a%REQ(nope)%b%%"), ("x-code", "%RESPONSE_CODE%")],
        &[("x-set", "A"), ("x-r", "new")],
    );
    let set = [("x-code", "%RESPONSE_CODE%"), ("x-q", "%REQ(x-q)%"), ("x-went", "%REQ(x-set)%")];
    plan.response_headers = ops(&[], &set, &[("x-r", "more")]);
    let (seen, response) = sent(plan, get("/", &[("x-r", "old"), ("x-request-id", "i"), ("x-q", "asked")])).await;
    for (name, wanted) in [
        ("x-r", &["new"] as &[&str]),
        ("x-set", &["S", "A"]),
        ("x-none", &[]),
        ("x-text", &["ab%"]),
        ("x-code", &["0"]),
        ("x-request-id", &[]),
    ] {
        assert_eq!(seen.lines(name), wanted, "{name}");
    }
    assert_eq!(response.headers()["x-went"], "S", "the response's values see the request as it went on");
    let lines: Vec<_> = response.headers().get_all("x-r").iter().collect();
    assert_eq!(lines, ["up", "more"]);
    assert_eq!(
        (&response.headers()["x-code"], &response.headers()["x-q"]),
        (&"200".parse().unwrap(), &"asked".parse().unwrap())
    );
    assert!(response.headers().contains_key("x-envoy-upstream-service-time"));
}

#[tokio::test]
async fn rewrites() {
    // K7, K8, K9, K10
    let prefix = |len, to: &str| RewritePath::Prefix(len, to.into());
    let regex = RewritePath::Regex(Regex::anywhere("b").unwrap(), "x".into());
    for (path, from, wanted) in [
        (prefix(4, "/"), "/foo/bar", "//bar"),
        (prefix(4, "/"), "/foobar", "/bar"),
        (prefix(4, "/"), "/foo?q", "/?q"),
        (prefix(5, "/"), "/pre/x", "/x"),
        (RewritePath::Full("/n".into()), "/a/b?q=1", "/n?q=1"),
        (regex, "/abba?b", "/axxa?b"),
    ] {
        let mut plan = route();
        plan.rewrite = Some(Rewrite { path: Some(path), authority: None }.into());
        let (seen, _) = sent(plan, get(from, &[])).await;
        assert_eq!((&*seen.target(), &*seen.header(0, "x-envoy-original-path").unwrap()), (wanted, from));
    }
    let mut plan = route();
    let authority = Some(HeaderValueTemplate::parse("b.example").unwrap());
    plan.rewrite = Some(Rewrite { path: None, authority }.into());
    let (seen, _) = sent(plan, get("/", &[])).await;
    assert_eq!(seen.lines("host"), ["b.example"]);
    assert_eq!(seen.lines("x-envoy-original-host"), ["a.example"]);
    assert_eq!(seen.header(0, "x-envoy-original-path"), None);
}

async fn answered(action: Action, target: &str, headers: &[(&str, &str)]) -> Response {
    let mut plan = route();
    plan.action = action;
    plan.response_headers = ops(&[], &[("x-added", "1")], &[]);
    let (seen, inner) = scripted(vec![Ok(status(200))]);
    let cx = context();
    let response = call(&layer(plan), inner, with(get(target, headers), &cx)).await.unwrap();
    assert_eq!((seen.count(), &**cx.details.get().unwrap()), (0, "direct_response"));
    assert_eq!(response.headers()["x-added"], "1");
    assert!(!response.headers().contains_key("x-envoy-upstream-service-time"));
    response
}

#[tokio::test]
async fn redirects() {
    // J4, J5, J6, J7, J9, J15
    let none = || RedirectPlan { code: StatusCode::FOUND, scheme: None, authority: None, port: None, path: None };
    let full = |to: &str| Some(RedirectPath::Full(to.into()));
    for (plan, headers, wanted) in [
        (RedirectPlan { path: full("/n"), ..none() }, &[] as &[_], "http://a.example/n?q=1"),
        (RedirectPlan { path: full("/n?z=1"), ..none() }, &[], "http://a.example/n?z=1"),
        (
            RedirectPlan { path: Some(RedirectPath::Prefix(3, "/n".into())), ..none() },
            &[],
            "http://a.example/n/rest?q=1",
        ),
        (RedirectPlan { authority: Some("h.example".into()), ..none() }, &[], "http://h.example/r1/rest?q=1"),
        (RedirectPlan { scheme: Some("https".into()), ..none() }, &[], "https://a.example/r1/rest?q=1"),
        (none(), &[("x-forwarded-proto", "https")], "https://a.example/r1/rest?q=1"),
    ] {
        let response = answered(Action::Redirect(plan.into()), "/r1/rest?q=1", headers).await;
        assert_eq!(response.status(), 302);
        assert_eq!(response.headers()["location"], wanted);
        assert!(response.body().is_empty());
    }
}

#[tokio::test]
async fn direct_responses() {
    // J1, J3
    let direct = |status, body| Action::Direct(DirectResponse { status, body: Bytes::from_static(body) });
    let response = answered(direct(StatusCode::OK, b"hi"), "/", &[]).await;
    assert_eq!(
        (&response.headers()["content-type"], &response.headers()["content-length"]),
        (&"text/plain".parse().unwrap(), &"2".parse().unwrap())
    );
    assert!(!response.headers().contains_key("location"));
    let response = answered(direct(StatusCode::NOT_MODIFIED, b""), "/p?q", &[]).await;
    assert_eq!(response.headers()["location"], "http://a.example/p?q");
}

#[tokio::test]
async fn operators() {
    let cx = context();
    let start = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(1_795_339_807_334);
    cx.start.set(start).unwrap();
    cx.request_id.set(HeaderValue::from_static("id-1")).unwrap();
    cx.route.set(Arc::new(route())).unwrap();
    cx.attempts.store(2, Ordering::Relaxed);
    let in_request = [
        ("%REQ(x-none?x-q)%", Some("asked")),
        ("%REQ(:METHOD)% %REQ(:path)% %REQ(:authority)%", Some("GET /p?a=1&b a.example")),
        ("%PATH(NQ)% %PATH(WQ:PATH)%", Some("/p /p?a=1&b")),
        ("%QUERY_PARAM(a)%", Some("1")),
        ("%PROTOCOL%", Some("HTTP/1.1")),
        ("%START_TIME%", Some("2026-11-22T09:30:07.334Z")),
        ("%START_TIME(%Y/%m/%d %E3S %s)%", Some("2026/11/22 07.334 1795339807")),
        ("%HOSTNAME%/%ENVIRONMENT(POD_IP)%/%ENVIRONMENT(NONE)%", Some("pod-1/10.0.0.1/")),
        ("%DOWNSTREAM_REMOTE_ADDRESS%", Some("10.0.0.9:1234")),
        ("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%:%DOWNSTREAM_REMOTE_PORT%", Some("10.0.0.9:1234")),
        ("%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%", Some("10.0.0.9")),
        ("%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_PORT%", Some("10.96.0.1:80 80")),
        ("%ROUTE_NAME% %STREAM_ID%", Some("r id-1")),
        ("%UPSTREAM_HOST%", None),
        ("%FILTER_STATE(x)%", None),
    ];
    let in_response = [
        ("%RESP(x-none?x-r)% %RESPONSE_CODE% %RESPONSE_FLAGS%", Some("up 200 -")),
        ("%RESPONSE_CODE_DETAILS% %UPSTREAM_REQUEST_ATTEMPT_COUNT%", Some("via_upstream 2")),
        ("%REQ(:path)% %PROTOCOL%", Some("/p?a=1&b HTTP/1.1")),
        ("%GRPC_STATUS% %GRPC_STATUS_NUMBER%", Some("Unavailable 14")),
    ];
    let template = |v: &str| HeaderValueTemplate::parse(v).unwrap();
    for (value, wanted) in in_request {
        let mut plan = route();
        plan.request_headers.set = vec![("x-v".parse().unwrap(), template(value))];
        let (seen, inner) = scripted(vec![Ok(status(200))]);
        call(&layer(plan), inner, with(get("/p?a=1&b", &[("x-q", "asked")]), &cx)).await.unwrap();
        assert_eq!(seen.header(0, "x-v").as_deref(), wanted, "{value}");
    }
    for (value, wanted) in in_response {
        let mut plan = route();
        plan.response_headers.set = vec![("x-v".parse().unwrap(), template(value))];
        let (_, inner) = scripted(vec![Ok(answer(200, &[("x-r", "up"), ("grpc-status", "14")]))]);
        let response = call(&layer(plan), inner, with(get("/p?a=1&b", &[]), &cx)).await.unwrap();
        assert_eq!(response.headers().get("x-v").map(|v| v.to_str().unwrap()), wanted, "{value}");
    }
}

#[tokio::test]
async fn a_reply_for_a_failed_request_has_the_routes_headers() {
    let mut plan = route();
    plan.response_headers = ops(&["content-type"], &[("x-code", "%RESPONSE_CODE%"), ("x-q", "%REQ(x-q)%")], &[]);
    to_destination(&mut plan, |d| d.response_headers = ops(&[], &[], &[("x-d", "v")]));
    let (_, inner) = scripted(vec![Err(Error::new(crate::error::ErrorKind::NoHealthyUpstream))]);
    let respond = crate::layers::RespondLayer::new("envoy".parse().unwrap());
    let stack = respond.layer(layer(plan).layer(inner));
    let response = tower::ServiceExt::oneshot(stack, with(get("/", &[("x-q", "asked")]), &context())).await.unwrap();
    let header = |name: &str| response.headers().get(name).map(|v| v.to_str().unwrap());
    assert_eq!(response.status(), 503);
    assert_eq!((header("x-code"), header("x-q"), header("x-d")), (Some("503"), Some("asked"), Some("v")));
    assert_eq!(header("content-type"), None);
}

#[tokio::test]
async fn the_host_of_one_destination_of_several_is_changed_without_a_word() {
    let mut plan = route();
    to_destination(&mut plan, |d| d.authority = Some(HeaderValueTemplate::parse("d.example").unwrap()));
    let (seen, _) = sent(plan, get("/", &[])).await;
    assert_eq!((seen.lines("host"), seen.header(0, "x-envoy-original-host")), (vec!["d.example".to_owned()], None));
}

#[tokio::test]
async fn values_are_made_after_the_removals_of_their_level() {
    let mut plan = route();
    plan.request_headers = ops(&["x-a"], &[("x-s", "<%REQ(x-a)%>"), ("x-b", "new")], &[("x-t", "%REQ(x-b)%")]);
    plan.response_headers = ops(&["x-r"], &[("x-s", "<%RESP(x-r)%>")], &[]);
    let (seen, response) = sent(plan, get("/", &[("x-a", "1"), ("x-b", "old")])).await;
    assert_eq!((seen.lines("x-s"), seen.lines("x-t")), (vec!["<>".to_owned()], vec!["old".to_owned()]));
    assert_eq!(response.headers()["x-s"], "<>");
}
