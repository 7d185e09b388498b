//! The security policies of a snapshot, compiled: once for each change of them, and shared by all listeners.

use std::sync::Arc;

use mesh_core::api::{AuthorizationPolicy, Object};
use mesh_core::env::Env;
use mesh_core::snapshot::{AuthorizerPlan, Direction, ListenerKey, ProviderPlan, SecurityPlan, Snapshot, security};
use mesh_policy::authz::{self, AuthzInput, Protocol};
use mesh_policy::ext_authz::Provider;
use mesh_policy::jwt::Authenticator;
use mesh_policy::layers::{
    AuthzConfig, AuthzLayer, ExtAuthzConfig, ExtAuthzLayer, JwtConfig, JwtLayer, StandingConfig, StandingLayer,
};
use mesh_policy::{Observer, Policies, egress};
use tokio::sync::watch;

use crate::cluster::Runtime;
use crate::ext_authz;
use crate::net::Net;
use crate::tcp::StreamPolicies;

/// Compiled policies.
pub(crate) struct Security {
    plan: Arc<SecurityPlan>,
    http: Arc<Policies>,
    /// For streams of bytes.
    pub(crate) bytes: Arc<StreamPolicies>,
    /// For requests of the own application.
    egress: Arc<Policies>,
    authenticator: Arc<Authenticator>,
    providers: Arc<[Provider]>,
    observer: Arc<dyn Observer>,
    env: Arc<dyn Env>,
    /// `http` and `egress`, and what comes after them.
    standing: [watch::Receiver<Arc<Policies>>; 2],
}

/// Policies about requests as they are in force from moment to moment: for what comes in, and for what the own application
/// asks of others.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    inbound: watch::Sender<Arc<Policies>>,
    outbound: watch::Sender<Arc<Policies>>,
}

impl Standing {
    /// Tells whoever has been let in by others. What is told so from now on has been asked of these.
    fn changes(&self, inbound: &Arc<Policies>, outbound: &Arc<Policies>) -> [watch::Receiver<Arc<Policies>>; 2] {
        [(&self.inbound, inbound), (&self.outbound, outbound)].map(|(all, now)| {
            all.send_if_modified(|old| {
                let other = !Arc::ptr_eq(old, now);
                *old = Arc::clone(now);
                other
            });
            all.subscribe()
        })
    }
}

impl Security {
    /// Of a plan; what is the same as before is taken over. Keys that rules fetch are on their way afterwards.
    ///
    /// `same_clusters`: those of the snapshot are those that `previous` was made for.
    pub(crate) fn of<N: Net>(
        snapshot: &Snapshot,
        runtime: &Arc<Runtime<N>>,
        (previous, same_clusters): (Option<&Arc<Security>>, bool),
    ) -> Arc<Self> {
        let plan = &snapshot.security;
        let asks = !plan.providers.is_empty();
        if let Some(old) = previous.filter(|p| Arc::ptr_eq(&p.plan, plan) && (same_clusters || !asks)) {
            return Arc::clone(old);
        }
        let old = previous.filter(|p| {
            security::same(&p.plan.authorization, &plan.authorization)
                && p.plan.trust_domains == plan.trust_domains
                && p.plan.providers == plan.providers
        });
        let compile = |policies: &[Arc<Object<AuthorizationPolicy>>], protocol| {
            let kind = |p: &Arc<ProviderPlan>| match p.speaks {
                AuthorizerPlan::Http(_) => authz::Provider::Http,
                AuthorizerPlan::Grpc => authz::Provider::Grpc,
            };
            let providers = plan.providers.iter().map(|p| (p.name.to_string(), kind(p))).collect();
            let trust_domains = &plan.trust_domains;
            Arc::new(Policies::compile(&AuthzInput { policies, protocol, trust_domains, providers: &providers }))
        };
        let (http, inbound) = match old {
            Some(old) => (Arc::clone(&old.http), Arc::clone(&old.bytes.inbound)),
            None => (compile(&plan.authorization, Protocol::Http), compile(&plan.authorization, Protocol::Tcp)),
        };
        let old = previous
            .filter(|p| security::same(&p.plan.egress, &plan.egress) && p.plan.trust_domains == plan.trust_domains);
        let (egress, outbound) = match old {
            Some(old) => (Arc::clone(&old.egress), Arc::clone(&old.bytes.outbound)),
            None => (compile(&plan.egress, Protocol::Http), compile(&egress::for_bytes(&plan.egress), Protocol::Tcp)),
        };
        let old = previous.filter(|p| security::same(&p.plan.authentication, &plan.authentication));
        let authenticator = match old {
            Some(old) => Arc::clone(&old.authenticator),
            None => Arc::new(runtime.authenticator(&plan.authentication)),
        };
        let (observer, env) = (runtime.denials.clone(), Arc::clone(&runtime.env));
        let providers = ext_authz::providers(snapshot, runtime);
        let (own, asked) = (plan.identity.clone(), Arc::clone(&providers));
        let bytes = Arc::new(StreamPolicies { inbound, outbound, own, providers: asked });
        let standing = runtime.standing.changes(&http, &egress);
        let plan = Arc::clone(plan);
        Arc::new(Self { plan, http, bytes, egress, authenticator, providers, observer, env, standing })
    }

