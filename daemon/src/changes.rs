//! Push: waits at the key server until something changes that concerns this terminal (`GET /v1/changes`), and asks again
//! for what may have changed with it. The poll of the bulletin goes on beside it, for networks in which nothing waits.
//!
//! What is kept or open is not dropped because *something* changed: the decisions are asked for again, in batches and without keys,
//! and only grants whose rights are other ones now are forgotten. When the answer does not come they all are: what
//! is open then asks for itself at its next read.

use crate::server::{Call, Reply};
use crate::service::Service;
use crate::sessions::Login;
use reqwest::StatusCode;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tobari_core::crypto::random_bytes;
use tobari_core::policy::Rights;
use tobari_core::proto::api::{
    Affected, Changes, DecisionOutcome, DecisionResponse, GrantItem, GrantRequest,
};
use tobari_core::proto::base64::Base64;
use tobari_core::proto::problem::{Problem, ProblemCode};

/// How long a request may wait: what the key server holds it back at most, and time for the way.
const PATIENCE: Duration = Duration::from_secs(70);
/// How long decisions are waited for while what is open can still be read.
const DECISIONS: Duration = Duration::from_secs(5);
/// Pauses after a failure: the first, doubled with each further one, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// An answer without news that comes sooner than this is followed by a pause.
const SOON: Duration = Duration::from_secs(1);

/// The thread that waits for changes.
pub(crate) struct Push {
    stop: Arc<Stop>,
    thread: JoinHandle<()>,
}

#[derive(Default)]
struct Stop {
    stopped: Mutex<bool>,
    told: Condvar,
}

impl Stop {
    /// Waits; whether it is to end.
    fn pause(&self, length: Duration) -> bool {
        let stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        let (stopped, _) = self
            .told
            .wait_timeout_while(stopped, length, |stopped| !*stopped)
            .unwrap_or_else(PoisonError::into_inner);
        *stopped
    }
}

impl Push {
    /// Begins to wait for changes.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(crate) fn start(service: Arc<Service>) -> io::Result<Self> {
        let stop = Arc::new(Stop::default());
        let thread = std::thread::Builder::new().name(String::from("changes")).spawn({
            let stop = Arc::clone(&stop);
            move || follow(&service, &stop)
        })?;
        Ok(Self { stop, thread })
    }

    /// Ends it. The service must have been closed: otherwise this takes as long as the key server waits.
    pub(crate) fn stop(self) {
        *self.stop.stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stop.told.notify_all();
        let _ended = self.thread.join();
    }
}

fn follow(service: &Service, stop: &Stop) {
    let mut known = 0;
    let mut pause = FIRST_PAUSE;
    loop {
        let began = Instant::now();
        let length = match service.follow_changes(known) {
            Ok(version) => {
                let news = version != known;
                known = version;
                pause = FIRST_PAUSE;
                if news || began.elapsed() >= SOON { Duration::ZERO } else { SOON }
            }
            Err(problem) => {
                tracing::debug!(why = problem.detail, "changes cannot be waited for");
                let length = pause.max(Duration::from_secs(problem.retry_after_seconds.unwrap_or(0).min(60)));
                pause = (pause * 2).min(LONGEST_PAUSE);
                length
            }
        };
        if stop.pause(jittered(length)) {
            return;
        }
    }
}

/// Between half of it and all: terminals that lost a server at one time do not come back at one time.
fn jittered(length: Duration) -> Duration {
    let [random] = random_bytes::<1>();
    length / 2 + length / 2 * u32::from(random) / 255
}

impl Service {
    /// Waits until something changes after the version `known`, and takes it over. Gives the version now.
    ///
    /// # Errors
    /// When the key server is not reached, or does not accept this terminal.
    fn follow_changes(&self, known: u64) -> Result<u64, Problem> {
        let number = self.bulletin().number;
        let path = format!("/v1/changes?after={known}&bulletin={number}");
        let changes: Changes = self
            .server()
            .call(Call { patience: Some(PATIENCE), ..Call::get(&path) })
            .and_then(Reply::object)
            .map_err(|problem| self.heard_of_terminal(problem))?;
        self.standing().shut_out.store(false, Ordering::Relaxed);
        if let Some(stamp) = &changes.stamp {
            self.confirm(stamp);
        }
        let fetched = if changes.bulletin > number { self.fetch_bulletin().map(drop) } else { Ok(()) };
        match &changes.decisions {
            Affected::Nobody => {}
            Affected::People { people } => {
                self.reconsider(|login| people.contains(&login.session.person));
            }
            Affected::Everybody => self.reconsider(|_| true),
        }
        fetched.map(|()| changes.version)
    }

    /// Asks again what the people concerned may do with what was granted to them here, and forgets the grants of which that is
    /// not what it was.
    pub(crate) fn reconsider(&self, concerned: impl Fn(&Login) -> bool) {
        let _one_at_a_time = self.reviewing();
        // Whom a gateway asserts may be refused or accepted now.
        self.asserted().reconsider();
        let mut forgotten = false;
        // From here on no grant is kept that was asked for earlier.
        for session in self.grants().begin_review() {
            let login = self.login_of_session(session);
            match login {
                // The key server does not know a session that began without it; leases have ends of their own.
                Some(login) if login.offline || !concerned(&login) => {}
                Some(login) => forgotten |= self.review(&login),
                // Nobody is logged in under it any more.
                None => {
                    self.grants().forget(session);
                    forgotten = true;
                }
            }
        }
        // What is open looks for its grant again, and finds it if it is still kept.
        self.grants().end_review();
        if forgotten {
            self.views().forgotten();
        }
    }

