//! Policies of Istio's own tests: what we decide is what the RBAC configuration decides that Istio derives from them. The
//! corpus is not part of the repository; without it these tests say so and pass.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::*;
use crate::attach::Workload;

/// Requests per case.
const REQUESTS: usize = 600;

fn cases(level: &str) -> Vec<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let places = ["../../shared/corpus", "../../../shared/corpus"].map(|p| here.join(p));
    let Some(folder) = places.iter().find(|p| p.is_dir()) else {
        println!("skipped: corpus not present");
        return Vec::new();
    };
    let entries = std::fs::read_dir(folder.join("authz").join(level)).unwrap();
    let mut cases: Vec<_> = entries.map(|e| e.unwrap().path()).collect();
    cases.sort();
    cases
}

/// A file, with names of methods that a request can have.
fn text_of(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    text.replace("rule[0]-to[0]-method[0]", "PUT").replace("rule[1]-to[0]-method[0]", "PATCH")
}

fn json(path: &Path) -> Value {
    let (documents, errors) = yaml::documents(&text_of(path));
    assert!(errors.is_empty(), "{errors:?}");
    documents[0].value.clone()
}

/// The external authorizers of a case that can be asked.
fn providers(case: &Value) -> BTreeMap<String, Provider> {
    let list = case["meshConfig"]["extensionProviders"].as_array().cloned().unwrap_or_default();
    let usable = list.iter().filter_map(|p| {
        let (kind, settings) = match (p.get("envoyExtAuthzHttp"), p.get("envoyExtAuthzGrpc")) {
            (Some(http), _) => (Provider::Http, http),
            (None, Some(grpc)) => (Provider::Grpc, grpc),
            (None, None) => return None,
        };
        let port = settings["port"].as_u64().unwrap();
        (1..=65535).contains(&port).then(|| (p["name"].as_str().unwrap().to_owned(), kind))
    });
    usable.collect()
}

