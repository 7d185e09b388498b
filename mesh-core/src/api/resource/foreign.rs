//! Fields that people bring along from other products, or from older guides, and what Istio calls the same thing.

/// What to write instead of an unknown field of one of Istio's kinds.
pub(super) fn instead(path: &str) -> Option<&'static str> {
    let (parent, name) = path.rsplit_once('.').unwrap_or(("", path));
    let parent = parent.rsplit('.').next().unwrap_or(parent).split('[').next().unwrap_or(parent);
    Some(match (parent, name) {
        ("abort" | "delay", "percent") => "write percentage: {value: N}, N in percent",
        ("http", "mirrorPercent" | "mirror_percentage") => "write mirrorPercentage: {value: N}, N in percent",
        (_, "options" | "virtualHost" | "routeAction" | "sslConfig") => {
            "this is a field of Gloo's kinds; Istio's rules have timeout, retries, fault, rewrite, headers and corsPolicy \
             side by side in spec.http[]"
        }
        (_, "matchers") => "Istio's conditions are in match",
        (_, "requestTransform" | "transformations") => "write headers: {request: …, response: …} or rewrite",
        ("http", "filters" | "rules" | "backendRefs") | ("spec", "parentRefs" | "hostnames" | "rules") => {
            "this is a field of Gateway API's HTTPRoute; here it is hosts, gateways and http[].match/route"
        }
        ("spec", "services" | "routes" | "virtualhost" | "fqdn" | "entryPoints") => {
            "this is a field of another product; Istio's routes are in http[].route[].destination"
        }
        _ => return None,
    })
}
