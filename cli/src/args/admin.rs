//! `tobari admin …` as typed.

use super::policy;
use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use std::path::PathBuf;
use tobari_core::policy::{Protection, Right, Rights};
use tobari_core::proto::admin;

/// What to administer. Objects are named by their name or their id; groups by their path, as 総務部/人事課.
#[derive(Debug, Subcommand)]
pub enum Admin {
    /// Labels (classifications) and their keys
    #[command(subcommand)]
    Label(Label),
    /// Groups (departments)
    #[command(subcommand)]
    Group(Group),
    /// Posts
    #[command(subcommand)]
    Post(Post),
    /// People
    #[command(subcommand)]
    Person(Person),
    /// Rules: who may do what with which label
    #[command(subcommand)]
    Rule(Rule),
    /// Designated folders: what lands in them is sealed
    #[command(subcommand)]
    Folder(Folder),
    /// Enrolled terminals
    #[command(subcommand)]
    Terminal(Terminal),
    /// Stop a label or a single file at once, everywhere; see and lift what is stopped
    #[command(subcommand)]
    Revoke(Revoke),
    /// The signed bulletin: keys, folders and revocations
    #[command(subcommand)]
    Bulletin(Bulletin),
    /// Leases: what people take along to open without the key server
    #[command(subcommand)]
    Lease(super::lease::AdminLease),
    /// Make a one-time token to enrol a terminal
    Token(Token),
    /// Ready-made labels, posts and rules
    #[command(subcommand)]
    Preset(Preset),
    /// Show whether a person may do something with a file, and which rules say so
    Explain(policy::Explain),
    /// Versions of the policy, and what a change would give and take
    #[command(subcommand)]
    Policy(policy::Policy),
    /// What no change of the policy may ever bring
    #[command(subcommand)]
    Invariant(policy::Invariant),
    /// Changes that wait for a second person
    #[command(subcommand)]
    Request(policy::Request),
    /// Show a fresh code of your authenticator; it counts for five minutes
    StepUp(policy::StepUp),
    /// Give sealed files another label; needs the right "relabel"
    Relabel(Relabel),
    /// Wrap the keys of sealed files for their label's newest key; needs the right "relabel"
    Rewrap(Paths),
    /// Seal the contents of sealed files anew, under new keys; needs the right "relabel"
    Reseal(Paths),
    /// Show the audit log
    Audit(Audit),
}

/// `tobari admin relabel`.
#[derive(Debug, Args)]
pub struct Relabel {
    /// Files and folders
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// The new label, by name or id
    #[arg(long, value_name = "LABEL")]
    pub label: String,
}

/// `tobari admin rewrap` and `reseal`.
#[derive(Debug, Args)]
pub struct Paths {
    /// Files and folders
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
}

/// Names one object.
#[derive(Debug, Args)]
pub struct Named {
    /// Name or id
    #[arg(value_name = "NAME")]
    pub name: String,
}

/// `tobari admin label`.
#[derive(Debug, Subcommand)]
pub enum Label {
    /// List all
    List,
    /// Show one
    Show(Named),
    /// Add one; its key is made
    Add(LabelAdd),
    /// Change one
    Set(LabelSet),
    /// Make its next key; what is sealed from now on is for that
    Rotate(Named),
    /// Take an earlier key away for good: what is still sealed for it opens with the recovery key alone
    Retire(LabelRetire),
    /// Remove one
    Remove(Named),
}

/// `tobari admin label add`.
#[derive(Debug, Args)]
pub struct LabelAdd {
    /// Name
    pub name: String,
    /// Level, 0 (public) to 1000
    #[arg(long, value_parser = clap::value_parser!(u16).range(0..=1000))]
    pub level: u16,
    /// How its key is made
    #[arg(long, value_enum, default_value = "rsa2048")]
    pub key_kind: KeyKind,
    /// Let password-ZIPs of its files use the weak old encryption
    #[arg(long)]
    pub allow_legacy_zip: bool,
    /// Let people ask for a lease of all its files at once
    #[arg(long)]
    pub lease_by_label: bool,
    /// Open its files without the key server only while revocations were confirmed within so many hours
    #[arg(long, value_name = "HOURS", value_parser = clap::value_parser!(u32).range(1..=8784))]
    pub max_bulletin_age_hours: Option<u32>,
}

