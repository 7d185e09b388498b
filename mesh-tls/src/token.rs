//! Tokens by which workloads prove to the CA who they are, where there is no Kubernetes that could.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::RwLock;
use zeroize::Zeroizing;

use crate::{CaError, SpiffeId};

/// A bearer token. It is not printed.
#[derive(Clone)]
pub struct Token(Zeroizing<String>);

impl Token {
    /// The text, for the workload's token file.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Whom a token stands for.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Grant {
    id: SpiffeId,
    workload: Arc<str>,
}

/// Tokens that are valid now. Each stands for one identity of one workload, and ends with that workload. Only digests are
/// kept: neither a dump of the table nor the time that a look-up takes says anything about a token.
///
/// ```
/// use mesh_tls::{SpiffeId, Tokens};
///
/// let tokens = Tokens::default();
/// let id = SpiffeId::new("cluster.local", "default", "sleep");
/// let token = tokens.issue(id.clone(), "sleep-1").unwrap();
/// let header = format!("Bearer {}", token.expose());
/// assert_eq!(tokens.authenticate(Some(&header), "sleep-1").unwrap(), id);
/// assert!(tokens.authenticate(Some(&header), "another-workload").is_err());
/// tokens.revoke("sleep-1");
/// assert!(tokens.authenticate(Some(&header), "sleep-1").is_err());
/// ```
#[derive(Default)]
pub struct Tokens(RwLock<BTreeMap<[u8; 32], Grant>>);

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens({})", self.0.read().len())
    }
}

impl Tokens {
    /// A new token, 256 random bits. Earlier ones of the same workload go on, so that a file can be replaced.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn issue(&self, id: SpiffeId, workload: &str) -> Result<Token, CaError> {
        let mut bits = Zeroizing::new([0; 32]);
        SystemRandom::new().fill(&mut *bits).map_err(|_| CaError::Signer("there is no randomness".into()))?;
        let token = Token(Zeroizing::new(URL_SAFE_NO_PAD.encode(*bits)));
        self.0.write().insert(key(token.expose()), Grant { id, workload: workload.into() });
        Ok(token)
    }

    /// Ends all tokens of a workload.
    pub fn revoke(&self, workload: &str) {
        self.0.write().retain(|_, grant| &*grant.workload != workload);
    }

    /// Whose `authorization: Bearer TOKEN` it is. `workload` is who the connection belongs to: a token that was stolen from
    /// another one is of no use.
    ///
    /// # Errors
    /// It is nobody's; the reason is for the CA's log.
    pub fn authenticate(&self, authorization: Option<&str>, workload: &str) -> Result<SpiffeId, CaError> {
        let refuse = |why: &str| CaError::Unauthenticated(why.to_owned());
        let header = authorization.ok_or_else(|| refuse("there is no token"))?;
        let token = header.strip_prefix("Bearer ").ok_or_else(|| refuse("it is no bearer token"))?;
        let tokens = self.0.read();
        let grant = tokens.get(&key(token.trim())).ok_or_else(|| refuse("the token is not known"))?;
        match &*grant.workload == workload {
            true => Ok(grant.id.clone()),
            false => Err(CaError::Unauthenticated(format!("{workload} shows the token of {}", grant.workload))),
        }
    }
}

fn key(token: &str) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_of_one_workload_and_are_not_printed() {
        let tokens = Tokens::default();
        let id = SpiffeId::new("cluster.local", "default", "a");
        let (one, two) = (tokens.issue(id.clone(), "a-1").unwrap(), tokens.issue(id, "a-1").unwrap());
        assert_ne!(one.expose(), two.expose());
        assert_eq!(one.expose().len(), 43);
        assert!(!format!("{one:?} {tokens:?}").contains(one.expose()));
        let with = |scheme: &str| format!("{scheme}{}", one.expose());
        for (header, workload, fine) in [
            (Some(with("Bearer ")), "a-1", true),
            (Some(with("Bearer ") + "\n"), "a-1", true),
            (Some(with("Bearer ")), "b-1", false),
            (Some(with("Bearer ")), "", false),
            (Some(with("Basic ")), "a-1", false),
            (Some(with("")), "a-1", false),
            (Some("Bearer ".to_owned()), "a-1", false),
            (Some("Bearer AAAA".to_owned()), "a-1", false),
            (None, "a-1", false),
        ] {
            assert_eq!(tokens.authenticate(header.as_deref(), workload).is_ok(), fine, "{header:?} {workload}");
        }
    }
}
