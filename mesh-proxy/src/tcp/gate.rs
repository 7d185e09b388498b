//! Who may open streams of bytes here, and for how long.

use std::sync::Arc;

use mesh_core::record::{ConnInfo, Cx};
use mesh_policy::authz::Custom;
use mesh_policy::ext_authz::Provider;
use mesh_policy::{Decision, Denial, Notice, Observer, Peer, Policies, PolicyInput, Refusal};
use tokio::sync::watch;

/// Policies for streams of bytes.
#[derive(Clone, Debug, Default)]
pub struct StreamPolicies {
    /// For what comes to the own application, or through a gateway.
    pub(crate) inbound: Arc<Policies>,
    /// For what the own application asks of others.
    pub(crate) outbound: Arc<Policies>,
    /// Who that is, without `spiffe://`.
    pub(crate) own: Option<Arc<str>>,
    /// External authorizers.
    pub(crate) providers: Arc<[Provider]>,
}

/// What policies say of a connection.
enum Access {
    Open,
    Refused(Denial),
    /// An external authorizer has to say, which this rule wants to be asked.
    Ask(Box<Provider>, Arc<str>),
}

/// Why a connection is refused.
pub(crate) enum Closed {
    ByPolicies(Denial),
    ByAuthorizer { rule: Arc<str>, provider: Arc<str>, failure: Option<String> },
}

impl Closed {
    /// As `%CONNECTION_TERMINATION_DETAILS%` has it.
    pub(crate) fn details(&self) -> String {
        match self {
            Self::ByPolicies(denial) => denial.details(),
            Self::ByAuthorizer { failure: None, .. } => "ext_authz_denied".to_owned(),
            Self::ByAuthorizer { failure: Some(_), .. } => "ext_authz_error".to_owned(),
        }
    }
}

/// Policies for streams of bytes, as they are in force from moment to moment.
#[derive(Clone)]
pub struct Gate {
    policies: watch::Receiver<Arc<StreamPolicies>>,
    observer: Arc<dyn Observer>,
    /// Port that rules see, where it is not the one that the connection came to.
    port: Option<u16>,
    outbound: bool,
}

impl Gate {
    /// By the policies of this channel, for what comes in.
    pub fn new(policies: watch::Receiver<Arc<StreamPolicies>>, observer: Arc<dyn Observer>) -> Self {
        Self { policies, observer, port: None, outbound: false }
    }

    /// At a gateway's server of this port.
    #[must_use]
    pub(crate) fn at(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// For what the own application asks of others.
    #[must_use]
    pub(crate) fn outwards(mut self) -> Self {
        self.outbound = true;
        self
    }

    fn ask<T>(&self, conn: &ConnInfo, f: impl FnOnce(&Policies, &PolicyInput<'_>) -> T) -> T {
        let now = Arc::clone(&self.policies.borrow());
        let mut input = PolicyInput::connection(conn, conn.peer.ip());
        input.destination_port = self.port.unwrap_or(input.destination_port);
        if !self.outbound {
            return f(&now.inbound, &input);
        }
        input.peer = now.own.as_deref().map_or(Peer::Anonymous, Peer::Spiffe);
        f(&now.outbound, &input)
    }

    fn access(&self, conn: &ConnInfo) -> Access {
        let providers = Arc::clone(&self.policies.borrow().providers);
        self.ask(conn, |policies, input| {
            let decided = match policies.decide(input) {
                Decision::Allow => Access::Open,
                Decision::Deny(denial) => Access::Refused(denial),
            };
            match policies.custom(input) {
                None => decided,
                // What policies refuse, nobody needs to be asked about.
                Some(_) if matches!(decided, Access::Refused(_)) => decided,
                Some(Custom::Refuse { rule }) => Access::Refused(Denial { rule: Arc::clone(rule) }),
                Some(Custom::Ask { provider, rule }) => match providers.iter().find(|p| p.name == *provider) {
                    Some(provider) => Access::Ask(Box::new(provider.clone()), Arc::clone(rule)),
                    None => Access::Refused(Denial { rule: Arc::clone(rule) }),
                },
            }
        })
    }

    /// Whether policies ask by which server name a client calls, of whatever TLS goes through.
    pub(crate) fn reads_server_names(&self) -> bool {
        let now = self.policies.borrow();
        if self.outbound { now.outbound.reads_server_names() } else { now.inbound.reads_server_names() }
    }

    /// Whether a connection is open without anybody being asked.
    pub(crate) fn is_open(&self, conn: &ConnInfo) -> bool {
        matches!(self.access(conn), Access::Open)
    }

    /// The refusal of a connection by the policies in force, and by whom they have asked.
    pub(crate) async fn refusal(&self, conn: &Arc<ConnInfo>) -> Option<Closed> {
        match self.access(conn) {
            Access::Open => None,
            Access::Refused(denial) => Some(Closed::ByPolicies(denial)),
            Access::Ask(provider, rule) => {
                let failure = match provider.authorizer.admits(conn).await {
                    Ok(true) => return None,
                    Ok(false) => None,
                    Err(_) if provider.fail_open => return None,
                    Err(why) => Some(why),
                };
                Some(Closed::ByAuthorizer { rule, provider: provider.name, failure })
            }
        }
    }

    /// Tells whoever keeps records what policies that decide nothing say about a connection.
    pub(crate) fn notice(&self, cx: &Cx) {
        self.ask(&cx.conn, |policies, input| {
            if !policies.has_notices() {
                return;
            }
            let notice = Notice { audit: policies.audit(input), dry_run: policies.dry_run(input) };
            if notice.audit.is_some() || notice.dry_run != Default::default() {
                self.observer.noticed(cx, &notice);
            }
        });
    }

    /// Tells whoever keeps records of a refusal.
    pub(crate) fn refused(&self, cx: &Cx, closed: &Closed) {
        match closed {
            Closed::ByPolicies(denial) => self.ask(&cx.conn, |policies, input| {
                self.observer.refused(cx, &Refusal::Policies { denial, policies, input });
            }),
            Closed::ByAuthorizer { rule, provider, failure } => {
                let failure = failure.as_deref();
                self.observer.refused(cx, &Refusal::Authorizer { rule, provider, check: None, failure });
            }
        }
    }

    /// Resolves when the policies are others. Never, if nobody changes them any more.
    pub(crate) async fn changed(&mut self) {
        if self.policies.changed().await.is_err() {
            std::future::pending().await
        }
    }

    /// Resolves when policies refuse a connection that is open.
    pub(crate) async fn closes(&mut self, conn: &Arc<ConnInfo>) -> Closed {
        loop {
            self.changed().await;
            if let Some(closed) = self.refusal(conn).await {
                return closed;
            }
        }
    }
}