/// `tobari admin label retire`.
#[derive(Debug, Args)]
pub struct LabelRetire {
    /// Name or id
    #[arg(value_name = "LABEL")]
    pub target: String,
    /// Generation of the key; never the current one
    #[arg(value_name = "GENERATION", value_parser = clap::value_parser!(u32).range(1..))]
    pub generation: u32,
    /// Also while files are known to need it; takes a second person (--request)
    #[arg(long)]
    pub force: bool,
}

/// `tobari admin label set`.
#[derive(Debug, Args)]
pub struct LabelSet {
    /// Name or id
    #[arg(value_name = "LABEL")]
    pub target: String,
    /// New name
    #[arg(long)]
    pub name: Option<String>,
    /// New level, 0 (public) to 1000
    #[arg(long, value_parser = clap::value_parser!(u16).range(0..=1000))]
    pub level: Option<u16>,
    /// Whether password-ZIPs of its files may use the weak old encryption
    #[arg(long, value_name = "BOOL")]
    pub allow_legacy_zip: Option<bool>,
    /// Whether people may ask for a lease of all its files at once
    #[arg(long, value_name = "BOOL")]
    pub lease_by_label: Option<bool>,
    /// Open its files without the key server only while revocations were confirmed within so many hours; none: however long ago
    #[arg(long, value_name = "HOURS")]
    pub max_bulletin_age_hours: Option<policy::Most>,
}

/// How a label's key is made.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum KeyKind {
    /// RSA-2048 with OAEP
    Rsa2048,
    /// RSA-2048 and ML-KEM-768; both are needed to open
    Rsa2048Mlkem768,
}

impl From<KeyKind> for admin::KeyKind {
    fn from(kind: KeyKind) -> Self {
        match kind {
            KeyKind::Rsa2048 => Self::Rsa2048,
            KeyKind::Rsa2048Mlkem768 => Self::Rsa2048Mlkem768,
        }
    }
}

/// `tobari admin group`.
#[derive(Debug, Subcommand)]
pub enum Group {
    /// List all
    List,
    /// Show one
    Show(Named),
    /// Add one
    Add(GroupAdd),
    /// Change one
    Set(GroupSet),
    /// Remove one
    Remove(Named),
}

/// `tobari admin group add`.
#[derive(Debug, Args)]
pub struct GroupAdd {
    /// Name, or path below an existing group as 総務部/人事課
    pub name: String,
    /// The group above
    #[arg(long, value_name = "GROUP")]
    pub parent: Option<String>,
}

/// `tobari admin group set`.
#[derive(Debug, Args)]
pub struct GroupSet {
    /// Path or id
    #[arg(value_name = "GROUP")]
    pub target: String,
    /// New name
    #[arg(long)]
    pub name: Option<String>,
    /// The new group above
    #[arg(long, value_name = "GROUP", conflicts_with = "root")]
    pub parent: Option<String>,
    /// Make it a root
    #[arg(long)]
    pub root: bool,
}

/// `tobari admin post`.
#[derive(Debug, Subcommand)]
pub enum Post {
    /// List all
    List,
    /// Show one
    Show(Named),
    /// Add one
    Add(PostAdd),
    /// Change one
    Set(PostSet),
    /// Remove one
    Remove(Named),
}

/// `tobari admin post add`.
#[derive(Debug, Args)]
pub struct PostAdd {
    /// Name
    pub name: String,
    /// Rank, 0 to 1000; higher is higher
    #[arg(long, value_parser = clap::value_parser!(u16).range(0..=1000))]
    pub rank: u16,
}

/// `tobari admin post set`.
#[derive(Debug, Args)]
pub struct PostSet {
    /// Name or id
    #[arg(value_name = "POST")]
    pub target: String,
    /// New name
    #[arg(long)]
    pub name: Option<String>,
    /// New rank, 0 to 1000
    #[arg(long, value_parser = clap::value_parser!(u16).range(0..=1000))]
    pub rank: Option<u16>,
}

