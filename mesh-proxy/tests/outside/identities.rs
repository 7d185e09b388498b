//! The mesh's authority, and who has an identity of it: the proxies, and clients that have no proxy.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mesh_core::snapshot::{ProxyId, Sni, TlsParameters, UpstreamTls};
use mesh_core::world::World;
use mesh_proxy::csr::{CertificateRequest, CsrServer};
use mesh_proxy::net::HostEnv;
use mesh_tls::{
    Authority, AuthorityConfig, CaError, Carries, Connector, Identity, Material, MtlsUpstream, PrivateKey, Roots,
    SecretRef, SecretState, Secrets, SpiffeId, TlsStream, Tokens, TrustDomains,
};
use rcgen::{CertificateParams, KeyPair};
use tokio::io::{AsyncRead, AsyncWrite};

/// Whom clients without a proxy may be: workloads of several namespaces, one under another name of the trust domain, and
/// one of a domain that nobody trusts.
pub(crate) const CLIENTS: [&str; 5] = [
    "spiffe://cluster.local/ns/shop/sa/front",
    "spiffe://cluster.local/ns/back/sa/back",
    "spiffe://cluster.local/ns/other/sa/cron",
    "spiffe://old.example/ns/other/sa/cron",
    "spiffe://far.example/ns/shop/sa/front",
];

/// The authority.
pub(crate) struct Identities {
    authority: Authority,
    tokens: Tokens,
    proxies: Mutex<Vec<Arc<str>>>,
    clients: HashMap<&'static str, Shown>,
}

/// What a client shows.
struct Shown {
    identity: Identity,
    roots: Arc<Roots>,
}

impl Identities {
    pub(crate) fn new() -> Self {
        let authority = Authority::self_signed(AuthorityConfig::default(), Arc::new(HostEnv)).unwrap();
        let clients = CLIENTS.into_iter().map(|name| (name, shown(&authority, name))).collect();
        Self { authority, tokens: Tokens::default(), proxies: Mutex::default(), clients }
    }

    /// The service account of a proxy, and the file with its token.
    pub(crate) fn admit(&self, world: &World, id: &ProxyId, directory: &Path) -> (String, PathBuf) {
        let account = world.workload(&id.workload).expect("a workload").service_account.to_string();
        let token = self.tokens.issue(SpiffeId::new("cluster.local", &id.namespace, &account), &id.workload).unwrap();
        let file = directory.join(format!("token-{}", id.name));
        std::fs::write(&file, token.expose()).unwrap();
        self.proxies.lock().unwrap().push(id.workload.clone());
        (account, file)
    }

    /// The end of a client that shows one of [`CLIENTS`].
    pub(crate) async fn connect<S>(&self, stream: S, name: &str, sni: &str) -> std::io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let parameters = TlsParameters::default();
        let upstream = MtlsUpstream { host: sni.into(), port: 0, subset: "".into(), accounts: Vec::new(), parameters };
        let plan = UpstreamTls { sni: Sni::Name(sni.into()), ..upstream.plan(&TrustDomains::default()) };
        let secrets = Secrets::default();
        let connector = Connector::new(Arc::new(plan), &secrets);
        let Shown { identity, roots } = &self.clients[name];
        secrets.set(&SecretRef::Workload, SecretState::Ready(Material::Identity(identity.clone())));
        secrets.set(&SecretRef::MeshRoots, SecretState::Ready(Material::Roots(roots.clone())));
        connector.connect(stream, None, Carries::Http1).await.map_err(std::io::Error::other)
    }
}

fn shown(authority: &Authority, name: &str) -> Shown {
    let key = KeyPair::generate().unwrap();
    let request = CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
    let mut chain = authority.issue(&name.parse().unwrap(), request.as_bytes(), Duration::ZERO).unwrap();
    let roots = chain.pop().unwrap();
    let key = PrivateKey::from_pem(key.serialize_pem().as_bytes());
    Shown {
        identity: Identity::from_pem(chain.concat().as_bytes(), &key).unwrap(),
        roots: Arc::new(Roots::from_pem(roots.as_bytes(), None).unwrap()),
    }
}

impl CsrServer for Identities {
    fn sign(&self, authorization: Option<&str>, request: &CertificateRequest) -> Result<Vec<String>, CaError> {
        let proxies = self.proxies.lock().unwrap();
        let known = proxies.iter().find_map(|workload| self.tokens.authenticate(authorization, workload).ok());
        let id = known.ok_or_else(|| CaError::Unauthenticated("a token that nobody has".into()))?;
        self.authority.issue(&id, request.csr.as_bytes(), Duration::ZERO)
    }
}
