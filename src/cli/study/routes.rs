//! `haze study routes`: the ways from a text to image space, compared.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use serde_json::json;

use super::{Common, columns, with_progress, written};
use crate::cli::options::set;
use crate::cli::table;
use crate::cli::{Context, Exit};
use crate::export::figures::Figure;
use crate::session::Session;
use crate::session::engine::RoutesRequest;
use crate::session::recipe::{Bridge, RecipeQuery};
use crate::session::request::{self, ModelChoice};
use crate::session::studies::routes::{self, Scores, TOP_K};

/// Samples per caption unless told otherwise.
const SAMPLES: usize = 4;

#[derive(Debug, Args)]
pub struct Routes {
    /// A gallery or dataset with captioned images [default: the bundle's gallery]
    #[arg(value_name = "DATASET", value_hint = ValueHint::AnyPath)]
    dataset: Option<PathBuf>,
    /// Captions, one per image, evenly spread over the gallery
    #[arg(long, value_name = "N", default_value_t = 32)]
    items: usize,
    /// Routes to compare [default: all that there are models for]
    #[arg(long, value_name = "BRIDGE,…", value_delimiter = ',')]
    routes: Vec<Bridge>,
    #[command(flatten)]
    common: Common,
}

impl Routes {
    pub fn run(&self, context: &Context) -> anyhow::Result<Exit> {
        self.common.check()?;
        let assets = context.assets()?;
        let (request, recipe) = self.request(&assets)?;
        let session = Session::new(assets, context.device()?);
        let found =
            with_progress(context, |on_event| routes::compare(&session, &request, on_event))?;
        self.common.write(Figure::Routes { routes: &found, recipe: Some(&recipe) })?;
        let json = json!({ "comparison": found, "out": self.common.out });
        context.print(&json, text_of(&found) + &written(&self.common.out))?;
        Ok(Exit::Success)
    }

    fn request(
        &self,
        assets: &crate::session::Assets,
    ) -> anyhow::Result<(RoutesRequest, crate::session::recipe::Recipe)> {
        let mut choice = self.common.models.choice();
        if let Some(dataset) = &self.dataset {
            choice.gallery = Some(dataset.clone());
        }
        // The routes are what is compared; one route alone is asked for by --routes.
        let asked = match choice.bridge.take() {
            Some(bridge) if self.routes.is_empty() => vec![bridge],
            _ => self.routes.clone(),
        };
        let (mut routes, mut left_out) = request::routes(&choice, assets)?;
        if !asked.is_empty() {
            routes.retain(|route| asked.contains(&route.bridge));
            left_out.retain(|route| asked.contains(&route.route));
            if let (true, Some(first)) = (routes.is_empty(), left_out.first()) {
                let reason = format!("{}: {}", first.route, first.reason);
                return Err(crate::session::SessionError::Mismatch(reason).into());
            }
        }
        // Encoder, decoder, gallery and numbers; what belongs to a route is filled in by it.
        let base = ModelChoice { adapter: None, prior: None, ..choice };
        let mut recipe = match routes.first() {
            Some(first) => {
                let adapter = first.adapter.as_ref().map(|model| model.path.clone());
                let prior = first.bridge_model.as_ref().map(|model| model.path.clone());
                let prior = prior.filter(|_| first.bridge == Bridge::Prior);
                let choice = ModelChoice { adapter, prior, bridge: Some(first.bridge), ..base };
                self.common.recipe_with(
                    RecipeQuery::Text("captions".to_owned()),
                    &choice,
                    assets,
                )?
            }
            None => return Err(crate::cli::exit::usage("no route was named")),
        };
        let sampling = &self.common.sampling;
        if sampling.prior_steps.is_some() || sampling.prior_guidance.is_some() {
            let prior = recipe.sampling.prior.get_or_insert_default();
            set(&mut prior.steps, sampling.prior_steps);
            set(&mut prior.guidance_scale, sampling.prior_guidance);
        }
        let samples = sampling.samples.unwrap_or(SAMPLES);
        let request = RoutesRequest {
            recipe: Box::new(recipe.clone()),
            routes,
            left_out,
            items: self.items,
            samples,
        };
        Ok((request, recipe))
    }
}

fn text_of(found: &routes::Routes) -> String {
    let row = |name: &str, scores: &Scores| -> Vec<String> {
        std::iter::once(name.to_owned()).chain(scores.in_words()).collect()
    };
    let mut rows: Vec<Vec<String>> =
        found.routes.iter().map(|route| row(route.route.route(), &route.scores)).collect();
    rows.extend(found.ceiling.iter().map(|scores| row("the image itself", scores)));
    let columns = columns([
        "route",
        "similarity",
        "before decoding",
        "of the mean",
        "rank",
        "in top 10",
        "diversity",
    ]);
    let mut text = format!(
        "{} captions of {} ({} images), {} samples each\n",
        found.items, found.gallery, found.gallery_size, found.samples
    ) + &table::render(&columns, &rows)
        + &format!(
            "similarity: cosine of the picture, embedded again, to the true image; before decoding: \
             that of what the\ndecoder was given; of the mean: that of the distribution's mean; \
             rank: median rank of the true image by\nthe picture, and pictures that find it in the \
             top {TOP_K}; diversity: cosine distance of two pictures of one\ncaption; in brackets \
             95 % bootstrap intervals over captions\n"
        );
    for left_out in &found.left_out {
        text += &format!("left out: {}: {}\n", left_out.route, left_out.reason);
    }
    text
}
