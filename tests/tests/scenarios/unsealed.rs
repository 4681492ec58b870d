//! `tobari status --unsealed` under the conditions themselves: each file is listed with its reason and age for as long as it cannot
//! be sealed, keeps its contents, and is sealed once it can be.

#![expect(clippy::indexing_slicing, reason = "helpers of tests fail as loudly as tests")]

use super::bad_input::text;
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use tobari_tests::{ADMIN, Site, is_sealed, set_mode, skipped_without_root, wait_until};

/// What is said of one file; none when it is not listed.
fn listed(site: &Site, path: &Path) -> Result<Option<Value>> {
    let answer = site.tobari(ADMIN, &["status", "--unsealed", "--json"])?.ok()?.json()?;
    let list = answer["unsealed"].as_array().context("a list")?;
    Ok(list.iter().find(|file| file["path"].as_str() == path.to_str()).cloned())
}

/// Waits until the file is listed for `reason` and was tried again, and looks at its age. It is as it was.
fn refused_for(site: &Site, path: &Path, reason: &str) -> Result<()> {
    let mut last = None;
    let is_listed = |last: &Option<Value>| last.as_ref().is_some_and(|file| file["reason"] == reason);
    wait_until(&format!("{path:?} to be listed as {reason}"), || {
        last = listed(site, path).unwrap_or_default();
        is_listed(&last)
    })
    .with_context(|| format!("{last:?}"))?;
    let first = last.clone().context("listed")?;
    // Immutable and hard-linked files are not tried by the clock: their end is an event.
    if !first["next_try"].is_null() {
        wait_until(&format!("{path:?} to be tried again"), || {
            last = listed(site, path).unwrap_or_default();
            last.as_ref().is_some_and(|file| file["tries"].as_u64() > first["tries"].as_u64())
        })
        .with_context(|| format!("{first} then {last:?}"))?;
    }
    let now = last.context("listed")?;
    ensure!(now["reason"] == reason && now["since"] == first["since"], "{first} then {now}");
    for (language, words) in [("en", [" s, since", "tries"]), ("ja", ["秒前", "試行"])] {
        let said = site.tobari(ADMIN, &["status", "--unsealed", "--lang", language])?.ok()?.text();
        let line = said.lines().find(|line| line.contains(text(path))).with_context(|| said.clone())?;
        // A file of a minute ago and more has an age in minutes.
        ensure!(line.contains(words[0]) || line.contains(" min, since") || line.contains("分前"), "{line}");
        ensure!(line.contains(words[1]) || now["tries"] == 1, "{line}");
    }
    Ok(())
}

/// Waits until the file is sealed and no longer listed; it opens to `content`.
fn sealed_after(site: &Site, path: &Path, content: &[u8]) -> Result<()> {
    wait_until(&format!("{path:?} to be sealed"), || is_sealed(path))
        .with_context(|| format!("{:?}", listed(site, path)))?;
    wait_until(&format!("{path:?} to be listed no more"), || {
        listed(site, path).is_ok_and(|found| found.is_none())
    })?;
    let opened = site.tobari("bucho", &["cat", text(path)])?.ok()?;
    ensure!(opened.stdout == content, "{path:?} has other contents");
    Ok(())
}

fn run(program: &str, args: &[&str]) -> Result<()> {
    let output = Command::new(program).args(args).output().with_context(|| program.to_owned())?;
    ensure!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Whether a program is there; says so if not.
fn has(program: &str) -> bool {
    let found = Command::new("sh")
        .args(["-c", &format!("command -v {program}")])
        .output()
        .is_ok_and(|output| output.status.success());
    if !found {
        tobari_tests::skipped(format!("{program} is not installed"));
    }
    found
}

/// A file system in a file, mounted as a designated folder of its own; unmounted on drop.
struct Disk {
    image: PathBuf,
    point: PathBuf,
    options: &'static str,
}

impl Disk {
    fn make(site: &Site, name: &str, mebibytes: u64, mkfs: &[&str], options: &'static str) -> Result<Self> {
        let (image, point) = (site.path(format!("{name}.image")), site.path(name));
        std::fs::File::create(&image)?.set_len(mebibytes << 20)?;
        let (program, arguments) = mkfs.split_first().context("a program")?;
        run(program, &[arguments, &[text(&image)]].concat())?;
        std::fs::create_dir(&point)?;
        let this = Self { image, point, options };
        this.mount()?;
        set_mode(&this.point, 0o1777)?;
        Ok(this)
    }

    fn mount(&self) -> Result<()> {
        run("mount", &["-o", self.options, text(&self.image), text(&self.point)])
    }

    fn path(&self, name: &str) -> PathBuf {
        self.point.join(name)
    }

    fn designate(&self, site: &Site) -> Result<()> {
        let args = ["folder", "add", text(&self.point), "--label", "社外秘", "--owner-group", "総務部"];
        site.admin(&args)?.ok().map(drop)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.point).status();
    }
}

