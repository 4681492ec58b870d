//! A lease with the real programs: asked for, approved, used without the key server, returned, and in the ledger. The clock is
//! never the system's: the daemon is given another one with libfaketime.

use crate::sessions;
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use tobari_tests::{ADMIN, Site, is_sealed, skipped_without_root, wait_until};

/// Exit code of a refusal by a lease, and of a key server that is away.
const LEASE_REFUSED: i32 = 30;
const KEY_SERVER_UNREACHABLE: i32 = 14;

/// libfaketime, where it is installed.
fn faketime() -> Option<&'static str> {
    let library = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";
    if Path::new(library).exists() {
        return Some(library);
    }
    tobari_tests::skipped("a clock that is wrong: libfaketime is not installed");
    None
}

fn part<'a>(document: &'a Value, pointer: &str) -> &'a Value {
    document.pointer(pointer).unwrap_or(&Value::Null)
}

/// A lease that 部長 asks for and the administrator approves; gives its id.
fn lent(site: &Site, file: &str, more: &[&str]) -> Result<String> {
    let mut args = vec!["lease", "request", file, "--days", "3", "--reason", "出張", "--json"];
    args.extend(more);
    let asked = site.tobari("bucho", &args)?.ok()?.json()?;
    let id = part(&asked, "/id").as_str().context("the request has an id")?.to_owned();
    site.admin(&["lease", "approve", &id[..8]])?.ok()?;
    // Asking what is held fetches it.
    let list = site.tobari("bucho", &["lease", "list", "--json"])?.ok()?.json()?;
    ensure!(part(&list, "/held/0/id") == id.as_str(), "{list}");
    ensure!(part(&list, "/held/0/usable") == true, "{list}");
    Ok(id)
}

#[test]
fn a_lease_opens_without_the_key_server_and_its_use_is_in_the_ledger() -> Result<()> {
    if skipped_without_root("leases (several users)") {
        return Ok(());
    }
    let mut site = Site::reference_case()?;
    let path = site.drop_file("起案書.txt", b"taken along")?;
    let other = site.drop_file("other.txt", b"left here")?;
    let (file, other) = (path.to_str().context("UTF-8")?, other.to_str().context("UTF-8")?);
    // 課長 has no right `offline`.
    let refused = site.tobari("kacho", &["lease", "request", file, "--days", "1", "--reason", "x"])?;
    ensure!(refused.code != 0 && refused.stderr.contains("offline"), "{refused:?}");
    let id = lent(&site, file, &["--rights", "view,send", "--opens", "3"])?;
    // Whoever wants to shut the person out is told what of theirs is out, and nothing is done yet.
    let diff = ["policy", "diff", "--json", "--", "person", "set", "bucho", "--disabled", "true"];
    let diff = site.admin(&diff)?.ok()?.json()?;
    ensure!(
        part(&diff, "/leases/total") == 1 && part(&diff, "/leases/first/0/lease") == id.as_str(),
        "{diff}"
    );

    site.key_server()?.terminate()?;
    ensure!(site.tobari("bucho", &["cat", file])?.ok()?.stdout == b"taken along");
    let info = site.tobari("bucho", &["info", file])?.ok()?;
    ensure!(info.text().contains("send"), "{info:?}");
    site.tobari("bucho", &["cat", other])?.fails_with(KEY_SERVER_UNREACHABLE)?;
    site.tobari("kacho", &["cat", file])?.fails_with(KEY_SERVER_UNREACHABLE)?;
    let out = site.path("state-bucho/lent.zip");
    let out = out.to_str().context("UTF-8")?;
    site.tobari_with("bucho", &["zip", "-o", out, file, "--password-stdin"], b"a-long-password-1")?.ok()?;
    let late = site.path("state-bucho/late.zip");
    let late = late.to_str().context("UTF-8")?;
    let unsealed = site.path("state-bucho/plain");
    let unsealed = unsealed.to_str().context("UTF-8")?;
    let refused = site.tobari("bucho", &["unseal", file, "-o", unsealed])?.fails_with(LEASE_REFUSED)?;
    ensure!(refused.stderr.contains("decrypt"), "{refused:?}");

    // After a restart nobody is logged in; the password is enough, and only the right one.
    site.daemon()?.terminate()?;
    site.start_daemon()?;
    ensure!(site.tobari("bucho", &["cat", file])?.code != 0);
    ensure!(site.login("kacho")?.code != 0, "no lease, no login");
    let wrong = site.tobari_with("bucho", &["login", "bucho", "--password-stdin"], b"wrong-password")?;
    ensure!(wrong.code != 0, "{wrong:?}");
    site.login("bucho")?.ok()?;
    ensure!(site.tobari("bucho", &["cat", file])?.ok()?.stdout == b"taken along");
    // Looking again at once is the same opening; sending is another one, and there is none left.
    ensure!(site.tobari("bucho", &["cat", file])?.ok()?.stdout == b"taken along");
    let used_up = site
        .tobari_with("bucho", &["zip", "-o", late, file, "--password-stdin"], b"a-long-password-1")?
        .fails_with(LEASE_REFUSED)?;
    ensure!(used_up.stderr.contains('3') && !Path::new(late).exists(), "{used_up:?}");

    let returned = site.tobari("bucho", &["lease", "return", &id[..8]])?.ok()?;
    ensure!(returned.stderr.contains("later") || returned.stderr.contains("reached"), "{returned:?}");
    site.tobari("bucho", &["cat", file])?.fails_with(KEY_SERVER_UNREACHABLE)?;

    site.start_key_server()?;
    site.login(ADMIN)?.ok()?;
    site.login("bucho")?.ok()?;
    site.tobari("bucho", &["lease", "list"])?.ok()?;
    let ledger = site.admin(&["lease", "ledger", "--json"])?.ok()?.json()?;
    let records = part(&ledger, "/ledger/0/records").as_array().context("records")?;
    let acts: Vec<&str> = records.iter().filter_map(|record| record["act"].as_str()).collect();
    ensure!(acts == ["open", "open", "open", "return"], "{ledger}");
    ensure!(part(&ledger, "/ledger/0/lease/state") == "returned", "{ledger}");
    let shown = site.admin(&["lease", "ledger"])?.ok()?;
    ensure!(shown.text().contains("起案書.txt") && shown.text().contains("出張"), "{shown:?}");
    let japanese = site.tobari(ADMIN, &["--lang", "ja", "admin", "lease", "ledger"])?.ok()?;
    ensure!(japanese.text().contains("返却済み") && japanese.text().contains("開封"), "{japanese:?}");
    site.admin(&["audit", "--verify"])?.ok()?;
    Ok(())
}

