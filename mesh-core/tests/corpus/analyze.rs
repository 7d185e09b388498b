//! Istio's analyzer cases: the same codes, levels and objects as Istio.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::path::Path;

use mesh_core::analyze::{ANALYZERS, ANNOTATIONS, AnalyzeInput, ON_REQUEST, analyze_with};
use mesh_core::api::Resource;
use mesh_core::convert::{Addresses, Options, inputs};
use mesh_core::report::Report;
use mesh_core::validate::validate;
use mesh_core::yaml;
use serde_json::Value;

use crate::corpus;

/// Istio's name of an analyzer in its tests, ours, and the codes that belong to it.
const NAMES: &[(&str, &str, &[&str])] = &[
    ("annotations.K8sAnalyzer", "annotations.K8sAnalyzer", &["IST0107", "IST0108", "IST0125", "IST0135"]),
    ("maturity.AlphaAnalyzer", "maturity.AlphaAnalyzer", &["IST0136"]),
    ("deployment.ApplicationUIDAnalyzer", "applicationUID.Analyzer", &["IST0144"]),
    ("injection.ImageAnalyzer", "injection.ImageAnalyzer", &["IST0158"]),
    ("injection.ImageAutoAnalyzer", "injection.ImageAutoAnalyzer", &["IST0146", "IST0147"]),
    ("multicluster.MeshNetworksAnalyzer", "meshnetworks.MeshNetworksAnalyzer", &["IST0126"]),
    ("webhook.Analyzer", "webhook.Analyzer", &["IST0139"]),
    ("deployment.ServiceAssociationAnalyzer", "deployment.MultiServiceAnalyzer", &["IST0116", "IST0137"]),
    ("deprecation.FieldAnalyzer", "deprecation.DeprecationAnalyzer", &["IST0002"]),
    ("destinationrule.CaCertificateAnalyzer", "destinationrule.CaCertificateAnalyzer", &["IST0128", "IST0129"]),
    ("destinationrule.PodNotSelectedAnalyzer", "destinationrule.SubsetSelectPodAnalyzer", &["IST0173", "IST0174"]),
    ("gateway.CertificateAnalyzer", "gateway.CertificateAnalyzer", &["IST0138"]),
    ("gateway.ConflictingGatewayAnalyzer", "gateway.ConflictingGatewayAnalyzer", &["IST0145"]),
    ("gateway.IngressGatewayPortAnalyzer", "gateway.IngressGatewayPortAnalyzer", &["IST0101", "IST0162"]),
    ("gateway.SecretAnalyzer", "gateway.SecretAnalyzer", &["IST0101", "IST0161"]),
    ("injection.Analyzer", "injection.Analyzer", &["IST0102", "IST0103", "IST0123", "IST0148"]),
    (
        "schemaValidation.CollectionValidationAnalyzer(collections.VirtualService)",
        "schema.ValidationAnalyzer",
        &["IST0130", "IST0131"],
    ),
    ("service.PortNameAnalyzer", "service.PortNameAnalyzer", &["IST0118", "IST0150"]),
    ("serviceentry.ProtocolAddressesAnalyzer", "serviceentry.Analyzer", &["IST0134"]),
    (
        "serviceentry.ConflictingServiceEntryProtocolAnalyzer",
        "serviceentry.ConflictingServiceEntryProtocolAnalyzer",
        &["IST0177"],
    ),
    ("sidecar.SelectorAnalyzer", "sidecar.SelectorAnalyzer", &["IST0101", "IST0110"]),
    ("sidecar.DefaultSelectorAnalyzer", "sidecar.SelectorAnalyzer", &["IST0111"]),
    (
        "virtualservice.ConflictingMeshGatewayHostsAnalyzer",
        "virtualservice.ConflictingMeshGatewayHostsAnalyzer",
        &["IST0109"],
    ),
    (
        "virtualservice.DestinationHostAnalyzer",
        "virtualservice.DestinationHostAnalyzer",
        &["IST0101", "IST0112", "IST0140"],
    ),
    ("virtualservice.DestinationRuleAnalyzer", "virtualservice.DestinationRuleAnalyzer", &["IST0101"]),
    ("virtualservice.GatewayAnalyzer", "virtualservice.GatewayAnalyzer", &["IST0101", "IST0132", "IST0165"]),
    ("authz.AuthorizationPoliciesAnalyzer", "auth.AuthorizationPoliciesAnalyzer", &["IST0101", "IST0127"]),
    ("authn.BlockedCIDRsAnalyzer", "authn.BlockedCIDRsAnalyzer", &["IST0175"]),
    ("conditions.ConditionAnalyzer", "conditions.ConditionAnalyzer", &["IST0171"]),
    (
        "envoyfilter.EnvoyPatchAnalyzer",
        "envoyfilter.EnvoyPatchAnalyzer",
        &["IST0151", "IST0152", "IST0153", "IST0154", "IST0155"],
    ),
    (
        "externalcontrolplane.ExternalControlPlaneAnalyzer",
        "externalcontrolplane.ExternalControlPlaneAnalyzer",
        &["IST0163", "IST0164"],
    ),
    ("k8sgateway.CRDVersionAnalyzer", "k8sgateway.CRDVersionAnalyzer", &["IST0176"]),
    ("k8sgateway.SelectorAnalyzer", "k8sgateway.SelectorAnalyzer", &["IST0166"]),
    ("multicluster.ServiceAnalyzer", "services.MultiClusterServiceAnalyzer", &["IST0170"]),
    ("telemetry.DefaultSelectorAnalyzer", "telemetry.DefaultSelectorAnalyzer", &["IST0160"]),
    ("telemetry.LightstepAnalyzer", "telemetry.LightstepAnalyzer", &["IST0002"]),
    ("telemetry.ProviderAnalyzer", "telemetry.ProviderAnalyzer", &["IST0157"]),
    ("telemetry.SelectorAnalyzer", "telemetry.SelectorAnalyzer", &["IST0101", "IST0159"]),
    ("virtualservice.JWTClaimRouteAnalyzer", "virtualservice.JWTClaimRouteAnalyzer", &["IST0149"]),
];

