//! `zip`: files go out as a password-ZIP that the daemon writes; the plaintext never reaches this program.

use super::text;
use crate::app::App;
use crate::args;
use crate::arguments;
use crate::error::{Action, Error};
use crate::files::new_file::NewFile;
use crate::files::walk::{Met, walk};
use crate::files::{self, parent};
use std::collections::HashSet;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use tobari_core::crypto::random_bytes;
use tobari_core::proto::control::{Answer, Request};
use zeroize::{Zeroize as _, Zeroizing};

/// Without 0 O o, 1 I l i and L, which people mix up when they read a password out.
const ALPHABET: &[u8] = b"23456789ABCDEFGHJKMNPQRSTUVWXYZabcdefghjkmnpqrstuvwxyz";
/// Length of a generated password unless asked otherwise.
pub const DEFAULT_LENGTH: u16 = 20;
/// Shortest generated password: at least 96 bits.
pub const MINIMUM_LENGTH: u16 = 17;
/// Typed passwords shorter than this draw a warning: an archive can be attacked offline.
const SHORT: usize = 12;

/// One file of the archive.
#[derive(Debug)]
struct Entry {
    path: PathBuf,
    inside: String,
}

/// `tobari zip`.
pub(super) fn run(args: &args::Zip, app: &mut App) -> Result<(), Error> {
    let mut client = app.client()?;
    if args.output.symlink_metadata().is_ok() {
        return Err(Error::Exists(args.output.clone()));
    }
    let (entries, skipped) = collect(&args.paths)?;
    for path in &skipped {
        app.warn("warning-skipped", &arguments! { path: text::path(path) });
    }
    if args.legacy_zipcrypto {
        app.warn("warning-zipcrypto", &arguments! {});
    }
    let generated = !args.password_stdin && !args.ask_password;
    let password = password(args, app)?;
    if !generated && password.chars().count() < SHORT {
        app.warn("warning-short-password", &arguments! { length: SHORT });
    }
    if client.notice().is_ok_and(|notice| files::designated(&notice, &args.output).is_some()) {
        app.warn("warning-designated", &arguments! { path: text::path(&args.output) });
    }

    let new = NewFile::begin(&args.output)?;
    let progress = app.progress(&args.output, None);
    let mut start = Request::ZipStart { password: password.to_string(), legacy: args.legacy_zipcrypto };
    let sent = client.send(&start, &[new.file().as_fd()]);
    if let Request::ZipStart { password, .. } = &mut start {
        password.zeroize();
    }
    sent?;
    for entry in &entries {
        let file = files::open_found(&entry.path)?;
        let name = entry.path.to_string_lossy().into_owned();
        client.send(&Request::ZipEntry { path: entry.inside.clone(), name }, &[file.as_fd()])?;
    }
    let answer = client.ask_with(&Request::ZipFinish, &[], &mut |done, total| progress.set(done, total));
    drop(progress);
    let Answer::Zipped { entries, bytes } = answer? else {
        return Err(Error::DaemonAnswer);
    };
    new.finish(false)?;

    if app.settings.json {
        let skipped: Vec<_> = skipped.iter().map(|path| path.to_string_lossy()).collect();
        let mut document = serde_json::json!({
            "output": args.output.to_string_lossy(),
            "entries": entries,
            "bytes": bytes,
            "encryption": if args.legacy_zipcrypto { "zipcrypto" } else { "aes-256" },
            "skipped": skipped,
        });
        if let (true, Some(fields)) = (generated, document.as_object_mut()) {
            fields.insert("password".to_owned(), password.as_str().into());
        }
        return app.json(&document);
    }
    let (output, bytes) = (text::path(&args.output), text::grouped(bytes));
    app.note("zipped", &arguments! { path: output, entries: text::grouped(entries), bytes: bytes });
    if generated {
        app.note("zip-password", &arguments! { password: *password });
    }
    Ok(())
}

fn password(args: &args::Zip, app: &mut App) -> Result<Zeroizing<String>, Error> {
    if args.password_stdin {
        app.secret_from_input()
    } else if args.ask_password {
        app.ask_new_secret()
    } else {
        Ok(generate(args.password_length.into()))
    }
}

/// A password of `length` characters, each drawn evenly from [`ALPHABET`].
fn generate(length: usize) -> Zeroizing<String> {
    let even = u8::MAX - u8::MAX % ALPHABET.len() as u8;
    let mut password = Zeroizing::new(String::with_capacity(length));
    while password.len() < length {
        let random = Zeroizing::new(random_bytes::<64>());
        let usable = random.iter().filter(|byte| **byte < even);
        let drawn = usable.filter_map(|byte| ALPHABET.get(usize::from(*byte) % ALPHABET.len()));
        let missing = length - password.len();
        password.extend(drawn.take(missing).map(|byte| char::from(*byte)));
    }
    password
}

