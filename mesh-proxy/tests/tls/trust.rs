//! Workloads of another mesh, for which its own authority vouches (`caCertificates`).

use std::sync::Arc;

use mesh_core::snapshot::TlsParameters;
use mesh_proxy::net::HostEnv;
use mesh_tls::{
    Authority, AuthorityConfig, Carries, CertHandle, CertManager, CertSource, CertState, MtlsConnector, MtlsUpstream,
    RotationConfig, SecretRef, SecretState, Secrets, SpiffeId, TrustDomains, deliver_with,
};
use serde_json::json;

use crate::mesh::{CLIENT, Mesh, SERVER, strict};
use crate::running::{get, plain_upstream};

fn authority() -> Arc<Authority> {
    Arc::new(Authority::self_signed(AuthorityConfig::default(), Arc::new(HostEnv)).unwrap())
}

async fn identity(ca: &Arc<Authority>, uri: &str) -> CertHandle {
    let id: SpiffeId = uri.parse().unwrap();
    let (manager, handle) = CertManager::new(id, Arc::clone(ca), RotationConfig::default(), Arc::new(HostEnv));
    tokio::spawn(manager.run());
    handle.watch().wait_for(|s| matches!(s, CertState::Issued(_))).await.unwrap();
    handle
}

/// What a client with this certificate gets from the server.
async fn answer(mesh: &Mesh, ours: &Arc<Authority>, ca: &Arc<Authority>, uri: &str) -> Result<String, String> {
    let (shown, known) = (identity(ca, uri).await, identity(ours, CLIENT).await);
    let secrets = Secrets::default();
    let upstream = MtlsUpstream {
        host: "server".into(),
        port: 80,
        subset: "".into(),
        accounts: vec![SERVER.into()],
        parameters: TlsParameters::mesh(false, []),
    };
    let connector = MtlsConnector::new(&upstream, &TrustDomains::default(), &secrets);
    let own = mesh_tls::Material::Identity(shown.current().unwrap().identity.clone());
    let roots = mesh_tls::Material::Roots(known.current().unwrap().roots.clone());
    secrets.set(&SecretRef::Workload, SecretState::Ready(own));
    secrets.set(&SecretRef::MeshRoots, SecretState::Ready(roots));
    let connected = connector.connect(mesh.server.connect().await, Carries::Http1).await;
    let (mut stream, _) = connected.map_err(|e| e.to_string())?;
    get(&mut stream, "server").await
}

#[tokio::test]
async fn another_authority_vouches_for_its_own_workloads_only() {
    let (ours, theirs) = (authority(), authority());
    let mesh = Mesh::nobody("HTTP", plain_upstream().await, &strict()).await;
    let (handle, secrets) = (identity(&ours, SERVER).await, Arc::clone(&mesh.server.secrets));
    let others = mesh.server.shared.http.runtime().tls.authorities();
    tokio::spawn(async move { deliver_with(&handle, &secrets, others).await });
    let of_them = "spiffe://td2/ns/default/sa/client";
    let pem = theirs.trust_bundle().borrow().to_string();
    let settings = |certificates: serde_json::Value| {
        let text = json!({ "caCertificates": certificates }).to_string();
        format!(
            "{}---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata: {{mesh: {}}}\n",
            strict(),
            json!(text)
        )
    };
    let of_td2 = settings(json!([{ "pem": pem, "trustDomains": ["td2"] }]));
    let of_all = settings(json!([{ "pem": pem }]));
    // Who can't be asked vouches for nobody, and nobody else does instead.
    let broken = "-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n";
    let of_broken = settings(json!([{ "pem": broken, "trustDomains": ["td2"] }]));
    let of_bundle = settings(json!([{ "spiffeBundleUrl": "https://td2.example", "trustDomains": ["td2"] }]));
    for (policy, ca, uri, welcome, what) in [
        (strict(), &ours, CLIENT, true, "our own"),
        (strict(), &theirs, of_them, false, "nobody knows them"),
        (of_td2.clone(), &theirs, of_them, true, "they are vouched for"),
        (of_td2.clone(), &ours, CLIENT, true, "our own as before"),
        (of_td2.clone(), &theirs, CLIENT, false, "they can't vouch for one of ours"),
        (of_td2, &ours, of_them, false, "nor we for one of theirs"),
        (of_broken, &ours, of_them, false, "nor where theirs can't be read"),
        (of_bundle, &ours, of_them, false, "nor where theirs are not known"),
        (of_all.clone(), &theirs, CLIENT, true, "without a domain they may"),
        (of_all, &theirs, of_them, false, "but not for a domain that nobody has named"),
        (strict(), &theirs, CLIENT, false, "not any more"),
    ] {
        mesh.server.configure(&mesh.yaml(&policy));
        // The authorities are delivered by a task of their own.
        let answered = async {
            loop {
                let answer = answer(&mesh, &ours, ca, uri).await;
                let good = answer.as_ref().is_ok_and(|a| a.starts_with("HTTP/1.1 200"));
                if good == welcome {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        assert!(tokio::time::timeout(std::time::Duration::from_secs(30), answered).await.is_ok(), "{what}");
    }
}
