//! PeerAuthentication.

use super::{Check, common};
use crate::api::PeerAuthentication;
use crate::yaml::child;

pub(super) fn check(check: &mut Check<'_>, spec: &PeerAuthentication) {
    // The modes are checked when they are read.
    let PeerAuthentication { selector, mtls: _, port_level_mtls } = spec;
    common::policy_selector(check, selector.as_ref());
    let at = "spec.portLevelMtls";
    if let Some(ports) = port_level_mtls {
        if selector.as_ref().is_none_or(|s| s.match_labels.is_empty()) {
            check.error_fix(
                at,
                "portLevelMtls requires selector",
                "write the workload's labels in selector.matchLabels",
            );
        }
        if ports.is_empty() {
            check.error(at, format!("{at} in body should have at least 1 properties"));
        }
        for port in ports.keys() {
            let field = child(at, port);
            match port.parse::<i64>() {
                Ok(1..=65535) => {}
                Ok(_) => check.error(&field, format!("port must be between 1-65535, but is {port}")),
                Err(_) => check.error(&field, format!("type conversion error from {port:?} to the number of a port")),
            }
        }
    }
}