/// All regular files below `paths`, and what was left out.
fn collect(paths: &[PathBuf]) -> Result<(Vec<Entry>, Vec<PathBuf>), Error> {
    let (mut entries, mut skipped, mut failure) = (Vec::new(), Vec::new(), None);
    for path in paths {
        // So that `.` and `..` have a name too.
        let whole = std::path::absolute(path).map_err(Action::Open.failed(path))?;
        let named = match path.file_name() {
            Some(_) => whole,
            None => path.canonicalize().map_err(Action::Open.failed(path))?,
        };
        let is_folder = std::fs::metadata(path).map_err(Action::Open.failed(path))?.is_dir();
        let base = parent(&named).to_owned();
        walk(path, &mut |met| match met {
            Met::File(found, _) if !is_folder => match inside(&base, &named) {
                Ok(inside) => entries.push(Entry { path: found, inside }),
                Err(error) => failure = failure.take().or(Some(error)),
            },
            Met::File(found, _) => {
                let below = found.strip_prefix(path).unwrap_or(&found);
                match inside(&base, &named.join(below)) {
                    Ok(inside) => entries.push(Entry { path: found, inside }),
                    Err(error) => failure = failure.take().or(Some(error)),
                }
            }
            Met::Special(found) => skipped.push(found),
            // An archive that lacks files in silence would be taken for whole.
            Met::Unreadable(found, error) => {
                failure = failure.take().or(Some(Action::Open.failed(&found)(error)));
            }
        });
    }
    if let Some(error) = failure {
        return Err(error);
    }
    let mut seen = HashSet::new();
    if let Some(twice) = entries.iter().find(|entry| !seen.insert(entry.inside.as_str())) {
        return Err(Error::SameName(twice.inside.clone()));
    }
    if entries.is_empty() { Err(Error::NothingToSend) } else { Ok((entries, skipped)) }
}

fn inside(base: &Path, path: &Path) -> Result<String, Error> {
    let below = path.strip_prefix(base).unwrap_or(path);
    below.to_str().map(str::to_owned).ok_or_else(|| Error::NotUtf8(path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_password_has_its_length_its_alphabet_and_96_bits() {
        for length in [MINIMUM_LENGTH, DEFAULT_LENGTH, 128] {
            let (first, second) = (generate(length.into()), generate(length.into()));
            assert_eq!(first.len(), usize::from(length));
            assert!(first.bytes().all(|byte| ALPHABET.contains(&byte)));
            assert_ne!(*first, *second);
        }
        let bits = f64::from(MINIMUM_LENGTH) * (ALPHABET.len() as f64).log2();
        assert!(bits >= 96.0, "{bits}");
        let mut seen: HashSet<char> = HashSet::new();
        for _ in 0..200 {
            seen.extend(generate(128).chars());
        }
        assert_eq!(seen.len(), ALPHABET.len(), "every character is drawn");
    }

    #[test]
    fn folders_keep_their_name_and_what_is_below_it() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("契約");
        std::fs::create_dir_all(folder.join("別紙")).unwrap();
        std::fs::write(folder.join("a.txt"), b"a").unwrap();
        std::fs::write(folder.join("別紙/b.csv"), b"b").unwrap();
        std::fs::write(root.path().join("single"), b"c").unwrap();
        std::os::unix::fs::symlink("a.txt", folder.join("link")).unwrap();
        let (entries, skipped) = collect(&[folder.clone(), root.path().join("single")]).unwrap();
        let inside: Vec<&str> = entries.iter().map(|entry| entry.inside.as_str()).collect();
        assert_eq!(inside, ["契約/a.txt", "契約/別紙/b.csv", "single"]);
        assert_eq!(skipped, [folder.join("link")]);
        let (entries, _) = collect(&[folder.join("別紙/..")]).unwrap();
        assert_eq!(entries[0].inside, "契約/a.txt");
    }

    #[test]
    fn the_same_path_twice_nothing_and_a_name_that_is_not_utf8_are_refused() {
        use std::os::unix::ffi::OsStrExt as _;
        let root = tempfile::tempdir().unwrap();
        for side in ["x", "y"] {
            std::fs::create_dir(root.path().join(side)).unwrap();
            std::fs::write(root.path().join(side).join("same"), b"").unwrap();
        }
        let twice = collect(&[root.path().join("x/same"), root.path().join("y/same")]).unwrap_err();
        assert!(matches!(twice, Error::SameName(name) if name == "same"));
        let empty = root.path().join("empty");
        std::fs::create_dir(&empty).unwrap();
        assert!(matches!(collect(&[empty]).unwrap_err(), Error::NothingToSend));
        let name = root.path().join(std::ffi::OsStr::from_bytes(b"\x83e.txt"));
        std::fs::write(&name, b"").unwrap();
        assert!(matches!(collect(&[name]).unwrap_err(), Error::NotUtf8(_)));
    }
}
