//! Other labels, other keys: `tobari admin relabel`, `rewrap` and `reseal` over trees, and `label rotate`, also cut short, over bad
//! input, and beside readers and the sealer.

#![expect(clippy::indexing_slicing, reason = "helpers of tests fail as loudly as tests")]

use super::bad_input::text;
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tobari_core::envelope::Header;
use tobari_tests::{ADMIN, Answer, DEADLINE, Site, set_mode, skipped_without_root, wait_until};

/// Files that everybody may write, sealed.
fn drop_files(site: &Site, folder: &str, count: usize) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut files = Vec::new();
    for number in 0..count {
        let content = format!("{folder}/{number}\n").repeat(1 + number * 977 % 5000).into_bytes();
        let path = site.drop_file(format!("{folder}/{number:04}.txt"), &content)?;
        set_mode(&path, 0o666)?;
        files.push((path, content));
    }
    // The seal command and reseal need to make a file beside the old one.
    set_mode(&site.folder().join(folder), 0o777)?;
    Ok(files)
}

/// What `tobari info` says of a file.
fn info(site: &Site, path: &Path) -> Result<Value> {
    let answer = site.tobari(ADMIN, &["info", "--json", text(path)])?.ok()?;
    Ok(answer.json()?["files"][0]["sealed"].clone())
}

/// Whether each file has the label.
fn labels_are(site: &Site, files: &[(PathBuf, Vec<u8>)], label: &str) -> Result<usize> {
    let args: Vec<&str> =
        ["info", "--json"].into_iter().chain(files.iter().map(|(path, _)| text(path))).collect();
    let document = site.tobari(ADMIN, &args)?.ok()?.json()?;
    let all = document["files"].as_array().context("files")?;
    ensure!(all.len() == files.len());
    Ok(all.iter().filter(|file| file["sealed"]["label_name"] == label).count())
}

fn label_of(site: &Site, path: &Path) -> Result<String> {
    Ok(info(site, path)?["label_name"].as_str().context("a label")?.to_owned())
}

/// What the file itself says, without asking a program.
fn stored_label(path: &Path) -> Option<String> {
    let file = std::fs::File::open(path).ok()?;
    Some(Header::read(&file).ok()?.policy().label_name.clone())
}

/// Key ids of the label's recipients of all files.
fn label_keys(site: &Site, files: &[(PathBuf, Vec<u8>)]) -> Result<BTreeSet<String>> {
    let mut keys = BTreeSet::new();
    for (path, _) in files {
        for recipient in info(site, path)?["recipients"].as_array().context("recipients")? {
            if recipient["role"] != "recovery" {
                keys.insert(recipient["key_id"].to_string());
            }
        }
    }
    Ok(keys)
}

fn opens(site: &Site, login: &str, files: &[(PathBuf, Vec<u8>)]) -> Result<()> {
    for (path, content) in files {
        let answer = site.tobari(login, &["cat", text(path)])?.ok()?;
        ensure!(answer.stdout == *content, "{path:?} has other contents");
    }
    Ok(())
}

/// The counts of a run.
fn counts(answer: &Answer) -> Result<[u64; 5]> {
    let document = answer.json()?;
    let count = |name: &str| document[name].as_u64().with_context(|| format!("{name}: {answer:?}"));
    Ok([count("done")?, count("current")?, count("failed")?, count("not_sealed")?, count("special")?])
}

fn relabel<'a>(label: &'a str, path: &'a Path) -> [&'a str; 6] {
    ["admin", "relabel", "--json", "--label", label, text(path)]
}

/// The newest audit records.
fn audit(site: &Site) -> Result<Vec<Value>> {
    let answer = site.admin(&["audit", "--json", "--limit", "1000"])?.ok()?;
    let records = answer.json()?["records"].as_array().context("records")?.clone();
    Ok(records.into_iter().map(|record| record["record"].clone()).collect())
}

