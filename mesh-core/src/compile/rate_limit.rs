//! LocalRateLimits: which routes of a proxy they limit.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use super::account::Ledger;
use super::memo::{Notes, hash_debug};
use super::routes::Routes;
use crate::api::{ContentHash, LocalRateLimit, Object, RateLimitBucket, RateLimitTarget};
use crate::model::{Route, Rule, Workload};
use crate::snapshot::{ProxyId, RateLimitPlan};
use crate::world::{World, covers};

/// The limits of one proxy.
#[derive(Debug, Default)]
pub(super) struct RateLimits {
    /// On everything: what comes in at a sidecar, all requests of a gateway.
    own: Vec<RouteLimit>,
    /// On rules.
    targeted: Vec<RouteLimit>,
}

/// A limit with the rules that it is for.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct RouteLimit {
    target: Option<Target>,
    pub(super) plan: Arc<RateLimitPlan>,
}

/// A VirtualService; with a section, the rules of that name in it.
#[derive(Clone, PartialEq, Debug)]
struct Target {
    namespace: Arc<str>,
    name: Arc<str>,
    section: Arc<str>,
}

impl RouteLimit {
    /// Whether it is for a rule; `None`: a route that no user wrote.
    pub(super) fn covers(&self, rule: Option<&Rule>) -> bool {
        let Some(Target { namespace, name, section }) = &self.target else { return true };
        let Some(rule) = rule else { return false };
        let of = rule.origin.object.as_ref().is_some_and(|o| o.namespace == *namespace && o.name == *name);
        of && (section.is_empty() || *section == rule.name)
    }

    pub(super) fn hash(&self) -> ContentHash {
        let RateLimitPlan { name, max_tokens, tokens_per_fill, fill_interval, status, headers, origin } = &*self.plan;
        hash_debug(&(&self.target, name, max_tokens, tokens_per_fill, fill_interval, status, headers, origin))
    }
}

impl RateLimits {
    /// Reads those that the proxy can see; `routes` are all that it may use.
    pub(super) fn of(world: &World, id: &ProxyId, workload: Option<&Arc<Workload>>, routes: &Routes) -> (Self, Notes) {
        let mut all = Self::default();
        let mut notes = Notes::default();
        for object in world.rate_limits().iter() {
            let mut ledger = Ledger::new(object);
            if let Err(why) = all.add(object, &mut ledger, (world, id, workload), routes) {
                ledger.notes = Notes::default();
                ledger.inert("spec", why);
            }
            notes.fates.append(&mut ledger.notes.fates);
        }
        (all, notes)
    }

