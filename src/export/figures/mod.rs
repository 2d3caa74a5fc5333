//! Figures for papers and the data behind them, from results and studies.
//!
//! A figure is laid out once as a list of shapes and then written as PNG (two pixels per point) or
//! SVG; each carries a caption block with query, draws, levels of intervals, seed and model hashes.
//! The data of a figure is a table of everything that is drawn. Knows nothing of the window.

mod active;
pub(crate) mod axis;
mod caption;
mod comparison;
mod contact;
mod degradation;
mod density;
mod drawing;
mod evaluation;
mod intervals;
mod ladder;
mod map;
mod overlap;
mod page;
mod render;
mod report;
mod retrieval;
mod routes;
mod samples;
mod table;
mod training;
mod uncertainty;

use std::io;
use std::path::Path;

pub use report::ReportPart;
pub use table::{Table, TableFormat};
pub use training::Training;

use drawing::Drawing;

use crate::experiment::active::{ActiveReport, Measure};
use crate::experiment::overlap::LikelihoodOverlap;
use crate::experiment::report::{Report, TestReport};
use crate::files::{FileError, write_atomic};
use crate::session::engine::Evaluation;
use crate::session::projection::GalleryMap;
use crate::session::recipe::Recipe;
use crate::session::result::{QueryResult, Retrieved};
use crate::session::studies::degradation::DegradationLadder;
use crate::session::studies::ladder::Ladder;
use crate::session::studies::noise_grid::NoiseGrid;
use crate::session::studies::routes::Routes;
use crate::session::studies::traverse::Traverse;

/// Picture formats of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FigureFormat {
    Png,
    Svg,
}

