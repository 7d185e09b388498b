//! What the node and pods see of the file system. Nothing on the host changes: all of it is mounts in private namespaces,
//! of memory or of what is already there.

use std::collections::HashSet;
use std::ffi::{CString, OsString};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::CWD;
use rustix::mount::{MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};

use super::pod::step;
use super::{PodFile, PodSpec, PodVolume};

/// Cuts mounts off from the host's and shows the processes of this pid namespace in /proc.
pub(super) fn private(warnings: &mut Vec<String>) -> io::Result<()> {
    let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", flags).map_err(|errno| step("making mounts private", &errno.into()))?;
    // Refused inside containers that hide parts of /proc; the old one does, it only shows more.
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    if let Err(errno) = rustix::mount::mount("proc", "/proc", "proc", flags, None) {
        warnings.push(format!("/proc shows processes of the host: {}", io::Error::from(errno)));
    }
    Ok(())
}

/// Mounts memory on a directory.
pub(super) fn memory(on: &Path, mode: u32) -> io::Result<()> {
    let options = CString::new(format!("mode={mode:o}")).expect("invariant: digits hold no zero byte");
    rustix::mount::mount("mesh", on, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, Some(options.as_c_str()))?;
    Ok(())
}

/// Mounts everything a pod has of its own.
pub(super) fn pod(spec: &PodSpec, warnings: &mut Vec<String>) -> io::Result<()> {
    private(warnings)?;
    // Directories with many entries need a descriptor each for a moment.
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let old = limit;
    limit.current = limit.maximum;
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, limit);
    let mut layout = Layout { own: HashSet::new(), staged: 0 };
    // Sockets of the host's name services live below /run, and paths ignore network namespaces.
    layout.fresh(Path::new(RUN), 0o755).map_err(|error| step("giving it a /run of its own", &error))?;
    for volume in &spec.volumes {
        layout.volume(volume).map_err(|error| step(&format!("volume at {}", volume.path.display()), &error))?;
    }
    for file in standard_files(spec).iter().chain(&spec.files) {
        layout.file(file).map_err(|error| step(&format!("file {}", file.path.display()), &error))?;
    }
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, old);
    Ok(())
}

/// The root directory as it is before volumes are laid over it, if there will be any. The host's programs run in pods,
/// and a volume at `/tmp` must not hide one that was built there.
pub(super) fn uncovered(spec: &PodSpec) -> Option<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    // Kernels without it start the programs that can be seen.
    (!spec.volumes.is_empty()).then(|| rustix::mount::open_tree(CWD, "/", flags).ok()).flatten()
}

const RUN: &str = "/run";

fn standard_files(spec: &PodSpec) -> Vec<PodFile> {
    let PodSpec { name, namespace, ip, dns, .. } = spec;
    let ip6 = spec.ip6();
    let search = format!("{namespace}.svc.cluster.local svc.cluster.local cluster.local");
    let file = |path: &str, content: String| PodFile { path: path.into(), content: content.into_bytes(), mode: 0o644 };
    vec![
        file("/etc/resolv.conf", format!("nameserver {dns}\nsearch {search}\noptions ndots:5\n")),
        // Other name services would ask the host over sockets and pass the mesh by.
        file("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n".into()),
        file(
            "/etc/hosts",
            format!("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n{ip} {name}\n{ip6} {name}\n"),
        ),
        file("/etc/hostname", format!("{name}\n")),
    ]
}

struct Layout {
    /// Devices of file systems that belong to this pod alone, so that files can simply be made there.
    own: HashSet<u64>,
    staged: u32,
}

impl Layout {
    fn fresh(&mut self, path: &Path, mode: u32) -> io::Result<()> {
        memory(path, mode)?;
        self.own.insert(fs::metadata(path)?.dev());
        Ok(())
    }

    fn volume(&mut self, volume: &PodVolume) -> io::Result<()> {
        let path = resolve(&volume.path)?;
        if !path.is_dir() {
            self.make_directory(&path)?;
        }
        self.fresh(&path, if volume.writable { 0o777 } else { 0o755 })?;
        for file in &volume.files {
            let inside = path.join(&file.path);
            if file.path.is_absolute() || file.path.components().any(|part| part == Component::ParentDir) {
                return Err(io::Error::other(format!("{} is not below the volume", file.path.display())));
            }
            fs::create_dir_all(inside.parent().unwrap_or(&path))?;
            write(&inside, file)?;
        }
        if !volume.writable {
            let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
            rustix::mount::mount_remount(&path, flags, "")?;
        }
        Ok(())
    }

