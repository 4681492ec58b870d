//! What a file is and what its reader may do with it, without any key: the header as the file claims it, and the key
//! server's decision where somebody is logged in and the server answers.

use crate::config::Role;
use crate::content::{Content, check_organisation, plaintext_size};
use crate::descriptors::Source;
use crate::failure::Failure;
use crate::service::{Caller, Service};
use tobari_core::crypto::RecipientPublicKey;
use tobari_core::envelope::Header;
use tobari_core::proto::api::DecisionOutcome;
use tobari_core::proto::base64::Base64;
use tobari_core::proto::bulletin::{Bulletin, PublicKey};
use tobari_core::proto::control::{FileInfo, RecipientInfo, SealedInfo};
use tobari_core::proto::problem::Problem;

/// Describes a file.
///
/// # Errors
/// When it cannot be read, or claims to be sealed and its header is damaged.
pub fn info(service: &Service, caller: Caller, source: &Source, name: &str) -> Result<FileInfo, Failure> {
    let sealed = match Content::of(source).map_err(|failure| failure.about(name))? {
        Content::Plain => None,
        Content::Sealed(header) => Some(describe(service, caller, &header, source.size, name)),
    };
    Ok(FileInfo { name: name.to_owned(), sealed, stored_size: source.size })
}

fn describe(service: &Service, caller: Caller, header: &Header, stored: u64, name: &str) -> SealedInfo {
    let bulletin = service.bulletin();
    let policy = header.policy();
    let (decision, decision_problem) = match decide(service, caller, &bulletin, header, name) {
        Ok(decision) => (Some(decision), None),
        Err(problem) => (None, Some(problem)),
    };
    let group_name = |id| bulletin.groups.iter().find(|group| group.id == id).map(|group| group.name.clone());
    SealedInfo {
        file: header.file_id(),
        organisation: policy.organisation,
        label: policy.label,
        label_name: policy.label_name.clone(),
        label_level: policy.label_level,
        owner_group: policy.owner_group.map(|id| (id, group_name(id))),
        sealed_at: policy.sealed_at,
        sealer: policy.sealer,
        generation: policy.generation,
        plaintext_size: plaintext_size(header, stored),
        chunk_size: header.chunk_size(),
        recipients: recipients(header, &bulletin),
        decision,
        decision_problem,
    }
}

fn decide(
    service: &Service,
    caller: Caller,
    bulletin: &Bulletin,
    header: &Header,
    name: &str,
) -> Result<DecisionOutcome, Problem> {
    service.needs(Role::View).map_err(|failure| failure.problem)?;
    check_organisation(header, bulletin.organisation).map_err(|failure| failure.problem)?;
    let login = service.login_of(caller).map_err(|failure| failure.problem)?;
    service.decide(&login, header.wire_bytes(), name)
}

fn recipients(header: &Header, bulletin: &Bulletin) -> Vec<RecipientInfo> {
    let known: Vec<_> = bulletin
        .labels
        .iter()
        .map(|keys| (&keys.key, "label"))
        .chain([(&bulletin.recovery, "recovery")])
        .filter_map(|(key, role)| Some((key_id(key)?, role)))
        .collect();
    header
        .stanzas()
        .iter()
        .map(|stanza| RecipientInfo {
            kind: stanza.kind.name().to_owned(),
            key_id: Base64(stanza.key_id.as_bytes().to_vec()),
            role: known.iter().find(|(id, _)| *id == stanza.key_id).map(|(_, role)| (*role).to_owned()),
        })
        .collect()
}

fn key_id(key: &PublicKey) -> Option<tobari_core::crypto::KeyId> {
    RecipientPublicKey::try_from(key).ok().map(|key| key.key_id())
}
