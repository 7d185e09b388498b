//! Section G: AuthorizationPolicies in the stacks of sidecars and gateways.

use tokio::io::AsyncWriteExt;

use crate::mesh::{Config, DEFAULT, Door, Mesh, details, flags};
use crate::row::{Answer, GET, Row, row};
use crate::upstream::{Up, Upstream};

const OK: Up = Up::Reply("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
const DENIED: &str = "RBAC: access denied";
const NONE: &str = "rbac_access_denied_matched_policy[none]";
const GRPC: &str =
    "POST /p.S/M HTTP/1.1\r\nhost: up.example\r\ncontent-type: application/grpc\r\ncontent-length: 0\r\n\r\n";

/// A policy of the workload behind the door.
fn policy(door: Door, name: &str, spec: &str) -> &'static str {
    let namespace = if door == Door::Gateway { "istio-system" } else { "default" };
    let head = "\n---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n";
    format!("{head}metadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n").leak()
}

/// A request to a sidecar with one policy.
fn inbound(id: &'static str, spec: &str) -> Row {
    row(id, OK).door(Door::Inbound).extra(policy(Door::Inbound, "x", spec))
}

fn denied(row: Row, details: &'static str) -> Row {
    row.local("403 Forbidden", DENIED).log("-", details).tries(0)
}

#[tokio::test]
async fn g1_and_g2_who_is_refused_and_why() {
    let rule = "rbac_access_denied_matched_policy[ns[default]-policy[x]-rule[0]]";
    let deny = "{action: DENY, rules: [{to: [{operation: {paths: [/x]}}]}]}";
    let seen = denied(inbound("G1", deny), rule).run().await;
    assert_eq!(seen.answer.header("content-length"), Some("19"));
    assert_eq!(seen.answer.header("server"), Some("istio-envoy"));
    inbound("G1 other path", deny).get("/y").tries(1).run().await;
    denied(inbound("G2", "{}"), NONE).run().await;
    let get = "{rules: [{to: [{operation: {methods: [GET]}}]}]}";
    inbound("G2 allowed", get).tries(1).run().await;
    denied(inbound("G2 POST", get).raw("POST /x HTTP/1.1\r\nhost: up.example\r\ncontent-length: 0\r\n\r\n"), NONE)
        .run()
        .await;
    let gateway = "rbac_access_denied_matched_policy[ns[istio-system]-policy[x]-rule[0]]";
    let at_gateway = row("G1 gateway", OK).extra(policy(Door::Gateway, "x", deny));
    denied(at_gateway, gateway).run().await;
    // A gateway's port is the one of its server, whatever port users reach it by.
    let port = "{action: DENY, rules: [{to: [{operation: {ports: ['80']}}]}]}";
    denied(row("G1 port", OK).extra(policy(Door::Gateway, "x", port)), gateway).run().await;
    // What comes from the own application is nobody's to refuse there.
    row("G2 outbound", OK).door(Door::Outbound).extra(policy(Door::Outbound, "x", "{}")).tries(1).run().await;
}

#[tokio::test]
async fn g3_grpc_clients() {
    let seen = inbound("G3", "{}").raw(GRPC).body("").log("-", NONE).tries(0);
    seen.has(&["grpc-status: 7", "grpc-message: RBAC: access denied", "content-type: application/grpc"]).run().await;
}

#[tokio::test]
async fn g4_tried_policies_refuse_nothing() {
    let extra = policy(Door::Inbound, "x, annotations: {istio.io/dry-run: 'true'}", "{action: DENY, rules: [{}]}");
    let up = Upstream::start(OK).await;
    let mut mesh = Mesh::start(&Config { door: Door::Inbound, extra, ..DEFAULT }, up.at).await;
    let mut client = mesh.connect().await;
    client.write_all(GET.as_bytes()).await.unwrap();
    assert_eq!(Answer::read(&mut client, false).await.status, "200 OK");
    let record = mesh.record().await;
    assert_eq!((flags(&record), details(&record)), ("-".into(), "via_upstream".into()));
    let said = "dry run: ns[default]-policy[x]-rule[0] would refuse";
    assert_eq!(record.cx.verdict.get().unwrap(), said);
    assert!(mesh.denials().counters().contains(&("rbac.shadow_denied", 1)));
}

