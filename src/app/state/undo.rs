//! Undo and redo of changes to the query form and of what is on screen.

use super::form::QueryForm;
use super::history::EntryId;

/// Steps kept.
const LIMIT: usize = 200;

/// What one step brings back.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    pub form: QueryForm,
    pub current: Option<EntryId>,
    pub compared: Option<EntryId>,
}

/// Two stacks of snapshots.
#[derive(Debug, Clone, Default)]
pub struct UndoStack {
    past: Vec<Snapshot>,
    future: Vec<Snapshot>,
}

impl UndoStack {
    /// Remembers `before`, the state that is about to change.
    pub fn record(&mut self, before: Snapshot) {
        if self.past.last() == Some(&before) {
            return;
        }
        self.future.clear();
        self.past.push(before);
        if self.past.len() > LIMIT {
            self.past.remove(0);
        }
    }

    pub fn undo(&mut self, now: Snapshot) -> Option<Snapshot> {
        let before = self.past.pop()?;
        self.future.push(now);
        Some(before)
    }

    pub fn redo(&mut self, now: Snapshot) -> Option<Snapshot> {
        let after = self.future.pop()?;
        self.past.push(now);
        Some(after)
    }

    pub fn can_undo(&self) -> bool {
        !self.past.is_empty()
    }

    pub fn can_redo(&self) -> bool {
        !self.future.is_empty()
    }
}
