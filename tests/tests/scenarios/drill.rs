//! `tobari drill` against a live installation, with every role, and the drill itself put to the test: it has to notice what leaks.

use anyhow::{Context as _, Result};
use serde_json::Value;
use std::collections::BTreeMap;
use tobari_tests::{ADMIN, Site, set_mode, skipped_without_root};

/// A user of the host without a person.
const OTHER: &str = "61009";

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
    let answer = site.tobari(ADMIN, &arguments)?;
    let text = format!("{}{}", answer.text(), answer.stderr);
    let document = answer.json().with_context(|| text.clone())?;
    let channels = document["channels"].as_array().cloned().unwrap_or_default();
    Ok(Drilled { code: answer.code, text, channels })
}

fn left(site: &Site) -> Vec<String> {
    ["共有/総務部", "drill"]
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
    assert_eq!(left(&site), [String::new(); 0]);
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
    assert_eq!(left(&site), [String::new(); 0]);
    Ok(())
}
