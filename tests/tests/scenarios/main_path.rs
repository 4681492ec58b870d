//! What the product is for: sealed on arrival, opened by those who may, refused to the others, sent as a ZIP.

use anyhow::{Result, ensure};
use std::process::Command;
use tobari_tests::{PEOPLE, Site, is_root, is_sealed, password, set_mode, skipped_without_root, wait_until};

const TEXT: &[u8] = "部外秘の打合せ記録\n".as_bytes();

#[test]
fn each_post_gets_what_the_rules_say_and_nothing_more() -> Result<()> {
    if skipped_without_root("rights by post") {
        return Ok(());
    }
    let site = Site::reference_case()?;
    let file = site.drop_file("契約/打合せ記録.txt", TEXT)?;
    let name = file.to_str().expect("UTF-8");
    for (login, _, uid) in PEOPLE {
        ensure!(site.tobari(login, &["cat", name])?.ok()?.stdout == TEXT);
        let out = site.path(format!("out-{login}"));
        std::fs::create_dir(&out)?;
        std::os::unix::fs::chown(&out, Some(uid), Some(uid))?;
        let plain = out.join("plain.txt");
        let unsealed = site.tobari(login, &["unseal", name, "-o", plain.to_str().expect("UTF-8")])?;
        let archive = out.join("a.zip");
        let zipped = site.tobari(login, &["zip", "-o", archive.to_str().expect("UTF-8"), name])?;
        if login == "bucho" {
            unsealed.ok()?;
            zipped.ok()?;
            ensure!(std::fs::read(&plain)? == TEXT);
        } else {
            for refused in [unsealed, zipped] {
                ensure!(refused.code != 0 && refused.stdout.is_empty(), "{refused:?}");
                ensure!(!refused.stderr.contains("打合せ記録\n"), "{refused:?}");
            }
            ensure!(std::fs::read_dir(&out)?.next().is_none(), "a refused command left something behind");
        }
    }
    Ok(())
}

#[test]
fn a_person_without_login_gets_ciphertext_and_a_hint() -> Result<()> {
    let site = Site::reference_case()?;
    let file = site.drop_file("memo.txt", TEXT)?;
    let name = file.to_str().expect("UTF-8");
    site.tobari("admin", &["logout"])?.ok()?;
    let answer = site.tobari("admin", &["cat", name])?;
    ensure!(answer.code != 0 && answer.stdout.is_empty(), "{answer:?}");
    ensure!(answer.stderr.contains("tobari login"), "{answer:?}");
    let bytes = std::fs::read(&file)?;
    ensure!(!bytes.windows(TEXT.len()).any(|window| window == TEXT));
    Ok(())
}

#[test]
fn being_an_administrator_gives_no_right_over_files() -> Result<()> {
    let site = Site::reference_case()?;
    let file = site.drop_file("memo.txt", TEXT)?;
    let answer = site.tobari("admin", &["cat", file.to_str().expect("UTF-8")])?;
    ensure!(answer.code != 0 && answer.stdout.is_empty(), "{answer:?}");
    Ok(())
}

#[test]
fn name_owner_mode_and_times_stay() -> Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    let site = Site::reference_case()?;
    let staging = site.path("報告書.docx");
    std::fs::write(&staging, TEXT)?;
    set_mode(&staging, 0o640)?;
    if is_root() {
        std::os::unix::fs::chown(&staging, Some(61002), Some(61002))?;
    }
    let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::new(1_700_000_000, 123_456_789);
    std::fs::File::options().write(true).open(&staging)?.set_modified(old)?;
    let before = std::fs::metadata(&staging)?;
    let target = site.folder().join("報告書.docx");
    std::fs::rename(&staging, &target)?;
    wait_until("the file to be sealed", || is_sealed(&target))?;
    let after = std::fs::metadata(&target)?;
    ensure!((before.uid(), before.gid(), before.mode()) == (after.uid(), after.gid(), after.mode()));
    ensure!((before.mtime(), before.mtime_nsec()) == (after.mtime(), after.mtime_nsec()));
    Ok(())
}

#[test]
fn a_deep_tree_made_in_one_go_is_sealed_whole() -> Result<()> {
    let site = Site::reference_case()?;
    let mut files = Vec::new();
    for branch in 0..20 {
        let dir = site.folder().join(format!("部/課{branch}/係/担当/年度"));
        std::fs::create_dir_all(&dir)?;
        for leaf in 0..10 {
            let file = dir.join(format!("{leaf}.csv"));
            std::fs::write(&file, format!("{branch},{leaf}\n"))?;
            files.push(file);
        }
    }
    wait_until("the tree to be sealed", || files.iter().all(|file| is_sealed(file)))?;
    Ok(())
}

#[test]
fn a_copy_anywhere_stays_sealed_and_opens_for_those_who_may() -> Result<()> {
    if skipped_without_root("copies of sealed files") {
        return Ok(());
    }
    let site = Site::reference_case()?;
    let file = site.drop_file("memo.txt", TEXT)?;
    let copy = site.path("copy of memo.txt");
    std::fs::copy(&file, &copy)?;
    ensure!(is_sealed(&copy));
    ensure!(site.tobari("kacho", &["cat", copy.to_str().expect("UTF-8")])?.ok()?.stdout == TEXT);
    Ok(())
}

