//! From a frame to a call of the service: counts the descriptors, keeps the archive that is being put together, and
//! decides nothing else.

use super::connection::Outlet;
use crate::config::Role;
use crate::descriptors::{Sink, Source};
use crate::failure::Failure;
use crate::info::info;
use crate::open::Opening;
use crate::rewrite::{Rewriting, reseal};
use crate::service::{Caller, Service};
use crate::session;
use crate::zip::Archive;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use tobari_core::proto::api::LoginRequest;
use tobari_core::proto::control::{Answer, Request};
use tobari_core::proto::problem::ProblemCode;
use zeroize::Zeroizing;

/// What a connection remembers between requests: the archive that is being put together, or why it cannot be.
#[derive(Default)]
pub(super) struct Conversation {
    archive: Option<Result<Archive, Failure>>,
    /// The batch of new headers that is being put together.
    rewriting: Option<Result<Rewriting, Failure>>,
}

/// Serves one request. None when it is not answered by itself.
pub(super) fn handle(
    service: &Arc<Service>,
    caller: Caller,
    conversation: &mut Conversation,
    request: Request,
    descriptors: Vec<OwnedFd>,
    outlet: &Outlet<'_>,
) -> Option<Result<Answer, Failure>> {
    match request {
        Request::ZipStart { password, legacy } => {
            conversation.archive = Some(start(service, caller, password, legacy, descriptors));
            None
        }
        Request::ZipEntry { path, name } => {
            conversation.add(path, name, descriptors);
            None
        }
        // Of a program that has ended meanwhile.
        Request::Signal { .. } => None,
        Request::ZipFinish => Some(conversation.finish(service, caller, descriptors, outlet)),
        Request::RewriteStart { change } => {
            conversation.rewriting = Some(exactly(descriptors).map(|[]| Rewriting::new(change)));
            None
        }
        Request::RewriteEntry { name } => {
            conversation.add_rewriting(name, descriptors);
            None
        }
        Request::RewriteFinish => Some(conversation.finish_rewriting(service, caller, descriptors, outlet)),
        other => {
            // Whoever asks something else has given the archive up; its descriptors are closed.
            conversation.archive = None;
            conversation.rewriting = None;
            Some(answer(service, caller, other, descriptors, outlet))
        }
    }
}

fn start(
    service: &Service,
    caller: Caller,
    password: String,
    legacy: bool,
    descriptors: Vec<OwnedFd>,
) -> Result<Archive, Failure> {
    let password = Zeroizing::new(password);
    // Here already: an archive holds descriptors and memory of the daemon until it is finished.
    service.needs(Role::View)?;
    service.login_of(caller)?;
    let [sink] = exactly(descriptors)?;
    Archive::new(Sink::empty_file(sink)?, password, legacy)
}

impl Conversation {
    /// Adds a file. The first failure is kept for the end, and with it nothing else.
    fn add(&mut self, path: String, name: String, descriptors: Vec<OwnedFd>) {
        let added = match &mut self.archive {
            Some(Err(_)) => return,
            None => Err(not_started()),
            Some(Ok(archive)) => exactly(descriptors)
                .and_then(|[source]| Source::new(source))
                .map_err(|failure| failure.about(&name))
                .and_then(|source| archive.add(path, name, source)),
        };
        if let Err(failure) = added {
            self.archive = Some(Err(failure));
        }
    }

    fn add_rewriting(&mut self, name: String, descriptors: Vec<OwnedFd>) {
        let added = match &mut self.rewriting {
            Some(Err(_)) => return,
            None => Err(Failure::new(ProblemCode::InvalidRequest, "no batch was started")),
            Some(Ok(batch)) => exactly(descriptors).and_then(|[file]| batch.add(name, file)),
        };
        if let Err(failure) = added {
            self.rewriting = Some(Err(failure));
        }
    }

    fn finish_rewriting(
        &mut self,
        service: &Service,
        caller: Caller,
        descriptors: Vec<OwnedFd>,
        outlet: &Outlet<'_>,
    ) -> Result<Answer, Failure> {
        let none = || Err(Failure::new(ProblemCode::InvalidRequest, "no batch was started"));
        let batch = self.rewriting.take().unwrap_or_else(none)?;
        let [] = exactly(descriptors)?;
        batch.finish(service, caller, &|done, total| outlet.progress(done, total))
    }

