//! What a person can do wrong, or meet: each has a message that names the thing and the next step, an exit code of
//! its own (docs/cli-abi.md), and loses nothing.

use anyhow::{Context as _, Result, ensure};
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use tobari_tests::{ADMIN, Answer, Site, is_sealed, password, set_mode, skipped_without_root};

/// Exit codes by name, from the published table.
fn exit_codes() -> Result<BTreeMap<String, i32>> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/cli-abi.md"))?;
    let codes: BTreeMap<String, i32> = text
        .lines()
        .filter_map(|line| {
            let mut cells = line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`'));
            let code = cells.next()?.parse().ok()?;
            Some((cells.next()?.to_owned(), code))
        })
        .collect();
    ensure!(codes.len() > 8, "docs/cli-abi.md has the table of exit codes");
    Ok(codes)
}

pub(super) fn expect(answer: Answer, name: &str, words: &[&str]) -> Result<()> {
    let code = *exit_codes()?.get(name).with_context(|| format!("no exit code named {name}"))?;
    let answer = answer.fails_with(code)?;
    ensure!(answer.stdout.is_empty(), "data on stdout of a failed command: {answer:?}");
    for word in words {
        ensure!(answer.stderr.contains(word), "'{word}' is missing: {answer:?}");
    }
    ensure!(answer.stderr.contains("hint:"), "no next step: {answer:?}");
    Ok(())
}

pub(super) fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn a_wrong_password_is_refused_and_no_spelling_of_the_name_avoids_the_lockout() -> Result<()> {
    let site = Site::reference_case()?;
    site.tobari(ADMIN, &["logout"])?.ok()?;
    let wrong =
        |login: &str| site.tobari_with(ADMIN, &["login", login, "--password-stdin"], b"not-the-password");
    expect(wrong("ippan")?, "bad-credentials", &[])?;
    let spellings = ["IPPAN", "ｉｐｐａｎ", "Ippan", " ippan", "ＩＰＰＡＮ", "iPPan"];
    let mut locked = false;
    for round in 0..4 {
        for spelling in spellings {
            let answer = wrong(spelling)?;
            locked |= answer.code == exit_codes()?["locked-out"];
            ensure!(answer.code != 0, "{round} {spelling}: {answer:?}");
        }
    }
    ensure!(locked, "two dozen failures lock the account out, however its name is written");
    // Even the right password must wait now, under any spelling.
    let right =
        site.tobari_with(ADMIN, &["login", "ippan", "--password-stdin"], password("ippan").as_bytes())?;
    expect(right, "locked-out", &[])?;
    Ok(())
}

#[test]
fn unknown_names_are_named_with_what_is_known() -> Result<()> {
    let site = Site::reference_case()?;
    let file = site.path("plain.txt");
    std::fs::write(&file, b"plain")?;
    expect(
        site.tobari(ADMIN, &["seal", text(&file), "--label", "極々秘"])?,
        "not-found",
        &["極々秘", "社外秘"],
    )?;
    ensure!(std::fs::read(&file)? == b"plain");
    expect(site.tobari(ADMIN, &["cat", text(&site.path("missing.txt"))])?, "io", &["missing.txt"])?;
    expect(
        site.admin(&["folder", "add", "/srv/x", "--label", "無い", "--owner-group", "総務部"])?,
        "not-found",
        &["無い"],
    )?;
    Ok(())
}

#[test]
fn damaged_envelopes_are_refused_and_left_as_they_are() -> Result<()> {
    if skipped_without_root("opening (several users)") {
        return Ok(());
    }
    let site = Site::reference_case()?;
    let content: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    let file = site.drop_file("data.bin", &content)?;
    let whole = std::fs::read(&file)?;
    let out = site.path("out");
    std::fs::create_dir(&out)?;
    set_mode(&out, 0o777)?;
    let damaged = |name: &str, bytes: &[u8]| -> Result<std::path::PathBuf> {
        let path = out.join(name);
        std::fs::write(&path, bytes)?;
        set_mode(&path, 0o644)?;
        Ok(path)
    };
    let mut flipped_header = whole.clone();
    flipped_header[70] ^= 1;
    let mut flipped_body = whole.clone();
    let last = flipped_body.len() - 100;
    flipped_body[last] ^= 1;
    let cases = [
        ("header.bin", flipped_header, "unreadable-envelope"),
        ("body.bin", flipped_body, "corrupt-envelope"),
        ("cut.bin", whole[..whole.len() - 20_000].to_vec(), "corrupt-envelope"),
        ("short.bin", whole[..1000].to_vec(), "unreadable-envelope"),
        ("long.bin", [whole.as_slice(), &[0; 50]].concat(), "corrupt-envelope"),
    ];
    for (name, bytes, code) in cases {
        let path = damaged(name, &bytes)?;
        let target = out.join(format!("{name}.plain"));
        let answer = site.tobari("bucho", &["unseal", text(&path), "-o", text(&target)])?;
        expect(answer, code, &[name])?;
        ensure!(std::fs::read(&path)? == bytes, "{name} was changed");
        ensure!(!target.exists(), "{name}: half an output was left");
    }
    let leftovers: Vec<_> =
        std::fs::read_dir(&out)?.map(|entry| entry.map(|e| e.file_name())).collect::<Result<_, _>>()?;
    ensure!(leftovers.len() == 5, "left behind: {leftovers:?}");
    Ok(())
}

#[test]
fn a_file_of_another_organisation_is_refused() -> Result<()> {
    if skipped_without_root("two organisations (several users)") {
        return Ok(());
    }
    let ours = Site::reference_case()?;
    let theirs = Site::reference_case()?;
    let foreign = theirs.drop_file("foreign.txt", b"theirs")?;
    let bytes = std::fs::read(&foreign)?;
    let copy = ours.path("foreign.txt");
    std::fs::write(&copy, &bytes)?;
    set_mode(&copy, 0o644)?;
    expect(ours.tobari("bucho", &["cat", text(&copy)])?, "unreadable-envelope", &["foreign.txt"])?;
    // Laid into a designated folder it is neither sealed a second time nor changed, and it is reported.
    let landed = ours.folder().join("foreign.txt");
    std::fs::write(&landed, &bytes)?;
    tobari_tests::wait_until("the foreign envelope to be reported", || {
        ours.tobari(ADMIN, &["status", "--unsealed", "--json"])
            .is_ok_and(|answer| answer.text().contains("foreign-envelope"))
    })?;
    ensure!(std::fs::read(&landed)? == bytes);
    Ok(())
}

#[test]
fn a_name_that_is_not_utf8_is_sealed_and_opened_and_named() -> Result<()> {
    if skipped_without_root("opening (several users)") {
        return Ok(());
    }
    let site = Site::reference_case()?;
    // テスト.txt in Shift_JIS, as an old client leaves it.
    let name = std::ffi::OsStr::from_bytes(b"\x83e\x83X\x83g.txt");
    let file = site.drop_file(name, b"sjis name")?;
    let answer = site.tobari("bucho", &[std::ffi::OsStr::new("cat"), file.as_os_str()])?.ok()?;
    ensure!(answer.stdout == b"sjis name");
    let out = site.path("out");
    std::fs::create_dir(&out)?;
    set_mode(&out, 0o777)?;
    let archive = out.join("a.zip");
    let args = [std::ffi::OsStr::new("zip"), "-o".as_ref(), archive.as_os_str(), file.as_os_str()];
    let refused = site.tobari("bucho", &args)?;
    ensure!(refused.code != 0 && refused.stderr.contains("UTF-8"), "{refused:?}");
    ensure!(!archive.exists());
    Ok(())
}

#[test]
fn existing_files_are_not_overwritten() -> Result<()> {
    if skipped_without_root("opening (several users)") {
        return Ok(());
    }
    let site = Site::reference_case()?;
    let file = site.drop_file("memo.txt", b"secret")?;
    let out = site.path("out");
    std::fs::create_dir(&out)?;
    set_mode(&out, 0o777)?;
    let existing = out.join("existing");
    std::fs::write(&existing, b"mine")?;
    set_mode(&existing, 0o666)?;
    for command in ["unseal", "zip"] {
        expect(
            site.tobari("bucho", &[command, text(&file), "-o", text(&existing)])?,
            "exists",
            &["existing"],
        )?;
        ensure!(std::fs::read(&existing)? == b"mine");
    }
    Ok(())
}

#[test]
fn an_unreadable_file_is_named() -> Result<()> {
    if skipped_without_root("unreadable files (several users)") {
        return Ok(());
    }
    let site = Site::reference_case()?;
    let file = site.drop_file("closed.txt", b"secret")?;
    set_mode(&file, 0o600)?;
    expect(site.tobari("ippan", &["cat", text(&file)])?, "io", &["closed.txt"])?;
    ensure!(is_sealed(&file));
    Ok(())
}

#[test]
fn a_token_serves_once_and_a_wrong_fingerprint_is_refused() -> Result<()> {
    let site = Site::key_server_only()?;
    let token = std::fs::read_to_string(site.path("enrolment.token"))?;
    let bad = site.enrol("t0", "not-a-token")?;
    ensure!(bad.code != 0 && bad.stderr.contains("token"), "{bad:?}");
    site.enrol("t1", token.trim())?.ok()?;
    let again = site.enrol("t2", token.trim())?;
    ensure!(again.code != 0 && again.stderr.contains("token"), "{again:?}");
    ensure!(!site.path("t2").join("terminal.json").exists(), "nothing half-enrolled is left");
    Ok(())
}

#[test]
fn without_a_daemon_the_command_line_names_the_socket() -> Result<()> {
    let mut site = Site::start()?;
    site.daemon()?.terminate()?;
    expect(site.tobari(ADMIN, &["whoami"])?, "daemon-unreachable", &["control.sock"])?;
    Ok(())
}

#[test]
fn secrets_never_reach_a_log() -> Result<()> {
    let site = Site::reference_case()?;
    let canary = "CANARY-plaintext-of-a-resident";
    let file = site.drop_file("canary.txt", canary.as_bytes())?;
    let _ = site.tobari("bucho", &["cat", text(&file)])?;
    let _ = site.tobari_with(ADMIN, &["login", "ippan", "--password-stdin"], b"CANARY-wrong-password")?;
    let token = std::fs::read_to_string(site.path("enrolment.token"))?;
    for log in ["keyserver.log", "tobarid.log"] {
        let text = std::fs::read_to_string(site.path(log))?;
        for secret in [canary, "CANARY-wrong-password", token.trim(), &password("bucho"), &password(ADMIN)] {
            ensure!(!text.contains(secret), "{log} contains a secret");
        }
    }
    Ok(())
}
