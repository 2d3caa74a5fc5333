//! `haze demo`: the main job on the bundle that comes with Haze.

use std::path::{Path, PathBuf};

use clap::Args;

use super::sample::{DEFAULT_OUTPUT, Job};
use super::{Context, Exit};
use crate::export::folder::next_free;
use crate::session::recipe::RecipeQuery;
use crate::session::request::{self, ModelChoice, Parts};

/// A query whose words leave colour, style and kind open.
const QUERY: &str = "a slice of cake";

/// Run the main job on the demo bundle: "a slice of cake"
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
}

impl Demo {
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
