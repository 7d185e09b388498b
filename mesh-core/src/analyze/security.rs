//! What security policies come to at the workloads that they are for, where that is probably not what was meant.

mod mtls;
mod rules;
mod selection;
mod tcp;
mod tokens;
mod values;
mod view;

use super::index::Index;
use crate::report::Report;
use view::View;

pub(super) use mtls::conflicts;
pub(super) use tokens::times;

/// Everything that needs to know which policies meet at a workload.
pub(super) fn policies(index: &Index<'_>) -> Vec<Report> {
    let any = !index.authorization_policies.is_empty()
        || !index.request_authentications.is_empty()
        || !index.peer_authentications.is_empty();
    if !any {
        return Vec::new();
    }
    let view = View::new(index);
    let mut found = tokens::not_required(&view);
    found.extend(selection::nothing(&view));
    found.extend(selection::service_ports(&view));
    found.extend(tcp::denied(&view));
    found.extend(rules::never(&view));
    found
}
