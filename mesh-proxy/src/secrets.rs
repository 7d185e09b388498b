//! Who delivers the key material that plans refer to: files beside the proxy, manifests of a standalone proxy, or the
//! control plane ([`crate::discovery::secrets`]). None of it is part of a plan, of a log line or of the configuration
//! channel's resources.

pub(crate) mod manifests;

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mesh_tls::{Identity, Material, PrivateKey, Roots, SecretError, SecretRef, SecretState, Secrets};
use tokio::time::{MissedTickBehavior, interval};

/// How often files are looked at.
const PERIOD: Duration = Duration::from_secs(1);
/// Largest file that is read; a distribution's authorities are a quarter of a megabyte.
const MAX_FILE: u64 = 4 << 20;
/// Where distributions keep the system's authorities.
const SYSTEM: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Where the proxy's own identity comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Own {
    /// Somebody else delivers it.
    Issued,
    /// These files hold it.
    Files { certificate: Arc<str>, key: Arc<str>, roots: Arc<str> },
    /// Nobody gives it one.
    Nobody,
}

impl Own {
    /// What a proxy without a CA has: the files that the variables of Istio's agent name, all three of them.
    pub(crate) fn of_variables(get: impl Fn(&str) -> Option<String>) -> Self {
        let get = |what| get(&format!("ISTIO_META_TLS_CLIENT_{what}")).filter(|path| !path.is_empty());
        match (get("CERT_CHAIN"), get("KEY"), get("ROOT_CERT")) {
            (Some(chain), Some(key), Some(roots)) => {
                Self::Files { certificate: chain.into(), key: key.into(), roots: roots.into() }
            }
            _ => Self::Nobody,
        }
    }

    /// The files that a reference stands for.
    fn resolve(&self, name: &SecretRef) -> SecretRef {
        match (self, name) {
            (Self::Files { certificate, key, .. }, SecretRef::Workload) => {
                SecretRef::Files { certificate: Arc::clone(certificate), key: Arc::clone(key) }
            }
            (Self::Files { roots, .. }, SecretRef::MeshRoots) => {
                SecretRef::RootsFile { roots: Some(Arc::clone(roots)), crl: None }
            }
            _ => name.clone(),
        }
    }
}

/// Delivers files for ever, again when they change; and says of what nobody delivers that it is not there.
pub(crate) async fn deliver_files(secrets: Arc<Secrets>, own: Own) {
    let mut wishes = secrets.wishes();
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen: BTreeMap<(SecretRef, u64), Vec<Stamp>> = BTreeMap::new();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            changed = wishes.changed() => if changed.is_err() { return },
        }
        let wanted = secrets.wanted_since();
        seen.retain(|wish, _| wanted.contains(wish));
        for (name, wish) in wanted {
            if own == Own::Issued && matches!(name, SecretRef::Workload | SecretRef::MeshRoots) {
                continue;
            }
            let files = own.resolve(&name);
            let Some(paths) = paths(&files) else { continue };
            let now: Vec<Stamp> = paths.iter().map(|p| stamp(p)).collect();
            let wish = (name, wish);
            if seen.get(&wish) == Some(&now) {
                continue;
            }
            let name = &wish.0;
            let state = match read(&files) {
                Ok(material) => SecretState::Ready(material),
                Err(error) => {
                    tracing::warn!(secret = %name, %error, "key material");
                    SecretState::Missing(error)
                }
            };
            secrets.set(name, state);
            seen.insert(wish, now);
        }
    }
}

/// What tells that a file has changed: `None`, it is not there.
type Stamp = Option<(SystemTime, u64)>;

fn stamp(path: &str) -> Stamp {
    let about = std::fs::metadata(path).ok()?;
    Some((about.modified().ok()?, about.len()))
}

/// The files of a reference; `None`: it is not for us. Nobody's identity is in no file.
fn paths(name: &SecretRef) -> Option<Vec<Arc<str>>> {
    Some(match name {
        SecretRef::Files { certificate, key } => vec![certificate.clone(), key.clone()],
        SecretRef::RootsFile { roots, crl } => {
            let roots = roots.clone().unwrap_or_else(system);
            std::iter::once(roots).chain(crl.clone()).collect()
        }
        SecretRef::Workload | SecretRef::MeshRoots => Vec::new(),
        SecretRef::Credential { .. } | SecretRef::CredentialRoots { .. } | SecretRef::ConfigMapRoots { .. } => {
            return None;
        }
    })
}

/// `SSL_CERT_FILE`, as other programs read it, else the distribution's file.
fn system() -> Arc<str> {
    if let Ok(path) = std::env::var("SSL_CERT_FILE") {
        return path.into();
    }
    SYSTEM.iter().find(|p| Path::new(p).exists()).map_or_else(|| SYSTEM[0].into(), |p| (*p).into())
}

/// The material of a reference to files.
///
/// # Errors
/// A file can't be read or used, or the reference is to something else than files.
pub fn read(name: &SecretRef) -> Result<Material, SecretError> {
    let file = |path: &str| contents(path).map_err(|e: io::Error| SecretError(format!("{path}: {e}")));
    match name {
        SecretRef::Files { certificate, key } => {
            let key = PrivateKey::from_pem(&file(key)?);
            Identity::from_pem(&file(certificate)?, &key).map(Material::Identity)
        }
        SecretRef::RootsFile { roots, crl } => {
            let roots = file(&roots.clone().unwrap_or_else(system))?;
            let crl = crl.as_ref().map(|c| file(c)).transpose()?;
            Roots::from_pem(&roots, crl.as_deref()).map(|r| Material::Roots(Arc::new(r)))
        }
        SecretRef::Workload | SecretRef::MeshRoots => {
            Err(SecretError("no CA gives this proxy an identity (SERVICE_ACCOUNT is not set), nor do files (ISTIO_META_TLS_CLIENT_CERT_CHAIN, \
                 …_KEY and …_ROOT_CERT)".into()))
        }
        SecretRef::Credential { .. } | SecretRef::CredentialRoots { .. } | SecretRef::ConfigMapRoots { .. } => {
            Err(SecretError("it is not a file".into()))
        }
    }
}

/// The contents of a file. The paths are those that some rule names, of whoever may write rules: what never ends, or never
/// begins (devices, pipes), must not hold up the proxy or fill its memory.
fn contents(path: &str) -> io::Result<Vec<u8>> {
    let about = std::fs::metadata(path)?;
    if !about.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("it is larger than {MAX_FILE} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
