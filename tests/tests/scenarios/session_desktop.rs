//! A desktop: what is refused in a session is said as a notification, by the user's own process on the user's own bus; a double-click on any
//! file of the usual types.

use crate::sessions::{command, home, site, uid_of};
use anyhow::{Context as _, Result, ensure};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tobari_tests::{Answer, Site, wait_until};

/// The service of notifications, which writes down what it is told.
const SERVICE: &str = r#"
import dbus, dbus.service, sys
from dbus.mainloop.glib import DBusGMainLoop
from gi.repository import GLib
DBusGMainLoop(set_as_default=True)
NAME = "org.freedesktop.Notifications"
class Notifications(dbus.service.Object):
    @dbus.service.method(NAME, in_signature="susssasa{sv}i", out_signature="u")
    def Notify(self, application, replaces, icon, summary, body, actions, hints, timeout):
        with open(sys.argv[1], "a") as file:
            file.write(f"{application}: {summary}: {body}\n")
        return dbus.UInt32(1)
    @dbus.service.method(NAME, out_signature="ssss")
    def GetServerInformation(self):
        return ("recorder", "tests", "1", "1.2")
    @dbus.service.method(NAME, out_signature="as")
    def GetCapabilities(self):
        return ["body"]
bus = dbus.SessionBus()
name = dbus.service.BusName(NAME, bus)
service = Notifications(bus, "/org/freedesktop/Notifications")
print("ready", flush=True)
GLib.MainLoop().run()
"#;

/// A session bus with a service of notifications on it.
struct Desktop {
    processes: Vec<Child>,
    address: String,
    told: PathBuf,
}

impl Desktop {
    fn start(site: &Site) -> Result<Option<Self>> {
        let has_modules = || {
            let try_them = Command::new("/usr/bin/python3").args(["-c", "import dbus, gi"]).output();
            try_them.is_ok_and(|output| output.status.success())
        };
        let there =
            ["/usr/bin/dbus-daemon", "/usr/bin/notify-send"].iter().all(|path| Path::new(path).exists());
        if !there || !has_modules() {
            tobari_tests::skipped("notifications: no dbus-daemon, notify-send, python3-dbus or python3-gi");
            return Ok(None);
        }
        let folder = site.path("desktop");
        std::fs::create_dir_all(&folder)?;
        tobari_tests::set_mode(&folder, 0o755)?;
        let (configuration, told) = (folder.join("bus.conf"), folder.join("told"));
        // The test's users are not in the password file, without which no bus knows them: this one asks nobody who they are.
        let policy = "<allow user='*'/><allow own='*'/><allow send_destination='*' eavesdrop='true'/><allow eavesdrop='true'/>";
        let address = format!("unix:path={}/bus", folder.display());
        std::fs::write(
            &configuration,
            format!(
                "<busconfig><type>session</type><listen>{address}</listen><auth>ANONYMOUS</auth><allow_anonymous/>\
                 <policy context='default'>{policy}</policy></busconfig>"
            ),
        )?;
        let mut desktop = Self { processes: Vec::new(), address, told };
        let mut bus = Command::new("/usr/bin/dbus-daemon");
        bus.args(["--nofork", "--print-address=1", "--config-file"]).arg(&configuration);
        desktop.first_line(bus)?;
        let mut service = Command::new("/usr/bin/python3");
        service.args(["-c", SERVICE]).arg(&desktop.told);
        service.env("DBUS_SESSION_BUS_ADDRESS", &desktop.address);
        desktop.first_line(service)?;
        Ok(Some(desktop))
    }

    /// Starts a program and waits until it says something.
    fn first_line(&mut self, mut command: Command) -> Result<()> {
        let mut child = command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take().context("piped")?;
        self.processes.push(child);
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        ensure!(!line.is_empty(), "a program of the desktop does not start");
        Ok(())
    }

    fn told(&self) -> String {
        std::fs::read_to_string(&self.told).unwrap_or_default()
    }

    /// As a program of the desktop is started: its streams lead nowhere.
    fn run(&self, site: &Site, login: &str, words: &[&str], with_display: bool) -> Result<Answer> {
        let mut command = command(site, login, words)?;
        command.env("DBUS_SESSION_BUS_ADDRESS", &self.address).stdin(Stdio::null());
        if with_display {
            command.env("DISPLAY", ":99");
        }
        Ok(command.env("TOBARI_LANG", "ja").output()?.into())
    }
}

impl Drop for Desktop {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _gone = process.kill();
            let _reaped = process.wait();
        }
    }
}

