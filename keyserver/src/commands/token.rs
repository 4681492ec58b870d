//! `token`: an enrolment token without an administrator's session, for whoever may read the data directory.

use super::say;
use crate::args::TokenArgs;
use crate::service::bootstrap_token;
use crate::store::Store;
use crate::store::sqlite::SqliteStore;
use crate::{files, root_key};
use anyhow::Context as _;
use std::sync::Arc;
use tobari_core::clock::Clock;
use tobari_core::proto::admin::EnrolmentTokenInput;

pub(super) async fn token(args: &TokenArgs, clock: &dyn Clock) -> anyhow::Result<()> {
    let data_dir = &args.store.data_dir;
    let root_key = root_key::read(&root_key::location(args.root_key_file.as_deref(), data_dir))?;
    let database = files::database(data_dir);
    let store = SqliteStore::open(&database)
        .await
        .with_context(|| format!("open the database {}", database.display()))?;
    let store: Arc<dyn Store> = Arc::new(store);
    let input = EnrolmentTokenInput {
        zone: args.zone.clone(),
        tags: args.tags.clone(),
        valid_seconds: args.valid_seconds,
    };
    let token = bootstrap_token(store, root_key, &input, clock.now()).await?;
    match &args.token_out {
        Some(path) => {
            files::write_new_private(path, format!("{}\n", token.token).as_bytes())
                .with_context(|| format!("write the token to {}", path.display()))?;
            say(&format!("enrolment token:   in {}", path.display()))?;
        }
        None => say(&format!("enrolment token:   {}", token.token))?,
    }
    say(&format!("                   good once, until {}", token.expires_at))?;
    say(&format!("CA SHA-256:        {}", token.ca_sha256))
}
