//! Unix sockets, by path or by abstract name.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

/// `@NAME` as the kernel knows it: a name that begins with a zero byte.
pub(super) fn name(path: &str) -> PathBuf {
    match path.strip_prefix('@') {
        Some(name) => OsString::from_vec([b"\0", name.as_bytes()].concat()).into(),
        None => path.into(),
    }
}

/// A listener whose path is removed with it.
#[derive(Debug)]
pub(super) struct Listener {
    inner: UnixListener,
    file: Option<PathBuf>,
}

impl Listener {
    /// Listens there. A socket of somebody who has gone without removing it is replaced; any other file stays.
    pub(super) fn bind(path: &str) -> io::Result<Self> {
        let at = name(path);
        if path.starts_with('@') {
            return Ok(Self { inner: UnixListener::bind(at)?, file: None });
        }
        let inner = match UnixListener::bind(&at) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_left_behind(&at) => {
                std::fs::remove_file(&at)?;
                UnixListener::bind(&at)?
            }
            other => other?,
        };
        // As a port of loopback: applications run as other users than the proxy.
        std::fs::set_permissions(&at, std::fs::Permissions::from_mode(0o666))?;
        Ok(Self { inner, file: Some(at) })
    }

    pub(super) async fn accept(&self) -> io::Result<UnixStream> {
        self.inner.accept().await.map(|(stream, _)| stream)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            // Somebody may have removed it.
            let _ = std::fs::remove_file(file);
        }
    }
}

fn is_left_behind(at: &Path) -> bool {
    let socket = std::fs::symlink_metadata(at).is_ok_and(|m| m.file_type().is_socket());
    let refused = || std::os::unix::net::UnixStream::connect(at);
    socket && refused().is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused)
}
