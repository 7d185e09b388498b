//! Authentication and authorization decisions of the mesh.
//!
//! A decision is a pure function from what is known about a request to a [`Decision`]; the Layers that ask for it, and
//! the compilers that turn policies into it, are built on these types. Transport that a decision needs (fetching JSON
//! Web Key Sets, asking an external authorizer) is behind [`KeySetSource`] and [`ExternalAuthorizer`], which mesh-proxy
//! implements.
//!
//! When in doubt, closed: [`Decision`] has no default, and an error on the way to one is a denial.

#![forbid(unsafe_code)]

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;

use mesh_core::matching::RequestFacts;

/// What a policy may look at.
#[derive(Clone, Copy, Debug)]
pub struct PolicyInput<'a> {
    /// Address of the TCP peer.
    pub source_ip: IpAddr,
    /// Address of the client as `x-forwarded-for` and trusted hops give it.
    pub remote_ip: IpAddr,
    /// Destination port.
    pub destination_port: u16,
    /// SNI; empty: none.
    pub sni: &'a str,
    /// Authenticated peer, without `spiffe://`; `None`: plaintext.
    pub principal: Option<&'a str>,
    /// `None` on a TCP connection.
    pub request: Option<RequestFacts<'a>>,
}

/// What a policy says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decision {
    /// Go on.
    Allow,
    /// Refuse, and say which policy did: `ns[foo]-policy[x]-rule[0]`, or `none` when nothing allowed it.
    Deny {
        /// Policy and rule, in Envoy's form.
        rule: Arc<str>,
    },
}

/// An ordered set of policies, compiled.
pub trait Authorize: Send + Sync {
    /// Decides.
    fn decide(&self, input: &PolicyInput<'_>) -> Decision;
}

/// Fetches a JSON Web Key Set.
pub trait KeySetSource: Send + Sync + 'static {
    /// The document behind a `jwksUri`.
    fn fetch(&self, uri: &str) -> impl Future<Output = Result<Arc<[u8]>, String>> + Send;
}

/// Asks an external authorizer (`CUSTOM`).
pub trait ExternalAuthorizer: Send + Sync + 'static {
    /// Decides, or says why it can't; the caller treats that as a denial unless the provider is configured open.
    fn check(&self, provider: &str, input: &PolicyInput<'_>) -> impl Future<Output = Result<Decision, String>> + Send;
}
