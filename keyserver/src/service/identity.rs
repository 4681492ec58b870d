//! What the organisation is: made once by `init`, opened with the root key at each start, never changed.

use super::error::ServiceError;
use crate::audit::LogIdentity;
use crate::ca::Authority;
use crate::store::{Change, Tables};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tobari_core::audit::{LogSigner, log_name};
use tobari_core::crypto::{RecipientKind, RecipientPrivateKey, RootKey, SigningKey};
use tobari_core::ids::{LabelId, OrganisationId, PersonId};
use tobari_core::proto::bulletin::PublicKey;

const ORGANISATION: &str = "organisation";
const CA_CERTIFICATE: &str = "ca-certificate";
const CA_KEY: &str = "ca-key";
const SIGNING_KEY: &str = "signing-key";
const RECOVERY_KEY: &str = "recovery-key";
const NAMES: &str = "server-names";
/// How often an older store was taken up; absent in the first epoch.
pub(crate) const AUDIT_EPOCH: &str = "audit-epoch";
/// The bulletin's number and time.
pub(crate) const BULLETIN: &str = "bulletin";

/// The organisation's identity and its keys.
pub(crate) struct Identity {
    pub(crate) organisation: OrganisationId,
    pub(crate) name: String,
    pub(crate) authority: Authority,
    pub(crate) signing_key: SigningKey,
    pub(crate) log: LogIdentity,
    pub(crate) recovery: PublicKey,
    pub(crate) server_names: Vec<String>,
    pub(crate) root_key: RootKey,
}

#[derive(Serialize, Deserialize)]
struct Organisation {
    id: OrganisationId,
    name: String,
}

/// Additional data of everything sealed under the root key: which value of which row it is.
fn aad(what: &str) -> Vec<u8> {
    [b"tobari/1 root\0", what.as_bytes()].concat()
}

pub(crate) fn label_key_aad(label: LabelId, generation: u32) -> Vec<u8> {
    aad(&format!("label-key/{label}/{generation}"))
}

pub(crate) fn totp_aad(person: PersonId) -> Vec<u8> {
    aad(&format!("totp/{person}"))
}

fn setting_aad(name: &str) -> Vec<u8> {
    aad(&format!("setting/{name}"))
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, ServiceError> {
    serde_json::to_vec(value).map_err(|error| ServiceError::Internal(error.to_string()))
}

/// Makes a new organisation: what goes into the store, and the private recovery key, which does not.
pub(crate) fn create(
    name: &str,
    server_names: &[String],
    root_key: &RootKey,
    now: Timestamp,
) -> Result<(OrganisationId, Vec<Change>, RecipientPrivateKey), ServiceError> {
    let id = OrganisationId::generate();
    let (certificate, key) = crate::ca::create(id, name, now)?;
    let signing_key = SigningKey::generate()?;
    let recovery = RecipientPrivateKey::generate(RecipientKind::RsaOaep)?;
    let organisation = Organisation { id, name: name.to_owned() };
    let setting = |name: &str, value: Vec<u8>| Change::PutSetting(name.to_owned(), value);
    let changes = vec![
        setting(ORGANISATION, json(&organisation)?),
        setting(CA_CERTIFICATE, certificate.into_bytes()),
        setting(CA_KEY, root_key.seal(&setting_aad(CA_KEY), &key)?),
        setting(SIGNING_KEY, root_key.seal(&setting_aad(SIGNING_KEY), &signing_key.export())?),
        setting(RECOVERY_KEY, json(&recovery.public().to_proto())?),
        setting(NAMES, json(&server_names)?),
    ];
    Ok((id, changes, recovery))
}

/// The log's epoch, from 1.
pub(crate) fn epoch(tables: &Tables) -> Result<u32, ServiceError> {
    let Some(value) = tables.settings.get(AUDIT_EPOCH) else { return Ok(1) };
    serde_json::from_slice(value)
        .map_err(|_| ServiceError::Internal(format!("the setting {AUDIT_EPOCH} in the database is damaged")))
}

impl Identity {
    /// Opens the organisation's keys.
    pub(crate) fn open(tables: &Tables, root_key: RootKey) -> Result<Self, ServiceError> {
        let value = |name: &'static str| {
            tables
                .settings
                .get(name)
                .map(|value| value.as_slice())
                .ok_or_else(|| ServiceError::Internal(format!("the database lacks the setting {name}")))
        };
        let damaged = |name: &'static str| {
            ServiceError::Internal(format!("the setting {name} in the database is damaged"))
        };
        let open = |name: &'static str| {
            root_key.open(&setting_aad(name), value(name)?).map_err(|_| ServiceError::WrongRootKey(name))
        };
        let organisation: Organisation =
            serde_json::from_slice(value(ORGANISATION)?).map_err(|_| damaged(ORGANISATION))?;
        let certificate = std::str::from_utf8(value(CA_CERTIFICATE)?).map_err(|_| damaged(CA_CERTIFICATE))?;
        let authority = Authority::open(certificate, &open(CA_KEY)?)?;
        let signing_key = SigningKey::import(&open(SIGNING_KEY)?)?;
        let signer = SigningKey::import(&open(SIGNING_KEY)?)?;
        let signer = LogSigner::new(&log_name(organisation.id), signer)
            .map_err(|error| ServiceError::Internal(error.to_string()))?;
        let log = LogIdentity { organisation: organisation.id, epoch: epoch(tables)?, signer };
        let recovery = serde_json::from_slice(value(RECOVERY_KEY)?).map_err(|_| damaged(RECOVERY_KEY))?;
        let server_names = serde_json::from_slice(value(NAMES)?).map_err(|_| damaged(NAMES))?;
        Ok(Self {
            organisation: organisation.id,
            name: organisation.name,
            authority,
            signing_key,
            log,
            recovery,
            server_names,
            root_key,
        })
    }
}
