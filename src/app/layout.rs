//! Where the panes are: a tree of tiles that can be docked freely, kept with a version.

use egui_tiles::{Container, Linear, LinearDir, Tile, Tiles, Tree};
use serde::{Deserialize, Serialize};

/// The panes of the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum PaneKind {
    Query,
    Samples,
    Retrieval,
    Uncertainty,
    Map,
    Studies,
    Compare,
    Train,
    Evaluate,
}

impl PaneKind {
    pub const ALL: [PaneKind; 9] = [
        PaneKind::Query,
        PaneKind::Samples,
        PaneKind::Retrieval,
        PaneKind::Uncertainty,
        PaneKind::Map,
        PaneKind::Studies,
        PaneKind::Compare,
        PaneKind::Train,
        PaneKind::Evaluate,
    ];

    pub fn title(self) -> &'static str {
        match self {
            PaneKind::Query => "Query",
            PaneKind::Samples => "Samples",
            PaneKind::Retrieval => "Retrieval",
            PaneKind::Uncertainty => "Uncertainty",
            PaneKind::Map => "Map",
            PaneKind::Studies => "Studies",
            PaneKind::Compare => "Compare",
            PaneKind::Train => "Train",
            PaneKind::Evaluate => "Evaluate",
        }
    }
}

/// Raised when the panes or their default places change; an older layout is then replaced.
const LAYOUT_VERSION: u32 = 1;

/// The layout as it is kept on disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SavedLayout {
    version: u32,
    tree: Tree<PaneKind>,
}

impl SavedLayout {
    pub fn of(tree: &Tree<PaneKind>) -> Self {
        Self { version: LAYOUT_VERSION, tree: tree.clone() }
    }

    /// The tree, unless it is of another version or holds a pane twice.
    pub fn into_tree(self) -> Option<Tree<PaneKind>> {
        if self.version != LAYOUT_VERSION {
            return None;
        }
        let mut seen = std::collections::BTreeSet::new();
        let sound = self.tree.tiles.tiles().all(|tile| match tile {
            Tile::Pane(kind) => seen.insert(*kind),
            Tile::Container(_) => true,
        });
        (sound && !seen.is_empty()).then_some(self.tree)
    }
}

/// The default places for a window of `width` points.
pub fn default_tree(width: f32) -> Tree<PaneKind> {
    let mut tiles = Tiles::default();
    let tabs = |tiles: &mut Tiles<PaneKind>, kinds: &[PaneKind]| {
        let panes = kinds.iter().map(|&kind| tiles.insert_pane(kind)).collect();
        tiles.insert_tab_tile(panes)
    };
    let root = if width < 900.0 {
        tabs(&mut tiles, &PaneKind::ALL)
    } else {
        let query = tabs(&mut tiles, &[PaneKind::Query]);
        let wide = width >= 1700.0;
        let samples = if wide {
            let top = tabs(&mut tiles, &[PaneKind::Samples, PaneKind::Compare]);
            let below = tabs(&mut tiles, &[PaneKind::Studies]);
            column(&mut tiles, &[(top, 0.64), (below, 0.36)])
        } else {
            tabs(&mut tiles, &[PaneKind::Samples, PaneKind::Compare, PaneKind::Studies])
        };
        let (right, query_share, right_share) = if wide {
            let retrieval = tabs(&mut tiles, &[PaneKind::Retrieval]);
            let map = tabs(&mut tiles, &[PaneKind::Map, PaneKind::Train, PaneKind::Evaluate]);
            let top = tiles.insert_horizontal_tile(vec![retrieval, map]);
            let uncertainty = tabs(&mut tiles, &[PaneKind::Uncertainty]);
            let right = column(&mut tiles, &[(top, 0.52), (uncertainty, 0.48)]);
            (right, 0.16, 0.41)
        } else {
            let top = tabs(
                &mut tiles,
                &[PaneKind::Retrieval, PaneKind::Map, PaneKind::Train, PaneKind::Evaluate],
            );
            let uncertainty = tabs(&mut tiles, &[PaneKind::Uncertainty]);
            let right = column(&mut tiles, &[(top, 0.5), (uncertainty, 0.5)]);
            (right, 0.205, 0.345)
        };
        row(
            &mut tiles,
            &[
                (query, query_share),
                (samples, 1.0 - query_share - right_share),
                (right, right_share),
            ],
        )
    };
    Tree::new(egui::Id::unique("panes"), root, tiles)
}

fn row(tiles: &mut Tiles<PaneKind>, parts: &[(egui_tiles::TileId, f32)]) -> egui_tiles::TileId {
    linear(tiles, LinearDir::Horizontal, parts)
}

fn column(tiles: &mut Tiles<PaneKind>, parts: &[(egui_tiles::TileId, f32)]) -> egui_tiles::TileId {
    linear(tiles, LinearDir::Vertical, parts)
}

fn linear(
    tiles: &mut Tiles<PaneKind>,
    direction: LinearDir,
    parts: &[(egui_tiles::TileId, f32)],
) -> egui_tiles::TileId {
    let mut linear = Linear::new(direction, parts.iter().map(|&(tile, _)| tile).collect());
    for &(tile, share) in parts {
        linear.shares.set_share(tile, share);
    }
    tiles.insert_new(Tile::Container(Container::Linear(linear)))
}
