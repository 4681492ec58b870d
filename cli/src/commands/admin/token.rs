//! `admin token`.

use super::server::Server;
use crate::app::App;
use crate::args::admin::Token;
use crate::arguments;
use crate::commands::text;
use crate::error::Error;
use tobari_core::proto::admin::{EnrolmentToken, EnrolmentTokenInput};

pub(super) fn run(args: Token, server: &mut Server, app: &mut App) -> Result<(), Error> {
    let input = EnrolmentTokenInput { zone: args.zone, tags: args.tags, valid_seconds: args.valid_seconds };
    let token: EnrolmentToken = server.post("enrolment-tokens", &input)?;
    if app.settings.json {
        return app.json(&token);
    }
    app.line(&token.token)?;
    let arguments = arguments! { expires: text::time(app, token.expires_at), fingerprint: token.ca_sha256 };
    app.note("token-made", &arguments);
    Ok(())
}
