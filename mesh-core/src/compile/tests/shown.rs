//! Which test shows a field: the narrowest that fails when the field is taken away. Whether another value makes another
//! plan is found by trying; that there is such a test, and that it is about the field, is checked here.

use std::collections::BTreeMap;

const RULES: &str = "mesh-core/src/compile/virtual_service/tests.rs";
const PLAN: &str = "mesh-core/src/compile/tests/plan.rs";
const ACCOUNTED: &str = "mesh-core/src/compile/tests/accounted.rs";
const TLS: &str = "mesh-core/src/compile/tests/tls.rs";
const MESH: &str = "mesh-core/src/compile/tests.rs";
const L4: &str = "mesh-core/src/compile/l4/tests.rs";
const POOL: &str = "mesh-core/src/compile/cluster/pool/tests.rs";
const BALANCING: &str = "mesh-core/src/compile/cluster/balancing/tests.rs";
const CLUSTER: &str = "mesh-core/src/compile/cluster/tests.rs";
const HOPS: &str = "mesh-core/src/compile/cluster/hops/tests.rs";
const OUTBOUND: &str = "mesh-core/src/compile/outbound/tests.rs";
const GATEWAY: &str = "mesh-core/src/compile/gateway/tests.rs";
const MTLS: &str = "mesh-core/src/compile/mtls/tests.rs";
const CONVERT: &str = "mesh-core/src/convert/tests.rs";
const ENDPOINTS: &str = "mesh-core/src/endpoints/tests.rs";
const LISTED: &str = "mesh-core/src/proxy_config/tests.rs";
const AUTHZ: &str = "mesh-policy/src/authz/tests/examples.rs";
const JWT: &str = "mesh-policy/src/jwt/tests/rows.rs";
const KEYS: &str = "mesh-policy/src/jwt/tests/remote.rs";
const EGRESS: &str = "mesh-proxy/tests/http/policies.rs";
const PATHS: &str = "mesh-proxy/tests/http/paths.rs";
const FILTERS: &str = "mesh-proxy/tests/http/filters.rs";
const HEADERS: &str = "mesh-proxy/tests/http/headers.rs";
const LIMITS: &str = "mesh-proxy/tests/http/limits.rs";
const LIFETIMES: &str = "mesh-proxy/tests/http/lifetimes.rs";
const SETTINGS: &str = "mesh-proxy/tests/http/settings.rs";
const REDIRECTS: &str = "mesh-proxy/tests/http/redirects.rs";
const SPREAD: &str = "mesh-proxy/tests/http/balancing.rs";
const GATES: &str = "mesh-proxy/tests/tls/gateways.rs";

