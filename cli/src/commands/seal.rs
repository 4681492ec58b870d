//! `seal`: in this process, with the public keys of the bulletin. The sealed file is read back with the second
//! implementation of the ciphers before the original is given up.

use super::{files::replace, text};
use crate::app::App;
use crate::args;
use crate::arguments;
use crate::client::Notice;
use crate::commands::admin::names;
use crate::error::{Action, Error};
use crate::files::new_file::NewFile;
use crate::files::{self, attributes};
use serde::Serialize;
use std::fs::File;
use std::io::{self, Seek as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tobari_core::crypto::{CryptoError, RecipientPublicKey, second};
use tobari_core::envelope::{Epoch, FilePolicy, ReadBackError, SealError, SealOptions, read_back, seal};
use tobari_core::ids::{FileId, GroupId, LabelId};
use tobari_core::proto::bulletin::LabelKeys;

/// How long files share an encapsulation.
const EPOCH: Duration = Duration::from_secs(60);

/// What became of one file, as `--json` shows it.
#[derive(Debug, Serialize)]
struct Outcome {
    name: String,
    output: String,
    already_sealed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<FileId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
}

/// `tobari seal`.
pub(super) fn run(args: &args::Seal, app: &mut App) -> Result<(), Error> {
    if args.output.is_some() && args.files.len() > 1 {
        return Err(Error::Usage { what: "one-output", detail: args.files.len().to_string() });
    }
    let notice = app.client()?.notice()?;
    let label = args.label.as_deref().map(|typed| find_label(&notice, typed)).transpose()?;
    let group =
        args.owner_group.as_deref().map(|typed| names::group(&notice.bulletin.groups, typed)).transpose()?;
    let mut sealer = Sealer { notice: &notice, label, group, epoch: None };
    let mut outcomes = Vec::new();
    for path in &args.files {
        match sealer.seal(app, path, args.output.as_deref()) {
            Ok(outcome) => outcomes.push(outcome),
            Err(error) => app.report(&error),
        }
    }
    if app.settings.json {
        return match outcomes.is_empty() {
            true => Ok(()),
            false => app.json(&serde_json::json!({ "files": outcomes })),
        };
    }
    for outcome in outcomes {
        let output = text::printable(&outcome.output);
        match outcome.label {
            Some(label) => app.note("sealed", &arguments! { path: output, label: text::printable(&label) }),
            None => app.note("already-sealed", &arguments! { path: output }),
        }
    }
    Ok(())
}

/// The label that was typed, by its name or id.
pub(super) fn find_label(notice: &Notice, typed: &str) -> Result<LabelId, Error> {
    let labels = &notice.bulletin.labels;
    names::one("label", typed, labels, |one| one.label.id, |one| one.label.name.clone())
}

struct Sealer<'a> {
    notice: &'a Notice,
    label: Option<LabelId>,
    group: Option<GroupId>,
    epoch: Option<(LabelId, Instant, Epoch)>,
}

impl<'a> Sealer<'a> {
    fn seal(&mut self, app: &mut App, path: &Path, output: Option<&Path>) -> Result<Outcome, Error> {
        let mut file = files::open_regular(path)?;
        let before = file.metadata().map_err(Action::Read.failed(path))?;
        let target = match output {
            Some(output) => output.to_owned(),
            None => path.canonicalize().map_err(Action::Open.failed(path))?,
        };
        let name = path.to_string_lossy().into_owned();
        if files::is_sealed(&file, path)? {
            let output = name.clone();
            return Ok(Outcome { name, output, already_sealed: true, label: None, file: None, bytes: None });
        }
        let (keys, policy) = self.policy(app, &target)?;
        let label = keys.label.name.clone();
        if output.is_some() && target.symlink_metadata().is_ok() {
            return Err(Error::Exists(target));
        }
        let new = NewFile::begin(&target)?;
        let progress = app.progress(path, Some(before.len()));
        let mut show = |done| progress.set(done, None);
        let epoch = self.epoch(keys).map_err(seal_failed(path, &target))?;
        let sealed = seal(&mut file, new.file(), epoch, policy, &SealOptions::default(), &mut show)
            .map_err(seal_failed(path, &target))?;
        file.rewind().map_err(Action::Read.failed(path))?;
        read_back(new.file(), &sealed.dek, &mut file, second()).map_err(read_back_failed(path, &target))?;
        drop(progress);
        match output {
            Some(_) => {
                keep_mode_and_times(&before, new.file()).map_err(Action::Attributes.failed(&target))?;
                new.finish(false)?;
            }
            None => replace(&file, &before, new, &target)?,
        }
        let output = target_name(output, path);
        let (file, bytes) = (Some(sealed.file_id), Some(sealed.length));
        Ok(Outcome { name, output, already_sealed: false, label: Some(label), file, bytes })
    }

