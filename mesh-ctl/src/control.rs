//! The control protocol between `meshctl` and the node of a running mesh.
//!
//! The socket is an abstract unix name per user and mesh (see [`crate::localmesh::control_name`]), so nothing is on disk;
//! the node lets only the user in who started the mesh. One connection carries one request. Both sides send frames: the
//! length of the body in four bytes, big-endian, then the body as JSON. The first byte of a frame can carry descriptors
//! (`SCM_RIGHTS`): the standard streams of `exec`, the connection of a port-forward. The client sends one [`Request`];
//! the node answers with any number of [`Reply::Text`] or [`Reply::Output`] frames and ends with [`Reply::Done`] or
//! [`Reply::Error`]. Closing the connection gives the request up.

mod frame;

use mesh_core::api::Origin;
use serde::{Deserialize, Serialize};

use crate::localmesh::Usage;
use crate::manifest::Document;

pub use frame::{recv, send};

/// A file that the user named, read by `meshctl` so that relative paths mean what the user sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFile {
    /// Path as given; `-` is standard input.
    pub path: String,
    /// Content.
    pub text: String,
}

/// What `meshctl` asks of the node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Request {
    /// [`Status`](status::MeshStatus) now.
    Status,
    /// The same, once every workload is ready or has failed for good, or after the time is over.
    Wait {
        /// Longest wait in milliseconds.
        timeout_ms: u64,
    },
    /// Ends the mesh; answered before it goes.
    Down,
    /// Creates or replaces objects; answered when every proxy has them in force.
    Apply {
        /// Files in order.
        files: Vec<SourceFile>,
        /// Namespace of objects that name none.
        namespace: String,
    },
    /// Deletes objects; answered when no proxy has them in force.
    Delete {
        /// Which.
        what: Selection,
        /// Namespace of objects that name none.
        namespace: String,
    },
    /// Objects of a kind.
    Get {
        /// Kind, plural or short name; `all` for everything.
        kind: String,
        /// Name; absent means all.
        name: Option<String>,
        /// Namespace; absent means all.
        namespace: Option<String>,
    },
    /// Changes one object.
    Patch {
        /// Kind, plural or short name.
        kind: String,
        /// Name.
        name: String,
        /// Namespace.
        namespace: String,
        /// How to read the patch.
        kind_of_patch: PatchKind,
        /// The patch, YAML or JSON.
        patch: String,
    },
    /// Runs a command in a pod; the frame carries the three standard streams. Answered with its exit code.
    Exec {
        /// `NAME[.NAMESPACE]`, `deploy/NAME`, `pod/NAME`.
        workload: String,
        /// Program and arguments.
        command: Vec<String>,
        /// Variables of the caller's terminal (`TERM`, `COLUMNS`).
        env: Vec<(String, String)>,
        /// Standard input is a terminal to be the controlling one.
        tty: bool,
    },
    /// Output of a workload's processes.
    Logs {
        /// As in `exec`.
        workload: String,
        /// Container; `proxy` or `istio-proxy` is the sidecar. Absent: the first one.
        container: Option<String>,
        /// Go on until the connection closes.
        follow: bool,
        /// Only this many lines of the past.
        tail: Option<usize>,
    },
    /// Replaces the pods of a workload.
    Restart {
        /// As in `exec`.
        workload: String,
    },
    /// A connection into the mesh, as the descriptor of the answer.
    Dial {
        /// `svc/NAME[.NAMESPACE]` or a workload.
        target: String,
        /// Port of the service or pod.
        port: u16,
    },
    /// Every object with the pods as they are, for `explain` without paths.
    Dump,
    /// What the processes of each pod use, without its proxy.
    Usage,
    /// The CA.
    Certs {
        /// Begin to replace its root first.
        rotate_root: bool,
    },
}

/// Which objects to delete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Selection {
    /// Those that the files hold.
    Files(Vec<SourceFile>),
    /// Those of one kind with these names.
    Named {
        /// Kind, plural or short name.
        kind: String,
        /// Names.
        names: Vec<String>,
    },
}

/// How to read a patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum PatchKind {
    /// JSON merge patch (RFC 7386): an object to merge; null removes.
    Merge,
    /// JSON patch (RFC 6902): a list of operations.
    Json,
}

