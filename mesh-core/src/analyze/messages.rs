//! Codes, names and levels of what analyzers say. `ISTnnnn` are Istio's, with its texts; `MESHnnnn` are ours.

use crate::api::codes::Code;
use crate::compile::codes;
use crate::report::Level::{Error, Info, Warning};

const fn code(code: &'static str, name: &'static str, level: crate::report::Level) -> Code {
    Code { code, name, level }
}

pub(super) const DEPRECATED: Code = code("IST0002", "Deprecated", Warning);
pub(super) const NOT_FOUND: Code = code("IST0101", "ReferencedResourceNotFound", Error);
pub(super) const NOT_INJECTED: Code = code("IST0102", "NamespaceNotInjected", Info);
pub(super) const POD_WITHOUT_PROXY: Code = code("IST0103", "PodMissingProxy", Warning);
pub(super) const CONFLICTING_HOSTS: Code = code("IST0109", "ConflictingMeshGatewayVirtualServiceHosts", Error);
pub(super) const CONFLICTING_SIDECARS: Code = code("IST0110", "ConflictingSidecarWorkloadSelectors", Error);
pub(super) const SEVERAL_SIDECARS: Code = code("IST0111", "MultipleSidecarsWithoutWorkloadSelectors", Error);
pub(super) const PORT_REQUIRED: Code = code("IST0112", "VirtualServiceDestinationPortSelectorRequired", Error);
pub(super) const SEVERAL_SERVICES: Code = code("IST0116", "DeploymentAssociatedToMultipleServices", Warning);
pub(super) const PORT_NAME: Code = code("IST0118", "PortNameIsNotUnderNamingConvention", Info);
pub(super) const SEVERAL_LABELS: Code = code("IST0123", "NamespaceMultipleInjectionLabels", Warning);
pub(super) const NO_CA: Code = code("IST0128", "NoServerCertificateVerificationDestinationLevel", Warning);
pub(super) const NO_CA_PORT: Code = code("IST0129", "NoServerCertificateVerificationPortLevel", Warning);
pub(super) const HOST_NOT_IN_GATEWAY: Code = code("IST0132", "VirtualServiceHostNotFoundInGateway", Warning);
pub(super) const ADDRESSES_REQUIRED: Code = code("IST0134", "ServiceEntryAddressesRequired", Warning);
pub(super) const CONFLICTING_PORTS: Code = code("IST0137", "DeploymentConflictingPorts", Warning);
pub(super) const DUPLICATE_CERTIFICATE: Code = code("IST0138", "GatewayDuplicateCertificate", Warning);
pub(super) const NOT_AT_INGRESS: Code = code("IST0140", "IngressRouteRulesNotAffected", Warning);
pub(super) const CONFLICTING_GATEWAYS: Code = code("IST0145", "ConflictingGateways", Error);
pub(super) const INJECTED_BY_DEFAULT: Code = code("IST0148", "NamespaceInjectionEnabledByDefault", Info);
pub(super) const EXTERNAL_PORT_NAME: Code = code("IST0150", "ExternalNameServiceTypeInvalidPortName", Warning);
pub(super) const PORT_NOT_ON_SERVICE: Code = code("IST0162", "GatewayPortNotDefinedOnService", Warning);
pub(super) const INTERNAL_GATEWAY: Code = code("IST0165", "ReferencedInternalGateway", Warning);
pub(super) const EMPTY_SUBSET: Code = code("IST0173", "DestinationRuleSubsetNotSelectPods", Error);
pub(super) const UNKNOWN_HOST: Code = code("IST0174", "UnknownDestinationRuleHost", Warning);
pub(super) const CONFLICTING_PROTOCOLS: Code = code("IST0177", "ConflictingServiceEntryProtocol", Warning);
pub(super) const MISPLACED: Code = code("IST0107", "MisplacedAnnotation", Warning);
pub(super) const UNKNOWN_ANNOTATION: Code = code("IST0108", "UnknownAnnotation", Warning);
pub(super) const INVALID_ANNOTATION: Code = code("IST0125", "InvalidAnnotation", Warning);
pub(super) const UNKNOWN_REGISTRY: Code = code("IST0126", "UnknownMeshNetworksServiceRegistry", Error);
pub(super) const DEPRECATED_ANNOTATION: Code = code("IST0135", "DeprecatedAnnotation", Info);
pub(super) const ALPHA: Code = code("IST0136", "AlphaAnnotation", Info);
pub(super) const INVALID_WEBHOOK: Code = code("IST0139", "InvalidWebhook", Error);
pub(super) const RESERVED_UID: Code = code("IST0144", "InvalidApplicationUID", Warning);
pub(super) const AUTO_IMAGE: Code = code("IST0146", "ImageAutoWithoutInjectionWarning", Warning);
pub(super) const AUTO_IMAGE_POD: Code = code("IST0147", "ImageAutoWithoutInjectionError", Error);
pub(super) const NO_CLAIMS: Code = code("IST0149", "JwtClaimBasedRoutingWithoutRequestAuthN", Error);
pub(super) const OLD_PROXY: Code = code("IST0158", "PodsIstioProxyImageMismatchInNamespace", Warning);
pub(super) const INVALID_CREDENTIAL: Code = code("IST0161", "InvalidGatewayCredential", Error);
pub(super) const NO_WORKLOADS: Code = code("IST0127", "NoMatchingWorkloadsFound", Warning);
pub(super) const RELATIVE: Code = code("IST0151", "EnvoyFilterUsesRelativeOperation", Warning);
pub(super) const REPLACED_IN_VAIN: Code = code("IST0152", "EnvoyFilterUsesReplaceOperationIncorrectly", Error);
pub(super) const ADDED_IN_VAIN: Code = code("IST0153", "EnvoyFilterUsesAddOperationIncorrectly", Error);
pub(super) const REMOVED_IN_VAIN: Code = code("IST0154", "EnvoyFilterUsesRemoveOperationIncorrectly", Error);
pub(super) const RELATIVE_VERSION: Code = code("IST0155", "EnvoyFilterUsesRelativeOperationWithProxyVersion", Warning);
pub(super) const NO_PROVIDER: Code = code("IST0157", "InvalidTelemetryProvider", Warning);
pub(super) const CONFLICTING_TELEMETRIES: Code = code("IST0159", "ConflictingTelemetryWorkloadSelectors", Error);
pub(super) const SEVERAL_TELEMETRIES: Code = code("IST0160", "MultipleTelemetriesWithoutWorkloadSelectors", Error);
pub(super) const INVALID_CONTROL_PLANE: Code = code("IST0163", "InvalidExternalControlPlaneConfig", Warning);
pub(super) const CONTROL_PLANE_ADDRESS: Code = code("IST0164", "ExternalControlPlaneAddressIsNotAHostname", Info);
pub(super) const INEFFECTIVE_SELECTOR: Code = code("IST0166", "IneffectiveSelector", Warning);
pub(super) const INEFFECTIVE_POLICY: Code = code("IST0167", "IneffectivePolicy", Warning);
pub(super) const INCONSISTENT_SERVICE: Code = code("IST0170", "MultiClusterInconsistentService", Warning);
pub(super) const NEGATIVE_CONDITION: Code = code("IST0171", "NegativeConditionStatus", Warning);
pub(super) const UNRESTRICTED_KEYS: Code = code("IST0175", "JwksUriFetchUnrestricted", Warning);
pub(super) const OLD_CRD: Code = code("IST0176", "GatewayAPICRDVersionBelowMinimum", Warning);

