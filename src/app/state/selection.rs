//! Hovered and selected things, by stable identity, shared by all panes.

use std::collections::BTreeSet;

use crate::app::layout::PaneKind;

/// Anything that can be picked, by an identity that sorting and filtering do not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Item {
    Query,
    Mean,
    /// A sample by its index.
    Sample(usize),
    /// A gallery item by its row.
    Gallery(usize),
    Dimension(usize),
}

/// How a pick changes the selection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SelectMode {
    Replace,
    Add,
    Remove,
    Toggle,
}

impl SelectMode {
    /// How the keys that are held change a pick: Alt removes, Shift adds, Ctrl toggles.
    pub fn of_keys(ui: &egui::Ui) -> Self {
        let modifiers = ui.input(|i| i.modifiers);
        if modifiers.alt {
            SelectMode::Remove
        } else if modifiers.shift {
            SelectMode::Add
        } else if modifiers.command {
            SelectMode::Toggle
        } else {
            SelectMode::Replace
        }
    }
}

/// What is picked.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    pub hovered: Option<Item>,
    items: BTreeSet<Item>,
    /// Grows with every change of what is selected.
    version: u64,
    /// Where the last pick came from, for the status bar.
    pub from: Option<PaneKind>,
    /// Hide what is not selected, instead of fading it.
    pub isolated: bool,
}

impl Selection {
    pub fn contains(&self, item: Item) -> bool {
        self.items.contains(&item)
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Grows with every change of what is selected, so that what is derived from it can be kept.
    pub fn version(&self) -> u64 {
        self.version
    }

    pub fn iter(&self) -> impl Iterator<Item = Item> + '_ {
        self.items.iter().copied()
    }

    pub fn dimensions(&self) -> impl Iterator<Item = usize> + '_ {
        // Items sort by kind: each kind is one range, found without a look at the others.
        self.items.range(Item::Dimension(0)..).filter_map(|item| match item {
            Item::Dimension(d) => Some(*d),
            _ => None,
        })
    }

    pub fn samples(&self) -> impl Iterator<Item = usize> + '_ {
        self.items.range(Item::Sample(0)..Item::Gallery(0)).filter_map(|item| match item {
            Item::Sample(s) => Some(*s),
            _ => None,
        })
    }

    pub fn rows(&self) -> impl Iterator<Item = usize> + '_ {
        self.items.range(Item::Gallery(0)..Item::Dimension(0)).filter_map(|item| match item {
            Item::Gallery(row) => Some(*row),
            _ => None,
        })
    }

    /// Opacity, 0 to 1, of an item: those of a kind that has nothing selected stand as they are,
    /// others fade when they are not among the selected.
    pub fn opacity(&self, item: Item) -> f32 {
        let same_kind =
            |other: &Item| std::mem::discriminant(other) == std::mem::discriminant(&item);
        if !self.items.iter().any(same_kind) || self.contains(item) || self.hovered == Some(item) {
            1.0
        } else {
            0.35
        }
    }

    /// Applies one pick. Dimensions and things are selected apart: replacing one kind leaves the
    /// other.
    pub fn apply(&mut self, items: &[Item], mode: SelectMode, from: PaneKind) {
        self.from = Some(from);
        self.version += 1;
        let is_dimension = |item: &Item| matches!(item, Item::Dimension(_));
        match mode {
            SelectMode::Replace => {
                let dimensions = from == PaneKind::Uncertainty && items.iter().all(is_dimension);
                self.items.retain(|item| is_dimension(item) != dimensions);
                self.items.extend(items);
            }
            SelectMode::Add => self.items.extend(items),
            SelectMode::Remove => self.items.retain(|item| !items.contains(item)),
            SelectMode::Toggle => {
                for item in items {
                    if !self.items.remove(item) {
                        self.items.insert(*item);
                    }
                }
            }
        }
    }

    pub fn clear(&mut self) {
        self.items.clear();
        self.version += 1;
        self.isolated = false;
    }
}
