//! Refusals with their reasons: counted all, kept the latest.
//!
//! Making reasons costs time in proportion to the number of rules, and a client that is refused can come again at once, so
//! only so many a second get theirs; the others are counted. Requests that go on have nothing to do with any of this.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use mesh_core::env::Env;
use mesh_core::layers::rate_limit::TokenBucket;
use mesh_core::record::Cx;
use mesh_policy::{Notice, Observer, Peer, Reasons, Refusal};
use parking_lot::Mutex;
use serde::Serialize;

/// Refusals that are kept.
const KEPT: usize = 256;
/// Refusals that get reasons: so many at once, and so many a second.
const BURST: u32 = 100;
const A_SECOND: u32 = 20;
/// Bytes that are kept of what a client sent.
const MAX_TEXT: usize = 200;

/// A refusal.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Denial {
    /// When.
    pub time: String,
    /// Who asked, by address.
    pub client: SocketAddr,
    /// Who asked, by certificate, without `spiffe://`; empty: nobody knows.
    pub principal: String,
    /// What was asked for: `GET a.example/path`, or `bytes`.
    pub what: String,
    /// Where it came in.
    pub at: SocketAddr,
    /// `x-request-id`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub request_id: String,
    /// Configuration that decided.
    pub config: String,
    /// Why.
    #[serde(flatten)]
    pub reasons: Reasons,
}

/// What policies, tokens and external authorizers refused in this process.
pub struct Denials {
    env: Arc<dyn Env>,
    budget: TokenBucket,
    latest: Mutex<VecDeque<Arc<Denial>>>,
    by_policies: AtomicU64,
    by_tokens: AtomicU64,
    by_authorizers: AtomicU64,
    would: AtomicU64,
    audited: AtomicU64,
    unexplained: AtomicU64,
}

impl Denials {
    /// None yet.
    pub fn new(env: Arc<dyn Env>) -> Self {
        Self {
            env,
            budget: TokenBucket::new(BURST, A_SECOND, Duration::from_secs(1)),
            latest: Mutex::default(),
            by_policies: AtomicU64::new(0),
            by_tokens: AtomicU64::new(0),
            by_authorizers: AtomicU64::new(0),
            would: AtomicU64::new(0),
            audited: AtomicU64::new(0),
            unexplained: AtomicU64::new(0),
        }
    }

    /// The latest ones, newest first.
    pub fn latest(&self) -> Vec<Arc<Denial>> {
        self.latest.lock().iter().rev().cloned().collect()
    }

    /// Counters, by name.
    pub fn counters(&self) -> [(&'static str, u64); 6] {
        let get = |n: &AtomicU64| n.load(Ordering::Relaxed);
        [
            ("rbac.denied", get(&self.by_policies)),
            ("rbac.shadow_denied", get(&self.would)),
            ("rbac.audited", get(&self.audited)),
            ("jwt_authn.denied", get(&self.by_tokens)),
            ("ext_authz.denied", get(&self.by_authorizers)),
            ("denials.unexplained", get(&self.unexplained)),
        ]
    }

    fn keep(&self, denial: Denial) {
        let mut latest = self.latest.lock();
        if latest.len() == KEPT {
            latest.pop_front();
        }
        latest.push_back(Arc::new(denial));
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT)]
}

/// What a refused request wanted.
fn what(refusal: &Refusal<'_>) -> String {
    match refusal {
        Refusal::Policies { input, .. } => match &input.request {
            Some(r) => format!("{} {}{}", r.method, cut(r.authority), cut(r.path)),
            None => "bytes".to_owned(),
        },
        Refusal::Token { request, .. } => {
            let host = request.headers().get(http::header::HOST).and_then(|h| h.to_str().ok()).unwrap_or_default();
            format!("{} {}{}", request.method(), cut(host), cut(request.uri().path()))
        }
        Refusal::Authorizer { check: None, .. } => "bytes".to_owned(),
        Refusal::Authorizer { check: Some(check), .. } => {
            let host = check.headers.get(http::header::HOST).and_then(|h| h.to_str().ok()).unwrap_or_default();
            format!("{} {}{}", check.method, cut(host), cut(check.uri.path()))
        }
    }
}

impl Observer for Denials {
    fn refused(&self, cx: &Cx, refusal: &Refusal<'_>) {
        let count = match refusal {
            Refusal::Policies { .. } => &self.by_policies,
            Refusal::Token { .. } => &self.by_tokens,
            Refusal::Authorizer { .. } => &self.by_authorizers,
        };
        count.fetch_add(1, Ordering::Relaxed);
        let (explained, _) = self.budget.take();
        if !explained {
            self.unexplained.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let reasons = refusal.reasons();
        let _ = cx.verdict.set(sentence(&reasons));
        let time: SystemTime = self.env.now();
        let id = cx.request_id.get().and_then(|id| id.to_str().ok()).unwrap_or_default();
        self.keep(Denial {
            time: format!("{:.3}", Timestamp::try_from(time).unwrap_or_default()),
            client: cx.remote(),
            principal: match Peer::of(&cx.conn) {
                Peer::Anonymous => String::new(),
                Peer::Spiffe(id) | Peer::Other(id) => cut(id).to_owned(),
            },
            what: what(refusal),
            at: cx.conn.local,
            request_id: cut(id).to_owned(),
            config: cx.config.to_string(),
            reasons,
        });
    }

    fn noticed(&self, cx: &Cx, notice: &Notice<'_>) {
        if notice.audit.is_some() {
            self.audited.fetch_add(1, Ordering::Relaxed);
        }
        if notice.would_refuse() {
            self.would.fetch_add(1, Ordering::Relaxed);
        }
        let _ = cx.verdict.set(notice.to_string());
    }
}

/// The reasons for a log line: the rule that was nearest, else what each policy said.
fn sentence(reasons: &Reasons) -> String {
    let Reasons { details: _, tried, nearest } = reasons;
    let matched: Vec<String> = tried.iter().filter(|t| t.matched && !t.dry_run).map(ToString::to_string).collect();
    match (nearest, matched.is_empty()) {
        // What matched refused, unless nothing had to.
        (_, false) if tried.iter().any(|t| t.matched && t.action == "DENY") => matched.join("; "),
        (Some(nearest), _) => format!("nearest: {nearest}"),
        (None, _) => tried.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
    }
}

#[cfg(test)]
mod tests;
