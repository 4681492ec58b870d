//! The client of the daemon's control socket. One connection, one request after the other.

use crate::error::Error;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::BorrowedFd;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};
use tobari_core::ids::TerminalId;
use tobari_core::proto::admin::is_change;
use tobari_core::proto::bulletin::Bulletin;
use tobari_core::proto::control::{Answer, Event, Request, VERSION};
use tobari_core::proto::frame::{FrameError, receive_frame, send_frame};
use tobari_core::proto::problem::{Problem, ProblemCode};

/// How often somebody is told that there is no answer yet.
const TOLD_EVERY: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// Told for how long an answer has been waited for, again and again, and once nothing when it is there.
pub type WhileWaiting = Box<dyn FnMut(Option<Duration>)>;

/// A connection to `tobarid`.
pub struct Client {
    stream: UnixStream,
    waiting: Option<WhileWaiting>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("stream", &self.stream).finish_non_exhaustive()
    }
}

/// Another hand on the connection.
#[derive(Debug)]
pub struct Sender(UnixStream);

impl Sender {
    /// Sends a request that is not answered.
    ///
    /// # Errors
    /// When the daemon is gone.
    pub fn send(&self, request: &Request) -> io::Result<()> {
        send_frame(&self.0, request, &[])
    }
}

/// The bulletin and whose terminal this is.
#[derive(Debug)]
pub struct Notice {
    /// What the organisation says.
    pub bulletin: Bulletin,
    /// This terminal.
    pub terminal: TerminalId,
}

impl Client {
    /// Connects and agrees on the version.
    ///
    /// # Errors
    /// [`Error::DaemonUnreachable`] with the socket's path; [`Error::DaemonVersion`].
    pub fn connect(socket: &Path) -> Result<Self, Error> {
        let unreachable = |source| Error::DaemonUnreachable { socket: socket.to_owned(), source };
        let stream = UnixStream::connect(socket).map_err(unreachable)?;
        let mut client = Self { stream, waiting: None };
        match client.ask(&Request::Hello { version: VERSION }, &[])? {
            Answer::Hello { version, .. } if version == VERSION => Ok(client),
            Answer::Hello { version, program } => Err(Error::DaemonVersion { version, program }),
            _ => Err(Error::DaemonAnswer),
        }
    }

