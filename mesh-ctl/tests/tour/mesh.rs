//! `meshctl` from outside, and a mesh that it runs.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

pub(crate) const MESHCTL: &str = env!("CARGO_BIN_EXE_meshctl");

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

pub(crate) fn meshctl(args: &[&str]) -> Output {
    Command::new(MESHCTL).args(args).current_dir(root()).env_remove("MESH_NAME").output().unwrap()
}

pub(crate) fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The output of a command that must succeed.
pub(crate) fn good(args: &[&str]) -> String {
    let output = meshctl(args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "meshctl {args:?}: {}\n{}{stderr}", output.status, out(&output));
    out(&output)
}

/// The other programs of the mesh, beside the `meshctl` under test.
pub(crate) fn programs() {
    static BUILT: Once = Once::new();
    BUILT.call_once(|| {
        let folder = Path::new(MESHCTL).parent().unwrap();
        let profile = match folder.file_name().unwrap().to_str().unwrap() {
            "debug" => "dev",
            name => name,
        };
        let mut build = Command::new(env!("CARGO"));
        // The whole workspace, and examples (there are none): with the features that `cargo test --workspace` has
        // just built everything with, so that there is nothing to do.
        build.args(["build", "--quiet", "--locked", "--workspace", "--bins", "--examples", "--profile", profile]);
        build.arg("--target-dir").arg(folder.parent().unwrap());
        assert!(build.current_dir(root()).status().unwrap().success());
    });
}

/// A running mesh that ends with the test.
pub(crate) struct Mesh {
    pub(crate) name: String,
}

impl Mesh {
    /// Starts it; an error is the probe's reason why this mode is not possible here.
    pub(crate) fn up(mode: &str, paths: &[&str]) -> Result<Self, String> {
        programs();
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let mesh = Self { name: format!("test-{mode}-{}-{number}", std::process::id()) };
        let options = ["--detach", "--mode", mode, "--gateway-port", "80=0", "--gateway-port", "443=0", "--name"];
        let output = meshctl(&[&["up"], paths, &options[..], &[mesh.name.as_str()]].concat());
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        if stderr.contains("explicit mode is used") {
            return Err(stderr);
        }
        assert!(output.status.success(), "{}{stderr}", out(&output));
        Ok(mesh)
    }

    pub(crate) fn run(&self, args: &[&str]) -> String {
        // Before the verb, because what follows `--` belongs to a command.
        good(&[&["--name", self.name.as_str()], args].concat())
    }

    pub(crate) fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.run(args)).unwrap()
    }

    pub(crate) fn gateway(&self) -> SocketAddr {
        let status = self.json(&["status", "-o", "json"]);
        let url = status["urls"][0]["url"].as_str().unwrap_or_else(|| panic!("no URL: {status:#}"));
        url.strip_prefix("http://").unwrap().parse().unwrap()
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        meshctl(&["down", "--name", &self.name]);
    }
}
