//! The audit log in an auditor's hands: searched, exported, checked without anybody's help. And what is not in any log.

use anyhow::{Context as _, Result, ensure};
use std::collections::HashSet;
use std::path::Path;
use std::process::Command;
use tobari_tests::{PEOPLE, Site, password, skipped_without_root};

const TEXT: &[u8] = "監査される文書\n".as_bytes();
/// Exit code of a log or an export that does not hold.
const BROKEN: i32 = 27;

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn an_export_is_checked_without_the_key_server_and_every_change_is_found() -> Result<()> {
    if skipped_without_root("the audit log of several people") {
        return Ok(());
    }
    let mut site = Site::reference_case()?;
    let file = site.drop_file("監査.txt", TEXT)?;
    site.tobari("bucho", &["cat", text(&file)])?.ok()?;
    let out = site.path("out");
    std::fs::create_dir(&out)?;
    std::os::unix::fs::chown(&out, Some(PEOPLE[2].2), Some(PEOPLE[2].2))?;
    site.tobari("ippan", &["unseal", text(&file), "-o", text(&out.join("no"))])?.fails_with(6)?;

    let search = |args: &[&str]| -> Result<Vec<serde_json::Value>> {
        let args: Vec<&str> = ["audit", "search", "--json"].iter().chain(args).copied().collect();
        let found = site.tobari("admin", &args)?.ok()?.json()?;
        Ok(found.get("records").and_then(serde_json::Value::as_array).cloned().unwrap_or_default())
    };
    let act = |record: &serde_json::Value| record.pointer("/record/act").cloned().unwrap_or_default();
    let granted = search(&["--file", text(&file), "--person", "bucho"])?;
    ensure!(granted.len() == 1 && act(&granted[0]) == "grant", "granted: {granted:?}");
    let refused = search(&["--person", "ippan", "--act", "refusal", "--label", "社外秘"])?;
    ensure!(refused.len() == 1, "refused: {refused:?}");
    ensure!(search(&["--until", "2000-01-01"])?.is_empty());
    ensure!(search(&["--since", "2000-01-01", "--limit", "3"])?.len() == 3);
    site.tobari("admin", &["audit", "search", "--since", "someday"])?.fails_with(2)?;
    ensure!(site.tobari("bucho", &["audit", "search"])?.code != 0, "an auditor's alone");

    let key = site.tobari("admin", &["audit", "key"])?.ok()?.text();
    let (whole, part) = (site.path("whole.audit"), site.path("part.audit"));
    site.tobari("admin", &["audit", "export", "-o", text(&whole)])?.ok()?;
    site.tobari("admin", &["audit", "export", "-o", text(&part), "--first", "4", "--last", "9"])?.ok()?;
    site.tobari("admin", &["audit", "export", "-o", text(&part)])?.fails_with(13)?;
    let verify = |site: &Site, export: &Path| {
        site.tobari("admin", &["audit", "verify", text(export), "--key", key.trim()])
    };
    for export in [&whole, &part] {
        verify(&site, export)?.ok()?;
    }
    let other =
        "tobari/audit/09090909090909090909090909090909+d7165330+AepKbGPinFIKvvVQexMuxfmVR3auvr57kkIe6mkURtIs";
    site.tobari("admin", &["audit", "verify", text(&whole), "--key", other])?.fails_with(BROKEN)?;
    site.tobari("admin", &["audit", "verify", text(&whole), "--key", "x"])?.fails_with(2)?;

    let lines: Vec<String> = std::fs::read_to_string(&whole)?.lines().map(str::to_owned).collect();
    let bad = site.path("bad.audit");
    let mut spoiled: Vec<Vec<String>> = Vec::new();
    for change in 0..4 {
        let mut lines = lines.clone();
        match change {
            0 => lines[5] = lines[5].replacen('e', "o", 1),
            1 => drop(lines.remove(6)),
            2 => lines.insert(7, lines[7].clone()),
            _ => lines.swap(8, 9),
        }
        spoiled.push(lines);
    }
    for lines in &spoiled {
        std::fs::write(&bad, lines.join("\n") + "\n")?;
        verify(&site, &bad)?.fails_with(BROKEN)?;
    }

    // An implementation that shares no code with ours comes to the same results.
    if let Some(python) = std::env::var_os("TOBARI_ORACLE_PYTHON") {
        let oracle = Path::new(env!("CARGO_MANIFEST_DIR")).join("oracle/audit.py");
        let run = |export: &Path| {
            Command::new(&python)
                .arg(&oracle)
                .arg(export)
                .arg(key.trim())
                .status()
                .map(|status| status.success())
        };
        ensure!(run(&whole)? && run(&part)?, "the oracle refuses a good export");
        for lines in &spoiled {
            std::fs::write(&bad, lines.join("\n") + "\n")?;
            ensure!(!run(&bad)?, "the oracle accepts a bad export");
        }
    }

    // Without key server and daemon.
    site.key_server()?.kill()?;
    site.daemon()?.kill()?;
    verify(&site, &whole)?.ok()?;
    Ok(())
}