#[test]
fn after_a_rotation_rewrap_leaves_no_file_under_the_old_key() -> Result<()> {
    if skipped_without_root("several users") {
        return Ok(());
    }
    let site = Site::reference_case()?;
    let files = drop_files(&site, "鍵", 12)?;
    let old = label_keys(&site, &files)?;
    ensure!(old.len() == 1);
    let rotated = site.admin(&["label", "rotate", "社外秘", "--json"])?.ok()?.json()?;
    ensure!(rotated["generation"] == 2, "{rotated}");
    // What is sealed from now on has the new key; what was sealed before still opens.
    wait_until("a file under the new key", || {
        let name = format!("neu-{}.txt", std::process::id());
        let _ = std::fs::remove_file(site.folder().join(&name));
        site.drop_file(&name, b"new")
            .and_then(|path| info(&site, &path))
            .is_ok_and(|info| info["generation"] == 2)
    })?;
    opens(&site, "ippan", &files)?;

    let tree = site.folder().join("鍵");
    let done = site.tobari("bucho", &["admin", "rewrap", "--json", text(&tree)])?.ok()?;
    ensure!(counts(&done)? == [12, 0, 0, 0, 0], "{done:?}");
    let new = label_keys(&site, &files)?;
    ensure!(new.len() == 1 && new.is_disjoint(&old), "{new:?}");
    for (path, _) in &files {
        ensure!(info(&site, path)?["generation"] == 2);
    }
    opens(&site, "ippan", &files)?;
    let again = site.tobari("bucho", &["admin", "rewrap", "--json", text(&tree)])?.ok()?;
    ensure!(counts(&again)? == [0, 12, 0, 0, 0], "{again:?}");
    // The sealer has left them as they are.
    let status = site.tobari(ADMIN, &["status", "--json", "--unsealed"])?.ok()?.json()?;
    ensure!(status["unsealed"].as_array().is_some_and(Vec::is_empty), "{status}");
    Ok(())
}

#[test]
fn relabelling_needs_the_right_and_is_recorded_with_both_labels() -> Result<()> {
    if skipped_without_root("several users") {
        return Ok(());
    }
    let mut site = Site::reference_case()?;
    let files = drop_files(&site, "区分", 5)?;
    let tree = site.folder().join("区分");
    let before: Vec<Value> = files.iter().map(|(path, _)| info(&site, path)).collect::<Result<_>>()?;

    // 一般 may not: each file is named, nothing changes, in both languages.
    for (language, words) in
        [("en", ["does not give you relabel on 社外秘", "hint"]), ("ja", ["社外秘", "relabel"])]
    {
        let mut args = relabel("公開", &tree).to_vec();
        args.extend(["--lang", language]);
        let refused = site.tobari("ippan", &args)?.fails_with(6)?;
        ensure!(counts(&refused)? == [0, 0, 5, 0, 0], "{refused:?}");
        for (path, _) in &files {
            ensure!(refused.stderr.contains(text(path)), "{refused:?}");
        }
        for word in words {
            ensure!(refused.stderr.contains(word), "'{word}' is missing: {refused:?}");
        }
    }
    for ((path, _), before) in files.iter().zip(&before) {
        ensure!(info(&site, path)? == *before);
    }

    // 部長 may, down and up again.
    let done = site.tobari("bucho", &relabel("公開", &tree))?.ok()?;
    ensure!(counts(&done)? == [5, 0, 0, 0, 0], "{done:?}");
    for ((path, _), before) in files.iter().zip(&before) {
        let now = info(&site, path)?;
        ensure!(now["label_name"] == "公開" && now["file"] == before["file"], "{now}");
        ensure!(now["plaintext_size"] == before["plaintext_size"]);
    }
    opens(&site, "ippan", &files)?;
    let records = audit(&site)?;
    let labels = site.admin(&["label", "list", "--json"])?.ok()?.json()?;
    let id = |name: &str| -> Result<Value> {
        let all = labels["labels"].as_array().context("labels")?;
        Ok(all.iter().find(|label| label["name"] == name).context("a label")?["id"].clone())
    };
    for before in &before {
        let of_file: Vec<&Value> = records
            .iter()
            .filter(|record| record["file"] == before["file"] && record["right"] == "relabel")
            .collect();
        ensure!(of_file.iter().filter(|record| record["act"] == "refusal").count() == 2, "{of_file:?}");
        let granted = of_file.iter().find(|record| record["act"] == "grant").context("a grant")?;
        ensure!(granted["label"] == id("社外秘")? && granted["new_label"] == id("公開")?, "{granted}");
    }

    // A sweep of the folder, whose label is another, leaves them so.
    site.daemon()?.terminate()?;
    site.start_daemon()?;
    site.login("bucho")?.ok()?;
    site.login("ippan")?.ok()?;
    site.login(ADMIN)?.ok()?;
    site.drop_file("nachher.txt", b"after the sweep")?;
    for (path, _) in &files {
        ensure!(label_of(&site, path)? == "公開");
    }

    // Up, beyond what 部長 may relabel with a password alone: the way back is closed.
    let up = site.tobari("bucho", &relabel("秘", &tree))?.ok()?;
    ensure!(counts(&up)? == [5, 0, 0, 0, 0], "{up:?}");
    let back = site.tobari("bucho", &relabel("公開", &tree))?.fails_with(6)?;
    ensure!(counts(&back)? == [0, 0, 5, 0, 0], "{back:?}");
    opens(&site, "bucho", &files)?;
    ensure!(site.admin(&["audit", "--verify"])?.code == 0);
    // An unknown label is refused before a file is looked at, with what there is.
    let unknown = site.tobari("bucho", &relabel("極々秘", &tree))?.fails_with(12)?;
    ensure!(unknown.stderr.contains("社外秘"), "{unknown:?}");
    Ok(())
}