    fn policy(&self, app: &App, target: &Path) -> Result<(&'a LabelKeys, FilePolicy), Error> {
        let notice = self.notice;
        let bulletin = &notice.bulletin;
        let folder = files::designated(notice, target);
        let known = || bulletin.labels.iter().map(|one| one.label.name.clone()).collect();
        let label = self.label.or_else(|| folder.map(|folder| folder.label));
        let label = label.ok_or_else(|| Error::NoLabel { path: target.to_owned(), known: known() })?;
        let keys = bulletin.labels.iter().find(|one| one.label.id == label);
        let name = || label.to_string();
        let keys = keys.ok_or_else(|| Error::UnknownName { kind: "label", name: name(), known: known() })?;
        let policy = FilePolicy {
            organisation: bulletin.organisation,
            label,
            label_level: keys.label.level,
            label_name: keys.label.name.clone(),
            owner_group: self.group.or_else(|| folder.and_then(|folder| folder.owner_group)),
            sealed_at: app.console.clock.now(),
            sealer: self.notice.terminal,
            generation: keys.generation,
        };
        Ok((keys, policy))
    }

    fn epoch(&mut self, keys: &LabelKeys) -> Result<&Epoch, SealError> {
        let label = keys.label.id;
        let fresh = |(of, since, epoch): &(LabelId, Instant, Epoch)| {
            *of == label && since.elapsed() < EPOCH && !epoch.is_spent()
        };
        let kept = self.epoch.take().filter(fresh);
        let (.., epoch) = match kept {
            Some(kept) => self.epoch.insert(kept),
            None => {
                let recipients =
                    [&keys.key, &self.notice.bulletin.recovery].map(RecipientPublicKey::try_from);
                let recipients = recipients.into_iter().collect::<Result<Vec<_>, CryptoError>>()?;
                self.epoch.insert((label, Instant::now(), Epoch::new(&recipients)?))
            }
        };
        Ok(epoch)
    }
}

fn target_name(output: Option<&Path>, path: &Path) -> String {
    output.unwrap_or(path).to_string_lossy().into_owned()
}

fn keep_mode_and_times(before: &std::fs::Metadata, new: &File) -> io::Result<()> {
    new.set_permissions(before.permissions())?;
    attributes::copy_times(before, new)
}

fn seal_failed(path: &Path, target: &Path) -> impl FnOnce(SealError) -> Error {
    let (path, target): (PathBuf, PathBuf) = (path.to_owned(), target.to_owned());
    move |error| match error {
        SealError::Source(error) => Action::Read.failed(&path)(error),
        SealError::Storage(error) => Action::Write.failed(&target)(error),
        other => Error::Seal { path, detail: other.to_string() },
    }
}

fn read_back_failed(path: &Path, target: &Path) -> impl FnOnce(ReadBackError) -> Error {
    let (path, target): (PathBuf, PathBuf) = (path.to_owned(), target.to_owned());
    move |error| match error {
        ReadBackError::Source(error) => Action::Read.failed(&path)(error),
        ReadBackError::Storage(error) => Action::Read.failed(&target)(error),
        // Somebody wrote to the file, or the sealed copy is wrong: in both cases the original stays.
        ReadBackError::Differs(_) => Error::Changed(path),
        ReadBackError::Refused(_) => Error::ReadBack(path),
    }
}
