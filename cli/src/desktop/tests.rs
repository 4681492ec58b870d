//! A desktop in a folder.

use super::command_for;
use crate::console::Console;
use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use tobari_core::clock::SystemClock;

struct Desktop {
    root: tempfile::TempDir,
}

impl Desktop {
    fn new() -> Self {
        let desktop = Self { root: tempfile::tempdir().unwrap() };
        desktop.write(
            "system/mime/globs2",
            "# comment\n50:application/vnd.oasis.opendocument.text:*.odt\n50:text/x-log:*.log\n50:application/gzip:*.gz\n\
             50:application/x-compressed-tar:*.tar.gz\n80:text/x-makefile:makefile\n50:text/x-c++src:*.C:cs\n50:text/x-csrc:*.c:cs\n",
        );
        desktop.write("system/mime/subclasses", "application/x-compressed-tar application/gzip\n");
        for program in ["writer", "edit", "other"] {
            desktop.write(&format!("bin/{program}"), "#!/bin/sh\n");
            let path = desktop.root.path().join("bin").join(program);
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        desktop.entry("writer.desktop", "Exec=writer --open %U");
        desktop.entry("edit.desktop", r#"Exec=edit "a b" %% -c "say \\"x\\"" %f"#);
        desktop.entry("vendor/other.desktop", "Exec=other");
        desktop.entry("tobari-open.desktop", "Exec=tobari open %f");
        desktop.entry("gone.desktop", "Exec=not-installed %f");
        desktop.entry("hidden.desktop", "Exec=other %f\nHidden=true");
        desktop.write(
            "system/applications/mimeinfo.cache",
            "[MIME Cache]\napplication/vnd.oasis.opendocument.text=tobari-open.desktop;gone.desktop;hidden.desktop;writer.desktop;\n\
             text/plain=edit.desktop;\napplication/gzip=vendor-other.desktop;\n",
        );
        desktop
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn entry(&self, name: &str, lines: &str) {
        let text =
            format!("[Desktop Entry]\nType=Application\nName=x\n{lines}\n[Desktop Action y]\nExec=wrong\n");
        self.write(&format!("system/applications/{name}"), &text);
    }

    fn command(&self, file: &str) -> Result<Vec<String>, String> {
        let place = |name: &str| OsString::from(self.root.path().join(name));
        let console = Console {
            input: File::open("/dev/null").unwrap(),
            output: File::open("/dev/null").unwrap(),
            errors: File::open("/dev/null").unwrap(),
            variables: HashMap::from([
                (String::from("HOME"), place("home")),
                (String::from("XDG_DATA_DIRS"), place("system")),
                (String::from("XDG_CONFIG_DIRS"), place("etc")),
                (String::from("XDG_CURRENT_DESKTOP"), OsString::from("GNOME")),
                (String::from("PATH"), place("bin")),
            ]),
            clock: Arc::new(SystemClock),
        };
        let words = command_for(&console, Path::new(file))?;
        Ok(words.into_iter().map(|word| word.into_string().unwrap()).collect())
    }
}

#[test]
fn the_first_application_that_can_open_the_type_is_found() {
    let desktop = Desktop::new();
    assert_eq!(
        desktop.command("/s/稟議 1.ODT").unwrap(),
        ["writer", "--open", "file:///s/%E7%A8%9F%E8%AD%B0%201.ODT"]
    );
    // By the type above: logs are text.
    let edit = ["edit", "a b", "%", "-c", "say \"x\"", "/s/a.log"];
    assert_eq!(desktop.command("/s/a.log").unwrap(), edit);
    // The longer pattern, whose parent is associated; and an entry without a place for the file.
    assert_eq!(desktop.command("/s/a.tar.gz").unwrap(), ["other", "/s/a.tar.gz"]);
    assert_eq!(desktop.command("/s/makefile").unwrap()[0], "edit");
    assert_eq!(desktop.command("/s/none.xyz").unwrap_err(), "application/octet-stream");
}

#[test]
fn what_the_user_chose_wins() {
    let desktop = Desktop::new();
    desktop.write(
        "home/.config/mimeapps.list",
        "[Added Associations]\ntext/plain=writer.desktop;\n[Default Applications]\n\
         application/vnd.oasis.opendocument.text=edit.desktop\n[Removed Associations]\napplication/gzip=vendor-other.desktop\n",
    );
    assert_eq!(desktop.command("/s/a.odt").unwrap()[0], "edit");
    assert_eq!(desktop.command("/s/a.log").unwrap()[0], "writer");
    assert_eq!(desktop.command("/s/a.gz").unwrap_err(), "application/gzip");
    desktop.write(
        "home/.config/gnome-mimeapps.list",
        "[Default Applications]\napplication/vnd.oasis.opendocument.text=vendor-other.desktop\n",
    );
    assert_eq!(desktop.command("/s/a.odt").unwrap()[0], "other");
}