/// What AUDIT policies mark passes, is counted, and can be logged.
#[tokio::test]
async fn audited_requests_pass() {
    let extra = policy(Door::Inbound, "x", "{action: AUDIT, rules: [{to: [{operation: {paths: [/x]}}]}]}");
    let up = Upstream::start(OK).await;
    let mut mesh = Mesh::start(&Config { door: Door::Inbound, extra, ..DEFAULT }, up.at).await;
    let mut client = mesh.connect().await;
    client.write_all(GET.as_bytes()).await.unwrap();
    assert_eq!(Answer::read(&mut client, false).await.status, "200 OK");
    let record = mesh.record().await;
    assert_eq!(details(&record), "via_upstream");
    assert!(record.cx.verdict.get().unwrap().contains("ns[default]-policy[x]-rule[0]"), "{:?}", record.cx.verdict);
    assert!(mesh.denials().counters().contains(&("rbac.audited", 1)));
}

#[tokio::test]
async fn g6_paths_without_query_normalized() {
    let allow = |paths: &str| format!("{{rules: [{{to: [{{operation: {{paths: [{paths}]}}}}]}}]}}");
    for (id, target, passes) in [
        ("G6", "/A/b?x=1", true),
        ("G6 case", "/a/b", false),
        ("G6 escapes", "/%41/b", true),
        ("G6 dots", "/A/c/../b", true),
        ("G6 escaped dots", "/A/c/%2e%2e/b", true),
        ("G6 no merging", "//A/b", false),
        ("G6 backslash", "/A\\b", true),
    ] {
        let row = inbound(id, &allow("/A/b")).get(target);
        match passes {
            true => row.tries(1).run().await,
            false => denied(row, NONE).run().await,
        };
    }
    let merging = "\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\n\
                   data:\n  mesh: |\n    pathNormalization: {normalization: DECODE_AND_MERGE_SLASHES}\n";
    let extra: &str = format!("{}{merging}", policy(Door::Inbound, "x", &allow("/A/b"))).leak();
    for (id, target) in [("26, 27 merged", "//A/b"), ("26, 27 decoded", "/A%2fb")] {
        row(id, OK).door(Door::Inbound).extra(extra).get(target).tries(1).run().await;
    }
}

#[tokio::test]
async fn g7_to_g9_headers_and_hosts() {
    let when = |value: &str| format!("{{rules: [{{when: [{{key: 'request.headers[x-a]', {value}}}]}}]}}");
    let passes = async |id, spec: &str, lines: &[&str]| inbound(id, spec).headers(lines).tries(1).run().await;
    let fails = async |id, spec: &str, lines: &[&str]| denied(inbound(id, spec).headers(lines), NONE).run().await;
    passes("G7", &when("values: ['*']"), &["x-a:"]).await;
    fails("G7 absent", &when("values: ['*']"), &["x-b: 1"]).await;
    for value in ["1", "2"] {
        passes("G8", &when(&format!("values: ['{value}']")), &["x-a: 1", "x-a: 2"]).await;
    }
    fails("G8 joined", &when("values: ['1,2']"), &["x-a: 1", "x-a: 2"]).await;
    passes("G8 one line", &when("values: ['1,2']"), &["x-a: 1,2"]).await;
    fails("G8 negated", &when("notValues: ['2']"), &["x-a: 1", "x-a: 2"]).await;
    let hosts = |hosts: &str| format!("{{rules: [{{to: [{{operation: {{hosts: [{hosts}]}}}}]}}]}}");
    let host = |host: &str| format!("GET /x HTTP/1.1\r\nhost: {host}\r\n\r\n");
    inbound("G9", &hosts("Up.example")).raw(host("up.EXAMPLE")).tries(1).run().await;
    denied(inbound("G9 port", &hosts("up.example")).raw(host("up.example:8080")), NONE).run().await;
    inbound("G9 any port", &hosts("'up.example:*'")).raw(host("up.example:8080")).tries(1).run().await;
}

