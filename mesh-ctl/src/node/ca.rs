//! The local mesh's CA. Its root is made when the mesh comes up and is nowhere but in this process, unless the manifests have
//! one: the Secret `cacerts` of the root namespace, as Istio's CA has it.
//!
//! A workload proves who it is twice: by its token, which is written into its pod alone, and by the connection on which it
//! asks, which the node made for that pod. A token that was stolen from another pod is of no use.

use std::sync::Arc;
use std::time::Duration;

use mesh_core::api::Key;
use mesh_core::env::Env;
use mesh_proxy::csr::{CertificateRequest, CsrServer};
use mesh_tls::{
    Authority, AuthorityConfig, CaError, CertificateInfo, KeyKind, Rotation, SecretData, SpiffeId, Token, Tokens,
};

use super::ops::rfc3339;
use crate::control::{CaStatus, RootStatus};

/// Whether an object is the Secret with the operator's root.
pub fn is_cacerts(key: &Key) -> bool {
    (&*key.kind.kind, &*key.namespace, &*key.name) == ("Secret", "istio-system", "cacerts")
}

/// The authority with the tokens of the workloads that run.
#[derive(Debug)]
pub struct Ca {
    authority: Authority,
    tokens: Tokens,
}

impl Ca {
    /// With a new root for this trust domain, of the kind that Istio's own CA makes.
    ///
    /// # Errors
    /// No key can be made.
    pub fn new(trust_domain: &str, env: Arc<dyn Env>) -> Result<Self, CaError> {
        let config =
            AuthorityConfig { organization: trust_domain.into(), key: KeyKind::Rsa2048, ..AuthorityConfig::default() };
        Ok(Self { authority: Authority::self_signed(config, env)?, tokens: Tokens::default() })
    }

    /// With the operator's root, of the data of the Secret `cacerts`.
    ///
    /// # Errors
    /// It can't be used.
    pub fn plugged_in(data: &SecretData, env: Arc<dyn Env>) -> Result<Self, CaError> {
        let authority = Authority::plugged_in(data, AuthorityConfig::default(), env)?;
        Ok(Self { authority, tokens: Tokens::default() })
    }

    /// Takes that Secret when it has changed; what there is to say about it.
    pub fn replace(&self, data: &SecretData) -> String {
        match self.authority.replace(data) {
            Ok(()) => "the CA signs with it from now on".into(),
            Err(error) => format!("the CA goes on with what it has: {error}; `meshctl up` would begin with this one"),
        }
    }

    /// The authority: its roots, and the steps that it takes from one to the next.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The same for people.
    pub fn status(&self) -> CaStatus {
        let authority = &self.authority;
        authority.maintain();
        let rotation = match authority.rotation() {
            Rotation::Stable => "stable",
            Rotation::Announced => "announced",
            Rotation::Retiring => "retiring",
        };
        // The signer's comes first.
        let roots = CertificateInfo::of_pem(&authority.trust_bundle().borrow());
        let root = |(at, info): (usize, &CertificateInfo)| RootStatus {
            subject: info.subject.to_string(),
            serial: info.serial.to_string(),
            not_after: rfc3339(info.not_after),
            signs: at == 0,
        };
        CaStatus { rotation: rotation.into(), roots: roots.iter().enumerate().map(root).collect() }
    }

    /// A token for the proxy of a pod that begins.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn admit(&self, id: SpiffeId, workload: &str) -> Result<Token, CaError> {
        self.tokens.issue(id, workload)
    }

    /// Ends the tokens of a pod that has gone.
    pub fn dismiss(&self, workload: &str) {
        self.tokens.revoke(workload);
    }

    /// What the proxy of one pod talks to, on its own connection.
    pub fn desk(self: &Arc<Self>, workload: &str) -> Arc<dyn CsrServer> {
        Arc::new(Desk { ca: Arc::clone(self), caller: Caller::Shows(workload.into()) })
    }

    /// The same where the connection is all the proof that there is.
    pub fn desk_of(self: &Arc<Self>, id: SpiffeId) -> Arc<dyn CsrServer> {
        Arc::new(Desk { ca: Arc::clone(self), caller: Caller::Is(id) })
    }
}

/// Who is at the other end.
enum Caller {
    /// Whom a token of this workload says.
    Shows(Arc<str>),
    /// This one.
    Is(SpiffeId),
}

struct Desk {
    ca: Arc<Ca>,
    caller: Caller,
}