    fn finish(
        &mut self,
        service: &Service,
        caller: Caller,
        descriptors: Vec<OwnedFd>,
        outlet: &Outlet<'_>,
    ) -> Result<Answer, Failure> {
        let archive = self.archive.take().unwrap_or_else(|| Err(not_started()))?;
        let [] = exactly(descriptors)?;
        archive.finish(service, caller, &mut |done, total| {
            outlet.progress(done, total);
            !outlet.is_gone()
        })
    }
}

fn not_started() -> Failure {
    Failure::new(ProblemCode::InvalidRequest, "no archive was started")
}

fn answer(
    service: &Arc<Service>,
    caller: Caller,
    request: Request,
    descriptors: Vec<OwnedFd>,
    outlet: &Outlet<'_>,
) -> Result<Answer, Failure> {
    match request {
        Request::Login { login, password, totp } => {
            let [] = exactly(descriptors)?;
            let session = service.login(caller, &LoginRequest { login, password, totp })?;
            Ok(Answer::Session { session })
        }
        Request::Logout => {
            let [] = exactly(descriptors)?;
            service.logout(caller).map(|()| Answer::Nothing)
        }
        Request::Whoami => {
            let [] = exactly(descriptors)?;
            Ok(Answer::Session { session: service.whoami(caller)? })
        }
        Request::Status { unsealed } => {
            let [] = exactly(descriptors)?;
            Ok(Answer::Status { status: Box::new(service.status(caller, unsealed)) })
        }
        Request::Info { name } => {
            let [source] = exactly(descriptors)?;
            let source = Source::new(source).map_err(|failure| failure.about(&name))?;
            Ok(Answer::Info { info: Box::new(info(service, caller, &source, &name)?) })
        }
        Request::Open { name, purpose } => {
            let [source, sink] = exactly(descriptors)?;
            let source = Source::new(source).map_err(|failure| failure.about(&name))?;
            let mut sink = Sink::new(sink, Some(&source), Some(outlet.caller()))
                .map_err(|failure| failure.about(&name))?;
            Opening { caller, source: &source, name: &name }.write(
                service,
                purpose,
                &mut sink,
                &mut |done, total| outlet.progress(done, total),
            )
        }
        Request::Verify { name } => {
            let [source] = exactly(descriptors)?;
            let source = Source::new(source).map_err(|failure| failure.about(&name))?;
            Opening { caller, source: &source, name: &name }
                .verify(service, &mut |done, total| outlet.progress(done, total))
        }
        Request::Reseal { name } => {
            let [source, sink] = exactly(descriptors)?;
            let source = Source::new(source).map_err(|failure| failure.about(&name))?;
            let progress = &mut |done, total| outlet.progress(done, total);
            reseal(service, caller, &name, &source, sink, progress).map_err(|failure| failure.about(&name))
        }
        Request::Run { program } => {
            let streams = exactly(descriptors)?;
            let tell = |name: &str, failure| outlet.refused(name, failure);
            session::run(service, caller, outlet.caller(), *program, streams, &tell)
        }
        Request::Bulletin => {
            let [] = exactly(descriptors)?;
            Ok(service.bulletin_answer())
        }
        Request::Refresh => {
            let [] = exactly(descriptors)?;
            service.refresh()?;
            Ok(service.bulletin_answer())
        }
        Request::ImportBulletin => {
            let [file] = exactly(descriptors)?;
            service.import(file)?;
            Ok(service.bulletin_answer())
        }
        Request::Leases => {
            let [] = exactly(descriptors)?;
            service.leases_of(caller)
        }
        Request::LeaseReturn { lease } => {
            let [] = exactly(descriptors)?;
            service.return_lease(caller, lease)
        }
        Request::Forward { method, path, body } => {
            let [] = exactly(descriptors)?;
            service.forward(caller, &method, &path, body)
        }
        Request::Hello { .. }
        | Request::Signal { .. }
        | Request::ZipStart { .. }
        | Request::ZipEntry { .. }
        | Request::ZipFinish
        | Request::RewriteStart { .. }
        | Request::RewriteEntry { .. }
        | Request::RewriteFinish => {
            Err(Failure::new(ProblemCode::InvalidRequest, "the request does not belong here"))
        }
    }
}

/// The descriptors of a request, which must be as many as it takes.
fn exactly<const N: usize>(descriptors: Vec<OwnedFd>) -> Result<[OwnedFd; N], Failure> {
    let count = descriptors.len();
    descriptors.try_into().map_err(|_| {
        Failure::new(
            ProblemCode::InvalidRequest,
            format!("the request takes {N} file descriptors, not {count}"),
        )
    })
}
