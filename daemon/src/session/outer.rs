//! The outer stage: a process of root's with one thread, started by the daemon. It puts the session's root together in
//! a mount namespace of its own ([`super::tree`]), leaves the host's root, becomes the session's uid and starts
//! bubblewrap, which makes the other namespaces and starts the inner stage ([`super::inner`]).
//!
//! What goes wrong is written to standard error, which is a pipe to the daemon.

use super::spec::{Inner, Spec};
use super::{filter, tree};
use crate::sys::namespaces::close_others_on_exec;
use anyhow::{Context as _, Result, bail};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Gid, Resource, Rlimit, Signal, Uid, set_parent_process_death_signal, setrlimit};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use tobari_core::proto::frame::receive_frame;

/// Most bytes of a core dump. Not 0, which a core pattern that is a pipe ignores; at 1 the kernel makes none for either.
const CORE: u64 = 1;

/// Starts the session that the daemon describes on standard input; returns only when it cannot.
///
/// # Errors
/// What could not be made.
pub(super) fn run() -> Result<()> {
    // Whatever happens to the daemon, this process and what comes of it ends with it.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let parent = rustix::process::getppid();
    close_others_on_exec().context("close_range (Linux 5.11)")?;
    let daemon = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let Some((spec, streams)) = receive_frame::<Spec>(&daemon, 3)? else { bail!("the daemon is gone") };
    let streams: [OwnedFd; 3] =
        streams.try_into().map_err(|_| anyhow::anyhow!("three streams are needed"))?;
    setrlimit(Resource::Core, Rlimit { current: Some(CORE), maximum: Some(CORE) })?;

    let filters = filter::programs().context("the system-call filter")?;
    let itself: OwnedFd = File::open("/proc/self/exe").context("the program tobarid itself")?.into();
    let writable = tree::build(&spec)?;
    become_user(&spec).context("the session's uid")?;
    if rustix::process::getppid() != parent {
        bail!("the daemon is gone");
    }

    let filters = filters.map(|program| left_open("filter", &program));
    let Spec { user, group, home, bubblewrap, program, .. } = spec;
    let inner =
        Inner { streams: streams.each_ref().map(|stream| stream.as_raw_fd()), writable, home, program };
    let inner = left_open("program", &serde_json::to_vec(&inner)?)?;
    for descriptor in streams.iter().chain([&itself]) {
        keep(descriptor)?;
    }
    let mut command = Command::new(&bubblewrap);
    command.env_clear().env("PATH", "/usr/bin:/bin").stdin(Stdio::null()).stdout(Stdio::null());
    command.args(["--unshare-user", "--uid", &user.to_string(), "--gid", &group.to_string()]);
    command.args([
        "--unshare-pid",
        "--unshare-ipc",
        "--unshare-net",
        "--unshare-uts",
        "--unshare-cgroup-try",
    ]);
    command.args(["--disable-userns", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]);
    command.args([
        "--bind",
        "/",
        "/",
        "--proc",
        "/proc",
        "--dev",
        "/dev",
        "--bind",
        tree::SHARED_MEMORY,
        "/dev/shm",
    ]);
    command.args(["--chdir", "/"]);
    for filter in &filters {
        let filter = filter.as_ref().map_err(|error| anyhow::anyhow!("the system-call filter: {error}"))?;
        command.args(["--add-seccomp-fd", &filter.as_raw_fd().to_string()]);
    }
    let itself = format!("/proc/self/fd/{}", itself.as_raw_fd());
    command.args(["--", &itself, "confine", "inner", &inner.as_raw_fd().to_string()]);
    let error = command.exec();
    bail!("bubblewrap ({}) cannot be started: {error}", bubblewrap.display())
}

fn become_user(spec: &Spec) -> Result<()> {
    let groups: Vec<Gid> = spec.groups.iter().copied().map(Gid::from_raw).collect();
    set_thread_groups(&groups)?;
    let group = Gid::from_raw(spec.group);
    set_thread_res_gid(group, group, group)?;
    let session = Uid::from_raw(spec.session);
    set_thread_res_uid(session, session, session)?;
    // The change of the uid took it back.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    Ok(())
}

/// A memory file with these bytes that the next program finds open.
fn left_open(name: &str, bytes: &[u8]) -> Result<OwnedFd> {
    let mut file = File::from(memfd_create(name, MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    keep(&file)?;
    Ok(file.into())
}

fn keep(descriptor: impl AsFd) -> Result<()> {
    Ok(fcntl_setfd(descriptor, FdFlags::empty())?)
}
