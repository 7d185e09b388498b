use super::*;

fn file(text: &str) -> SourceFile {
    SourceFile { path: "f.yaml".into(), text: text.into() }
}

const TWO: &str = "\
apiVersion: v1
kind: Service
metadata: {name: a}
spec: {ports: [{port: 80}]}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v, namespace: other}
spec: {hosts: 7}
---
a: [
";

#[test]
fn documents_get_a_namespace_and_bad_ones_are_kept_with_a_report() {
    let documents = read(&file(TWO), "mine");
    let keys: Vec<String> = documents.iter().map(|d| d.key.to_string()).collect();
    assert_eq!(keys, ["Service mine/a", "Namespace shop", "VirtualService other/v", "File f.yaml"]);
    let refused: Vec<bool> = documents.iter().map(Document::refused).collect();
    assert_eq!(refused, [false, false, true, true]);
    assert_eq!(documents[2].reports[0].span.line, 13);
    assert!(documents[0].service().is_some());
}

/// The mesh's settings are judged as they are where they come into force.
#[test]
fn settings_that_would_not_come_into_force_are_refused() {
    let map = |name: &str, settings: &str| {
        let text = format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: istio-system}}\ndata:\n  mesh: |-\n    \
             outboundTrafficPolicy:\n      mode: ALLOW_ANY_DYNAMIC_DNS\n      tls: {settings}\n"
        );
        read(&file(&text), "default").remove(0)
    };
    assert!(!map("istio", "{mode: SIMPLE}").refused());
    let wrong = map("istio", "{mode: MUTUAL}");
    assert!(wrong.refused());
    let said: Vec<_> = wrong.reports.iter().map(|r| (&*r.field, r.span.line)).collect();
    let at = "data.mesh.outboundTrafficPolicy.tls";
    assert_eq!(said, [(&*format!("{at}.clientCertificate"), 8), (&*format!("{at}.privateKey"), 8)]);
    assert!(!map("other", "{mode: MUTUAL}").refused(), "it is nobody's settings");
    assert!(map("istio", "{mode: 7}").refused(), "nor what can't be read");
}

#[test]
fn secrets_and_config_maps_are_decoded() {
    let text = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {a: aGVsbG8=}\nstringData: {b: plain}\n";
    let data = read(&file(text), "default")[0].data_bytes();
    assert_eq!((&data["a"][..], &data["b"][..]), (&b"hello"[..], &b"plain"[..]));
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: s}\ndata: {a: text}\nbinaryData: {b: AAE}\n";
    let data = read(&file(text), "default")[0].data_bytes();
    assert_eq!((&data["a"][..], &data["b"][..]), (&b"text"[..], &[0u8, 1][..]));
}

#[test]
fn directories_give_their_manifests_in_order() {
    let root = std::env::temp_dir().join(format!("mesh-manifest-{}", std::process::id()));
    fs::create_dir_all(root.join("sub")).unwrap();
    for (name, text) in [("b.yml", "b"), ("a.yaml", "a"), ("readme.md", "x"), ("sub/c.json", "{}")] {
        fs::write(root.join(name), text).unwrap();
    }
    let texts: Vec<String> = load(&[root.to_string_lossy().into()]).unwrap().into_iter().map(|f| f.text).collect();
    assert_eq!(texts, ["a", "b", "{}"]);
    let readme = root.join("readme.md").to_string_lossy().into_owned();
    assert_eq!(load(&[readme]).unwrap()[0].text, "x");
    fs::remove_dir_all(&root).unwrap();
    assert!(load(&[root.to_string_lossy().into()]).unwrap_err().contains("No such file"));
}
