//! From a wish to export to work for another thread: what is written is what stood on screen when
//! the wish was made, however long the user takes to choose a place.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::dialogs::Filter;
use super::export::{ExportFormat, ExportRequest, FigureKind};
use super::layout::PaneKind;
use super::state::history::{DecodeState, Entry, EntryId, TileState};
use super::state::{State, Study};
use crate::adapter::training::{Baselines, EpochRecord, TrainingEvent};
use crate::export::figures::{
    Figure, FigureFormat, TableFormat, Training, write_figure, write_pane_data,
};
use crate::export::folder::{OutputFolder, next_free, slug, thumbnails, write_result};
use crate::export::metadata::{write_png, write_sheet};
use crate::export::replay::SheetMetadata;
use crate::export::sheet;
use crate::session::engine::Evaluation;
use crate::session::projection::GalleryMap;
use crate::session::recipe::Recipe;
use crate::session::result::{QueryResult, Tile};
use crate::session::studies::ladder::Ladder;
use crate::session::studies::noise_grid::NoiseGrid;
use crate::session::studies::routes::Routes;
use crate::session::studies::traverse::Traverse;

/// Writes and gives the path of what was written, or says in words why not.
pub type Work = Box<dyn FnOnce() -> Result<PathBuf, String> + Send>;

/// An export that waits for its place.
pub struct ExportPlan {
    /// File name that the dialog suggests.
    pub suggested: String,
    pub place: Place,
    content: Content,
}

/// What kind of place is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A file, by a save dialog.
    File(Filter),
    /// A folder, inside which a new one of the suggested name is made.
    Folder,
}

/// What is written, owned.
enum Content {
    Sheet(Arc<QueryResult>),
    Folder(Arc<QueryResult>),
    Tile(Arc<Tile>),
    Figure { figure: Box<OwnedFigure>, format: ExportFormat },
}

/// A figure that owns what it shows.
enum OwnedFigure {
    Uncertainty(Arc<QueryResult>),
    Density(Arc<QueryResult>),
    Retrieval(Arc<QueryResult>),
    Map(Arc<QueryResult>, Arc<GalleryMap>),
    Samples(Arc<QueryResult>),
    Comparison(Arc<QueryResult>, Arc<QueryResult>),
    Ladder(Arc<Ladder>, Option<Recipe>),
    Traverse(Arc<Traverse>, Option<Recipe>),
    NoiseGrid(Arc<NoiseGrid>, Option<Recipe>),
    Routes(Arc<Routes>, Option<Recipe>),
    Evaluation(Arc<Evaluation>, Option<Recipe>),
    Training { epochs: Vec<EpochRecord>, losses: Vec<[f64; 2]>, baselines: Option<Baselines> },
}

const PNG: Filter = Filter { name: "PNG image", extensions: &["png"] };
const SVG: Filter = Filter { name: "SVG image", extensions: &["svg"] };
const CSV: Filter = Filter { name: "CSV table", extensions: &["csv"] };
const PARQUET: Filter = Filter { name: "Parquet table", extensions: &["parquet"] };
const NPZ: Filter = Filter { name: "NumPy arrays", extensions: &["npz"] };

/// Collects what an export writes.
///
/// # Errors
/// In words for people, with what to do next, when it is not there (yet).
pub fn plan(state: &State, request: ExportRequest) -> Result<ExportPlan, String> {
    match request {
        ExportRequest::Sheet => {
            let entry = entry(state)?;
            let suggested = format!("{}.png", slug(&entry.title()));
            let content = Content::Sheet(sheet_result(entry)?);
            Ok(ExportPlan { suggested, place: Place::File(PNG), content })
        }
        ExportRequest::Folder => {
            let entry = entry(state)?;
            let content = Content::Folder(folder_result(entry)?);
            Ok(ExportPlan { suggested: slug(&entry.title()), place: Place::Folder, content })
        }
        ExportRequest::Tile(index) => {
            let entry = entry(state)?;
            let tile = tile(entry, index)?;
            let name = match index {
                0 => "mean".to_owned(),
                sample => format!("sample-{}", sample - 1),
            };
            let suggested = format!("{}-{name}.png", slug(&entry.title()));
            Ok(ExportPlan { suggested, place: Place::File(PNG), content: Content::Tile(tile) })
        }
        ExportRequest::Pane { pane, format } => figure_plan(state, kind_of(state, pane)?, format),
        ExportRequest::Figure { figure, format } => figure_plan(state, figure, format),
    }
}

