//! `audit verify`: the whole hash chain, from the database itself.

use super::say;
use crate::args::StoreArgs;
use crate::audit::chain;
use crate::files;
use crate::store::sqlite::SqliteStore;
use anyhow::Context as _;
use data_encoding::HEXLOWER;

pub(super) async fn verify(args: &StoreArgs) -> anyhow::Result<()> {
    let database = files::database(&args.data_dir);
    let store = SqliteStore::open(&database)
        .await
        .with_context(|| format!("open the database {}", database.display()))?;
    let head = chain::verify(&store).await.context("the audit log is not intact")?;
    say(&format!("intact: {} records, last hash {}", head.sequence, HEXLOWER.encode(&head.hash)))
}
