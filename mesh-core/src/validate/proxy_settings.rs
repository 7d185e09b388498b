//! ProxyConfig resources.

use super::{Check, common};
use crate::api::ProxySettings;

pub(super) fn check(check: &mut Check<'_>, spec: &ProxySettings) {
    let ProxySettings { selector, concurrency, environment_variables: _, image } = spec;
    if let Some(selector) = selector {
        let text = "wildcard is not supported in selector";
        common::selector(check, "spec.selector.matchLabels", &selector.match_labels, [text, text]);
    }
    if concurrency.is_some_and(|n| n < 0) {
        check.error("spec.concurrency", "concurrency must be greater than or equal to 0");
    }
    let known = ["", "default", "debug", "distroless"];
    if let Some(image) = image.as_ref().filter(|i| !known.contains(&i.image_type.as_str())) {
        check.warn(
            "spec.image.imageType",
            format!("imageType {:?} is none of default, debug, distroless", image.image_type),
        );
    }
}