impl ExportPlan {
    /// The work of writing to `path`: the file, or the folder to make a new one in.
    pub fn to(self, path: PathBuf) -> Work {
        let Self { suggested, content, .. } = self;
        Box::new(move || match content {
            Content::Sheet(result) => write_whole_sheet(&result, &path).map(|()| path),
            Content::Folder(result) => {
                let output = OutputFolder::reserve(&next_free(&path.join(suggested)), false)
                    .map_err(|error| error.to_string())?;
                write_result(&result, output.path()).map_err(|error| error.to_string())?;
                output.finish().map_err(|error| error.to_string())
            }
            Content::Tile(tile) => match write_png(&path, &tile.image) {
                Ok(()) => Ok(path),
                Err(error) => Err(error.to_string()),
            },
            Content::Figure { figure, format } => figure.write(format, &path).map(|()| path),
        })
    }
}

fn write_whole_sheet(result: &QueryResult, path: &Path) -> Result<(), String> {
    let metadata = serde_json::to_value(SheetMetadata::of(result)).map_err(|e| e.to_string())?;
    let image = sheet::draw(result, &thumbnails(result));
    write_sheet(path, &image, &metadata).map_err(|error| error.to_string())
}

fn entry(state: &State) -> Result<&Entry, String> {
    state
        .entry()
        .ok_or_else(|| "There is no result yet: type a query and press Ctrl+Enter".to_owned())
}

fn analysed(entry: &Entry) -> Result<&Arc<QueryResult>, String> {
    entry.result.as_ref().ok_or_else(|| {
        "This query has no result yet: wait for it, or press Ctrl+Enter to run it".to_owned()
    })
}

fn result(state: &State) -> Result<Arc<QueryResult>, String> {
    Ok(Arc::clone(analysed(entry(state)?)?))
}

/// Where the tiles of an entry stand.
enum Tiles<'a> {
    /// All of them, with their statistics.
    Complete(&'a Arc<QueryResult>),
    None(&'a Arc<QueryResult>),
    /// So many of so many.
    Some {
        finished: usize,
        of: usize,
    },
}

fn tiles(entry: &Entry) -> Result<Tiles<'_>, String> {
    let result = analysed(entry)?;
    let of = result.samples.len() + 1;
    let in_result = usize::from(result.mean_tile.is_some()) + result.tiles.len();
    let finished = entry.finished_tiles();
    if in_result == of {
        Ok(Tiles::Complete(result))
    } else if finished == 0 && !matches!(entry.decode, DecodeState::Running(_)) {
        Ok(Tiles::None(result))
    } else {
        Ok(Tiles::Some { finished, of })
    }
}

/// A result whose sheet repeats to equal pixels: with all tiles, or with none.
fn sheet_result(entry: &Entry) -> Result<Arc<QueryResult>, String> {
    match tiles(entry)? {
        Tiles::Complete(result) => Ok(Arc::clone(result)),
        Tiles::None(result) => Ok(Arc::new(without_tiles(result))),
        // The last step embeds the pictures again, which belongs to what a sheet holds.
        Tiles::Some { finished, of } if finished >= of => Err(format!(
            "All {of} tiles are drawn and being embedded again: try again in a moment, or decode \
             anew if it was stopped"
        )),
        Tiles::Some { finished, of } => Err(format!(
            "{finished} of {of} tiles are finished: wait for the others, or export the result \
             folder, which then holds no tiles"
        )),
    }
}

/// All tiles where they are complete, else none.
fn folder_result(entry: &Entry) -> Result<Arc<QueryResult>, String> {
    match tiles(entry)? {
        Tiles::Complete(result) => Ok(Arc::clone(result)),
        Tiles::None(_) | Tiles::Some { .. } => Ok(Arc::new(without_tiles(analysed(entry)?))),
    }
}

/// The result as a run without a decoder gives it, so that its recipe repeats just that.
fn without_tiles(result: &QueryResult) -> QueryResult {
    let mut result = result.clone();
    result.recipe.models.decoder = None;
    result.mean_tile = None;
    result.tiles.clear();
    for sample in &mut result.samples {
        sample.statistics.decoded_cosine = None;
    }
    result
}

fn tile(entry: &Entry, index: usize) -> Result<Arc<Tile>, String> {
    if let Some(TileState::Done(tile)) = entry.tiles.get(index) {
        return Ok(Arc::clone(tile));
    }
    let name = match index {
        0 => "The mean".to_owned(),
        sample => format!("Sample {}", sample - 1),
    };
    Err(match entry.decode {
        DecodeState::Running(_) => format!("{name} is not decoded yet: wait until it is finished"),
        _ => format!("{name} was not decoded: press Ctrl+Enter to decode"),
    })
}

