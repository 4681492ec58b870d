//! Documents that must agree with the program.

use super::fake::Fake;
use crate::exit::Exit;
use std::path::{Path, PathBuf};

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
}

#[test]
fn the_published_exit_codes_are_those_of_the_program() {
    let text = std::fs::read_to_string(docs().join("cli-abi.md")).unwrap();
    let published: Vec<(u8, String)> = text
        .lines()
        .filter_map(|line| {
            let mut cells = line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`'));
            Some((cells.next()?.parse().ok()?, cells.next()?.to_owned()))
        })
        .collect();
    let own: Vec<(u8, String)> = Exit::ALL.iter().map(|exit| (exit.code(), exit.name().to_owned())).collect();
    assert_eq!(published, own);
}

#[test]
fn the_contract_names_every_command_and_environment_variable() {
    use clap::CommandFactory as _;
    let text = std::fs::read_to_string(docs().join("cli-abi.md")).unwrap();
    let command = crate::args::Args::command();
    let shown = command.get_subcommands().filter(|below| !below.is_hide_set());
    for name in shown.map(clap::Command::get_name) {
        assert!(text.contains(&format!("tobari {name}")), "{name}");
    }
    use crate::environment::{LANGUAGE, LOCALE, SOCKET, TIME_ZONE};
    for name in LOCALE.into_iter().chain([LANGUAGE, SOCKET, TIME_ZONE]) {
        assert!(text.contains(&format!("`{name}`")), "{name}");
    }
}

/// The man pages in `docs/man` are what `tobari man-pages docs/man` writes.
#[test]
fn the_man_pages_are_up_to_date() {
    let fake = Fake::nobody();
    let made = fake.path("man");
    std::fs::create_dir(&made).unwrap();
    let ran = fake.run(&["man-pages", made.to_str().unwrap()]);
    assert_eq!(ran.exit, Exit::Ok, "{ran:?}");
    let pages = |folder: &Path| {
        let mut pages: Vec<(String, String)> = std::fs::read_dir(folder)
            .unwrap()
            .map(Result::unwrap)
            // Section 8 has the pages of the two services.
            .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "1"))
            .map(|entry| {
                let text = std::fs::read_to_string(entry.path()).unwrap();
                (entry.file_name().into_string().unwrap(), text)
            })
            .collect();
        pages.sort();
        pages
    };
    let (made, kept) = (pages(&made), pages(&docs().join("man")));
    let names = |pages: &[(String, String)]| pages.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&made), names(&kept), "run: tobari man-pages docs/man");
    for (made, kept) in made.iter().zip(&kept) {
        assert_eq!(made, kept, "run: tobari man-pages docs/man");
    }
}
