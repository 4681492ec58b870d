//! How a writer's changes reach the disk: `docs/spec/envelope.md`, "Writing".
//!
//! The order of writes and syncs here is what makes a power cut harmless; `tests/power_cut.rs` tries every cut.

use super::super::error::WriteError;
use super::super::journal::{Draft, apply, clear, put_slot};
use super::super::layout::{NONCE_SIZE, RESEAL_CHUNKS, TAG_SIZE};
use super::super::pipeline::segment_chunks;
use super::super::slot::State;
use super::super::storage::Storage;
use super::super::verify::Tag;
use super::{FIRST_BUDGET, LAST_BUDGET, Writer};
use std::collections::BTreeMap;

/// Files with more chunks lose their root when they are changed: computing it would cost more than the change.
const ROOTED_CHUNKS: u64 = 65536;

impl<S: Storage, J: Storage> Writer<S, J> {
    /// Makes room in the cache: chunks behind the committed end are written, the others need a commit.
    pub(super) fn evict(&mut self) -> Result<(), WriteError> {
        let size = self.unlocked.geometry.chunk_size();
        let committed = self.committed_chunks();
        let full: Vec<u64> = self
            .cache
            .range(committed..)
            .filter(|(_, chunk)| chunk.len() == size)
            .map(|(index, _)| *index)
            .collect();
        if full.len() * 2 < self.cache.len() {
            return self.commit();
        }
        self.allow(full.len() as u64, self.next_budget)?;
        self.next_budget = (2 * self.next_budget).min(LAST_BUDGET);
        let tags = self.write_appended(&full)?;
        for index in &full {
            self.cache.remove(index);
        }
        self.appended.extend(tags);
        Ok(())
    }

    /// Makes the contents durable.
    pub(super) fn commit(&mut self) -> Result<(), WriteError> {
        if self.failed {
            return Err(WriteError::Failed);
        }
        let geometry = self.unlocked.geometry;
        let state = self.unlocked.selected.state;
        if self.cache.is_empty() && self.appended.is_empty() && self.length == state.length && !state.dirty {
            return Ok(());
        }
        self.allow(self.cache.len() as u64, 0)?;

        // Behind the committed end nothing is lost by writing.
        let committed = self.committed_chunks();
        let behind: Vec<u64> = self.cache.range(committed..).map(|(index, _)| *index).collect();
        let mut tags = self.appended.clone();
        tags.extend(self.write_appended(&behind)?);
        // The DIRTY slot may have been renewed above.
        let base = self.unlocked.selected.state.generation;
        let over = self.cache.range(..committed);
        let mut draft = Draft::new(
            self.unlocked.cipher.file_id(),
            base,
            over.clone().count(),
            geometry.stored_chunk_size(),
        );
        for (index, chunk) in over {
            let tag = self.unlocked.cipher.seal(*index, draft.add(*index, chunk))?;
            tags.extend(tag.as_chunks().0.first().map(|tag| (*index, *tag)));
        }
        let new_tags = self.new_tags(&tags);
        let root = new_tags.as_ref().map(|tags| {
            let mut root = self.unlocked.keys.root();
            root.update(tags.as_flattened());
            root.finish()
        });
        let target = State { generation: base + 1, length: self.length, dirty: false, root };
        let destructive =
            !draft.is_empty() || geometry.file_size(self.length)? < geometry.file_size(state.length)?;
        if destructive {
            // The journal may reach the disk as soon as it is written; what it builds on must be there first.
            self.sync_storage()?;
            draft.finish(&self.unlocked.keys, &target);
            self.failed = true;
            if let Err(error) = self.journal.write_all_at(draft.bytes(), 0) {
                // The entry may be whole all the same. It must be void before anything else is written.
                self.failed = clear(&self.journal).is_err();
                return Err(WriteError::Journal(error));
            }
            self.sync_journal()?;
        } else {
            // Unless chunks were appended and cut off again, this only ends a file where it ends already.
            let size = geometry.file_size(self.length)?;
            if self.storage.len().map_err(WriteError::Read)? != size {
                self.storage.set_len(size).map_err(WriteError::Storage)?;
                self.unsynced = true;
            }
            self.sync_storage()?;
            self.failed = true;
        }
        // From here an error leaves open what the disk has; opening again finds out.
        self.unlocked.selected = if destructive {
            apply(&self.storage, &self.unlocked, &target, draft.chunks())?
        } else {
            put_slot(&self.storage, geometry, &self.unlocked.keys, &self.unlocked.selected, &target)?
        };
        // The commit is complete: the entry stays and is void, since the generation has passed it. Emptying the journal would have
        // the file system look for the same blocks again at the next commit.
        self.failed = false;
        self.live = geometry.chunks(self.length);
        self.cache.clear();
        self.appended.clear();
        self.tags = new_tags;
        (self.budget, self.next_budget) = (0, FIRST_BUDGET);
        Ok(())
    }

