//! fanotify and file handles: the calls, and the layout of what the kernel sends.

use std::ffi::{CStr, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;

/// Room for a burst of events in one read.
pub(crate) const BUFFER: usize = 64 << 10;
/// Longest file handle (`MAX_HANDLE_SZ`).
const HANDLE_MAX: usize = 128;
/// Length of `struct fanotify_event_metadata`.
const METADATA: usize = 24;
/// Offset of the file handle in an information record: header and file system id.
const HANDLE_AT: usize = 12;

/// A notification group.
#[derive(Debug)]
pub(crate) struct Group(OwnedFd);

impl Group {
    /// A new group that does not block.
    ///
    /// # Errors
    /// `EPERM` without `CAP_SYS_ADMIN`, `EMFILE` when the user has too many groups, `EINVAL` on old kernels.
    pub(crate) fn new(flags: libc::c_uint) -> io::Result<Self> {
        let flags = flags | libc::FAN_CLOEXEC | libc::FAN_NONBLOCK;
        let event_flags = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_LARGEFILE;
        // SAFETY: takes two integers by value.
        let fd = unsafe { libc::fanotify_init(flags, event_flags.cast_unsigned()) };
        // SAFETY: a descriptor that the call just made, so nobody else owns it.
        owned(fd.into()).map(|fd| Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Adds, removes or flushes marks on the object that `file` has open.
    ///
    /// # Errors
    /// As `fanotify_mark(2)`.
    pub(crate) fn mark(&self, flags: libc::c_uint, mask: u64, file: impl AsFd) -> io::Result<()> {
        // SAFETY: both descriptors are borrowed for the whole call; a null path means the object of `file` itself.
        let result = unsafe {
            libc::fanotify_mark(
                self.0.as_raw_fd(),
                flags,
                mask,
                file.as_fd().as_raw_fd(),
                std::ptr::null::<libc::c_char>(),
            )
        };
        super::check(result).map(drop)
    }
}

impl AsFd for Group {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A file handle: what names a file on its file system for as long as it exists.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Handle {
    /// The file system's type of it.
    pub(crate) kind: i32,
    /// Opaque.
    pub(crate) bytes: Box<[u8]>,
}

/// `struct file_handle` with room for the longest handle.
#[repr(C)]
struct RawHandle {
    length: u32,
    kind: i32,
    bytes: [u8; HANDLE_MAX],
}

impl Handle {
    /// The handle of what `file` has open.
    ///
    /// # Errors
    /// `EOPNOTSUPP` where the file system has no handles.
    pub(crate) fn of(file: impl AsFd) -> io::Result<Self> {
        let mut raw = RawHandle { length: HANDLE_MAX as u32, kind: 0, bytes: [0; HANDLE_MAX] };
        let mut mount = 0;
        // SAFETY: `raw` is laid out as `struct file_handle` and says how much room it has; the empty path is terminated;
        // `mount` outlives the call.
        let result = unsafe {
            libc::name_to_handle_at(
                file.as_fd().as_raw_fd(),
                c"".as_ptr(),
                (&raw mut raw).cast(),
                &raw mut mount,
                libc::AT_EMPTY_PATH,
            )
        };
        super::check(result)?;
        let bytes = raw.bytes.get(..raw.length as usize).unwrap_or_default();
        Ok(Self { kind: raw.kind, bytes: bytes.into() })
    }

    /// Finds the file again; `mount` is anything open on the same file system. Opens nothing (`O_PATH`).
    ///
    /// # Errors
    /// `ESTALE` when it does not exist any more; `EPERM` without `CAP_DAC_READ_SEARCH`.
    pub(crate) fn open(&self, mount: impl AsFd) -> io::Result<OwnedFd> {
        let mut raw = RawHandle { length: 0, kind: self.kind, bytes: [0; HANDLE_MAX] };
        let Some(room) = raw.bytes.get_mut(..self.bytes.len()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        room.copy_from_slice(&self.bytes);
        raw.length = self.bytes.len() as u32;
        // SAFETY: `raw` is laid out as `struct file_handle` and as long as it says; `mount` is borrowed for the call.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_open_by_handle_at,
                mount.as_fd().as_raw_fd(),
                &raw mut raw,
                libc::O_PATH | libc::O_CLOEXEC,
            )
        };
        // SAFETY: a descriptor that the call just made, so nobody else owns it.
        owned(fd).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

/// One event as the kernel wrote it.
#[derive(Debug)]
pub(crate) struct RawEvent<'a> {
    /// `FAN_…` bits.
    pub(crate) mask: u64,
    /// The process that caused it.
    pub(crate) pid: i32,
    /// Directory and name, where the group asked for them.
    pub(crate) place: Option<(Handle, &'a OsStr)>,
    /// The open file of a permission event. Whoever takes the event owns it.
    pub(crate) fd: RawFd,
}

impl RawEvent<'_> {
    /// Takes the event's descriptor.
    pub(crate) fn take_file(&self) -> Option<OwnedFd> {
        // SAFETY: the kernel made the descriptor for this event alone, and `events` yields each event once.
        (self.fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(self.fd) })
    }
}

/// The events in a buffer that `read` filled.
pub(crate) fn events(mut buffer: &[u8]) -> impl Iterator<Item = RawEvent<'_>> {
    std::iter::from_fn(move || {
        let length = number(buffer, 0)? as usize;
        if length < METADATA {
            return None;
        }
        let (event, rest) = buffer.split_at_checked(length)?;
        buffer = rest;
        let header = usize::from(u16::from_ne_bytes(event.get(6..8)?.try_into().ok()?));
        Some(RawEvent {
            mask: u64::from_ne_bytes(event.get(8..16)?.try_into().ok()?),
            fd: number(event, 16)?.cast_signed(),
            pid: number(event, 20)?.cast_signed(),
            place: event.get(header..).and_then(place),
        })
    })
}

/// The directory and name among the information records of an event.
fn place(mut records: &[u8]) -> Option<(Handle, &OsStr)> {
    loop {
        let kind = *records.first()?;
        let length = usize::from(u16::from_ne_bytes(records.get(2..4)?.try_into().ok()?));
        let (record, rest) = records.split_at_checked(length)?;
        if length == 0 {
            return None;
        }
        if kind == libc::FAN_EVENT_INFO_TYPE_DFID_NAME {
            let bytes = number(record, HANDLE_AT)? as usize;
            let start = HANDLE_AT + 8;
            let handle = Handle {
                kind: number(record, HANDLE_AT + 4)?.cast_signed(),
                bytes: record.get(start..start.checked_add(bytes)?)?.into(),
            };
            let name = CStr::from_bytes_until_nul(record.get(start + bytes..)?).ok()?;
            return Some((handle, OsStr::from_bytes(name.to_bytes())));
        }
        records = rest;
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn owned(fd: libc::c_long) -> io::Result<RawFd> {
    if fd < 0 { Err(io::Error::last_os_error()) } else { RawFd::try_from(fd).map_err(io::Error::other) }
}