/// `tobari admin person`.
#[derive(Debug, Subcommand)]
pub enum Person {
    /// List all
    List,
    /// Show one
    Show(Named),
    /// Add one
    Add(PersonAdd),
    /// Change one
    Set(PersonSet),
    /// Remove one
    Remove(Named),
}

/// `tobari admin person add`.
#[derive(Debug, Args)]
pub struct PersonAdd {
    /// Login name
    pub login: String,
    /// Display name; the login name when missing
    #[arg(long)]
    pub name: Option<String>,
    /// Membership, as 総務部/人事課:課長; may be given several times
    #[arg(long = "membership", value_name = "GROUP:POST")]
    pub memberships: Vec<String>,
    /// Administrator role; may be given several times
    #[arg(long = "role", value_name = "ROLE")]
    pub roles: Vec<Role>,
    /// Make an authenticator secret and show its address once
    #[arg(long)]
    pub totp: bool,
    /// Read the password from standard input
    #[arg(long)]
    pub password_stdin: bool,
}

/// `tobari admin person set`. Memberships and roles that are given replace the old ones.
#[derive(Debug, Args)]
pub struct PersonSet {
    /// Login name or id
    #[arg(value_name = "PERSON")]
    pub target: String,
    /// New login name
    #[arg(long)]
    pub login: Option<String>,
    /// New display name
    #[arg(long)]
    pub name: Option<String>,
    /// Membership, as 総務部/人事課:課長; replaces all
    #[arg(long = "membership", value_name = "GROUP:POST", conflicts_with = "no_memberships")]
    pub memberships: Vec<String>,
    /// Take all memberships away
    #[arg(long)]
    pub no_memberships: bool,
    /// Administrator role; replaces all
    #[arg(long = "role", value_name = "ROLE", conflicts_with = "no_roles")]
    pub roles: Vec<Role>,
    /// Take all administrator roles away
    #[arg(long)]
    pub no_roles: bool,
    /// Shut the person out, or let them in again
    #[arg(long, value_name = "BOOL")]
    pub disabled: Option<bool>,
    /// Make a new authenticator secret and show its address once
    #[arg(long)]
    pub totp: bool,
    /// Ask for a new password
    #[arg(long, conflicts_with = "password_stdin")]
    pub password: bool,
    /// Read a new password from standard input
    #[arg(long)]
    pub password_stdin: bool,
}

/// An administrator role.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Role {
    /// Labels and their keys
    KeyCustodian,
    /// Groups, posts, people, rules and folders
    Policy,
    /// Terminals and enrolment tokens
    Terminals,
    /// Leases
    Leases,
    /// Reads the audit log
    Auditor,
}

impl From<Role> for admin::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::KeyCustodian => Self::KeyCustodian,
            Role::Policy => Self::Policy,
            Role::Terminals => Self::Terminals,
            Role::Leases => Self::Leases,
            Role::Auditor => Self::Auditor,
        }
    }
}

/// `tobari admin rule`.
#[derive(Debug, Subcommand)]
pub enum Rule {
    /// List all
    List,
    /// Show one
    Show(Named),
    /// Add one
    Add(RuleAdd),
    /// Change one: what is given replaces the old
    Set(RuleSet),
    /// Remove one
    Remove(Named),
}

/// `tobari admin rule add`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("effect").required(true).args(["allow", "deny"]))]
pub struct RuleAdd {
    /// The label
    #[arg(long, value_name = "LABEL")]
    pub label: String,
    /// owner, owner-subtree, any, a group, or a group and all below it as 総務部/...
    #[arg(long, value_name = "GROUPS", default_value = "owner")]
    pub group: String,
    /// any, a post, or rank>=N
    #[arg(long, value_name = "POSTS", default_value = "any")]
    pub post: String,
    /// Rights to give, separated by commas, or all
    #[arg(long, value_name = "RIGHTS", value_parser = parse_rights)]
    pub allow: Option<Rights>,
    /// Rights to take away, separated by commas, or all
    #[arg(long, value_name = "RIGHTS", value_parser = parse_rights)]
    pub deny: Option<Rights>,
    /// Conditions and remark.
    #[command(flatten)]
    pub conditions: RuleConditions,
}