    /// Sees to it that a DIRTY slot on the disk allows for `seals` more chunks. Its generation is raised by all
    /// of them beforehand, so that the generation bounds the seals even if the power goes. A new slot allows for
    /// `advance` chunks at least.
    fn allow(&mut self, seals: u64, advance: u64) -> Result<(), WriteError> {
        let state = self.unlocked.selected.state;
        if !state.dirty || self.budget < seals {
            let budget = advance.max(seals);
            let generation = state.generation.saturating_add(1 + budget);
            if generation >= RESEAL_CHUNKS {
                return Err(WriteError::ResealNeeded);
            }
            let dirty = State { generation, dirty: true, ..state };
            let (keys, selected) = (&self.unlocked.keys, &self.unlocked.selected);
            self.failed = true;
            self.unlocked.selected = put_slot(&self.storage, self.unlocked.geometry, keys, selected, &dirty)?;
            self.failed = false;
            self.unsynced = false;
            self.budget = budget;
        }
        self.budget -= seals;
        Ok(())
    }

    /// Seals and writes cached chunks behind the committed end, as few writes as their order allows. They stay in the
    /// cache.
    fn write_appended(&mut self, indices: &[u64]) -> Result<Vec<(u64, Tag)>, WriteError> {
        let geometry = self.unlocked.geometry;
        let mut tags = Vec::new();
        for run in indices.chunk_by(|left, right| left + 1 == *right) {
            for part in run.chunks(segment_chunks(geometry)) {
                let Some(first) = part.first() else { continue };
                let mut stored = Vec::with_capacity(part.len() * geometry.stored_chunk_size());
                for chunk in part.iter().filter_map(|index| self.cache.get(index)) {
                    add_with_room(&mut stored, chunk);
                }
                tags.extend(self.write_sealed(*first, &mut stored)?);
            }
        }
        Ok(tags)
    }

    /// Writes whole chunks that begin the file's next chunk and lie behind the committed end, straight from `data`. Returns how many
    /// bytes it took: none if there is anything else to it.
    pub(super) fn append(&mut self, index: u64, within: usize, data: &[u8]) -> Result<usize, WriteError> {
        let geometry = self.unlocked.geometry;
        let size = geometry.chunk_size();
        let next = within == 0 && geometry.start(index) == self.length;
        if !next || data.len() < size || index < self.committed_chunks() {
            return Ok(0);
        }
        let chunks = (data.len() / size).min(segment_chunks(geometry));
        self.allow(chunks as u64, self.next_budget)?;
        self.next_budget = (2 * self.next_budget).min(LAST_BUDGET);
        let mut stored = Vec::with_capacity(chunks * geometry.stored_chunk_size());
        for chunk in data.chunks_exact(size).take(chunks) {
            add_with_room(&mut stored, chunk);
        }
        let tags = self.write_sealed(index, &mut stored)?;
        self.appended.extend(tags);
        self.length += (chunks * size) as u64;
        Ok(chunks * size)
    }

    /// Seals consecutive chunks, `first` being the first of them, and writes them.
    fn write_sealed(&mut self, first: u64, stored: &mut [u8]) -> Result<Vec<(u64, Tag)>, WriteError> {
        let tags = self.unlocked.cipher.seal(first, stored)?;
        self.unsynced = true;
        let offset = self.unlocked.geometry.offset(first);
        self.storage.write_all_at(stored, offset).map_err(WriteError::Storage)?;
        Ok((first..).zip(tags.as_chunks().0.iter().copied()).collect())
    }

    /// The tags of the contents after the commit, if all are known and few enough.
    fn new_tags(&self, changed: &BTreeMap<u64, Tag>) -> Option<Vec<Tag>> {
        let chunks = self.unlocked.geometry.chunks(self.length);
        let mut tags = self.tags.clone().filter(|_| chunks <= ROOTED_CHUNKS)?;
        tags.resize(chunks as usize, Tag::default());
        for (index, tag) in changed {
            *tags.get_mut(*index as usize)? = *tag;
        }
        Some(tags)
    }

    fn committed_chunks(&self) -> u64 {
        self.unlocked.geometry.chunks(self.unlocked.selected.state.length)
    }

    fn sync_storage(&mut self) -> Result<(), WriteError> {
        if self.unsynced {
            self.failed = true;
            self.storage.sync_data().map_err(WriteError::Storage)?;
            (self.failed, self.unsynced) = (false, false);
        }
        Ok(())
    }

    fn sync_journal(&self) -> Result<(), WriteError> {
        #[cfg(test)]
        if self.test_only_skip_journal_sync {
            return Ok(());
        }
        self.journal.sync_data().map_err(WriteError::Journal)
    }
}

/// Adds a chunk's plaintext at the place of its ciphertext.
fn add_with_room(stored: &mut Vec<u8>, chunk: &[u8]) {
    stored.extend_from_slice(&[0; NONCE_SIZE]);
    stored.extend_from_slice(chunk);
    stored.extend_from_slice(&[0; TAG_SIZE]);
}
