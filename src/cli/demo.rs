//! `haze demo`: the main job on the bundle that comes with Haze, in the window or headless.

use std::path::{Path, PathBuf};

use clap::Args;

use super::options::GlobalOptions;
use super::sample::{DEFAULT_OUTPUT, Job};
use super::{Context, Exit};
use crate::app::launch::has_display;
use crate::export::folder::next_free;
use crate::session::recipe::RecipeQuery;
use crate::session::request::{self, ModelChoice, Parts};

/// A query whose words leave colour, style and kind open.
pub const QUERY: &str = "a slice of cake";

/// Run the main job on the demo bundle: "a slice of cake", in the window where there is a display
///
/// Without a display, or with --headless, --out, --dry-run or --json, the result is written to a
/// folder instead.
#[derive(Debug, Args)]
pub struct Demo {
    /// Result folder [default: haze-out/demo]
    #[arg(long, short, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Replace an earlier result in that folder
    #[arg(long)]
    overwrite: bool,
    /// Say what would be done (images, steps, memory) and stop
    #[arg(long)]
    dry_run: bool,
    /// Open no window, even where there is a display
    #[arg(long)]
    headless: bool,
    /// Save a picture of the window there once everything is shown, then close it
    #[arg(long, value_name = "FILE", conflicts_with = "headless")]
    screenshot: Option<PathBuf>,
}

impl Demo {
    /// Whether to show the window: there is a display, and nothing asked for files or JSON.
    pub fn wants_window(&self, options: &GlobalOptions) -> bool {
        let wants_files = self.out.is_some() || self.overwrite || self.dry_run || options.json;
        !self.headless && !wants_files && has_display()
    }

    /// Where a picture of the window goes.
    pub fn screenshot(&self) -> Option<&Path> {
        self.screenshot.as_deref()
    }

    pub fn run(&self, context: &Context) -> anyhow::Result<Exit> {
        let assets = context.assets()?;
        let query = RecipeQuery::Text(QUERY.to_owned());
        let parts = Parts { decode: true, search: true };
        let recipe = request::new(query, &ModelChoice::default(), parts, &assets)?;
        let default = || next_free(&Path::new(DEFAULT_OUTPUT).join("demo"));
        let job = Job {
            recipe,
            batch_size: None,
            out: Some(self.out.clone().unwrap_or_else(default)),
            overwrite: self.overwrite,
            dry_run: self.dry_run,
        };
        job.run(context, assets)
    }
}