/// Conditions of a rule.
#[derive(Debug, Args)]
pub struct RuleConditions {
    /// Only on terminals of this zone; may be given several times
    #[arg(long = "zone", value_name = "ZONE")]
    pub zones: Vec<String>,
    /// Only on terminals with this tag; may be given several times, all must be there
    #[arg(long = "tag", value_name = "TAG")]
    pub tags: Vec<String>,
    /// Only in sessions with a second factor
    #[arg(long)]
    pub second_factor: bool,
    /// Only on terminals that claim to keep their keys at least so: machine or tpm; none takes the condition away
    #[arg(long, value_name = "PROTECTION")]
    pub protection: Option<Protection>,
    /// Not before this time, as 2026-11-21T09:00:00+09:00
    #[arg(long, value_name = "TIME")]
    pub not_before: Option<Timestamp>,
    /// Until this time, exclusive
    #[arg(long, value_name = "TIME")]
    pub not_after: Option<Timestamp>,
    /// A remark, shown with decisions
    #[arg(long, value_name = "TEXT")]
    pub note: Option<String>,
}

/// `tobari admin rule set`.
#[derive(Debug, Args)]
pub struct RuleSet {
    /// Id
    #[arg(value_name = "RULE")]
    pub target: String,
    /// The label
    #[arg(long, value_name = "LABEL")]
    pub label: Option<String>,
    /// owner, owner-subtree, any, a group, or a group and all below it as 総務部/...
    #[arg(long, value_name = "GROUPS")]
    pub group: Option<String>,
    /// any, a post, or rank>=N
    #[arg(long, value_name = "POSTS")]
    pub post: Option<String>,
    /// Rights to give, separated by commas, or all
    #[arg(long, value_name = "RIGHTS", value_parser = parse_rights, conflicts_with = "deny")]
    pub allow: Option<Rights>,
    /// Rights to take away, separated by commas, or all
    #[arg(long, value_name = "RIGHTS", value_parser = parse_rights)]
    pub deny: Option<Rights>,
    /// Drop all old conditions first
    #[arg(long)]
    pub no_conditions: bool,
    /// Conditions and remark.
    #[command(flatten)]
    pub conditions: RuleConditions,
}

pub(super) fn parse_rights(text: &str) -> Result<Rights, String> {
    if text == "all" {
        return Ok(Rights::ALL);
    }
    text.split(',')
        .map(|name| name.trim().parse::<Right>().map_err(|error| error.to_string()))
        .collect::<Result<Rights, String>>()
}

/// `tobari admin folder`.
#[derive(Debug, Subcommand)]
pub enum Folder {
    /// List all
    List,
    /// Show one
    Show(Named),
    /// Add one
    Add(FolderAdd),
    /// Change one
    Set(FolderSet),
    /// Remove one; what is sealed stays sealed
    Remove(Named),
}

/// `tobari admin folder add`.
#[derive(Debug, Args)]
pub struct FolderAdd {
    /// Absolute path on the terminal
    pub path: PathBuf,
    /// Label given to what lands there
    #[arg(long, value_name = "LABEL")]
    pub label: String,
    /// Group that owns it
    #[arg(long, value_name = "GROUP")]
    pub owner_group: Option<String>,
    /// The terminal on which it lies; this one when missing
    #[arg(long, value_name = "TERMINAL")]
    pub terminal: Option<String>,
    /// Pattern of what is left alone, as *.tmp; may be given several times
    #[arg(long, value_name = "PATTERN")]
    pub exclude: Vec<String>,
}

/// `tobari admin folder set`.
#[derive(Debug, Args)]
pub struct FolderSet {
    /// Path or id
    #[arg(value_name = "FOLDER")]
    pub target: String,
    /// New path
    #[arg(long)]
    pub path: Option<PathBuf>,
    /// New label of what lands there from now on
    #[arg(long, value_name = "LABEL")]
    pub label: Option<String>,
    /// New owner group
    #[arg(long, value_name = "GROUP", conflicts_with = "no_owner_group")]
    pub owner_group: Option<String>,
    /// No owner group
    #[arg(long)]
    pub no_owner_group: bool,
    /// Pattern of what is left alone; replaces all
    #[arg(long, value_name = "PATTERN", conflicts_with = "no_exclude")]
    pub exclude: Vec<String>,
    /// Leave nothing alone
    #[arg(long)]
    pub no_exclude: bool,
}

