//! Who is who: a CA in this process, and certificates that are kept fresh. Elsewhere a `CertSigner` over the network takes
//! the CA's place.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::SystemTime;

use mesh_core::env::Env;
use mesh_tls::{
    Authority, AuthorityConfig, CertManager, CertSource, CertState, RotationConfig, Secrets, SpiffeId, deliver,
};

use crate::{CaError, Error};

/// The world outside the pure code.
pub(crate) struct World;

impl Env for World {
    #[allow(clippy::disallowed_methods, reason = "this is where the clock comes from")]
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn random(&self) -> u64 {
        RandomState::new().hash_one(0)
    }
}

pub(crate) fn ca() -> Result<Arc<Authority>, CaError> {
    Ok(Arc::new(Authority::self_signed(AuthorityConfig::default(), Arc::new(World))?))
}

/// The identity of a service account, with the mesh's roots.
pub(crate) async fn identity(ca: &Arc<Authority>, account: &str) -> Result<Arc<Secrets>, Error> {
    let id = SpiffeId::new("cluster.local", "default", account);
    let (manager, handle) = CertManager::new(id, Arc::clone(ca), RotationConfig::default(), Arc::new(World));
    let secrets = Arc::new(Secrets::default());
    tokio::spawn(manager.run());
    let (source, into) = (handle.clone(), Arc::clone(&secrets));
    tokio::spawn(async move { deliver(&source, &into).await });
    handle.watch().wait_for(|state| matches!(state, CertState::Issued(_))).await?;
    Ok(secrets)
}
