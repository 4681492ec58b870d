//! `tobari lease …` and `tobari admin lease …` as typed.

use super::admin::parse_rights;
use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use std::num::NonZeroU32;
use std::path::PathBuf;
use tobari_core::policy::Rights;
use tobari_core::proto::lease::LeaseState;

/// Files taken along without the key server.
#[derive(Debug, Subcommand)]
pub enum Lease {
    /// Ask for a lease on this terminal; needs the right "offline" and each right asked for
    Request(LeaseRequest),
    /// List your leases
    List,
    /// Show a lease that this terminal holds, with its files
    Show(LeaseNamed),
    /// Refill a lease of a label: it then has the files of the label that there are now
    Refill(LeaseRefill),
    /// Give a lease back: its keys are removed here
    Return(LeaseNamed),
}

/// One lease.
#[derive(Debug, Args)]
pub struct LeaseNamed {
    /// Id, or its beginning
    #[arg(value_name = "LEASE")]
    pub lease: String,
}

/// `tobari lease refill`.
#[derive(Debug, Args)]
pub struct LeaseRefill {
    /// Id, or its beginning; your only lease of a label on this terminal when missing
    #[arg(value_name = "LEASE")]
    pub lease: Option<String>,
    /// Sealed files, and folders: the lease has the files of its label that are below, and no others; the designated folders of
    /// this terminal when missing
    #[arg(value_name = "FILE|DIR")]
    pub paths: Vec<PathBuf>,
}

/// What is to be lent.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("end").required(true).args(["until", "days"]))]
pub struct LeaseWhat {
    /// Sealed files, and folders whose sealed files are all taken as they are now
    #[arg(required_unless_present = "label", value_name = "FILE|DIR")]
    pub paths: Vec<PathBuf>,
    /// All files of this label that there are below, or in the designated folders of this terminal, and those that are created
    /// under the lease; only where the label allows it
    #[arg(long, value_name = "LABEL")]
    pub label: Option<String>,
    /// Until this time, exclusive, as 2026-12-01T09:00:00+09:00
    #[arg(long, value_name = "TIME")]
    pub until: Option<Timestamp>,
    /// For so many days
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=366))]
    pub days: Option<u16>,
    /// From this time on; now when missing
    #[arg(long, value_name = "TIME")]
    pub from: Option<Timestamp>,
    /// How often files may be opened, all together; as often as wanted when missing
    #[arg(long, value_name = "N")]
    pub opens: Option<NonZeroU32>,
    /// Rights, separated by commas
    #[arg(long, value_name = "RIGHTS", value_parser = parse_rights, default_value = "view")]
    pub rights: Rights,
    /// Why, for who decides and for the ledger
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}

/// `tobari lease request`.
#[derive(Debug, Args)]
pub struct LeaseRequest {
    /// What is to be lent.
    #[command(flatten)]
    pub what: LeaseWhat,
}

/// `tobari admin lease`.
#[derive(Debug, Subcommand)]
pub enum AdminLease {
    /// List leases, newest first
    List(AdminLeaseList),
    /// Show one, with its files
    Show(LeaseNamed),
    /// Issue a lease that was asked for
    Approve(LeaseNamed),
    /// Refuse a lease that was asked for
    Refuse(AdminLeaseEnd),
    /// Issue a lease that nobody asked for
    Issue(AdminLeaseIssue),
    /// Take an issued lease back
    Revoke(AdminLeaseEnd),
    /// Print the ledger of what was taken along and what was done with it
    Ledger(AdminLeaseList),
}

/// `tobari admin lease list` and `ledger`.
#[derive(Debug, Args)]
pub struct AdminLeaseList {
    /// Of this person
    #[arg(long, value_name = "LOGIN")]
    pub person: Option<String>,
    /// For this terminal
    #[arg(long, value_name = "TERMINAL")]
    pub terminal: Option<String>,
    /// In this state
    #[arg(long, value_name = "STATE")]
    pub state: Option<State>,
}

/// `tobari admin lease refuse` and `revoke`.
#[derive(Debug, Args)]
pub struct AdminLeaseEnd {
    /// Id, or its beginning
    #[arg(value_name = "LEASE")]
    pub lease: String,
    /// Why
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}

/// `tobari admin lease issue`.
#[derive(Debug, Args)]
pub struct AdminLeaseIssue {
    /// What is to be lent.
    #[command(flatten)]
    pub what: LeaseWhat,
    /// To whom
    #[arg(long, value_name = "LOGIN")]
    pub person: String,
    /// On which terminal; this one when missing
    #[arg(long, value_name = "TERMINAL")]
    pub terminal: Option<String>,
}

/// States of a lease.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum State {
    /// Asked for, not decided
    Requested,
    /// Not given
    Refused,
    /// Given
    Issued,
    /// Given back
    Returned,
    /// Taken back
    Revoked,
}

impl From<State> for LeaseState {
    fn from(state: State) -> Self {
        match state {
            State::Requested => Self::Requested,
            State::Refused => Self::Refused,
            State::Issued => Self::Issued,
            State::Returned => Self::Returned,
            State::Revoked => Self::Revoked,
        }
    }
}