    /// The same for one login. Whether something was forgotten.
    fn review(&self, login: &Login) -> bool {
        let session = login.session.id;
        let mut forgotten = false;
        for batch in self.grants().under_review(session) {
            let items = batch
                .iter()
                .map(|kept| GrantItem {
                    header: Base64(kept.header.to_vec()),
                    right: kept.right,
                    name: None,
                    new_label: None,
                })
                .collect();
            let answer = Call::post("/v1/decisions", &GrantRequest { items })
                .and_then(|call| {
                    self.server().call(Call { patience: Some(DECISIONS), ..call.with_token(&login.token) })
                })
                .and_then(Reply::object::<DecisionResponse>);
            match answer {
                Ok(answer) if answer.decisions.len() == batch.len() => {
                    for (kept, decision) in batch.iter().zip(&answer.decisions) {
                        if rights(decision) != kept.rights {
                            self.grants().forget_one(session, kept);
                            forgotten = true;
                        }
                    }
                }
                outcome => {
                    let why = match outcome {
                        Ok(_) => String::from("the answer is about another number of files"),
                        Err(problem) => self.heard(login, problem).detail,
                    };
                    tracing::info!(%session, why, "what was granted is asked for again");
                    self.grants().forget(session);
                    return true;
                }
            }
        }
        forgotten
    }
}

fn rights(decision: &DecisionOutcome) -> Rights {
    match decision {
        DecisionOutcome::Decided { rights, .. } => *rights,
        DecisionOutcome::Refused(_) => Rights::NONE,
    }
}

/// How this terminal stands with the key server.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    shut_out: AtomicBool,
}

impl Service {
    /// Takes note when the key server says that it does not accept this terminal; gives the problem back. Only an answer
    /// of the server counts, not what the way to it may have said.
    pub(crate) fn heard_of_terminal(&self, problem: Problem) -> Problem {
        let answered = problem.status == StatusCode::UNAUTHORIZED.as_u16();
        if answered && problem.code == ProblemCode::TerminalNotAccepted {
            if !self.standing().shut_out.swap(true, Ordering::Relaxed) {
                tracing::error!(why = problem.detail, "the key server does not accept this terminal");
            }
            self.forget_everybody();
        }
        let answered = problem.status == StatusCode::FORBIDDEN.as_u16();
        if answered && problem.code == ProblemCode::TerminalFrozen {
            if !self.standing().shut_out.swap(true, Ordering::Relaxed) {
                tracing::error!(why = problem.detail, "the key server grants nothing to this terminal");
            }
            // Who is logged in stays so: it may be let in again.
            self.grants().clear();
            self.views().forgotten();
        }
        problem
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::Caller;
    use crate::testing::{Differs, Said, Site};
    use tobari_core::proto::api::LoginRequest;

    const CALLER: Caller = Caller { uid: 1 };

    /// A site whose key server answers `/v1/changes` with this, where somebody is logged in.
    fn site(said: impl Fn() -> Said + Send + Sync + 'static) -> Site {
        let site = Site::start(tempfile::tempdir().unwrap(), &[], Differs::default(), move |asked| {
            asked.path.starts_with("/v1/changes?after=7&bulletin=1").then(&said)
        });
        let login =
            LoginRequest { login: String::from("person1"), password: String::from("correct"), totp: None };
        site.service.login(CALLER, &login).unwrap();
        site
    }

    #[test]
    fn a_terminal_that_is_shut_out_forgets_everybody() {
        let refused = |status| {
            let problem = Problem::local(ProblemCode::TerminalNotAccepted, "revoked");
            Said::json(status, &Problem { status, ..problem })
        };
        let revoked = site(move || refused(401));
        revoked.service.follow_changes(7).unwrap_err();
        assert!(revoked.service.login_of(CALLER).is_err());
        // What is not the key server's own answer logs nobody out.
        let other = site(move || Said { status: 401, ..refused(0) });
        other.service.follow_changes(7).unwrap_err();
        assert!(other.service.login_of(CALLER).is_ok());
    }

    #[test]
    fn what_is_told_is_remembered_for_the_next_request() {
        let nothing = Changes { version: 9, bulletin: 1, decisions: Affected::Nobody, stamp: None };
        let site = site(move || Said::json(200, &nothing));
        assert_eq!(site.service.follow_changes(7).unwrap(), 9);
        assert!(site.service.login_of(CALLER).is_ok());
    }

    #[test]
    fn pauses_are_spread_and_bounded() {
        for _ in 0..1000 {
            let length = jittered(LONGEST_PAUSE);
            assert!(length >= LONGEST_PAUSE / 2 && length <= LONGEST_PAUSE);
        }
        assert_eq!(jittered(Duration::ZERO), Duration::ZERO);
    }
}