#[tokio::test]
async fn g10_addresses() {
    // A gateway with one trusted proxy in front of it believes what that says.
    let trusting = "\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\n\
                    data:\n  mesh: |\n    defaultConfig: {gatewayTopology: {numTrustedProxies: 1}}\n";
    let rule = |field: &str, network: &str| format!("{{rules: [{{from: [{{source: {{{field}: [{network}]}}}}]}}]}}");
    let client = ["x-forwarded-for: 203.0.113.9"];
    for (id, field, network, believes, passes) in [
        ("G10 peer", "ipBlocks", "127.0.0.0/8", true, true),
        ("G10 not the peer", "ipBlocks", "203.0.113.0/24", true, false),
        ("G10 client", "remoteIpBlocks", "203.0.113.0/24", true, true),
        ("G10 forged, 39", "remoteIpBlocks", "203.0.113.0/24", false, false),
        ("G10 forged, peer", "remoteIpBlocks", "127.0.0.1", false, true),
    ] {
        let policy = policy(Door::Gateway, "x", &rule(field, network));
        let extra: &str = if believes { format!("{policy}{trusting}").leak() } else { policy };
        let row = row(id, OK).extra(extra).headers(&client);
        match passes {
            true => row.tries(1).run().await,
            false => denied(row, NONE).run().await,
        };
    }
}

#[tokio::test]
async fn identities_of_peers() {
    let by = |source: &str| format!("{{rules: [{{from: [{{source: {{{source}}}}}]}}]}}");
    let a = "spiffe://cluster.local/ns/foo/sa/a";
    for (id, source, peer, passes) in [
        ("7", "principals: [cluster.local/ns/foo/sa/a]", a, true),
        ("7 plaintext", "principals: [cluster.local/ns/foo/sa/a]", "", false),
        ("8", "principals: ['*']", a, true),
        ("8 plaintext", "principals: ['*']", "", false),
        ("12", "namespaces: ['f*o']", a, true),
        ("13 plaintext", "notNamespaces: [bar]", "", true),
        ("16", "serviceAccounts: [foo/a]", a, true),
        ("16 bare names are of the policy's namespace", "serviceAccounts: [a]", a, false),
    ] {
        let row = inbound(id, &by(source)).peer(peer);
        match passes {
            true => row.tries(1).run().await,
            false => denied(row, NONE).run().await,
        };
    }
}

/// Spellings of a path that a policy is about: whatever is let through, the application never sees the path itself.
#[tokio::test]
async fn tricks_with_paths_reach_nothing() {
    let deny = "{action: DENY, rules: [{to: [{operation: {paths: [/admin, '/admin/*']}}]}]}";
    let allow = "{rules: [{to: [{operation: {paths: ['/public/*']}}]}]}";
    let tricks = [
        "/admin",
        "/admin?x",
        "/./admin",
        "/x/../admin",
        "/%61dmin",
        "/%2e/admin",
        "/x/%2E%2e/admin",
        "/admin/",
        "/admin/.",
        "\\\\admin",
        "/x\\..\\admin",
        "/admin;x",
        "//admin",
        "/ADMIN",
        "/admin%00",
        "/admin#x",
        "/admin%2f",
        "/%252e/admin",
        "/public/../admin",
        "/public/%2e%2e/admin",
        "/public/..\\admin",
        "/public/./../admin",
        "/public/x/../../admin",
        "http://up.example/admin",
        "/;/admin",
        "/public/..;/admin",
        "/public/x;y/..;z/..;/admin",
        "/admin;x=/../y",
        "/public/;/../admin",
    ];
    let mesh = |spec: &str| Config { door: Door::Inbound, extra: policy(Door::Inbound, "x", spec), ..DEFAULT };
    for (spec, guarded) in [(deny, true), (allow, false)] {
        let up = Upstream::start(Up::Echo).await;
        let mesh = Mesh::start(&mesh(spec), up.at).await;
        for target in tricks {
            let mut client = mesh.connect().await;
            client.write_all(format!("GET {target} HTTP/1.1\r\nhost: up.example\r\n\r\n").as_bytes()).await.unwrap();
            let answer = Answer::read(&mut client, false).await;
            if answer.status != "200 OK" {
                continue;
            }
            let seen = answer.body.split(' ').nth(1).unwrap().split('?').next().unwrap().to_owned();
            // Servers that know parameters in paths cut them off.
            let cut = seen.split('/').map(|s| s.split(';').next().unwrap()).filter(|s| !s.is_empty());
            let cut = format!("/{}", cut.collect::<Vec<_>>().join("/"));
            assert!(!cut.contains("/.."), "{target} became {seen}");
            let served = if seen.contains(';') { cut } else { seen.clone() };
            for seen in [&seen, &served] {
                let reached = if guarded {
                    seen == "/admin" || seen.starts_with("/admin/")
                } else {
                    !seen.starts_with("/public/")
                };
                assert!(!reached, "{target} became {seen}");
            }
        }
    }
}