    fn add(
        &mut self,
        object: &Object<LocalRateLimit>,
        ledger: &mut Ledger<'_>,
        (world, id, workload): (&World, &ProxyId, Option<&Arc<Workload>>),
        routes: &Routes,
    ) -> Result<(), &'static str> {
        let LocalRateLimit { selector, target_refs, token_bucket, status_code, response_headers } = &object.spec;
        let namespace = &object.key.namespace;
        let Some(bucket) = token_bucket else { return Err("the object is quarantined: it has no tokenBucket") };
        let status = match ledger.take("spec", "statusCode", status_code) {
            0 => StatusCode::TOO_MANY_REQUESTS,
            code => u16::try_from(*code)
                .ok()
                .and_then(|c| StatusCode::from_u16(c).ok())
                .ok_or("the object is quarantined: statusCode is no status")?,
        };
        let (max_tokens, tokens_per_fill, fill_interval) = read_bucket(ledger, bucket)?;
        let plan = Arc::new(RateLimitPlan {
            name: format!("{namespace}/{}", object.key.name).into(),
            max_tokens,
            tokens_per_fill,
            fill_interval,
            status,
            headers: *ledger.take("spec", "responseHeaders", response_headers),
            origin: ledger.origin("spec"),
        });
        if target_refs.is_empty() {
            let labels = selector.as_ref().map(|s| &s.match_labels).filter(|l| !l.is_empty());
            let near = **namespace == *id.namespace || **namespace == *world.root_namespace();
            if !near || !labels.is_none_or(|l| workload.is_some_and(|w| covers(l, &w.labels))) {
                return Err("it does not select this workload");
            }
            if selector.is_some() {
                ledger.consumed("spec.selector");
            }
            if let Some(labels) = labels {
                ledger.take_map("spec.selector", "matchLabels", labels);
            }
            self.own.push(RouteLimit { target: None, plan });
            return Ok(());
        }
        ledger.without_effect("spec", "selector", selector, "targetRefs say what is limited");
        let mut any = false;
        for (i, target) in target_refs.iter().enumerate() {
            let at = format!("spec.targetRefs[{i}]");
            match read_target(ledger, &at, target, namespace, routes) {
                Some(target) => self.targeted.push(RouteLimit { target: Some(target), plan: plan.clone() }),
                None => {
                    ledger.inert(&at, "this proxy uses no such VirtualService, or it has no rule of that name");
                    continue;
                }
            }
            any = true;
        }
        if any { Ok(()) } else { Err("it targets no rule that this proxy uses") }
    }

    /// Hash of all of them.
    pub(super) fn hash(&self) -> ContentHash {
        self.own.iter().chain(&self.targeted).fold(ContentHash::default(), |h, l| h.with(l.hash()))
    }

    /// Limits of what comes in at a sidecar.
    pub(super) fn inbound(&self) -> Vec<RouteLimit> {
        self.own.clone()
    }

    /// Limits of the rules of some routes; at a gateway also those of the whole proxy.
    pub(super) fn of_routes(&self, routes: &[&Arc<Route>], gateway: bool) -> Vec<RouteLimit> {
        let names = |route: &Route, t: &Target| {
            let mut keys = std::iter::once(&route.key).chain(&route.includes);
            keys.any(|k| k.namespace == t.namespace && k.name == t.name)
        };
        let wanted = |l: &&RouteLimit| l.target.as_ref().is_some_and(|t| routes.iter().any(|r| names(r, t)));
        let own = self.own.iter().filter(|_| gateway);
        own.chain(self.targeted.iter().filter(wanted)).cloned().collect()
    }
}

fn read_bucket(ledger: &mut Ledger<'_>, bucket: &RateLimitBucket) -> Result<(u32, u32, Duration), &'static str> {
    let RateLimitBucket { max_tokens, tokens_per_fill, fill_interval } = bucket;
    let at = "spec.tokenBucket";
    let Some(interval) = ledger.take(at, "fillInterval", fill_interval) else {
        return Err("the object is quarantined: it has no fillInterval");
    };
    let per_fill = (*ledger.take(at, "tokensPerFill", tokens_per_fill)).max(1);
    Ok((*ledger.take(at, "maxTokens", max_tokens), per_fill, Duration::from(*interval)))
}

fn read_target(
    ledger: &mut Ledger<'_>,
    at: &str,
    target: &RateLimitTarget,
    namespace: &Arc<str>,
    routes: &Routes,
) -> Option<Target> {
    let RateLimitTarget { group, kind, name, section_name } = target;
    ledger.take(at, "group", group);
    ledger.take(at, "kind", kind);
    ledger.take(at, "name", name);
    ledger.take(at, "sectionName", section_name);
    if (group.as_str(), kind.as_str()) != ("networking.istio.io", "VirtualService") {
        return None;
    }
    let of = |rule: &Rule| {
        let object = rule.origin.object.as_ref();
        object.is_some_and(|o| o.namespace == *namespace && *o.name == **name)
            && (section_name.is_empty() || *rule.name == **section_name)
    };
    let found = routes.iter().any(|(_, one)| one.route.http.iter().any(|rule| of(rule)));
    found.then(|| Target {
        namespace: namespace.clone(),
        name: name.as_str().into(),
        section: section_name.as_str().into(),
    })
}

#[cfg(test)]
mod tests;