/// Codes of the security chapter, whose score is stated apart.
const SECURITY: &[&str] = &["IST0127", "IST0128", "IST0129", "IST0138", "IST0149", "IST0161", "IST0166", "IST0175"];

/// Cases whose messages differ from Istio's: the case and the reason. They count as misses.
const MISSES: &[(&str, &str)] = &[];

#[test]
fn names_are_those_of_the_product() {
    for (_, ours, _) in NAMES {
        assert!(ANALYZERS.contains(ours) || ON_REQUEST.contains(ours), "{ours}");
    }
}

#[test]
fn annotations_are_istios() {
    let Some(corpus) = corpus() else { return };
    let text = std::fs::read_to_string(corpus.join("crds/istio/annotations.yaml")).unwrap();
    let (documents, _) = yaml::documents(&text);
    let all = documents[0].value["annotations"].as_array().unwrap();
    assert_eq!(all.len(), ANNOTATIONS.len());
    for (theirs, ours) in all.iter().zip(ANNOTATIONS) {
        let kinds: Vec<&str> = theirs["resources"].as_array().unwrap().iter().map(|r| r.as_str().unwrap()).collect();
        let alpha = theirs["featureStatus"].as_str().is_none_or(|s| s == "Alpha");
        let deprecated = theirs["deprecated"] == true;
        let name = theirs["name"].as_str().unwrap();
        assert_eq!((name, &kinds[..], alpha, deprecated), (ours.name, ours.kinds, ours.alpha, ours.deprecated));
    }
}

