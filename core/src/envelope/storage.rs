//! Where envelopes lie: positioned reads, positioned writes, length and sync. Nothing else is asked of a file.

use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, PoisonError, RwLock};

/// Bytes that can be read at any position, from several threads.
pub trait ReadAt: Send + Sync {
    /// Fills `buffer` from `offset`.
    ///
    /// # Errors
    /// `UnexpectedEof` if there are fewer bytes; whatever the device says.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Length in bytes.
    ///
    /// # Errors
    /// Whatever the device says.
    fn len(&self) -> io::Result<u64>;

    /// Whether there are no bytes at all.
    ///
    /// # Errors
    /// Whatever the device says.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// Bytes that can also be changed.
pub trait Storage: ReadAt {
    /// Writes all of `bytes` at `offset`, growing the storage if needed.
    ///
    /// # Errors
    /// Whatever the device says; some of the bytes may then have been written.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Cuts to, or extends with zeros to, `length` bytes.
    ///
    /// # Errors
    /// Whatever the device says.
    fn set_len(&self, length: u64) -> io::Result<()>;

    /// Returns once all earlier changes will survive a power cut.
    ///
    /// # Errors
    /// Whatever the device says; earlier changes may then be lost, and a second try proves nothing.
    fn sync_data(&self) -> io::Result<()>;
}

impl ReadAt for std::fs::File {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buffer, offset)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

impl Storage for std::fs::File {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        std::fs::File::set_len(self, length)
    }

    fn sync_data(&self) -> io::Result<()> {
        std::fs::File::sync_data(self)
    }
}

macro_rules! forward {
    ($($(#[$attribute:meta])* [$($generics:tt)*] $type:ty),* $(,)?) => {$(
        impl<$($generics)*> ReadAt for $type
        where
            T: ReadAt + ?Sized,
        {
            fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
                (**self).read_exact_at(buffer, offset)
            }

            fn len(&self) -> io::Result<u64> {
                (**self).len()
            }
        }

        impl<$($generics)*> Storage for $type
        where
            T: Storage + ?Sized,
        {
            fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
                (**self).write_all_at(bytes, offset)
            }

            fn set_len(&self, length: u64) -> io::Result<()> {
                (**self).set_len(length)
            }

            fn sync_data(&self) -> io::Result<()> {
                (**self).sync_data()
            }
        }
    )*};
}

forward! {
    ['a, T] &'a T,
    [T] Arc<T>,
    [T] Box<T>,
}

/// An envelope in memory.
#[derive(Debug, Default)]
pub struct MemoryStorage(RwLock<Vec<u8>>);

impl MemoryStorage {
    /// An empty storage.
    pub fn new() -> Self {
        Self::default()
    }

    /// The bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy of the bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl From<Vec<u8>> for MemoryStorage {
    fn from(bytes: Vec<u8>) -> Self {
        Self(RwLock::new(bytes))
    }
}

impl ReadAt for MemoryStorage {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let bytes = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let source = bytes.get(start..).and_then(|rest| rest.get(..buffer.len()));
        buffer.copy_from_slice(source.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.read().unwrap_or_else(PoisonError::into_inner).len() as u64)
    }
}

impl Storage for MemoryStorage {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut contents = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let end = start.checked_add(bytes.len()).ok_or(io::ErrorKind::FileTooLarge)?;
        if contents.len() < end {
            contents.resize(end, 0);
        }
        contents.get_mut(start..end).ok_or(io::ErrorKind::FileTooLarge)?.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let length = usize::try_from(length).map_err(|_| io::ErrorKind::FileTooLarge)?;
        self.0.write().unwrap_or_else(PoisonError::into_inner).resize(length, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
}
