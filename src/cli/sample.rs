//! `haze sample`: the main job.

use std::path::{Path, PathBuf};

use clap::{Args, ValueHint};
use serde_json::json;

use super::exit::usage;
use super::options::{DecodingOptions, ModelOptions, OutputOptions, SamplingOptions};
use super::progress::Progress;
use super::{Context, Exit, table};
use crate::export::folder::{OutputFolder, SHEET_FILE, next_free, slug, write_result};
use crate::export::sheet::{items, share};
use crate::session::plan::Plan;
use crate::session::recipe::{Bridge, Recipe, RecipeQuery};
use crate::session::request::{self, Parts};
use crate::session::result::QueryResult;
use crate::session::{Assets, Session};

/// Result folders go here unless told otherwise.
pub const DEFAULT_OUTPUT: &str = "haze-out";
/// Endings of image files that can be read.
const IMAGE_EXTENSIONS: [&str; 6] = ["png", "jpg", "jpeg", "webp", "gif", "bmp"];

/// Sample a query's embedding distribution, decode the samples, rank the gallery by each
#[derive(Debug, Args)]
pub struct Sample {
    /// A text, or the path of an image file
    #[arg(required_unless_present_any = ["recipe", "text", "image"], value_hint = ValueHint::AnyPath)]
    query: Option<String>,
    /// Query by this text, even if a file of that name exists
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["query", "image"])]
    text: Option<String>,
    /// Query by this image file
    #[arg(long, value_name = "FILE", conflicts_with = "query", value_hint = ValueHint::FilePath)]
    image: Option<PathBuf>,
    /// Start from this recipe; other options change it
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    recipe: Option<PathBuf>,
    /// Do not decode: uncertainty and retrieval only
    #[arg(long)]
    no_decode: bool,
    /// Do not search the gallery
    #[arg(long)]
    no_search: bool,
    /// Say what would be done (images, steps, memory) and stop
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    models: ModelOptions,
    #[command(flatten)]
    sampling: SamplingOptions,
    #[command(flatten)]
    decoding: DecodingOptions,
    #[command(flatten)]
    output: OutputOptions,
}

impl Sample {
    pub fn run(&self, context: &Context) -> anyhow::Result<Exit> {
        let assets = context.assets()?;
        let recipe = self.recipe(&assets)?;
        let job = Job {
            recipe,
            batch_size: self.decoding.batch_size,
            out: self.output.out.clone(),
            overwrite: self.output.overwrite,
            dry_run: self.dry_run,
        };
        job.run(context, assets)
    }

    fn recipe(&self, assets: &Assets) -> anyhow::Result<Recipe> {
        let query = match (&self.query, &self.text, &self.image) {
            (_, Some(text), _) => Some(RecipeQuery::Text(text.clone())),
            (_, _, Some(path)) => Some(RecipeQuery::image(path)),
            (Some(query), ..) => Some(guess(query)),
            (None, None, None) => None,
        };
        let parts = Parts { decode: !self.no_decode, search: !self.no_search };
        let choice = self.models.choice();
        let mut recipe = match &self.recipe {
            Some(path) => {
                let base = Recipe::read(path)?;
                request::changed(base, query, &choice, parts, assets)?
            }
            None => {
                let query = query.ok_or_else(|| usage("no query: give a text or an image file"))?;
                request::new(query, &choice, parts, assets)?
            }
        };
        self.sampling.apply(&mut recipe);
        self.decoding.apply(&mut recipe);
        recipe.validate()?;
        Ok(recipe)
    }
}

/// A query as typed: an existing file is an image, and so is a name that ends like one, so that a
/// mistyped path is an error and not a strange text. Anything else is a text.
pub fn guess(query: &str) -> RecipeQuery {
    let path = Path::new(query);
    let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    let named_like_one = extension.is_some_and(|e| IMAGE_EXTENSIONS.contains(&e.as_str()));
    if path.is_file() || named_like_one {
        RecipeQuery::image(path)
    } else {
        RecipeQuery::Text(query.to_owned())
    }
}

/// One run of a recipe, from the plan to the printed summary.
pub struct Job {
    pub recipe: Recipe,
    pub batch_size: Option<usize>,
    pub out: Option<PathBuf>,
    pub overwrite: bool,
    pub dry_run: bool,
}

