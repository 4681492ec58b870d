//! Work on segments of a file on all cores, with results in order. Each worker reads a segment under the lock of the
//! source, works on it while its bytes are still in the processor's cache, and writes it to its place; so
//! memory is one buffer for each worker, whatever the size of the file.

use super::layout::Geometry;
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;

/// Plaintext bytes of a segment, unless one chunk is larger.
const SEGMENT: usize = 256 * 1024;
/// Files up to this size are not worth a thread.
pub(super) const SMALL: usize = 1024 * 1024;
/// More workers than this would take more than a few MiB with the largest chunks.
const MAX_THREADS: usize = 16;

/// Chunks of a segment.
pub(super) fn segment_chunks(geometry: Geometry) -> usize {
    (SEGMENT / geometry.chunk_size()).max(1)
}

/// The number of workers for a wish of `threads`, 0 meaning one for each core.
pub(super) fn workers(threads: usize) -> usize {
    let wish = if threads == 0 {
        std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
    } else {
        threads
    };
    wish.min(MAX_THREADS)
}

/// Runs `threads` workers made by `make` until each has returned `None`, and gives their numbered results to `take` in
/// the order of the numbers, which start at `first` and leave no gap. The first error stops all.
pub(super) fn ordered<T, E, W>(
    threads: usize,
    first: u64,
    make: impl Fn() -> W + Sync,
    mut take: impl FnMut(T),
) -> Result<(), E>
where
    T: Send,
    E: Send,
    W: FnMut() -> Result<Option<(u64, T)>, E>,
{
    if threads <= 1 {
        let mut worker = make();
        while let Some((_, item)) = worker()? {
            take(item);
        }
        return Ok(());
    }
    let stop = AtomicBool::new(false);
    let failure = Mutex::new(None);
    std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel(4 * threads);
        for _ in 0..threads {
            let (sender, make, stop, failure) = (sender.clone(), &make, &stop, &failure);
            scope.spawn(move || {
                let mut worker = make();
                while !stop.load(Ordering::Relaxed) {
                    match worker() {
                        Ok(Some(numbered)) => {
                            if sender.send(numbered).is_err() {
                                break;
                            }
                        }
                        Ok(None) => break,
                        Err(error) => {
                            stop.store(true, Ordering::Relaxed);
                            failure.lock().unwrap_or_else(|poison| poison.into_inner()).get_or_insert(error);
                            break;
                        }
                    }
                }
            });
        }
        drop(sender);
        let (mut next, mut early) = (first, BTreeMap::new());
        for (number, item) in receiver {
            early.insert(number, item);
            while let Some(item) = early.remove(&next) {
                take(item);
                next += 1;
            }
        }
    });
    failure.into_inner().unwrap_or_else(|poison| poison.into_inner()).map_or(Ok(()), Err)
}

/// Reads until `buffer` is full or the source ends; returns the number of bytes.
pub(super) fn read_full(source: &mut dyn Read, mut buffer: &mut [u8]) -> io::Result<usize> {
    let wanted = buffer.len();
    while !buffer.is_empty() {
        match source.read(buffer) {
            Ok(0) => break,
            Ok(count) => buffer = buffer.get_mut(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(wanted - buffer.len())
}
