//! Pods: containers, volumes, probes.

use serde::{Deserialize, Serialize};

use crate::api::values::{IntOrString, is_default};

/// Spec of a Pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    /// Containers.
    #[serde(skip_serializing_if = "is_default")]
    pub containers: Vec<Container>,
    /// Containers that run to completion before the others; `restartPolicy: Always` makes them sidecars.
    #[serde(skip_serializing_if = "is_default")]
    pub init_containers: Vec<Container>,
    /// Volumes.
    #[serde(skip_serializing_if = "is_default")]
    pub volumes: Vec<Volume>,
    /// Service account; empty means `default`.
    #[serde(skip_serializing_if = "is_default")]
    pub service_account_name: String,
    /// Deprecated form of `serviceAccountName`.
    #[serde(skip_serializing_if = "is_default")]
    pub service_account: String,
    /// Host name; empty means the pod's name.
    #[serde(skip_serializing_if = "is_default")]
    pub hostname: String,
    /// Headless service that the host name is part of.
    #[serde(skip_serializing_if = "is_default")]
    pub subdomain: String,
    /// `Always` (the default), `OnFailure` or `Never`.
    #[serde(skip_serializing_if = "is_default")]
    pub restart_policy: String,
    /// Seconds between SIGTERM and SIGKILL; default 30.
    #[serde(skip_serializing_if = "is_default")]
    pub termination_grace_period_seconds: Option<u64>,
    /// User of all containers. Inert in the local mesh.
    #[serde(skip_serializing_if = "is_default")]
    pub security_context: Option<SecurityContext>,
}

/// As whom a process runs, as far as it matters to capture.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct SecurityContext {
    /// User id.
    #[serde(skip_serializing_if = "is_default")]
    pub run_as_user: Option<i64>,
}

/// A container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Container {
    /// Name.
    #[serde(skip_serializing_if = "is_default")]
    pub name: String,
    /// Image, which the image map translates to a local command.
    #[serde(skip_serializing_if = "is_default")]
    pub image: String,
    /// Command; empty means the image's.
    #[serde(skip_serializing_if = "is_default")]
    pub command: Vec<String>,
    /// Arguments.
    #[serde(skip_serializing_if = "is_default")]
    pub args: Vec<String>,
    /// Directory to start in.
    #[serde(skip_serializing_if = "is_default")]
    pub working_dir: String,
    /// Ports.
    #[serde(skip_serializing_if = "is_default")]
    pub ports: Vec<ContainerPort>,
    /// Environment.
    #[serde(skip_serializing_if = "is_default")]
    pub env: Vec<EnvVar>,
    /// Environment from ConfigMaps.
    #[serde(skip_serializing_if = "is_default")]
    pub env_from: Vec<EnvFromSource>,
    /// Volumes in the file system.
    #[serde(skip_serializing_if = "is_default")]
    pub volume_mounts: Vec<VolumeMount>,
    /// When the pod gets traffic.
    #[serde(skip_serializing_if = "is_default")]
    pub readiness_probe: Option<Probe>,
    /// When the container is restarted.
    #[serde(skip_serializing_if = "is_default")]
    pub liveness_probe: Option<Probe>,
    /// Holds the other probes until it succeeds.
    #[serde(skip_serializing_if = "is_default")]
    pub startup_probe: Option<Probe>,
    /// `Always` makes an init container a sidecar.
    #[serde(skip_serializing_if = "is_default")]
    pub restart_policy: String,
    /// Hooks.
    #[serde(skip_serializing_if = "is_default")]
    pub lifecycle: Option<Lifecycle>,
    /// User; beats the pod's. Inert in the local mesh.
    #[serde(skip_serializing_if = "is_default")]
    pub security_context: Option<SecurityContext>,
}

/// A port of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerPort {
    /// Name, which a Service's `targetPort` can refer to.
    #[serde(skip_serializing_if = "is_default")]
    pub name: String,
    /// Port number.
    #[serde(skip_serializing_if = "is_default")]
    pub container_port: u32,
    /// `TCP` (the default) or `UDP`.
    #[serde(skip_serializing_if = "is_default")]
    pub protocol: String,
    /// Port on the host; 0 is none.
    #[serde(skip_serializing_if = "is_default")]
    pub host_port: u32,
}

/// An environment variable.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct EnvVar {
    /// Name.
    #[serde(skip_serializing_if = "is_default")]
    pub name: String,
    /// Value; `$(NAME)` refers to variables before it.
    #[serde(skip_serializing_if = "is_default")]
    pub value: String,
    /// Where the value comes from.
    #[serde(skip_serializing_if = "is_default")]
    pub value_from: Option<EnvVarSource>,
}

