//! Istio's analyzer cases: the same codes, levels and objects as Istio.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::path::Path;

use mesh_core::analyze::{ANALYZERS, AnalyzeInput, analyze_with};
use mesh_core::api::Resource;
use mesh_core::convert::{Addresses, Options, inputs};
use mesh_core::report::Report;
use mesh_core::validate::validate;
use mesh_core::yaml;
use serde_json::Value;

use crate::corpus;

/// Istio's name of an analyzer in its tests, ours, and the codes that belong to it.
const NAMES: &[(&str, &str, &[&str])] = &[
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
];

#[test]
fn names_are_those_of_the_product() {
    for (_, ours, _) in NAMES {
        assert!(ANALYZERS.contains(ours), "{ours}");
    }
}

#[test]
fn same_messages_as_istio() {
    let Some(folder) = corpus().map(|c| c.join("analyze")) else { return };
    let (mut run, mut wrong) = (0, Vec::new());
    let mut cases: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    cases.sort();
    for case in cases.iter().filter(|c| c.join("expect.json").is_file()) {
        let expect: Value = serde_json::from_str(&std::fs::read_to_string(case.join("expect.json")).unwrap()).unwrap();
        let name = expect["analyzer"].as_str().unwrap();
        let Some((_, ours, codes)) = NAMES.iter().find(|(theirs, _, _)| *theirs == name) else {
            println!("analyzer not implemented: {name} ({})", case.file_name().unwrap().display());
            continue;
        };
        run += 1;
        let wanted = counted(expect["expected"].as_array().unwrap().iter().map(wanted));
        let found = found(case, ours);
        let found = counted(found.iter().filter(|r| codes.contains(&&*r.code)).map(got));
        if wanted != found {
            wrong.push(format!("{}\n  wanted {wanted:#?}\n  got {found:#?}", case.display()));
        }
    }
    println!("{run} cases");
    assert!(wrong.is_empty(), "{} of {run} cases differ:\n{}", wrong.len(), wrong.join("\n"));
}

fn found(case: &Path, analyzer: &str) -> Vec<Report> {
    let (mut resources, mut reports): (Vec<Resource>, Vec<Report>) = (Vec::new(), Vec::new());
    let mut files: Vec<_> = std::fs::read_dir(case).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    for file in files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&file).unwrap();
        let text = match name.as_str() {
            "meshconfig.yaml" => {
                let inner = text.lines().map(|l| format!("    {l}\n")).collect::<String>();
                format!(
                    "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata:\n  mesh: |\n{inner}"
                )
            }
            n if n.starts_with("input") => text,
            _ => continue,
        };
        let (some, said) = yaml::read(&name, &text);
        reports.extend(some.iter().flat_map(validate));
        resources.extend(some);
        reports.extend(said);
    }
    let world = inputs(&resources, &Options::default(), &mut Addresses::default()).world;
    analyze_with(&AnalyzeInput { resources: &resources, reports: &reports, world: Some(&world) }, &[analyzer])
}

/// Code, level, kind and name; objects without a namespace are read into `default`.
type Said = (String, String, String, String);

fn wanted(v: &Value) -> Said {
    let text = |k: &str| v[k].as_str().unwrap().to_owned();
    let resource = text("resource");
    let cluster_scoped = text("kind") == "Namespace";
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
                    let input = AnalyzeInput { resources: &resources, reports: &reports, world: Some(&world) };
                    analyze_with(&input, ANALYZERS);
                }
            }
        }
    }
}
