//! Sealing many small files at once, with five syncs and one record in the journal for all of them instead of six syncs and a
//! record for each (docs/spec/sealing.md, "Groups"). Each file goes through the steps of a single one in their order; what a single
//! file's `fsync` makes durable before its next step, one sync makes durable for the group. A file that fails leaves the
//! group and ends as it would alone; a sync that fails ends the step for all of them.

use super::durable::{sync, sync_disk};
use super::exchange::{Exchange, Settled};
use super::gate::Hold;
use super::journal::{self, ExchangeId, Intent, Record};
use super::root::FolderRoot;
use super::rule::FolderRule;
use super::sealer::{Draft, Outcome, Sealer, in_use};
use super::step::{Safeguard, Step};
use super::stop::Stop;
use super::wipe::Wipe;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

/// What became of each file.
type Results = Vec<Option<Result<Outcome, Stop>>>;

/// A file of the group after some step, and its place in the group.
struct Member<T> {
    index: usize,
    size: u64,
    at: T,
}

impl Sealer {
    /// Seals the files `relative` of `root` by `rule`; one result for each, in order. All are small: whoever opens one of them
    /// may wait for the others.
    pub fn seal_group(
        &self,
        root: &FolderRoot,
        rule: &FolderRule,
        relative: &[PathBuf],
    ) -> Vec<Result<Outcome, Stop>> {
        let mut results: Results = relative.iter().map(|_| None).collect();
        if let Err(stop) = self.seal_all(root, rule, relative, &mut results) {
            for result in results.iter_mut().filter(|result| result.is_none()) {
                *result = Some(Err(stop.again()));
            }
        }
        // None is left out: whoever leaves the group leaves a result.
        results.into_iter().map(|result| result.unwrap_or(Err(Stop::Vanished))).collect()
    }

    fn seal_all(
        &self,
        root: &FolderRoot,
        rule: &FolderRule,
        relative: &[PathBuf],
        results: &mut Results,
    ) -> Result<(), Stop> {
        root.check_control()?;
        // Opened before anything is written: a descriptor learns of each write error once, and only of later ones, so that groups
        // must not share one.
        let disk = root.reopen_control()?;

        let (group, mut last) = (ExchangeId::generate(), None);
        let mut drafts: Vec<Member<Draft>> = Vec::new();
        for (index, relative) in relative.iter().enumerate() {
            match self.begin(root, rule, relative, &mut last) {
                Ok(None) => put(results, index, Ok(Outcome::AlreadySealed)),
                Ok(Some((mut work, keys))) => {
                    work.id = group.member();
                    let (id, size) = (work.id.clone(), work.facts.size);
                    match self.draft(root, rule, keys, work) {
                        Ok(at) => drafts.push(Member { index, size, at }),
                        Err(Stop::Died) => return Err(Stop::Died),
                        Err(stop) => {
                            self.abandon(root, &id);
                            put(results, index, Err(stop));
                        }
                    }
                }
                Err(Stop::Died) => return Err(Stop::Died),
                Err(stop) => put(results, index, Err(stop)),
            }
        }
        if drafts.is_empty() {
            return Ok(());
        }
        if let Err(stop) = self.sync(Step::SyncEnvelope, &disk) {
            return Err(self.abandon_all(root, drafts.iter().map(|draft| &draft.at), stop));
        }

        // All out of the page cache first, then all on their way back.
        let dropped: Vec<Result<(), Stop>> = drafts.iter().map(|draft| self.drop_cached(&draft.at)).collect();
        let ahead: Vec<Result<(), Stop>> = drafts.iter().map(|draft| Self::read_ahead(&draft.at)).collect();
        let cached = dropped.into_iter().zip(ahead).map(|(dropped, ahead)| dropped.and(ahead));

        let mut intended: Vec<Member<(Draft, Intent)>> = Vec::new();
        for (Member { index, size, at: draft }, cached) in drafts.into_iter().zip(cached) {
            let Some(relative) = relative.get(index) else { continue };
            match cached.and_then(|()| self.check(&draft, relative)) {
                Ok(intent) => intended.push(Member { index, size, at: (draft, intent) }),
                Err(Stop::Died) => return Err(Stop::Died),
                Err(stop) => {
                    self.abandon(root, &draft.work.id);
                    put(results, index, Err(stop));
                }
            }
        }
        if intended.is_empty() {
            return Ok(());
        }
        let record = match self.record(root, &group, &intended) {
            Ok(record) => record,
            Err(stop) => {
                return Err(self.abandon_all(root, intended.iter().map(|member| &member.at.0), stop));
            }
        };
        let sealed = self.exchange_all(root, intended, record.as_ref(), &disk, results);
        match (sealed, record) {
            (Err(Stop::Died), _) => Err(Stop::Died),
            (sealed, Some(record)) => {
                match self.steps.run(Step::CloseIntent, || record.close(root)) {
                    Ok(()) => {}
                    Err(Stop::Died) => return Err(Stop::Died),
                    // It speaks of nothing that is there any more.
                    Err(stop) => {
                        tracing::warn!(folder = ?root.path(), error = %stop, "failed to remove the record of a group");
                    }
                }
                sealed
            }
            (sealed, None) => sealed,
        }
    }

