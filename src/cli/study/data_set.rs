//! Studies over whole data sets: degradation ladders, and the overlap of two sets under one
//! density.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use serde_json::json;

use super::{Common, columns, with_progress, written};
use crate::adapter::Adapter;
use crate::cli::table;
use crate::cli::{Context, Exit};
use crate::encoder::Modality;
use crate::experiment::overlap::{LikelihoodOverlap, likelihood_overlap};
use crate::export::figures::Figure;
use crate::session::Session;
use crate::session::experiments::{ExperimentEvent, Opened, PairSource};
use crate::session::pairs::Opening;
use crate::session::recipe::RecipeQuery;
use crate::session::studies::degradation::{
    Degradation, DegradationLadder, DegradationRequest, climb,
};

/// Most likely items that are listed of each set.
const LISTED: usize = 5;

#[derive(Debug, Args)]
pub struct Degrade {
    /// mask-image, crop-image, mask-words or caption-level
    #[arg(value_name = "LADDER")]
    degradation: Degradation,
    /// The data set: a folder or file as for haze index [default: the demo's gallery]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    dataset: Option<PathBuf>,
    /// Shares taken away, step by step
    #[arg(long, value_name = "S,S,…", value_delimiter = ',',
          default_values_t = [0.0, 0.2, 0.4, 0.6, 0.8])]
    shares: Vec<f64>,
    /// Items at most, evenly spread over the data set
    #[arg(long, value_name = "N", default_value_t = 200)]
    items: usize,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub struct Overlap {
    /// Pairs that the item is of: PATH or PATH:SPLIT,SPLIT
    #[arg(value_name = "OWN")]
    own: PairSource,
    /// Pairs that are compared with them
    #[arg(value_name = "OTHER")]
    other: PairSource,
    /// Folder of an adapter that was trained on unit embeddings, as haze evaluate --save-adapters
    /// keeps them
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    adapter: PathBuf,
    /// Position of the item among its kind in OWN
    #[arg(long, value_name = "N", default_value_t = 0)]
    item: usize,
    /// Files to write: .png and .svg a figure, .csv, .parquet and .npz the numbers behind it
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    out: Vec<PathBuf>,
}

impl Degrade {
    pub fn run(&self, context: &Context) -> anyhow::Result<Exit> {
        self.common.check()?;
        let assets = context.assets()?;
        let dataset = match &self.dataset {
            Some(path) => path.clone(),
            None => crate::session::request::or_demo(None, "gallery"),
        };
        let query = match self.degradation.modality() {
            Modality::Text => RecipeQuery::Text("captions".to_owned()),
            Modality::Image => RecipeQuery::image(&dataset),
        };
        let mut recipe = self.common.recipe(query, &assets)?;
        (recipe.models.gallery, recipe.models.decoder) = (None, None);
        let session = Session::new(assets, context.device()?);
        let request = DegradationRequest {
            seed: recipe.sampling.seed,
            recipe: recipe.clone(),
            dataset,
            degradation: self.degradation,
            shares: self.shares.clone(),
            items: self.items,
        };
        let found = with_progress(context, |on_event| climb(&session, &request, on_event))?;
        self.common.write(Figure::Degradation { ladder: &found, recipe: Some(&recipe) })?;
        context.print(&json!(found), text(&found) + &written(&self.common.out))?;
        Ok(Exit::Success)
    }
}

fn text(ladder: &DegradationLadder) -> String {
    let by_level = ladder.degradation == Degradation::CaptionLevel;
    let rows: Vec<Vec<String>> = ladder
        .steps
        .iter()
        .map(|step| {
            vec![
                match by_level {
                    true => format!("level {}", step.amount),
                    false => format!("{:.0} %", 100.0 * step.amount),
                },
                format!("{:.4}", step.uncertainty),
                format!("{:+.4}", step.change.value),
                format!("{:+.4} to {:+.4}", step.change.low, step.change.high),
                format!("{:.3}", step.cosine_to_first),
            ]
        })
        .collect();
    let first = if by_level { "captions" } else { "taken away" };
    let columns = columns([first, "uncertainty", "change", "95 % interval", "cosine to first"]);
    format!("{}, {} items of {}\n", ladder.degradation, ladder.items, ladder.dataset)
        + &table::render(&columns, &rows)
        + &format!(
            "Kendall's tau of step and uncertainty, mean over items: {:+.2} ({:+.2} to {:+.2})\n\
             {:.0} % of the items are more uncertain at the last step than at the first\n",
            ladder.tau.value,
            ladder.tau.low,
            ladder.tau.high,
            100.0 * ladder.rising
        )
}

impl Overlap {
    pub fn run(&self, context: &Context) -> anyhow::Result<Exit> {
        self.out.iter().try_for_each(|path| super::format_of(path).map(|_| ()))?;
        let assets = context.assets()?;
        let adapter = assets.resolve(&self.adapter, "adapter")?;
        let session = Session::new(assets, context.device()?);
        let adapter = Adapter::load(&adapter, &session.device().device)
            .map_err(crate::session::SessionError::from)?;
        let opening = Opening::default();
        let mut ignore = |_: ExperimentEvent<'_>| context.interrupt.flow();
        let mut opened = Opened::new(&session, &opening, &mut ignore).raw();
        let (own, other) = (opened.pairs(&self.own)?, opened.pairs(&self.other)?);
        let found = likelihood_overlap(&adapter, &own, self.item, &other)
            .map_err(crate::session::SessionError::from)?;
        super::write_all(&self.out, Figure::Overlap(&found))?;
        context.print(&json!(found), overlap_text(&found) + &written(&self.out))?;
        Ok(Exit::Success)
    }
}

fn overlap_text(found: &LikelihoodOverlap) -> String {
    let mut text = format!(
        "The density of {}, over {}s\n\
         A random item of {} is more likely than one of {} in {:.1} % of the draws (AUROC)\n\
         {:.1} % of {} are more likely than the median of {}\n",
        found.item,
        found.scored,
        found.own.name,
        found.other.name,
        100.0 * found.auroc,
        100.0 * found.above_own_median,
        found.other.name,
        found.own.name,
    );
    for set in [&found.own, &found.other] {
        text += &format!("\nMost likely of {}, nats per dimension\n", set.name);
        let rows: Vec<Vec<String>> = set
            .items
            .iter()
            .take(LISTED)
            .map(|item| vec![table::shorten(&item.id, 60), format!("{:.4}", item.log_likelihood)])
            .collect();
        text += &table::render(&columns(["item", "log likelihood"]), &rows);
    }
    text
}
