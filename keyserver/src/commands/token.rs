//! `token`: an enrolment token without an administrator's session, for whoever may read the data directory.

use super::{CommandError, Say, open_store};
use crate::args::TokenArgs;
use crate::service::bootstrap_token;
use crate::{files, root_key};
use tobari_core::clock::Clock;
use tobari_core::message::Message;
use tobari_core::proto::admin::EnrolmentTokenInput;

pub(super) async fn token(args: &TokenArgs, clock: &dyn Clock, say: Say) -> Result<(), CommandError> {
    let data_dir = args.store.data_dir.as_deref();
    let store = open_store(data_dir, args.store.store.as_ref()).await?;
    let root_key = root_key::read(&root_key::location(args.root_key_file.as_deref(), data_dir))?;
    let input = EnrolmentTokenInput {
        zone: args.zone.clone(),
        tags: args.tags.clone(),
        valid_seconds: args.valid_seconds,
    };
    let token = bootstrap_token(store, root_key, &input, clock.now()).await?;
    match &args.token_out {
        Some(path) => {
            files::write_new_private(path, format!("{}\n", token.token).as_bytes())
                .map_err(CommandError::write(path))?;
            say.line(&Message::new("token-file").path(path))?;
        }
        None => say.line(&Message::new("token").with("token", &token.token))?,
    }
    say.line(&Message::new("token-life").with("until", token.expires_at))?;
    say.line(&Message::new("fingerprint").with("fingerprint", &token.ca_sha256))
}
