//! `haze replay`: repeat the result of a sheet and say whether it is equal.

use std::path::{Path, PathBuf};

use clap::{Args, ValueHint};
use serde_json::json;

use super::sample::run_with_progress;
use super::{Context, Exit};
use crate::export::folder::{OutputFolder, write_result};
use crate::export::replay::{ReplayReport, SheetMetadata, compare};
use crate::session::Session;
use crate::session::recipe::{Recipe, RecipeQuery};

/// Repeat the result of a sheet and compare
#[derive(Debug, Args)]
pub struct Replay {
    /// A sheet.png written by Haze
    #[arg(value_name = "SHEET", value_hint = ValueHint::FilePath)]
    sheet: PathBuf,
    /// Also write the repeated result to this folder
    #[arg(long, short, value_name = "DIR", value_hint = ValueHint::DirPath)]
    out: Option<PathBuf>,
    /// Replace an earlier result in that folder
    #[arg(long)]
    overwrite: bool,
}

impl Replay {
    pub fn run(&self, context: &Context) -> anyhow::Result<Exit> {
        let original = SheetMetadata::read(&self.sheet)?;
        let recipe = with_query_image(original.recipe.clone(), &self.sheet);
        let output = self.out.as_ref().map(|out| OutputFolder::reserve(out, self.overwrite));
        let output = output.transpose()?;
        let session = Session::new(context.assets()?, context.device()?);
        let result = run_with_progress(&session, &recipe, None, context)?;
        let report = compare(&original, &result, &self.sheet);
        let written = match output {
            Some(output) => {
                write_result(&result, output.path())?;
                Some(output.finish()?)
            }
            None => None,
        };
        let text = text_of(&report, &original, &result.device);
        context.print(&json!({ "replay": report, "out": written }), text)?;
        Ok(if report.equal { Exit::Success } else { Exit::CheckFailed })
    }
}

/// The query image may have moved since; a result folder keeps a copy beside the sheet. The hash
/// of its pixels, checked when it is read, tells whether it is the right one.
fn with_query_image(mut recipe: Recipe, sheet: &Path) -> Recipe {
    if let RecipeQuery::Image { path, .. } = &mut recipe.query
        && !path.is_file()
    {
        let copy = sheet.with_file_name("query.png");
        if copy.is_file() {
            *path = copy;
        }
    }
    recipe
}

fn text_of(report: &ReplayReport, original: &SheetMetadata, device: &str) -> String {
    let tiles = format!("{} of {} tiles have the same pixels", report.tiles_equal, report.tiles);
    if report.equal {
        return format!("equal: {tiles}, every statistic has the same value\n");
    }
    let mut text = format!("differs: {tiles}\n");
    if let Some(difference) = report.largest_pixel_difference {
        text += &format!("  largest difference of a colour value  {difference} of 255\n");
    }
    text += &format!(
        "  largest difference of a mean component  {:.2e}\n",
        report.largest_mean_difference
    );
    text += &format!(
        "  largest difference of a log-density     {:.2e} nats\n",
        report.largest_log_prob_difference
    );
    for model in &report.changed_models {
        text += &format!("  the {model} is not the one the sheet was made with\n");
    }
    if original.device != device {
        text += &format!("  made on {}, repeated on {device}\n", original.device);
    }
    text
}