/// Where a value comes from: one of these.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct EnvVarSource {
    /// A field of the pod.
    #[serde(skip_serializing_if = "is_default")]
    pub field_ref: Option<ObjectFieldSelector>,
    /// A key of a ConfigMap.
    #[serde(skip_serializing_if = "is_default")]
    pub config_map_key_ref: Option<KeySelector>,
    /// A key of a Secret.
    #[serde(skip_serializing_if = "is_default")]
    pub secret_key_ref: Option<KeySelector>,
    /// A resource limit of a container.
    #[serde(skip_serializing_if = "is_default")]
    pub resource_field_ref: Option<ResourceFieldSelector>,
}

/// A field of the pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectFieldSelector {
    /// Version of the field path.
    #[serde(skip_serializing_if = "is_default")]
    pub api_version: String,
    /// Path (`metadata.name`, `status.podIP`).
    #[serde(skip_serializing_if = "is_default")]
    pub field_path: String,
}

/// A key of a ConfigMap or Secret.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct KeySelector {
    /// Name of the object.
    #[serde(skip_serializing_if = "is_default")]
    pub name: String,
    /// Key.
    #[serde(skip_serializing_if = "is_default")]
    pub key: String,
    /// It may be missing.
    #[serde(skip_serializing_if = "is_default")]
    pub optional: Option<bool>,
}

/// A resource limit of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ResourceFieldSelector {
    /// Container.
    #[serde(skip_serializing_if = "is_default")]
    pub container_name: String,
    /// Resource (`limits.cpu`).
    #[serde(skip_serializing_if = "is_default")]
    pub resource: String,
    /// Unit.
    #[serde(skip_serializing_if = "is_default")]
    pub divisor: Option<IntOrString>,
}

/// A group of variables.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct EnvFromSource {
    /// Put before each name.
    #[serde(skip_serializing_if = "is_default")]
    pub prefix: String,
    /// ConfigMap whose keys become variables.
    #[serde(skip_serializing_if = "is_default")]
    pub config_map_ref: Option<ObjectRef>,
    /// Secret whose keys become variables.
    #[serde(skip_serializing_if = "is_default")]
    pub secret_ref: Option<ObjectRef>,
}

/// An object by name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectRef {
    /// Name.
    #[serde(skip_serializing_if = "is_default")]
    pub name: String,
    /// It may be missing.
    #[serde(skip_serializing_if = "is_default")]
    pub optional: Option<bool>,
}

/// A volume in the file system.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct VolumeMount {
    /// Volume.
    #[serde(skip_serializing_if = "is_default")]
    pub name: String,
    /// Directory.
    #[serde(skip_serializing_if = "is_default")]
    pub mount_path: String,
    /// Part of the volume.
    #[serde(skip_serializing_if = "is_default")]
    pub sub_path: String,
    /// Not writable.
    #[serde(skip_serializing_if = "is_default")]
    pub read_only: bool,
}

/// A volume: one of the kinds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Volume {
    /// Name.
    #[serde(skip_serializing_if = "is_default")]
    pub name: String,
    /// Files from a ConfigMap.
    #[serde(skip_serializing_if = "is_default")]
    pub config_map: Option<ConfigMapVolume>,
    /// An empty directory.
    #[serde(skip_serializing_if = "is_default")]
    pub empty_dir: Option<EmptyDirVolume>,
    /// Files from a Secret.
    #[serde(skip_serializing_if = "is_default")]
    pub secret: Option<SecretVolume>,
}

/// Files from a ConfigMap.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ConfigMapVolume {
    /// ConfigMap.
    #[serde(skip_serializing_if = "is_default")]
    pub name: String,
    /// Keys and their files; empty means all.
    #[serde(skip_serializing_if = "is_default")]
    pub items: Vec<KeyToPath>,
    /// File mode.
    #[serde(skip_serializing_if = "is_default")]
    pub default_mode: Option<i32>,
    /// It may be missing.
    #[serde(skip_serializing_if = "is_default")]
    pub optional: Option<bool>,
}

/// Files from a Secret.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct SecretVolume {
    /// Secret.
    #[serde(skip_serializing_if = "is_default")]
    pub secret_name: String,
    /// Keys and their files; empty means all.
    #[serde(skip_serializing_if = "is_default")]
    pub items: Vec<KeyToPath>,
    /// File mode.
    #[serde(skip_serializing_if = "is_default")]
    pub default_mode: Option<i32>,
    /// It may be missing.
    #[serde(skip_serializing_if = "is_default")]
    pub optional: Option<bool>,
}