impl Job {
    pub fn run(self, context: &Context, assets: Assets) -> anyhow::Result<Exit> {
        let session = Session::new(assets, context.device()?);
        if self.dry_run {
            let plan = session.plan(&self.recipe, self.batch_size)?;
            context.print(&json!({ "plan": plan, "recipe": self.recipe }), plan_text(&plan))?;
            return Ok(Exit::Success);
        }
        let target = self.out.unwrap_or_else(|| {
            next_free(&Path::new(DEFAULT_OUTPUT).join(slug(&self.recipe.query.title())))
        });
        // Before any work: an unwritable folder should not cost the user a decode.
        let output = OutputFolder::reserve(&target, self.overwrite)?;
        let result = run_with_progress(&session, &self.recipe, self.batch_size, context)?;
        write_result(&result, output.path())?;
        let folder = output.finish()?;
        context.print(&json_of(&result, &folder), text_of(&result, &folder))?;
        Ok(Exit::Success)
    }
}

/// Runs a recipe with progress on stderr; Ctrl-C cancels it.
///
/// # Errors
/// Those of the session.
pub fn run_with_progress(
    session: &Session,
    recipe: &Recipe,
    batch_size: Option<usize>,
    context: &Context,
) -> anyhow::Result<QueryResult> {
    let progress = Progress::new(context.options.quiet);
    let result = session.run(recipe, batch_size, &mut |event| {
        progress.show(&event);
        context.interrupt.flow()
    })?;
    progress.finish();
    Ok(result)
}

fn plan_text(plan: &Plan) -> String {
    let mut text = String::from("would run\n");
    for (label, value) in plan.lines() {
        text += &format!("  {label:<12} {value}\n");
    }
    text
}

fn json_of(result: &QueryResult, folder: &Path) -> serde_json::Value {
    let retrieval = result.retrieval.as_ref().map(|retrieved| {
        json!({
            "gallery_size": retrieved.gallery_size,
            "draws": retrieved.draws,
            "best_match_set_90": retrieved.best_match_set,
            "distinct_best": retrieved.distinct_best,
            "items": retrieved.items,
        })
    });
    json!({
        "out": folder,
        "sheet": folder.join(SHEET_FILE),
        "query": result.recipe.query,
        "route": result.recipe.models.bridge,
        "note": result.recipe.models.bridge.note(),
        "device": result.device,
        "uncertainty": {
            "aleatoric": result.distribution.mean_aleatoric(),
            "epistemic": result.distribution.mean_epistemic(),
            "total": result.distribution.mean_total(),
            // Predicted by an adapter, or estimated from samples of a prior.
            "empirical": result.recipe.models.bridge == Bridge::Prior,
            "entropy_nats": result.distribution.entropy(),
            "reference": result.reference,
        },
        "samples": result.samples.iter().map(|s| &s.statistics).collect::<Vec<_>>(),
        "retrieval": retrieval,
        "timings": result.timings,
    })
}

/// The summary that a person reads.
fn text_of(result: &QueryResult, folder: &Path) -> String {
    let mut text = format!("{}\n", heading(result));
    match (result.recipe.models.bridge.note(), &result.recipe.query) {
        (Some(note), _) => {
            text += &format!(
                "\nAnother experiment: {note}.\nRetrieval and the comparison of pictures with their \
                 samples are off: neither has a meaning outside of the shared space.\n"
            );
        }
        (None, RecipeQuery::Text(_)) => {
            text += &format!("to image space by {}\n", result.recipe.models.bridge.route());
        }
        (None, RecipeQuery::Image { .. }) => {}
    }
    text += "\n";
    text += &uncertainty_text(result);
    if let Some(retrieved) = &result.retrieval {
        text += &format!(
            "\nRetrieval from {} items, by the mean; ranks over {} draws\n",
            retrieved.gallery_size, retrieved.draws
        );
        let columns = [
            table::numbers("rank"),
            table::words("item"),
            table::numbers("cosine"),
            table::numbers("first"),
            table::numbers(format!("in top {}", retrieved.top_k)),
            table::numbers("ranks (90 %)"),
            table::numbers("frozen rank"),
        ];
        let rows: Vec<Vec<String>> = retrieved
            .items
            .iter()
            .map(|item| {
                vec![
                    item.rank.to_string(),
                    table::shorten(item.caption.as_deref().unwrap_or(&item.image), 36),
                    format!("{:.3}", item.score),
                    share(item.top_1_count, retrieved.draws),
                    share(item.top_k_count, retrieved.draws),
                    format!("{}\u{2013}{}", item.rank_low, item.rank_high),
                    item.frozen_rank.to_string(),
                ]
            })
            .collect();
        text += &table::render(&columns, &rows);
        text += &format!(
            "  the best match is among {} in 90 % of the draws\n",
            items(retrieved.best_match_set)
        );
    }
    if !result.tiles.is_empty() {
        text += &format!("\n{} draws and the mean decoded", result.tiles.len());
        let cosines = result.samples.iter().filter_map(|s| s.statistics.decoded_cosine);
        let (sum, count) = cosines.fold((0.0, 0), |(sum, n), cosine| (sum + cosine, n + 1));
        if count > 0 {
            text += &format!(
                "; re-embedded, a tile has cosine {:.2} with its draw on average",
                sum / f64::from(count)
            );
        }
        text.push('\n');
    }
    let seconds: f64 = result.timings.iter().map(|stage| stage.seconds).sum();
    text += &format!("\nWrote {} in {seconds:.1} s on {}\n", folder.display(), result.device);
    text += &format!("  open    {}\n", folder.join(SHEET_FILE).display());
    text += &format!("  repeat  haze replay {}\n", folder.join(SHEET_FILE).display());
    text
}

