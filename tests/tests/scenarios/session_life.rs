//! What happens to sessions while they are open: the daemon is killed in a save, the key server goes away, several run beside each other,
//! people press keys.

use crate::sessions::{command, home, lower_folder, run, shell, site, text, uid_of};
use anyhow::{Context as _, Result, bail, ensure};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use tobari_tests::{Answer, Site, set_mode, wait_until};

/// Ends what a command in [`Talk`] said.
const END: &str = "---end---";

/// A shell in a session that does what it is told, line by line.
struct Talk {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Talk {
    fn start(site: &Site, login: &str, flags: &[&str]) -> Result<Self> {
        let script = format!(
            "while read -r line; do eval \"$line\" </dev/null 2>&1; code=$?; echo; echo '{END}' $code; done"
        );
        let words = [&["run"], flags, &["--", "sh", "-c", &script]].concat();
        let mut child = command(site, login, &words)?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let output = BufReader::new(child.stdout.take().context("piped")?);
        let mut talk = Self { child, output };
        talk.ask("true")?;
        Ok(talk)
    }

    /// What a command of one line said, and its exit code.
    fn ask(&mut self, line: &str) -> Result<(String, i32)> {
        let input = self.child.stdin.as_mut().context("piped")?;
        input.write_all(format!("{line}\n").as_bytes())?;
        input.flush()?;
        let mut said = String::new();
        loop {
            let mut line = String::new();
            if self.output.read_line(&mut line)? == 0 {
                let mut why = String::new();
                self.child.stderr.as_mut().context("piped")?.read_to_string(&mut why)?;
                bail!("the session has ended: {why}");
            }
            if let Some(code) = line.strip_prefix(END) {
                let said = said.strip_suffix('\n').unwrap_or(&said).to_owned();
                return Ok((said, code.trim().parse()?));
            }
            said.push_str(&line);
        }
    }

    /// What a command said that has to succeed.
    fn hear(&mut self, line: &str) -> Result<String> {
        let (said, code) = self.ask(line)?;
        ensure!(code == 0, "{line}: {code}: {said}");
        Ok(said)
    }

