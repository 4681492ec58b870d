//! Names: finding, making, moving and removing them. The names of the view are those of the folder; only its control
//! directory is not shown, at any depth, and cannot be made.

use super::Answer;
use super::nodes::{Identity, Node, ROOT, through};
use super::state::{Caller, View};
use super::storage::Journal;
use fuser::FileAttr;
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, RenameFlags, Statx, StatxAttributes, StatxFlags, Uid, chmodat,
    chownat, linkat, mkdirat, mknodat, openat, readlinkat, renameat_with, statx, symlinkat, unlinkat,
};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use tobari_core::ids::FileId;

/// What is to be made, and with which permissions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Making {
    /// Permissions and kind, as asked for.
    pub(super) mode: u32,
    pub(super) umask: u32,
    /// Of a device.
    pub(super) device: u32,
}

/// What a name was seen to lead to.
pub(super) struct Found {
    /// Unless the kernel knew of it.
    descriptor: Option<OwnedFd>,
    stat: Statx,
    /// To read the beginning of, which the disk is reading already.
    begins: Option<File>,
}

impl View {
    /// Finds a name.
    pub(super) fn lookup(&self, caller: Caller, parent: u64, name: &OsStr) -> Answer<FileAttr> {
        self.admit(caller)?;
        Self::usable(name).map_err(|_| Errno::NOENT)?;
        let directory = self.nodes.node(parent)?;
        Ok(self.find(&directory, name)?.1)
    }

    /// Finds a name; the kernel is told of it.
    pub(super) fn find(&self, directory: &Node, name: &OsStr) -> Answer<(Arc<Node>, FileAttr)> {
        let descriptor = Self::entry(directory, name)?;
        let stat = super::nodes::stat(&descriptor)?;
        let node = self.nodes.tell(directory.number, name, descriptor, &stat);
        self.told(node, &stat)
    }

