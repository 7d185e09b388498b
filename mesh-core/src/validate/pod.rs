//! Pods: fields that are read, but that the local mesh does not honour.

use super::Check;
use crate::api::codes;
use crate::api::kube::{PodSpec, SecurityContext};

pub(super) fn check(check: &mut Check<'_>, pod: &PodSpec, at: &str) {
    context(check, pod.security_context.as_ref(), at);
    for (list, containers) in [("containers", &pod.containers), ("initContainers", &pod.init_containers)] {
        for (i, c) in containers.iter().enumerate() {
            context(check, c.security_context.as_ref(), &format!("{at}.{list}[{i}]"));
        }
    }
}

fn context(check: &mut Check<'_>, context: Option<&SecurityContext>, at: &str) {
    if context.is_some_and(|c| c.run_as_user.is_some()) {
        let field = format!("{at}.securityContext.runAsUser");
        check.say(codes::INERT, &field, format!("{field} is inert in the local mesh"));
    }
}