/// Fields by the beginning of their path, the longest that fits; file and name of the test. `policy` is a traffic policy,
/// wherever it is, `proxy` a ProxyConfig.
const SHOWN: &[(&str, &str, &str)] = &[
    ("VirtualService.exportTo", MESH, "own_private_objects_come_before_older_public_ones"),
    ("VirtualService.gateways", MESH, "only_objects_bound_to_mesh_are_for_sidecars"),
    ("VirtualService.hosts", MESH, "exact_hosts_beat_wildcards_and_the_most_specific_wildcard_wins"),
    ("VirtualService.http[].corsPolicy", PLAN, "what_rules_do_beside_forwarding"),
    ("VirtualService.http[].delegate", RULES, "delegates"),
    ("VirtualService.http[].directResponse", PLAN, "what_rules_do_beside_forwarding"),
    ("VirtualService.http[].fault.delay", FILTERS, "delays"),
    ("VirtualService.http[].fault.abort", FILTERS, "aborts"),
    ("VirtualService.http[].headers", HEADERS, "operations"),
    ("VirtualService.http[].match[].authority", RULES, "headers_method_authority_and_query"),
    (
        "VirtualService.http[].match[].authority.prefix",
        ACCOUNTED,
        "consumed_fields_of_a_virtual_service_make_a_difference",
    ),
    ("VirtualService.http[].match[].gateways", RULES, "claims_are_matched_and_headers_of_their_names_are_not"),
    ("VirtualService.http[].match[].headers", RULES, "headers_method_authority_and_query"),
    ("VirtualService.http[].match[].method", RULES, "headers_method_authority_and_query"),
    ("VirtualService.http[].match[].method.regex", ACCOUNTED, "consumed_fields_of_a_virtual_service_make_a_difference"),
    ("VirtualService.http[].match[].name", PLAN, "what_rules_do_beside_forwarding"),
    ("VirtualService.http[].match[].port", MESH, "a_rule_that_fits_nobody_leaves_the_service_its_default"),
    ("VirtualService.http[].match[].queryParams", RULES, "headers_method_authority_and_query"),
    ("VirtualService.http[].match[].queryParams.*.regex", PATHS, "matching"),
    ("VirtualService.http[].match[].scheme", PLAN, "schemes"),
    ("VirtualService.http[].match[].source", MESH, "a_rule_that_fits_nobody_leaves_the_service_its_default"),
    ("VirtualService.http[].match[].statPrefix", PLAN, "what_rules_do_beside_forwarding"),
    ("VirtualService.http[].match[].uri", RULES, "uri"),
    ("VirtualService.http[].match[].ignoreUriCase", RULES, "uri"),
    ("VirtualService.http[].match[].withoutHeaders", RULES, "headers_method_authority_and_query"),
    ("VirtualService.http[].match[].withoutHeaders.*.regex", PATHS, "matching"),
    (
        "VirtualService.http[].match[].withoutHeaders.*.prefix",
        ACCOUNTED,
        "consumed_fields_of_a_virtual_service_make_a_difference",
    ),
    ("VirtualService.http[].mirror", PLAN, "what_rules_do_beside_forwarding"),
    ("VirtualService.http[].mirrors", PLAN, "what_rules_do_beside_forwarding"),
    ("VirtualService.http[].mirrors[].percentage", RULES, "shares_of_faults_and_mirrors"),
    ("VirtualService.http[].mirrorPercent", RULES, "shares_of_faults_and_mirrors"),
    ("VirtualService.http[].name", PLAN, "what_rules_do_beside_forwarding"),
    ("VirtualService.http[].redirect", RULES, "redirects_and_direct_responses"),
    ("VirtualService.http[].redirect.authority", REDIRECTS, "locations"),
    ("VirtualService.http[].retries", PLAN, "what_rules_do_beside_forwarding"),
    ("VirtualService.http[].rewrite", RULES, "rewrites"),
    ("VirtualService.http[].rewrite.authority", RULES, "host_among_header_operations_is_an_authority_rewrite"),
    ("VirtualService.http[].route[].destination", RULES, "destinations"),
    ("VirtualService.http[].route[].weight", RULES, "destinations"),
    ("VirtualService.http[].route[].headers", RULES, "header_operations_of_one_and_of_several_destinations"),
    ("VirtualService.http[].timeout", PLAN, "what_rules_do_beside_forwarding"),
    ("VirtualService.tcp", L4, "tcp_rules"),
    ("VirtualService.tcp[].route", ACCOUNTED, "consumed_fields_of_a_virtual_service_make_a_difference"),
    ("VirtualService.tls", L4, "tls_rules_by_server_name"),
    (
        "VirtualService.tls[].match[].destinationSubnets",
        ACCOUNTED,
        "consumed_fields_of_a_virtual_service_make_a_difference",
    ),
    ("VirtualService.tls[].match[].port", ACCOUNTED, "consumed_fields_of_a_virtual_service_make_a_difference"),
    ("VirtualService.tls[].match[].gateways", GATES, "tls_that_is_passed_on_is_the_upstreams"),
    ("VirtualService.tls[].match[].source", ACCOUNTED, "consumed_fields_of_a_virtual_service_make_a_difference"),
    ("VirtualService.tls[].route", ACCOUNTED, "consumed_fields_of_a_virtual_service_make_a_difference"),
    ("DestinationRule.exportTo", CLUSTER, "the_clients_namespace_then_the_services_then_the_root"),
    ("DestinationRule.host", CLUSTER, "the_most_specific_host_wins_inside_a_namespace"),
    ("DestinationRule.subsets", ACCOUNTED, "consumed_fields_of_other_kinds_make_a_difference"),
    ("DestinationRule.workloadSelector", CLUSTER, "a_rule_that_selects_the_client_comes_first"),
    ("policy.connectionPool", POOL, "every_field_of_a_block"),
    ("policy.connectionPool.http.h2UpgradePolicy", POOL, "http_versions"),
    ("policy.connectionPool.http.http2KeepAlive", POOL, "streams_and_pings_are_of_http2"),
    ("policy.connectionPool.http.maxConcurrentStreams", POOL, "streams_and_pings_are_of_http2"),
    (
        "policy.connectionPool.http.http1MaxPendingRequests",
        LIMITS,
        "b1_and_b4_a_full_queue_refuses_at_once_and_the_queued_one_is_served",
    ),
    ("policy.connectionPool.http.http2MaxRequests", LIMITS, "b2_and_b3_active_requests"),
    ("policy.connectionPool.http.maxRequestsPerConnection", LIMITS, "one_connection_at_a_time_and_one_request_on_each"),
    ("policy.connectionPool.http.maxRetries", LIMITS, "b5_a_retry_too_many_passes_the_answer_on"),
    ("policy.connectionPool.tcp.maxConnectionDuration", LIMITS, "connections_are_closed_when_their_time_is_over"),
    ("policy.connectionPool.http.useClientProtocol", POOL, "http_versions"),
    ("policy.loadBalancer.consistentHash", BALANCING, "consistent_hashes"),
    ("policy.loadBalancer.localityLbSetting", BALANCING, "which_locality_setting_is_in_force"),
    ("policy.loadBalancer.localityLbSetting.failoverPriority", BALANCING, "priorities_by_labels"),
    ("policy.loadBalancer.zoneAwareLbSetting", ACCOUNTED, "consumed_fields_of_balancing_make_a_difference"),
    ("policy.loadBalancer.zoneAwareLbSetting.enabled", BALANCING, "zone_aware_routing_needs_self_discovery"),
    ("policy.loadBalancer.zoneAwareLbSetting.failoverPriority", BALANCING, "priorities_by_labels"),
    ("policy.loadBalancer.simple", SPREAD, "random_uses_everyone"),
    ("policy.loadBalancer.warmup", BALANCING, "warm_up"),
    ("policy.outlierDetection", BALANCING, "outlier_fields"),
    ("policy.outlierDetection.consecutiveErrors", BALANCING, "fates"),
    ("policy.outlierDetection.minHealthPercent", SPREAD, "r6_panic_uses_everyone"),
    ("policy.outlierDetection.maxEjectionPercent", SPREAD, "r12_all_ejected"),
    ("policy.port", POOL, "limits_towards_the_own_application"),
    ("policy.proxyProtocol", HOPS, "the_block_of_a_port_or_subset_replaces_the_rules_own"),
    ("policy.retryBudget", POOL, "budgets"),
    ("policy.tls", TLS, "towards_services"),
    ("policy.tls.mode", HOPS, "the_meshs_own_tls_names_the_cluster"),
    ("policy.tls.insecureSkipVerify", HOPS, "simple_verifies_the_host_by_the_systems_authorities"),
    ("policy.tls.clientCertificate", HOPS, "mutual_shows_files_or_a_secret_of_the_proxys_namespace"),
    ("policy.tls.privateKey", HOPS, "mutual_shows_files_or_a_secret_of_the_proxys_namespace"),
    ("policy.tls.credentialName", HOPS, "mutual_shows_files_or_a_secret_of_the_proxys_namespace"),
    ("policy.tunnel", TLS, "towards_services"),
    ("Gateway.selector", ACCOUNTED, "consumed_fields_of_other_kinds_make_a_difference"),
    ("Gateway.servers[].bind", TLS, "of_gateways"),
    ("Gateway.servers[].hosts", GATEWAY, "a_host_that_is_served_already_refuses_the_later_server"),
    ("Gateway.servers[].port", GATES, "m7_a_proxy_header_says_who_the_client_is"),
    ("Gateway.servers[].tls", TLS, "of_gateways"),
    ("Gateway.servers[].tls.httpsRedirect", GATEWAY, "https_redirect_comes_before_routes_and_needs_none"),
    (
        "Gateway.servers[].tls.credentialName",
        GATES,
        "a_missing_secret_resets_and_the_other_servers_go_on_until_it_comes",
    ),
    ("Gateway.servers[].tls.credentialNames", TLS, "of_gateways"),
    ("ServiceEntry.addresses", OUTBOUND, "networks_of_a_service_entry"),
    ("ServiceEntry.endpoints", CONVERT, "service_entry_makes_one_service_a_host"),
    ("ServiceEntry.endpoints[].labels", ENDPOINTS, "listed_endpoints_have_their_own_ports"),
    ("ServiceEntry.endpoints[].network", PLAN, "instances_outside"),
    ("ServiceEntry.endpoints[].locality", PLAN, "instances_outside"),
    ("ServiceEntry.endpoints[].serviceAccount", PLAN, "instances_outside"),
    ("ServiceEntry.exportTo", PLAN, "services_outside"),
    ("ServiceEntry.hosts", OUTBOUND, "each_workload_its_own_sites"),
    ("ServiceEntry.location", PLAN, "services_outside"),
    ("ServiceEntry.ports", CLUSTER, "service_entries"),
    ("ServiceEntry.resolution", CLUSTER, "service_entries"),
    ("ServiceEntry.subjectAltNames", HOPS, "names_of_a_service_entry_stand_in_for_those_of_the_rule"),
    ("ServiceEntry.workloadSelector", PLAN, "services_outside"),
    ("WorkloadEntry", PLAN, "instances_outside"),
    ("AuthorizationPolicy", ACCOUNTED, "every_field_of_a_security_policy_has_a_fate_and_makes_a_difference"),
    ("AuthorizationPolicy.action", AUTHZ, "audit_decides_nothing"),
    ("AuthorizationPolicy.provider", AUTHZ, "external_authorizers_54_55"),
    ("AuthorizationPolicy.rules[].from[].source.principals", AUTHZ, "sources_7_to_18"),
    ("AuthorizationPolicy.rules[].from[].source.namespaces", AUTHZ, "sources_7_to_18"),
    ("AuthorizationPolicy.rules[].from[].source.notNamespaces", AUTHZ, "sources_7_to_18"),
    ("AuthorizationPolicy.rules[].from[].source.serviceAccounts", AUTHZ, "sources_7_to_18"),
    ("AuthorizationPolicy.rules[].from[].source.trustDomains", AUTHZ, "trust_domains_52_53"),
    ("AuthorizationPolicy.rules[].from[].source.notTrustDomains", AUTHZ, "sources_7_to_18"),
    ("AuthorizationPolicy.rules[].from[].source.ipBlocks", AUTHZ, "addresses_37_38_g10"),
    ("AuthorizationPolicy.rules[].from[].source.remoteIpBlocks", AUTHZ, "addresses_37_38_g10"),
    ("AuthorizationPolicy.rules[].from[].source.requestPrincipals", AUTHZ, "tcp_32_to_36"),
    ("AuthorizationPolicy.rules[].from[].source.notRequestPrincipals", AUTHZ, "tokens_41_42_44_to_48_g11"),
    ("AuthorizationPolicy.rules[].to[].operation.methods", AUTHZ, "actions_and_scopes_1_to_6_50_60"),
    ("AuthorizationPolicy.rules[].to[].operation.paths", AUTHZ, "names_and_details_g1_g2"),
    ("AuthorizationPolicy.rules[].to[].operation.notPaths", AUTHZ, "operations_19_to_31_62"),
    ("AuthorizationPolicy.rules[].when[].notValues", AUTHZ, "headers_49_g7_g8"),
    ("EgressPolicy", ACCOUNTED, "every_field_of_a_security_policy_has_a_fate_and_makes_a_difference"),
    ("EgressPolicy.rules[].from[].source.serviceAccounts", EGRESS, "egress_policies"),
    ("EgressPolicy.rules[].to[].operation.hosts", EGRESS, "egress_policies"),
    ("PeerAuthentication.mtls", MTLS, "strict_refuses_what_is_not_mutual"),
    ("PeerAuthentication.portLevelMtls", MTLS, "ports_have_modes_of_their_own"),
    ("PeerAuthentication.selector", MTLS, "ports_have_modes_of_their_own"),
    ("RequestAuthentication", ACCOUNTED, "every_field_of_a_security_policy_has_a_fate_and_makes_a_difference"),
    ("RequestAuthentication.jwtRules[].issuer", JWT, "h21_any_issuer"),
    ("RequestAuthentication.jwtRules[].audiences", JWT, "h16_h17_audiences"),
    ("RequestAuthentication.jwtRules[].jwksUri", KEYS, "a_server_that_does_not_answer"),
    ("RequestAuthentication.jwtRules[].jwks", JWT, "inline_keys_of_which_none_can_be_used"),
    ("RequestAuthentication.jwtRules[].fromHeaders", JWT, "h27_what_is_forwarded"),
    ("RequestAuthentication.jwtRules[].fromParams", JWT, "h22_to_h24_several_places_and_rules"),
    ("RequestAuthentication.jwtRules[].fromCookies", JWT, "h27_what_is_forwarded"),
    ("RequestAuthentication.jwtRules[].outputPayloadToHeader", JWT, "h25_h26_outputs"),
    ("RequestAuthentication.jwtRules[].outputClaimToHeaders", JWT, "h25_h26_outputs"),
    ("RequestAuthentication.jwtRules[].forwardOriginalToken", JWT, "h27_what_is_forwarded"),
    ("RequestAuthentication.jwtRules[].spaceDelimitedClaims", JWT, "claims_as_policies_see_them"),
    ("RequestAuthentication.jwtRules[].presence", JWT, "h1_h2_no_token"),
    ("MeshConfig.extensionProviders", ACCOUNTED, "every_field_of_a_gateway_sidecar_and_the_mesh_has_a_fate"),
    ("Sidecar.egress", OUTBOUND, "listeners_that_applications_dial"),
    ("Sidecar.egress[].hosts", OUTBOUND, "each_workload_its_own_sites"),
    ("Sidecar.ingress", ACCOUNTED, "consumed_fields_of_other_kinds_make_a_difference"),
    ("Sidecar.ingress[].tls", TLS, "of_a_sidecars_ingress"),
    ("Sidecar.outboundTrafficPolicy", OUTBOUND, "unknown_hosts"),
    ("Sidecar.outboundTrafficPolicy.egressProxy.subset", ACCOUNTED, "consumed_fields_of_other_kinds_make_a_difference"),
    ("Sidecar.workloadSelector", MESH, "the_right_sidecar_is_in_force"),
    ("MeshConfig.accessLog", PLAN, "settings_of_the_mesh"),
    ("MeshConfig.connectTimeout", PLAN, "settings_of_the_mesh"),
    ("MeshConfig.defaultDestinationRuleExportTo", PLAN, "visibility_by_default"),
    ("MeshConfig.defaultServiceExportTo", PLAN, "visibility_by_default"),
    ("MeshConfig.defaultVirtualServiceExportTo", PLAN, "visibility_by_default"),
    ("MeshConfig.defaultHttpRetryPolicy", PLAN, "settings_of_the_mesh"),
    ("MeshConfig.defaultInboundHttpRetryPolicy", PLAN, "settings_of_the_mesh"),
    ("MeshConfig.disableEnvoyListenerLog", PLAN, "settings_of_the_mesh"),
    ("MeshConfig.discoverySelectors", PLAN, "namespaces_that_are_read"),
    ("MeshConfig.dnsRefreshRate", PLAN, "settings_of_the_mesh"),
    ("MeshConfig.h2UpgradePolicy", POOL, "http_versions"),
    ("MeshConfig.inboundTrafficPolicy", OUTBOUND, "applications_on_loopback"),
    ("MeshConfig.tlsDefaults", TLS, "defaults_of_the_mesh"),
    ("MeshConfig.meshMTLS.cipherSuites", ACCOUNTED, "consumed_fields_of_balancing_make_a_difference"),
    ("MeshConfig.caCertificates", MTLS, "others_vouch_for_their_own_workloads"),
    ("MeshConfig.enableAutoMtls", HOPS, "services_of_the_mesh_have_mutual_tls_without_asking"),
    ("MeshConfig.meshMTLS", MTLS, "what_ends_the_meshs_tls_is_the_meshs_business"),
    ("MeshConfig.outboundTrafficPolicy", OUTBOUND, "unknown_hosts"),
    ("MeshConfig.outboundTrafficPolicy.egressProxy.subset", PLAN, "settings_of_the_mesh"),
    ("MeshConfig.outboundTrafficPolicy.mode", PLAN, "settings_of_the_mesh"),
    ("MeshConfig.outboundTrafficPolicy.tls", OUTBOUND, "tls_around_what_goes_to_unknown_hosts"),
    ("MeshConfig.pathNormalization", PATHS, "settings_of_normalization"),
    ("MeshConfig.protocolDetectionTimeout", PLAN, "settings_of_the_mesh"),
    ("MeshConfig.proxyHttpPort", OUTBOUND, "ports_of_the_proxy"),
    ("MeshConfig.proxyInboundListenPort", OUTBOUND, "ports_of_the_proxy"),
    ("MeshConfig.proxyListenPort", OUTBOUND, "ports_of_the_proxy"),
    ("MeshConfig.rootNamespace", PLAN, "visibility_by_default"),
    ("MeshConfig.tcpKeepalive", PLAN, "settings_of_the_mesh"),
    ("MeshConfig.trustDomain", MTLS, "what_ends_the_meshs_tls_is_the_meshs_business"),
    ("proxy.caCertificatesPem", MTLS, "others_vouch_for_their_own_workloads"),
    ("proxy.concurrency", LISTED, "the_annotation_goes_before_resources_and_those_before_the_mesh"),
    ("proxy.connectionSettings", PLAN, "settings_of_the_proxy"),
    ("proxy.connectionSettings.httpIdleTimeout", LIFETIMES, "c14_an_idle_connection_is_closed"),
    ("proxy.connectionSettings.httpMaxConnectionDuration", LIFETIMES, "c16_an_old_connection_says_that_it_goes"),
    ("proxy.drainDuration", PLAN, "settings_of_the_proxy"),
    ("proxy.gatewayTopology.forwardClientCertDetails", SETTINGS, "headers_that_the_proxy_makes"),
    ("proxy.gatewayTopology.numTrustedProxies", SETTINGS, "trusted_proxies_in_front"),
    ("proxy.gatewayTopology.proxyProtocol", GATES, "m7_a_proxy_header_says_who_the_client_is"),
    ("proxy.interceptionMode", LISTED, "what_the_node_reads_is_merged_too"),
    ("proxy.proxyAdminPort", LISTED, "what_the_node_reads_is_merged_too"),
    ("proxy.proxyHeaders", SETTINGS, "headers_that_the_proxy_makes"),
    ("proxy.proxyHeaders.server", PLAN, "settings_of_the_proxy"),
    ("proxy.proxyHeaders.forwardedClientCert", PLAN, "settings_of_the_proxy"),
    ("proxy.proxyHeaders.preserveHttp1HeaderCase", SETTINGS, "names_keep_their_case"),
    ("proxy.proxyHeaders.setCurrentClientCertDetails", PLAN, "settings_of_the_proxy"),
    ("proxy.proxyMetadata", PLAN, "settings_of_the_proxy"),
    ("proxy.terminationDrainDuration", PLAN, "settings_of_the_proxy"),
];