#[test]
fn linked_immutable_and_open_files_are_sealed_when_they_are_so_no_more() -> Result<()> {
    if skipped_without_root("an immutable file") {
        return Ok(());
    }
    let mut site = Site::reference_case()?;
    // Put there while nobody looks, so that each is met in its condition.
    site.daemon()?.terminate()?;
    let folder = site.folder();
    let at = |name: &str| folder.join(name);
    for name in ["linked", "immutable", "appended", "open"] {
        std::fs::write(at(name), name)?;
        set_mode(&at(name), 0o644)?;
    }
    std::fs::hard_link(at("linked"), at("other name"))?;
    let chattr = |flag: &str, name: &str| run("chattr", &[flag, text(&at(name))]);
    let can_flag = chattr("+i", "immutable").and_then(|()| chattr("+a", "appended")).is_ok();
    if !can_flag {
        tobari_tests::skipped("this file system has no immutable files");
    }
    let mut writer = std::fs::File::options().append(true).open(at("open"))?;
    site.start_daemon()?;
    site.login("bucho")?.ok()?;
    let looked = || -> Result<()> {
        refused_for(&site, &at("linked"), "hard-linked")?;
        refused_for(&site, &at("other name"), "hard-linked")?;
        if can_flag {
            refused_for(&site, &at("immutable"), "immutable")?;
            refused_for(&site, &at("appended"), "immutable")?;
        }
        refused_for(&site, &at("open"), "in-use")
    };
    let looked = looked();
    // Or the folder cannot be removed.
    if can_flag {
        chattr("-i", "immutable")?;
        chattr("-a", "appended")?;
    }
    looked?;
    std::fs::remove_file(at("other name"))?;
    writer.write_all(b" and closed")?;
    drop(writer);
    for (name, content) in [
        ("linked", "linked"),
        ("immutable", "immutable"),
        ("appended", "appended"),
        ("open", "open and closed"),
    ] {
        sealed_after(&site, &at(name), content.as_bytes())?;
    }
    Ok(())
}

#[test]
fn what_does_not_fit_on_a_full_disk_is_sealed_once_there_is_room() -> Result<()> {
    if skipped_without_root("a full file system") || !has("mkfs.ext4") {
        return Ok(());
    }
    let mut site = Site::reference_case()?;
    let disk = Disk::make(&site, "full", 16, &["mkfs.ext4", "-q", "-F", "-m", "0"], "loop")?;
    let content = vec![b'x'; 3 << 20];
    std::fs::write(disk.path("large.csv"), &content)?;
    let filler = std::fs::File::create(disk.path("filler.tmp"))?;
    while (&filler).write_all(&[0; 64 << 10]).is_ok() {}
    // Still open, so that it stays as it is.
    disk.designate(&site)?;
    refused_for(&site, &disk.path("large.csv"), "no-space")?;
    ensure!(std::fs::read(disk.path("large.csv"))? == content, "the original must be untouched");
    std::fs::remove_file(disk.path("filler.tmp"))?;
    drop(filler);
    sealed_after(&site, &disk.path("large.csv"), &content)?;
    // It holds descriptors below the mount.
    site.daemon()?.terminate()
}

