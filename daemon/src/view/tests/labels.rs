//! What was created and holds nothing yet follows the session upward; who was let in under a lower label is asked again.

use super::*;
use crate::testing::LOWER;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;

/// The view of another session over the same folder.
struct Other {
    access: Arc<Tester>,
    view: PathBuf,
    mount: Mount,
}

impl Other {
    fn of(shown: &Shown) -> Self {
        let view = shown.site.directory.path().join("other");
        std::fs::create_dir(&view).unwrap();
        let access = Arc::new(Tester {
            service: Arc::clone(&shown.site.service),
            refused: Mutex::default(),
            may_write_plain: AtomicBool::new(true),
            label: Mutex::default(),
            ids: Mutex::default(),
        });
        let folder =
            Folder::open(FolderRule::resolve(&designated(&shown.folder), &bulletin(1, false))).unwrap();
        let given: Arc<dyn Access> = Arc::clone(&access) as _;
        let mount = Mount::start(&shown.site.service, folder, &view, given, &shown.options).unwrap();
        Self { access, view, mount }
    }

    fn has_read(&self, label: LabelId) {
        *self.access.label.lock().unwrap() = Some(label);
    }
}

fn has_read(shown: &Shown, label: LabelId) {
    *shown.access.label.lock().unwrap() = Some(label);
}

#[test]
fn an_empty_file_of_this_session_follows_it_upward() {
    let Some(shown) = Shown::start(Rights::ALL, &[]) else { return };
    let written = File::create(shown.at("written")).unwrap();
    let cut = File::create(shown.at("cut")).unwrap();
    let copied = written.try_clone().unwrap();
    File::create(shown.at("closed")).unwrap();
    has_read(&shown, LOWER);
    copied.write_all_at(b"copy", 0).unwrap();
    cut.set_len(5).unwrap();
    drop((written, copied, cut));
    wait_until("all is closed", || shown.site.service.views().is_idle());
    for (name, contents) in [("written", b"copy".as_slice()), ("cut", &[0; 5])] {
        assert_eq!(shown.header(name).policy().label, LOWER, "{name}");
        assert_eq!(shown.opened(name), contents);
    }
    // What is not open stays as it was.
    assert_eq!(shown.header("closed").policy().label, LABEL);
}

#[test]
fn a_file_that_others_have_open_or_have_written_to_does_not_follow() {
    let Some(shown) = Shown::start(Rights::ALL, &[]) else { return };
    let other = Other::of(&shown);
    let watched = File::create(shown.at("watched")).unwrap();
    let filled = File::create(shown.at("filled")).unwrap();
    let emptied = File::create(shown.at("emptied")).unwrap();
    let watcher = File::open(other.view.join("watched")).unwrap();
    std::fs::write(other.view.join("filled"), b"theirs").unwrap();
    let emptier = OpenOptions::new().write(true).open(other.view.join("emptied")).unwrap();
    emptier.write_all_at(b"theirs", 0).unwrap();
    emptier.set_len(0).unwrap();
    drop(emptier);
    has_read(&shown, LOWER);
    for (name, file) in [("watched", &watched), ("filled", &filled), ("emptied", &emptied)] {
        assert_eq!(number(&file.write_all_at(b"secret", 0).unwrap_err()), libc::EACCES, "{name}");
        assert_eq!(number(&file.set_len(9).unwrap_err()), libc::EACCES, "{name}");
        assert_eq!(shown.header(name).policy().label, LABEL, "{name}");
    }
    let mut buffer = [0; 6];
    assert_eq!(watcher.read_at(&mut buffer, 0).unwrap(), 0);
    // The watcher gone, it is the session's own again.
    drop(watcher);
    wait_until("it may be written to", || watched.write_all_at(b"secret", 0).is_ok());
    assert_eq!(shown.header("watched").policy().label, LOWER);
    drop((watched, filled, emptied));
    wait_until("all is closed", || shown.site.service.views().is_idle());
    assert_eq!(shown.opened("filled"), b"theirs");
    other.mount.end().unwrap();
}

#[test]
fn who_was_let_in_under_another_label_shows_a_grant_again() {
    let Some(shown) = Shown::start(Rights::ALL, &[("file", b"public contents")]) else { return };
    let other = Other::of(&shown);
    let reader = File::open(shown.at("file")).unwrap();
    let creator = File::create(shown.at("new")).unwrap();
    creator.write_all_at(b"mine", 0).unwrap();
    let mut buffer = [0; 64];
    assert_eq!(reader.read_at(&mut buffer, 0).unwrap(), 15);
    // Another session has read what ranks otherwise, and writes that into them.
    other.has_read(LOWER);
    let open = |name: &str| OpenOptions::new().write(true).open(other.view.join(name)).unwrap();
    let (file, new) = (open("file"), open("new"));
    assert_eq!(shown.header("file").policy().label, LOWER);
    // From now on the person has no grant for that label.
    *shown.site.source.changed.lock().unwrap() = Some(Rights::NONE);
    file.write_all_at(b"what is secret now", 0).unwrap();
    new.write_all_at(b"what is secret now", 0).unwrap();
    let bytes = b"what is secret";
    for (name, handle) in [("file", &reader), ("new", &creator)] {
        wait_until("it is closed to them", || {
            let read = handle.read_at(&mut buffer, 0);
            assert!(!buffer.windows(bytes.len()).any(|window| window == bytes), "{name}");
            read.is_err()
        });
    }
    drop((file, new, reader, creator));
    wait_until("all is closed", || shown.site.service.views().is_idle());
    assert_eq!(shown.opened("file"), b"what is secret now");
    other.mount.end().unwrap();
}