/// An authorizer that nobody knows, and a policy that asks it: what its rules match is refused.
#[tokio::test]
async fn unknown_authorizers_refuse_54() {
    let spec = "{action: CUSTOM, provider: {name: nobody}, rules: [{to: [{operation: {paths: ['/admin*']}}]}]}";
    let rule = "rbac_access_denied_matched_policy[istio-ext-authz-nobody-ns[default]-policy[x]-rule[0]\
                -deny-due-to-bad-CUSTOM-action]";
    denied(inbound("54", spec).get("/admin"), rule).run().await;
    inbound("54 another path", spec).tries(1).run().await;
}

/// What the own application may ask of others, by host.
#[tokio::test]
async fn egress_policies() {
    let policy = |spec: &str| -> &'static str {
        let head = "\n---\napiVersion: policy.mesh.local/v1\nkind: EgressPolicy\n";
        format!("{head}metadata: {{name: sites, namespace: default}}\nspec: {spec}\n").leak()
    };
    let outbound = |id, spec: &str| row(id, OK).door(Door::Outbound).extra(policy(spec));
    let up = "{rules: [{to: [{operation: {hosts: [up.example]}}]}]}";
    outbound("egress allowed", up).tries(1).run().await;
    denied(outbound("egress other", &up.replace("up.example", "other.example")), NONE).run().await;
    let deny = "{action: DENY, rules: [{to: [{operation: {hosts: ['*.example'], methods: [GET]}}]}]}";
    let by = "rbac_access_denied_matched_policy[ns[default]-policy[sites]-rule[0]]";
    denied(outbound("egress denied", deny), by).run().await;
    let own = |account: &str| format!("{{rules: [{{from: [{{source: {{serviceAccounts: [{account}]}}}}]}}]}}");
    outbound("egress by who asks", &own("default")).tries(1).run().await;
    denied(outbound("egress by somebody else", &own("other")), NONE).run().await;
    // It is about what the workload asks, not about what is asked of it.
    row("egress inbound", OK).door(Door::Inbound).extra(policy("{}")).tries(1).run().await;
}

#[tokio::test]
async fn refusals_are_kept_with_reasons() {
    let spec = "{rules: [{to: [{operation: {methods: [GET], paths: [/a]}}]}]}";
    let extra = policy(Door::Inbound, "readers", spec);
    let mut mesh = Mesh::start(&Config { door: Door::Inbound, extra, ..DEFAULT }, None).await;
    let mut client = mesh.connect().await;
    client.write_all(GET.as_bytes()).await.unwrap();
    assert_eq!(Answer::read(&mut client, false).await.status, "403 Forbidden");
    let record = mesh.record().await;
    let latest = mesh.denials().latest();
    let nearest = latest[0].reasons.nearest.as_ref().unwrap();
    assert!(nearest.contains("ns[default]-policy[readers]-rule[0] at test.yaml:"), "{nearest}");
    assert!(
        nearest.contains("path is /x, wanted one of /a (spec.rules[0].to[0].operation.paths, test.yaml:"),
        "{nearest}"
    );
    assert_eq!(record.cx.verdict.get().unwrap(), &format!("nearest: {nearest}"));
}
