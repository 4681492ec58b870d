//! One connection: greeting, then requests one after the other, each answered before the next is read.

use super::requests::{self, Conversation};
use crate::failure::Failure;
use crate::service::{Caller, Service};
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tobari_core::proto::control::{Answer, Event, Request, VERSION};
use tobari_core::proto::frame::{FrameError, receive_frame, send_frame};
use tobari_core::proto::problem::ProblemCode;

/// Most descriptors of any request.
const MOST_DESCRIPTORS: usize = 3;
/// Time between two progress events.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// Serves a connection until it ends.
pub(super) fn run(stream: &UnixStream, caller: Caller, service: &Arc<Service>) {
    let outlet = Outlet::new(stream);
    if !greet(stream, &outlet) {
        return;
    }
    let mut conversation = Conversation::default();
    loop {
        let (request, descriptors) = match receive_frame::<Request>(stream, MOST_DESCRIPTORS) {
            Ok(Some(received)) => received,
            Ok(None) => return,
            Err(error) => return outlet.refuse(&error),
        };
        match requests::handle(service, caller, &mut conversation, request, descriptors, &outlet) {
            None => {}
            Some(Ok(answer)) => outlet.send(&Event::Done { answer }),
            Some(Err(failure)) => {
                let code = failure.problem.code;
                tracing::debug!(uid = caller.uid, ?code, detail = failure.problem.detail, "a request failed");
                outlet.send(&failure.into_event());
            }
        }
        if outlet.is_gone() {
            return;
        }
    }
}

/// The first frame says which protocol the caller speaks.
fn greet(stream: &UnixStream, outlet: &Outlet<'_>) -> bool {
    match receive_frame::<Request>(stream, 0) {
        Ok(Some((Request::Hello { version: VERSION }, _))) => {
            let program = env!("CARGO_PKG_VERSION").to_owned();
            outlet.send(&Event::Done { answer: Answer::Hello { version: VERSION, program } });
            !outlet.is_gone()
        }
        Ok(Some((Request::Hello { version }, _))) => {
            let why = format!(
                "the program speaks version {version} of the control protocol, tobarid speaks {VERSION}"
            );
            outlet.send(&Failure::new(ProblemCode::InvalidRequest, why).into_event());
            false
        }
        Ok(Some(_)) => {
            let why = "the first request of a connection must be 'hello'";
            outlet.send(&Failure::new(ProblemCode::InvalidRequest, why).into_event());
            false
        }
        Ok(None) => false,
        Err(error) => {
            outlet.refuse(&error);
            false
        }
    }
}

/// Where events go.
pub(super) struct Outlet<'a> {
    stream: &'a UnixStream,
    gone: AtomicBool,
    last_progress: Mutex<Instant>,
}

impl<'a> Outlet<'a> {
    fn new(stream: &'a UnixStream) -> Self {
        Self { stream, gone: AtomicBool::new(false), last_progress: Mutex::new(Instant::now()) }
    }

    /// The caller's end of the socket, to notice when it hangs up.
    pub(super) fn caller(&self) -> &'a UnixStream {
        self.stream
    }

    /// Whether the caller went away.
    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    /// Tells that work goes on, unless the last time was a moment ago.
    pub(super) fn progress(&self, done: u64, total: Option<u64>) {
        if let Ok(mut last) = self.last_progress.try_lock()
            && last.elapsed() >= PROGRESS_INTERVAL
        {
            *last = Instant::now();
            self.send(&Event::Progress { done, total });
        }
    }

    /// Tells that something was refused to the program that runs.
    pub(super) fn refused(&self, name: &str, failure: Failure) {
        self.send(&Event::Refused { subject: name.to_owned(), problem: failure.problem });
    }

    fn send(&self, event: &Event) {
        if self.is_gone() {
            return;
        }
        let mut sent = send_frame(self.stream, event, &[]);
        if sent.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::InvalidInput) {
            // Nothing of it was sent; the caller can still be told why.
            let why = "the answer is too long for the control socket; ask for less at a time";
            let failed = Failure::new(ProblemCode::TooLarge, why).into_event();
            sent = send_frame(self.stream, &failed, &[]);
        }
        if let Err(error) = sent {
            tracing::debug!(%error, "a caller is gone");
            self.gone.store(true, Ordering::Relaxed);
        }
    }

    /// Says why the connection is closed, where the caller can be told.
    fn refuse(&self, error: &FrameError) {
        match error {
            FrameError::Truncated | FrameError::Io(_) => {}
            FrameError::TooLarge(_) | FrameError::TooManyDescriptors | FrameError::Json(_) => {
                self.send(&Failure::new(ProblemCode::InvalidRequest, error.to_string()).into_event());
            }
        }
    }
}