    /// Ends it; what was written to standard error.
    fn end(mut self) -> Result<Answer> {
        drop(self.child.stdin.take());
        let mut stderr = String::new();
        self.child.stderr.as_mut().context("piped")?.read_to_string(&mut stderr)?;
        let code = self.child.wait()?.code().unwrap_or(-1);
        Ok(Answer { code, stdout: Vec::new(), stderr })
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn has_python(what: &str) -> bool {
    let there = Path::new("/usr/bin/python3").exists();
    if !there {
        tobari_tests::skipped(format!("{what}: no /usr/bin/python3"));
    }
    there
}

/// Bytes of the file that is saved again and again.
const SAVED: usize = 1 << 20;
/// Plaintext of a chunk.
const CHUNK: usize = 16384;
/// Saves a file over and over, each time filled with the next number.
const SAVING: &str = r#"
import os, sys
file, size, number = os.open(sys.argv[1], os.O_WRONLY), int(sys.argv[2]), 1
print("ready", flush=True)
while True:
    number = number % 250 + 1
    os.pwrite(file, bytes([number]) * size, 0)
    os.fsync(file)
"#;

#[test]
fn a_save_in_which_the_daemon_is_killed_leaves_a_file_that_opens() -> Result<()> {
    let what = "kill -9 of the daemon in a save";
    let Some(mut site) = site(what)? else { return Ok(()) };
    if !has_python(what) {
        return Ok(());
    }
    let file = site.drop_file("台帳.dat", &vec![1; SAVED])?;
    set_mode(&file, 0o666)?;
    for round in 0..4 {
        let size = SAVED.to_string();
        let words = ["run", "--", "python3", "-c", SAVING, text(&file), &size];
        let mut saver = command(&site, "bucho", &words)?
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(saver.stdout.take().context("piped")?).read_line(&mut line)?;
        ensure!(line == "ready\n", "{line}");
        // Each save changes the slots in the header region: as soon as so many were seen, anywhere in the next one.
        let slots = || std::fs::read(&file).ok().and_then(|bytes| bytes.get(3072..4096).map(<[u8]>::to_vec));
        let (mut last, mut seen) = (slots(), 0);
        wait_until("it saves", || {
            let now = slots();
            seen += u32::from(now != last);
            last = now;
            seen > 2 + round
        })?;
        site.daemon()?.kill()?;
        saver.wait()?;
        site.start_daemon()?;
        site.login("bucho")?.ok()?;
        // Whoever meets it first completes it: a command without a view, or a view.
        let read = if round % 2 == 0 {
            site.tobari("bucho", &["cat", text(&file)])?.ok()?.stdout
        } else {
            run(&site, "bucho", &["cat", text(&file)])?.ok()?.stdout
        };
        ensure!(read.len() == SAVED, "{} bytes", read.len());
        let mut versions: Vec<u8> = Vec::new();
        for chunk in read.chunks(CHUNK) {
            ensure!(chunk.iter().all(|byte| byte == &chunk[0]), "a chunk is neither old nor new");
            versions.push(chunk[0]);
        }
        versions.dedup();
        let beside = |pair: &[u8]| pair[0] % 250 + 1 == pair[1] || pair[1] % 250 + 1 == pair[0];
        ensure!(versions.len() <= 2 && versions.windows(2).all(beside), "not two saves: {versions:?}");
        // And the next save works.
        shell(&site, "bucho", &format!("head -c {SAVED} /dev/zero | tr '\\0' '\\1' > '{}'", file.display()))?
            .ok()?;
        let read = site.tobari("bucho", &["cat", text(&file)])?.ok()?.stdout;
        ensure!(read == vec![1; SAVED], "the next save is not there");
    }
    Ok(())
}

#[test]
fn what_is_granted_goes_on_while_the_key_server_is_away() -> Result<()> {
    let Some(mut site) = site("a session without its key server")? else { return Ok(()) };
    let granted = site.drop_file("granted.txt", b"granted before")?;
    let other = site.drop_file("other.txt", b"not granted yet")?;
    set_mode(&granted, 0o666)?;
    let mut talk = Talk::start(&site, "bucho", &[])?;
    let read = format!("cat '{}'", granted.display());
    ensure!(talk.hear(&read)? == "granted before");
    // To write takes a grant of its own, since the record says what was asked for.
    talk.hear(&format!("printf ' and' >> '{}'", granted.display()))?;
    site.key_server()?.kill()?;
    // What was granted is read, written and saved under a new name.
    ensure!(talk.hear(&read)? == "granted before and");
    talk.hear(&format!("printf ' after' >> '{}'", granted.display()))?;
    let new = site.folder().join("new.txt");
    talk.hear(&format!("cat '{}' > '{}'", granted.display(), new.display()))?;
    let (said, code) = talk.ask(&format!("cat '{}'", other.display()))?;
    ensure!(code != 0 && !said.contains("not granted yet"), "{code}: {said}");
    // A session can be started as well: it asks for nothing until a file is opened.
    let refused = run(&site, "bucho", &["cat", text(&other)])?;
    ensure!(refused.code == 1 && refused.stdout.is_empty(), "{refused:?}");
    ensure!(refused.stderr.contains("key server cannot be reached"), "{refused:?}");
    site.start_key_server()?;
    wait_until("the key server to be found again", || {
        talk.ask(&format!("cat '{}'", other.display()))
            .is_ok_and(|(said, code)| code == 0 && said == "not granted yet")
    })?;
    let ended = talk.end()?;
    ensure!(ended.stderr.contains("key server cannot be reached"), "{ended:?}");
    ensure!(ended.stderr.contains("other.txt") && !ended.stderr.contains("granted.txt"), "{ended:?}");
    let read = run(&site, "bucho", &["cat", text(&granted)])?.ok()?;
    ensure!(read.text() == "granted before and after", "{read:?}");
    Ok(())
}

#[test]
fn sessions_beside_each_other_do_not_mix() -> Result<()> {
    let Some(site) = site("several sessions at once")? else { return Ok(()) };
    let low = lower_folder(&site)?;
    let secret = site.drop_file("機密.txt", b"the secret")?;
    set_mode(&secret, 0o666)?;
    let mut high = Talk::start(&site, "bucho", &[])?;
    let mut plain = Talk::start(&site, "bucho", &[])?;
    let mut raised = Talk::start(&site, "bucho", &["--label", "社外秘"])?;
    let mut viewer = Talk::start(&site, "ippan", &[])?;
    let save = |name: &str| format!("echo text > '{}/{name}'", low.display());
    ensure!(high.hear(&format!("cat '{}'", secret.display()))? == "the secret");
    for (talk, name) in [(&mut high, "high"), (&mut plain, "plain"), (&mut raised, "raised")] {
        talk.hear(&save(name))?;
        talk.hear(&format!("echo {name} > /tmp/mine; echo {name} > ~/mine"))?;
    }
    let label = |name: &str| -> Result<bool> {
        let info = site.tobari("bucho", &["info", "--json", text(&low.join(name))])?.ok()?.text();
        Ok(info.contains("\"label_name\": \"社外秘\""))
    };
    ensure!(label("high")? && !label("plain")? && label("raised")?);
    // One person, three sessions: none sees the others' processes and files, and each goes its own way up.
    for (talk, name) in [(&mut high, "high"), (&mut plain, "plain"), (&mut raised, "raised")] {
        ensure!(talk.hear("cat /tmp/mine ~/mine")? == format!("{name}\n{name}\n"));
        let count: usize = talk.hear("ls /proc | grep -c '^[0-9]'")?.trim().parse()?;
        ensure!(count < 10, "{count} processes");
    }
    let (said, code) = plain.ask(&format!("cat '{}'", secret.display()))?;
    ensure!(code != 0 && !said.contains("the secret"), "{said}");
    ensure!(raised.hear(&format!("cat '{}'", secret.display()))? == "the secret");
    // Another person has their own rights, whatever the others have open.
    ensure!(viewer.hear(&format!("cat '{}'", secret.display()))? == "the secret");
    ensure!(viewer.ask(&format!("echo x >> '{}'", secret.display()))?.1 != 0);
    ensure!(viewer.hear("ls /tmp ~")?.lines().all(|line| !line.contains("mine")));
    // The end of one, or of one person's login, is not the end of the others.
    high.end()?.ok()?;
    site.tobari("ippan", &["logout"])?.ok()?;
    wait_until("the viewer's session to end", || viewer.ask("true").is_err())?;
    ensure!(plain.hear("cat /tmp/mine")? == "plain\n");
    Ok(())
}

#[test]
fn a_shell_may_create_the_copy_before_the_secret_is_read() -> Result<()> {
    let Some(site) = site("redirections of a shell")? else { return Ok(()) };
    let low = lower_folder(&site)?;
    let secret = site.drop_file("計画.txt", b"the plan")?;
    let at = |name: &str| low.join(name);
    let has = |name: &str, label: &str| -> Result<()> {
        let info = site.tobari("bucho", &["info", "--json", text(&at(name))])?.ok()?.text();
        ensure!(info.contains(&format!("\"label_name\": \"{label}\"")), "{name}: {info}");
        Ok(())
    };
    let copy = |name: &str| format!("cat '{}' > '{}'", secret.display(), at(name).display());
    shell(&site, "bucho", &copy("copy"))?.ok()?;
    has("copy", "社外秘")?;
    ensure!(run(&site, "bucho", &["cat", text(&at("copy"))])?.ok()?.stdout == b"the plan");
    // What had contents does not follow: it was written to before the secret was read, or may have been.
    shell(&site, "bucho", &format!("echo public > '{}'", at("old").display()))?.ok()?;
    let refused = shell(&site, "bucho", &copy("old"))?;
    ensure!(refused.code != 0 && refused.stderr.contains("lower label"), "{refused:?}");
    has("old", "公開")?;
    // Nor does what was created and then written to.
    let script = format!("{{ echo x; cat '{}'; }} > '{}'", secret.display(), at("both").display());
    let refused = shell(&site, "bucho", &script)?;
    ensure!(refused.code != 0 && refused.stderr.contains("lower label"), "{refused:?}");
    ensure!(site.tobari("bucho", &["cat", text(&at("both"))])?.ok()?.stdout == b"x\n");
    // Nor what somebody else has open, who was let in under the lower label.
    let mut writer = Talk::start(&site, "bucho", &[])?;
    let mut reader = Talk::start(&site, "ippan", &[])?;
    writer.hear(&format!("exec 9> '{}'", at("watched").display()))?;
    reader.hear(&format!("exec 8< '{}'", at("watched").display()))?;
    ensure!(writer.hear(&format!("cat '{}'", secret.display()))? == "the plan");
    let (said, code) = writer.ask("echo secret >&9")?;
    ensure!(code != 0, "{said}");
    ensure!(reader.hear("cat <&8")?.is_empty());
    has("watched", "公開")?;
    // The file stays empty beneath, too: nothing of it can be read by anybody.
    ensure!(site.tobari("ippan", &["cat", text(&at("watched"))])?.ok()?.stdout.is_empty());
    // What was created before and is empty and closed is opened as any file, and raised with the right to.
    reader.hear("exec 8<&-")?;
    writer.hear("exec 9>&-")?;
    writer.hear(&format!("echo secret >> '{}'", at("watched").display()))?;
    has("watched", "社外秘")?;
    Ok(())
}

/// Plays a person at a terminal with a shell: argv is the first uid of sessions, the command line, and what to look for.
const TERMINAL: &str = r#"
import fcntl, glob, os, pty, select, struct, sys, termios, time
first, line = int(sys.argv[1]), sys.argv[2]
pid, master = pty.fork()
if pid == 0:
    os.environ["PS1"] = "prompt> "
    os.execv("/bin/bash", ["bash", "--norc", "--noprofile", "-i"])
said = b""
def wait(what, done):
    global said
    end = time.monotonic() + 60
    while not done():
        if time.monotonic() > end:
            sys.exit(f"waited too long for {what}: {said.decode(errors='replace')}")
        if select.select([master], [], [], 0.02)[0]:
            try:
                said += os.read(master, 65536)
            except OSError:
                sys.exit(f"the terminal is gone, {what} did not come: {said.decode(errors='replace')}")
def hear(text):
    global said
    wait(text, lambda: text.encode() in said)
    said = said[said.index(text.encode()) + len(text):]
def type_(text):
    os.write(master, text.encode())
def stopped():
    states = []
    for path in glob.glob("/proc/[0-9]*/status"):
        try:
            fields = dict(row.split(":", 1) for row in open(path) if ":" in row)
        except OSError:
            continue
        if first <= int(fields["Uid"].split()[0]) < first + 256 and fields["Name"].strip() == "sh":
            states.append(fields["State"].split()[0])
    return bool(states) and all(state == "T" for state in states)
hear("prompt>")
type_(line + "\n")
hear("STARTED")
type_("\x1a")
hear("Stopped")
wait("the program to stop", stopped)
type_("echo SHELL-$((40+2))\n")
hear("SHELL-42")
type_("fg\n")
wait("the program to go on", lambda: not stopped())
fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 99, 0, 0))
hear("SIZE 33 99")
type_("\x03")
hear("INTERRUPTED")
hear("prompt>")
type_("echo CODE-$?-\n")
hear("CODE-7-")
print("played")
"#;

#[test]
fn keys_of_the_terminal_reach_the_program() -> Result<()> {
    let what = "Ctrl-Z, fg, Ctrl-C and sizes of a terminal";
    let Some(site) = site(what)? else { return Ok(()) };
    if !has_python(what) {
        return Ok(());
    }
    // Not typed, since what is typed is shown.
    let script = home(&site, "bucho")?.join("program.sh");
    std::fs::write(
        &script,
        "trap 'echo SIZE $(stty size)' WINCH\ntrap 'echo INTERRUPTED; exit 7' INT\necho STARTED\n\
         while :; do sleep 0.05; done\n",
    )?;
    set_mode(&script, 0o644)?;
    let like = command(&site, "bucho", &["run", "--", "sh", text(&script)])?;
    let words = std::iter::once(like.get_program()).chain(like.get_args());
    let line: Vec<String> = words.map(|word| format!("'{}'", word.to_string_lossy())).collect();
    let uid = uid_of("bucho")?;
    let mut player = Command::new("/usr/bin/python3");
    for (name, value) in like.get_envs() {
        match value {
            Some(value) => player.env(name, value),
            None => player.env_remove(name),
        };
    }
    player
        .args(["-c", TERMINAL, &site.first_session_uid().to_string(), &line.join(" ")])
        .env("TERM", "dumb")
        .current_dir("/")
        .uid(uid)
        .gid(uid)
        .stdin(Stdio::null());
    let played: Answer = player.output()?.into();
    ensure!(played.ok()?.text().ends_with("played\n"));
    Ok(())
}
