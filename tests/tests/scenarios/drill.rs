//! `tobari drill` against a live installation, with every role, and the drill itself put to the test: it has to notice what leaks.

use crate::sessions::{command, home, site as site_with_sessions, text, uid_of};
use anyhow::{Context as _, Result};
use serde_json::Value;
use std::collections::BTreeMap;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use tobari_tests::{ADMIN, Answer, Site, set_mode, skipped_without_root};

/// A user of the host without a person.
const OTHER: &str = "61009";
/// What a drill leaves.
const NOTHING: [String; 0] = [];

struct Drilled {
    code: i32,
    text: String,
    channels: Vec<Value>,
}

impl Drilled {
    fn of(&self, role: &str) -> BTreeMap<&str, &str> {
        let of_role = self.channels.iter().filter(|channel| channel["role"] == role);
        of_role.filter_map(|one| Some((one["channel"].as_str()?, one["got"].as_str()?))).collect()
    }

    fn tried(&self, role: &str) -> usize {
        self.of(role).values().filter(|got| **got != "not-tried").count()
    }
}

/// Drills as root for the user of a person.
fn drill(site: &Site, uid: &str, more: &[&str]) -> Result<Drilled> {
    let scratch = site.path("drill");
    std::fs::create_dir_all(&scratch)?;
    set_mode(&scratch, 0o777)?;
    let (folder, scratch) = (site.folder(), scratch.to_string_lossy().into_owned());
    let folder = folder.to_str().context("the harness's own path is UTF-8")?;
    let mut arguments = vec!["--json", "drill", folder, "--scratch", &scratch, "--user", uid];
    arguments.extend(more);
    told(&site.tobari(ADMIN, &arguments)?)
}

fn told(answer: &Answer) -> Result<Drilled> {
    let text = format!("{}{}", answer.text(), answer.stderr);
    let document = answer.json().with_context(|| text.clone())?;
    let channels = document.get("channels").and_then(Value::as_array).cloned().unwrap_or_default();
    Ok(Drilled { code: answer.code, text, channels })
}

/// The program in a place that sessions of a person show.
fn with_program_in(place: &Path, site: &Site, login: &str) -> Result<Command> {
    let like = command(site, login, &["--version"])?;
    let program = place.join("tobari");
    std::fs::copy(like.get_program(), &program)?;
    let mut command = Command::new(&program);
    for (name, value) in like.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    Ok(command)
}

/// Drills as a person.
fn drill_in_sessions(site: &Site, login: &str, roles: &[&str]) -> Result<Drilled> {
    let mut command = with_program_in(&home(site, login)?, site, login)?;
    let uid = uid_of(login)?;
    let folder = site.folder();
    command.args(["--json", "drill", text(&folder)]).uid(uid).gid(uid).current_dir("/").stdin(Stdio::null());
    for role in roles {
        command.args(["--role", role]);
    }
    told(&command.output()?.into())
}

fn left(site: &Site) -> Vec<String> {
    ["共有/総務部", "drill", "home-bucho"]
        .iter()
        .flat_map(|place| std::fs::read_dir(site.path(place)).into_iter().flatten().flatten())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("tobari-drill-"))
        .collect()
}

#[test]
fn nothing_leaks_to_programs_outside_a_session_and_to_other_users() -> Result<()> {
    if skipped_without_root("the drill with several users") {
        return Ok(());
    }
    let site = Site::reference_case()?;
    let drilled = drill(&site, "61001", &["--role", "outside", "--role", "other", "--other", OTHER])?;
    assert_eq!(drilled.code, 0, "{}", drilled.text);
    // What needs nothing but the file is tried everywhere.
    for role in ["outside", "other"] {
        let got = drilled.of(role);
        for way in
            ["read", "cp", "mail", "usb", "dd-direct", "reflink", "rename-out", "symlink", "backup", "o-path"]
        {
            assert!(matches!(got[way], "ciphertext" | "nothing"), "{role} {way}: {}", drilled.text);
        }
        assert!(drilled.tried(role) >= 14, "{role}: {}", drilled.text);
    }
    // Ciphertext was there to be had: the ways do what they say.
    assert_eq!(drilled.of("outside")["cp"], "ciphertext");
    assert_eq!(
        drilled.of("outside")["control-socket"],
        "plaintext",
        "who has the right gets it from the daemon"
    );
    assert_eq!(drilled.of("other")["control-socket"], "nothing");
    assert_eq!(left(&site), NOTHING);
    Ok(())
}