/// Requests with the values of the policies in them, and random ones.
fn requests(text: &str) -> Vec<Facts> {
    let words: Vec<&str> = text.split(|c: char| c.is_whitespace() || "\",[]{}".contains(c)).collect();
    let quoted: Vec<&str> = text.split('"').skip(1).step_by(2).collect();
    // What is in quotes is a value more often than not.
    let often = std::iter::repeat_n(&quoted, 8).flatten();
    let mut pool: Vec<String> = words.iter().chain(often).map(|w| w.replace(['*', '{', '}'], "")).collect();
    pool.retain(|w| !w.is_empty() && w.is_ascii() && !w.contains([' ', '\n']));
    let word = prop::sample::select(pool);
    let (a, b, c) = (word.clone(), word.clone(), word);
    let changes = (super::naive::requests(), a, b, c, 0_u8..8, any::<bool>());
    let strategy = changes.prop_map(|(mut facts, a, b, c, how, hit)| {
        facts.path = if a.starts_with('/') { a.clone() } else { format!("/{a}") };
        facts.authority.clone_from(&b);
        if let Ok(method) = c.parse() {
            facts.method = method;
        }
        facts.peer = match how {
            0 => None,
            1 => Some(format!("cluster.local/ns/{a}/sa/x")),
            2 => Some(format!("{a}/ns/foo/sa/{b}")),
            3 => Some(format!("td1/ns/{}", b.split_once("/ns/").map_or("foo/sa/x", |(_, rest)| rest))),
            _ => Some(a.clone()),
        };
        facts.sni.clone_from(&c);
        for (address, text) in [(&mut facts.source_ip, &a), (&mut facts.remote_ip, &b), (&mut facts.destination_ip, &c)]
        {
            let text = text.split('/').next().unwrap();
            if text.parse::<std::net::IpAddr>().is_ok() {
                text.clone_into(address);
            }
        }
        facts.port = b.parse().unwrap_or(facts.port);
        if hit && let Ok(value) = c.parse() {
            facts.headers.insert("x-abc", value);
        }
        match (how, hit) {
            (4, _) => facts.claims(&format!(r#"{{"iss": "{b}", "sub": ""}}"#)),
            (5, _) => facts.claims(&format!(r#"{{"iss": "{b}", "sub": "{c}"}}"#)),
            _ => facts,
        }
    });
    let mut runner = TestRunner::deterministic();
    (0..REQUESTS).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect()
}

fn check(level: &str, protocol: Protocol) -> usize {
    let mut checked = 0;
    for case in cases(level) {
        let title = case.file_name().unwrap().to_string_lossy().into_owned();
        let settings = json(&case.join("case.json"));
        let text = text_of(&case.join("input.yaml"));
        let strings = |v: &Value| -> Vec<String> {
            v.as_array().into_iter().flatten().map(|s| s.as_str().unwrap().to_owned()).collect()
        };
        let trust = TrustDomains::new(
            settings["trust_domain"].as_str().unwrap_or("cluster.local"),
            strings(&settings["trust_domain_aliases"]).iter().map(String::as_str),
        );
        let labels = settings["workload"]["labels"].as_object().unwrap().iter();
        let labels = labels.map(|(k, v)| (k.clone(), v.as_str().unwrap().to_owned())).collect();
        let workload = Workload::new("istio-system", settings["workload"]["namespace"].as_str().unwrap(), &labels);
        let policies = Policies::compile(&AuthzInput {
            policies: &workload.policies(&read(&text)),
            protocol,
            trust_domains: &trust,
            providers: &providers(&settings),
        });
        let filters: Vec<Value> = strings(&settings["expected"]).iter().map(|f| json(&case.join(f))).collect();
        let mut matched = 0;
        for mut facts in requests(&text) {
            facts.tcp = protocol == Protocol::Tcp;
            matched += usize::from(compare(&title, &policies, &filters, &facts));
            checked += 1;
        }
        println!("{title}: {matched} of {REQUESTS} requests matched something");
        // The filters of rules without policies match nothing, and there may be no filters; one has `*` in notPaths.
        let can_match = title != "allow-path" && filters.iter().any(|f| f.to_string().contains("permissions"));
        assert_eq!(matched > 0, can_match, "{title}: requests that show nothing");
    }
    checked
}

/// Compares with each filter; whether anything matched.
fn compare(title: &str, policies: &Policies, filters: &[Value], facts: &Facts) -> bool {
    let (mut denied, mut allow, mut audit) = (None, None, None);
    let (mut asked, mut refused) = (None, None);
    let mut dry = (None, None);
    for config in filters.iter().map(|f| &f["typedConfig"]) {
        let kind = config["@type"].as_str().unwrap();
        if kind.contains("ext_authz") {
            continue;
        }
        let first = |rules: &str| config.get(rules).map(|r| super::rbac::first(r, facts));
        let prefix = config["shadowRulesStatPrefix"].as_str().unwrap_or_default();
        match (config["rules"]["action"].as_str(), first("rules")) {
            (Some("DENY"), Some(rule)) if rule.as_ref().is_some_and(|r| r.starts_with("istio-ext-authz")) => {
                refused = rule
            }
            (Some("DENY"), Some(rule)) => denied = denied.or(rule),
            (Some("LOG"), Some(rule)) => audit = rule,
            (None, Some(rule)) => allow = Some(rule),
            (_, None) => {}
            (Some(other), _) => panic!("{other}"),
        }
        match (prefix, first("shadowRules")) {
            ("istio_ext_authz_", Some(rule)) => asked = rule,
            ("istio_dry_run_deny_", Some(rule)) => dry.0 = rule,
            ("istio_dry_run_allow_", Some(rule)) => dry.1 = Some(rule),
            (_, None) => {}
            other => panic!("{other:?}"),
        }
    }
    let want = match (&denied, &allow) {
        (Some(rule), _) => rule.clone(),
        (None, Some(None)) => "none".to_owned(),
        (None, Some(Some(_)) | None) => "allow".to_owned(),
    };
    facts.with(|input| {
        let text = |rule: Option<&Arc<str>>| rule.map(ToString::to_string);
        assert_eq!(decision(policies, facts), want, "{title}\n{facts:#?}");
        assert_eq!(text(policies.audit(input)), audit, "{title}\n{facts:#?}");
        let dry_run = policies.dry_run(input);
        assert_eq!((text(dry_run.denied_by), dry_run.allowed_by.map(text)), dry, "{title}\n{facts:#?}");
        let custom = match policies.custom(input) {
            None => (None, None),
            Some(Custom::Ask { rule, .. }) => (Some(rule.to_string()), None),
            Some(Custom::Refuse { rule }) => (None, Some(rule.to_string())),
        };
        assert_eq!(custom, (asked.clone(), refused.clone()), "{title}\n{facts:#?}");
    });
    let allowed = allow.is_some_and(|a| a.is_some());
    let tried = dry.0.is_some() || dry.1.is_some_and(|r| r.is_some());
    denied.is_some() || allowed || audit.is_some() || asked.is_some() || refused.is_some() || tried
}

/// What the tour's policies say of requests to a workload of bookinfo: caller, method, path, allowed.
#[test]
fn policies_of_the_tour() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let places = ["../../shared/corpus/seed", "../../../shared/corpus/seed"].map(|p| here.join(p));
    let Some(folder) = places.iter().find(|p| p.is_dir()) else {
        println!("skipped: corpus not present");
        return;
    };
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|p| p.to_string_lossy().contains("-authorizationpolicy-") && !p.to_string_lossy().contains("23-"));
    assert_eq!(files.len(), 4);
    let all: Vec<_> = files.iter().flat_map(|f| read(&std::fs::read_to_string(f).unwrap())).collect();
    for (app, caller, method, path, allowed) in [
        ("productpage", "", "GET", "/productpage", true),
        ("productpage", "", "GET", "/productpage?u=normal", true),
        ("productpage", "", "POST", "/productpage", false),
        ("productpage", "", "HEAD", "/productpage", false),
        ("productpage", "", "GET", "/static/x", true),
        ("productpage", "", "GET", "/static", false),
        ("productpage", "", "POST", "/login", true),
        ("details", "productpage", "GET", "/details/0", true),
        ("details", "ratings", "GET", "/details/0", false),
        ("details", "", "GET", "/details/0", false),
        ("reviews", "productpage", "GET", "/reviews/0", true),
        ("ratings", "reviews", "GET", "/ratings/0", true),
        ("ratings", "productpage", "GET", "/ratings/0", false),
        ("mongodb", "ratings", "GET", "/", false),
    ] {
        let labels = [("app".to_owned(), app.to_owned())].into();
        let policies = Policies::compile(&AuthzInput {
            policies: &Workload::new("istio-system", "default", &labels).policies(&all),
            protocol: Protocol::Http,
            trust_domains: &TrustDomains::default(),
            providers: &BTreeMap::new(),
        });
        let peer = (!caller.is_empty()).then(|| format!("cluster.local/ns/default/sa/bookinfo-{caller}"));
        let facts = Facts { peer, ..to(method, path) };
        assert_eq!(decision(&policies, &facts) == "allow", allowed, "{app} {caller} {method} {path}");
    }
}

#[test]
fn http_policies_decide_as_istios() {
    let checked = check("http", Protocol::Http);
    println!("{checked} requests");
}

#[test]
fn tcp_policies_decide_as_istios() {
    let checked = check("tcp", Protocol::Tcp);
    println!("{checked} requests");
}
