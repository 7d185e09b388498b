//! The client of the control protocol.

use std::future::Future;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::UnixStream;

use crate::control::{Reply, Request, recv, send};
use crate::localmesh::{connect_control, control_name};

/// Runs a future to its end on a runtime of its own.
pub(super) fn block_on<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    let result = runtime.block_on(work);
    // A read of the terminal that nobody waits for any more must not hold the program.
    runtime.shutdown_background();
    result
}

/// The name of the only mesh of this user that runs; the default name if none does.
pub(super) fn the_one() -> Result<String, String> {
    let prefix = format!("@{}", control_name(rustix::process::getuid().as_raw(), ""));
    let sockets = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let mut names: Vec<&str> =
        sockets.lines().filter_map(|l| l.split_whitespace().last()?.strip_prefix(prefix.as_str())).collect();
    names.sort_unstable();
    names.dedup();
    match names[..] {
        [] => Ok(super::DEFAULT_NAME.to_owned()),
        [one] => Ok(one.to_owned()),
        _ => Err(format!("several meshes run: {}; say which with --name", names.join(", "))),
    }
}

/// A connection that carries one request.
pub(super) struct Call {
    stream: UnixStream,
}

impl Call {
    /// Connects and asks.
    pub(super) async fn start(mesh: &str, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<Self, String> {
        let stream = connect_control(mesh).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                format!("no mesh named {mesh} is running; start one with: meshctl up PATHS… --name {mesh}")
            }
            _ => format!("mesh {mesh}: {e}"),
        })?;
        send(&stream, request, fds).await.map_err(|e| gone(mesh, &e))?;
        Ok(Self { stream })
    }

    /// The next frame.
    pub(super) async fn next(&self) -> Result<(Reply, Vec<OwnedFd>), String> {
        match recv::<Reply>(&self.stream).await {
            Ok(Some(frame)) => Ok(frame),
            Ok(None) => Err("the mesh ended before it had answered; see what `meshctl up` printed".into()),
            Err(e) => Err(format!("the mesh's answer can't be read: {e}")),
        }
    }

    /// Frames until the last one; lines are shown as they come.
    pub(super) async fn finish(&self) -> Result<(Value, Vec<OwnedFd>), String> {
        loop {
            match self.next().await? {
                (Reply::Done(value), fds) => return Ok((value, fds)),
                (Reply::Error(e), _) => return Err(e),
                (Reply::Text(line) | Reply::Output(line), _) => super::print(&format!("{line}\n")),
            }
        }
    }
}

fn gone(mesh: &str, e: &io::Error) -> String {
    format!("mesh {mesh} does not listen: {e}")
}

/// One request with one answer.
pub(super) fn ask<T: DeserializeOwned>(mesh: &str, request: &Request) -> Result<T, String> {
    block_on(answer(mesh, request))
}

/// The same within a runtime.
pub(super) async fn answer<T: DeserializeOwned>(mesh: &str, request: &Request) -> Result<T, String> {
    let call = Call::start(mesh, request, &[]).await?;
    let (value, _) = call.finish().await?;
    serde_json::from_value(value).map_err(|e| format!("the mesh's answer can't be read: {e}"))
}