/// Names that say little without the one around them.
const GENERAL: &[&str] = &[
    "*", "bind", "enabled", "disabled", "exact", "from", "host", "hosts", "interval", "key", "labels", "mode", "name",
    "number", "operator", "path", "percent", "port", "prefix", "probes", "protocol", "regex", "subset", "time",
    "timeout", "to", "value", "values", "version",
];

/// A test of the repository.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Test {
    pub(super) file: &'static str,
    pub(super) name: &'static str,
}

/// The same field wherever it is.
fn one_name(kind: &str, field: &str) -> String {
    let policy = |rest: &str| {
        let rest = rest.strip_prefix("portLevelSettings[].").unwrap_or(rest);
        format!("policy.{rest}")
    };
    let starts = |prefix: &str| field.strip_prefix(prefix);
    let found = match kind {
        "DestinationRule" => starts("subsets[].trafficPolicy.").or_else(|| starts("trafficPolicy.")).map(policy),
        "Sidecar" => {
            let pool = starts("ingress[].connectionPool.").or_else(|| starts("inboundConnectionPool."));
            pool.map(|rest| format!("policy.connectionPool.{rest}"))
        }
        "MeshConfig" => starts("defaultTrafficPolicy.")
            .map(policy)
            .or_else(|| starts("defaultConfig.").map(|rest| format!("proxy.{rest}")))
            .or_else(|| field.contains("LbSetting").then(|| format!("policy.loadBalancer.{field}"))),
        "ProxyConfig" => Some(format!("proxy.{field}")),
        _ => None,
    };
    found.unwrap_or_else(|| format!("{kind}.{field}"))
}

