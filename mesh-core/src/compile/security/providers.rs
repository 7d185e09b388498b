//! External authorizers of the mesh's settings: those that policies of the workload name.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};

use crate::api::{
    AuthorizationAction, AuthorizationPolicy, ExtAuthzProvider, ExtAuthzSettings, MeshConfig, Object,
    RequestBodyInCheck,
};
use crate::compile::Run;
use crate::compile::account::Ledger;
use crate::snapshot::{AuthorizerPlan, BodyPlan, HttpCheck, NamePattern, Provenance, ProviderPlan};

/// How long an answer may take by default.
const TIMEOUT: Duration = Duration::from_secs(600);

/// Names of the authorizers that policies ask.
pub(crate) fn asked<'a>(policies: impl Iterator<Item = &'a Object<AuthorizationPolicy>>) -> BTreeSet<&'a str> {
    let custom = policies.filter(|p| p.spec.action == AuthorizationAction::Custom);
    custom.filter_map(|p| Some(p.spec.provider.as_ref()?.name.as_str())).collect()
}

/// The authorizers of a mesh, with their place in `extensionProviders`. Those that can't be read are left out.
pub(crate) fn authorizers(mesh: &MeshConfig) -> impl Iterator<Item = (usize, ExtAuthzProvider)> {
    let all = mesh.extension_providers.iter().enumerate();
    all.filter_map(|(i, p)| Some((i, ExtAuthzProvider::read(p)?.ok()?)))
}

/// Namespace, if there is one, and host of a `service`.
pub(crate) fn service(text: &str) -> (Option<&str>, &str) {
    text.split_once('/').map_or((None, text), |(namespace, host)| (Some(namespace), host))
}

/// Plans the authorizers that policies ask; their services thereby become visible to this proxy. One whose service is not
/// there is left out, so that what it should decide is refused.
pub(super) fn plan(run: &mut Run<'_>, asked: &BTreeSet<&str>) -> Vec<Arc<ProviderPlan>> {
    let mesh = run.world.mesh();
    let mut out: Vec<Arc<ProviderPlan>> = Vec::new();
    for (i, provider) in authorizers(&mesh.spec).filter(|(_, p)| asked.contains(p.name.as_str())) {
        let ExtAuthzProvider { name, field, settings } = provider;
        let (namespace, host) = service(&settings.service);
        let known = match namespace {
            Some(namespace) => run.world.service(namespace, host),
            None => crate::compile::visible::service_of(run.world, &run.id.namespace, host),
        };
        let Some(service) = known.filter(|s| s.ports.iter().any(|p| i64::from(p.number) == settings.port)) else {
            continue;
        };
        run.used_services.add(&service.hostname, service);
        let origin = Provenance::field(&mesh.key, &mesh.origin, &format!("spec.extensionProviders[{i}].{field}"));
        let grpc = field == "envoyExtAuthzGrpc";
        out.push(Arc::new(provider_plan(&name, &service.hostname, settings, grpc, origin)));
    }
    out
}

fn provider_plan(
    name: &str,
    host: &Arc<str>,
    settings: ExtAuthzSettings,
    grpc: bool,
    origin: Provenance,
) -> ProviderPlan {
    let status = settings.status_on_error.parse().ok().and_then(|s| StatusCode::from_u16(s).ok());
    let body = settings.include_request_body_in_check.as_ref().map(
        |RequestBodyInCheck { max_request_bytes, allow_partial_message, pack_as_bytes }| BodyPlan {
            max: *max_request_bytes as usize,
            allow_partial: *allow_partial_message,
            pack_as_bytes: *pack_as_bytes,
        },
    );
    ProviderPlan {
        name: name.into(),
        cluster: format!("outbound|{}||{host}", settings.port).into(),
        authority: host.clone(),
        timeout: settings.timeout.map_or(TIMEOUT, Into::into),
        fail_open: settings.fail_open,
        status_on_error: status.unwrap_or(StatusCode::FORBIDDEN),
        body,
        speaks: if grpc { AuthorizerPlan::Grpc } else { AuthorizerPlan::Http(check(&settings)) },
        origin,
    }
}

