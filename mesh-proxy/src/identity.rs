//! The proxy's own identity: a certificate from the control plane's CA, kept fresh, for everything that follows
//! [`mesh_tls::SecretRef::Workload`]. Its settings are the variables of Istio's agent; `proxyMetadata` sets them.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mesh_core::env::Env;
use mesh_core::snapshot::ProxyId;
use mesh_tls::{CertHandle, CertManager, KeyKind, RotationConfig, SpiffeId, deliver_with};
use tokio::sync::watch;

use crate::csr::{CsrClient, ENV_TOKEN_PATH};
use crate::discovery::Channel;
use crate::tls::Tls;

/// Variable with the workload's service account; without it the proxy has no identity.
const SERVICE_ACCOUNT: &str = "SERVICE_ACCOUNT";
/// Variable with the trust domain; default `cluster.local`.
const TRUST_DOMAIN: &str = "TRUST_DOMAIN";

/// What the variables say.
#[derive(Clone, PartialEq, Debug)]
struct Settings {
    id: SpiffeId,
    token: Option<PathBuf>,
    rotation: RotationConfig,
}

impl Settings {
    /// `None`: the proxy has no identity.
    fn read(namespace: &str, get: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, String> {
        let get = |name: &str| get(name).filter(|v| !v.is_empty());
        let Some(account) = get(SERVICE_ACCOUNT) else { return Ok(None) };
        let domain = get(TRUST_DOMAIN).unwrap_or_else(|| "cluster.local".into());
        let default = RotationConfig::default();
        let number = |name: &str, default: f64| match get(name).map(|v| v.parse::<f64>()) {
            None => Ok(default),
            Some(Ok(n)) if (0.0..=1.0).contains(&n) => Ok(n),
            Some(_) => Err(format!("{name} is no number from 0 to 1")),
        };
        let validity = match get("SECRET_TTL").map(|v| v.parse::<mesh_core::api::Duration>()) {
            None => default.validity,
            Some(Ok(d)) if d.0 > Duration::ZERO => d.0,
            Some(_) => return Err("SECRET_TTL is no duration".into()),
        };
        let rotation = RotationConfig {
            key: key(&get)?,
            validity,
            grace_ratio: number("SECRET_GRACE_PERIOD_RATIO", default.grace_ratio)?,
            grace_jitter: number("SECRET_GRACE_PERIOD_RATIO_JITTER", default.grace_jitter)?,
            ..default
        };
        let id = SpiffeId::new(&domain, namespace, &account);
        Ok(Some(Self { id, token: get(ENV_TOKEN_PATH).map(PathBuf::from), rotation }))
    }
}

/// RSA-2048 as Istio's agents make it, unless `ECC_SIGNATURE_ALGORITHM` asks for ECDSA.
fn key(get: &impl Fn(&str) -> Option<String>) -> Result<KeyKind, String> {
    match get("ECC_SIGNATURE_ALGORITHM").as_deref() {
        None => match get("WORKLOAD_RSA_KEY_SIZE").as_deref() {
            None | Some("2048") => Ok(KeyKind::Rsa2048),
            Some(other) => Err(format!("WORKLOAD_RSA_KEY_SIZE {other} is not supported, only 2048")),
        },
        Some("ECDSA") => match get("ECC_CURVE").as_deref() {
            None | Some("P256") => Ok(KeyKind::EcdsaP256),
            Some("P384") => Ok(KeyKind::EcdsaP384),
            Some(other) => Err(format!("ECC_CURVE {other} is not known: P256 or P384")),
        },
        Some(other) => Err(format!("ECC_SIGNATURE_ALGORITHM {other} is not known, only ECDSA")),
    }
}

/// Starts to ask for certificates. `None`: the proxy is to have no identity.
///
/// # Errors
/// A variable is wrong.
pub(crate) fn start(id: &ProxyId, channel: Channel, env: &Arc<dyn Env>, tls: &Tls) -> io::Result<Option<CertHandle>> {
    let settings = Settings::read(&id.namespace, |name| std::env::var(name).ok()).map_err(io::Error::other)?;
    let Some(Settings { id, token, rotation }) = settings else { return Ok(None) };
    let bundle = channel.bundle();
    let signer = CsrClient::new(channel, token, "Kubernetes");
    let (manager, handle) = CertManager::new(id, signer, rotation, Arc::clone(env));
    tokio::spawn(keep_up(handle.clone(), bundle));
    let (secrets, others) = (Arc::clone(tls.secrets()), tls.authorities());
    tokio::spawn(manager.run());
    let delivered = handle.clone();
    tokio::spawn(async move { deliver_with(&delivered, &secrets, others).await });
    Ok(Some(handle))
}

/// Has the certificate renewed when the CA trusts something else than what came with it: other roots, or revocation lists.
async fn keep_up(handle: CertHandle, mut bundle: watch::Receiver<Option<Bytes>>) {
    while bundle.changed().await.is_ok() {
        let now = bundle.borrow_and_update().clone();
        let known = handle.current().map(|cert| Arc::clone(&cert.bundle));
        if let (Some(now), Some(known)) = (now, known)
            && *now != *known.as_bytes()
        {
            handle.renew();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn read(vars: &[(&str, &str)]) -> Result<Option<Settings>, String> {
        let vars: BTreeMap<_, _> = vars.iter().copied().collect();
        Settings::read("default", |name| vars.get(name).map(ToString::to_string))
    }

    #[test]
    fn the_agents_variables() {
        assert_eq!(read(&[]), Ok(None));
        let settings = read(&[(SERVICE_ACCOUNT, "sleep")]).unwrap().unwrap();
        assert_eq!(settings.id.to_string(), "spiffe://cluster.local/ns/default/sa/sleep");
        assert_eq!((settings.token, settings.rotation.key), (None, KeyKind::Rsa2048));
        assert_eq!(settings.rotation.validity, Duration::from_secs(86400));
        let settings = read(&[
            (SERVICE_ACCOUNT, "sleep"),
            (TRUST_DOMAIN, "td"),
            (ENV_TOKEN_PATH, "/t"),
            ("ECC_SIGNATURE_ALGORITHM", "ECDSA"),
            ("SECRET_TTL", "10s"),
            ("SECRET_GRACE_PERIOD_RATIO", "0.3"),
            ("SECRET_GRACE_PERIOD_RATIO_JITTER", "0"),
        ]);
        let settings = settings.unwrap().unwrap();
        assert_eq!(settings.id.to_string(), "spiffe://td/ns/default/sa/sleep");
        assert_eq!(settings.token, Some("/t".into()));
        let RotationConfig { key, validity, grace_ratio, grace_jitter, .. } = settings.rotation;
        assert_eq!((key, validity), (KeyKind::EcdsaP256, Duration::from_secs(10)));
        assert_eq!((grace_ratio, grace_jitter), (0.3, 0.0));
        for wrong in [
            ("ECC_SIGNATURE_ALGORITHM", "RSA"),
            ("WORKLOAD_RSA_KEY_SIZE", "1024"),
            ("SECRET_TTL", "0s"),
            ("SECRET_TTL", "x"),
            ("SECRET_GRACE_PERIOD_RATIO", "2"),
        ] {
            assert!(read(&[(SERVICE_ACCOUNT, "sleep"), wrong]).unwrap_err().contains(wrong.0));
        }
    }

    #[tokio::test]
    async fn another_bundle_has_the_certificate_renewed() {
        let env: Arc<dyn Env> = Arc::new(crate::net::HostEnv);
        let ca = mesh_tls::Authority::self_signed(mesh_tls::AuthorityConfig::default(), Arc::clone(&env)).unwrap();
        let known = Bytes::from(ca.trust_bundle().borrow().to_string());
        let id = SpiffeId::new("cluster.local", "default", "sleep");
        let (manager, handle) = CertManager::new(id, Arc::new(ca), RotationConfig::default(), env);
        let running = tokio::spawn(manager.run());
        let mut certs = mesh_tls::CertSource::watch(&handle);
        let mut issued = async || {
            certs.changed().await.unwrap();
            handle.status().issued
        };
        assert_eq!(issued().await, 1);
        let announced = watch::Sender::new(None);
        let keeping = tokio::spawn(keep_up(handle.clone(), announced.subscribe()));
        for (bundle, count) in [(Bytes::from_static(b"other"), 2), (known, 2), (Bytes::from_static(b"a third"), 3)] {
            let differs = bundle != handle.current().unwrap().bundle.as_bytes();
            announced.send_replace(Some(bundle));
            // One that is known already asks for nothing; the next one shows it.
            if differs {
                assert_eq!(issued().await, count);
            }
        }
        drop(announced);
        keeping.await.unwrap();
        running.abort();
    }
}
