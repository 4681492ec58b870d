//! Revocation with the real programs: what is open in a session is closed, and nothing else.

use crate::sessions::{command, site};
use anyhow::{Context as _, Result, ensure};
use std::io::{BufRead as _, BufReader};
use std::process::{ChildStdout, Stdio};
use std::sync::mpsc;
use tobari_tests::{DEADLINE, Process, Site};

/// Opens a file once and reads from it byte by byte until that fails.
const READER: &str = "exec 3<\"$1\" && echo open
while dd bs=1 count=1 <&3 >/dev/null 2>&1; do sleep 0.02; done
echo refused";

/// A program in a session that reads from a file that it has open.
struct Reader {
    lines: mpsc::Receiver<String>,
    _process: Process,
}

impl Reader {
    fn start(site: &Site, login: &str, path: &str) -> Result<Self> {
        let mut command = command(site, login, &["run", "--", "sh", "-c", READER, "sh", path])?;
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let output: ChildStdout = child.stdout.take().context("a pipe")?;
        let (told, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if told.send(line).is_err() {
                    return;
                }
            }
        });
        let reader = Self { lines, _process: child.into() };
        reader.says("open")?;
        Ok(reader)
    }

    fn says(&self, wanted: &str) -> Result<()> {
        let line = self.lines.recv_timeout(DEADLINE).with_context(|| format!("waiting for '{wanted}'"))?;
        ensure!(line == wanted, "{line}");
        Ok(())
    }

    fn goes_on(&self) -> Result<()> {
        ensure!(self.lines.try_recv() == Err(mpsc::TryRecvError::Empty), "it ended");
        Ok(())
    }
}

#[test]
fn what_is_revoked_is_closed_where_it_is_open_and_nothing_else() -> Result<()> {
    let Some(site) = site("revocation of what is open in sessions")? else { return Ok(()) };
    let contents = vec![b'x'; 1 << 20];
    let paths = ["誤送信.txt", "他の.txt"].map(|name| site.drop_file(name, &contents));
    let [stopped, other] = paths;
    let (stopped, other) = (stopped?, other?);
    let (stopped, other) = (stopped.to_str().context("UTF-8")?, other.to_str().context("UTF-8")?);
    let (first, second) = (Reader::start(&site, "bucho", stopped)?, Reader::start(&site, "bucho", other)?);

    // A change that takes nothing away from bucho.
    site.admin(&["group", "add", "別の部"])?.ok()?;
    site.admin(&["person", "set", "ippan", "--no-memberships"])?.ok()?;
    site.admin(&["revoke", "file", stopped, "--reason", "誤送信"])?.ok()?;
    first.says("refused")?;
    second.goes_on()?;
    let refused = site.tobari("bucho", &["cat", stopped])?.fails_with(6)?;
    ensure!(refused.stdout.is_empty() && refused.stderr.contains("revoked"), "{refused:?}");
    let list = site.admin(&["revoke", "list", "--json"])?.ok()?.json()?;
    ensure!(list["revocations"][0]["kind"] == "file", "{list}");
    second.goes_on()?;

    site.admin(&["revoke", "lift", "file", stopped, "--reason", "解決"])?.ok()?;
    ensure!(site.tobari("bucho", &["cat", stopped])?.ok()?.stdout == contents);
    site.admin(&["revoke", "label", "社外秘", "--reason", "調査"])?.ok()?;
    second.says("refused")?;
    site.tobari("bucho", &["cat", other])?.fails_with(6)?;
    site.admin(&["revoke", "lift", "label", "社外秘", "--reason", "調査終了"])?.ok()?;

    // A person: the session itself ends.
    let third = Reader::start(&site, "kacho", other)?;
    site.admin(&["person", "set", "kacho", "--disabled", "true"])?.ok()?;
    ensure!(third.lines.recv_timeout(DEADLINE) != Ok(String::from("open")));
    site.tobari("kacho", &["cat", other])?.fails_with(3)?;
    Ok(())
}

#[test]
fn a_bulletin_is_carried_to_a_terminal_without_a_way_to_the_key_server() -> Result<()> {
    let mut site = Site::reference_case()?;
    let number = |site: &Site| -> Result<Option<u64>> {
        Ok(site.tobari("admin", &["status", "--json"])?.ok()?.json()?["bulletin_number"].as_u64())
    };
    let older = site.admin(&["bulletin", "export"])?.ok()?;
    let before = number(&site)?;
    site.admin(&["group", "add", "別の部"])?.ok()?;
    let newer = site.admin(&["bulletin", "export"])?.ok()?;
    let after = number(&site)?;
    ensure!(after > before, "{after:?} {before:?}");

    // The terminal as it was before, and nobody to ask.
    site.key_server()?.kill()?;
    site.daemon()?.terminate()?;
    std::fs::write(site.path("daemon/enrolment/bulletin.json"), &older.stdout)?;
    site.start_daemon()?;
    ensure!(number(&site)? == before);
    let file = site.path("newer.json");
    std::fs::write(&file, &newer.stdout)?;
    let name = file.to_str().context("UTF-8")?;
    for _ in 0..2 {
        let said = site.tobari("admin", &["bulletin", "import", name, "--json"])?.ok()?.json()?;
        ensure!(said["number"].as_u64() == after, "{said}");
    }
    ensure!(number(&site)? == after);
    let refused = site.tobari_with("admin", &["bulletin", "import", "-"], &older.stdout)?.fails_with(21)?;
    ensure!(refused.stderr.contains("not newer"), "{refused:?}");
    ensure!(number(&site)? == after);
    Ok(())
}
