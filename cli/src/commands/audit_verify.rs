//! `audit verify`: an export against the key that was noted and what witnesses kept. Needs nobody.

use super::text;
use crate::app::App;
use crate::args::audit::Verify;
use crate::arguments;
use crate::error::{Action, Error};
use serde_json::json;
use std::io::{BufRead as _, BufReader};
use tobari_core::audit::{LogKey, Verifier, read_witnesses};

/// Longest line that is read, in bytes; a record is some hundred, with the longest names some thousand.
const MAX_LINE: u64 = 16 << 20;

pub(super) fn run(args: &Verify, app: &mut App) -> Result<(), Error> {
    let usage = |_| Error::Usage { what: "audit-key", detail: args.key.clone() };
    let key: LogKey = args.key.trim().parse().map_err(usage)?;
    let mut witnesses = Vec::new();
    for path in &args.witness {
        let text = std::fs::read(path).map_err(Action::Read.failed(path))?;
        let seen = read_witnesses(&String::from_utf8_lossy(&text), &key)
            .map_err(|fault| Error::WitnessFile { path: path.clone(), detail: fault.to_string() })?;
        witnesses.extend(seen);
    }
    let file = std::fs::File::open(&args.file).map_err(Action::Open.failed(&args.file))?;
    let mut lines = BufReader::new(file);
    let mut verifier = Verifier::new(key, witnesses);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = std::io::Read::take(&mut lines, MAX_LINE).read_until(b'\n', &mut line);
        if read.map_err(Action::Read.failed(&args.file))? == 0 {
            break;
        }
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        verifier.line(line).map_err(Error::AuditExport)?;
    }
    let verified = verifier.finish().map_err(Error::AuditExport)?;
    let last = verified.first + verified.count.saturating_sub(1);
    if app.settings.json {
        return app.json(&json!({
            "verified": true,
            "first": verified.first,
            "last": last,
            "size": verified.checkpoint.size,
            "epoch": verified.checkpoint.epoch,
            "witnessed": verified.witnessed,
            "restored": verified.restored,
        }));
    }
    let said = app.text(
        "audit-export-verified",
        &arguments! {
            count: text::grouped(verified.count),
            first: verified.first,
            last: last,
            size: verified.checkpoint.size,
            witnessed: verified.witnessed,
        },
    );
    app.line(&said)?;
    for restored in &verified.restored {
        let given_up = restored.given_up_to.map_or_else(|| app.word("none"), |last| last.to_string());
        app.warn("warning-restored", &arguments! { sequence: restored.sequence, last: given_up });
    }
    Ok(())
}
