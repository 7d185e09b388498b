//! What a pod sees of ConfigMaps and Secrets: files of its volumes, and facts for its environment.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use mesh_core::api::kube::{KeyToPath, Volume};

use crate::localmesh::{PodFile, PodVolume};
use crate::node::env::Facts;
use crate::node::mesh::{Mesh, State};
use crate::node::plan::PodPlan;

type Data = BTreeMap<String, Vec<u8>>;

/// Single files and volumes of a pod.
///
/// # Errors
/// A volume refers to something that is not there.
pub(super) fn of(mesh: &Mesh, plan: &PodPlan) -> Result<(Vec<PodFile>, Vec<PodVolume>), String> {
    let state = mesh.state();
    let (mut files, mut volumes) = (Vec::new(), Vec::new());
    for container in plan.containers.iter().map(|c| &c.container) {
        for mount in &container.volume_mounts {
            let Some(volume) = plan.object.spec.volumes.iter().find(|v| v.name == mount.name) else {
                return Err(format!(
                    "container {} mounts the volume {}, which the pod does not have",
                    container.name, mount.name
                ));
            };
            let path = PathBuf::from(&mount.mount_path);
            let Some(content) = content(&state, plan, volume)? else { continue };
            match (mount.sub_path.as_str(), content) {
                ("", (content, writable)) if volumes.iter().all(|v: &PodVolume| v.path != path) => {
                    volumes.push(PodVolume { path, files: content, writable: writable && !mount.read_only });
                }
                ("", _) => {}
                (part, (content, _)) => {
                    let file = content.into_iter().find(|f| f.path.as_os_str() == part);
                    files.extend(file.map(|f| PodFile { path, ..f }));
                }
            }
        }
    }
    Ok((files, volumes))
}

/// Files of a volume and whether it may be written to; `None` for kinds of volume that are not honoured here.
fn content(state: &State, plan: &PodPlan, volume: &Volume) -> Result<Option<(Vec<PodFile>, bool)>, String> {
    let namespace = &plan.key.namespace;
    if volume.empty_dir.is_some() {
        return Ok(Some((Vec::new(), true)));
    }
    let (what, name, items, mode, optional) = match (&volume.config_map, &volume.secret) {
        (Some(c), _) => ("ConfigMap", &c.name, &c.items, c.default_mode, c.optional),
        (None, Some(s)) => ("Secret", &s.secret_name, &s.items, s.default_mode, s.optional),
        (None, None) => return Ok(None),
    };
    let found = state.store.iter().map(|s| &s.document).find(|d| {
        *d.key.kind.kind == *what
            && d.key.kind.group.is_empty()
            && d.key.namespace == *namespace
            && *d.key.name == **name
    });
    let data = match found {
        Some(document) => document.data_bytes(),
        None if optional == Some(true) => Data::new(),
        None => {
            return Err(format!(
                "volume {}: {what} {name} does not exist; apply it or set optional: true",
                volume.name
            ));
        }
    };
    Ok(Some((select(data, items, mode.unwrap_or(0o644)), false)))
}

fn select(data: Data, items: &[KeyToPath], mode: i32) -> Vec<PodFile> {
    let bits = |mode: i32| u32::try_from(mode).unwrap_or(0o644);
    if items.is_empty() {
        return data.into_iter().map(|(k, content)| PodFile { path: k.into(), content, mode: bits(mode) }).collect();
    }
    let file = |i: &KeyToPath| {
        Some(PodFile { path: (&i.path).into(), content: data.get(&i.key)?.clone(), mode: bits(i.mode.unwrap_or(mode)) })
    };
    items.iter().filter_map(file).collect()
}

/// Calls `f` with what a container's variables can refer to.
pub(super) fn with_facts<T>(mesh: &Mesh, plan: &PodPlan, ip: IpAddr, f: impl FnOnce(&Facts<'_>) -> T) -> T {
    let state = mesh.state();
    let namespace = &plan.key.namespace;
    let here = || state.store.iter().map(|s| &s.document).filter(|d| d.key.namespace == *namespace);
    let texts = |kind: &str| {
        let of_kind = here().filter(|d| *d.key.kind.kind == *kind && d.key.kind.group.is_empty());
        let text = |d: Data| d.into_iter().map(|(k, v)| (k, String::from_utf8_lossy(&v).into_owned())).collect();
        of_kind.map(|d| (d.key.name.to_string(), text(d.data_bytes()))).collect()
    };
    let services = here().filter_map(|d| d.service()).map(|s| (&**s, s.spec.cluster_ip.parse().ok())).collect();
    f(&Facts { pod: &plan.object, ip, config_maps: texts("ConfigMap"), secrets: texts("Secret"), services })
}