#[test]
fn reseal_makes_new_files_of_the_same_contents() -> Result<()> {
    if skipped_without_root("several users") {
        return Ok(());
    }
    let site = Site::reference_case()?;
    let files = drop_files(&site, "新", 8)?;
    let tree = site.folder().join("新");
    let ids = |files: &[(PathBuf, Vec<u8>)]| -> Result<BTreeSet<String>> {
        files.iter().map(|(path, _)| Ok(info(&site, path)?["file"].to_string())).collect()
    };
    let before = ids(&files)?;
    let refused = site.tobari("ippan", &["admin", "reseal", "--json", text(&tree)])?.fails_with(6)?;
    ensure!(counts(&refused)? == [0, 0, 8, 0, 0], "{refused:?}");
    ensure!(ids(&files)? == before);
    // One that cannot be done: the run is not over, and what is done counts when it is repeated.
    let linked = tree.join("リンク.txt");
    std::fs::hard_link(&files[3].0, &linked)?;
    let first = site.tobari("root", &["admin", "reseal", "--json", text(&tree)])?;
    ensure!(first.code == 6, "root's session is the administrator's, who has no rights: {first:?}");
    own(&tree, &files)?;
    let first = site.tobari("bucho", &["admin", "reseal", "--json", text(&tree)])?.fails_with(23)?;
    ensure!(counts(&first)? == [7, 0, 2, 0, 0], "{first:?}");
    std::fs::remove_file(&linked)?;
    let second = site.tobari("bucho", &["admin", "reseal", "--json", text(&tree)])?.ok()?;
    ensure!(counts(&second)? == [1, 7, 0, 0, 0], "{second:?}");
    let after = ids(&files)?;
    ensure!(after.len() == 8 && after.is_disjoint(&before));
    opens(&site, "ippan", &files)?;
    // Over: the next run does all again.
    let third = site.tobari("bucho", &["admin", "reseal", "--json", text(&tree)])?.ok()?;
    ensure!(counts(&third)? == [8, 0, 0, 0, 0] && ids(&files)?.is_disjoint(&after), "{third:?}");
    Ok(())
}

/// Gives files to 部長, who may then replace them.
fn own(tree: &Path, files: &[(PathBuf, Vec<u8>)]) -> Result<()> {
    for path in files.iter().map(|(path, _)| path.as_path()).chain([tree]) {
        std::os::unix::fs::chown(path, Some(61001), Some(61001))?;
    }
    Ok(())
}

