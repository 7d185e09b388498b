use super::*;
use crate::yaml;

mod istio;
mod security;

fn said(text: &str) -> Vec<String> {
    let (resources, reports) = yaml::read("a.yaml", text);
    let input = AnalyzeInput { resources: &resources, reports: &reports, world: None, clusters: &[] };
    analyze(&input).iter().map(ToString::to_string).collect()
}

const GATEWAY: &str = r#"
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gw, namespace: shop}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 80, name: http, protocol: HTTP}
    hosts: ["*"]
---
apiVersion: v1
kind: Service
metadata: {name: productpage, namespace: shop}
spec:
  ports: [{port: 9080, name: http}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: vs, namespace: shop}
spec:
  hosts: [productpage]
  gateways: [gw]
  http:
  - route:
    - destination: {host: productpage}
      weight: 1
    - destination: {host: nobody}
      weight: 3
"#;

#[test]
fn reports_name_file_line_column_and_fix() {
    assert_eq!(
        said(GATEWAY),
        [
            "a.yaml:27:21: Error [IST0101] (VirtualService shop/vs) Referenced host not found: \"nobody\" (it stands for \
             nobody.shop.svc.cluster.local; write the full name if the service is in another namespace)",
            "a.yaml:21:11: Warning [MESH0104] (VirtualService shop/vs) host \"productpage\" on a gateway stands for \
             productpage.shop.svc.cluster.local; requests from outside that come with another Host get 404 (write the \
             name that clients send, as productpage.example.com, or \"*\" for any)",
            "a.yaml:24:5: Info [MESH0105] (VirtualService shop/vs) weights sum to 4; the shares are [25.0% 75.0%]",
        ]
    );
}

#[test]
fn messages_have_istioctls_form() {
    let (resources, reports) = yaml::read("a.yaml", GATEWAY);
    let all = analyze(&AnalyzeInput { resources: &resources, reports: &reports, world: None, clusters: &[] });
    let json = serde_json::to_value(Message::from(&all[0])).unwrap();
    assert_eq!(json["code"], "IST0101");
    assert_eq!(json["level"], "Error");
    assert_eq!(json["origin"], "VirtualService shop/vs");
    assert_eq!(json["reference"], "a.yaml:27");
    assert_eq!(json["column"], 21);
    assert_eq!(
        json["documentationUrl"],
        "https://istio.io/latest/docs/reference/config/analysis/ist0101/?ref=istioctl-analyze"
    );
    assert!(json["fix"].as_str().unwrap().contains("nobody.shop.svc.cluster.local"));
    assert!(serde_json::to_value(Message::from(&all[1])).unwrap().get("documentationUrl").is_none());
}

#[test]
fn annotations_suppress() {
    let text = GATEWAY.replace(
        "metadata: {name: vs, namespace: shop}",
        "metadata: {name: vs, namespace: shop, annotations: {galley.istio.io/analyze-suppress: \"IST0101, MESH0104\"}}",
    );
    let codes: Vec<_> = said(&text).iter().map(|l| l.split('[').nth(1).unwrap()[..8].to_owned()).collect();
    assert_eq!(codes, ["MESH0105"]);
}

#[test]
fn what_istio_does_not_say() {
    let text = r#"
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a}
spec:
  hosts: [x.example.com]
  gateways: [gw]
  http: [{fault: {abort: {httpStatus: 500}}, redirect: {uri: /}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: b}
spec:
  hosts: [x.example.com]
  gateways: [gw]
  http: [{redirect: {uri: /}}]
"#;
    let all = said(text);
    let has = |part: &str| assert!(all.iter().any(|l| l.contains(part)), "{part} is missing in {all:#?}");
    has("fault.abort has no percentage, so it never happens");
    has("VirtualServices [default/a default/b] are for one host at gateway default/gw");
    has("Referenced gateway not found: \"gw\"");
}

#[test]
fn traps_of_the_tour() {
    let text = r#"
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a}
spec:
  hosts: [nobody]
  options: {timeout: 3s}
  http:
  - fault: {abort: {httpStatus: 500, percent: 30, percentage: {value: 0.5}}}
    redirect: {uri: /}
"#;
    let all = said(text);
    let has = |part: &str| assert!(all.iter().any(|l| l.contains(part)), "{part} is missing in {all:#?}");
    has(
        "a.yaml:7:3: Warning [MESH0004] (VirtualService default/a) unknown field spec.options is ignored by Istio (this is a field of Gloo's kinds",
    );
    has("spec.http[0].fault.abort.percent is ignored by Istio (write percentage: {value: N}");
    has("fault.abort.percentage.value 0.5 is 0.5 percent of the requests, not 50 percent");
    has(
        "a.yaml:6:11: Info [MESH0111] (VirtualService default/a) no Service or ServiceEntry has the host nobody.default.svc.cluster.local",
    );
}