impl CsrServer for Desk {
    fn sign(&self, authorization: Option<&str>, request: &CertificateRequest) -> Result<Vec<String>, CaError> {
        let id = match &self.caller {
            Caller::Shows(workload) => self.ca.tokens.authenticate(authorization, workload)?,
            Caller::Is(id) => id.clone(),
        };
        // Only the proxies of nodes may ask for others' identities (`CA_TRUSTED_NODE_ACCOUNTS`), and here are none.
        if let Some(other) = request.impersonated() {
            return Err(CaError::Unauthenticated(format!("{id} asks for the identity of {other}")));
        }
        let seconds = u64::try_from(request.validity_duration).unwrap_or(0);
        self.ca.authority.issue(&id, request.csr.as_bytes(), Duration::from_secs(seconds))
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use mesh_proxy::csr::{CsrClient, Redial, serve};
    use mesh_proxy::discovery::proto::{Struct, Value};
    use mesh_tls::{CertManager, CertSource, CertState, RotationConfig};

    use super::*;

    struct FixedEnv;

    impl Env for FixedEnv {
        fn now(&self) -> SystemTime {
            SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
        }

        fn random(&self) -> u64 {
            7
        }
    }

    fn account(name: &str) -> SpiffeId {
        SpiffeId::new("cluster.local", "default", name)
    }

    fn ca() -> Arc<Ca> {
        Arc::new(Ca::new("cluster.local", Arc::new(FixedEnv)).unwrap())
    }

    /// The state after the first answer for a proxy of `workload` that believes to be `id` and has this token.
    async fn ask(ca: &Arc<Ca>, workload: &str, id: SpiffeId, token: &Token) -> CertState {
        let file = std::env::temp_dir().join(format!("mesh-ca-{}", std::process::id()));
        std::fs::write(&file, token.expose()).unwrap();
        let (ca, workload) = (Arc::clone(ca), workload.to_owned());
        let dial = move || {
            let (ours, theirs) = tokio::io::duplex(1 << 16);
            tokio::spawn(serve(theirs, ca.desk(&workload)));
            std::future::ready(Ok::<_, std::io::Error>(ours))
        };
        let client = CsrClient::new(Redial(dial), Some(file.clone()), "Kubernetes");
        let (manager, handle) = CertManager::new(id, client, RotationConfig::default(), Arc::new(FixedEnv));
        let mut state = handle.watch();
        let answered = async { state.wait_for(|s| !matches!(s, CertState::Waiting)).await.unwrap().clone() };
        let state = tokio::select! {
            () = manager.run() => unreachable!("it runs for ever"),
            state = answered => state,
        };
        std::fs::remove_file(file).unwrap();
        state
    }

    #[tokio::test]
    async fn a_pod_gets_its_own_identity_and_no_other() {
        let ca = ca();
        let (a, b) = (ca.admit(account("a"), "default/a-1").unwrap(), ca.admit(account("b"), "default/b-1").unwrap());
        let CertState::Issued(cert) = ask(&ca, "default/a-1", account("a"), &a).await else { panic!("refused") };
        assert_eq!(cert.id, account("a"));
        for (workload, id, token, why) in [
            ("default/a-1", account("a"), &b, "request authenticate failure"),
            ("default/b-1", account("a"), &a, "request authenticate failure"),
            // The proxy finds out that it is somebody else than it was told.
            ("default/a-1", account("b"), &a, "instead of spiffe://cluster.local/ns/default/sa/b"),
        ] {
            match ask(&ca, workload, id, token).await {
                CertState::Failed(said) => assert!(said.to_string().contains(why), "{said}"),
                other => panic!("{other:?}"),
            }
        }
        ca.dismiss("default/a-1");
        assert!(matches!(ask(&ca, "default/a-1", account("a"), &a).await, CertState::Failed(_)));
    }

    #[test]
    fn nobody_speaks_for_others() {
        let ca = ca();
        let token = ca.admit(account("a"), "default/a-1").unwrap();
        let header = format!("Bearer {}", token.expose());
        let value = Value { string_value: Some(account("b").to_string()) };
        let metadata = Some(Struct { fields: [("ImpersonatedIdentity".to_owned(), value)].into() });
        let request = CertificateRequest { csr: String::new(), validity_duration: -1, metadata };
        let said = ca.desk("default/a-1").sign(Some(&header), &request);
        assert!(matches!(said, Err(CaError::Unauthenticated(_))), "{said:?}");
    }

    /// The Secret `cacerts` with an authority that rcgen makes.
    fn cacerts(names: [&str; 3]) -> (String, SecretData) {
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "operator");
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        let contents = [&certificate, &key.serialize_pem(), &certificate].map(|text| text.clone().into_bytes());
        let data = names.map(String::from).into_iter().zip(contents).collect();
        (certificate, SecretData(data))
    }

    #[test]
    fn the_operators_root_in_either_layout() {
        for names in [["ca-cert.pem", "ca-key.pem", "root-cert.pem"], ["tls.crt", "tls.key", "ca.crt"]] {
            let ((root, data), (_, other)) = (cacerts(names), cacerts(names));
            let ca = Ca::plugged_in(&data, Arc::new(mesh_proxy::net::HostEnv)).unwrap();
            assert_eq!(ca.authority().trust_bundle().borrow().replace('\r', ""), root.replace('\r', ""));
            assert!(ca.status().roots[0].subject.contains("O=operator"), "{:?}", ca.status());
            assert_eq!(ca.replace(&data), "the CA signs with it from now on");
            let said = ca.replace(&other);
            assert!(
                said.starts_with("the CA goes on with what it has: ") && said.contains("the roots are others"),
                "{said}"
            );
            assert!(ca.authority().rotate_root().is_err(), "it is not its own");
        }
        let (_, SecretData(mut broken)) = cacerts(["ca-cert.pem", "ca-key.pem", "root-cert.pem"]);
        broken.remove("ca-key.pem");
        assert!(Ca::plugged_in(&SecretData(broken), Arc::new(FixedEnv)).is_err());
        let key = |namespace: &str, name: &str| Key::new(mesh_core::api::Kind::new("", "Secret"), namespace, name);
        assert!(is_cacerts(&key("istio-system", "cacerts")) && !is_cacerts(&key("default", "cacerts")));
    }
}