#[test]
fn a_run_that_is_killed_goes_on_when_it_is_repeated() -> Result<()> {
    if skipped_without_root("several users") {
        return Ok(());
    }
    let mut site = Site::reference_case()?;
    let files = drop_files(&site, "中断", 150)?;
    let tree = site.folder().join("中断");
    let (mut resumed, mut partial) = (0, 0);
    for round in 0_u64.. {
        // Until runs were cut in their middle: all files may be done before the cut.
        if round >= 10 && resumed > 0 && partial > 0 {
            break;
        }
        ensure!(round < 60, "no run was killed in its middle: {resumed} {partial}");
        let label = if round % 2 == 0 { "公開" } else { "社外秘" };
        let mut command = site.command_as("bucho", &relabel(label, &tree))?;
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        // Cut as soon as one file has its new header.
        let start = Instant::now();
        while !files.iter().any(|(path, _)| stored_label(path).is_some_and(|found| found == label)) {
            ensure!(start.elapsed() < DEADLINE, "round {round}: no file has a new header");
        }
        if round % 3 == 2 {
            child.kill()?;
        } else {
            site.daemon()?.kill()?;
        }
        child.wait()?;
        if round % 3 != 2 {
            site.start_daemon()?;
            for login in ["bucho", "ippan", ADMIN] {
                site.login(login)?.ok()?;
            }
        }
        // Whatever was cut short: every file opens, with one of both labels.
        let verified = site.tobari(
            "bucho",
            &[&["verify"][..], &files.iter().map(|(path, _)| text(path)).collect::<Vec<_>>()[..]].concat(),
        )?;
        verified.ok()?;
        let changed =
            files.iter().filter(|(path, _)| label_of(&site, path).is_ok_and(|found| found == label)).count();
        partial += usize::from(changed > 0 && changed < files.len());
        // The daemon may still be at work for the caller that was killed.
        let mut done = site.tobari("bucho", &relabel(label, &tree))?;
        wait_until("the lock of the killed run to go", || {
            if done.code != 0 {
                done = site.tobari("bucho", &relabel(label, &tree)).unwrap_or_else(|error| panic!("{error}"));
            }
            done.code == 0
        })?;
        let [new, current, ..] = counts(&done)?;
        ensure!(new + current == 150, "{done:?}");
        resumed += current;
        ensure!(labels_are(&site, &files, label)? == files.len());
    }
    opens(&site, "bucho", &files[..20])
}

