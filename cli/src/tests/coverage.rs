//! `scan-coverage` over real files.

use super::fake::{Fake, done};
use super::sample;
use crate::exit::Exit;
use std::os::unix::fs::PermissionsExt as _;

fn tree(fake: &Fake) -> String {
    let root = fake.path("share");
    std::fs::create_dir_all(root.join("深い/所")).unwrap();
    std::fs::write(root.join("plain.txt"), b"plain").unwrap();
    std::fs::write(root.join("深い/所/empty"), b"").unwrap();
    std::fs::write(root.join("深い/damaged"), [tobari_core::envelope::MAGIC.as_slice(), &[7; 5000]].concat())
        .unwrap();
    std::os::unix::fs::symlink("plain.txt", root.join("link")).unwrap();
    std::os::unix::fs::symlink("/", root.join("深い/root")).unwrap();
    let control = root.join(".tobari");
    std::fs::create_dir(&control).unwrap();
    std::fs::set_permissions(&control, std::fs::Permissions::from_mode(0o700)).unwrap();
    std::fs::write(control.join("journal"), b"j").unwrap();
    let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
    std::fs::File::options().write(true).open(root.join("plain.txt")).unwrap().set_modified(old).unwrap();
    root.to_str().unwrap().to_owned()
}

#[test]
fn plain_and_damaged_files_are_counted_and_links_are_not_followed() {
    let fake = Fake::nobody();
    let root = tree(&fake);
    let ran = fake.run(&["scan-coverage", &root, "--json", "--list"]);
    assert_eq!(ran.exit, Exit::NotCovered);
    let document = ran.json();
    assert_eq!(document["plain"], serde_json::json!({ "files": 2, "bytes": 5 }));
    assert_eq!(document["damaged"]["files"], 1);
    assert_eq!(document["special"], 2);
    assert_eq!(document["covered"], false);
    assert!(document["oldest_plain"]["path"].as_str().unwrap().ends_with("plain.txt"));
    assert!(document["oldest_plain"]["age_seconds"].as_i64().unwrap() > 80_000_000);
    assert_eq!(document["list"].as_array().unwrap().len(), 3);
    let ran = fake.run(&["scan-coverage", &root, "--json"]);
    assert!(ran.json()["list"].as_array().unwrap().is_empty());

    for language in ["en", "ja"] {
        let ran = fake.run_in(language, &["scan-coverage", &root, "--list"], b"");
        let shown = ran.whole().replace(fake.root.path().to_str().unwrap(), "ROOT");
        insta::assert_snapshot!(format!("coverage {language}"), shown);
    }
}

#[test]
fn a_control_folder_that_is_open_hides_nothing() {
    let fake = Fake::nobody();
    let root = tree(&fake);
    std::fs::set_permissions(fake.path("share/.tobari"), std::fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(fake.run(&["scan-coverage", &root, "--json"]).json()["plain"]["files"], 3);
}

#[test]
fn what_cannot_be_read_is_listed_and_nothing_at_all_is_covered() {
    let fake = Fake::nobody();
    let ran = fake.run(&["scan-coverage", "/nowhere/at/all", "--json"]);
    assert_eq!(ran.exit, Exit::NotCovered);
    assert_eq!(ran.json()["list"][0]["kind"], "unreadable");
    std::fs::create_dir(fake.path("empty")).unwrap();
    let ran = fake.run(&["scan-coverage", fake.path("empty").to_str().unwrap(), "--json"]);
    assert_eq!((ran.exit, ran.json()["covered"].as_bool()), (Exit::Ok, Some(true)));
}

#[test]
fn sealed_files_of_this_and_another_organisation() {
    let (ours, _) = sample::bulletin_with_keys(Vec::new());
    let mut theirs = ours.clone();
    theirs.organisation = tobari_core::ids::OrganisationId::from_bytes([9; 16]);
    let bulletins = [theirs, ours.clone(), ours];
    let mut next = bulletins.into_iter();
    let fake = Fake::saying(move |_, _| next.next().map(|bulletin| done(sample::notice(bulletin))));
    let folder = fake.path("share");
    std::fs::create_dir(&folder).unwrap();
    for name in ["theirs", "ours"] {
        let path = folder.join(name);
        std::fs::write(&path, name).unwrap();
        let ran = fake.run(&["seal", path.to_str().unwrap(), "--label", "社外秘"]);
        assert_eq!(ran.exit, Exit::Ok, "{ran:?}");
    }
    let ran = fake.run(&["scan-coverage", folder.to_str().unwrap(), "--json"]);
    assert_eq!(ran.exit, Exit::NotCovered);
    let document = ran.json();
    assert_eq!((&document["sealed"]["files"], &document["foreign"]["files"]), (&1.into(), &1.into()));
    assert_eq!(document["share_of_files"], 0.5);
}
