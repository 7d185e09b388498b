//! Who may open streams of bytes here, and for how long.

use std::sync::Arc;

use mesh_core::record::{ConnInfo, Cx};
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

    /// The refusal of a connection by the policies in force.
    pub(crate) fn refusal(&self, conn: &ConnInfo) -> Option<Denial> {
        self.ask(conn, |policies, input| {
            // Nobody can be asked about bytes yet: what a CUSTOM rule matches stays out.
            if let Some(mesh_policy::authz::Custom::Ask { rule, .. } | mesh_policy::authz::Custom::Refuse { rule }) =
                policies.custom(input)
            {
                return Some(Denial { rule: Arc::clone(rule) });
            }
            match policies.decide(input) {
                Decision::Allow => None,
                Decision::Deny(denial) => Some(denial),
            }
        })
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
    pub(crate) fn refused(&self, cx: &Cx, denial: &Denial) {
        self.ask(&cx.conn, |policies, input| {
            self.observer.refused(cx, &Refusal::Policies { denial, policies, input });
        });
    }

    /// Resolves when the policies are others. Never, if nobody changes them any more.
    pub(crate) async fn changed(&mut self) {
        if self.policies.changed().await.is_err() {
            std::future::pending().await
        }
    }

    /// Resolves when policies refuse a connection that is open.
    pub(crate) async fn closes(&mut self, conn: &ConnInfo) -> Denial {
        loop {
            self.changed().await;
            if let Some(denial) = self.refusal(conn) {
                return denial;
            }
        }
    }
}
