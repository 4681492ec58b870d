//! From a frame to a call of the service: counts the descriptors, keeps the archive that is being put together, and
//! decides nothing else.

use super::connection::Outlet;
use crate::failure::Failure;
use crate::service::{Caller, Service};
use std::os::fd::OwnedFd;
use tobari_core::proto::api::LoginRequest;
use tobari_core::proto::control::{Answer, Request};
use tobari_core::proto::problem::ProblemCode;

/// What a connection remembers between requests.
#[derive(Default)]
pub(super) struct Conversation {}

/// Serves one request. None when it is not answered by itself.
pub(super) fn handle(
    service: &Service,
    caller: Caller,
    conversation: &mut Conversation,
    request: Request,
    descriptors: Vec<OwnedFd>,
    outlet: &Outlet<'_>,
) -> Option<Result<Answer, Failure>> {
    Some(answer(service, caller, request, descriptors, outlet))
}

fn answer(
    service: &Service,
    caller: Caller,
    request: Request,
    descriptors: Vec<OwnedFd>,
    _outlet: &Outlet<'_>,
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
        Request::Bulletin => {
            let [] = exactly(descriptors)?;
            Ok(service.bulletin_answer())
        }
        Request::Refresh => {
            let [] = exactly(descriptors)?;
            service.refresh()?;
            Ok(service.bulletin_answer())
        }
        Request::Forward { method, path, body } => {
            let [] = exactly(descriptors)?;
            service.forward(caller, &method, &path, body)
        }
        _ => Err(Failure::new(ProblemCode::InvalidRequest, "this request is not known here")),
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