    /// Looks at a name that was listed with this inode number, before the kernel is told of it: has the disk read what will be looked
    /// at.
    pub(super) fn look(&self, directory: &Node, number: u64, name: &OsStr) -> Answer<Found> {
        if self.nodes.is_known(number) {
            let stat = statx(directory, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS)?;
            // With its attributes the kernel says whether another file system lies over the name.
            if !stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
                return Ok(Found { descriptor: None, stat, begins: None });
            }
        }
        let descriptor = Self::entry(directory, name)?;
        let stat = super::nodes::stat(&descriptor)?;
        let begins = super::attributes::begins(&descriptor, &stat);
        Ok(Found { descriptor: Some(descriptor), stat, begins })
    }

    /// Tells the kernel of a name that was [looked](Self::look) at.
    pub(super) fn tell(&self, directory: &Node, name: &OsStr, found: Found) -> Answer<(Arc<Node>, FileAttr)> {
        let Found { descriptor, stat, begins } = found;
        let node = match descriptor {
            None => match self.nodes.tell_again(directory.number, name, &stat) {
                Some(node) => node,
                None => return self.find(directory, name),
            },
            Some(descriptor) => self.nodes.tell(directory.number, name, descriptor, &stat),
        };
        if let Some(file) = begins {
            super::attributes::note_outline(&node, &stat, &file);
        }
        self.told(node, &stat)
    }

    fn told(&self, node: Arc<Node>, stat: &Statx) -> Answer<(Arc<Node>, FileAttr)> {
        match self.attributes_from(&node, stat) {
            Ok(attributes) => Ok((node, attributes)),
            Err(errno) => {
                self.nodes.forget(node.number, 1);
                Err(errno)
            }
        }
    }

    /// Makes a directory.
    pub(super) fn make_directory(
        &self,
        caller: Caller,
        parent: u64,
        name: &OsStr,
        making: Making,
    ) -> Answer<FileAttr> {
        self.admit(caller)?;
        Self::usable(name)?;
        let directory = self.nodes.node(parent)?;
        let birth = Birth::of(self, &directory, caller, making)?;
        mkdirat(&directory, name, birth.mode)?;
        let made = Self::entry(&directory, name)?;
        let finished = birth.finish(&made, FileType::Directory);
        if let Err(errno) = finished {
            let _ = unlinkat(&directory, name, AtFlags::REMOVEDIR);
            return Err(errno);
        }
        Ok(self.find(&directory, name)?.1)
    }

    /// Makes what is neither a regular file nor a directory nor a link.
    pub(super) fn make_special(
        &self,
        caller: Caller,
        parent: u64,
        name: &OsStr,
        making: Making,
    ) -> Answer<FileAttr> {
        self.admit(caller)?;
        Self::usable(name)?;
        let directory = self.nodes.node(parent)?;
        let kind = FileType::from_raw_mode(making.mode);
        if matches!(kind, FileType::CharacterDevice | FileType::BlockDevice) && self.ids != super::Ids::Same {
            return Err(Errno::PERM);
        }
        let birth = Birth::of(self, &directory, caller, making)?;
        let device = rustix::fs::makedev(
            (making.device >> 8) & 0xfff,
            (making.device & 0xff) | ((making.device >> 12) & 0xfff00),
        );
        mknodat(&directory, name, kind, birth.mode, device)?;
        let made = Self::entry(&directory, name)?;
        if let Err(errno) = birth.finish(&made, kind) {
            let _ = unlinkat(&directory, name, AtFlags::empty());
            return Err(errno);
        }
        Ok(self.find(&directory, name)?.1)
    }

    /// Makes a symbolic link.
    pub(super) fn make_link(
        &self,
        caller: Caller,
        parent: u64,
        name: &OsStr,
        target: &Path,
    ) -> Answer<FileAttr> {
        self.admit(caller)?;
        Self::usable(name)?;
        let directory = self.nodes.node(parent)?;
        let making = Making { mode: 0o777, umask: 0, device: 0 };
        let birth = Birth::of(self, &directory, caller, making)?;
        symlinkat(target, &directory, name)?;
        let made = Self::entry(&directory, name)?;
        if let Err(errno) = birth.finish(&made, FileType::Symlink) {
            let _ = unlinkat(&directory, name, AtFlags::empty());
            return Err(errno);
        }
        Ok(self.find(&directory, name)?.1)
    }

    /// Reads a symbolic link.
    pub(super) fn read_link(&self, caller: Caller, number: u64) -> Answer<Vec<u8>> {
        self.admit(caller)?;
        let node = self.nodes.node(number)?;
        Ok(readlinkat(&node, c"", Vec::new())?.into_bytes())
    }

    /// Removes a file's name.
    pub(super) fn remove_file(&self, caller: Caller, parent: u64, name: &OsStr) -> Answer<()> {
        self.admit(caller)?;
        Self::usable(name)?;
        let directory = self.nodes.node(parent)?;
        let journal = self.doomed_journal(&directory, name);
        unlinkat(&directory, name, AtFlags::empty())?;
        self.remove_journal(journal);
        Ok(())
    }

    /// Removes a directory.
    pub(super) fn remove_directory(&self, caller: Caller, parent: u64, name: &OsStr) -> Answer<()> {
        self.admit(caller)?;
        Self::usable(name)?;
        let directory = self.nodes.node(parent)?;
        unlinkat(&directory, name, AtFlags::REMOVEDIR)
    }

    /// Renames.
    pub(super) fn rename(
        &self,
        caller: Caller,
        from: (u64, &OsStr),
        to: (u64, &OsStr),
        flags: u32,
    ) -> Answer<()> {
        self.admit(caller)?;
        Self::usable(from.1)?;
        Self::usable(to.1)?;
        let (source, target) = (self.nodes.node(from.0)?, self.nodes.node(to.0)?);
        let flags = RenameFlags::from_bits_retain(flags);
        let replaces = !flags.intersects(RenameFlags::EXCHANGE | RenameFlags::NOREPLACE);
        let journal = replaces.then(|| self.doomed_journal(&target, to.1)).flatten();
        renameat_with(&source, from.1, &target, to.1, flags)?;
        self.remove_journal(journal);
        self.seen_at(&target, to.1);
        if flags.contains(RenameFlags::EXCHANGE) {
            self.seen_at(&source, from.1);
        }
        Ok(())
    }

    /// Makes another name for a file.
    pub(super) fn link(&self, caller: Caller, number: u64, parent: u64, name: &OsStr) -> Answer<FileAttr> {
        self.admit(caller)?;
        Self::usable(name)?;
        let (node, directory) = (self.nodes.node(number)?, self.nodes.node(parent)?);
        linkat(CWD, node.through(), &directory, name, AtFlags::SYMLINK_FOLLOW)?;
        Ok(self.find(&directory, name)?.1)
    }

    /// Makes a directory's entries durable.
    pub(super) fn sync_directory(&self, number: u64) -> Answer<()> {
        let node = self.nodes.node(number)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        crate::seal::sync(openat(&node, c".", flags, Mode::empty())?)
    }

    fn remove_journal(&self, journal: Option<(Identity, FileId)>) {
        if let Some((identity, file)) = journal {
            Journal::remove(&self.journals, identity, file);
        }
    }

    /// Notes where a node is now, if the kernel knows it.
    fn seen_at(&self, directory: &Node, name: &OsStr) {
        if let Ok(entry) = Self::entry(directory, name)
            && let Ok(stat) = super::nodes::stat(&entry)
            && let Ok(node) = self.nodes.node(stat.stx_ino)
            && node.number != ROOT
        {
            self.nodes.moved(&node, directory.number, name);
        }
    }
}