fn heading(result: &QueryResult) -> String {
    match &result.recipe.query {
        RecipeQuery::Text(text) => format!("\u{201c}{}\u{201d}", table::shorten(text, 76)),
        RecipeQuery::Image { path, .. } => path.display().to_string(),
    }
}

fn uncertainty_text(result: &QueryResult) -> String {
    let distribution = &result.distribution;
    let mut text = format!(
        "Uncertainty (mean variance over {} dimensions, squared embedding units)\n",
        distribution.dim()
    );
    if result.recipe.models.bridge == Bridge::Prior {
        text += &format!(
            "  aleatoric  {:.4}  (empirical: estimated from {} samples of the prior)\n",
            distribution.mean_aleatoric(),
            result.draws.values.len()
        );
        text += "  epistemic  not estimated\n";
        return text;
    }
    text += &format!("  aleatoric  {:.4}\n", distribution.mean_aleatoric());
    text += &format!(
        "  epistemic  {:.4}  ({} dropout passes)\n",
        distribution.mean_epistemic(),
        result.recipe.sampling.dropout_passes
    );
    text += &format!("  total      {:.4}\n", distribution.mean_total());
    if let Some(reference) = &result.reference {
        text += &format!(
            "  more uncertain than {:.0} % of this gallery's {} {}\n",
            100.0 * reference.share_below,
            reference.count,
            match result.recipe.query.modality() {
                crate::encoder::Modality::Text => "captions",
                crate::encoder::Modality::Image => "images",
            }
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::app::command_line::arguments;
    use crate::decoder::SchedulerKind;
    use crate::session::request::ModelChoice;

    #[test]
    fn the_command_line_of_a_recipe_gives_the_recipe_back() {
        let assets = Assets::find(None).unwrap();
        let both = Parts { decode: true, search: true };
        for (text, bridge, parts) in [
            ("a slice of cake", None, both),
            ("-n 'quoted' \"text\"", Some(Bridge::LinearMap), both),
            ("food", Some(Bridge::None), Parts { decode: false, search: false }),
        ] {
            let choice = ModelChoice { bridge, ..ModelChoice::default() };
            let query = RecipeQuery::Text(text.to_owned());
            let mut recipe = request::new(query, &choice, parts, &assets).unwrap();
            recipe.sampling.seed = u64::MAX;
            recipe.sampling.temperature = 0.3;
            recipe.retrieval.top_k = 7;
            recipe.decoding.scheduler = Some(SchedulerKind::EulerAncestral);
            recipe.decoding.prompt = "-a glossy drawing".to_owned();
            let words = std::iter::once("haze".to_owned()).chain(arguments(&recipe));
            let cli = crate::cli::Cli::try_parse_from(words).unwrap();
            let Some(crate::cli::Command::Sample(sample)) = cli.command else { panic!("{text}") };
            assert_eq!(sample.recipe(&assets).unwrap(), recipe, "{text}");
        }
    }

    #[test]
    fn a_name_that_ends_like_an_image_is_one_even_if_it_is_missing() {
        assert_eq!(guess("missing/cat.JPG").modality(), crate::encoder::Modality::Image);
        assert_eq!(guess("a cat on a mat.").modality(), crate::encoder::Modality::Text);
        assert_eq!(guess("version 1.5 of it").modality(), crate::encoder::Modality::Text);
    }
}
