//! Two administrators, each at the command line with an authenticator: what one of them alone does not get.

use anyhow::{Context as _, Result, ensure};
use std::path::{Path, PathBuf};
use tobari_core::clock::{Clock as _, SystemClock};
use tobari_tests::{ADMIN, PEOPLE, Site, password, skipped_without_root};

/// Exit code where a second person or a fresh code is missing.
const SECOND_PERSON: i32 = 29;
const CONFLICT: i32 = 17;

/// An administrator with an authenticator.
struct Officer<'a> {
    site: &'a Site,
    login: &'a str,
    totp: totp_rs::Totp,
}

impl<'a> Officer<'a> {
    /// Gives an account an authenticator, and logs in with it.
    fn new(site: &'a Site, login: &'a str, more: &[&str]) -> Result<Self> {
        let set = [&["person", "set", login, "--totp", "--json"], more].concat();
        let record = site.admin(&set)?.ok()?.json()?;
        let otpauth = record.get("otpauth").and_then(serde_json::Value::as_str).context("an address")?;
        let totp = totp_rs::Totp::from_url(otpauth).map_err(|error| anyhow::anyhow!("{error:?}"))?;
        let officer = Self { site, login, totp };
        let login = ["login", login, "--password-stdin", "--totp", &officer.code(0)?];
        site.tobari_with(officer.login, &login, password(officer.login).as_bytes())?.ok()?;
        Ok(officer)
    }

    /// The code of this time step, or of the one after so many seconds: each counts once, and the next is taken early.
    fn code(&self, later: u64) -> Result<String> {
        let now = u64::try_from(SystemClock.now().as_second())?;
        Ok(self.totp.generate(now + later).to_string())
    }

    fn step_up(&self) -> Result<()> {
        self.site.tobari(self.login, &["admin", "step-up", "--totp", &self.code(30)?])?.ok().map(|_| ())
    }

    fn admin(&self, args: &[&str]) -> Result<tobari_tests::Answer> {
        let args: Vec<&str> = std::iter::once("admin").chain(args.iter().copied()).collect();
        self.site.tobari(self.login, &args)
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn more_than_a_few_files_are_unsealed_when_a_second_person_agrees() -> Result<()> {
    if skipped_without_root("two administrators") {
        return Ok(());
    }
    let site = Site::reference_case()?;
    let out = site.path("out");
    std::fs::create_dir(&out)?;
    std::os::unix::fs::chown(&out, Some(PEOPLE[0].2), Some(PEOPLE[0].2))?;
    let files: Vec<PathBuf> = (0..3)
        .map(|number| site.drop_file(format!("文書{number}.txt"), format!("本文{number}\n").as_bytes()))
        .collect::<Result<_>>()?;
    let unseal = |number: usize, name: &str| {
        site.tobari("bucho", &["unseal", text(&files[number]), "-o", text(&out.join(name))])
    };
    let two = Officer::new(&site, "kacho", &["--role", "policy"])?;
    let one = Officer::new(&site, ADMIN, &[])?;
    one.admin(&["policy", "unseal-limit", "2"])?.ok()?;
    unseal(0, "0")?.ok()?;
    unseal(1, "1")?.ok()?;
    let refused = unseal(2, "2")?.fails_with(SECOND_PERSON)?;
    ensure!(refused.stderr.contains("within the hour"), "{}", refused.stderr);
    site.tobari("bucho", &["cat", text(&files[2])])?.ok()?;

    // Alone, and by asking oneself, it does not come about.
    let window = ["policy", "unseal-window", "bucho", "--files", "3"];
    one.admin(&window)?.fails_with(SECOND_PERSON)?;
    one.admin(&["policy", "unseal-limit", "none"])?.fails_with(SECOND_PERSON)?;
    let asked = [&window[..], &["--request", "文書館へ移管", "--json"]].concat();
    let request = one.admin(&asked)?.ok()?.json()?;
    let id = request.get("id").and_then(serde_json::Value::as_str).context("an id")?.to_owned();
    let approve = ["request", "approve", &id, "--because", "部長の指示"];
    one.admin(&approve)?.fails_with(CONFLICT)?;
    two.admin(&approve)?.fails_with(SECOND_PERSON)?;
    two.step_up()?;
    two.admin(&approve)?.ok()?;
    one.admin(&["request", "apply", &id])?.fails_with(SECOND_PERSON)?;
    unseal(2, "2")?.fails_with(SECOND_PERSON)?;
    one.step_up()?;
    one.admin(&["request", "apply", &id])?.ok()?;
    one.admin(&["request", "apply", &id])?.fails_with(CONFLICT)?;
    unseal(2, "2")?.ok()?;
    ensure!(std::fs::read(out.join("2"))? == "本文2\n".as_bytes());

    // What was stopped stays so for one alone.
    one.admin(&["revoke", "file", text(&files[0]), "--reason", "誤送付"])?.ok()?;
    one.admin(&["revoke", "lift", "file", text(&files[0]), "--reason", "解除"])?.fails_with(SECOND_PERSON)?;
    ensure!(site.tobari("bucho", &["cat", text(&files[0])])?.code != 0);
    Ok(())
}
