//! The inner stage: runs inside bubblewrap's namespaces and system-call filter, adds Landlock, puts the caller's streams into
//! place, says on standard error that all is well (one NUL byte), and becomes the program. Nothing of the caller's —
//! environment, library path — has been used before that point.

use super::spec::Inner;
use crate::sys::namespaces::{close_others_on_exec, inherited};
use anyhow::{Context as _, Result, bail};
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, PathBeneath, PathFd, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetStatus, Scope,
};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Starts the program that descriptor number `spec` describes; returns only when it cannot.
///
/// # Errors
/// What could not be confined or started.
pub(super) fn run(spec: i32) -> Result<()> {
    let inner: Inner =
        serde_json::from_reader(File::from(inherited(spec)?)).context("the program's description")?;
    let mut streams = Vec::new();
    for number in inner.streams {
        streams.push(inherited(number)?);
    }
    let [input, output, errors]: [OwnedFd; 3] =
        streams.try_into().map_err(|_| anyhow::anyhow!("three streams are needed"))?;
    // A session of its own: signals reach the program and what it starts, and it has no controlling terminal.
    let _leader_already = rustix::process::setsid();
    confine(&inner.writable)?;
    // The NUL byte tells that the fault is not this host's.
    let mut command = command(&inner).map_err(|error| anyhow::anyhow!("\0{error:#}"))?;
    close_others_on_exec().context("close_range (Linux 5.11)")?;
    let diagnostics = std::io::stderr().as_fd().try_clone_to_owned()?;
    File::from(diagnostics.try_clone()?).write_all(&[0])?;
    rustix::stdio::dup2_stdin(&input)?;
    rustix::stdio::dup2_stdout(&output)?;
    rustix::stdio::dup2_stderr(&errors)?;
    let error = command.exec();
    // To the daemon, after the NUL byte: that tells it from an ordinary end.
    rustix::stdio::dup2_stderr(&diagnostics)?;
    bail!("'{}' cannot be started: {error}", command.get_program().to_string_lossy())
}

/// Reading and executing as the file system allows; writing in `writable` only; no TCP, no abstract sockets, no signals to
/// processes outside. What an older kernel does not know is left to the namespaces, which fence the same.
fn confine(writable: &[PathBuf]) -> Result<()> {
    let abi = ABI::V6;
    let everywhere = AccessFs::from_read(abi);
    let rules = Ruleset::default()
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .scope(Scope::from_all(abi))?
        .create()
        .context("Landlock (Linux 5.13, CONFIG_SECURITY_LANDLOCK)")?;
    let mut rules = rules.add_rule(PathBeneath::new(PathFd::new("/")?, everywhere))?;
    for path in writable {
        rules = rules.add_rule(PathBeneath::new(PathFd::new(path)?, AccessFs::from_all(abi)))?;
    }
    // Device files are bubblewrap's few; new ones cannot be made.
    let devices = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::ReadDir | AccessFs::IoctlDev;
    rules = rules.add_rule(PathBeneath::new(PathFd::new("/dev")?, devices | AccessFs::Truncate))?;
    let status = rules.restrict_self().context("Landlock")?;
    match status.ruleset {
        RulesetStatus::NotEnforced => {
            bail!("the kernel has no Landlock (Linux 5.13, CONFIG_SECURITY_LANDLOCK, lsm=landlock)")
        }
        RulesetStatus::PartiallyEnforced | RulesetStatus::FullyEnforced => Ok(()),
    }
}

fn command(inner: &Inner) -> Result<Command> {
    let text = |bytes: &'_ [u8]| OsStr::from_bytes(bytes).to_owned();
    let mut words = inner.program.arguments.iter().map(|word| text(&word.0));
    let name = words.next().context("no program is named")?;
    let variables = || inner.program.environment.iter().map(|(name, value)| (text(&name.0), text(&value.0)));
    let path = variables().find(|(name, _)| name == "PATH").map(|(_, value)| value);
    let mut command = Command::new(find(&name, path.as_deref())?);
    command.arg0(&name).args(words).env_clear();
    let wanted = Path::new(OsStr::from_bytes(&inner.program.directory.0)).to_owned();
    let directory = if wanted.is_dir() { wanted } else { inner.home.clone() };
    std::env::set_current_dir(&directory).with_context(|| format!("the folder {}", directory.display()))?;
    for (name, value) in variables() {
        let folder_is_missing =
            TEMPORARY.iter().any(|known| name == *known) && !may_write(Path::new(&value), &inner.writable);
        command.env(name, if folder_is_missing { OsStr::new("/tmp") } else { &value });
    }
    command.env("PWD", &directory);
    Ok(command)
}

/// Variables that name the folder for temporary files. The caller's need not be in the session: pam_tmpdir's is not.
const TEMPORARY: [&str; 3] = ["TMPDIR", "TMP", "TEMP"];

/// Whether `folder` is a folder of the session in which files can be made: by its mode, and by what [`confine`] allows.
fn may_write(folder: &Path, writable: &[PathBuf]) -> bool {
    use rustix::fs::Access;
    let Ok(found) = folder.canonicalize() else { return false };
    let allowed = writable.iter().any(|path| path.canonicalize().is_ok_and(|path| found.starts_with(path)));
    allowed && found.is_dir() && rustix::fs::access(&found, Access::WRITE_OK | Access::EXEC_OK).is_ok()
}

/// The program's file, by the caller's `PATH`.
fn find(name: &OsStr, path: Option<&OsStr>) -> Result<PathBuf> {
    if name.as_bytes().contains(&b'/') {
        return Ok(PathBuf::from(name));
    }
    let path = path.unwrap_or(OsStr::new("/usr/local/bin:/usr/bin:/bin"));
    std::env::split_paths(path)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(name))
        .find(|file| rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok() && file.is_file())
        .with_context(|| format!("there is no program '{}' in the session", name.to_string_lossy()))
}
