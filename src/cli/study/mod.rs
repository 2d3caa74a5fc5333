//! `haze study`: the studies of the window, headless, and studies over whole data sets.

mod data_set;
mod routes;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueHint};
use serde_json::json;

use super::exit::usage;
use super::options::{DecodingOptions, ModelOptions, SamplingOptions};
use super::progress::Progress;
use super::sample::guess;
use super::table::{self, Column};
use super::{Context, Exit};
use crate::export::figures::{Figure, FigureFormat, TableFormat, write_figure, write_pane_data};
use crate::session::engine::{LadderRequest, LadderSteps, NoiseGridRequest, TraverseRequest};
use crate::session::event::Event;
use crate::session::recipe::{Recipe, RecipeQuery};
use crate::session::request::{self, ModelChoice, Parts};
use crate::session::result::QueryResult;
use crate::session::studies::{evaluation, ladder, noise_grid, traverse};
use crate::session::{Assets, OnEvent, Session, SessionError};

/// Questions beyond one query: what a dimension means, what the decoder's noise adds, how
/// uncertainty changes with specificity, how well a gallery's own captions retrieve
#[derive(Debug, Args)]
pub struct Study {
    #[command(subcommand)]
    kind: Kind,
}

#[derive(Debug, Subcommand)]
enum Kind {
    /// Decode the mean moved along dimensions, in steps of their standard deviation
    Walk(Walk),
    /// Decode embeddings crossed with decoder noises, and take their variance apart
    Noises(Noises),
    /// Uncertainty over texts of growing specificity, or one image masked more and more
    Ladder(Ladder),
    /// Recall and uncertainty over the gallery's own captions
    Evaluate(Evaluate),
    /// Compare the routes from text to image space: similarity, rank of the true image, diversity
    Routes(routes::Routes),
    /// Uncertainty over a data set as images are masked or cropped, words are masked, or captions
    /// get coarser
    Degrade(data_set::Degrade),
    /// How one item's density sees the items of two data sets
    Overlap(data_set::Overlap),
}

/// What every study takes.
#[derive(Debug, Args)]
struct Common {
    /// Files to write; the ending says what: .png and .svg a figure, .csv, .parquet, .npz, .md
    /// and .json the numbers behind it
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    out: Vec<PathBuf>,
    #[command(flatten)]
    models: ModelOptions,
    #[command(flatten)]
    sampling: SamplingOptions,
    #[command(flatten)]
    decoding: DecodingOptions,
}

#[derive(Debug, Args)]
struct Walk {
    /// A text, or the path of an image file
    query: String,
    /// Dimensions that are moved together, by index
    #[arg(long, value_name = "D,D,…", value_delimiter = ',', required = true)]
    dimensions: Vec<usize>,
    /// Farthest step in standard deviations, to both sides
    #[arg(long, value_name = "K", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=20))]
    reach: u8,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Noises {
    /// A text, or the path of an image file
    query: String,
    /// Embeddings: the first samples of the query
    #[arg(long, value_name = "K", default_value_t = 4)]
    embeddings: usize,
    /// Noises that each embedding is decoded from
    #[arg(long, value_name = "M", default_value_t = 4)]
    noises: usize,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Ladder {
    /// Texts (or image files) from the least to the most specific
    #[arg(value_name = "QUERY", required_unless_present = "image")]
    queries: Vec<String>,
    /// Mask this image instead
    #[arg(long, value_name = "FILE", conflicts_with = "queries", value_hint = ValueHint::FilePath)]
    image: Option<PathBuf>,
    /// Shares of the image's area that are masked
    #[arg(long, value_name = "S,S,…", value_delimiter = ',', requires = "image",
          default_values_t = [0.0, 0.25, 0.5, 0.75, 0.9])]
    masks: Vec<f64>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Evaluate {
    #[command(flatten)]
    common: Common,
}

impl Study {
    pub fn run(&self, context: &Context) -> anyhow::Result<Exit> {
        match &self.kind {
            Kind::Walk(walk) => walk.run(context),
            Kind::Noises(noises) => noises.run(context),
            Kind::Ladder(ladder) => ladder.run(context),
            Kind::Evaluate(evaluate) => evaluate.run(context),
            Kind::Routes(routes) => routes.run(context),
            Kind::Degrade(degrade) => degrade.run(context),
            Kind::Overlap(overlap) => overlap.run(context),
        }
    }
}

impl Common {
    fn recipe(&self, query: RecipeQuery, assets: &Assets) -> Result<Recipe, SessionError> {
        self.recipe_with(query, &self.models.choice(), assets)
    }

    fn recipe_with(
        &self,
        query: RecipeQuery,
        choice: &ModelChoice,
        assets: &Assets,
    ) -> Result<Recipe, SessionError> {
        let parts = Parts { decode: true, search: true };
        let mut recipe = request::new(query, choice, parts, assets)?;
        self.sampling.apply(&mut recipe);
        self.decoding.apply(&mut recipe);
        recipe.validate()?;
        Ok(recipe)
    }

