//! `run`: a program in a confined session. The daemon starts it with this process's own streams; signals that reach this
//! process are passed on, and its exit code is the program's.

use crate::app::App;
use crate::args::Run;
use crate::arguments;
use crate::client::Client;
use crate::commands::{seal, text};
use crate::desktop::Notifier;
use crate::error::{Action, Error};
use signal_hook::consts::{
    SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGSTOP, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2, SIGWINCH,
};
use signal_hook::iterator::{Handle, Signals};
use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::thread::JoinHandle;
use tobari_core::ids::LabelId;
use tobari_core::proto::base64::Base64;
use tobari_core::proto::control::{Answer, Event, Program, Request};

/// Signals that are passed on. Ctrl-Z stops the program, which has no terminal of its own to hear it from, and then this process.
const PASSED_ON: [i32; 9] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH, SIGCONT, SIGTSTP];

/// `tobari run`.
pub(super) fn run(args: Run, app: &mut App) -> Result<(), Error> {
    let mut client = app.client()?;
    let label = label(&mut client, args.label.as_deref())?;
    start(app, client, args.command, label, args.print)
}

/// The label that was typed.
pub(super) fn label(client: &mut Client, typed: Option<&str>) -> Result<Option<LabelId>, Error> {
    let Some(typed) = typed else { return Ok(None) };
    seal::find_label(&client.notice()?, typed).map(Some)
}

/// Runs `command` in a session, and ends as it ends.
pub(super) fn start(
    app: &mut App,
    mut client: Client,
    command: Vec<OsString>,
    label: Option<LabelId>,
    print: bool,
) -> Result<(), Error> {
    let bytes = |text: &std::ffi::OsStr| Base64(text.as_bytes().to_vec());
    let directory = std::env::current_dir().map_err(Action::Open.failed(Path::new(".")))?;
    let mut environment: Vec<_> = app.console.variables.iter().collect();
    environment.sort();
    let program = Program {
        arguments: command.iter().map(|word| bytes(word)).collect(),
        environment: environment
            .into_iter()
            .map(|(name, value)| (bytes(name.as_ref()), bytes(value)))
            .collect(),
        directory: bytes(directory.as_os_str()),
        label,
        print,
    };
    let request = Request::Run { program: Box::new(program) };
    let (input, output, errors) = (&app.console.input, &app.console.output, &app.console.errors);
    let streams = [input, output, errors].map(std::fs::File::try_clone);
    let mut kept = Vec::new();
    for stream in streams {
        kept.push(stream.map_err(Action::Open.failed(Path::new("-")))?);
    }
    let forwarder = Forwarder::start(&client)?;
    let descriptors: Vec<_> = kept.iter().map(|stream| stream.as_fd()).collect();
    let mut refused = Vec::new();
    let mut notifier = Notifier::default();
    let ended = client.converse(&request, &descriptors, &mut |event| {
        if let Event::Refused { subject, problem } = event {
            let message = Error::from(problem).message(app.settings.language);
            let arguments = arguments! { path: text::path(Path::new(&subject)), why: &message };
            let text = app.text("warning-refused", &arguments);
            notifier.show(&app.console, &text);
            // On the program's own screen a message would only be in the way.
            if app.console.errors.is_terminal() {
                refused.push((subject, message))
            } else {
                warn(app, &subject, &message)
            }
        }
    });
    forwarder.stop();
    refused.dedup();
    for (subject, message) in refused {
        warn(app, &subject, &message);
    }
    match ended? {
        Answer::Ended { code } => {
            app.program_ended(code);
            Ok(())
        }
        _ => Err(Error::DaemonAnswer),
    }
}

/// Tells what was refused.
fn warn(app: &mut App, subject: &str, message: &str) {
    app.warn("warning-refused", &arguments! { path: text::path(Path::new(subject)), why: message });
}

/// Passes signals on while a program runs.
struct Forwarder {
    handle: Handle,
    thread: JoinHandle<()>,
}

impl Forwarder {
    fn start(client: &Client) -> Result<Self, Error> {
        let failed = Action::Open.failed(Path::new("-"));
        let start = || {
            let mut signals = Signals::new(PASSED_ON)?;
            let handle = signals.handle();
            let sender = client.sender()?;
            let thread = std::thread::Builder::new().name(String::from("signals")).spawn(move || {
                for signal in signals.forever() {
                    let stops = signal == SIGTSTP;
                    let signal = if stops { SIGSTOP } else { signal };
                    let _ended_already = sender.send(&Request::Signal { signal });
                    if stops {
                        // The shell sees that its job is stopped; `fg` and `bg` continue it, and with SIGCONT the program.
                        let _cannot_fail = signal_hook::low_level::emulate_default_handler(SIGTSTP);
                    }
                }
            })?;
            Ok(Self { handle, thread })
        };
        start().map_err(failed)
    }

    fn stop(self) {
        self.handle.close();
        let _ended = self.thread.join();
    }
}
