//! Measures sealing for `tests/bench/run.sh`, which prints the ratios. Each line of output is a name and a number.
//!
//!     measure cipher MIB                    MiB/s of each provider, one thread, chunks of 16 KiB: in the processor's
//!                                           cache, and over that much memory; and of copying that much memory
//!     measure memory MIB THREADS            seal and read back, source and envelope in memory
//!     measure disk SOURCE ENVELOPE THREADS  the same from file to file, with fsync; and peak memory
//!     measure files SOURCE TARGET HOW       seal every file of a folder on all cores: `seal`, `check` (seal and read
//!                                           back), `sync` (the same with fsync), or `copy` with fsync, unsealed

#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use rayon::prelude::*;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tobari_core::crypto::{
    CryptoError, Provider, RecipientKind, RecipientPrivateKey, bulk, random_bytes, second,
};
use tobari_core::envelope::{
    EPOCH_FILES, Epoch, FilePolicy, Header, OpenError, ReadAt, ReadBackError, SealError, SealOptions,
    Storage, open_stream, read_back, seal,
};
use tobari_core::ids::{LabelId, OrganisationId, TerminalId};

const MIB: usize = 1 << 20;

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Seal(#[from] SealError),
    #[error("{0}")]
    ReadBack(#[from] ReadBackError),
    #[error("{0}")]
    Open(#[from] OpenError),
    #[error("{0}")]
    Crypto(#[from] CryptoError),
    #[error("usage: see the head of core/examples/measure.rs")]
    Usage,
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |text: &str| text.parse().map_err(|_| Failure::Usage);
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["cipher", mib] => cipher(number(mib)?),
        ["memory", mib, threads] => memory(number(mib)?, number(threads)?),
        ["disk", source, sealed, threads] => disk(Path::new(source), Path::new(sealed), number(threads)?),
        ["files", source, target, how @ ("seal" | "check" | "sync" | "copy")] => {
            files(Path::new(source), Path::new(target), how)
        }
        _ => Err(Failure::Usage),
    }
}

fn cipher(mib: usize) -> Result<(), Failure> {
    for provider in [bulk(), second()] {
        let mut cached = vec![1; 256 * 1024];
        let speeds = best(5, || cipher_once(provider, &mut cached, mib))?;
        println!("cache_{} {speeds:.0}", provider.name());
    }
    let mut memory = vec![1; mib * MIB];
    for provider in [bulk(), second()] {
        let speeds = best(3, || cipher_once(provider, &mut memory, mib))?;
        println!("memory_{} {speeds:.0}", provider.name());
    }
    let mut copy = vec![2; mib * MIB];
    let copying = best(3, || {
        let start = Instant::now();
        copy.copy_from_slice(&memory);
        Ok(speed(memory.len(), start.elapsed()))
    })?;
    println!("memory_copy {copying:.0}");
    Ok(())
}

/// As an envelope does it, and nothing else: 16 KiB in place, 24 bytes of additional data; `mib` in all.
fn cipher_once(provider: &dyn Provider, data: &mut [u8], mib: usize) -> Result<f64, Failure> {
    let aead = provider.aead(&random_bytes());
    let mut nonce = [0; 12];
    let (start, mut bytes) = (Instant::now(), 0);
    while bytes < mib * MIB {
        for chunk in data.chunks_mut(16 * 1024) {
            nonce[0] = u8::wrapping_add(nonce[0], 1);
            aead.seal(&nonce, &[0; 24], chunk)?;
            bytes += chunk.len();
        }
    }
    Ok(speed(bytes, start.elapsed()))
}

fn memory(mib: usize, threads: usize) -> Result<(), Failure> {
    let key = RecipientPrivateKey::generate(RecipientKind::RsaOaep)?;
    let epoch = Epoch::new(std::slice::from_ref(key.public()))?;
    let mut plaintext = vec![0_u8; mib * MIB];
    for (index, piece) in plaintext.chunks_mut(8).enumerate() {
        piece.copy_from_slice(&(index as u64).to_le_bytes());
    }
    let sink = Shards::new(mib + mib / 64 + 2);
    let options = SealOptions { threads, ..SealOptions::default() };
    let mut dek = None;
    let sealing = best(5, || {
        sink.set_len(0)?;
        let start = Instant::now();
        let sealed = seal(&mut plaintext.as_slice(), &sink, &epoch, policy(), &options, &mut |_| ())?;
        let elapsed = start.elapsed();
        dek = Some(sealed.dek);
        Ok(speed(plaintext.len(), elapsed))
    })?;
    println!("memory_seal {sealing:.0}");
    let Some(dek) = dek else { return Ok(()) };
    for provider in [second(), bulk()] {
        let reading = best(3, || {
            let start = Instant::now();
            read_back(&sink, &dek, &mut plaintext.as_slice(), provider)?;
            Ok(speed(plaintext.len(), start.elapsed()))
        })?;
        println!("memory_read_back_{} {reading:.0}", provider.name());
    }
    Ok(())
}

fn disk(source: &Path, sealed_path: &Path, threads: usize) -> Result<(), Failure> {
    let key = RecipientPrivateKey::generate(RecipientKind::RsaOaep)?;
    let epoch = Epoch::new(std::slice::from_ref(key.public()))?;
    let length = usize::try_from(source.metadata()?.len()).map_err(|_| Failure::Usage)?;
    let options = SealOptions { threads, ..SealOptions::default() };
    let sink = File::options().read(true).write(true).create(true).truncate(true).open(sealed_path)?;

    let start = Instant::now();
    let sealed = seal(&mut File::open(source)?, &sink, &epoch, policy(), &options, &mut |_| ())?;
    let before_sync = start.elapsed();
    sink.sync_all()?;
    println!("disk_seal_without_sync {:.0}", speed(length, before_sync));
    println!("disk_seal {:.0}", speed(length, start.elapsed()));

    let start = Instant::now();
    read_back(&sink, &sealed.dek, &mut File::open(source)?, second())?;
    println!("disk_read_back {:.0}", speed(length, start.elapsed()));
    println!("peak_memory_mib {:.1}", peak_memory()?);

    let header = Header::read(&sink)?;
    let stanza = header.stanzas().first().ok_or(Failure::Usage)?;
    let dek = header.unwrap(stanza, &key.decapsulate(&stanza.encapsulation)?).map_err(OpenError::from)?;
    let start = Instant::now();
    open_stream(&sink, &header, &dek, &mut io::sink(), &mut |_| ())?;
    println!("disk_open {:.0}", speed(length, start.elapsed()));
    println!("peak_memory_with_open_mib {:.1}", peak_memory()?);
    Ok(())
}

fn files(source: &Path, target: &Path, how: &str) -> Result<(), Failure> {
    let key = RecipientPrivateKey::generate(RecipientKind::RsaOaep)?;
    let recovery = RecipientPrivateKey::generate(RecipientKind::RsaOaep)?;
    let recipients = [key.public().clone(), recovery.public().clone()];
    let paths: Vec<PathBuf> =
        std::fs::read_dir(source)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    std::fs::create_dir_all(target)?;
    let options = SealOptions { threads: 1, ..SealOptions::default() };
    let start = Instant::now();
    for group in paths.chunks(EPOCH_FILES as usize) {
        let epoch = Epoch::new(&recipients)?;
        group.par_iter().try_for_each(|path| {
            let name = path.file_name().ok_or(Failure::Usage)?;
            let mut plain = File::open(path)?;
            let mut sink = File::options().read(true).write(true).create_new(true).open(target.join(name))?;
            if how == "copy" {
                io::copy(&mut plain, &mut sink)?;
                return Ok::<(), Failure>(sink.sync_all()?);
            }
            let sealed = seal(&mut plain, &sink, &epoch, policy(), &options, &mut |_| ())?;
            if how == "sync" {
                sink.sync_all()?;
            }
            if how != "seal" {
                read_back(&sink, &sealed.dek, &mut File::open(path)?, second())?;
            }
            Ok(())
        })?;
    }
    println!("per_second {:.0}", paths.len() as f64 / start.elapsed().as_secs_f64());
    Ok(())
}

fn best(times: usize, mut measure: impl FnMut() -> Result<f64, Failure>) -> Result<f64, Failure> {
    (0..times).try_fold(0.0_f64, |best, _| Ok(best.max(measure()?)))
}

fn speed(bytes: usize, elapsed: Duration) -> f64 {
    bytes as f64 / MIB as f64 / elapsed.as_secs_f64()
}

fn peak_memory() -> Result<f64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or(Failure::Usage)?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().map_err(|_| Failure::Usage)?;
    Ok(kib / 1024.0)
}

fn policy() -> FilePolicy {
    FilePolicy {
        organisation: OrganisationId::from_bytes([1; 16]),
        label: LabelId::from_bytes([2; 16]),
        label_level: 20,
        label_name: "社外秘".into(),
        owner_group: None,
        sealed_at: jiff::Timestamp::UNIX_EPOCH,
        sealer: TerminalId::from_bytes([3; 16]),
        generation: 1,
    }
}

/// An envelope in memory that several threads can write at once, with all its pages touched before the clock starts:
/// the cost of a copy and nothing else.
struct Shards(Vec<Mutex<Box<[u8]>>>, Mutex<u64>);

impl Shards {
    fn new(mib: usize) -> Self {
        Self((0..mib).map(|_| Mutex::new(vec![1; MIB].into_boxed_slice())).collect(), Mutex::new(0))
    }

    fn each(
        &self,
        length: usize,
        offset: u64,
        mut visit: impl FnMut(&mut [u8], std::ops::Range<usize>),
    ) -> io::Result<()> {
        let mut done = 0;
        while done < length {
            let at = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)? + done;
            let within = at % MIB;
            let count = (MIB - within).min(length - done);
            let shard = self.0.get(at / MIB).ok_or(io::ErrorKind::StorageFull)?;
            let mut shard = shard.lock().map_err(|_| io::ErrorKind::Other)?;
            visit(shard.get_mut(within..within + count).unwrap_or_default(), done..done + count);
            done += count;
        }
        Ok(())
    }

    fn length(&self) -> io::Result<std::sync::MutexGuard<'_, u64>> {
        self.1.lock().map_err(|_| io::ErrorKind::Other.into())
    }
}

impl ReadAt for Shards {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.each(buffer.len(), offset, |shard, range| {
            buffer.get_mut(range).unwrap_or_default().copy_from_slice(shard);
        })
    }

    fn len(&self) -> io::Result<u64> {
        Ok(*self.length()?)
    }
}

impl Storage for Shards {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.each(bytes.len(), offset, |shard, range| {
            shard.copy_from_slice(bytes.get(range).unwrap_or_default());
        })?;
        let mut length = self.length()?;
        *length = (*length).max(offset + bytes.len() as u64);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        *self.length()? = length;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
}
