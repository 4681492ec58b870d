//! `witness`: the other side of the audit log's checkpoints, on another machine and under other hands.

use super::serve::log_json;
use super::{CommandError, Say};
use crate::args::WitnessArgs;
use crate::files;
use crate::http::ServeError;
use crate::witness::receive::Receiver;
use std::sync::Arc;
use tobari_core::audit::LogKey;
use tobari_core::clock::SystemClock;
use tobari_core::message::Message;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

pub(super) async fn witness(args: &WitnessArgs, say: Say) -> Result<(), CommandError> {
    log_json();
    let log: LogKey = args.log.parse().map_err(|_| CommandError::LogKey(args.log.clone()))?;
    let receiver = Arc::new(Receiver::open(&args.folder, &args.name, log, Arc::new(SystemClock))?);
    let key = receiver.key();
    let failed = |source| ServeError::Listen { address: args.listen, source };
    let listener = TcpListener::bind(args.listen).await.map_err(failed)?;
    let address = listener.local_addr()?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    if let Some(path) = &args.key_out {
        let text = format!("{key}\n{address}\n");
        files::write_new_private(path, text.as_bytes()).map_err(CommandError::write(path))?;
    }
    say.line(&Message::new("witness-key").with("key", key))?;
    tracing::info!(%address, "witnessing");
    axum::serve(listener, receiver.router())
        .with_graceful_shutdown(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        })
        .await
        .map_err(CommandError::from)
}
