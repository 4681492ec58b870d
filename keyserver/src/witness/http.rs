//! A witness server, by C2SP tlog-witness: it gets a checkpoint with the proof that it continues the last one it saw, and
//! answers with its signature.

use super::WitnessError;
use crate::audit::proof;
use crate::store::Store;
use data_encoding::BASE64;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;
use tobari_core::audit::{SignedCheckpoint, WitnessKey};

const TIMEOUT: Duration = Duration::from_secs(10);

pub(super) struct HttpSink {
    url: String,
    key: WitnessKey,
    client: Option<reqwest::Client>,
    /// Records that the witness saw last.
    size: u64,
}

impl HttpSink {
    pub(super) fn new(url: String, key: WitnessKey) -> Self {
        Self { url, key, client: client(), size: 0 }
    }

    fn away(&self, why: impl std::fmt::Display) -> WitnessError {
        WitnessError::Away(format!("{}: {why}", self.url))
    }

    pub(super) async fn send(
        &mut self,
        signed: &SignedCheckpoint,
        store: &dyn Store,
    ) -> Result<(), WitnessError> {
        // The second time with the size that the witness named: another server of ours told it more meanwhile.
        for _ in 0..3 {
            if self.size > signed.checkpoint.size {
                return self.is_older(signed, store).await;
            }
            match self.ask(signed, store).await? {
                Answer::Seen => {
                    self.size = signed.checkpoint.size;
                    return Ok(());
                }
                Answer::At(size) => self.size = size,
                Answer::Other => {
                    let place = self.url.clone();
                    return Err(WitnessError::Rewritten { place, size: self.size });
                }
            }
        }
        Err(self.away("it names another size each time"))
    }

    /// It saw more than this checkpoint has. Unless the log has grown meanwhile, the log is older than that.
    async fn is_older(&self, signed: &SignedCheckpoint, store: &dyn Store) -> Result<(), WitnessError> {
        let size = store.audit_head().await?.sequence;
        if size >= self.size {
            return Ok(());
        }
        let (place, epoch) = (self.url.clone(), signed.checkpoint.epoch);
        Err(WitnessError::Older { place, epoch, witnessed: self.size, size })
    }

    async fn ask(&self, signed: &SignedCheckpoint, store: &dyn Store) -> Result<Answer, WitnessError> {
        let mut body = format!("old {}\n", self.size);
        for hash in proof::consistency(store, self.size, signed.checkpoint.size).await? {
            let _ = writeln!(body, "{}", BASE64.encode(&hash));
        }
        body.push('\n');
        body.push_str(&signed.note);
        let client = self.client.as_ref().ok_or_else(|| self.away("no HTTP client"))?;
        let response = client
            .post(format!("{}/add-checkpoint", self.url.trim_end_matches('/')))
            .body(body)
            .send()
            .await
            .map_err(|error| self.away(crate::Causes(&error)))?;
        let status = response.status().as_u16();
        let text = response.text().await.map_err(|error| self.away(error))?;
        match status {
            200 => {
                let signed = signed.checkpoint.text();
                self.key.seen_at(&signed, &text).map_err(|error| self.away(error))?;
                Ok(Answer::Seen)
            }
            409 => text.trim().parse().map(Answer::At).map_err(|error| self.away(error)),
            422 => Ok(Answer::Other),
            status => Err(self.away(format!("it answered {status}: {}", text.trim()))),
        }
    }
}

/// Plain HTTP: what goes there is public, and what comes back is signed. The library wants to know of TLS all the same.
fn client() -> Option<reqwest::Client> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .ok()?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let client = reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy();
    client.redirect(reqwest::redirect::Policy::none()).timeout(TIMEOUT).build().ok()
}

enum Answer {
    /// It signed.
    Seen,
    /// It saw this many records last.
    At(u64),
    /// The proof does not lead from what it saw.
    Other,
}
