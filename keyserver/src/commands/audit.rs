//! `audit verify`: the whole hash chain, from the database itself.

use super::{CommandError, Say, open_store};
use crate::args::StoreArgs;
use crate::audit::chain;
use data_encoding::HEXLOWER;
use tobari_core::message::Message;

pub(super) async fn verify(args: &StoreArgs, say: Say) -> Result<(), CommandError> {
    let store = open_store(args.data_dir.as_deref(), args.store.as_ref()).await?;
    let head = chain::verify(store.as_ref()).await?;
    let hash = HEXLOWER.encode(&head.hash);
    say.line(&Message::new("audit-intact").with("records", head.sequence).with("hash", hash))
}
