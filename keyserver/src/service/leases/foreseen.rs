//! What a change would take of leases that are out, told before it is made: by the same function that takes it when it is made
//! ([`super::stricter`]), with names.

use super::stricter::Loss;
use crate::service::directory::Directory;
use crate::service::{Service, ServiceError};
use crate::store::{LeaseCaseRow, Tables};
use jiff::Timestamp;
use tobari_core::policy::Rights;
use tobari_core::proto::policy::{LeaseLoss, LeaseLossPart, LeaseLosses, MAX_LEASE_PARTS, MAX_LEASES};

impl Service {
    /// What leases would lose if the tables were these. Changes nothing.
    ///
    /// # Errors
    /// What cannot be the tables; the store.
    pub(in crate::service) async fn foreseen(
        &self,
        before: &Directory,
        after: Tables,
    ) -> Result<LeaseLosses, ServiceError> {
        let now = self.clock.now();
        let (after, _) = Directory::new(after, &self.identity, Some(before), now)?;
        let Some(losses) = self.losses(before, &after, now).await? else {
            return Ok(LeaseLosses::default());
        };
        let losses = losses.leases;
        Ok(LeaseLosses {
            total: losses.len() as u64,
            ended: losses.iter().filter(|loss| loss.is_over).count() as u64,
            first: losses
                .iter()
                .take(MAX_LEASES)
                .filter_map(|loss| named(&before.tables, loss, now))
                .collect(),
        })
    }
}

fn named(tables: &Tables, loss: &Loss, now: Timestamp) -> Option<LeaseLoss> {
    let (case, _) = loss.cases.first()?;
    let parts: Vec<LeaseLossPart> = loss
        .cases
        .iter()
        .filter(|(before, after)| before != after)
        .map(|(before, after)| part(tables, before, after, now))
        .collect();
    let person = tables.people.get(&case.person);
    let terminal = tables.terminals.get(&case.terminal);
    Some(LeaseLoss {
        lease: loss.lease,
        person: case.person,
        login: person.map_or_else(|| case.person.to_string(), |row| row.login.clone()),
        terminal: case.terminal,
        terminal_name: terminal.map_or_else(|| case.terminal.to_string(), |row| row.name.clone()),
        ended: loss.is_over,
        parts_total: parts.len() as u64,
        parts: parts.into_iter().take(MAX_LEASE_PARTS).collect(),
    })
}

fn part(tables: &Tables, before: &LeaseCaseRow, after: &LeaseCaseRow, now: Timestamp) -> LeaseLossPart {
    let (old, new) = (before.left, after.left);
    let is_over = new.ends_at <= now.max(after.starts_at);
    let left = if is_over { Rights::NONE } else { new.rights };
    let group = old.owner_group.and_then(|id| tables.groups.get(&id));
    let label = tables.labels.get(&old.label);
    LeaseLossPart {
        label: old.label,
        label_name: label.map_or_else(|| old.label.to_string(), |row| row.label.name.clone()),
        owner_group: old.owner_group,
        group_name: group.map(|group| group.name.clone()),
        lost: old.rights.minus(left),
        left,
        until: new.ends_at,
        was_until: old.ends_at,
    }
}
