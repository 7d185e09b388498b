//! The local mesh: a whole mesh on one Linux machine, without root, containers or helper programs.
//!
//! # Process tree
//!
//! ```text
//! meshctl up            host namespaces: terminal, dialer, host listeners          (launch, dialer)
//!  └ node               pid 1 of the mesh's pid namespace; runs `node_main`         (node)
//!     └ zygote          small, single-threaded; creates pods for the node           (zygote)
//!        ├ pod holder   pid 1 of one pod's pid namespace: sets the pod up, reaps    (pod)
//!        │  ├ sidecar   CAP_NET_ADMIN as ambient capability
//!        │  └ app       no capability at all
//!        └ pod holder …
//! ```
//!
//! The zygote is forked before the node starts tokio, so holders stay small and may run ordinary code after `fork`.
//! Node and holder talk over a sequenced-packet socket; a holder whose node is gone ends itself and
//! everything below it. In namespace mode the kernel does the same by ending the pid namespace. Nothing is on disk.
//!
//! # Using it
//!
//! 1. [`probe()`] tells whether the kernel lets us make namespaces; a [`Refused`] holds the sentence to print.
//! 2. [`launch()`] is called before any thread exists (so before tokio). It runs the closure `node_main` in the node
//!    and itself plays the parent, or returns once the mesh is ready when [`Config::detach`] is set.
//! 3. `node_main` starts a tokio current-thread runtime **on its own thread** and calls [`Node::start`] inside it, which
//!    gives a [`Running`]: the [`PodRuntime`], the [`Dialer`], the control socket and the status pipe.
//!
//! # What a sidecar or gateway process finds in its environment
//!
//! | Variable | Meaning |
//! |---|---|
//! | `MESH_DIALER_FD` | sequenced-packet socket of the dialer, shared by all; protocol in [`dialer`] |
//! | `MESH_CONFIG_FD` | connected stream socket to the node ([`Child::config`]) |
//! | `MESH_LISTEN_FDS` | `name=fd,name=fd`: listening sockets it inherits ([`ProcessSpec::listeners`]) |
//! | `MESH_MODE` | `namespaces` or `explicit` |
//! | `MESH_POD_IP` | the pod's address (also set for applications) |
//!
//! # Real root
//!
//! Started as real root, everything runs as `$SUDO_UID` (or [`POOL_UID`] without sudo): the parent right after it made the
//! node, node and holders with capabilities over the mesh's own namespaces only, applications with none. What is kept of
//! root's power is reading: programs and files below a directory that only root may enter still start.

mod api;
pub mod dialer;
mod identity;
mod launch;
mod mounts;
mod netlink;
mod nftables;
mod node;
mod pod;
mod probe;
mod process;
mod runtime;
mod sys;
mod usage;
mod wire;
mod zygote;

pub use api::{
    CaptureRules, Child, ChildId, ChildOutput, Config, Exit, Mode, Pending, PodFile, PodId, PodRuntime, PodSpec,
    PodVolume, ProcessSpec, Role, Selector, Status, Stdio,
};
pub use dialer::Dialer;
pub use launch::{Launched, POOL_UID, connect_control, control_name, launch};
pub use node::{Node, Running, StatusPipe, open_terminal, peer_uid};
pub use probe::{Refused, Step, probe};
pub(crate) use sys::watch;
pub use usage::Usage;

/// Marks the sidecar's own connections towards upstreams: never captured again.
pub const MARK_UPSTREAM: u32 = 0x539;
/// Marks connections into the pod's own application (sidecar's inbound side, probes, port-forward): never captured.
pub const MARK_TO_APP: u32 = 0x53a;
/// Port of the node's own proxy for pods without a sidecar; it sees the original destination.
pub const NODE_PROXY_PORT: u16 = 15099;
/// Port of DNS, in every pod with capture and on the node. In a pod bind UDP to 127.0.0.1 and `::1`, not to the wildcard
/// address: an answer from there would leave with the pod's address, and would not be the answer to the question.
pub const DNS_PORT: u16 = 15053;
/// Port of outbound capture.
pub const OUTBOUND_PORT: u16 = 15001;
/// Port of inbound capture.
pub const INBOUND_PORT: u16 = 15006;