    /// Before any work: an ending that means nothing should not cost the user a decode.
    fn check(&self) -> anyhow::Result<()> {
        self.out.iter().try_for_each(|path| format_of(path).map(|_| ()))
    }

    fn write(&self, figure: Figure<'_>) -> anyhow::Result<()> {
        write_all(&self.out, figure)
    }
}

fn write_all(files: &[PathBuf], figure: Figure<'_>) -> anyhow::Result<()> {
    for path in files {
        match format_of(path)? {
            Format::Figure(format) => write_figure(figure, format, path)?,
            Format::Table(format) => write_pane_data(figure, format, path)?,
        }
    }
    Ok(())
}

enum Format {
    Figure(FigureFormat),
    Table(TableFormat),
}

fn format_of(path: &Path) -> anyhow::Result<Format> {
    let ending = path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
    Ok(match ending.as_str() {
        "png" => Format::Figure(FigureFormat::Png),
        "svg" => Format::Figure(FigureFormat::Svg),
        "csv" => Format::Table(TableFormat::Csv),
        "parquet" => Format::Table(TableFormat::Parquet),
        "npz" => Format::Table(TableFormat::Npz),
        "md" => Format::Table(TableFormat::Markdown),
        "json" => Format::Table(TableFormat::Json),
        _ => {
            return Err(usage(format!(
                "{}: the ending must be .png, .svg, .csv, .parquet, .npz, .md or .json",
                path.display()
            )));
        }
    })
}

/// Runs `work` with progress on stderr; Ctrl-C cancels it.
fn with_progress<T>(
    context: &Context,
    work: impl FnOnce(OnEvent<'_>) -> Result<T, SessionError>,
) -> Result<T, SessionError> {
    let progress = Progress::new(context.options.quiet);
    let result = work(&mut |event: Event<'_>| {
        progress.show(&event);
        context.interrupt.flow()
    });
    progress.finish();
    result
}

/// A session, and the analysis of a query with it.
fn analysed(
    context: &Context,
    common: &Common,
    query: &str,
) -> anyhow::Result<(Session, QueryResult)> {
    common.check()?;
    let assets = context.assets()?;
    let recipe = common.recipe(guess(query), &assets)?;
    let session = Session::new(assets, context.device()?);
    let result = with_progress(context, |on_event| session.analyse(&recipe, on_event))?;
    Ok((session, result))
}

impl Walk {
    fn run(&self, context: &Context) -> anyhow::Result<Exit> {
        let (session, result) = analysed(context, &self.common, &self.query)?;
        let recipe = result.recipe.clone();
        let reach = i32::from(self.reach);
        let request = TraverseRequest {
            analysis: result.into(),
            dimensions: self.dimensions.clone(),
            offsets: (-reach..=reach).map(f64::from).collect(),
        };
        let walk = with_progress(context, |on_event| traverse::walk(&session, &request, on_event))?;
        self.common.write(Figure::Traverse { traverse: &walk, recipe: Some(&recipe) })?;
        let tiles: Vec<_> = walk
            .offsets
            .iter()
            .zip(&walk.cosine_to_mean)
            .zip(&walk.tiles)
            .map(|((k, cosine), tile)| json!({ "k": k, "cosine": cosine, "hash": tile.hash }))
            .collect();
        let rows: Vec<Vec<String>> = walk
            .offsets
            .iter()
            .zip(&walk.cosine_to_mean)
            .map(|(k, cosine)| vec![format!("{k:+.0} σ"), format!("{cosine:.3}")])
            .collect();
        let text = table::render(&columns(["moved by", "cosine to the mean"]), &rows);
        let json = json!({ "dimensions": walk.dimensions, "tiles": tiles, "out": self.common.out });
        context.print(&json, text + &written(&self.common.out))?;
        Ok(Exit::Success)
    }
}

impl Noises {
    fn run(&self, context: &Context) -> anyhow::Result<Exit> {
        let (session, result) = analysed(context, &self.common, &self.query)?;
        let recipe = result.recipe.clone();
        let (embeddings, noises) = (self.embeddings, self.noises);
        let request = NoiseGridRequest { analysis: result.into(), embeddings, noises };
        let grid =
            with_progress(context, |on_event| noise_grid::cross(&session, &request, on_event))?;
        self.common.write(Figure::NoiseGrid { grid: &grid, recipe: Some(&recipe) })?;
        let shares = [
            ("embedding", grid.embedding_share),
            ("noise", grid.noise_share),
            ("interaction", grid.interaction_share),
        ];
        let rows: Vec<Vec<String>> = shares
            .iter()
            .map(|(name, share)| {
                let percent = |v: f64| format!("{:.0} %", 100.0 * v);
                let interval = format!("{} to {}", percent(share.low), percent(share.high));
                vec![(*name).to_owned(), percent(share.value), interval]
            })
            .collect();
        let text = table::render(&columns(["share of variance", "", "90 % jackknife"]), &rows);
        let json: serde_json::Map<String, serde_json::Value> = shares
            .iter()
            .map(|(name, s)| {
                let share = json!({ "share": s.value, "low": s.low, "high": s.high, "negative": s.negative });
                ((*name).to_owned(), share)
            })
            .collect();
        context.print(&json.into(), text + &written(&self.common.out))?;
        Ok(Exit::Success)
    }
}

impl Ladder {
    fn run(&self, context: &Context) -> anyhow::Result<Exit> {
        self.common.check()?;
        let assets = context.assets()?;
        let (first, steps) = match &self.image {
            Some(image) => {
                let shares = self.masks.clone();
                let steps = LadderSteps::Masks { image: image.clone(), shares };
                (RecipeQuery::image(image), steps)
            }
            None => {
                let queries: Vec<RecipeQuery> = self.queries.iter().map(|q| guess(q)).collect();
                let first = queries.first().cloned().ok_or_else(|| usage("no step was named"))?;
                (first, LadderSteps::Queries(queries))
            }
        };
        let recipe = self.common.recipe(first, &assets)?;
        let session = Session::new(assets, context.device()?);
        let request = LadderRequest { recipe: Box::new(recipe.clone()), steps };
        let found = with_progress(context, |on_event| ladder::climb(&session, &request, on_event))?;
        self.common.write(Figure::Ladder { ladder: &found, recipe: Some(&recipe) })?;
        let rows: Vec<Vec<String>> = found
            .steps
            .iter()
            .map(|step| {
                vec![
                    table::shorten(&step.title, 48),
                    format!("{:.4}", step.aleatoric),
                    format!("{:.2e}", step.epistemic),
                    format!("{:.3}", step.cosine_to_last),
                ]
            })
            .collect();
        let text =
            table::render(&columns(["step", "aleatoric", "epistemic", "cosine to last"]), &rows)
                + &format!("tau {:+.2}, permutation p {:.3}\n", found.tau, found.p_value);
        let steps: Vec<_> = found
            .steps
            .iter()
            .map(|step| {
                json!({
                    "title": step.title, "aleatoric": step.aleatoric, "epistemic": step.epistemic,
                    "quantiles": step.quantiles, "share_below": step.share_below,
                    "cosine_to_last": step.cosine_to_last,
                })
            })
            .collect();
        let json = json!({ "steps": steps, "tau": found.tau, "p_value": found.p_value });
        context.print(&json, text + &written(&self.common.out))?;
        Ok(Exit::Success)
    }
}

impl Evaluate {
    fn run(&self, context: &Context) -> anyhow::Result<Exit> {
        self.common.check()?;
        let assets = context.assets()?;
        let recipe = self.common.recipe(RecipeQuery::Text("captions".to_owned()), &assets)?;
        let session = Session::new(assets, context.device()?);
        let found =
            with_progress(context, |on_event| evaluation::evaluate(&session, &recipe, on_event))?;
        self.common.write(Figure::Evaluation { evaluation: &found, recipe: Some(&recipe) })?;
        let rows: Vec<Vec<String>> = found
            .bins
            .iter()
            .map(|bin| {
                vec![
                    bin.count.to_string(),
                    format!("{:.4}", bin.aleatoric),
                    format!("{:.1} %", 100.0 * bin.recall_at_10),
                ]
            })
            .collect();
        let [r1, r5, r10] = found.recall.map(|recall| 100.0 * recall);
        let text = format!(
            "{} captions of {}, {} items\nrecall@1 {r1:.1} %, @5 {r5:.1} %, @10 {r10:.1} % (frozen \
             embeddings)\n",
            found.captions, found.gallery, found.items
        ) + &table::render(&columns(["captions", "mean aleatoric", "recall@10"]), &rows)
            + &format!("Spearman of uncertainty and rank {:+.3}\n", found.spearman);
        let bins: Vec<_> = found
            .bins
            .iter()
            .map(|b| json!({ "count": b.count, "aleatoric": b.aleatoric, "recall_at_10": b.recall_at_10 }))
            .collect();
        let json = json!({
            "gallery": found.gallery, "captions": found.captions, "items": found.items,
            "recall": found.recall, "bins": bins, "spearman": found.spearman,
        });
        context.print(&json, text + &written(&self.common.out))?;
        Ok(Exit::Success)
    }
}

/// The first column holds words, the others numbers.
fn columns<const N: usize>(titles: [&'static str; N]) -> [Column; N] {
    let mut first = true;
    titles.map(|title| match std::mem::take(&mut first) {
        true => table::words(title),
        false => table::numbers(title),
    })
}

fn written(files: &[PathBuf]) -> String {
    files.iter().map(|path| format!("wrote {}\n", path.display())).collect()
}
