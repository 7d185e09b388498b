//! `meshctl exec`: the command runs in the pod, on this terminal.

use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};

use rustix::termios::{self, OptionalActions, Termios};
use tokio::signal::unix::{SignalKind, signal};

use super::Outcome;
use super::client::{Call, block_on};
use crate::control::{Reply, Request};
use crate::localmesh::open_terminal;

/// Arguments of `exec`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// `NAME[.NAMESPACE]` of a Deployment or Pod, or `deploy/NAME`.
    workload: String,
    /// Program and arguments.
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<String>,
}

pub(super) fn run(mesh: &str, mut args: Args) -> Outcome {
    // `exec WORKLOAD -- meshctl load …` works without meshctl on the pod's PATH.
    if let (Some(program), Ok(own)) = (args.command.first_mut().filter(|p| *p == "meshctl"), std::env::current_exe()) {
        *program = own.to_string_lossy().into_owned();
    }
    let names = ["TERM", "COLORTERM", "LANG"];
    let env = names.iter().filter_map(|n| Some(((*n).to_owned(), std::env::var(n).ok()?))).collect();
    let tty = io::stdin().is_terminal() && io::stdout().is_terminal();
    let request = Request::Exec { workload: args.workload, command: args.command, env, tty };
    block_on(async { if tty { on_terminal(mesh, &request).await } else { on_streams(mesh, &request).await } })
}

/// The command gets our own streams.
async fn on_streams(mesh: &str, request: &Request) -> Outcome {
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let call = Call::start(mesh, request, &[stdin.as_fd(), stdout.as_fd(), stderr.as_fd()]).await?;
    result(&call).await
}

async fn result(call: &Call) -> Outcome {
    loop {
        match call.next().await?.0 {
            Reply::Done(code) => return Ok(u8::try_from(code.as_i64().unwrap_or(1)).unwrap_or(1)),
            Reply::Error(e) => return Err(e),
            Reply::Text(_) | Reply::Output(_) => {}
        }
    }
}

/// The command gets a terminal of its own, whose other end is copied to ours.
async fn on_terminal(mesh: &str, request: &Request) -> Outcome {
    let (ours, theirs) = open_terminal().map_err(|e| format!("no terminal for the command: {e}"))?;
    resize(&ours);
    let call = Call::start(mesh, request, &[theirs.as_fd(), theirs.as_fd(), theirs.as_fd()]).await?;
    drop(theirs);
    let _raw = Raw::enter().map_err(|e| e.to_string())?;
    let mut resized = signal(SignalKind::window_change()).map_err(|e| e.to_string())?;
    // Blocking copies: the terminals' other users would see it if we made them non-blocking.
    let (from, to) = (duplicate(&ours)?, duplicate(&io::stdout())?);
    let output = tokio::task::spawn_blocking(move || copy(&from, &to));
    let (from, to) = (duplicate(&io::stdin())?, duplicate(&ours)?);
    tokio::task::spawn_blocking(move || copy(&from, &to));
    let finished = result(&call);
    tokio::pin!(finished);
    let code = loop {
        tokio::select! {
            code = &mut finished => break code,
            _ = resized.recv() => resize(&ours),
        }
    };
    if code.is_ok() {
        // What the command wrote last is still on its way; its end of the terminal is closed, so this ends.
        let _ = output.await;
    }
    code
}

fn duplicate(stream: &impl AsFd) -> Result<OwnedFd, String> {
    stream.as_fd().try_clone_to_owned().map_err(|e| e.to_string())
}

/// Copies until either side ends.
fn copy(from: &OwnedFd, to: &OwnedFd) {
    let mut buffer = [0; 4096];
    while let Ok(n) = rustix::io::read(from, &mut buffer[..]) {
        let mut rest = &buffer[..n];
        while !rest.is_empty() {
            match rustix::io::write(to, rest) {
                Ok(sent) => rest = &rest[sent..],
                Err(_) => return,
            }
        }
        if n == 0 {
            return;
        }
    }
}

fn resize(terminal: &OwnedFd) {
    // A terminal without a size is used as it is.
    if let Ok(size) = termios::tcgetwinsize(io::stdin()) {
        let _ = termios::tcsetwinsize(terminal, size);
    }
}

/// Our terminal hands every key on while this lives.
struct Raw {
    before: Termios,
}

impl Raw {
    fn enter() -> io::Result<Self> {
        let before = termios::tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}