/// A field is read and validated, but this version does not act on it.
pub const NOT_IN_FORCE: Code = code("MESH0101", "NotInForceYet", Warning);
/// A field can't have an effect where it is.
pub const INERT: Code = code("MESH0102", "WithoutEffect", Info);
/// Something else decides instead of this field.
pub const OVERRIDDEN: Code = code("MESH0103", "Overridden", Info);
/// A gateway's VirtualService with a short host name, which no request from outside has.
pub const SHORT_HOST: Code = code("MESH0104", "ShortHostOnGateway", Warning);
/// Weights whose sum is not 100.
pub const WEIGHTS: Code = code("MESH0105", "WeightsNotPercent", Info);
/// A fault that never happens, because it has no percentage.
pub const NEVER: Code = code("MESH0107", "FaultNeverHappens", Warning);
/// Several VirtualServices for a host at one gateway, whose rules are merged oldest first.
pub const MERGED: Code = code("MESH0108", "MergedAtGateway", Info);
/// A percentage below one, which is probably a share of one.
pub const SMALL_PERCENTAGE: Code = code("MESH0110", "PercentageBelowOne", Info);
/// A host of a VirtualService for the mesh that no service has.
pub const NO_SERVICE: Code = code("MESH0111", "HostWithoutService", Info);

/// A rule that no request reaches, where Istio does not notice it.
pub const SHADOWED: Code = code("MESH0116", "RuleShadowed", Warning);
/// A RequestAuthentication where nothing requires a token.
pub const TOKEN_NOT_REQUIRED: Code = code("MESH0201", "TokenNotRequired", Warning);
/// A time of a token, or for fetching keys, that looks like milliseconds.
pub const MILLISECONDS: Code = code("MESH0202", "TimeInMilliseconds", Warning);
/// A DENY rule about requests that closes a TCP port.
pub const DENIES_TCP: Code = code("MESH0203", "DenyClosesTcpPort", Warning);
/// An identity with `spiffe://`.
pub const SPIFFE_PREFIX: Code = code("MESH0204", "SpiffePrefix", Warning);
/// A security policy that is for no workload.
pub const SELECTS_NOTHING: Code = code("MESH0205", "PolicySelectsNothing", Warning);
/// A value or rule of an AuthorizationPolicy that nothing fits.
pub const NEVER_MATCHES: Code = code("MESH0206", "NeverMatches", Warning);
/// Clients send what the workload refuses.
pub const MTLS_CONFLICT: Code = code("MESH0207", "MutualTlsConflict", Error);
/// A port of a Service where one of the workload counts.
pub const SERVICE_PORT: Code = code("MESH0208", "ServicePortInPolicy", Warning);

/// All codes of our own that analysis and compilation give; those of reading are in [`crate::api::codes`].
pub const OWN: &[Code] = &[
    NOT_IN_FORCE,
    INERT,
    OVERRIDDEN,
    SHORT_HOST,
    WEIGHTS,
    NEVER,
    MERGED,
    codes::CONFLICTING_PORT,
    SMALL_PERCENTAGE,
    NO_SERVICE,
    codes::CREDENTIAL_NOT_USED,
    codes::VERSION_NOT_SPOKEN,
    codes::NOT_OPENED,
    codes::ANNOTATION,
    SHADOWED,
    TOKEN_NOT_REQUIRED,
    MILLISECONDS,
    DENIES_TCP,
    SPIFFE_PREFIX,
    SELECTS_NOTHING,
    NEVER_MATCHES,
    MTLS_CONFLICT,
    SERVICE_PORT,
];