#[test]
fn a_file_on_bad_blocks_is_left_alone_until_it_is_written_anew() -> Result<()> {
    if skipped_without_root("a disk with a bad block") || !has("mkfs.btrfs") {
        return Ok(());
    }
    let mut site = Site::reference_case()?;
    // It knows by its checksums that what it reads is not what was written.
    let disk = match Disk::make(&site, "bad", 128, &["mkfs.btrfs", "-q", "-f", "-d", "single"], "loop") {
        Ok(disk) => disk,
        Err(error) => {
            tobari_tests::skipped(format!("no btrfs here: {error}"));
            return Ok(());
        }
    };
    let canary: Vec<u8> = (0..40_000_u32).flat_map(|number| (number ^ 0x9e37_79b9).to_le_bytes()).collect();
    for name in ["bad.csv", "good.csv"] {
        std::fs::write(disk.path(name), if name == "bad.csv" { &canary[..] } else { b"good" })?;
    }
    run("umount", &[text(&disk.point)])?;
    let image = std::fs::read(&disk.image)?;
    let at = image.windows(4096).position(|piece| piece == &canary[..4096]).context("its first block")?;
    drop(image);
    std::fs::File::options().write(true).open(&disk.image)?.write_all_at(b"rotten", at as u64 + 100)?;
    disk.mount()?;
    ensure!(std::fs::read(disk.path("bad.csv")).is_err_and(|error| error.raw_os_error() == Some(5)), "EIO");

    disk.designate(&site)?;
    refused_for(&site, &disk.path("bad.csv"), "unreadable")?;
    sealed_after(&site, &disk.path("good.csv"), b"good")?;
    std::fs::write(disk.path("bad.csv"), b"from a backup")?;
    sealed_after(&site, &disk.path("bad.csv"), b"from a backup")?;
    site.daemon()?.terminate()
}

#[test]
fn what_the_daemon_may_not_read_is_listed_until_it_may() -> Result<()> {
    if skipped_without_root("a daemon with fewer privileges") || !has("setpriv") {
        return Ok(());
    }
    let mut site = Site::reference_case()?;
    site.daemon()?.terminate()?;
    let path = site.folder().join("private.txt");
    std::fs::write(&path, b"private")?;
    chown(&path, Some(61001), Some(61001))?;
    set_mode(&path, 0o600)?;
    // As where a security module or the unit of the daemon takes this away: then root is one of the others.
    site.daemon_wrapper =
        ["setpriv", "--bounding-set", "-dac_override,-dac_read_search", "--"].map(String::from).to_vec();
    site.start_daemon()?;
    site.login("bucho")?.ok()?;
    refused_for(&site, &path, "unreadable")?;
    ensure!(std::fs::read(&path)? == b"private", "the original must be untouched");
    set_mode(&path, 0o644)?;
    sealed_after(&site, &path, b"private")
}

/// Set where a kernel with quotas was promised (tests/with-quotas.sh).
const QUOTAS: &str = "TOBARI_QUOTAS";

#[test]
fn what_is_over_its_owners_quota_is_sealed_once_there_is_more_of_it() -> Result<()> {
    if skipped_without_root("quotas") || !has("setquota") || !has("setpriv") {
        return Ok(());
    }
    let mut site = Site::reference_case()?;
    let mkfs = ["mkfs.ext4", "-q", "-F", "-O", "quota", "-E", "quotatype=usrquota"];
    let disk = match Disk::make(&site, "quota", 64, &mkfs, "loop,usrquota") {
        Ok(disk) => disk,
        Err(error) if std::env::var_os(QUOTAS).is_none() => {
            tobari_tests::skipped(format!("this kernel has no quotas (bash tests/with-quotas.sh): {error}"));
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let limit =
        |kibibytes: &str| run("setquota", &["-u", "61001", "0", kibibytes, "0", "0", text(&disk.point)]);
    site.daemon()?.terminate()?;
    let path = disk.path("theirs.csv");
    let content = vec![b'q'; 3 << 20];
    std::fs::write(&path, &content)?;
    chown(&path, Some(61001), Some(61001))?;
    set_mode(&path, 0o644)?;
    limit("4096")?;
    // The unit does not grant what would let root write beyond it (deploy/systemd).
    site.daemon_wrapper = ["setpriv", "--bounding-set", "-sys_resource", "--"].map(String::from).to_vec();
    site.start_daemon()?;
    site.login("bucho")?.ok()?;
    site.login(ADMIN)?.ok()?;
    disk.designate(&site)?;
    refused_for(&site, &path, "no-space")?;
    ensure!(std::fs::read(&path)? == content, "the original must be untouched");
    limit("16384")?;
    sealed_after(&site, &path, &content)?;
    // The envelope is theirs too, once.
    let said = Command::new("repquota").args(["-u", "-n", "-O", "csv", text(&disk.point)]).output()?;
    let said = String::from_utf8(said.stdout)?;
    let line = said.lines().find(|line| line.starts_with("#61001")).with_context(|| said.clone())?;
    let used: u64 = line.split(',').nth(3).context("a field")?.parse().with_context(|| line.to_owned())?;
    ensure!((3 << 10..4 << 10).contains(&used), "{line}");
    site.daemon()?.terminate()
}