/// The key of a sealed file's contents, by the independent decoder, which is not in need of anything of ours.
fn dek_of(recovery: &Path, file: &Path) -> Result<Option<Vec<u8>>> {
    let Some(python) = std::env::var_os("TOBARI_ORACLE_PYTHON") else {
        tobari_tests::skipped("the search for data keys: TOBARI_ORACLE_PYTHON is not set");
        return Ok(None);
    };
    let oracle = Path::new(env!("CARGO_MANIFEST_DIR")).join("oracle/oracle.py");
    let output = Command::new(python).arg(oracle).arg("dek").args([recovery, file]).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let hex = String::from_utf8(output.stdout)?;
    let digits = |at: usize| hex.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    let bytes: Option<Vec<u8>> = (0..64).step_by(2).map(digits).collect();
    Ok(Some(bytes.context("32 bytes in hexadecimal")?))
}

/// How 32 bytes are written where somebody logs them by mistake. Of base64 what does not depend on where it begins.
fn spellings(bytes: &[u8]) -> Vec<String> {
    let hex = |upper: bool| -> String {
        bytes.iter().map(|byte| if upper { format!("{byte:02X}") } else { format!("{byte:02x}") }).collect()
    };
    let list: Vec<String> = bytes.iter().map(u8::to_string).collect();
    let mut all = vec![hex(false), hex(true), list.join(", "), list.join(",")];
    for skipped in 0..3 {
        let whole = bytes.get(skipped..).unwrap_or_default();
        let whole = whole.get(..whole.len() / 3 * 3).unwrap_or_default();
        let text = serde_json::to_value(tobari_core::proto::base64::Base64(whole.to_vec()));
        let text = text.ok().and_then(|text| text.as_str().map(str::to_owned)).unwrap_or_default();
        all.push(text.replace('+', "-").replace('/', "_"));
        all.push(text);
    }
    all.retain(|text| text.len() >= 32);
    all
}

/// All stretches of at least so many bytes of a kind.
fn runs(bytes: &[u8], length: usize, of_kind: impl Fn(&u8) -> bool) -> Vec<String> {
    let stretches = bytes.split(|byte| !of_kind(byte)).filter(|stretch| stretch.len() >= length);
    stretches
        .flat_map(|stretch| stretch.windows(length))
        .map(|window| String::from_utf8_lossy(window).into_owned())
        .collect()
}

fn hash_of(token: &str) -> String {
    tobari_core::crypto::sha256(&[token.as_bytes()]).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether something in there is a token of which one of these is the hash. A token is base64url of 32 bytes.
fn names_a_token(bytes: &[u8], hashes: &HashSet<String>) -> bool {
    let base64url = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    runs(bytes, 43, base64url).iter().any(|window| hashes.contains(&hash_of(window)))
}

/// Every site looks for its secrets in its logs when it ends; and finds them.
#[test]
fn a_secret_in_a_log_fails_the_test() -> Result<()> {
    use std::io::Write as _;
    let dropped = |site: Site| std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(site)));
    let secrets: [fn(&Site) -> Result<String>; 4] = [
        |_| Ok(password("admin")),
        |site| Ok(std::fs::read_to_string(site.path("enrolment.token"))?),
        |site| Ok(std::fs::read_to_string(site.path("keyserver/root.key"))?),
        |site| Ok(std::fs::read_to_string(site.path("recovery.key"))?),
    ];
    for secret in secrets {
        let site = Site::key_server_only()?;
        let mut log = std::fs::File::options().append(true).open(site.path("keyserver.log"))?;
        log.write_all(secret(&site)?.as_bytes())?;
        ensure!(dropped(site).is_err());
    }
    ensure!(dropped(Site::key_server_only()?).is_ok());
    Ok(())
}