    /// Makes the intents of the group durable.
    fn record(
        &self,
        root: &FolderRoot,
        group: &ExchangeId,
        intended: &[Member<(Draft, Intent)>],
    ) -> Result<Option<Arc<Record>>, Stop> {
        let steps = &self.steps;
        if steps.without(Safeguard::Journal) {
            return Ok(None);
        }
        let intents = intended.iter().map(|Member { at: (draft, intent), .. }| (&draft.work.id, intent));
        let (record, file) = steps.run(Step::WriteIntent, || journal::write_group(root, group, intents))?;
        let durable = steps
            .run(Step::SyncIntent, || Ok(sync(file)?))
            .and_then(|()| steps.sync_directory(Step::SyncControl, root.control()));
        match durable {
            Ok(()) => Ok(Some(record)),
            Err(Stop::Died) => Err(Stop::Died),
            Err(stop) => {
                record.abandon(root);
                Err(stop)
            }
        }
    }

    /// All from the exchange on. After it every exchange is ended, or has an intent of its own.
    fn exchange_all(
        &self,
        root: &FolderRoot,
        intended: Vec<Member<(Draft, Intent)>>,
        record: Option<&Arc<Record>>,
        disk: &OwnedFd,
        results: &mut Results,
    ) -> Result<(), Stop> {
        // Dropped after the exchanges: nobody is answered while a lease is held.
        let hold = self.hold_group();
        let mut exchanged: Vec<Member<Exchange>> = Vec::new();
        for Member { index, size, at: (draft, intent) } in intended {
            let id = draft.work.id.clone();
            match self.exchange(root, draft, intent) {
                Ok(exchange) => match self.confirm_of(root, exchange, record, hold.as_ref()) {
                    (exchange, Ok(())) => exchanged.push(Member { index, size, at: exchange }),
                    (_, Err(Stop::Died)) => return Err(Stop::Died),
                    (exchange, Err(stop)) => put(results, index, self.end(root, exchange, size, Err(stop))),
                },
                Err(Stop::Died) => return Err(Stop::Died),
                Err(stop) => {
                    self.abandon(root, &id);
                    put(results, index, Err(stop));
                }
            }
        }
        if exchanged.is_empty() {
            return Ok(());
        }
        if let Err(stop) = self.sync(Step::SyncExchanged, disk) {
            return self.end_all(root, exchanged, &stop, results);
        }

        let mut removed: Vec<Member<Exchange>> = Vec::new();
        for Member { index, size, at: mut exchange } in exchanged {
            // Overwriting is done file by file.
            (exchange.complete, exchange.grouped) = (true, exchange.wipe == Wipe::None);
            match exchange.settle(root, &self.steps) {
                Ok(Settled::Sealed) => removed.push(Member { index, size, at: exchange }),
                Err(Stop::Died) => return Err(Stop::Died),
                Ok(Settled::Restored) => {
                    put(results, index, Err(in_use("somebody opened it while it was being sealed")));
                }
                Ok(Settled::Pending) => {
                    root.pending().push(exchange);
                    put(results, index, Err(in_use("somebody opened it while it was being sealed")));
                }
                Err(stop) => {
                    root.pending().push(exchange);
                    put(results, index, Err(stop));
                }
            }
        }
        // No lease is left on a plaintext: those who came to them are sent back to the names.
        drop(hold);
        if removed.is_empty() {
            return Ok(());
        }
        // All that was removed was removed from this directory.
        match self.steps.sync_directory(Step::SyncUnlink, root.control()) {
            Ok(()) => removed
                .into_iter()
                .for_each(|member| put(results, member.index, Ok(Outcome::Sealed(member.size)))),
            Err(Stop::Died) => return Err(Stop::Died),
            Err(stop) => {
                // They may be there again after a crash, and then the record is needed.
                record.into_iter().for_each(|record| record.keep());
                for Member { index, at, .. } in removed {
                    root.pending().push(at);
                    put(results, index, Err(stop.again()));
                }
            }
        }
        Ok(())
    }

    fn confirm_of(
        &self,
        root: &FolderRoot,
        mut exchange: Exchange,
        record: Option<&Arc<Record>>,
        hold: Option<&Arc<Hold>>,
    ) -> (Exchange, Result<(), Stop>) {
        exchange.record = record.cloned();
        match hold {
            Some(hold) => exchange.hold(Some(hold)),
            None => exchange.hold(self.hold().as_ref()),
        }
        let confirmed = self.confirm(&mut exchange, root);
        (exchange, confirmed)
    }

    fn sync(&self, step: Step, disk: &OwnedFd) -> Result<(), Stop> {
        let without = self.steps.without(Safeguard::DirectorySync);
        self.steps.run(step, || if without { Ok(()) } else { Ok(sync_disk(disk)?) })
    }

    /// Nothing was exchanged yet. Gives `stop` back.
    fn abandon_all<'d>(
        &self,
        root: &FolderRoot,
        drafts: impl Iterator<Item = &'d Draft>,
        stop: Stop,
    ) -> Stop {
        if !matches!(stop, Stop::Died) {
            drafts.for_each(|draft| self.abandon(root, &draft.work.id));
        }
        stop
    }

    /// Undoes exchanges that are perhaps not durable.
    fn end_all(
        &self,
        root: &FolderRoot,
        exchanged: Vec<Member<Exchange>>,
        stop: &Stop,
        results: &mut Results,
    ) -> Result<(), Stop> {
        if matches!(stop, Stop::Died) {
            return Err(Stop::Died);
        }
        for Member { index, size, at } in exchanged {
            match self.end(root, at, size, Err(stop.again())) {
                Err(Stop::Died) => return Err(Stop::Died),
                result => put(results, index, result),
            }
        }
        Ok(())
    }
}

fn put(results: &mut Results, index: usize, result: Result<Outcome, Stop>) {
    if let Some(place) = results.get_mut(index) {
        *place = Some(result);
    }
}
