//! Why a request of a local user failed: a [`Problem`] and what belongs to it. The control socket turns it into
//! one `Failed` event; nothing here decides what a user reads.

use std::io;
use tobari_core::policy::Rights;
use tobari_core::proto::api::{Reason, Refusal};
use tobari_core::proto::control::{Event, Particulars};
use tobari_core::proto::problem::{Problem, ProblemCode};

/// A failed request.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// Why.
    pub problem: Problem,
    /// The file at fault, as the caller named it.
    pub subject: Option<String>,
    /// What the caller may do instead, where the policy refused.
    pub rights: Option<Rights>,
    /// The rules that decided, where the policy refused.
    pub reasons: Vec<Reason>,
    /// What the problem's detail says, as data.
    pub particulars: Particulars,
}

impl Failure {
    /// A failure found by the daemon itself.
    pub fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        Problem::local(code, detail).into()
    }

    /// A local file could not be read or written.
    pub fn io(what: &str, error: &io::Error) -> Self {
        let mut problem = Problem::local(ProblemCode::LocalIo, format!("{what}: {error}"));
        // Clients have an exit code of its own for this, and must not look for words in the detail.
        if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            problem.field = Some(String::from("no-space"));
        }
        problem.into()
    }

    /// The same, naming the file at fault unless one is named already.
    #[must_use]
    pub fn about(mut self, subject: &str) -> Self {
        self.subject.get_or_insert_with(|| subject.to_owned());
        self
    }

    /// The event that tells the caller.
    pub fn into_event(self) -> Event {
        let Self { problem, subject, rights, reasons, particulars } = self;
        Event::Failed { problem, subject, rights, reasons, particulars }
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self {
            problem,
            subject: None,
            rights: None,
            reasons: Vec::new(),
            particulars: Particulars::default(),
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let Refusal { code, detail, right, label_name, rights, reasons } = refusal;
        let rights = (code == ProblemCode::RightRefused).then_some(rights);
        let particulars = Particulars { right, label_name, authentic_bytes: None };
        Self { problem: Problem::local(code, detail), subject: None, rights, reasons, particulars }
    }
}
