//! `meshctl down`.

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Outcome;
use super::client::{Call, block_on};
use crate::control::Request;

/// Longest wait in seconds until everything has gone.
const LIMIT: i64 = 30;

pub(super) fn run(mesh: &str) -> Outcome {
    let (_, fds) = block_on(async { Call::start(mesh, &Request::Down, &[]).await?.finish().await })?;
    let parent = fds.into_iter().next().ok_or("the mesh's answer has no descriptor to wait on")?;
    // The mesh's first process ends last, and takes the host ports with it.
    let mut waiting = [PollFd::new(&parent, PollFlags::empty())];
    let limit = Timespec { tv_sec: LIMIT, tv_nsec: 0 };
    match poll(&mut waiting, Some(&limit)) {
        Ok(0) => Err(format!("mesh {mesh} is still there after {LIMIT} s; end its `meshctl up` process")),
        Ok(_) => {
            super::print(&format!("mesh {mesh} has ended\n"));
            Ok(0)
        }
        Err(e) => Err(e.to_string()),
    }
}