/// A key and its file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct KeyToPath {
    /// Key.
    #[serde(skip_serializing_if = "is_default")]
    pub key: String,
    /// File, relative to the mount.
    #[serde(skip_serializing_if = "is_default")]
    pub path: String,
    /// File mode.
    #[serde(skip_serializing_if = "is_default")]
    pub mode: Option<i32>,
}

/// An empty directory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct EmptyDirVolume {
    /// `Memory` or empty.
    #[serde(skip_serializing_if = "is_default")]
    pub medium: String,
    /// Size limit; not enforced.
    #[serde(skip_serializing_if = "is_default")]
    pub size_limit: Option<IntOrString>,
}

/// Hooks of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Lifecycle {
    /// After the start.
    #[serde(skip_serializing_if = "is_default")]
    pub post_start: Option<Handler>,
    /// Before SIGTERM.
    #[serde(skip_serializing_if = "is_default")]
    pub pre_stop: Option<Handler>,
}

/// What a hook does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Handler {
    /// Run a command.
    #[serde(skip_serializing_if = "is_default")]
    pub exec: Option<ExecAction>,
    /// Send an HTTP request.
    #[serde(skip_serializing_if = "is_default")]
    pub http_get: Option<HttpGetAction>,
    /// Open a connection.
    #[serde(skip_serializing_if = "is_default")]
    pub tcp_socket: Option<TcpSocketAction>,
    /// Wait.
    #[serde(skip_serializing_if = "is_default")]
    pub sleep: Option<SleepAction>,
}

/// A pause.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct SleepAction {
    /// Seconds.
    #[serde(skip_serializing_if = "is_default")]
    pub seconds: u64,
}

/// A health check; one of the four actions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Probe {
    /// Healthy if the status is 200 to 399.
    #[serde(skip_serializing_if = "is_default")]
    pub http_get: Option<HttpGetAction>,
    /// Healthy if a connection opens.
    #[serde(skip_serializing_if = "is_default")]
    pub tcp_socket: Option<TcpSocketAction>,
    /// Healthy if the exit code is 0.
    #[serde(skip_serializing_if = "is_default")]
    pub exec: Option<ExecAction>,
    /// Healthy if the gRPC health service says so.
    #[serde(skip_serializing_if = "is_default")]
    pub grpc: Option<GrpcAction>,
    /// Seconds before the first check; default 0.
    #[serde(skip_serializing_if = "is_default")]
    pub initial_delay_seconds: i32,
    /// Seconds for a check; 0 means 1.
    #[serde(skip_serializing_if = "is_default")]
    pub timeout_seconds: i32,
    /// Seconds between checks; 0 means 10.
    #[serde(skip_serializing_if = "is_default")]
    pub period_seconds: i32,
    /// Successes until healthy; 0 means 1.
    #[serde(skip_serializing_if = "is_default")]
    pub success_threshold: i32,
    /// Failures until unhealthy; 0 means 3.
    #[serde(skip_serializing_if = "is_default")]
    pub failure_threshold: i32,
}

/// An HTTP request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct HttpGetAction {
    /// Path; empty means `/`.
    #[serde(skip_serializing_if = "is_default")]
    pub path: String,
    /// Port number or name.
    #[serde(skip_serializing_if = "is_default")]
    pub port: Option<IntOrString>,
    /// Host; empty means the pod.
    #[serde(skip_serializing_if = "is_default")]
    pub host: String,
    /// `HTTP` (the default) or `HTTPS`.
    #[serde(skip_serializing_if = "is_default")]
    pub scheme: String,
    /// Headers.
    #[serde(skip_serializing_if = "is_default")]
    pub http_headers: Vec<HttpHeader>,
}

/// A header.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct HttpHeader {
    /// Name.
    #[serde(skip_serializing_if = "is_default")]
    pub name: String,
    /// Value.
    #[serde(skip_serializing_if = "is_default")]
    pub value: String,
}

/// A connection.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct TcpSocketAction {
    /// Port number or name.
    #[serde(skip_serializing_if = "is_default")]
    pub port: Option<IntOrString>,
    /// Host; empty means the pod.
    #[serde(skip_serializing_if = "is_default")]
    pub host: String,
}

/// A command.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ExecAction {
    /// Program and arguments.
    #[serde(skip_serializing_if = "is_default")]
    pub command: Vec<String>,
}

/// A gRPC health check.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct GrpcAction {
    /// Port number.
    #[serde(skip_serializing_if = "is_default")]
    pub port: u32,
    /// Service name; may be empty.
    #[serde(skip_serializing_if = "is_default")]
    pub service: String,
}
