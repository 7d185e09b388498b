//! What a rule does before and beside forwarding, as its front end wrote it.

use std::sync::Arc;

use super::route::Backend;
use crate::snapshot::{CorsPlan, FaultPlan, Share};

/// Fault, CORS and mirrors of a rule.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct RuleFilters {
    /// Faults.
    pub fault: Option<Arc<FaultPlan>>,
    /// CORS.
    pub cors: Option<Arc<CorsPlan>>,
    /// `mirror`.
    pub mirror: Option<Backend>,
    /// Share of [`RuleFilters::mirror`]; `None`: all.
    pub mirror_share: Option<Share>,
    /// `mirrors`, each with its share.
    pub mirrors: Vec<(Backend, Share)>,
}

impl RuleFilters {
    /// Every mirror with its share; ones that get nothing are left out.
    pub fn all_mirrors(&self) -> impl Iterator<Item = (&Backend, Share)> {
        let single = self.mirror.iter().map(|m| (m, self.mirror_share.unwrap_or(Share::ALL)));
        single.chain(self.mirrors.iter().map(|(m, s)| (m, *s))).filter(|(_, share)| *share > Share::NONE)
    }

    /// These, and from `root` what they don't say: what a delegate's rule makes of the root's.
    #[must_use]
    pub fn inside(self, root: &Self) -> Self {
        let Self { fault, cors, mirror, mirror_share, mirrors } = self;
        Self {
            fault: fault.or_else(|| root.fault.clone()),
            cors: cors.or_else(|| root.cors.clone()),
            mirror: mirror.or_else(|| root.mirror.clone()),
            mirror_share: mirror_share.or(root.mirror_share),
            mirrors: if mirrors.is_empty() { root.mirrors.clone() } else { mirrors },
        }
    }
}