#[test]
fn one_bad_file_stops_no_other_and_is_named() -> Result<()> {
    if skipped_without_root("several users") {
        return Ok(());
    }
    let site = Site::reference_case()?;
    let files = drop_files(&site, "混在", 9)?;
    let tree = site.folder().join("混在");
    let path = |number: usize| files[number].0.clone();
    // Damaged in the stanzas, and in the body, which a new header does not look at.
    let flip = |path: &Path, at: usize| -> Result<()> {
        let mut bytes = std::fs::read(path)?;
        bytes[at] ^= 1;
        Ok(std::fs::write(path, bytes)?)
    };
    flip(&path(1), 300)?;
    std::fs::write(path(2), &std::fs::read(path(2))?[..3000])?;
    set_mode(&path(3), 0o000)?;
    set_mode(&path(4), 0o444)?;
    let foreign = Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/tests/vectors/hello.tbr");
    std::fs::write(path(5), std::fs::read(foreign)?)?;
    let held = std::fs::File::open(path(6))?;
    rustix::fs::flock(&held, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
    std::fs::hard_link(path(7), tree.join("link.txt"))?;
    std::os::unix::fs::symlink(path(0), tree.join("symlink"))?;
    rustix::fs::mknodat(
        rustix::fs::CWD,
        tree.join("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o666),
        0,
    )?;
    let done = site.tobari("bucho", &relabel("公開", &tree))?;
    ensure!(done.code != 0);
    // 0 and 8; 7 by its two names, once done and once as wanted then.
    ensure!(counts(&done)? == [3, 1, 6, 0, 2], "{done:?}");
    for number in 1..=6 {
        ensure!(done.stderr.contains(text(&path(number))), "{number} is not named: {done:?}");
    }
    for name in ["symlink", "fifo"] {
        ensure!(done.stderr.contains(text(&tree.join(name))), "{done:?}");
    }
    let codes: Vec<String> = done
        .stderr
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|line| Some(line["error"]["exit_name"].as_str()?.to_owned()))
        .collect();
    for code in ["unreadable-envelope", "io", "conflict"] {
        ensure!(codes.iter().any(|found| found == code), "{code}: {codes:?}");
    }
    for number in [0, 7, 8] {
        ensure!(label_of(&site, &path(number))? == "公開");
    }
    // What was in the way is gone: the rest is done, and the rest alone.
    drop(held);
    set_mode(&path(3), 0o666)?;
    set_mode(&path(4), 0o666)?;
    flip(&path(1), 300)?;
    let again = site.tobari("bucho", &relabel("公開", &tree))?;
    ensure!(counts(&again)? == [4, 4, 2, 0, 2], "{again:?}");
    // A path that does not exist is an error of its own.
    let missing = site.tobari("bucho", &relabel("公開", &tree.join("nirgends")))?.fails_with(10)?;
    ensure!(missing.stderr.contains("nirgends"), "{missing:?}");
    Ok(())
}

#[test]
fn who_reads_while_a_file_is_relabelled_gets_all_of_it() -> Result<()> {
    if skipped_without_root("several users") {
        return Ok(());
    }
    let site = Site::reference_case()?;
    let content: Vec<u8> =
        (0..6_000_000_u32).flat_map(|number| number.to_le_bytes()).take(16 << 20).collect();
    let path = site.drop_file("読書中.bin", &content)?;
    set_mode(&path, 0o666)?;
    let ended = std::sync::atomic::AtomicBool::new(false);
    let read = std::thread::scope(|scope| {
        let reader = scope.spawn(|| -> Result<u32> {
            let mut whole = 0;
            while !ended.load(std::sync::atomic::Ordering::Relaxed) {
                let answer = site.tobari("bucho", &["cat", text(&path)])?;
                if answer.code == 0 {
                    ensure!(answer.stdout == content, "other contents");
                    whole += 1;
                } else {
                    ensure!(answer.code == 17 && answer.stdout.is_empty(), "{}", answer.stderr);
                }
            }
            Ok(whole)
        });
        let changes = (0..24).try_for_each(|round| {
            let label = if round % 2 == 0 { "公開" } else { "社外秘" };
            site.tobari("bucho", &relabel(label, &path))?.ok().map(drop)
        });
        ended.store(true, std::sync::atomic::Ordering::Relaxed);
        let read = reader.join().map_err(|_| anyhow::anyhow!("the reader panicked"))?;
        changes.and(read)
    })?;
    ensure!(read > 0);
    Ok(())
}

/// The lines of `tobari status` with these flags.
fn status(site: &Site, flags: &[&str]) -> Result<String> {
    let args: Vec<&str> = std::iter::once("status").chain(flags.iter().copied()).collect();
    Ok(site.tobari(ADMIN, &args)?.ok()?.text())
}

#[test]
fn status_tells_what_cannot_be_sealed_why_and_since_when() -> Result<()> {
    if skipped_without_root("an immutable file, a full file system") {
        return Ok(());
    }
    let site = Site::reference_case()?;
    let at = |name: &str| site.folder().join(name);
    let held = std::fs::File::create(at("open.txt"))?;
    std::io::Write::write_all(&mut &held, b"still being written")?;
    std::fs::write(at("first.txt"), b"two names")?;
    std::fs::hard_link(at("first.txt"), at("second.txt"))?;
    let attribute = |flag: &str, path: &Path| -> Result<bool> {
        Ok(std::process::Command::new("chattr")
            .arg(flag)
            .arg(path)
            .status()
            .is_ok_and(|status| status.success()))
    };
    let outside = site.path("immutable.txt");
    std::fs::write(&outside, b"must not change")?;
    let immutable = attribute("+i", &outside)? && attribute("-i", &outside)?;
    if immutable {
        // Made so before the daemon hears of it.
        let waiting = at(".immutable.tmp");
        std::fs::rename(&outside, &waiting)?;
        std::fs::rename(&waiting, at("immutable.txt"))?;
        let _ = attribute("+i", &at("immutable.txt"))?;
    }
    let mut expected =
        vec![("open.txt", "in-use"), ("first.txt", "hard-linked"), ("second.txt", "hard-linked")];
    let is_immutable = immutable && !tobari_tests::is_sealed(&at("immutable.txt"));
    if is_immutable {
        expected.push(("immutable.txt", "immutable"));
    }
    let listed = wait_until("all to be listed", || {
        status(&site, &["--unsealed", "--json"]).is_ok_and(|json| {
            let Ok(document) = serde_json::from_str::<Value>(&json) else { return false };
            let Some(list) = document["unsealed"].as_array() else { return false };
            expected.iter().all(|(name, reason)| {
                list.iter().any(|file| {
                    file["path"].as_str().is_some_and(|path| path.ends_with(name))
                        && file["reason"] == *reason
                })
            })
        })
    });
    std::thread::sleep(Duration::from_millis(1100));
    let texts = [
        (
            "en",
            [
                "in use by another program",
                "has other hard links",
                "immutable or append-only",
                "for ",
                "tries",
            ],
        ),
        (
            "ja",
            [
                "ほかのプログラムが使用中",
                "ほかのハードリンクがある",
                "変更不可または追記専用",
                "秒前",
                "試行",
            ],
        ),
    ];
    let shown: Vec<(String, _)> = texts
        .into_iter()
        .map(|(language, words)| Ok((status(&site, &["--unsealed", "--lang", language])?, words)))
        .collect::<Result<_>>()?;
    if immutable {
        let _ = attribute("-i", &at("immutable.txt"))?;
    }
    listed?;
    for (shown, words) in shown {
        for (number, word) in words.into_iter().enumerate() {
            ensure!((number == 2 && !is_immutable) || shown.contains(word), "'{word}' is missing: {shown}");
        }
        for (name, _) in &expected {
            let line =
                shown.lines().find(|line| line.contains(name)).with_context(|| format!("{name}: {shown}"))?;
            ensure!(line.contains("秒前") || line.contains(" s, since"), "no age: {line}");
        }
    }
    drop(held);
    std::fs::remove_file(at("second.txt"))?;
    wait_until("what was in the way to be gone and all sealed", || {
        ["open.txt", "first.txt"].iter().all(|name| tobari_tests::is_sealed(&at(name)))
            && status(&site, &["--unsealed"]).is_ok_and(|text| text.contains("no file is left unsealed"))
    })
}

#[test]
fn status_watch_shows_a_sweep_with_rate_and_time_left() -> Result<()> {
    let mut site = Site::reference_case()?;
    site.daemon()?.terminate()?;
    for folder in 0..30 {
        let below = site.folder().join(format!("{folder:02}"));
        std::fs::create_dir(&below)?;
        for number in 0..100 {
            std::fs::write(below.join(format!("{number}.bin")), vec![7; 16 << 10])?;
        }
    }
    // 47 MiB at 4 MiB a second, in more files than wait in queues.
    site.seal_settings = String::from("bandwidth_mib_per_second = 4\n");
    site.start_daemon()?;
    let mut watching = Vec::new();
    for (language, name) in [("en", "watch.en"), ("ja", "watch.ja")] {
        let output = std::fs::File::create(site.path(name))?;
        let mut command = site.command_as(ADMIN, &["status", "--watch", "--lang", language])?;
        watching.push(command.stdin(Stdio::null()).stdout(output).stderr(Stdio::null()).spawn()?);
    }
    let said = |name: &str| std::fs::read_to_string(site.path(name)).unwrap_or_default();
    let moves = wait_until("progress in both languages", || {
        let has = |name: &str, begins: [&str; 2], words: [&str; 2]| {
            said(name).lines().any(|line| {
                begins.iter().any(|begin| line.contains(begin))
                    && words.iter().all(|word| line.contains(word))
            })
        };
        // While its walk goes on, a sweep speaks of files seen; then of what waits to be sealed.
        has("watch.en", ["sweep: ", "sealing: "], [" a second", " s left"])
            && has("watch.ja", ["巡回中: ", "封緘中: "], ["毎秒", "残り約"])
    });
    for mut child in watching {
        child.kill()?;
        child.wait()?;
    }
    moves.with_context(|| said("watch.en"))
}