#[test]
fn programs_in_sessions_work_under_a_lease_without_the_key_server() -> Result<()> {
    let Some(mut site) = sessions::site("sessions under a lease")? else { return Ok(()) };
    let path = site.drop_file("出張/報告.txt", b"first line\n")?;
    let other = site.drop_file("出張/other.txt", b"left here")?;
    let folder = path.parent().context("a folder")?.to_owned();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666))?;
    let file = path.to_str().context("UTF-8")?;
    lent(&site, file, &["--rights", "view,edit", "--opens", "4"])?;
    site.key_server()?.terminate()?;

    let list = format!("ls -l '{}' && cat '{}'", folder.display(), path.display());
    let read = sessions::shell(&site, "bucho", &list)?.ok()?;
    ensure!(read.text().ends_with("first line\n"), "{read:?}");
    // What was not lent stays closed, and listing the folder has used nothing up.
    let closed = sessions::run(&site, "bucho", &["cat", sessions::text(&other)])?;
    ensure!(closed.code != 0 && closed.stdout.is_empty(), "{closed:?}");
    // It is written to in its place, and a new file is sealed with public keys from its first byte on.
    let new = folder.join("下書き.txt");
    let write = format!(
        "echo 'second line' >> '{}' && echo draft > '{}' && cat '{1}'",
        path.display(),
        new.display()
    );
    ensure!(sessions::shell(&site, "bucho", &write)?.ok()?.text() == "draft\n");
    ensure!(is_sealed(&path) && is_sealed(&new));
    let opened = site.tobari("bucho", &["open", "--with", "cat", file])?;
    ensure!(opened.ok()?.text() == "first line\nsecond line\n");
    // What somebody drops meanwhile is sealed too, and opens for nobody before the key server is back.
    let dropped = site.drop_file("dropped.txt", b"dropped")?;
    site.tobari("bucho", &["cat", sessions::text(&dropped)])?.fails_with(KEY_SERVER_UNREACHABLE)?;
    // Another person on the same terminal has nothing of it.
    let kacho = sessions::run(&site, "kacho", &["cat", file])?;
    ensure!(kacho.code != 0 && kacho.stdout.is_empty(), "{kacho:?}");

    // Logged in anew, each opening is another one; four are all there are.
    let used = |site: &Site| -> Result<u64> {
        let list = site.tobari("bucho", &["lease", "list", "--json"])?.ok()?.json()?;
        part(&list, "/held/0/used").as_u64().context("used")
    };
    while used(&site)? < 4 {
        let before = used(&site)?;
        site.login("bucho")?.ok()?;
        sessions::run(&site, "bucho", &["cat", file])?.ok()?;
        ensure!(used(&site)? == before + 1, "one opening counts once");
    }
    site.login("bucho")?.ok()?;
    let refused = sessions::run(&site, "bucho", &["cat", file])?;
    ensure!(refused.code != 0 && refused.stdout.is_empty(), "{refused:?}");

    site.start_key_server()?;
    site.login("bucho")?.ok()?;
    let all = sessions::run(&site, "bucho", &["cat", file, sessions::text(&new), sessions::text(&dropped)])?;
    ensure!(all.ok()?.text() == "first line\nsecond line\ndraft\ndropped");
    Ok(())
}

