//! `admin audit`: shows records, or recomputes the chain of their hashes here rather than on the key server.

use super::server::Server;
use crate::app::App;
use crate::args::admin::Audit;
use crate::arguments;
use crate::commands::text;
use crate::error::Error;
use serde_json::{Value, json};
use tobari_core::crypto::sha256;
use tobari_core::proto::admin::{AuditPage, AuditRecord};

/// Records asked for at once when verifying.
const PAGE: u32 = 500;
/// The hash before the first record, hexadecimal.
const START: &str = "0000000000000000000000000000000000000000000000000000000000000000";

pub(super) fn run(args: &Audit, server: &mut Server, app: &mut App) -> Result<(), Error> {
    if args.verify { verify(args.after, server, app) } else { show(args, server, app) }
}

fn page(server: &mut Server, after: u64, limit: u32) -> Result<AuditPage, Error> {
    server.get(&format!("/v1/admin/audit?after={after}&limit={limit}"))
}

fn show(args: &Audit, server: &mut Server, app: &mut App) -> Result<(), Error> {
    let page = page(server, args.after, args.limit)?;
    if app.settings.json {
        let records: Vec<Value> = page.records.iter().map(document).collect();
        return app.json(&json!({ "previous_hash": page.previous_hash, "records": records }));
    }
    for record in &page.records {
        let line =
            format!("{}  {}", record.sequence, text::printable(&String::from_utf8_lossy(&record.payload.0)));
        app.line(&line)?;
    }
    Ok(())
}

pub(super) fn document(record: &AuditRecord) -> Value {
    let payload: Value = serde_json::from_slice(&record.payload.0).unwrap_or(Value::Null);
    json!({ "sequence": record.sequence, "hash": record.hash, "record": payload })
}

fn verify(after: u64, server: &mut Server, app: &mut App) -> Result<(), Error> {
    let mut chain: Option<Chain> = None;
    loop {
        let last = chain.as_ref().map_or(after, |chain| chain.sequence);
        let page = page(server, last, PAGE)?;
        let chain = match &mut chain {
            Some(chain) => chain,
            None => chain.insert(Chain { sequence: after, hash: page.previous_hash.clone() }),
        };
        if chain.hash != page.previous_hash || (last == 0 && chain.hash != START) {
            return Err(Error::AuditBroken(chain.sequence));
        }
        for record in &page.records {
            chain.take(record)?;
        }
        // Not until a page is empty: each reading is itself a record.
        if page.records.len() < PAGE as usize {
            let (sequence, hash) = (chain.sequence, chain.hash.clone());
            if app.settings.json {
                return app
                    .json(&json!({ "verified": true, "after": after, "last": sequence, "hash": hash }));
            }
            let count = text::grouped(sequence - after);
            let line = app.text("audit-verified", &arguments! { count: count, last: sequence, hash: hash });
            return app.line(&line);
        }
    }
}

#[derive(Debug)]
struct Chain {
    sequence: u64,
    hash: String,
}

impl Chain {
    fn take(&mut self, record: &AuditRecord) -> Result<(), Error> {
        let broken = || Error::AuditBroken(record.sequence);
        if Some(record.sequence) != self.sequence.checked_add(1) {
            return Err(broken());
        }
        let previous = decode(&self.hash).ok_or_else(broken)?;
        let hash = encode(&sha256(&[&previous, &record.payload.0]));
        if hash != record.hash {
            return Err(broken());
        }
        *self = Self { sequence: record.sequence, hash };
        Ok(())
    }
}

fn encode(hash: &[u8]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    let bytes: Option<Vec<u8>> =
        digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect();
    bytes.filter(|bytes| bytes.len() == 32)
}
