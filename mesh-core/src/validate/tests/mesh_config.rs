//! MeshConfig and ProxyConfig.

use crate::api::{Duration, Key, Kind, MeshConfig, Origin};
use crate::validate::validate_mesh_config;

#[test]
fn mesh_settings() {
    let errors = |edit: fn(&mut MeshConfig)| -> Vec<String> {
        let mut config = MeshConfig::istio_default();
        edit(&mut config);
        let key = Key::new(Kind::new("", "ConfigMap"), "istio-system", "istio");
        validate_mesh_config(&config, &key, &Origin::generated("test")).iter().map(|r| r.field.to_string()).collect()
    };
    assert_eq!(errors(|_| {}), [""; 0]);
    assert_eq!(errors(|c| c.connect_timeout = Some(Duration::from_secs(3601))), ["data.mesh.connectTimeout"]);
    assert_eq!(errors(|c| c.proxy_listen_port = 0), ["data.mesh.proxyListenPort"]);
    assert_eq!(
        errors(|c| c.default_service_export_to = vec!["*".into(), "a".into()]),
        ["data.mesh.defaultServiceExportTo"]
    );
    assert_eq!(errors(|c| c.root_namespace = String::new()), ["data.mesh.rootNamespace"]);
}

/// A problem of each setting: what is done to the defaults, and the field that is named.
#[test]
fn further_settings() {
    let said = |yaml: &str| -> Vec<String> {
        let text = format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata:\n  mesh: |\n    {}\n",
            yaml.replace('\n', "\n    ")
        );
        let (resources, _) = crate::yaml::read("m.yaml", &text);
        let made = crate::convert::inputs(&resources, &Default::default(), &mut Default::default());
        assert!(made.reports.iter().all(|r| r.span.line > 5), "each has its line: {:?}", made.reports);
        made.reports.iter().map(|r| format!("{}: {}", r.field.trim_start_matches("data.mesh."), r.message)).collect()
    };
    let settings = |s: &str| format!("defaultConfig: {{connectionSettings: {{{s}}}}}");
    for (yaml, expected) in [
        ("trustDomainAliases: [old, 'a b']".to_owned(), "trustDomainAliases[1]: trustDomainAliases: "),
        ("caCertificates: [{pem: x}]".to_owned(), "caCertificates[0].pem: there is no certificate in PEM in it"),
        ("caCertificates: [{trustDomains: [a]}]".to_owned(), "caCertificates[0]: it needs one of pem and "),
        (
            "caCertificates: [{pem: '-----BEGIN CERTIFICATE-----', trustDomains: ['a b']}]".to_owned(),
            "caCertificates[0].trustDomains[0]: trustDomains: ",
        ),
        (
            "extensionProviders: [{name: a-1}, {name: a-1}]".to_owned(),
            "extensionProviders[1].name: there are two providers \"a-1\"",
        ),
        (
            "extensionProviders: [{name: A_1}]".to_owned(),
            "extensionProviders[0].name: provider name \"A_1\" must be 1 to 63 of a-z, 0-9 and -",
        ),
        ("extensionProviders: [{}]".to_owned(), "extensionProviders[0].name: provider name \"\" must be 1 to 63"),
        (
            "discoverySelectors: [{matchExpressions: [{key: a, operator: In}]}]".to_owned(),
            "discoverySelectors[0].matchExpressions[0]: operator In needs values",
        ),
        (
            "discoverySelectors: [{matchExpressions: [{key: a, operator: Exists, values: [b]}]}]".to_owned(),
            "operator Exists takes no values",
        ),
        (
            "discoverySelectors: [{matchExpressions: [{key: a, operator: Is}]}]".to_owned(),
            "matchExpressions[0].operator: \"Is\" is not a valid label selector operator",
        ),
        (
            settings("http2MaxConcurrentStreams: 0"),
            "defaultConfig.connectionSettings.http2MaxConcurrentStreams: http2MaxConcurrentStreams 0 must be in the range 1..2147483647",
        ),
        (settings("http2InitialStreamWindowSize: 65534"), "connectionSettings.http2InitialStreamWindowSize: "),
        (
            settings("http2InitialConnectionWindowSize: 2147483648"),
            "connectionSettings.http2InitialConnectionWindowSize: ",
        ),
        (settings("perConnectionBufferLimitBytes: 0"), "connectionSettings.perConnectionBufferLimitBytes: "),
        (
            settings("httpDrainTimeout: 0s"),
            "connectionSettings.httpDrainTimeout: httpDrainTimeout 0s ends connections at once",
        ),
        (
            settings("httpHeadersWithUnderscoresAction: DROP"),
            "connectionSettings.httpHeadersWithUnderscoresAction: httpHeadersWithUnderscoresAction \"DROP\" is none of ALLOW, REJECT_REQUEST, DROP_HEADER",
        ),
        (
            settings("httpPathWithEscapedSlashesAction: UNESCAPE"),
            "connectionSettings.httpPathWithEscapedSlashesAction: ",
        ),
    ] {
        let found = said(&yaml);
        assert!(found.len() == 1 && found[0].contains(expected), "{yaml}: {expected}\n{found:#?}");
    }
    let good = "trustDomainAliases: [old.example.com]\nextensionProviders: [{name: a}, {name: b}]\n\
                discoverySelectors: [{matchExpressions: [{key: a, operator: NotIn, values: [b]}, {key: c, operator: DoesNotExist}]}]\n\
                defaultConfig: {connectionSettings: {http2MaxConcurrentStreams: 1, http2InitialStreamWindowSize: 65535, \
                httpDrainTimeout: 1s, httpHeadersWithUnderscoresAction: DROP_HEADER, httpPathWithEscapedSlashesAction: KEEP_UNCHANGED}}";
    assert_eq!(said(good), [""; 0]);
}
