//! `tobari admin explain`, `policy`, `invariant` and `request` as typed.

use super::admin::{Named, parse_rights};
use clap::{Args, Subcommand};
use std::ffi::OsString;
use tobari_core::policy::{Protection, Right, Rights};

/// How a change is made. Holds for every command that changes labels, groups, posts, people, rules or invariants.
#[derive(Debug, Clone, Default, Args)]
pub struct How {
    /// Show what the change would give and take, and change nothing
    #[arg(long, global = true)]
    pub dry_run: bool,
    /// Ask a second person to approve the change, for this reason
    #[arg(long, global = true, value_name = "REASON", conflicts_with = "dry_run")]
    pub request: Option<String>,
    /// Why; kept with the version of the policy
    #[arg(long, global = true, value_name = "REASON", conflicts_with_all = ["dry_run", "request"])]
    pub reason: Option<String>,
}

/// `tobari admin explain`.
#[derive(Debug, Args)]
pub struct Explain {
    /// Login name or id
    #[arg(value_name = "PERSON")]
    pub person: String,
    /// A sealed file, or a label by name or id
    #[arg(value_name = "FILE|LABEL")]
    pub subject: OsString,
    /// The right
    #[arg(value_name = "RIGHT")]
    pub right: Right,
    /// The group that owns the file; that of the file when missing
    #[arg(long, value_name = "GROUP")]
    pub group: Option<String>,
    /// Zone of the terminal
    #[arg(long)]
    pub zone: Option<String>,
    /// Tag of the terminal; may be given several times
    #[arg(long = "tag", value_name = "TAG")]
    pub tags: Vec<String>,
    /// As in a session with a second factor
    #[arg(long)]
    pub second_factor: bool,
    /// As on a terminal that keeps its keys so: none, machine or tpm
    #[arg(long, value_name = "PROTECTION", default_value = "none", hide_default_value = true)]
    pub protection: Protection,
}

/// `tobari admin policy`.
#[derive(Debug, Subcommand)]
pub enum Policy {
    /// Show the number of the version, and whether a second person is needed
    Show,
    /// Show what a change would give and take, of leases that are out too; takes the words of the command after "tobari admin"
    Diff(Diff),
    /// Show who changed the policy, when and why
    History(History),
    /// Return to an earlier version
    Restore(Restore),
    /// Say whether what widens access needs a second person
    SecondPerson(SecondPerson),
    /// Set how many files one person may unseal within an hour without a second person
    UnsealLimit(UnsealLimit),
    /// Let one person unseal more for a while; ask for it with --request
    UnsealWindow(UnsealWindow),
}

/// `tobari admin policy diff`.
#[derive(Debug, Args)]
pub struct Diff {
    /// A command, as: rule add --label 社外秘 --post 係長 --allow send
    #[arg(required = true, value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<OsString>,
}

/// `tobari admin policy history`.
#[derive(Debug, Args)]
pub struct History {
    /// Only versions before this one
    #[arg(long, value_name = "VERSION")]
    pub before: Option<u64>,
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=200))]
    pub limit: u32,
}

/// `tobari admin policy restore`.
#[derive(Debug, Args)]
pub struct Restore {
    /// Number of the version
    #[arg(value_name = "VERSION")]
    pub number: u64,
}

/// `tobari admin policy second-person`.
#[derive(Debug, Args)]
pub struct SecondPerson {
    /// Whether it does
    #[arg(value_name = "BOOL", action = clap::ArgAction::Set)]
    pub needed: bool,
}

/// `tobari admin policy unseal-limit`.
#[derive(Debug, Args)]
pub struct UnsealLimit {
    /// Number of files, or none for any number
    #[arg(value_name = "FILES")]
    pub files: Most,
}

/// A number, or none.
#[derive(Debug, Clone, Copy)]
pub struct Most(pub Option<u32>);

impl std::str::FromStr for Most {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "none" { Ok(Self(None)) } else { text.parse().map(|most| Self(Some(most))) }
    }
}

/// `tobari admin policy unseal-window`.
#[derive(Debug, Args)]
pub struct UnsealWindow {
    /// Who
    #[arg(value_name = "PERSON")]
    pub person: String,
    /// How many files
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub files: u32,
    /// For how long after it is applied
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=1440))]
    pub minutes: u32,
}

/// `tobari admin invariant`.
#[derive(Debug, Subcommand)]
pub enum Invariant {
    /// List all
    List,
    /// Show one
    Show(Named),
    /// Add one: these posts never get these rights
    Add(InvariantAdd),
    /// Remove one
    Remove(Named),
}

/// `tobari admin invariant add`.
#[derive(Debug, Args)]
pub struct InvariantAdd {
    /// Name
    pub name: String,
    /// The rights that they never get, separated by commas, or all
    #[arg(long, value_name = "RIGHTS", value_parser = parse_rights)]
    pub never: Rights,
    /// any, a label, or level>=N
    #[arg(long, value_name = "LABELS", default_value = "any")]
    pub label: String,
    /// any, a post, or below:POST
    #[arg(long, value_name = "POSTS", default_value = "any")]
    pub post: String,
    /// any, outside-owner, or a group and all below it
    #[arg(long, value_name = "GROUPS", default_value = "any")]
    pub group: String,
    /// Only on terminals of this zone; may be given several times
    #[arg(long = "zone", value_name = "ZONE")]
    pub zones: Vec<String>,
    /// Only in sessions without a second factor
    #[arg(long)]
    pub without_second_factor: bool,
}

/// `tobari admin request`.
#[derive(Debug, Subcommand)]
pub enum Request {
    /// List all
    List,
    /// Show one, with what it would give and take
    Show(OfRequest),
    /// Approve what somebody else asks for; needs a fresh code
    Approve(Decide),
    /// Refuse, or take back
    Refuse(Decide),
    /// Make the change that was approved; needs a fresh code
    Apply(OfRequest),
}

/// Names one request.
#[derive(Debug, Args)]
pub struct OfRequest {
    /// Id
    #[arg(value_name = "REQUEST")]
    pub request_id: String,
}

/// `tobari admin request approve` and `refuse`.
#[derive(Debug, Args)]
pub struct Decide {
    /// Id
    #[arg(value_name = "REQUEST")]
    pub request_id: String,
    /// Why
    #[arg(long = "because", value_name = "REASON")]
    pub because: String,
}

/// `tobari admin step-up`.
#[derive(Debug, Args)]
pub struct StepUp {
    /// Code of the authenticator application; asked for on a terminal when it is missing
    #[arg(long, value_name = "CODE")]
    pub totp: Option<String>,
}
