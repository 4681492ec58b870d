//! What fails around the programs: the key server away, the daemon killed, the disk full.

use anyhow::{Result, ensure};
use std::process::Command;
use tobari_tests::{ADMIN, Site, is_root, is_sealed, set_mode, skipped_without_root, wait_until};

#[test]
fn sealing_goes_on_while_the_key_server_is_away_and_opening_says_so() -> Result<()> {
    let mut site = Site::reference_case()?;
    let before = site.drop_file("before.txt", b"before")?;
    site.key_server()?.kill()?;
    let during = site.drop_file("during.txt", b"during")?;
    let name = during.to_str().expect("UTF-8");
    let refused = site.tobari("bucho", &["cat", name])?;
    ensure!(refused.code != 0 && refused.stdout.is_empty(), "{refused:?}");
    ensure!(refused.stderr.contains(&site.url()), "the message names the key server: {refused:?}");
    // The header needs no key server.
    let info = site.tobari("bucho", &["info", name])?.ok()?;
    ensure!(info.text().contains("社外秘"), "{info:?}");

    // After a restart of the daemon the cached bulletin is enough to seal.
    site.daemon()?.terminate()?;
    site.start_daemon()?;
    site.drop_file("after-restart.txt", b"after")?;

    site.start_key_server()?;
    let login = if is_root() { "bucho" } else { ADMIN };
    site.login(login)?.ok()?;
    if is_root() {
        ensure!(site.tobari("bucho", &["cat", name])?.ok()?.stdout == b"during");
        ensure!(site.tobari("bucho", &["cat", before.to_str().expect("UTF-8")])?.ok()?.stdout == b"before");
    }
    Ok(())
}

#[test]
fn what_landed_while_the_daemon_was_dead_is_sealed_at_its_start() -> Result<()> {
    let mut site = Site::reference_case()?;
    site.daemon()?.kill()?;
    let file = site.folder().join("深い/所/meanwhile.txt");
    std::fs::create_dir_all(file.parent().expect("has a parent"))?;
    std::fs::write(&file, b"meanwhile")?;
    site.start_daemon()?;
    wait_until("the sweep at start", || is_sealed(&file))?;
    Ok(())
}

#[test]
fn a_daemon_killed_at_random_times_loses_no_byte() -> Result<()> {
    if skipped_without_root("opening what was sealed (several users)") {
        return Ok(());
    }
    let mut site = Site::reference_case()?;
    let mut expected = Vec::new();
    for round in 0..12_u64 {
        for number in 0..20_u64 {
            let path = site.folder().join(format!("{round}-{number}.txt"));
            let content = format!("{round}/{number}\n").repeat(1 + (number as usize * 997) % 20_000);
            std::fs::write(&path, &content)?;
            set_mode(&path, 0o644)?;
            expected.push((path, content));
        }
        std::thread::sleep(std::time::Duration::from_millis(round * 7));
        site.daemon()?.kill()?;
        for (path, content) in &expected {
            ensure!(
                is_sealed(path) || std::fs::read(path)? == content.as_bytes(),
                "{path:?} is neither old nor sealed"
            );
        }
        site.start_daemon()?;
    }
    wait_until("everything to be sealed", || expected.iter().all(|(path, _)| is_sealed(path)))?;
    site.login("bucho")?.ok()?;
    for (path, content) in &expected {
        let opened = site.tobari("bucho", &["cat", path.to_str().expect("UTF-8")])?.ok()?;
        ensure!(opened.stdout == content.as_bytes(), "{path:?} differs");
    }
    let strays: Vec<_> = std::fs::read_dir(site.folder().join(".tobari"))?
        .filter_map(|entry| entry.ok())
        .filter(|entry| entry.metadata().is_ok_and(|meta| meta.is_file() && meta.len() > 4096))
        .map(|entry| entry.path())
        .collect();
    ensure!(strays.is_empty(), "left in the control folder: {strays:?}");
    Ok(())
}

/// A small file system of its own, unmounted on drop.
pub(super) struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    pub(super) fn mount(at: std::path::PathBuf, mebibytes: u32) -> Result<Option<Self>> {
        std::fs::create_dir_all(&at)?;
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mebibytes}m,mode=1777"), "tobari-test"])
            .arg(&at)
            .status();
        Ok(status.is_ok_and(|status| status.success()).then_some(Self(at)))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_leaves_the_file_as_it_was_and_is_reported() -> Result<()> {
    if skipped_without_root("a full disk (mount)") {
        return Ok(());
    }
    let mut site = Site::reference_case()?;
    let Some(disk) = SmallDisk::mount(site.path("small"), 8)? else {
        tobari_tests::skipped("this machine does not allow mounts");
        return Ok(());
    };
    let folder = disk.0.to_str().expect("UTF-8");
    let filler = disk.0.join("filler.tmp");
    let content = vec![b'x'; 3 << 20];
    let file = disk.0.join("big.csv");
    std::fs::write(&filler, vec![0; 4 << 20])?;
    // Held open, so that the filler itself stays as it is.
    let hold = std::fs::File::open(&filler)?;
    std::fs::write(&file, &content)?;
    // Only now: else the filler is sealed before it is held.
    site.admin(&["folder", "add", folder, "--label", "社外秘", "--owner-group", "総務部"])?.ok()?;
    wait_until("the full disk to be reported", || {
        site.tobari(ADMIN, &["status", "--unsealed", "--json"])
            .is_ok_and(|answer| answer.text().contains("no-space") && answer.text().contains("big.csv"))
    })?;
    ensure!(std::fs::read(&file)? == content, "the original must be untouched");
    drop(hold);
    std::fs::remove_file(&filler)?;
    wait_until("another try after room was made", || is_sealed(&file))?;
    // The daemon holds descriptors below the mount; it ends first.
    site.daemon()?.terminate()?;
    Ok(())
}