/// `tobari admin terminal`. Terminals are added by enrolment (`tobarid enrol`, `tobari admin token`).
#[derive(Debug, Subcommand)]
pub enum Terminal {
    /// List all
    List,
    /// Show one
    Show(Named),
    /// Change one
    Set(TerminalSet),
    /// Shut one out until it is let in again; what is open there is closed
    Freeze(Named),
    /// Let one in again that was frozen
    Unfreeze(Named),
    /// Remove one
    Remove(Named),
}

/// `tobari admin terminal set`.
#[derive(Debug, Args)]
pub struct TerminalSet {
    /// Name or id
    #[arg(value_name = "TERMINAL")]
    pub target: String,
    /// New name
    #[arg(long)]
    pub name: Option<String>,
    /// Zone
    #[arg(long, conflicts_with = "no_zone")]
    pub zone: Option<String>,
    /// No zone
    #[arg(long)]
    pub no_zone: bool,
    /// Tag; replaces all
    #[arg(long = "tag", value_name = "TAG", conflicts_with = "no_tags")]
    pub tags: Vec<String>,
    /// No tags
    #[arg(long)]
    pub no_tags: bool,
    /// Let the terminal, in front of a share, speak for the people whom the share authenticated
    #[arg(long, conflicts_with = "no_gateway")]
    pub gateway: bool,
    /// No gateway any more: what it was granted for others ends
    #[arg(long)]
    pub no_gateway: bool,
    /// Shut the terminal out, now and for good
    #[arg(long)]
    pub revoke: bool,
}

/// `tobari admin revoke`. People are shut out with `person set --disabled true`, terminals with `terminal freeze` or
/// `terminal set --revoke`.
#[derive(Debug, Subcommand)]
pub enum Revoke {
    /// List what is revoked
    List,
    /// Grant nothing of a label until that is lifted
    Label(RevokeOne),
    /// Grant a file and its copies to nobody until that is lifted
    File(RevokeOne),
    /// Lift a revocation
    #[command(subcommand)]
    Lift(Lift),
}

/// `tobari admin revoke lift`.
#[derive(Debug, Subcommand)]
pub enum Lift {
    /// Of a label
    Label(RevokeOne),
    /// Of a file
    File(RevokeOne),
}

/// What is revoked, or not any more.
#[derive(Debug, Args)]
pub struct RevokeOne {
    /// A label by name or id; a file by its path or its id
    #[arg(value_name = "WHAT")]
    pub what: String,
    /// Why, for the administrators and the audit log
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}

/// `tobari admin bulletin`.
#[derive(Debug, Subcommand)]
pub enum Bulletin {
    /// Write the bulletin in force to standard output, for terminals that cannot reach the key server
    Export,
}

/// `tobari admin token`.
#[derive(Debug, Args)]
pub struct Token {
    /// Zone of the terminal to be enrolled
    #[arg(long)]
    pub zone: Option<String>,
    /// Its tag; may be given several times
    #[arg(long = "tag", value_name = "TAG")]
    pub tags: Vec<String>,
    /// How long the token is good, in seconds; at most 7 days
    #[arg(long, value_name = "SECONDS", default_value_t = 3600, value_parser = clap::value_parser!(u32).range(1..=604_800))]
    pub valid_seconds: u32,
}

/// `tobari admin preset`.
#[derive(Debug, Subcommand)]
pub enum Preset {
    /// List the presets
    List,
    /// Add the labels, posts and rules of a preset
    Apply(Named),
}

/// `tobari admin audit`.
#[derive(Debug, Args)]
pub struct Audit {
    /// Only records after this sequence number
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub after: u64,
    /// At most this many records; with --verify all are read
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: u32,
    /// Recompute the chain of hashes instead of showing records
    #[arg(long)]
    pub verify: bool,
}