/// Passwords, tokens, codes, keys and contents: none of them is in what the programs log, in the audit log or, as it is, in
/// the database.
#[test]
fn no_secret_reaches_a_log() -> Result<()> {
    if skipped_without_root("secrets in logs") {
        return Ok(());
    }
    let mut site = Site::reference_case()?;
    site.start_again_with_log("debug")?;
    let mut secrets: Vec<(String, String)> = Vec::new();
    for login in ["admin"].into_iter().chain(PEOPLE.map(|(login, ..)| login)) {
        secrets.push((format!("the password of {login}"), password(login)));
        site.login(login)?.ok()?;
    }
    let wrong = "Kanaria-falsch-2026";
    secrets.push((String::from("a wrong password"), wrong.to_owned()));
    site.tobari_with("ippan", &["login", "ippan", "--password-stdin"], wrong.as_bytes())?.fails_with(4)?;
    site.login("ippan")?.ok()?;

    let token = site.admin(&["token", "--json"])?.ok()?.json()?;
    let token = token.get("token").and_then(serde_json::Value::as_str).context("a token")?.to_owned();
    site.enrol("second", &token)?.ok()?;
    secrets.push((String::from("an enrolment token"), token));

    let kanari = ["admin", "person", "add", "kanari", "--totp", "--password-stdin", "--json"];
    let person = site.tobari_with("admin", &kanari, b"Kanari-Tobari-2026")?.ok()?.json()?;
    secrets.push((String::from("a new password"), String::from("Kanari-Tobari-2026")));
    let otpauth = person.get("otpauth").and_then(serde_json::Value::as_str).context("an otpauth URI")?;
    let secret = otpauth.split("secret=").nth(1).and_then(|rest| rest.split('&').next());
    secrets.push((String::from("a TOTP secret"), secret.context("its secret")?.to_owned()));

    let file = site.drop_file("鍵.txt", "KANARIA-KLARTEXT-7431".as_bytes())?;
    secrets.push((String::from("the contents"), String::from("KANARIA-KLARTEXT-7431")));
    site.tobari("bucho", &["cat", text(&file)])?.ok()?;
    let out = site.path("out");
    std::fs::create_dir(&out)?;
    std::os::unix::fs::chown(&out, Some(PEOPLE[0].2), Some(PEOPLE[0].2))?;
    let archive = out.join("a.zip");
    let zip = site.tobari("bucho", &["zip", "--json", "-o", text(&archive), text(&file)])?.ok()?.json()?;
    let zip = zip.get("password").and_then(serde_json::Value::as_str).context("a ZIP password")?;
    secrets.push((String::from("a ZIP password"), zip.to_owned()));

    let root = std::fs::read_to_string(site.path("keyserver/root.key"))?;
    secrets.push((String::from("the root key"), root.trim().to_owned()));
    let recovery = std::fs::read_to_string(site.path("recovery.key"))?;
    let line = recovery.lines().find(|line| line.len() == 64).context("a line of the recovery key")?;
    secrets.push((String::from("the recovery key"), line.to_owned()));

    // What fails says things, too.
    let damaged = site.path("damaged.txt");
    let mut bytes = std::fs::read(&file)?;
    if let Some(last) = bytes.last_mut() {
        *last ^= 1;
    }
    std::fs::write(&damaged, bytes)?;
    std::os::unix::fs::chown(&damaged, Some(PEOPLE[0].2), Some(PEOPLE[0].2))?;
    let mut said = String::new();
    for (login, args) in [
        ("bucho", &["cat", "--json", text(&damaged)][..]),
        ("bucho", &["verify", text(&damaged)]),
        ("ippan", &["unseal", "--json", text(&file), "-o", text(&out.join("no"))]),
        ("ippan", &["admin", "label", "list"]),
    ] {
        let answer = site.tobari(login, args)?;
        ensure!(answer.code != 0, "{args:?} is refused");
        said.push_str(&answer.stderr);
        said.push_str(&answer.text());
    }
    ensure!(said.len() > 100, "{said}");
    std::fs::write(site.path("said"), said)?;
    for process in [site.daemon()?.id(), site.key_server()?.id()] {
        let limits = std::fs::read_to_string(format!("/proc/{process}/limits"))?;
        let core = limits.lines().find(|line| line.starts_with("Max core file size"));
        let words: Vec<&str> = core.context("a limit of core dumps")?.split_whitespace().collect();
        ensure!(words.get(4) == Some(&"0"), "a core dump of {process} may be written: {words:?}");
    }
    let dek = dek_of(&site.path("recovery.key"), &file)?;
    if let Some(dek) = &dek {
        secrets.extend(spellings(dek).into_iter().map(|text| (String::from("the file's key"), text)));
    }

    let export = site.path("all.audit");
    site.tobari("admin", &["audit", "export", "-o", text(&export)])?.ok()?;
    site.daemon()?.terminate()?;
    site.key_server()?.terminate()?;
    let hashes = runs(&std::fs::read(site.path("keyserver/tobari.db"))?, 64, |byte| byte.is_ascii_hexdigit());
    let hashes: HashSet<String> = hashes.into_iter().collect();
    let mut looked_at = 0;
    for name in ["keyserver.log", "tobarid.log", "all.audit", "said", "keyserver/tobari.db"] {
        let bytes = std::fs::read(site.path(name))?;
        ensure!(!bytes.is_empty(), "{name} is empty");
        looked_at += bytes.len();
        for (what, secret) in &secrets {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            ensure!(!found, "{what} is in {name}");
        }
        if let Some(dek) = &dek {
            ensure!(!bytes.windows(dek.len()).any(|window| window == dek), "the file's key is in {name}");
        }
        ensure!(!names_a_token(&bytes, &hashes), "the token of a session is in {name}");
    }
    // The search for tokens finds one: the hash of this is among those that are known.
    let token = "A".repeat(43);
    let known = HashSet::from([hash_of(&token)]);
    ensure!(names_a_token(format!("token={token};").as_bytes(), &known) && !hashes.is_empty());
    // The search finds what is there.
    ensure!(looked_at > 10_000 && std::fs::read_to_string(&export)?.contains("鍵.txt"));
    Ok(())
}
