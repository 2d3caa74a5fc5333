//! What can be exported from the window.

use super::layout::PaneKind;

/// A wish to write something; the window asks where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportRequest {
    /// The whole result as one PNG with the recipe inside.
    Sheet,
    /// The result folder of the command line: sheet, tiles, tables, arrays, recipe.
    Folder,
    /// One decoded tile: 0 is the mean, i + 1 sample i.
    Tile(usize),
    /// What a pane shows, as a figure or as the data behind it. Of the studies: the first of
    /// ladder, noise grid, walk and routes that was made.
    Pane { pane: PaneKind, format: ExportFormat },
    /// One certain figure, for panes that have several.
    Figure { figure: FigureKind, format: ExportFormat },
}

/// Figures of the panes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FigureKind {
    Uncertainty,
    Density,
    Retrieval,
    Map,
    Samples,
    Comparison,
    Ladder,
    Traverse,
    NoiseGrid,
    Routes,
    Evaluation,
    Training,
}

/// File formats of a pane's figure or data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportFormat {
    Png,
    Svg,
    Csv,
    Parquet,
    Npz,
}
