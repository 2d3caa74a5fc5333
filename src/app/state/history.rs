//! Every query of the session with what became of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use image::RgbImage;

use crate::session::engine::{JobFailure, JobId};
use crate::session::recipe::Recipe;
use crate::session::result::{QueryResult, Tile};

/// Names one query of the session.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct EntryId(pub u64);

/// One query.
#[derive(Debug, Clone)]
pub struct Entry {
    pub id: EntryId,
    /// What was asked; with the hashes once it was analysed.
    pub recipe: Recipe,
    /// Distribution, retrieval and statistics; `None` before they are known, and for entries of a
    /// saved session until they are opened again.
    pub result: Option<Arc<QueryResult>>,
    /// `[1 + samples]` pictures: the mean first.
    pub tiles: Vec<TileState>,
    pub decode: DecodeState,
    pub pinned: bool,
    pub asked: SystemTime,
    pub warnings: Vec<String>,
}

/// Where the decoding of an entry stands.
#[derive(Debug, Clone, Default)]
pub enum DecodeState {
    #[default]
    NotAsked,
    /// Waiting or running; the job list knows more.
    Running(JobId),
    Finished,
    /// Stopped with that many tiles finished.
    Stopped {
        finished: usize,
    },
    Failed(JobFailure),
}

/// One picture. `version` grows with every change, so that textures know when to follow.
#[derive(Debug, Clone, Default)]
pub enum TileState {
    #[default]
    Empty,
    /// An unfinished picture.
    Preview {
        image: Arc<RgbImage>,
        version: u32,
    },
    Done(Arc<Tile>),
}

impl Entry {
    /// One line for lists.
    pub fn title(&self) -> String {
        self.recipe.query.title()
    }

    /// Number of finished tiles.
    pub fn finished_tiles(&self) -> usize {
        self.tiles.iter().filter(|tile| matches!(tile, TileState::Done(_))).count()
    }
}

/// All queries, oldest first.
#[derive(Debug, Clone, Default)]
pub struct History {
    entries: BTreeMap<EntryId, Entry>,
    next: u64,
}

impl History {
    /// A new entry's name.
    pub fn next_id(&mut self) -> EntryId {
        self.next += 1;
        EntryId(self.next)
    }

    pub fn insert(&mut self, entry: Entry) {
        self.next = self.next.max(entry.id.0);
        self.entries.insert(entry.id, entry);
    }

    pub fn get(&self, id: EntryId) -> Option<&Entry> {
        self.entries.get(&id)
    }

    pub fn get_mut(&mut self, id: EntryId) -> Option<&mut Entry> {
        self.entries.get_mut(&id)
    }

    pub fn remove(&mut self, id: EntryId) -> Option<Entry> {
        self.entries.remove(&id)
    }

    /// Oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.entries.values()
    }

    pub fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut Entry> {
        self.entries.values_mut()
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}
