//! Setting up an organisation, and the first enrolment token, without a running server.

use super::admin::new_person;
use super::error::ServiceError;
use super::identity::{self, Identity};
use super::{admin, password};
use crate::audit::{Act, AuditLog, Record, Who};
use crate::store::{Change, Store};
use data_encoding::HEXLOWER;
use jiff::Timestamp;
use std::sync::Arc;
use tobari_core::crypto::{RecipientPrivateKey, RootKey};
use tobari_core::ids::OrganisationId;
use tobari_core::proto::admin::{EnrolmentToken, EnrolmentTokenInput, Role};
use zeroize::Zeroizing;

/// Every role: what the first administrator has.
const ALL_ROLES: [Role; 5] = [Role::KeyCustodian, Role::Policy, Role::Terminals, Role::Leases, Role::Auditor];

/// What the operator says.
pub struct Setup<'a> {
    /// Name of the organisation, for display.
    pub organisation: &'a str,
    /// Login name of the first administrator.
    pub admin: &'a str,
    /// The administrator's password.
    pub password: &'a str,
    /// Host names and addresses of the server.
    pub server_names: &'a [String],
    /// How long the first enrolment token is good, in seconds.
    pub token_seconds: u32,
}

/// What setting up gives, besides what is in the store.
pub struct NewOrganisation {
    /// The organisation.
    pub id: OrganisationId,
    /// The recovery key; nobody has it but the caller.
    pub recovery_key: RecipientPrivateKey,
    /// The first enrolment token.
    pub token: EnrolmentToken,
}

impl Setup<'_> {
    /// Refuses names and passwords that are not allowed, before anything is made.
    ///
    /// # Errors
    /// The field at fault.
    pub fn check(&self) -> Result<(), ServiceError> {
        admin::check_name("organisation", self.organisation)?;
        admin::check_login(self.admin)?;
        for name in self.server_names {
            if rustls_pki_types::ServerName::try_from(name.as_str()).is_err() {
                let detail = format!("'{name}' is neither a host name nor an IP address");
                return Err(ServiceError::invalid("san", detail));
            }
        }
        password::check_rules(self.password, self.admin)
    }

    /// Makes the organisation in an empty store, in one transaction. Slow: makes keys and hashes a password.
    ///
    /// # Errors
    /// Fields that are not allowed, or the store.
    pub async fn run(
        &self,
        store: Arc<dyn Store>,
        root_key: &RootKey,
        now: Timestamp,
    ) -> Result<NewOrganisation, ServiceError> {
        self.check()?;
        if !store.load().await?.tables.settings.is_empty() {
            return Err(ServiceError::conflict("data-dir", "the database already holds an organisation"));
        }
        let (id, mut changes, recovery_key) =
            identity::create(self.organisation, self.server_names, root_key, now)?;
        let administrator =
            new_person(self.admin, self.admin, password::hash(self.password)?, ALL_ROLES.to_vec());
        let (token, token_change) = first_token(self.token_seconds, now)?;
        let record = Record::new(Act::Init, now, Who { person: Some(administrator.id), ..Who::default() })
            .about("organisation", id)
            .detail(format!("name {}, administrator {}", self.organisation, administrator.login));
        changes.extend([Change::PutPerson(administrator), token_change]);
        let mut tables = crate::store::Tables::default();
        changes.iter().for_each(|change| tables.apply(change));
        let root_key = RootKey::from_bytes(*root_key.to_bytes());
        let identity = Identity::open(&tables, root_key)?;
        AuditLog::start(store, identity.log.clone()).commit(changes, &[record]).await?;
        Ok(NewOrganisation { id, recovery_key, token: shown(&token, &identity, now, self.token_seconds)? })
    }
}

fn first_token(seconds: u32, now: Timestamp) -> Result<(Zeroizing<String>, Change), ServiceError> {
    let input = EnrolmentTokenInput { zone: None, tags: Vec::new(), valid_seconds: seconds };
    let (token, row) = admin::new_token(&input, now)?;
    Ok((token, Change::PutToken(row)))
}

fn shown(
    token: &str,
    identity: &Identity,
    now: Timestamp,
    seconds: u32,
) -> Result<EnrolmentToken, ServiceError> {
    Ok(EnrolmentToken {
        token: token.to_owned(),
        expires_at: now
            .checked_add(jiff::SignedDuration::from_secs(i64::from(seconds)))
            .map_err(|error| ServiceError::Internal(error.to_string()))?,
        ca_sha256: HEXLOWER.encode(&identity.authority.sha256()),
    })
}

/// Makes an enrolment token straight in the store, beside a running server or without one.
///
/// # Errors
/// The root key does not fit, or the store.
pub async fn bootstrap_token(
    store: Arc<dyn Store>,
    root_key: RootKey,
    input: &EnrolmentTokenInput,
    now: Timestamp,
) -> Result<EnrolmentToken, ServiceError> {
    let identity = Identity::open(&store.load().await?.tables, root_key)?;
    let (token, row) = admin::new_token(input, now)?;
    let record = Record::new(Act::EnrolmentToken, now, Who::default()).detail("made on the server itself");
    AuditLog::start(store, identity.log.clone()).commit(vec![Change::PutToken(row)], &[record]).await?;
    shown(&token, &identity, now, input.valid_seconds)
}
