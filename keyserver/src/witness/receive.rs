//! The other side: a witness (`tobari-keyserver witness`). It signs a checkpoint only if that continues the last one that it
//! saw of the same log, and remembers it before it answers. It has no secret of the log's organisation and no right in it.

use crate::files;
use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::routing::post;
use data_encoding::{BASE64, HEXLOWER};
use std::collections::HashMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tobari_core::audit::{Checkpoint, Hash, LogKey, Witness, is_consistent, origin, read_witnesses};
use tobari_core::clock::Clock;
use tobari_core::crypto::SigningKey;
use zeroize::Zeroizing;

/// Longest request, in bytes; a checkpoint has at most 63 hashes beside it.
const MAX_BODY: usize = 64 * 1024;
/// The signing key's seed, in hexadecimal.
const KEY: &str = "witness.key";
/// All checkpoints that were signed, one after the other.
const SEEN: &str = "checkpoints";

/// Why the witness cannot work.
#[derive(Debug, thiserror::Error)]
pub enum ReceiverError {
    /// A file of its folder.
    #[error("{path}: {detail}")]
    Folder {
        /// The file.
        path: PathBuf,
        /// Why.
        detail: String,
    },
}

/// A witness of one log.
pub struct Receiver {
    log: LogKey,
    witness: Witness,
    clock: Arc<dyn Clock>,
    seen: Mutex<Seen>,
}

struct Seen {
    path: PathBuf,
    /// The last of each origin.
    last: HashMap<String, Checkpoint>,
}

impl Receiver {
    /// Opens the witness in a folder, or makes one there: its key and what it saw.
    ///
    /// # Errors
    /// The folder cannot be used, or what is in it was changed.
    pub fn open(
        folder: &Path,
        name: &str,
        log: LogKey,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ReceiverError> {
        let key = folder.join(KEY);
        let fault = |path: &Path, detail: String| ReceiverError::Folder { path: path.to_owned(), detail };
        if !key.exists() {
            let made = SigningKey::generate().map_err(|error| fault(&key, error.to_string()))?;
            let text = Zeroizing::new(format!("{}\n", HEXLOWER.encode(&made.export())));
            files::write_new_private(&key, text.as_bytes())
                .map_err(|error| fault(&key, error.to_string()))?;
        }
        let text = std::fs::read_to_string(&key)
            .map(Zeroizing::new)
            .map_err(|error| fault(&key, error.to_string()))?;
        let seed = HEXLOWER.decode(text.trim().as_bytes()).map(Zeroizing::new);
        let seed = seed.map_err(|_| fault(&key, String::from("does not hold a key")))?;
        let signing = SigningKey::import(&seed).map_err(|error| fault(&key, error.to_string()))?;
        let witness = Witness::new(name, signing).map_err(|error| fault(&key, error.to_string()))?;

        let path = folder.join(SEEN);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(fault(&path, error.to_string())),
        };
        let mut last = HashMap::new();
        for seen in read_witnesses(&text, &log).map_err(|error| fault(&path, error.to_string()))? {
            last.insert(origin(seen.organisation, seen.epoch), seen);
        }
        Ok(Self { log, witness, clock, seen: Mutex::new(Seen { path, last }) })
    }

    /// What its signatures are checked with.
    pub fn key(&self) -> String {
        self.witness.public().to_string()
    }

    /// The one request of a witness: `POST /add-checkpoint`.
    pub fn router(self: Arc<Self>) -> Router {
        Router::new()
            .route("/add-checkpoint", post(add))
            .layer(DefaultBodyLimit::max(MAX_BODY))
            .with_state(self)
    }

    fn add(&self, body: &str) -> Result<String, (StatusCode, String)> {
        let bad = |why: &str| (StatusCode::BAD_REQUEST, why.to_owned());
        let (head, note) = body.split_once("\n\n").ok_or_else(|| bad("not a checkpoint with its proof"))?;
        let mut lines = head.lines();
        let old = lines.next().and_then(|line| line.strip_prefix("old ")?.parse::<u64>().ok());
        let old = old.ok_or_else(|| bad("the first line must be: old SIZE"))?;
        let proof: Option<Vec<Hash>> =
            lines.map(|line| BASE64.decode(line.as_bytes()).ok()?.try_into().ok()).collect();
        let proof = proof.ok_or_else(|| bad("not a proof"))?;
        let new =
            Checkpoint::open(note, &self.log).map_err(|error| (StatusCode::FORBIDDEN, error.to_string()))?;
        if old > new.size {
            return Err(bad("the old size is larger than the new one"));
        }
        let name = origin(new.organisation, new.epoch);

        // One at a time: what was seen, compared and written is one step.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let size = seen.last.get(&name).map_or(0, |last| last.size);
        if size != old {
            return Err((StatusCode::CONFLICT, format!("{size}\n")));
        }
        if let Some(last) = seen.last.get(&name)
            && !is_consistent((last.size, &last.root), (new.size, &new.root), &proof)
        {
            return Err((StatusCode::UNPROCESSABLE_ENTITY, String::from("the log was rewritten\n")));
        }
        let text = new.text();
        if seen.last.get(&name) != Some(&new) {
            let written =
                std::fs::File::options().create(true).append(true).open(&seen.path).and_then(|mut file| {
                    file.write_all(format!("{note}\n").as_bytes()).and_then(|()| file.sync_all())
                });
            written.map_err(|error| {
                tracing::error!(%error, "a checkpoint was not written");
                (StatusCode::INTERNAL_SERVER_ERROR, String::from("the checkpoint was not written\n"))
            })?;
            seen.last.insert(name, new);
        }
        let now = u64::try_from(self.clock.now().as_second()).unwrap_or(0);
        Ok(self.witness.cosign(&text, now))
    }
}

async fn add(State(receiver): State<Arc<Receiver>>, body: String) -> Result<String, (StatusCode, String)> {
    receiver.add(&body)
}