#[test]
fn same_messages_as_istio() {
    let Some(folder) = corpus().map(|c| c.join("analyze")) else { return };
    let (mut right, mut security, mut wrong) = (0, 0, Vec::new());
    let mut cases: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    cases.sort();
    for case in cases.iter().filter(|c| c.join("expect.json").is_file()) {
        let expect: Value = serde_json::from_str(&std::fs::read_to_string(case.join("expect.json")).unwrap()).unwrap();
        let name = expect["analyzer"].as_str().unwrap();
        let title = case.file_name().unwrap().to_string_lossy().into_owned();
        let known = NAMES.iter().find(|(theirs, _, _)| *theirs == name);
        let (_, ours, codes) = known.unwrap_or_else(|| panic!("{title}: what is {name}?"));
        let wanted = counted(expect["expected"].as_array().unwrap().iter().map(wanted));
        let found = found(case, ours, expect["clusters"].is_object());
        let found = counted(found.iter().filter(|r| codes.contains(&&*r.code)).map(got));
        let miss = MISSES.iter().find(|(c, _)| *c == title);
        match (wanted == found, miss) {
            (true, None) => {
                right += 1;
                security += usize::from(codes.iter().any(|c| SECURITY.contains(c)));
            }
            (true, Some(_)) => wrong.push(format!("{title} is right now; take it off the list of misses")),
            (false, Some((_, why))) => println!("missed: {title}: {why}"),
            (false, None) => wrong.push(format!("{}\n  wanted {wanted:#?}\n  got {found:#?}", case.display())),
        }
    }
    println!("score: {right} right, {security} of them about security, {} missed, none left out", MISSES.len());
    assert!(wrong.is_empty(), "{} cases differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(right + MISSES.len() >= 69 && security >= 10, "{right}, {security}");
}

fn found(case: &Path, analyzer: &str, several_clusters: bool) -> Vec<Report> {
    let (mut resources, mut reports): (Vec<Resource>, Vec<Report>) = (Vec::new(), Vec::new());
    let mut clusters = Vec::new();
    let mut files: Vec<_> = std::fs::read_dir(case).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    for file in files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&file).unwrap();
        let text = match name.as_str() {
            "meshconfig.yaml" => settings("mesh", &text),
            "meshnetworks.yaml" => settings("meshNetworks", &text),
            n if n.starts_with("input") => text,
            _ => continue,
        };
        let (some, said) = yaml::read(&name, &text);
        if several_clusters && name == "input-2.yaml" {
            clusters.push(("cluster2".to_owned(), some));
            continue;
        }
        reports.extend(some.iter().flat_map(validate));
        resources.extend(some);
        reports.extend(said);
    }
    let world = inputs(&resources, &Options::default(), &mut Addresses::default()).world;
    let input = AnalyzeInput { resources: &resources, reports: &reports, world: Some(&world), clusters: &clusters };
    analyze_with(&input, &[analyzer])
}

/// The ConfigMap of the mesh's settings, with this text at a key.
fn settings(key: &str, text: &str) -> String {
    let inner = text.lines().map(|l| format!("    {l}\n")).collect::<String>();
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata:\n  {key}: |\n{inner}"
    )
}

/// Code, level, kind and name; objects without a namespace are read into `default`.
type Said = (String, String, String, String);

fn wanted(v: &Value) -> Said {
    let text = |k: &str| v[k].as_str().unwrap().to_owned();
    let resource = text("resource");
    let cluster_scoped =
        ["CustomResourceDefinition", "MutatingWebhookConfiguration", "Namespace", "ValidatingWebhookConfiguration"];
    let cluster_scoped = cluster_scoped.contains(&&*text("kind"));
    let resource = if resource.contains('/') || cluster_scoped { resource } else { format!("default/{resource}") };
    (text("code"), text("level"), text("kind"), resource)
}

fn got(r: &Report) -> Said {
    let key = &r.object;
    let resource =
        if key.namespace.is_empty() { key.name.to_string() } else { format!("{}/{}", key.namespace, key.name) };
    (r.code.to_string(), format!("{:?}", r.level), key.kind.kind.to_string(), resource)
}

fn counted(all: impl Iterator<Item = Said>) -> BTreeMap<Said, usize> {
    let mut counts = BTreeMap::new();
    for one in all {
        *counts.entry(one).or_default() += 1;
    }
    counts
}

#[test]
fn every_file_is_analyzed_without_a_crash() {
    for part in ["samples", "config", "validate", "seed", "gateway-api", "inject", "analyze"] {
        let Some(folder) = corpus().map(|c| c.join(part)) else { return };
        let mut stack = vec![folder];
        while let Some(dir) = stack.pop() {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    stack.push(path);
                } else if path.extension().is_some_and(|e| e == "yaml")
                    && let Ok(text) = std::fs::read_to_string(&path)
                {
                    let (resources, reports) = yaml::read(&path.to_string_lossy(), &text);
                    let world = inputs(&resources, &Options::default(), &mut Addresses::default()).world;
                    let input =
                        AnalyzeInput { resources: &resources, reports: &reports, world: Some(&world), clusters: &[] };
                    analyze_with(&input, ANALYZERS);
                }
            }
        }
    }
}