#[test]
fn rules_that_others_shadow() {
    let shadowed = |rules: &str| -> Vec<String> {
        let text = format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: v}}\nspec: {{hosts: [x.example.com], gateways: [gw], http: [{rules}]}}\n"
        );
        said(&text).into_iter().filter(|l| l.contains("MESH0116")).collect()
    };
    let rule = |matches: &str| format!("{{match: [{matches}], redirect: {{uri: /}}}}");
    for (first, second, hidden) in [
        ("{uri: {prefix: /a}}", "{uri: {exact: /a/b}}", true),
        ("{uri: {prefix: /a}}", "{uri: {exact: /b}}", false),
        ("{uri: {prefix: /a}, method: {exact: GET}}", "{uri: {exact: /a/b}}", false),
        ("{uri: {prefix: /a}, method: {exact: GET}}", "{uri: {exact: /a/b}, method: {exact: GET}}", true),
        ("{uri: {prefix: /}}", "{headers: {x: {exact: v}}}", true),
        ("{headers: {x: {}}}", "{headers: {x: {exact: v}}}", true),
        ("{headers: {x: {prefix: v}}}", "{headers: {x: {exact: v-1}}}", true),
        ("{headers: {x: {exact: v}}}", "{headers: {x: {}}}", false),
        ("{uri: {prefix: /A}, ignoreUriCase: true}", "{uri: {exact: /a/b}}", true),
        ("{uri: {prefix: /a}}", "{uri: {exact: /a/b}, ignoreUriCase: true}", false),
        ("{withoutHeaders: {x: {}}}", "{uri: {prefix: /a}}", false),
        ("{uri: {prefix: /a}, port: 80}", "{uri: {exact: /a}}", false),
        ("{uri: {prefix: /a}, gateways: [gw]}", "{uri: {exact: /a}}", false),
        ("{uri: {prefix: /a}}", "{uri: {exact: /a}, gateways: [gw]}", true),
        ("{uri: {regex: '/a.*'}}", "{uri: {exact: /a}}", false),
        ("{uri: {prefix: /a}}", "{uri: {exact: /a}}, {uri: {exact: /b}}", false),
        ("{uri: {prefix: /a}}, {uri: {prefix: /b}}", "{uri: {exact: /a}}, {uri: {exact: /b}}", true),
        // Equal: IST0130 says it.
        ("{uri: {prefix: /a}}", "{uri: {prefix: /a}}", false),
    ] {
        let found = shadowed(&format!("{}, {}", rule(first), rule(second)));
        assert_eq!(found.len(), usize::from(hidden), "{first} {second}: {found:?}");
    }
    let last = shadowed(&format!("{}, {{redirect: {{uri: /}}}}", rule("{uri: {prefix: /}}")));
    let text = "a.yaml:4:106: Warning [MESH0116] (VirtualService default/v) no request reaches rule #1: rule #0 takes all that it matches (write it before rule #0)";
    assert_eq!(last, [text]);
}

#[test]
fn every_code_is_documented() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/analyze.md")).unwrap();
    for code in OWN {
        let row = format!("| {} | {} | {:?} |", code.code, code.name, code.level);
        assert!(page.contains(&row), "docs/analyze.md has no row {row}");
    }
    let source = include_str!("../api/codes.rs");
    let codes = source.split(['"', ' ']).filter(|w| w.starts_with("MESH0") && w.len() == 8);
    for code in codes {
        assert!(page.contains(&format!("| {code} |")), "docs/analyze.md has no row for {code}");
    }
    for analyzer in ANALYZERS.iter().chain(ON_REQUEST) {
        assert!(page.contains(&format!("`{analyzer}`")), "docs/analyze.md does not name {analyzer}");
    }
}

#[test]
fn a_thousand_of_each_is_linear() {
    let mut text = String::new();
    for i in 0..1000 {
        text.push_str(&format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: s{i}}}\nspec: {{selector: {{app: s{i}}}, ports: [{{port: 80, name: http}}]}}\n---\n\
             apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: v{i}}}\nspec: {{hosts: [s{i}], http: [{{route: [{{destination: {{host: s{i}}}}}]}}]}}\n---\n"
        ));
    }
    let (resources, reports) = yaml::read("a.yaml", &text);
    assert_eq!((resources.len(), reports.len()), (2000, 0));
    let made = crate::convert::inputs(&resources, &Default::default(), &mut Default::default());
    let input = AnalyzeInput { resources: &resources, reports: &reports, world: Some(&made.world), clusters: &[] };
    assert_eq!(analyze(&input), []);
}