#[test]
fn an_empty_and_a_large_file_come_back_byte_for_byte() -> Result<()> {
    if skipped_without_root("large files") {
        return Ok(());
    }
    let site = Site::reference_case()?;
    let large: Vec<u8> =
        (0..40_000_003_u64).map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect();
    for (name, content) in [("空.txt", &[][..]), ("大.bin", &large)] {
        let file = site.drop_file(name, content)?;
        let answer = site.tobari("ippan", &["cat", file.to_str().expect("UTF-8")])?.ok()?;
        ensure!(answer.stdout == content, "{name} differs");
        site.tobari("ippan", &["verify", file.to_str().expect("UTF-8")])?.ok()?;
    }
    Ok(())
}

#[test]
fn a_zip_of_folders_opens_in_seven_zip_and_bsdtar_with_japanese_names() -> Result<()> {
    if skipped_without_root("sending as a ZIP") {
        return Ok(());
    }
    let site = Site::reference_case()?;
    site.drop_file("契約/見積書 第１号.txt", TEXT)?;
    site.drop_file("契約/別紙/明細.csv", b"1,2,3\n")?;
    let out = site.path("out");
    std::fs::create_dir(&out)?;
    set_mode(&out, 0o777)?;
    let archive = out.join("契約.zip");
    let folder = site.folder().join("契約");
    let args = ["zip", "--json", "-o", archive.to_str().expect("UTF-8"), folder.to_str().expect("UTF-8")];
    let answer = site.tobari("bucho", &args)?.ok()?.json()?;
    let password = answer["password"].as_str().expect("the password is shown once");
    let unpack = |program: &str, args: &[&str]| -> Result<bool> {
        Ok(Command::new(program)
            .env("LC_ALL", "C.UTF-8")
            .args(args)
            .current_dir(&out)
            .output()?
            .status
            .success())
    };
    let archive = archive.to_str().expect("UTF-8");
    ensure!(unpack("7z", &["x", "-oseven", &format!("-p{password}"), archive])?);
    ensure!(!unpack("7z", &["t", "-pwrong", archive])?, "a wrong password must open nothing");
    std::fs::create_dir(out.join("bsd"))?;
    ensure!(unpack("bsdtar", &["-xf", archive, "-C", "bsd", "--passphrase", password])?);
    for tool in ["seven", "bsd"] {
        ensure!(std::fs::read(out.join(tool).join("契約/見積書 第１号.txt"))? == TEXT, "{tool}");
        ensure!(std::fs::read(out.join(tool).join("契約/別紙/明細.csv"))? == b"1,2,3\n", "{tool}");
    }
    Ok(())
}

#[test]
fn what_the_policy_takes_away_is_gone_at_the_next_opening() -> Result<()> {
    if skipped_without_root("a person shut out") {
        return Ok(());
    }
    let site = Site::reference_case()?;
    let file = site.drop_file("memo.txt", TEXT)?;
    let name = file.to_str().expect("UTF-8");
    site.tobari("ippan", &["cat", name])?.ok()?;
    let other = site.drop_file("other.txt", TEXT)?;
    site.admin(&["person", "set", "ippan", "--disabled", "true"])?.ok()?;
    let refused = site.tobari("ippan", &["cat", other.to_str().expect("UTF-8")])?;
    ensure!(refused.code != 0 && refused.stdout.is_empty(), "{refused:?}");
    Ok(())
}

#[test]
fn the_recovery_key_and_the_independent_decoder_open_a_file_without_any_server() -> Result<()> {
    let Some(python) = std::env::var_os("TOBARI_ORACLE_PYTHON") else {
        tobari_tests::skipped("recovery with the independent decoder: TOBARI_ORACLE_PYTHON is not set");
        return Ok(());
    };
    let mut site = Site::reference_case()?;
    let file = site.drop_file("契約書.txt", TEXT)?;
    site.daemon()?.kill()?;
    site.key_server()?.kill()?;
    let opened = site.path("recovered.txt");
    let status = Command::new(python)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/oracle/oracle.py"))
        .arg("open")
        .args([site.path("recovery.key"), file, opened.clone()])
        .status()?;
    ensure!(status.success());
    ensure!(std::fs::read(&opened)? == TEXT);
    Ok(())
}

#[test]
fn a_second_factor_is_asked_for_and_a_code_serves_once() -> Result<()> {
    let site = Site::reference_case()?;
    let args =
        ["admin", "person", "add", "futatsu", "--name", "futatsu", "--totp", "--password-stdin", "--json"];
    let made = site.tobari_with("admin", &args, password("futatsu").as_bytes())?.ok()?.json()?;
    let uri = made["otpauth"].as_str().expect("the secret is shown once");
    let secret = uri.split(['?', '&']).find_map(|part| part.strip_prefix("secret=")).expect("a secret");
    let output = Command::new("oathtool").args(["--totp", "-b", secret]).output()?;
    ensure!(output.status.success(), "oathtool: {output:?}");
    let code = String::from_utf8(output.stdout)?;
    let login = |code: &str| {
        let args = ["login", "futatsu", "--password-stdin", "--totp", code];
        site.tobari_with("admin", &args, password("futatsu").as_bytes())
    };
    let wrong = if code.trim() == "000000" { "000001" } else { "000000" };
    ensure!(login(wrong)?.code != 0, "a wrong code must not do");
    let without =
        site.tobari_with("admin", &["login", "futatsu", "--password-stdin"], password("futatsu").as_bytes())?;
    ensure!(without.code != 0, "the password alone must not do");
    let good = login(code.trim())?.ok()?;
    ensure!(good.stdout.is_empty() || !good.text().contains(secret));
    ensure!(login(code.trim())?.code != 0, "a code serves once");
    Ok(())
}
