//! The tour of a newcomer: Istio's bookinfo manifests unchanged, the routing files of a tutorial applied one after the
//! other to the running mesh, changes under load, and processes that are killed.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

#[path = "tour/client.rs"]
mod client;
#[path = "tour/deaths.rs"]
mod deaths;
#[path = "tour/embedded.rs"]
mod embedded;
#[path = "tour/faults.rs"]
mod faults;
#[path = "tour/identity.rs"]
mod identity;
#[path = "tour/load.rs"]
mod load;
#[path = "tour/mesh.rs"]
mod mesh;
#[path = "tour/mtls.rs"]
mod mtls;
#[path = "tour/ports.rs"]
mod ports;
#[path = "tour/security.rs"]
mod security;
#[path = "tour/seed.rs"]
mod seed;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use mesh::Mesh;

const IMAGES: &str = "examples/bookinfo/platform/images.yaml";

/// A folder of the material that lies beside the repository; `None`, and a line that says so, where it is not there.
fn shared(folder: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared").join(folder);
    if !path.is_dir() {
        println!("skipped: {} is not there", path.display());
        return None;
    }
    Some(path)
}

/// A mesh in namespaces; `None`, and the probe's reason, where the kernel refuses them.
fn namespaces(paths: &[&str]) -> Option<Mesh> {
    Mesh::up("namespaces", paths).map_err(|reason| println!("skipped in namespaces: {reason}")).ok()
}

/// One tour at a time: an application that waits three seconds for another must not wait for a processor.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn bookinfo() {
    let _alone = alone();
    let Some(corpus) = shared("corpus") else { return };
    let manifest = corpus.join("samples/bookinfo/platform/kube/bookinfo.yaml");
    let Some(mesh) = namespaces(&[manifest.to_str().unwrap(), "--images", IMAGES]) else { return };
    seed::in_order(&mesh, &corpus.join("seed"));
    seed::mistakes_are_set_aside(&mesh);
    identity::of_workloads(&mesh);
    load::applies(&mesh);
    deaths::of_a_sidecar(&mesh);
    deaths::of_a_service(&mesh);
    drop(mesh);
    deaths::of_everything();
}

/// The same tour with reviews a member of the mesh itself, beside workloads that have sidecars.
#[test]
fn bookinfo_with_embedded_reviews() {
    let _alone = alone();
    let Some(corpus) = shared("corpus") else { return };
    let manifest = corpus.join("samples/bookinfo/platform/kube/bookinfo.yaml");
    let Some(mesh) = namespaces(&[manifest.to_str().unwrap(), "--images", IMAGES]) else { return };
    embedded::instead_of_sidecars(&mesh);
    let folder = corpus.join("seed");
    let seed = seed::in_order(&mesh, &folder);
    embedded::calls_have_faults(&seed);
    embedded::service_accounts(&seed);
    embedded::strict(&seed);
    embedded::labels(&mesh);
    embedded::figures(&mesh);
}
