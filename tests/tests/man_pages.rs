//! The man pages of the two services in `docs/man` are what their command lines say. After a change there:
//! `UPDATE_MAN_PAGES=1 cargo test -p tobari-tests --test man_pages`.
//! (Those of `tobari` are in section 1; its own tests check them.)

#![expect(clippy::unwrap_used, reason = "a test")]

use clap::{Command, CommandFactory as _};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Administration, as in man(1).
const SECTION: &str = "8";

fn render(command: &Command, pages: &mut BTreeMap<String, Vec<u8>>) {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        render(below, pages);
    }
    let page = clap_mangen::Man::new(command.clone()).section(SECTION);
    let mut text = Vec::new();
    page.render(&mut text).unwrap();
    pages.insert(page.get_filename(), text);
}

#[test]
fn the_man_pages_of_the_services_are_up_to_date() {
    let mut made = BTreeMap::new();
    for command in [tobari_daemon::args::Arguments::command(), tobari_keyserver::args::Args::command()] {
        let mut command = command.disable_help_subcommand(true);
        command.build();
        render(&command, &mut made);
    }
    let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/man");
    if std::env::var_os("UPDATE_MAN_PAGES").is_some() {
        for (name, text) in &made {
            std::fs::write(folder.join(name), text).unwrap();
        }
    }
    let kept: BTreeMap<String, Vec<u8>> = std::fs::read_dir(&folder)
        .unwrap()
        .map(Result::unwrap)
        .filter(|entry| entry.path().extension().is_some_and(|extension| extension == SECTION))
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
        .collect();
    let names = |pages: &BTreeMap<String, Vec<u8>>| pages.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&made), names(&kept), "stale: see the top of this file");
    for (name, text) in &made {
        assert!(kept.get(name) == Some(text), "{name} is stale: see the top of this file");
    }
}
