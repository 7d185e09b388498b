//! What a pod is made of: decided from its object before anything is started.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use mesh_core::api::kube::{Container, PodSpec};
use mesh_core::api::{ContentHash, Key, Object};
use mesh_core::convert::inject::{is_embedded, is_gateway, wants_sidecar};
use mesh_core::convert::{Addresses, Range};

use super::images::{ImageMap, locate};
use super::inject::capture;
use super::mesh::Settings;
use super::store::Store;
use crate::localmesh::{CaptureRules, Mode};

/// Which proxy a pod has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProxyRole {
    /// Beside the application.
    Sidecar,
    /// The pod is the proxy.
    Gateway,
    /// The application embeds the mesh.
    Embedded,
    /// None.
    None,
}

impl ProxyRole {
    /// As `status` says it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Sidecar => "sidecar",
            Self::Gateway => "gateway",
            Self::Embedded => "embedded",
            Self::None => "none",
        }
    }

    /// Whether a process of the mesh runs in the pod.
    pub(super) fn has_process(self) -> bool {
        match self {
            Self::Sidecar | Self::Gateway => true,
            Self::Embedded | Self::None => false,
        }
    }

    /// Whether the pod takes the mesh's own TLS.
    pub(super) fn is_member(self) -> bool {
        match self {
            Self::Sidecar | Self::Embedded => true,
            Self::Gateway | Self::None => false,
        }
    }
}

/// A pod, decided.
#[derive(Clone, Debug)]
pub(super) struct PodPlan {
    /// Key of the pod.
    pub key: Key,
    /// The pod as an object.
    pub object: Object<PodSpec>,
    /// Deployment that owns it.
    pub owner: Option<Key>,
    /// Its proxy.
    pub role: ProxyRole,
    /// Capture rules.
    pub capture: Option<CaptureRules>,
    /// Containers that run beside the proxy; init containers first.
    pub containers: Vec<ContainerPlan>,
    /// Why it can't start at all.
    pub error: Option<String>,
    /// A pod with another hash is another pod.
    pub hash: ContentHash,
}

impl PodPlan {
    /// The container that is a member of the mesh itself: one process of a pod is told the configuration.
    pub(super) fn member(&self) -> Option<&ContainerPlan> {
        self.containers.iter().find(|c| !c.init).filter(|_| self.role == ProxyRole::Embedded)
    }
}

/// A container, decided.
#[derive(Clone, Debug)]
pub(super) struct ContainerPlan {
    /// The container.
    pub container: Container,
    /// It runs to its end before the others start.
    pub init: bool,
    /// Program, arguments and directory; or why there is none.
    pub command: Result<LocalCommand, String>,
}

/// What runs for a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LocalCommand {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Variables of the image map.
    pub env: BTreeMap<String, String>,
    /// Directory to start in.
    pub cwd: Option<PathBuf>,
}

/// Decides a pod.
pub(super) fn plan(
    object: Object<PodSpec>,
    owner: Option<Key>,
    store: &Store,
    images: &ImageMap,
    settings: &Settings,
) -> PodPlan {
    let namespace = Key::new(mesh_core::api::Kind::new("", "Namespace"), "", &object.key.namespace);
    let labels = store.get(&namespace).map(|s| s.document.labels());
    let meta = &object.meta;
    let gateway = is_gateway(&object.spec);
    let role = if gateway {
        ProxyRole::Gateway
    } else if wants_sidecar(settings.inject.rule(), &meta.labels, &meta.annotations, labels.as_ref()) {
        if is_embedded(&meta.annotations) { ProxyRole::Embedded } else { ProxyRole::Sidecar }
    } else {
        ProxyRole::None
    };
    let (capture, error) = match (role, capture(&meta.annotations)) {
        (ProxyRole::Sidecar, Ok(rules)) => (Some(rules), None),
        (ProxyRole::Sidecar, Err(e)) => (None, Some(e)),
        _ => (None, None),
    };
    let run = |init: bool| {
        move |c: &Container| ContainerPlan { container: c.clone(), init, command: command(c, images, settings) }
    };
    let spec = &object.spec;
    // What prepares capture on Kubernetes has been done by the mesh itself here.
    let ours = |c: &&Container| !matches!(c.name.as_str(), "istio-proxy" | "istio-init" | "istio-validation");
    let containers: Vec<ContainerPlan> = if gateway {
        Vec::new()
    } else {
        let init = spec.init_containers.iter().filter(ours).map(|c| run(c.restart_policy != "Always")(c));
        init.chain(spec.containers.iter().filter(ours).map(run(false))).collect()
    };
    let mut hash = object.hash.with_str(role.word()).with_str(&format!("{capture:?}"));
    for c in &containers {
        hash = hash.with_str(&format!("{:?}", c.command));
    }
    PodPlan { key: object.key.clone(), object, owner, role, capture, containers, error, hash }
}

fn command(container: &Container, images: &ImageMap, settings: &Settings) -> Result<LocalCommand, String> {
    let found = images.find(&container.image);
    let mut argv = match (found, container.command.as_slice()) {
        (Some(image), _) => image.command.clone(),
        (None, []) => {
            return Err(format!(
                "no local command for image {}; add an entry to a ConfigMap labelled {}, or give --images FILE",
                container.image,
                super::images::LABEL
            ));
        }
        (None, own) => own.to_vec(),
    };
    if found.is_none() || !container.args.is_empty() && container.command.is_empty() {
        argv.extend(container.args.iter().cloned());
    }
    let Some(program) = locate(&argv[0], &settings.programs, &settings.path) else {
        return Err(format!("program {} of image {} is neither beside meshctl nor in PATH", argv[0], container.image));
    };
    argv[0] = program.to_string_lossy().into_owned();
    let own_dir = (!container.working_dir.is_empty()).then(|| PathBuf::from(&container.working_dir));
    Ok(LocalCommand {
        argv,
        env: found.map(|i| i.env.clone()).unwrap_or_default(),
        cwd: found.and_then(|i| i.working_dir.clone()).or(own_dir.filter(|_| found.is_none())),
    })
}

/// The address of a pod: in explicit mode the same last two bytes in 127.1.0.0/16.
pub(super) fn address(addresses: &mut Addresses, key: &Key, mode: Mode) -> Option<Ipv4Addr> {
    let given = addresses.of(Range::Pods, &address_name(key))?;
    let [_, _, c, d] = given.octets();
    Some(match mode {
        Mode::Namespaces => given,
        Mode::Explicit => Ipv4Addr::new(127, 1, c, d),
    })
}

/// Gives a pod's address back.
pub(super) fn release(addresses: &mut Addresses, key: &Key) {
    addresses.release(Range::Pods, &address_name(key));
}

fn address_name(key: &Key) -> Arc<str> {
    format!("{}/{}", key.namespace, key.name).into()
}
