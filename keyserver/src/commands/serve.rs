//! `serve`: refuses to start unless store and audit log are sound.

use super::{CommandError, lock, open_store};
use crate::args::ServeArgs;
use crate::config::Config;
use crate::http::{Server, ServerOptions};
use crate::service::Service;
use crate::{files, root_key};
use std::sync::Arc;
use tobari_core::clock::SystemClock;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

pub(super) async fn serve(args: &ServeArgs) -> Result<(), CommandError> {
    let config = Config::resolve(args)?;
    log_json();
    crate::harden::harden();
    let data_dir = config.data_dir.as_deref();
    let _lock = match (data_dir, &config.store) {
        (Some(data_dir), None) => {
            let database = files::database(data_dir);
            if !database.exists() {
                return Err(CommandError::NoDatabase(database));
            }
            Some(lock(data_dir)?)
        }
        _ => None,
    };
    let root_key = root_key::read(&root_key::location(config.root_key_file.as_deref(), data_dir))?;
    let store = open_store(data_dir, config.store.as_ref()).await?;
    let service = Service::open(store, root_key, Arc::new(SystemClock), config.limits).await?;
    service.show_to(&config.witnesses).await?;
    service.check_before_serving().await?;

    let options = ServerOptions { listen: config.listen, names: config.names };
    let server = Server::bind(service, options).await?;
    // Before anybody is told that it serves: from then on it may be told to end.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tracing::info!(address = %server.address()?, version = env!("CARGO_PKG_VERSION"), "serving");
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        tracing::warn!(%error, "the service manager was not told");
    }
    server
        .run(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::info!("ending");
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        })
        .await;
    Ok(())
}

pub(super) fn log_json() {
    let filter = EnvFilter::try_from_env(files::LOG_FILTER).unwrap_or_else(|_| EnvFilter::new("info"));
    let _ = tracing_subscriber::fmt().json().with_env_filter(filter).with_writer(std::io::stderr).try_init();
}