/// What the node says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reply {
    /// A line to show.
    Text(String),
    /// A line of output of a process.
    Output(String),
    /// It is done; the content depends on the request.
    Done(serde_json::Value),
    /// It is not; the text says what to do.
    Error(String),
}

/// An object with where it was written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Live {
    /// Content.
    pub value: serde_json::Value,
    /// Where it was written.
    pub origin: Origin,
}

impl Live {
    /// Reads it.
    pub fn into_document(self) -> Document {
        Document::new(self.value, self.origin)
    }
}

/// What happened to one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// `virtualservice.networking.istio.io/reviews`, as kubectl names it.
    pub name: String,
    /// Namespace; empty for kinds that live in none.
    pub namespace: String,
    /// `created`, `configured`, `unchanged`, `deleted`, `patched`, `refused`.
    pub change: String,
    /// Problems of this object, each a line.
    pub messages: Vec<String>,
}

/// Answer to `apply`, `delete` and `patch`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Changes {
    /// One for each document, in order.
    pub objects: Vec<Change>,
    /// Proxies that have the change in force.
    pub proxies: usize,
    /// Milliseconds from receiving the request until the last proxy had acknowledged.
    pub took_ms: f64,
    /// Proxies that have not within the time: `NAME.NAMESPACE: why`.
    pub behind: Vec<String>,
    /// What proxies refused: `NAME.NAMESPACE: resource: why`.
    pub rejected: Vec<String>,
}

/// What the processes of a pod use, without its proxy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodUsage {
    /// Pod name.
    pub pod: String,
    /// Namespace.
    pub namespace: String,
    /// What they use.
    pub usage: Usage,
}

/// Answer to `certs`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CaStatus {
    /// `stable`; `announced`: the new root is trusted and does not sign yet; `retiring`: it signs, and the old one is still
    /// trusted.
    pub rotation: String,
    /// Trusted roots.
    pub roots: Vec<RootStatus>,
}

/// A root of the mesh.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RootStatus {
    /// Subject.
    pub subject: String,
    /// Serial number in hexadecimal.
    pub serial: String,
    /// Until when it is valid.
    pub not_after: String,
    /// New certificates are signed by it, or by what it has signed.
    pub signs: bool,
}

pub mod status {
    //! What `status -o json` prints; stable.

    use serde::{Deserialize, Serialize};

    /// The whole mesh.
    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub struct MeshStatus {
        /// Name of the mesh.
        pub name: String,
        /// `namespaces` or `explicit`.
        pub mode: String,
        /// Every workload that can be ready is.
        pub ready: bool,
        /// Where the mesh is reached from this machine.
        pub urls: Vec<Url>,
        /// One for each pod.
        pub workloads: Vec<WorkloadStatus>,
    }

    /// A host port of the mesh.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub struct Url {
        /// `gateway` or `nodePort`.
        pub kind: String,
        /// Who answers: `istio-ingressgateway.istio-system`, a Service's name.
        pub name: String,
        /// Port of the Gateway's server or of the node.
        pub port: u16,
        /// `http://127.0.0.1:8080`.
        pub url: String,
    }

    /// One pod.
    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub struct WorkloadStatus {
        /// Name of the Deployment or bare Pod.
        pub workload: String,
        /// Pod name.
        pub pod: String,
        /// Namespace.
        pub namespace: String,
        /// Address.
        pub ip: String,
        /// `Pending`, `Starting`, `Running`, `NotStarted`, `Terminating`, `Waiting`.
        pub phase: String,
        /// Gets traffic.
        pub ready: bool,
        /// Why it is not ready.
        pub reason: String,
        /// `sidecar`, `gateway` or `none`.
        pub proxy: String,
        /// The proxy answers on its readiness port.
        pub proxy_ready: bool,
        /// Hash of the configuration that the proxy has in force; empty before its first acknowledgement.
        pub config: String,
        /// The proxy has acknowledged everything that it was sent.
        pub synced: bool,
        /// Resources that the proxy refused, by name.
        pub rejected: Vec<String>,
        /// Restarts of application containers.
        pub restarts: u32,
        /// Restarts of the proxy.
        pub proxy_restarts: u32,
    }

    impl WorkloadStatus {
        /// `POD.NAMESPACE`, by which the other commands know it.
        pub fn name(&self) -> String {
            format!("{}.{}", self.pod, self.namespace)
        }
    }
}