#[test]
fn a_revoked_lease_opens_nothing_more() -> Result<()> {
    if skipped_without_root("leases (several users)") {
        return Ok(());
    }
    let mut site = Site::reference_case()?;
    let path = site.drop_file("lost.txt", b"lost")?;
    let file = path.to_str().context("UTF-8")?;
    let id = lent(&site, file, &[])?;
    site.admin(&["lease", "revoke", &id, "--reason", "紛失"])?.ok()?;
    site.key_server()?.terminate()?;
    site.tobari("bucho", &["cat", file])?.fails_with(KEY_SERVER_UNREACHABLE)?;
    Ok(())
}

/// Starts the daemon again with a clock that is off.
fn restart(site: &mut Site, library: &str, offset: &str) -> Result<()> {
    site.daemon()?.terminate()?;
    let variables = [("LD_PRELOAD", library), ("FAKETIME", offset), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")];
    site.daemon_environment = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    site.start_daemon()
}

#[test]
fn the_end_and_a_clock_set_back_are_refused() -> Result<()> {
    if skipped_without_root("leases (several users)") {
        return Ok(());
    }
    let Some(library) = faketime() else { return Ok(()) };
    let mut site = Site::reference_case()?;
    let path = site.drop_file("late.txt", b"late")?;
    let file = path.to_str().context("UTF-8")?;
    lent(&site, file, &[])?;
    site.key_server()?.terminate()?;
    restart(&mut site, library, "+2d")?;
    site.login("bucho")?.ok()?;
    ensure!(site.tobari("bucho", &["cat", file])?.ok()?.stdout == b"late");
    // Back to today: what was seen is two days later.
    restart(&mut site, library, "+0")?;
    let refused = site.login("bucho")?.fails_with(LEASE_REFUSED)?;
    ensure!(refused.stderr.contains("set back"), "{refused:?}");
    restart(&mut site, library, "+2d")?;
    site.login("bucho")?.ok()?;
    site.tobari("bucho", &["cat", file])?.ok()?;
    restart(&mut site, library, "+4d")?;
    site.login("bucho")?.ok()?;
    let refused = site.tobari("bucho", &["cat", file])?.fails_with(LEASE_REFUSED)?;
    ensure!(refused.stdout.is_empty() && refused.stderr.contains("ended"), "{refused:?}");
    Ok(())
}

#[test]
fn a_state_that_was_restored_is_refused() -> Result<()> {
    if skipped_without_root("leases (several users)") {
        return Ok(());
    }
    let mut site = Site::reference_case()?;
    let path = site.drop_file("again.txt", b"again")?;
    let file = path.to_str().context("UTF-8")?;
    lent(&site, file, &["--opens", "1"])?;
    site.key_server()?.terminate()?;
    let leases = site.path("daemon/enrolment/leases");
    let saved = site.path("saved");
    copy(&leases, &saved)?;
    site.tobari("bucho", &["cat", file])?.ok()?;
    site.login("bucho")?.ok()?;
    site.tobari("bucho", &["cat", file])?.fails_with(LEASE_REFUSED)?;
    site.daemon()?.terminate()?;
    std::fs::remove_dir_all(&leases)?;
    copy(&saved, &leases)?;
    site.start_daemon()?;
    ensure!(site.login("bucho")?.code != 0, "the state is not believed, so nobody logs in with it");
    site.start_key_server()?;
    wait_until("a login with the key server", || site.login("bucho").is_ok_and(|answer| answer.code == 0))?;
    ensure!(site.tobari("bucho", &["cat", file])?.ok()?.stdout == b"again", "online as ever");
    site.key_server()?.terminate()?;
    // Grants of the key server to view are kept for minutes, those to send are not.
    let out = site.path("state-bucho/restored.zip");
    let out = out.to_str().context("UTF-8")?;
    let zip = ["zip", "-o", out, file, "--password-stdin"];
    ensure!(site.tobari_with("bucho", &zip, b"a-long-password-1")?.code != 0);
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        std::fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}

#[test]
fn a_person_who_was_shut_out_has_no_lease_when_they_are_let_in_again() -> Result<()> {
    if skipped_without_root("leases (several users)") {
        return Ok(());
    }
    let mut site = Site::reference_case()?;
    let path = site.drop_file("出張.txt", b"taken along")?;
    let file = path.to_str().context("UTF-8")?;
    lent(&site, file, &["--opens", "1"])?;
    for _ in 0..2 {
        site.admin(&["person", "set", "bucho", "--disabled", "true"])?.ok()?;
        site.admin(&["person", "set", "bucho", "--disabled", "false"])?.ok()?;
    }
    wait_until("a login", || site.login("bucho").is_ok_and(|answer| answer.code == 0))?;
    let list = site.tobari("bucho", &["lease", "list", "--json"])?.ok()?.json()?;
    ensure!(part(&list, "/held").as_array().is_some_and(Vec::is_empty), "{list}");
    ensure!(part(&list, "/leases/0/state") == "revoked", "{list}");
    site.key_server()?.terminate()?;
    site.tobari("bucho", &["cat", file])?.fails_with(KEY_SERVER_UNREACHABLE)?;
    Ok(())
}

#[test]
fn a_lease_of_a_label_has_its_files_and_what_is_created_under_it() -> Result<()> {
    let Some(mut site) = sessions::site("sessions under a lease of a label")? else { return Ok(()) };
    let path = site.drop_file("出張/報告.txt", b"first line\n")?;
    let folder = path.parent().context("a folder")?.to_owned();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777))?;
    let file = path.to_str().context("UTF-8")?;
    let ask = ["lease", "request", "--label", "社外秘", "--days", "3", "--reason", "出張", "--json"];
    let refused = site.tobari("bucho", &ask)?;
    ensure!(refused.code != 0 && refused.stderr.contains("社外秘"), "{refused:?}");
    site.admin(&["label", "set", "社外秘", "--lease-by-label", "true"])?.ok()?;
    let asked = site.tobari("bucho", &ask)?.ok()?.json()?;
    ensure!(part(&asked, "/file_count").as_u64().is_some_and(|count| count >= 1), "{asked}");
    let id = part(&asked, "/id").as_str().context("the request has an id")?.to_owned();
    site.admin(&["lease", "approve", &id[..8]])?.ok()?;
    site.tobari("bucho", &["lease", "list"])?.ok()?;

    site.key_server()?.terminate()?;
    ensure!(site.tobari("bucho", &["cat", file])?.ok()?.stdout == b"first line\n");
    let new = folder.join("下書き.txt");
    let write = format!("echo draft > '{0}' && cat '{0}'", new.display());
    ensure!(sessions::shell(&site, "bucho", &write)?.ok()?.text() == "draft\n");
    ensure!(is_sealed(&new));
    // After the daemon's restart and in another login it is one of the lease's files.
    site.daemon()?.terminate()?;
    site.start_daemon()?;
    site.login("bucho")?.ok()?;
    ensure!(site.tobari("bucho", &["cat", sessions::text(&new)])?.ok()?.stdout == b"draft\n");
    site.tobari("bucho", &["lease", "return", &id[..8]])?.ok()?;
    ensure!(site.tobari("bucho", &["cat", sessions::text(&new)])?.code != 0);
    Ok(())
}