/// The figure of a pane.
fn kind_of(state: &State, pane: PaneKind) -> Result<FigureKind, String> {
    Ok(match pane {
        PaneKind::Query => {
            return Err("The Query pane has no figure: export the sheet, or copy the recipe \
                        (Ctrl+Shift+R)"
                .to_owned());
        }
        PaneKind::Samples => FigureKind::Samples,
        PaneKind::Retrieval => FigureKind::Retrieval,
        PaneKind::Uncertainty => FigureKind::Uncertainty,
        PaneKind::Map => FigureKind::Map,
        PaneKind::Studies if state.ladder.result().is_some() => FigureKind::Ladder,
        PaneKind::Studies if state.noise_grid.result().is_some() => FigureKind::NoiseGrid,
        PaneKind::Studies if state.traverse.result().is_some() => FigureKind::Traverse,
        PaneKind::Studies if state.routes.result().is_some() => FigureKind::Routes,
        PaneKind::Studies => FigureKind::Traverse,
        PaneKind::Compare => FigureKind::Comparison,
        PaneKind::Train => FigureKind::Training,
        PaneKind::Evaluate => FigureKind::Evaluation,
    })
}

fn figure_plan(
    state: &State,
    kind: FigureKind,
    format: ExportFormat,
) -> Result<ExportPlan, String> {
    let figure = owned(state, kind)?;
    let (filter, name) = (filter(format), file_name(kind));
    let about = match &figure {
        OwnedFigure::Training { .. } | OwnedFigure::Evaluation(..) | OwnedFigure::Routes(..) => {
            None
        }
        _ => state.entry().map(|entry| slug(&entry.title())),
    };
    let stem = about.map_or(name.to_owned(), |about| format!("{about}-{name}"));
    let suggested = format!("{stem}.{}", filter.extensions[0]);
    let content = Content::Figure { figure: Box::new(figure), format };
    Ok(ExportPlan { suggested, place: Place::File(filter), content })
}

fn filter(format: ExportFormat) -> Filter {
    match format {
        ExportFormat::Png => PNG,
        ExportFormat::Svg => SVG,
        ExportFormat::Csv => CSV,
        ExportFormat::Parquet => PARQUET,
        ExportFormat::Npz => NPZ,
    }
}

fn file_name(kind: FigureKind) -> &'static str {
    match kind {
        FigureKind::Uncertainty => "uncertainty",
        FigureKind::Density => "density",
        FigureKind::Retrieval => "retrieval",
        FigureKind::Map => "map",
        FigureKind::Samples => "samples",
        FigureKind::Comparison => "comparison",
        FigureKind::Ladder => "ladder",
        FigureKind::Traverse => "walk",
        FigureKind::NoiseGrid => "noise-grid",
        FigureKind::Routes => "routes",
        FigureKind::Evaluation => "evaluation",
        FigureKind::Training => "training",
    }
}

