//! The system calls that have no safe wrapper. The only unsafe code of this crate.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use rustix::process::Pid;

/// All the namespaces of the mesh.
pub(super) const MESH_NAMESPACES: i32 = libc::CLONE_NEWUSER | POD_NAMESPACES;
/// The namespaces of one pod.
pub(super) const POD_NAMESPACES: i32 =
    libc::CLONE_NEWNET | libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC;

/// Which side of a fork this is.
pub(super) enum Forked {
    /// The new process.
    Child,
    /// The old one, with the child's process id as seen from here.
    Parent(Pid),
}

/// Makes a child process, in new namespaces if `namespaces` says so.
///
/// Refuses when this process has several threads: then only async-signal-safe code would be allowed in the child.
pub(super) fn fork(namespaces: i32) -> io::Result<Forked> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other("the local mesh must be started before any other thread"));
    }
    let pid = if namespaces == 0 {
        // SAFETY: one thread only (checked above), so the child may go on with ordinary code.
        unsafe { libc::fork() }
    } else {
        // SAFETY: one thread only; without CLONE_VM and with a null stack this is a fork, each side has its own memory.
        let pid = unsafe { libc::syscall(libc::SYS_clone, namespaces | libc::SIGCHLD, 0, 0, 0, 0) };
        pid as libc::pid_t
    };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Forked::Child),
        pid => Ok(Forked::Parent(Pid::from_raw(pid).expect("invariant: fork gives a positive pid"))),
    }
}

/// Ends this process without running destructors or exit handlers, which belong to the process it was forked from.
pub(super) fn exit_now(code: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Closes every descriptor from 3 on except those given. For a process just forked, whose owners of the other
/// descriptors are never dropped because it ends in [`exit_now`] or `exec`.
pub(super) fn close_all_except(keep: &[RawFd]) {
    let mut keep: Vec<RawFd> = keep.iter().copied().filter(|fd| *fd > 2).collect();
    keep.sort_unstable();
    let mut from = 3;
    for fd in keep.into_iter().chain([RawFd::MAX]) {
        if fd > from {
            // SAFETY: plain integers; what owned these descriptors is unreachable from here on (see above).
            unsafe { libc::close_range(from as u32, fd as u32 - 1, 0) };
        }
        from = fd.saturating_add(1);
    }
}

/// Makes every descriptor from 3 on close at the next `exec`.
pub(super) fn close_all_on_exec() -> io::Result<()> {
    // SAFETY: plain integers; sets a flag only.
    let done = unsafe { libc::close_range(3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC as i32) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A copy of a descriptor at or above `from`.
pub(super) fn copy_above(fd: impl AsFd, from: RawFd) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(fd, from)?)
}

/// Puts a copy of `fd` at `target`, open across `exec`. For a child about to `exec`: what was there is closed.
pub(super) fn place(fd: impl AsFd, target: RawFd) -> io::Result<()> {
    // SAFETY: plain integers; the caller is about to exec, so nothing uses the old descriptor any more.
    let done = unsafe { libc::dup2(fd.as_fd().as_raw_fd(), target) };
    if done == target { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Executes the program behind `fd`; returns only when that failed.
pub(super) fn exec_fd(fd: impl AsFd, argv: &[CString], env: &[CString]) -> io::Error {
    let (argv, env) = (pointers(argv), pointers(env));
    // SAFETY: both arrays end with a null pointer and point to strings that live until the call returns.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            fd.as_fd().as_raw_fd(),
            c"".as_ptr(),
            argv.as_ptr(),
            env.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}

/// Executes the program at `path`; returns only when that failed.
pub(super) fn exec_path(path: &CString, argv: &[CString], env: &[CString]) -> io::Error {
    let (argv, env) = (pointers(argv), pointers(env));
    // SAFETY: both arrays end with a null pointer and point to strings that live until the call returns.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
}

/// Blocks these signals and gives a non-blocking descriptor from which they are read.
pub(super) fn signal_fd(signals: &[i32]) -> io::Result<OwnedFd> {
    let mut set = std::mem::MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set; the other calls read it; the new descriptor has no other owner.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in signals {
            libc::sigaddset(set.as_mut_ptr(), *signal);
        }
        libc::sigprocmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut());
        let fd = libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd)) }
    }
}

/// The numbers of the signals that wait in a descriptor of [`signal_fd`].
pub(super) fn read_signals(fd: impl AsFd) -> Vec<i32> {
    const SIZE: usize = std::mem::size_of::<libc::signalfd_siginfo>();
    let mut signals = Vec::new();
    let mut buffer = [0_u8; SIZE];
    // The signal's number is the first field of signalfd_siginfo.
    while let Ok(SIZE) = rustix::io::read(&fd, &mut buffer) {
        signals.push(i32::from_ne_bytes([buffer[0], buffer[1], buffer[2], buffer[3]]));
    }
    signals
}

/// No signal is blocked, and SIGPIPE ends the process (Rust's start-up code ignores it, and `exec` would pass that on).
pub(super) fn default_signals() {
    let mut set = std::mem::MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set that sigprocmask reads; SIG_DFL is no function.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, set.as_ptr(), std::ptr::null_mut());
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
}

/// Kills every other process of this pid namespace; does nothing unless this process is its first.
pub(super) fn end_namespace() {
    if rustix::process::getpid() == Pid::INIT {
        // SAFETY: plain integers. -1 means all processes that we see, and those are ours, since we are their init.
        unsafe { libc::kill(-1, libc::SIGKILL) };
    }
}

/// Lets tokio watch a descriptor; inside a runtime only.
pub(crate) fn watch(fd: OwnedFd, interest: tokio::io::Interest) -> io::Result<tokio::io::unix::AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd gives the same descriptor until it is dropped, and keeps it open; nothing swaps it for another,
    // since the result is only ever used by shared reference or unwrapped.
    Ok(unsafe { tokio::io::unix::AsyncFd::register_with_interest(fd, interest) }?)
}