    /// The policies of a listener.
    pub(crate) fn of_listener(self: &Arc<Self>, key: ListenerKey) -> Guards {
        match key.direction {
            Direction::Outbound => self.outwards(),
            Direction::Inbound => self.guards(None),
            // Users reach a gateway by another port than the one that its server has.
            Direction::Gateway => self.guards(Some(key.port)),
        }
    }

    /// What the own application may ask of others.
    fn outwards(&self) -> Guards {
        let (own, observer) = (self.plan.identity.clone(), Some(Arc::clone(&self.observer)));
        let [_, policies] = &self.standing;
        let standing = StandingConfig { policies: policies.clone(), port: None, own, observer };
        let StandingConfig { own, observer, .. } = standing.clone();
        let authz = self.egress.decides().then(|| {
            let config = AuthzConfig::new(Arc::clone(&self.egress));
            // Whoever can't be named is nobody: the connection's peer is the application, which shows no certificate.
            AuthzLayer::new(AuthzConfig { own, observer, ..config })
        });
        Guards { authz, standing: Some(StandingLayer::new(standing)), ..Guards::default() }
    }

    fn guards(&self, port: Option<u16>) -> Guards {
        let Self { plan: _, http: policies, bytes: _, egress: _, authenticator, providers, observer, env, standing } =
            self;
        let external = policies.has_custom().then(|| {
            let (policies, providers) = (Arc::clone(policies), Arc::clone(providers));
            ExtAuthzLayer::new(ExtAuthzConfig { policies, port, providers, observer: Some(Arc::clone(observer)) })
        });
        let jwt = (!authenticator.is_empty()).then(|| {
            let config = JwtConfig::new(Arc::clone(authenticator), Arc::clone(env));
            JwtLayer::new(JwtConfig { observer: Some(Arc::clone(observer)), ..config })
        });
        let authz = (policies.decides() || policies.has_notices()).then(|| {
            let config = AuthzConfig::new(Arc::clone(policies));
            AuthzLayer::new(AuthzConfig { port, observer: Some(Arc::clone(observer)), ..config })
        });
        let ([policies, _], observer) = (standing, Some(Arc::clone(observer)));
        let standing = StandingConfig { policies: policies.clone(), port, own: None, observer };
        Guards { external, jwt, authz, standing: Some(StandingLayer::new(standing)) }
    }
}

/// What fills the slots of policies; an empty one costs a request nothing.
#[derive(Default)]
pub(crate) struct Guards {
    pub(crate) external: Option<ExtAuthzLayer>,
    pub(crate) jwt: Option<JwtLayer>,
    pub(crate) authz: Option<AuthzLayer>,
    pub(crate) standing: Option<StandingLayer>,
}
