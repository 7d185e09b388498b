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