fn check(settings: &ExtAuthzSettings) -> HttpCheck {
    let patterns = |names: &[String]| names.iter().map(|n| NamePattern::parse(n)).collect();
    let include = match settings.include_request_headers_in_check.is_empty() {
        true => &settings.include_headers_in_check,
        false => &settings.include_request_headers_in_check,
    };
    let header = |(name, value): (&String, &String)| {
        Some((HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?))
    };
    HttpCheck {
        path_prefix: settings.path_prefix.as_str().into(),
        include: patterns(include),
        added: settings.include_additional_headers_in_check.iter().filter_map(header).collect(),
        upstream: patterns(&settings.headers_to_upstream_on_allow),
        downstream_on_deny: patterns(&settings.headers_to_downstream_on_deny),
        downstream_on_allow: patterns(&settings.headers_to_downstream_on_allow),
    }
}

/// What became of the fields of an authorizer that policies ask.
pub(super) fn account(ledger: &mut Ledger<'_>, i: usize, provider: &ExtAuthzProvider) {
    let ExtAuthzProvider { name: _, field, settings } = provider;
    let http = *field == "envoyExtAuthzHttp";
    let ExtAuthzSettings {
        service,
        port,
        timeout,
        fail_open,
        clear_route_cache,
        status_on_error,
        include_request_body_in_check,
        path_prefix,
        include_request_headers_in_check,
        include_headers_in_check,
        include_additional_headers_in_check,
        headers_to_upstream_on_allow,
        headers_to_downstream_on_deny,
        headers_to_downstream_on_allow,
    } = settings;
    ledger.consumed(&format!("spec.extensionProviders[{i}]"));
    ledger.consumed(&format!("spec.extensionProviders[{i}].name"));
    let at = &format!("spec.extensionProviders[{i}].{field}");
    ledger.consumed(at);
    ledger.take(at, "service", service);
    ledger.take(at, "port", port);
    ledger.take(at, "timeout", timeout);
    ledger.take(at, "failOpen", fail_open);
    ledger.without_effect(at, "clearRouteCache", clear_route_cache, "routes are always chosen after the answer");
    ledger.take(at, "statusOnError", status_on_error);
    if let Some(RequestBodyInCheck { max_request_bytes, allow_partial_message, pack_as_bytes }) =
        include_request_body_in_check
    {
        let at = &format!("{at}.includeRequestBodyInCheck");
        ledger.take(at, "maxRequestBytes", max_request_bytes);
        ledger.take(at, "allowPartialMessage", allow_partial_message);
        match http {
            true => ledger.without_effect(at, "packAsBytes", pack_as_bytes, "over HTTP bodies are bytes anyway"),
            false => {
                ledger.take(at, "packAsBytes", pack_as_bytes);
            }
        }
    }
    let all = "over gRPC the authorizer sees all headers, and says itself which ones it changes";
    for (name, list) in [
        ("includeRequestHeadersInCheck", include_request_headers_in_check),
        ("includeHeadersInCheck", include_headers_in_check),
        ("headersToUpstreamOnAllow", headers_to_upstream_on_allow),
        ("headersToDownstreamOnDeny", headers_to_downstream_on_deny),
        ("headersToDownstreamOnAllow", headers_to_downstream_on_allow),
    ] {
        match http {
            true if name == "includeHeadersInCheck" && !include_request_headers_in_check.is_empty() => {
                let field = format!("{at}.{name}");
                if !list.is_empty() {
                    ledger.overridden(&field, "includeRequestHeadersInCheck");
                }
            }
            true => {
                ledger.take_list(at, name, list);
            }
            false => ledger.without_effect(at, name, list, all),
        }
    }
    match http {
        true => {
            ledger.take(at, "pathPrefix", path_prefix);
            ledger.take_map(at, "includeAdditionalHeadersInCheck", include_additional_headers_in_check);
        }
        false => {
            ledger.without_effect(at, "pathPrefix", path_prefix, all);
            let added = include_additional_headers_in_check;
            ledger.without_effect(at, "includeAdditionalHeadersInCheck", added, all);
        }
    }
}