/// What a figure shows. `recipe` is that of the query a study was made with, where there is one.
#[derive(Debug, Clone, Copy)]
pub enum Figure<'a> {
    /// Variance of every dimension, aleatoric and epistemic stacked.
    Uncertainty(&'a QueryResult),
    /// Density of every dimension as a heat map.
    Density(&'a QueryResult),
    /// Possible ranks of the retrieved items.
    Retrieval {
        result: &'a QueryResult,
        retrieved: &'a Retrieved,
    },
    /// The gallery in two dimensions with query, mean and samples.
    Map {
        result: &'a QueryResult,
        map: &'a GalleryMap,
    },
    /// Log-density of all draws against their distance from the mean.
    Samples(&'a QueryResult),
    /// Difference of the total variances of two queries.
    Comparison {
        a: &'a QueryResult,
        b: &'a QueryResult,
    },
    Ladder {
        ladder: &'a Ladder,
        recipe: Option<&'a Recipe>,
    },
    Traverse {
        traverse: &'a Traverse,
        recipe: Option<&'a Recipe>,
    },
    NoiseGrid {
        grid: &'a NoiseGrid,
        recipe: Option<&'a Recipe>,
    },
    Evaluation {
        evaluation: &'a Evaluation,
        recipe: Option<&'a Recipe>,
    },
    /// Routes from text to image space.
    Routes {
        routes: &'a Routes,
        recipe: Option<&'a Recipe>,
    },
    /// Uncertainty over a whole data set as something is taken away.
    Degradation {
        ladder: &'a DegradationLadder,
        recipe: Option<&'a Recipe>,
    },
    /// Two sets under one item's density.
    Overlap(&'a LikelihoodOverlap),
    /// A part of an experiment's report.
    Report {
        report: &'a Report,
        test: &'a TestReport,
        part: ReportPart,
    },
    Training(Training<'a>),
    /// Learning curves of every strategy of an active-learning experiment.
    Active {
        report: &'a ActiveReport,
        measure: Measure,
    },
}

impl<'a> Figure<'a> {
    fn draw(self) -> Drawing {
        match self {
            Figure::Uncertainty(result) => uncertainty::draw(result),
            Figure::Density(result) => density::draw(result),
            Figure::Retrieval { result, retrieved } => retrieval::draw(result, retrieved),
            Figure::Map { result, map } => map::draw(result, map),
            Figure::Samples(result) => samples::draw(result),
            Figure::Comparison { a, b } => comparison::draw(a, b),
            Figure::Ladder { ladder, recipe } => ladder::draw(ladder, recipe),
            Figure::Traverse { traverse, recipe } => contact::draw_traverse(traverse, recipe),
            Figure::NoiseGrid { grid, recipe } => contact::draw_noise_grid(grid, recipe),
            Figure::Evaluation { evaluation, recipe } => evaluation::draw(evaluation, recipe),
            Figure::Routes { routes, recipe } => routes::draw(routes, recipe),
            Figure::Degradation { ladder, recipe } => degradation::draw(ladder, recipe),
            Figure::Overlap(found) => overlap::draw(found),
            Figure::Report { report, test, part } => report::draw(report, test, part),
            Figure::Training(training) => training::draw(training),
            Figure::Active { report, measure } => active::draw(report, measure),
        }
    }

    /// Everything that is drawn, one row each; `docs/exports.md` explains the columns.
    pub fn table(self) -> Table {
        match self {
            Figure::Uncertainty(result) => uncertainty::table(result),
            Figure::Density(result) => density::table(result),
            Figure::Retrieval { retrieved, .. } => retrieval::table(retrieved),
            Figure::Map { result, map } => map::table(result, map),
            Figure::Samples(result) => samples::table(result),
            Figure::Comparison { a, b } => comparison::table(a, b),
            Figure::Ladder { ladder, .. } => ladder::table(ladder),
            Figure::Traverse { traverse, .. } => contact::traverse_table(traverse),
            Figure::NoiseGrid { grid, .. } => contact::noise_grid_table(grid),
            Figure::Evaluation { evaluation, .. } => evaluation::table(evaluation),
            Figure::Routes { routes, .. } => routes::table(routes),
            Figure::Degradation { ladder, .. } => degradation::table(ladder),
            Figure::Overlap(found) => overlap::table(found),
            Figure::Report { test, .. } => report::table(test),
            Figure::Training(training) => training::table(training),
            Figure::Active { report, measure } => active::table(report, measure),
        }
    }

    /// The recipe that repeats what is shown; of a comparison that of A.
    fn recipe(self) -> Option<&'a Recipe> {
        match self {
            Figure::Uncertainty(result)
            | Figure::Density(result)
            | Figure::Retrieval { result, .. }
            | Figure::Map { result, .. }
            | Figure::Samples(result)
            | Figure::Comparison { a: result, .. } => Some(&result.recipe),
            Figure::Ladder { recipe, .. }
            | Figure::Traverse { recipe, .. }
            | Figure::NoiseGrid { recipe, .. }
            | Figure::Evaluation { recipe, .. }
            | Figure::Routes { recipe, .. }
            | Figure::Degradation { recipe, .. } => recipe,
            Figure::Overlap(_)
            | Figure::Report { .. }
            | Figure::Training(_)
            | Figure::Active { .. } => None,
        }
    }

    fn recipe_json(self, path: &Path) -> Result<Option<String>, FileError> {
        let json = self.recipe().map(serde_json::to_string).transpose();
        json.map_err(|error| FileError::write(path)(error.into()))
    }
}

/// Draws a figure and writes it, atomically, with the recipe inside.
///
/// # Errors
/// When the file cannot be written.
pub fn write_figure(
    figure: Figure<'_>,
    format: FigureFormat,
    path: &Path,
) -> Result<(), FileError> {
    let recipe = figure.recipe_json(path)?;
    let drawing = figure.draw();
    write_atomic(path, |mut file| {
        let to: &mut dyn io::Write = &mut file;
        match format {
            FigureFormat::Png => render::write_png(&drawing, recipe.as_deref(), to),
            FigureFormat::Svg => render::write_svg(&drawing, recipe.as_deref(), to),
        }
    })
}

/// Writes the data of a figure, atomically, with the recipe inside.
///
/// # Errors
/// When the file cannot be written.
pub fn write_pane_data(
    figure: Figure<'_>,
    format: TableFormat,
    path: &Path,
) -> Result<(), FileError> {
    let recipe = figure.recipe_json(path)?;
    figure.table().write(recipe.as_deref(), format, path)
}

#[cfg(test)]
pub(crate) mod tests;
