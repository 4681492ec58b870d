//! The desktop finds what `deploy/desktop` installs: by our own reading of the files, and by the desktop's tools where they are.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use tobari_core::envelope::MAGIC;

const TYPE: &str = "application/vnd.tobari.sealed";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/desktop")
}

#[test]
fn the_magic_is_the_envelopes_and_the_application_takes_the_type() {
    let types = std::fs::read_to_string(folder().join("tobari.xml")).unwrap();
    let written: String = MAGIC
        .iter()
        .map(|byte| match byte {
            b'A'..=b'Z' => char::from(*byte).to_string(),
            other => format!("\\x{other:02x}"),
        })
        .collect();
    assert!(types.contains(&format!("value=\"{written}\"")), "{written}");
    assert!(types.contains(&format!("<mime-type type=\"{TYPE}\">")));
    let entry = std::fs::read_to_string(folder().join("tobari-open.desktop")).unwrap();
    assert!(entry.contains(&format!("\nMimeType={TYPE};\n")) && entry.contains("\nExec=tobari open %f\n"));
}

#[test]
fn the_desktops_tools_know_a_sealed_file_and_its_application() {
    let there = |program: &str| Command::new(program).arg("--version").output().is_ok();
    let needed = ["update-mime-database", "update-desktop-database", "gio"];
    if let Some(missing) = needed.iter().find(|program| !there(program)) {
        let _ = writeln!(std::io::stderr(), "!! SKIPPED: the desktop's tools: no {missing}");
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let installed = Command::new("sh")
        .arg(folder().join("install.sh"))
        .arg("--prefix")
        .arg(root.path())
        .output()
        .unwrap();
    assert!(installed.status.success(), "{installed:?}");
    // Where the extension says something else, GLib believes the extension: docs/session.md, "Desktop".
    let file = root.path().join("稟議書");
    std::fs::write(&file, [MAGIC.as_slice(), &[1; 100]].concat()).unwrap();
    let share = root.path().join("share");
    let ask = |arguments: &[&str]| {
        let output = Command::new("gio")
            .args(arguments)
            .env("XDG_DATA_DIRS", format!("{}:/usr/share", share.display()))
            .env("XDG_DATA_HOME", root.path().join("home"))
            .env("HOME", root.path())
            .env("LC_ALL", "C.UTF-8")
            // TryExec of the entry.
            .env("PATH", format!("{}:/usr/bin:/bin", root.path().display()))
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    std::fs::copy("/bin/true", root.path().join("tobari")).unwrap();
    let kind = ask(&["info", "-a", "standard::content-type", file.to_str().unwrap()]);
    assert!(kind.contains(&format!("standard::content-type: {TYPE}")), "{kind}");
    let applications = ask(&["mime", TYPE]);
    assert!(applications.contains("tobari-open.desktop"), "{applications}");
}
