//! The desktop finds what `deploy/desktop` installs: by our own reading of the files, and by the desktop's tools where they are.

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
        tobari_tests::skipped(format!("the desktop's tools: no {missing}"));
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let install = || {
        let mut command = Command::new("sh");
        command.arg(folder().join("install.sh")).arg("--types").arg("--prefix").arg(root.path());
        command.output().unwrap()
    };
    for _ in 0..2 {
        let installed = install();
        assert!(installed.status.success(), "{installed:?}");
    }
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
    // What has a known extension goes through us as well, unless somebody chose something else.
    let list = std::fs::read_to_string(folder().join("types.list")).unwrap();
    let types: Vec<&str> = list.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(types.len() >= 20 && types.contains(&"application/pdf"));
    for kind in &types {
        let first = ask(&["mime", kind]);
        assert!(first.lines().next().is_some_and(|line| line.contains("tobari-open-any.desktop")), "{first}");
    }
    let office = root.path().join("稟議書.docx");
    std::fs::write(&office, [MAGIC.as_slice(), &[1; 100]].concat()).unwrap();
    let kind = ask(&["info", "-a", "standard::content-type", office.to_str().unwrap()]);
    assert!(types.iter().any(|known| kind.contains(&format!("content-type: {known}\n"))), "{kind}");
    if there("xdg-mime") {
        let output = Command::new("xdg-mime")
            .args(["query", "default", "application/pdf"])
            .env("XDG_DATA_DIRS", format!("{}:/usr/share", share.display()))
            .env("XDG_DATA_HOME", root.path().join("home"))
            .env("XDG_CONFIG_HOME", root.path().join("home"))
            .env("HOME", root.path())
            .env("PATH", format!("{}:/usr/bin:/bin", root.path().display()))
            .env_remove("XDG_CURRENT_DESKTOP")
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "tobari-open-any.desktop", "{output:?}");
    }
    let config = root.path().join(".config");
    std::fs::create_dir_all(&config).unwrap();
    std::fs::write(config.join("mimeapps.list"), "[Default Applications]\ntext/plain=own.desktop\n").unwrap();
    let own = "[Desktop Entry]\nType=Application\nName=own\nExec=true %f\nMimeType=text/plain;\n";
    std::fs::create_dir_all(root.path().join("home/applications")).unwrap();
    std::fs::write(root.path().join("home/applications/own.desktop"), own).unwrap();
    let chosen = ask(&["mime", "text/plain"]);
    assert!(chosen.lines().next().is_some_and(|line| line.contains("own.desktop")), "{chosen}");
    // Somebody else's list is not overwritten.
    std::fs::write(share.join("applications/mimeapps.list"), "[Default Applications]\n").unwrap();
    let refused = install();
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
}