    /// Sends a request with its descriptors and waits for its answer.
    ///
    /// # Errors
    /// [`Error::Problem`] as the daemon says; [`Error::DaemonLost`] when it goes away.
    pub fn ask(&mut self, request: &Request, descriptors: &[BorrowedFd<'_>]) -> Result<Answer, Error> {
        self.ask_with(request, descriptors, &mut |_, _| {})
    }

    /// [`Client::ask`], and tells `progress` the bytes done and, where known, the bytes in all.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub fn ask_with(
        &mut self,
        request: &Request,
        descriptors: &[BorrowedFd<'_>],
        progress: &mut dyn FnMut(u64, Option<u64>),
    ) -> Result<Answer, Error> {
        self.converse(request, descriptors, &mut |event| {
            if let Event::Progress { done, total } = event {
                progress(done, total);
            }
        })
    }

    /// [`Client::ask`], and gives `heard` what the daemon says before its answer.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub fn converse(
        &mut self,
        request: &Request,
        descriptors: &[BorrowedFd<'_>],
        heard: &mut dyn FnMut(Event),
    ) -> Result<Answer, Error> {
        self.send(request, descriptors)?;
        self.hear(heard)
    }

    /// What the daemon says to a request that was sent.
    fn hear(&mut self, heard: &mut dyn FnMut(Event)) -> Result<Answer, Error> {
        loop {
            self.wait();
            let (event, _) = match receive_frame::<Event>(&self.stream, 0) {
                Ok(Some(frame)) => frame,
                Ok(None) => return Err(Error::DaemonLost(io::ErrorKind::UnexpectedEof.into())),
                Err(FrameError::Io(error)) => return Err(Error::DaemonLost(error)),
                Err(FrameError::Truncated) => {
                    return Err(Error::DaemonLost(io::ErrorKind::UnexpectedEof.into()));
                }
                Err(FrameError::TooLarge(_) | FrameError::TooManyDescriptors | FrameError::Json(_)) => {
                    return Err(Error::DaemonAnswer);
                }
            };
            match event {
                event @ (Event::Progress { .. } | Event::Refused { .. }) => heard(event),
                Event::Done { answer } => return Ok(answer),
                Event::Failed { problem, subject, rights, reasons, particulars } => {
                    return Err(Error::refused(problem, subject, rights, reasons, particulars));
                }
            }
        }
    }

    /// Has `waiting` told from now on how long an answer is in coming.
    pub fn tell(&mut self, waiting: WhileWaiting) {
        self.waiting = Some(waiting);
    }

    /// Waits until there is something to read, or the socket has failed, which reading it tells.
    fn wait(&mut self) {
        let Some(waiting) = &mut self.waiting else { return };
        let begin = Instant::now();
        let mut told = false;
        loop {
            match poll(&mut [PollFd::new(&self.stream, PollFlags::IN)], Some(&TOLD_EVERY)) {
                Ok(0) => {
                    told = true;
                    waiting(Some(begin.elapsed()));
                }
                Err(rustix::io::Errno::INTR) => {}
                Ok(_) | Err(_) => break,
            }
        }
        if told {
            waiting(None);
        }
    }

    /// Sends a request that is not answered by itself.
    ///
    /// # Errors
    /// [`Error::DaemonLost`].
    pub fn send(&mut self, request: &Request, descriptors: &[BorrowedFd<'_>]) -> Result<(), Error> {
        match send_frame(&self.stream, request, descriptors) {
            // The daemon may have refused and closed; what it said still waits to be read.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.last_words(error),
            other => other.map_err(Error::DaemonLost),
        }
    }

    fn last_words(&mut self, error: io::Error) -> Result<(), Error> {
        match receive_frame::<Event>(&self.stream, 0) {
            Ok(Some((Event::Failed { problem, subject, rights, reasons, particulars }, _))) => {
                Err(Error::refused(problem, subject, rights, reasons, particulars))
            }
            _ => Err(Error::DaemonLost(error)),
        }
    }

    /// What sends requests that are not answered, while an answer is waited for.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn sender(&self) -> io::Result<Sender> {
        Ok(Sender(self.stream.try_clone()?))
    }

    /// The bulletin in force.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub fn notice(&mut self) -> Result<Notice, Error> {
        match self.ask(&Request::Bulletin, &[])? {
            Answer::Bulletin { bulletin, terminal } => Ok(Notice { bulletin: *bulletin, terminal }),
            _ => Err(Error::DaemonAnswer),
        }
    }

    /// Sends a request to the key server in the caller's session and gives the body of a successful answer.
    ///
    /// # Errors
    /// [`Error::Problem`] as the key server says, and as [`Client::ask`]; when the daemon goes away with a change, `OutcomeUnknown`.
    pub fn forward(
        &mut self,
        method: &str,
        path: &str,
        body: Option<serde_json::Value>,
    ) -> Result<serde_json::Value, Error> {
        let request = Request::Forward { method: method.to_owned(), path: path.to_owned(), body };
        self.send(&request, &[])?;
        let answer = self.hear(&mut |_| {}).map_err(|error| match error {
            Error::DaemonLost(source) if is_change(method, path) => {
                let why = format!("the connection to tobarid broke off: {source}");
                Problem::local(ProblemCode::OutcomeUnknown, why).into()
            }
            error => error,
        });
        let Answer::Forwarded { status, body } = answer? else {
            return Err(Error::DaemonAnswer);
        };
        if status < 400 {
            return Ok(body);
        }
        let problem = serde_json::from_value(body).unwrap_or_else(|_| Problem {
            status,
            ..Problem::local(
                ProblemCode::Internal,
                format!("the key server answered {method} {path} with {status}"),
            )
        });
        Err(problem.into())
    }
}