    fn file(&mut self, file: &PodFile) -> io::Result<()> {
        let path = resolve(&file.path)?;
        if path.is_file() && !self.is_own(&path) {
            // Lay it over the host's: write it somewhere of our own, mount that, and take the name away again.
            self.staged += 1;
            let staged = Path::new(RUN).join(format!(".file{}", self.staged));
            write(&staged, file)?;
            rustix::mount::mount_bind(&staged, &path)?;
            return fs::remove_file(&staged);
        }
        let parent = path.parent().ok_or_else(|| io::Error::other("not the path of a file"))?;
        self.make_directory(parent)?;
        write(&path, file)
    }

    fn is_own(&self, path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|meta| self.own.contains(&meta.dev()))
    }

    /// Makes a directory in which we can make files.
    fn make_directory(&mut self, path: &Path) -> io::Result<()> {
        let existing = path.ancestors().find(|ancestor| ancestor.is_dir()).unwrap_or(Path::new("/"));
        if !self.is_own(existing) {
            self.mirror(existing)?;
        }
        fs::create_dir_all(path)
    }

    /// Replaces a directory by one of our own that shows the same entries.
    fn mirror(&mut self, directory: &Path) -> io::Result<()> {
        let mode = fs::metadata(directory)?.permissions().mode() & 0o777;
        let mut entries = Vec::new();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            entries.push((entry.file_name(), Entry::of(&entry)?));
        }
        if directory != Path::new("/") {
            self.fresh(directory, mode)?;
            return entries.into_iter().try_for_each(|(name, entry)| entry.put(&directory.join(name)));
        }
        // The root cannot be covered, only exchanged. Any directory serves to build the new one on.
        let place = Path::new(RUN);
        self.fresh(place, mode)?;
        entries.into_iter().try_for_each(|(name, entry)| entry.put(&place.join(name)))?;
        rustix::process::chdir(place)?;
        rustix::process::pivot_root(".", ".")?;
        rustix::mount::unmount(".", UnmountFlags::DETACH)?;
        rustix::process::chdir("/")?;
        Ok(())
    }
}

/// An entry of a directory that is being replaced.
enum Entry {
    Link(PathBuf),
    Tree { mount: OwnedFd, is_dir: bool },
}

impl Entry {
    fn of(entry: &fs::DirEntry) -> io::Result<Self> {
        let kind = entry.file_type()?;
        if kind.is_symlink() {
            return fs::read_link(entry.path()).map(Self::Link);
        }
        // With everything mounted below: those mounts are locked to it.
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
        let mount = rustix::mount::open_tree(CWD, entry.path(), flags)?;
        Ok(Self::Tree { mount, is_dir: kind.is_dir() })
    }

    fn put(self, path: &Path) -> io::Result<()> {
        match self {
            Self::Link(target) => std::os::unix::fs::symlink(target, path),
            Self::Tree { mount, is_dir } => {
                if is_dir {
                    fs::create_dir(path)?;
                } else {
                    fs::File::create(path)?;
                }
                let empty = OsString::new();
                rustix::mount::move_mount(&mount, &*empty, CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
                Ok(())
            }
        }
    }
}

fn write(path: &Path, file: &PodFile) -> io::Result<()> {
    fs::write(path, &file.content)?;
    fs::set_permissions(path, fs::Permissions::from_mode(file.mode))
}

/// Follows symbolic links, also those whose target does not exist (any more, below a fresh /run).
fn resolve(path: &Path) -> io::Result<PathBuf> {
    const MOST_LINKS: u32 = 40;
    if !path.is_absolute() {
        return Err(io::Error::other("not an absolute path"));
    }
    let mut links = 0;
    let mut done = PathBuf::from("/");
    let mut left: Vec<OsString> = path.components().rev().map(|part| part.as_os_str().to_owned()).collect();
    while let Some(part) = left.pop() {
        match Path::new(&part).components().next() {
            Some(Component::ParentDir) => {
                done.pop();
            }
            Some(Component::RootDir) => done = PathBuf::from("/"),
            Some(Component::Normal(_)) => {
                let next = done.join(&part);
                match fs::read_link(&next) {
                    Ok(target) if links < MOST_LINKS => {
                        links += 1;
                        left.extend(target.components().rev().map(|part| part.as_os_str().to_owned()));
                    }
                    Ok(_) => return Err(io::Error::other("too many symbolic links")),
                    Err(_) => done = next,
                }
            }
            _ => {}
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests;