/// The test that shows a field.
pub(super) fn test_of(kind: &str, field: &str) -> Option<Test> {
    let name = one_name(kind, field);
    let fits = |prefix: &str| name.starts_with(prefix);
    let row = SHOWN.iter().filter(|(prefix, ..)| fits(prefix)).max_by_key(|(prefix, ..)| prefix.len())?;
    Some(Test { file: row.1, name: row.2 })
}

/// What is wrong with naming this test for a field: it does not exist, or is about something else.
pub(super) fn wrong(test: Test, field: &str, files: &mut BTreeMap<&'static str, String>) -> Option<String> {
    let Test { file, name } = test;
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let text =
        files.entry(file).or_insert_with(|| std::fs::read_to_string(format!("{root}/{file}")).unwrap_or_default());
    let Some(start) = text.find(&format!("fn {name}(")) else { return Some(format!("{file} has no test {name}")) };
    let own = &text[start..start + text[start..].find("\n}").unwrap_or(0)];
    // Such a test makes an object with every field of the kind, out of its schema.
    if own.contains("schema::<") {
        return None;
    }
    // Tables of samples are functions of their own.
    let body = if own.contains("flip_samples(") { text.as_str() } else { own };
    let missing: Vec<&str> = words(field).into_iter().filter(|w| !has_word(body, w)).collect();
    (!missing.is_empty()).then(|| format!("{file} {name} does not mention {missing:?} of {field}"))
}

/// The name of a field, with the one around it if it is a general one.
fn words(field: &str) -> Vec<&str> {
    let mut parts = field.rsplit('.').map(|p| p.trim_end_matches("[]"));
    let mut found: Vec<&str> = parts.next().into_iter().collect();
    while found.last().is_some_and(|w| GENERAL.contains(w)) {
        let Some(outer) = parts.next() else { break };
        found.push(outer);
        if !GENERAL.contains(&outer) {
            break;
        }
    }
    found.retain(|w| *w != "*" && *w != "number" && *w != "http" && *w != "portLevelSettings");
    found
}

fn has_word(text: &str, word: &str) -> bool {
    let inside = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.match_indices(word)
        .any(|(i, _)| !inside(text[..i].chars().next_back()) && !inside(text[i + word.len()..].chars().next()))
}
