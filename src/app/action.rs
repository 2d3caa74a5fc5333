//! What panes ask for. Panes never change the state themselves: they send actions, which are
//! applied between frames.

use std::path::PathBuf;
use std::sync::Arc;

use image::RgbImage;

use super::command::UiCommand;
use super::export::ExportRequest;
use super::layout::PaneKind;
use super::notices::Notice;
use super::state::form::QueryForm;
use super::state::history::EntryId;
use super::state::sample_order::SampleOrder;
use super::state::selection::{Item, SelectMode};
use super::state::settings::Settings;
use crate::model::hub::HubName;
use crate::session::engine::{JobId, LadderRequest};
use crate::session::experiments::ExperimentRequest;
use crate::session::training::TrainingJob;

/// One wish of the user.
#[derive(Debug, Clone)]
pub enum Action {
    /// A command of the list, as if chosen by its key or in the palette.
    Command(UiCommand),
    /// The query form was edited. `analyse` asks for a run of what needs no decoding, for changes
    /// that are cheap to follow at once.
    EditForm {
        form: Box<QueryForm>,
        analyse: bool,
    },
    /// Runs the form's query; `decode` None follows the setting "decode automatically".
    Run {
        decode: Option<bool>,
    },
    /// Makes an image file the query and runs it.
    QueryImageFile(PathBuf),
    /// Makes pasted or decoded pixels the query and runs it; `name` for the history.
    QueryPixels {
        image: Arc<RgbImage>,
        name: String,
    },
    /// Makes a text the query and runs it.
    QueryText(String),
    /// Something dropped, pasted or opened: found out what it is, then acted on.
    TakeIn(Vec<PathBuf>),
    Hover(Option<Item>),
    Select {
        items: Vec<Item>,
        mode: SelectMode,
        from: PaneKind,
    },
    /// Shows an earlier query again.
    OpenEntry(EntryId),
    PinEntry(EntryId, bool),
    DeleteEntry(EntryId),
    /// Puts an entry beside the current one (B of A/B); `None` ends the comparison.
    CompareWith(Option<EntryId>),
    Cancel(JobId),
    Pause(JobId, bool),
    /// Decodes an entry (again); a smaller batch after a failure.
    Decode {
        entry: EntryId,
        batch_size: Option<usize>,
    },
    Traverse {
        dimensions: Vec<usize>,
        offsets: Vec<f64>,
    },
    /// Compares the routes from texts to image space over the form's gallery.
    Routes {
        items: usize,
        samples: usize,
    },
    NoiseGrid {
        embeddings: usize,
        noises: usize,
    },
    Ladder(LadderRequest),
    Train(Box<TrainingJob>),
    /// Recall and uncertainty over the current gallery's captions.
    Evaluate,
    /// Trains and scores methods on embedded pairs.
    Experiment(Box<ExperimentRequest>),
    /// Downloads a model of the hub into its cache.
    Pull(HubName),
    /// Writes the last experiment's report into that folder.
    WriteReport(PathBuf),
    Export(ExportRequest),
    /// Edge of a sample tile in points; one of [`TILE_SIZES`](super::state::settings::TILE_SIZES).
    SetTileSize(f32),
    /// Order and filter of the samples, in the grid and the large view alike.
    OrderSamples(SampleOrder),
    CopyText(String),
    CopyImage(Arc<RgbImage>),
    ShowPane(PaneKind),
    /// A large view of a tile; `None` closes it.
    Enlarge(Option<Item>),
    /// Brings back the query that was deleted last.
    Undelete,
    EditSettings(Box<Settings>),
    /// Asks for a folder by a dialog.
    Browse(BrowseFor),
    Notify(Notice),
    RestartEngine,
}

/// What a folder is chosen for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrowseFor {
    ModelsFolder,
    Bundle,
    Encoder,
    Adapter,
    /// A diffusion prior.
    Prior,
    Decoder,
    Gallery,
    /// Pairs to train on.
    Pairs,
    /// Where a trained adapter is written.
    TrainingOutput,
    /// Where an experiment's report is written.
    Report,
}

impl BrowseFor {
    /// Title of the dialog.
    pub fn title(self) -> &'static str {
        match self {
            BrowseFor::ModelsFolder => "Folder with models and bundles",
            BrowseFor::Bundle => "A bundle: clip, unclip, gallery and adapters in one folder",
            BrowseFor::Encoder => {
                "An encoder: a Hugging Face folder of CLIP, BLIP, SigLIP or ProLIP"
            }
            BrowseFor::Adapter => "An adapter folder",
            BrowseFor::Prior => "A prior: a diffusers Karlo, StableUnCLIP or Kandinsky 2.2 folder",
            BrowseFor::Decoder => "A decoder: a diffusers unCLIP folder",
            BrowseFor::Gallery => "A gallery: a folder of images, or an index",
            BrowseFor::Pairs => "Pairs: raw image embeddings with captions",
            BrowseFor::TrainingOutput => "Folder for the adapter",
            BrowseFor::Report => "Folder for the report",
        }
    }
}
