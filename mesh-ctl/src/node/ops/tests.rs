use super::*;

#[test]
fn patches_of_both_kinds() {
    let base = json!({"spec": {"http": [{"timeout": "1s"}], "hosts": ["a"]}});
    let mut value = base.clone();
    patched(&mut value, PatchKind::Merge, &json!({"spec": {"hosts": null, "x": 1}})).unwrap();
    assert_eq!(value, json!({"spec": {"http": [{"timeout": "1s"}], "x": 1}}));
    let mut value = base.clone();
    let operations = json!([{"op": "replace", "path": "/spec/http/0/timeout", "value": "2s"}]);
    patched(&mut value, PatchKind::Json, &operations).unwrap();
    assert_eq!(value["spec"]["http"][0]["timeout"], "2s");

    let mut value = base.clone();
    assert!(patched(&mut value, PatchKind::Merge, &operations).unwrap_err().contains("--type json"));
    assert!(patched(&mut value, PatchKind::Json, &json!({})).unwrap_err().contains("write a list"));
    let missing = json!([{"op": "remove", "path": "/spec/none"}]);
    assert!(patched(&mut value, PatchKind::Json, &missing).is_err());
    assert_eq!(value, base);
}

fn service(spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "n"}, "spec": spec})
}

#[test]
fn services_get_and_keep_a_virtual_address() {
    let mut addresses = Addresses::default();
    let key = manifest::live(service(json!({}))).key;
    let mut first = service(json!({"ports": []}));
    fill(&mut first, None, &key, &mut addresses);
    let given = first["spec"]["clusterIP"].as_str().unwrap().to_owned();
    assert!(given.starts_with("10.96."), "{given}");

    let mut again = service(json!({"ports": [{"port": 1}]}));
    fill(&mut again, Some(&service(json!({"clusterIP": "10.96.7.7"}))), &key, &mut addresses);
    assert_eq!(again["spec"]["clusterIP"], "10.96.7.7");

    for own in [
        json!({"clusterIP": "None"}),
        json!({"type": "ExternalName", "externalName": "x"}),
        json!({"clusterIP": "10.96.1.1"}),
    ] {
        let mut value = service(own.clone());
        fill(&mut value, None, &key, &mut addresses);
        assert_eq!(value["spec"], own);
    }
}
