//! Refusals and their reasons, for whoever keeps records of them.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use mesh_core::api::AuthorizationAction;
use mesh_core::layers::Request;
use mesh_core::record::Cx;
use serde::Serialize;

use crate::authz::{DryRun, Explanation, Tried};
use crate::ext_authz::Check;
use crate::jwt::{Authenticator, JwtError, RuleOutcome};
use crate::{Denial, Policies, PolicyInput};

/// Hears what became of requests and connections. Called on the request path: it must not block.
pub trait Observer: Send + Sync + 'static {
    /// Somebody was refused. Making the [reasons](Refusal::reasons) takes time in proportion to the number of rules, so
    /// whoever listens decides how often it is worth it.
    fn refused(&self, cx: &Cx, refusal: &Refusal<'_>);

    /// A policy that decides nothing had something to say.
    fn noticed(&self, cx: &Cx, notice: &Notice<'_>);
}

/// What policies say that decide nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Notice<'a> {
    /// The `AUDIT` rule that marks it.
    pub audit: Option<&'a Arc<str>>,
    /// What policies that are only tried would have done.
    pub dry_run: DryRun<'a>,
}

impl Notice<'_> {
    /// Policies that are only tried would have refused it.
    pub fn would_refuse(&self) -> bool {
        self.dry_run.denied_by.is_some() || self.dry_run.allowed_by == Some(None)
    }
}

impl fmt::Display for Notice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dry = match (self.dry_run.denied_by, self.dry_run.allowed_by) {
            (Some(rule), _) => Some(format!("dry run: {rule} would refuse")),
            (None, Some(None)) => Some("dry run: no rule would allow".to_owned()),
            (None, Some(Some(rule))) => Some(format!("dry run: {rule} would allow")),
            (None, None) => None,
        };
        let audit = self.audit.map(|rule| format!("audit: {rule}"));
        let all: Vec<String> = audit.into_iter().chain(dry).collect();
        f.write_str(&all.join("; "))
    }
}

/// A refusal, with everything that its reasons are made of.
#[derive(Debug)]
pub enum Refusal<'a> {
    /// By policies.
    Policies {
        /// The rule.
        denial: &'a Denial,
        /// All policies that apply.
        policies: &'a Policies,
        /// What they were asked about.
        input: &'a PolicyInput<'a>,
    },
    /// For a bad token.
    Token {
        /// Why.
        error: JwtError,
        /// All rules about tokens.
        authenticator: &'a Authenticator,
        /// The request.
        request: &'a Request,
        /// When.
        now: SystemTime,
    },
    /// By an external authorizer, or for want of its answer.
    Authorizer {
        /// The `CUSTOM` rule that wanted it to be asked.
        rule: &'a str,
        /// Name of the provider.
        provider: &'a str,
        /// The request that it was asked about; `None`: bytes.
        check: Option<&'a Check>,
        /// Why there is no answer; `None`: it said no.
        failure: Option<&'a str>,
    },
}

/// Why something was refused.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reasons {
    /// As `%RESPONSE_CODE_DETAILS%` has it.
    pub details: String,
    /// Each policy that was tried, and what it said.
    pub tried: Vec<Attempt>,
    /// The rule that would have let it through and missed least, with what it missed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nearest: Option<String>,
}

/// A policy that was tried.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// `AuthorizationPolicy default/allow-productpage`.
    pub policy: String,
    /// `file:line`; live objects have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// What it does when it matches: `ALLOW`, `DENY`, `AUDIT`, `CUSTOM`, `JWT`.
    pub action: &'static str,
    /// It is only tried.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// Whether it matched.
    pub matched: bool,
    /// The rule that matched, or what the nearest one missed.
    pub why: String,
}

impl Refusal<'_> {
    /// As `%RESPONSE_CODE_DETAILS%` has it.
    pub fn details(&self) -> String {
        match self {
            Self::Policies { denial, .. } => denial.details(),
            Self::Token { error, .. } => error.details(),
            Self::Authorizer { failure: None, .. } => "ext_authz_denied".to_owned(),
            Self::Authorizer { failure: Some(_), .. } => "ext_authz_error".to_owned(),
        }
    }

    /// Why.
    pub fn reasons(&self) -> Reasons {
        let details = self.details();
        match self {
            Self::Policies { policies, input, .. } => Reasons { details, ..Reasons::of(&policies.explain(input)) },
            Self::Token { authenticator, request, now, .. } => {
                let outcomes = authenticator.explain(request, *now);
                Reasons { details, tried: outcomes.iter().map(Attempt::of_token).collect(), nearest: None }
            }
            Self::Authorizer { rule, provider, check: _, failure } => {
                let why = match failure {
                    None => format!("{provider} refused, asked for {rule}"),
                    Some(failure) => format!("{provider} gave no answer, asked for {rule}: {failure}"),
                };
                let policy = (*rule).to_owned();
                let attempt = Attempt { policy, location: None, action: "CUSTOM", dry_run: false, matched: true, why };
                Reasons { details, tried: vec![attempt], nearest: None }
            }
        }
    }
}

impl Reasons {
    /// Of a decision by policies.
    pub fn of(explanation: &Explanation) -> Self {
        let details = match &explanation.decision {
            crate::Decision::Allow => String::new(),
            crate::Decision::Deny(denial) => denial.details(),
        };
        let nearest = explanation.nearest().map(|(_, rule)| rule.to_string());
        Self { details, tried: explanation.tried.iter().map(Attempt::of).collect(), nearest }
    }
}

impl Attempt {
    /// What a policy said.
    pub fn of(tried: &Tried) -> Self {
        let why = match (&tried.matched, &tried.nearest) {
            (Some(rule), _) => format!("{rule} matched"),
            (None, Some(rule)) => rule.to_string(),
            (None, None) => "it has no rules, so it never matches".to_owned(),
        };
        Self {
            policy: tried.policy.to_string(),
            location: tried.location.clone(),
            action: match tried.action {
                AuthorizationAction::Allow => "ALLOW",
                AuthorizationAction::Deny => "DENY",
                AuthorizationAction::Audit => "AUDIT",
                AuthorizationAction::Custom => "CUSTOM",
            },
            dry_run: tried.dry_run,
            matched: tried.matched.is_some(),
            why,
        }
    }

    /// What a rule about tokens said.
    pub fn of_token(outcome: &RuleOutcome) -> Self {
        let RuleOutcome { policy, index, location, issuer, result } = outcome;
        let said = match result {
            None => "no token where it looks".to_owned(),
            Some(Ok(())) => "a good token".to_owned(),
            Some(Err(error)) => error.to_string(),
        };
        Self {
            policy: policy.to_string(),
            location: location.clone(),
            action: "JWT",
            dry_run: false,
            matched: matches!(result, Some(Ok(()))),
            why: format!("jwtRules[{index}] of issuer {issuer:?}: {said}"),
        }
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { policy, location, action, dry_run, matched: _, why } = self;
        write!(f, "{action} {policy}")?;
        if let Some(location) = location {
            write!(f, " ({location})")?;
        }
        write!(f, "{}: {why}", if *dry_run { ", dry run" } else { "" })
    }
}
