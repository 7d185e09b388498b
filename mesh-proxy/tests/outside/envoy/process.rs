//! Envoy as a process.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use crate::lab::{Guard, Logs, Who};

/// A running Envoy. It ends with this.
pub(super) struct Envoy {
    child: Child,
    pub(super) logs: Logs,
    /// Ends it if the test is killed.
    _guard: Guard,
}

impl Envoy {
    /// Starts it with a configuration, and waits until it serves.
    pub(super) fn start(binary: &str, bootstrap: &Value) -> Self {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("mesh-envoy-{}-{number}.json", std::process::id()));
        std::fs::write(&path, bootstrap.to_string()).unwrap();
        let mut command = Command::new(binary);
        command.arg("-c").arg(&path).args(["--use-dynamic-base-id", "--concurrency", "1", "--log-level", "info"]);
        // Its log is buffered.
        command.args(["--file-flush-interval-msec", "1"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("MESH_ENVOY runs");
        let mut guard = Guard::new();
        guard.watch(&child);
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = Vec::new();
        let serves = lines.by_ref().map_while(Result::ok).any(|line| {
            let serves = line.contains("starting main dispatch loop");
            said.push(line);
            serves
        });
        std::fs::remove_file(&path).unwrap();
        assert!(serves, "Envoy does not start: {}", said[said.len().saturating_sub(5)..].join("\n"));
        // Nobody reads it, but it must not wait for a reader.
        std::thread::Builder::new().spawn(move || lines.for_each(drop)).unwrap();
        let logs = Logs::default();
        let (reader, lines) = (logs.clone(), BufReader::new(child.stdout.take().unwrap()).lines());
        std::thread::Builder::new().spawn(move || reader.read(Who::Gateway, lines)).unwrap();
        Self { child, logs, _guard: guard }
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