fn owned(state: &State, kind: FigureKind) -> Result<OwnedFigure, String> {
    Ok(match kind {
        FigureKind::Uncertainty => OwnedFigure::Uncertainty(result(state)?),
        FigureKind::Density => OwnedFigure::Density(result(state)?),
        FigureKind::Samples => OwnedFigure::Samples(result(state)?),
        FigureKind::Retrieval => {
            let result = result(state)?;
            if result.retrieval.is_none() {
                return Err("No gallery was searched: choose one in the Query pane and run the \
                            query again"
                    .to_owned());
            }
            OwnedFigure::Retrieval(result)
        }
        FigureKind::Map => {
            let result = result(state)?;
            let map = state
                .map
                .as_ref()
                .ok_or("There is no map yet: it is made with the first query on a gallery")?;
            if map.centre.len() != result.distribution.dim() {
                return Err("The map belongs to another encoder than this query: run the query \
                            again"
                    .to_owned());
            }
            OwnedFigure::Map(result, Arc::clone(map))
        }
        FigureKind::Comparison => {
            let a = result(state)?;
            let other = state.other().ok_or(
                "Nothing is compared yet: press C to put the query before this one beside it",
            )?;
            let b = Arc::clone(analysed(other)?);
            if a.distribution.dim() != b.distribution.dim() {
                return Err("The two queries live in spaces of different dimension and cannot be \
                            compared by dimension"
                    .to_owned());
            }
            OwnedFigure::Comparison(a, b)
        }
        FigureKind::Ladder => {
            let (ladder, recipe) = study(state, &state.ladder, "ladder")?;
            OwnedFigure::Ladder(ladder, recipe)
        }
        FigureKind::Traverse => {
            let (traverse, recipe) = study(state, &state.traverse, "walk")?;
            OwnedFigure::Traverse(traverse, recipe)
        }
        FigureKind::NoiseGrid => {
            let (grid, recipe) = study(state, &state.noise_grid, "grid of embeddings and noises")?;
            OwnedFigure::NoiseGrid(grid, recipe)
        }
        FigureKind::Routes => {
            let (routes, _) = study(state, &state.routes, "comparison of routes")?;
            OwnedFigure::Routes(routes, state.routes_recipe.clone())
        }
        FigureKind::Evaluation => {
            let Study::Done { entry, result } = &state.evaluation else {
                return Err("Nothing was evaluated yet: press Evaluate in the Evaluate pane".into());
            };
            OwnedFigure::Evaluation(Arc::clone(result), recipe_of(state, *entry))
        }
        FigureKind::Training => {
            let training = &state.training;
            if training.epochs.is_empty() && training.losses.is_empty() {
                return Err("Nothing was trained yet: press Train in the Train pane".to_owned());
            }
            let baselines = match &training.started {
                Some(TrainingEvent::Started { baselines, .. }) => Some(*baselines),
                _ => None,
            };
            let (epochs, losses) = (training.epochs.clone(), training.losses.clone());
            OwnedFigure::Training { epochs, losses, baselines }
        }
    })
}

fn study<T>(
    state: &State,
    study: &Study<T>,
    name: &str,
) -> Result<(Arc<T>, Option<Recipe>), String> {
    match study {
        Study::Done { entry, result } => Ok((Arc::clone(result), recipe_of(state, *entry))),
        Study::None => Err(format!("No {name} was made yet: start one in the Studies pane")),
        Study::Failed(failure) => {
            Err(format!("The last {name} failed ({}): start it again", failure.what))
        }
    }
}

fn recipe_of(state: &State, entry: Option<EntryId>) -> Option<Recipe> {
    let entry = state.history.get(entry?)?;
    // That of the result has the hashes.
    Some(entry.result.as_ref().map_or(&entry.recipe, |result| &result.recipe).clone())
}

impl OwnedFigure {
    fn write(&self, format: ExportFormat, path: &Path) -> Result<(), String> {
        let figure = self.borrow()?;
        let written = match format {
            ExportFormat::Png => write_figure(figure, FigureFormat::Png, path),
            ExportFormat::Svg => write_figure(figure, FigureFormat::Svg, path),
            ExportFormat::Csv => write_pane_data(figure, TableFormat::Csv, path),
            ExportFormat::Parquet => write_pane_data(figure, TableFormat::Parquet, path),
            ExportFormat::Npz => write_pane_data(figure, TableFormat::Npz, path),
        };
        written.map_err(|error| error.to_string())
    }

    fn borrow(&self) -> Result<Figure<'_>, String> {
        Ok(match self {
            Self::Uncertainty(result) => Figure::Uncertainty(result),
            Self::Density(result) => Figure::Density(result),
            Self::Retrieval(result) => {
                let retrieved = result.retrieval.as_ref().ok_or("No gallery was searched")?;
                Figure::Retrieval { result, retrieved }
            }
            Self::Map(result, map) => Figure::Map { result, map },
            Self::Samples(result) => Figure::Samples(result),
            Self::Comparison(a, b) => Figure::Comparison { a, b },
            Self::Ladder(ladder, recipe) => Figure::Ladder { ladder, recipe: recipe.as_ref() },
            Self::Traverse(traverse, recipe) => {
                Figure::Traverse { traverse, recipe: recipe.as_ref() }
            }
            Self::NoiseGrid(grid, recipe) => Figure::NoiseGrid { grid, recipe: recipe.as_ref() },
            Self::Routes(routes, recipe) => Figure::Routes { routes, recipe: recipe.as_ref() },
            Self::Evaluation(evaluation, recipe) => {
                Figure::Evaluation { evaluation, recipe: recipe.as_ref() }
            }
            Self::Training { epochs, losses, baselines } => {
                Figure::Training(Training { epochs, losses, baselines: *baselines })
            }
        })
    }
}

#[cfg(test)]
mod tests;