#[test]
fn the_drill_notices_a_leak_and_clears_what_a_killed_one_left() -> Result<()> {
    if skipped_without_root("the drill with several users") {
        return Ok(());
    }
    let site = Site::reference_case()?;
    // Who may view and no more gets no file out of the commands...
    let drilled = drill(&site, "61003", &["--role", "view"])?;
    assert_eq!(drilled.code, 0, "{}", drilled.text);
    let got = drilled.of("view");
    assert_eq!(
        (got["cat"], got["unseal"], got["zip"]),
        ("plaintext", "nothing", "nothing"),
        "{}",
        drilled.text
    );
    // ...and who may decrypt does: said to be somebody who may not, that is a leak.
    let drilled = drill(&site, "61001", &["--role", "view"])?;
    assert_eq!(drilled.code, 28, "{}", drilled.text);
    assert_eq!(drilled.of("view")["unseal"], "plaintext");

    // A process with this number does not run: the highest number of all is never given out.
    let dead = "tobari-drill-4194305-0123456789abcdef";
    std::fs::create_dir(site.path("drill").join(dead))?;
    std::fs::write(site.folder().join(format!("{dead}-1.txt")), b"left")?;
    drill(&site, "61003", &["--role", "view"])?;
    assert_eq!(left(&site), NOTHING);
    Ok(())
}

#[test]
fn a_program_in_a_session_gets_nothing_out_that_is_not_said() -> Result<()> {
    let Some(site) = site_with_sessions("the drill in a session")? else { return Ok(()) };
    let drilled = drill_in_sessions(&site, "bucho", &["inside"])?;
    assert_eq!(drilled.code, 0, "{}", drilled.text);
    let got = drilled.of("inside");
    // Each of them brought plaintext without a session: what cannot be tried everywhere is not named here.
    for way in [
        "tmp",
        "var-tmp",
        "home",
        "own-folder",
        "print-to-file",
        "planted-symlink",
        "hard-link-out",
        "rename-out",
        "tcp",
        "abstract-socket",
        "path-socket",
        "d-bus",
        "control-socket",
    ] {
        assert_eq!(got[way], "nothing", "{way}: {}", drilled.text);
    }
    for way in ["save-as", "save-as-other-type", "rename-in-folder", "killed-save"] {
        assert_eq!(got[way], "ciphertext", "{way}: {}", drilled.text);
    }
    // What is said not to be stopped is seen, so the drill sees what arrives from a session.
    for way in ["standard-output", "file-name", "link-target"] {
        assert_eq!(got[way], "plaintext", "{way}: {}", drilled.text);
    }
    assert_eq!(left(&site), NOTHING);
    Ok(())
}

/// Root puts what a machine may lack in its place, and lends the control what an administrator might have allowed.
#[test]
fn root_drills_a_session_by_the_ways_that_are_closed_to_users() -> Result<()> {
    let Some(site) = site_with_sessions("the drill in a session, by root")? else { return Ok(()) };
    // Users of the tests have no home of their own, and the build may lie in one that sessions do not show.
    let place = tempfile::Builder::new().prefix("tobari-test-").tempdir_in("/var/lib")?;
    set_mode(place.path(), 0o755)?;
    let mut command = with_program_in(place.path(), &site, "bucho")?;
    let folder = site.folder();
    let uid = uid_of("bucho")?.to_string();
    command.args(["--json", "drill", text(&folder), "--scratch", text(&home(&site, "bucho")?)]);
    command.args(["--user", &uid, "--role", "inside"]).current_dir("/").stdin(Stdio::null());
    let drilled = told(&command.output()?.into())?;
    assert_eq!(drilled.code, 0, "{}", drilled.text);
    let got = drilled.of("inside");
    for way in ["raw-socket", "packet-socket", "print-socket", "terminal"] {
        assert_eq!(got[way], "nothing", "{way}: {}", drilled.text);
    }
    assert_eq!(left(&site), NOTHING);
    Ok(())
}

#[test]
fn nothing_leaks_out_of_the_processes_of_a_session() -> Result<()> {
    let Some(site) = site_with_sessions("the drill against a session")? else { return Ok(()) };
    let drilled = drill_in_sessions(&site, "bucho", &["outside"])?;
    assert_eq!(drilled.code, 0, "{}", drilled.text);
    let got = drilled.of("outside");
    for way in ["proc-root", "proc-cwd", "proc-fd", "proc-environ", "proc-threads", "stop-and-read"] {
        assert_eq!(got[way], "nothing", "{way}: {}", drilled.text);
    }
    // Where the host forbids more even without a session, less is tried; but there was one.
    assert!(!drilled.text.contains("no session"), "{}", drilled.text);
    assert_eq!(left(&site), NOTHING);
    Ok(())
}
