//! What the scenarios of sessions share: a site where they can be had, and programs in them.

use anyhow::{Context as _, Result};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tobari_tests::{Answer, PEOPLE, Site, skipped_without_root, wait_until};

/// A site with people who have homes, or none where sessions cannot be had: then it says so loudly.
pub(crate) fn site(what: &str) -> Result<Option<Site>> {
    if skipped_without_root(what) {
        return Ok(None);
    }
    for needed in ["/usr/bin/bwrap", "/dev/fuse"] {
        if !Path::new(needed).exists() {
            tobari_tests::skipped(format!("{what}: no {needed}"));
            return Ok(None);
        }
    }
    let site = Site::reference_case()?;
    let answer = run(&site, "bucho", &["true"])?;
    if answer.code == 22 && std::env::var_os("TOBARI_REQUIRE_SESSIONS").is_none() {
        let _ = writeln!(std::io::stderr(), "!! SKIPPED: {what}: {}", answer.stderr);
        return Ok(None);
    }
    answer.ok()?;
    Ok(Some(site))
}

pub(crate) fn uid_of(login: &str) -> Result<u32> {
    PEOPLE.iter().find(|(name, ..)| *name == login).map(|(.., uid)| *uid).context("one of the three")
}

pub(crate) fn home(site: &Site, login: &str) -> Result<PathBuf> {
    let home = site.path(format!("home-{login}"));
    if !home.exists() {
        std::fs::create_dir(&home)?;
        std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o700))?;
        let uid = uid_of(login)?;
        chown(&home, Some(uid), Some(uid))?;
    }
    Ok(home)
}

pub(crate) fn command(site: &Site, login: &str, arguments: &[&str]) -> Result<Command> {
    let mut command = site.command_as(login, arguments)?;
    command.env("HOME", home(site, login)?).env("PATH", "/usr/bin:/bin").current_dir("/");
    for name in ["DISPLAY", "WAYLAND_DISPLAY", "XDG_RUNTIME_DIR"] {
        command.env_remove(name);
    }
    Ok(command)
}

/// `tobari run -- …`
pub(crate) fn run(site: &Site, login: &str, program: &[&str]) -> Result<Answer> {
    let arguments = [&["run", "--"], program].concat();
    Ok(command(site, login, &arguments)?.stdin(Stdio::null()).output()?.into())
}

pub(crate) fn shell(site: &Site, login: &str, script: &str) -> Result<Answer> {
    run(site, login, &["sh", "-c", script])
}

/// A second designated folder, of the lowest label.
pub(crate) fn lower_folder(site: &Site) -> Result<PathBuf> {
    let low = site.path("共有/公開");
    std::fs::create_dir_all(&low)?;
    tobari_tests::set_mode(&low, 0o1777)?;
    site.admin(&["folder", "add", text(&low), "--label", "公開", "--owner-group", "総務部"])?.ok()?;
    wait_until("the second folder to be known", || {
        site.tobari("admin", &["status", "--json"]).is_ok_and(|answer| answer.text().contains(text(&low)))
    })?;
    Ok(low)
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("the harness's own paths are UTF-8")
}
