use super::manifests::Manifests;
use super::*;

fn pem() -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["a.example.com".to_owned()]).unwrap();
    (certificate.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

#[test]
fn secrets_among_manifests() {
    let (certificate, key) = pem();
    let indent = |text: &str| text.replace('\n', "\n    ");
    let yaml = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: c, namespace: ns}}\nstringData:\n  tls.crt: |\n    {}\n  tls.key: |\n    {}\n---\n\
         apiVersion: v1\nkind: Secret\nmetadata: {{name: c-cacert, namespace: ns}}\nstringData:\n  cacert: |\n    {}\n",
        indent(&certificate),
        indent(&key),
        indent(&certificate)
    );
    let mut manifests = Manifests::default();
    mesh_core::yaml::read("test.yaml", &yaml).0.iter().for_each(|resource| manifests.add(resource));
    let secrets = Secrets::default();
    let name = |namespace: &str| SecretRef::Credential { namespace: namespace.into(), name: "c".into() };
    let watches = [
        secrets_watch(&secrets, &name("ns")),
        secrets_watch(&secrets, &SecretRef::CredentialRoots { namespace: "ns".into(), name: "c".into() }),
        // Nobody gets Secrets of other namespaces.
        secrets_watch(&secrets, &name("other")),
    ];
    manifests.deliver(&secrets);
    assert!(matches!(&*watches[0].borrow(), SecretState::Ready(Material::Identity(_))), "{:?}", watches[0]);
    assert!(matches!(&*watches[1].borrow(), SecretState::Ready(Material::Roots(_))), "{:?}", watches[1]);
    assert!(matches!(&*watches[2].borrow(), SecretState::Missing(_)), "{:?}", watches[2]);
    assert!(!format!("{watches:?} {manifests:?}").contains("PRIVATE"), "keys are not printed");
}

fn secrets_watch(secrets: &Secrets, name: &SecretRef) -> tokio::sync::watch::Receiver<SecretState> {
    mesh_tls::SecretSource::watch(secrets, name)
}

#[tokio::test]
async fn files_are_delivered_when_they_appear_and_when_they_change() {
    let folder = std::env::temp_dir().join(format!("mesh-secrets-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = |name: &str| Arc::<str>::from(folder.join(name).to_string_lossy());
    let secrets = Arc::new(Secrets::default());
    let name = SecretRef::Files { certificate: path("tls.crt"), key: path("tls.key") };
    let mut watch = secrets_watch(&secrets, &name);
    let delivering = tokio::spawn(deliver_files(secrets.clone(), Own::Nobody));
    watch.wait_for(|s| matches!(s, SecretState::Missing(_))).await.unwrap();
    let (certificate, key) = pem();
    std::fs::write(&*path("tls.key"), key).unwrap();
    std::fs::write(&*path("tls.crt"), certificate).unwrap();
    watch.wait_for(|s| matches!(s, SecretState::Ready(_))).await.unwrap();
    // A key of another certificate is refused.
    std::fs::write(&*path("tls.key"), [pem().1, "\n".into()].concat()).unwrap();
    let state = watch.wait_for(|s| matches!(s, SecretState::Missing(_))).await.unwrap().clone();
    assert!(format!("{state:?}").contains("does not belong"), "{state:?}");
    delivering.abort();
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
async fn what_another_one_who_delivers_made_forgotten_is_delivered_again() {
    let folder = std::env::temp_dir().join(format!("mesh-secrets-again-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = |name: &str| Arc::<str>::from(folder.join(name).to_string_lossy());
    let (certificate, key) = pem();
    std::fs::write(&*path("tls.key"), key).unwrap();
    std::fs::write(&*path("tls.crt"), certificate).unwrap();
    let secrets = Arc::new(Secrets::default());
    let name = SecretRef::Files { certificate: path("tls.crt"), key: path("tls.key") };
    let delivering = tokio::spawn(deliver_files(secrets.clone(), Own::Nobody));
    for _ in 0..2 {
        let mut watch = secrets_watch(&secrets, &name);
        watch.wait_for(|s| matches!(s, SecretState::Ready(_))).await.unwrap();
        drop(watch);
        // The other one looks what is wanted; nobody tells the first one before it is wanted again.
        assert!(secrets.wanted().is_empty());
    }
    delivering.abort();
    std::fs::remove_dir_all(folder).unwrap();
}

/// Whoever may write a rule may name any path.
#[test]
fn what_is_no_file_of_usual_size_is_not_read() {
    let folder = std::env::temp_dir().join(format!("mesh-secrets-odd-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
    std::fs::File::create(path("large")).unwrap().set_len(MAX_FILE + 1).unwrap();
    let pipe = std::process::Command::new("mkfifo").arg(path("pipe")).status().is_ok_and(|s| s.success());
    let mut table = vec![
        ("/dev/zero".to_owned(), "no regular file"),
        (path("socket"), "no regular file"),
        (path(""), "no regular file"),
        (path("large"), "larger than"),
        (path("none"), "No such file"),
    ];
    if pipe {
        table.push((path("pipe"), "no regular file"));
    }
    for (path, why) in table {
        let roots = SecretRef::RootsFile { roots: Some(path.as_str().into()), crl: None };
        let said = read(&roots).unwrap_err().to_string();
        assert!(said.starts_with(&path) && said.contains(why), "{said}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
async fn the_own_identity_in_files() {
    let folder = std::env::temp_dir().join(format!("mesh-secrets-own-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let variable = |name: &str| {
        let file = match name {
            "ISTIO_META_TLS_CLIENT_CERT_CHAIN" => "chain.pem",
            "ISTIO_META_TLS_CLIENT_KEY" => "key.pem",
            "ISTIO_META_TLS_CLIENT_ROOT_CERT" => "roots.pem",
            _ => return None,
        };
        Some(path(file))
    };
    let (certificate, key) = pem();
    for (file, text) in [("chain.pem", &certificate), ("key.pem", &key), ("roots.pem", &certificate)] {
        std::fs::write(path(file), text).unwrap();
    }
    assert_eq!(Own::of_variables(|name| variable(name).filter(|p| !p.ends_with("key.pem"))), Own::Nobody);
    let own = Own::of_variables(variable);
    for (own, there) in [(own, true), (Own::Nobody, false)] {
        let secrets = Arc::new(Secrets::default());
        let mut identity = secrets_watch(&secrets, &SecretRef::Workload);
        let mut roots = secrets_watch(&secrets, &SecretRef::MeshRoots);
        let delivering = tokio::spawn(deliver_files(secrets, own));
        let known = |s: &SecretState| !matches!(s, SecretState::Pending);
        let identity = identity.wait_for(known).await.unwrap().clone();
        let roots = roots.wait_for(known).await.unwrap().clone();
        assert_eq!(matches!(identity, SecretState::Ready(Material::Identity(_))), there, "{identity:?}");
        assert_eq!(matches!(roots, SecretState::Ready(Material::Roots(_))), there, "{roots:?}");
        delivering.abort();
    }
    std::fs::remove_dir_all(folder).unwrap();
}