#[test]
fn a_lease_of_a_label_is_refilled_with_what_was_made_since() -> Result<()> {
    if skipped_without_root("leases (several users)") {
        return Ok(());
    }
    let mut site = Site::reference_case()?;
    site.admin(&["label", "set", "社外秘", "--lease-by-label", "true"])?.ok()?;
    let path = site.drop_file("起案書.txt", b"first")?;
    let file = path.to_str().context("UTF-8")?;
    // Without a lease of a label there is nothing to refill.
    let none = site.tobari("bucho", &["lease", "refill"])?;
    ensure!(none.code == 2 && none.stderr.contains("no lease of a label"), "{none:?}");
    let ask = [
        "lease",
        "request",
        "--label",
        "社外秘",
        "--days",
        "3",
        "--opens",
        "3",
        "--reason",
        "出張",
        "--json",
    ];
    let asked = site.tobari("bucho", &ask)?.ok()?.json()?;
    let id = part(&asked, "/id").as_str().context("the request has an id")?.to_owned();
    site.admin(&["lease", "approve", &id[..8]])?.ok()?;
    site.tobari("bucho", &["lease", "list"])?.ok()?;
    let made = site.drop_file("回覧.txt", b"made since")?;
    let made = made.to_str().context("UTF-8")?;

    // Not before the refill, and without the key server there is none.
    site.key_server()?.terminate()?;
    ensure!(site.tobari("bucho", &["cat", file])?.ok()?.stdout == b"first");
    site.tobari("bucho", &["cat", made])?.fails_with(KEY_SERVER_UNREACHABLE)?;
    site.tobari("bucho", &["lease", "refill"])?.fails_with(KEY_SERVER_UNREACHABLE)?;
    site.start_key_server()?;
    site.login("bucho")?.ok()?;
    site.login("kacho")?.ok()?;
    site.login(ADMIN)?.ok()?;
    // Nobody else's.
    ensure!(site.tobari("kacho", &["lease", "refill", &id])?.code != 0);
    let refilled = site.tobari("bucho", &["lease", "refill", "--json"])?.ok()?.json()?;
    ensure!(part(&refilled, "/id") == id.as_str() && part(&refilled, "/state") == "issued", "{refilled}");
    ensure!(part(&refilled, "/file_count") == 2, "{refilled}");
    let list = site.tobari("bucho", &["lease", "list", "--json"])?.ok()?.json()?;
    ensure!(part(&list, "/held/0/issued_at") == part(&refilled, "/refilled_at"), "{list}");
    ensure!(part(&list, "/held/0/used") == 1, "{list}");

    site.key_server()?.terminate()?;
    ensure!(site.tobari("bucho", &["cat", made])?.ok()?.stdout == b"made since");
    // After a restart, too, and the openings of before count.
    site.daemon()?.terminate()?;
    site.start_daemon()?;
    site.login("bucho")?.ok()?;
    ensure!(site.tobari("bucho", &["cat", made])?.ok()?.stdout == b"made since");
    let refused = site.tobari("bucho", &["cat", file])?.fails_with(LEASE_REFUSED)?;
    ensure!(refused.stderr.contains('3'), "{refused:?}");

    site.start_key_server()?;
    site.login("bucho")?.ok()?;
    site.login(ADMIN)?.ok()?;
    site.tobari("bucho", &["lease", "list"])?.ok()?;
    let ledger = site.admin(&["lease", "ledger", "--json"])?.ok()?.json()?;
    let records = part(&ledger, "/ledger/0/records").as_array().context("records")?;
    ensure!(records.len() == 3 && part(&ledger, "/ledger/0/lease/file_count") == 2, "{ledger}");
    let found = site.admin(&["audit", "--json"])?.ok()?;
    ensure!(found.text().contains("lease-refill"), "{found:?}");
    site.admin(&["audit", "--verify"])?.ok()?;
    Ok(())
}
