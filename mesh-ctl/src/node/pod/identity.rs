//! The identity of a pod: its service account's. The proxy proves it with a token that is written into the pod's own
//! memory, for its user alone, and goes with it.

use std::sync::Arc;

use mesh_proxy::csr::{CsrServer, ENV_TOKEN_PATH, TOKEN_FILE};
use mesh_tls::SpiffeId;

use super::Life;
use crate::localmesh::{Mode, PodFile};
use crate::node::plan::ProxyRole;

impl Life {
    fn identity(&self) -> SpiffeId {
        let spec = &self.plan.object.spec;
        let account = [&spec.service_account_name, &spec.service_account].into_iter().find(|a| !a.is_empty());
        let world = self.mesh.state().published.world.clone();
        let account = account.map_or("default", String::as_str);
        SpiffeId::new(&world.mesh().spec.trust_domain, &self.plan.key.namespace, account)
    }

    /// Without a mount namespace of its own a pod has no place for a token.
    fn has_token(&self) -> bool {
        self.plan.role != ProxyRole::None && self.mesh.mode() == Mode::Namespaces
    }

    /// The proxy's token, for a pod that is being made.
    pub(super) fn token(&self) -> Result<Option<PodFile>, String> {
        if !self.has_token() {
            return Ok(None);
        }
        let token = self.mesh.ca.admit(self.identity(), &self.plan.key.to_string()).map_err(|e| e.to_string())?;
        Ok(Some(PodFile { path: TOKEN_FILE.into(), content: token.expose().as_bytes().to_vec(), mode: 0o600 }))
    }

    /// The CA as the proxy's connection reaches it. The connection was made for this proxy alone, so that it is proof enough
    /// where there is no token.
    pub(super) fn desk(&self) -> Arc<dyn CsrServer> {
        match self.has_token() {
            true => self.mesh.ca.desk(&self.plan.key.to_string()),
            false => self.mesh.ca.desk_of(self.identity()),
        }
    }

    /// Variables that tell the proxy who it is.
    pub(super) fn identity_settings(&self) -> Vec<(String, String)> {
        let id = self.identity();
        let mut env = vec![
            ("SERVICE_ACCOUNT".to_owned(), id.service_account().to_owned()),
            ("TRUST_DOMAIN".to_owned(), id.trust_domain().to_owned()),
        ];
        env.extend(self.has_token().then(|| (ENV_TOKEN_PATH.to_owned(), TOKEN_FILE.to_owned())));
        env
    }
}