#[test]
fn what_is_refused_is_said_on_the_desktop_in_the_users_language() -> Result<()> {
    let Some(site) = site("notifications")? else { return Ok(()) };
    let Some(desktop) = Desktop::start(&site)? else { return Ok(()) };
    let file = site.drop_file("<b>稟議&書.txt", "予算".as_bytes())?;
    tobari_tests::set_mode(&file, 0o666)?;
    let write = format!("for i in 1 2 3; do echo x >> '{}'; done", file.display());
    let words = ["run", "--", "sh", "-c", &write];
    // Without a display nothing is said but to the caller.
    let refused = desktop.run(&site, "ippan", &words, false)?;
    ensure!(refused.code != 0 && refused.stderr.contains("稟議"), "{refused:?}");
    let refused = desktop.run(&site, "ippan", &words, true)?;
    ensure!(refused.code != 0, "{refused:?}");
    wait_until("a notification", || desktop.told().contains("稟議"))?;
    let told = desktop.told();
    ensure!(told.lines().count() == 1, "once, and not without a display: {told}");
    // The reason, in Japanese, and a name that is not taken for markup.
    ensure!(told.starts_with("Tobari: Tobari: ") && told.contains("&lt;b&gt;稟議&amp;書.txt"), "{told}");
    ensure!(told.contains("規則により拒否されました"), "{told}");
    // A double-click that opens nothing at all.
    site.tobari("ippan", &["logout"])?.ok()?;
    let path = file.to_string_lossy().into_owned();
    desktop.run(&site, "ippan", &["open", "--with", "cat", &path], true)?.fails_with(3)?;
    wait_until("another notification", || desktop.told().lines().count() == 2)?;
    ensure!(
        desktop.told().lines().nth(1).is_some_and(|line| line.contains("ログイン")),
        "{}",
        desktop.told()
    );
    Ok(())
}

#[test]
fn a_desktop_that_does_not_answer_holds_up_nobody() -> Result<()> {
    let Some(site) = site("a bus that does not answer")? else { return Ok(()) };
    let file = site.drop_file("稟議書.txt", b"text")?;
    tobari_tests::set_mode(&file, 0o666)?;
    let bus = home(&site, "ippan")?.join("silent");
    let _silent = std::os::unix::net::UnixListener::bind(&bus)?;
    std::fs::set_permissions(&bus, std::fs::Permissions::from_mode(0o777))?;
    let write = format!("echo x >> '{}'; exit 5", file.display());
    let mut command = command(&site, "ippan", &["run", "--", "sh", "-c", &write])?;
    command.env("DBUS_SESSION_BUS_ADDRESS", format!("unix:path={}", bus.display())).env("DISPLAY", ":99");
    // It ends, although what shows notifications waits for ever.
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    ensure!(status.code() == Some(5), "{status:?}");
    Ok(())
}

#[test]
fn a_double_click_opens_what_is_elsewhere_as_ever() -> Result<()> {
    let Some(site) = site("double-clicks on any file")? else { return Ok(()) };
    let sealed = site.drop_file("稟議書.txt", b"the contents")?;
    let plain = home(&site, "bucho")?.join("メモ.txt");
    std::fs::write(&plain, b"a note")?;
    let copy = home(&site, "bucho")?.join("copy.txt");
    std::fs::copy(&sealed, &copy)?;
    for path in [&plain, &copy] {
        std::os::unix::fs::chown(path, Some(uid_of("bucho")?), None)?;
    }
    let open = |path: &Path, login: &str| -> Result<Answer> {
        let path = path.to_string_lossy().into_owned();
        // What tells whether it runs in a session: there is no network there.
        let script = "cat \"$1\"; grep -c : /proc/net/dev";
        let mut command = command(&site, login, &["open", "--or-plain", "--with", "show", &path])?;
        let folder = site.path("bin");
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("show"), format!("#!/bin/sh\n{script}\n"))?;
        tobari_tests::set_mode(&folder.join("show"), 0o755)?;
        command.env("PATH", format!("{}:/usr/bin:/bin", folder.display()));
        Ok(command.stdin(Stdio::null()).output()?.into())
    };
    let plain = open(&plain, "bucho")?.ok()?;
    ensure!(plain.text().starts_with("a note"), "{plain:?}");
    // What is sealed is never handed to a program that could not read it.
    let copy = open(&copy, "bucho")?;
    ensure!(copy.code != 0 && copy.stdout.is_empty() && !copy.stderr.is_empty(), "{copy:?}");
    Ok(())
}
