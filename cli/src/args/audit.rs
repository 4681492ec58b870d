//! `tobari audit` as typed.

use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `tobari audit`.
#[derive(Debug, Subcommand)]
pub enum Audit {
    /// Search the audit log
    Search(Search),
    /// Write the audit log, or a part of it, to a file that can be checked without the key server
    Export(Export),
    /// Check an export, without key server and daemon
    Verify(Verify),
    /// Print the key with which exports are checked; note it elsewhere
    Key,
}

/// `tobari audit search`.
#[derive(Debug, Args)]
pub struct Search {
    /// Only what this person did, or what was done to the person; login name or id
    #[arg(long, value_name = "LOGIN")]
    pub person: Option<String>,
    /// Only this file: a sealed file, or its id
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Only this label, by name or id
    #[arg(long, value_name = "LABEL")]
    pub label: Option<String>,
    /// Only this terminal, by name or id
    #[arg(long, value_name = "TERMINAL")]
    pub terminal: Option<String>,
    /// Only this kind of act, such as grant, refusal, login, create
    #[arg(long, value_name = "ACT")]
    pub act: Option<String>,
    /// Not before this time, such as 2026-11-21 or 2026-11-21T09:00
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Before this time
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Only records after this sequence number
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub after: u64,
    /// At most this many records
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub limit: u32,
}

/// `tobari audit export`.
#[derive(Debug, Args)]
pub struct Export {
    /// New file for the export
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// First record
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub first: u64,
    /// Last record; the last one there is when it is missing
    #[arg(long, value_name = "N")]
    pub last: Option<u64>,
}

/// `tobari audit verify`.
#[derive(Debug, Args)]
pub struct Verify {
    /// The export
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The key that was noted, as "tobari audit key" printed it
    #[arg(long, value_name = "KEY")]
    pub key: String,
    /// What a witness kept: its file of checkpoints, or a system log; may be repeated
    #[arg(long, value_name = "FILE")]
    pub witness: Vec<PathBuf>,
}
