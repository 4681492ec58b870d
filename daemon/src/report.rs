//! What this terminal tells the key server of itself: the daemon's version, how its private keys are kept, how much of its folders is
//! sealed. Told at the start, and again with the poll of the bulletin when something is different.

use crate::server::Call;
use crate::service::Service;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tobari_core::proto::control::FolderStatus;
use tobari_core::proto::problem::Problem;
use tobari_core::proto::terminal::{Coverage, TerminalReport};

/// Between two reports that differ.
const PAUSE: Duration = Duration::from_secs(10);
/// Between two that are alike: the key server shows when it was told last.
const LONG_PAUSE: Duration = Duration::from_secs(600);

/// What was told last, and when.
#[derive(Debug, Default)]
pub(crate) struct Told(Mutex<Option<(TerminalReport, Instant)>>);

impl Service {
    /// Tells the key server of this terminal, if it is time.
    ///
    /// # Errors
    /// When the key server is not reached, or does not take it; it is told again with the next try.
    pub(crate) fn report_if_due(&self) -> Result<(), Problem> {
        let mut told = self.told().0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.as_ref().is_some_and(|(_, at)| at.elapsed() < PAUSE) {
            return Ok(());
        }
        let report = TerminalReport {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protection: self.protection(),
            coverage: coverage(&self.folders()),
        };
        if told.as_ref().is_some_and(|(before, at)| *before == report && at.elapsed() < LONG_PAUSE) {
            return Ok(());
        }
        Call::post("/v1/terminals/report", &report)
            .and_then(|call| self.server().call(call))
            .and_then(|reply| reply.nothing())
            .map_err(|problem| self.heard_of_terminal(problem))?;
        *told = Some((report, Instant::now()));
        Ok(())
    }
}

/// The sum over all folders; none until each of them was looked through.
fn coverage(folders: &[FolderStatus]) -> Option<Coverage> {
    if folders.is_empty() {
        return None;
    }
    Some(Coverage {
        files: folders.iter().map(|folder| folder.files).sum::<Option<u64>>()?,
        plain: folders.iter().map(|folder| folder.plain).sum(),
        plain_since: folders.iter().filter_map(|folder| folder.plain_since).min(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Differs, Said, Site};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use tobari_core::proto::problem::ProblemCode;

    #[test]
    fn what_was_not_taken_is_told_again_and_what_was_is_not() {
        let asked = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&asked);
        let site = Site::start(tempfile::tempdir().unwrap(), &[], Differs::default(), move |asked| {
            (asked.path == "/v1/terminals/report").then(|| {
                assert_eq!(asked.body["version"], env!("CARGO_PKG_VERSION"));
                assert_eq!(asked.body["protection"], "none");
                match count.fetch_add(1, Ordering::SeqCst) {
                    0 => Said::json(500, &Problem::local(ProblemCode::Internal, "no")),
                    _ => Said { status: 204, ..Said::default() },
                }
            })
        });
        site.service.report_if_due().unwrap_err();
        site.service.report_if_due().unwrap();
        site.service.report_if_due().unwrap();
        assert_eq!(asked.load(Ordering::SeqCst), 2);
    }
}