/// Owner and permissions of something new.
pub(super) struct Birth {
    user: Uid,
    group: Gid,
    /// For the call that makes it. Nobody else can reach it before it has its owner, unless an ACL of the directory lets them.
    pub(super) mode: Mode,
    /// To be set afterwards, unless an ACL of the directory decided.
    finally: Option<Mode>,
    /// A directory in one that gives its group on does so too.
    gives_group: bool,
}

impl Birth {
    /// What the directory and who asks make of it.
    pub(super) fn of(view: &View, directory: &Node, caller: Caller, making: Making) -> Answer<Self> {
        const GIVES_GROUP: u16 = 0o2000;
        let parent: Statx = directory.stat()?;
        let gives_group = parent.stx_mode & GIVES_GROUP != 0;
        let group = if gives_group { parent.stx_gid } else { view.ids.real_group(caller.gid) };
        let wanted = making.mode & 0o7777;
        let (mode, finally) = if has_default_acl(directory)? {
            (wanted, None)
        } else {
            (wanted & 0o700, Some(Mode::from_raw_mode(wanted & !making.umask)))
        };
        Ok(Self {
            user: Uid::from_raw(view.ids.real_user(caller.uid)),
            group: Gid::from_raw(group),
            mode: Mode::from_raw_mode(mode),
            finally,
            gives_group,
        })
    }

    /// Gives it owner and permissions.
    pub(super) fn finish(&self, made: &(impl AsFd + AsRawFd), kind: FileType) -> Answer<()> {
        chownat(made, c"", Some(self.user), Some(self.group), AtFlags::EMPTY_PATH)?;
        if kind == FileType::Symlink {
            return Ok(());
        }
        let path = through(made);
        let mode = match self.finally {
            Some(mode) => mode,
            // Changing the owner takes the set-id bits away.
            None if kind == FileType::Directory && self.gives_group => {
                Mode::from_raw_mode((super::nodes::stat(made.as_fd())?.stx_mode & 0o7777).into())
            }
            None => return Ok(()),
        };
        let inherited =
            if kind == FileType::Directory && self.gives_group { Mode::SGID } else { Mode::empty() };
        chmodat(CWD, path, mode | inherited, AtFlags::empty())
    }
}

fn has_default_acl(directory: &Node) -> Answer<bool> {
    match rustix::fs::getxattr_query(directory.through(), c"system.posix_acl_default") {
        Ok(size) => Ok(size > 0),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(false),
        Err(errno) => Err(errno),
    }
}
