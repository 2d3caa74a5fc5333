//! A ladder: queries of growing specificity, or one image masked more and more, and how the
//! uncertainty changes from step to step.

use image::RgbImage;
use rand::seq::SliceRandom;

use crate::encoder::Embedding;
use crate::evaluation::{Agreement, kendall_agreement};
use crate::query::{AlphaPolicy, Query, read_image};
use crate::random::{Stream, generator};
use crate::session::engine::{LadderRequest, LadderSteps};
use crate::session::event::{Event, Stage};
use crate::session::recipe::{Recipe, RecipeQuery};
use crate::session::reference::Variances;
use crate::session::{Job, OnEvent, Session, SessionError, embed_query, guarded};

/// Squares along one side of a masked image.
const MASK_CELLS: u32 = 16;
/// Most steps of one ladder.
pub const MAX_STEPS: usize = 64;

/// A finished ladder.
#[derive(Debug, Clone)]
pub struct Ladder {
    /// In the order given: from the first (least specific) step on.
    pub steps: Vec<LadderStep>,
    /// Dimensions behind the quantiles of every step.
    pub dimensions: usize,
    /// Kendall's tau-b between step number and mean aleatoric variance, -1 to 1.
    pub tau: f64,
    /// Two-sided permutation p-value of tau; exact up to 8 steps, else from 9,999 permutations.
    pub p_value: f64,
}

/// One step of a ladder.
#[derive(Debug, Clone)]
pub struct LadderStep {
    pub query: RecipeQuery,
    /// What is shown: the text, the file name, or the masked share.
    pub title: String,
    /// The (masked) image, where the step is one.
    pub image: Option<RgbImage>,
    /// Means over dimensions, squared embedding units.
    pub aleatoric: f64,
    pub epistemic: f64,
    /// Aleatoric variance at 5, 25, 50, 75 and 95 % of the dimensions.
    pub quantiles: [f64; 5],
    /// Share of the gallery's own captions or images that are less uncertain, 0 to 1.
    pub share_below: Option<f64>,
    /// Cosine between the embedding of this step and of the last one: the baseline without any
    /// adapter.
    pub cosine_to_last: f64,
}

/// Predicts every step.
///
/// # Errors
/// When there are fewer than two steps or too many, they mix texts and images, an image cannot be
/// read, models fail, or the job was cancelled.
pub fn climb(
    session: &Session,
    request: &LadderRequest,
    on_event: OnEvent<'_>,
) -> Result<Ladder, SessionError> {
    guarded(|| {
        let queries = queries(&request.steps)?;
        if !(2..=MAX_STEPS).contains(&queries.len()) {
            return Err(SessionError::OutOfRange {
                what: "the number of steps",
                found: queries.len().to_string(),
                expected: format!("2 to {MAX_STEPS}"),
            });
        }
        let modality = queries[0].query.modality();
        if queries.iter().any(|step| step.query.modality() != modality) {
            return Err(SessionError::Mismatch(
                "a ladder mixes texts and images; use one kind, they have different adapters"
                    .to_owned(),
            ));
        }
        let mut recipe = Recipe::clone(&request.recipe);
        recipe.query = queries[0].query.clone();
        let mut job = Job::new(on_event);
        let route = session.route(&mut recipe, &mut job)?;
        let (encoder, adapter) = (&route.encoder, route.adapter()?);
        let variances = match &mut recipe.models.gallery {
            Some(model) => {
                job.stage(Stage::IndexGallery)?;
                let (assets, models) = (&session.assets, &recipe.models.encoder);
                let gallery = session.loaded.gallery(model, models, assets, encoder, &mut job)?;
                Some(Variances::of(&gallery, encoder, adapter, &recipe.models, &mut job)?)
            }
            None => None,
        };
        job.stage(Stage::Predict)?;
        let total = queries.len();
        let mut embeddings: Vec<Embedding> = Vec::with_capacity(total);
        let mut steps = Vec::with_capacity(total);
        let mut dimensions = 0;
        for (done, step) in queries.into_iter().enumerate() {
            job.tell(Event::Progress { done, total })?;
            let embedding = match (&step.image, &step.query) {
                (Some(image), _) => {
                    encoder.embed_images(std::slice::from_ref(image))?.swap_remove(0)
                }
                (None, RecipeQuery::Text(text)) => embed_query(encoder, &Query::text(text)?)?,
                (None, RecipeQuery::Image { path, .. }) => {
                    embed_query(encoder, &Query::image(path)?)?
                }
            };
            let sampling = &recipe.sampling;
            let predicted = adapter.predict(&embedding, sampling.dropout_passes, sampling.seed)?;
            dimensions = predicted.dim();
            let mut sorted = predicted.aleatoric().to_vec();
            sorted.sort_by(f64::total_cmp);
            let at = |share: f64| sorted[(share * (sorted.len() - 1) as f64).round() as usize];
            let aleatoric = predicted.mean_aleatoric();
            steps.push(LadderStep {
                query: step.query,
                title: step.title,
                image: step.image,
                aleatoric,
                epistemic: predicted.mean_epistemic(),
                quantiles: [0.05, 0.25, 0.5, 0.75, 0.95].map(at),
                share_below: variances
                    .as_ref()
                    .and_then(|all| all.place(aleatoric))
                    .map(|reference| reference.share_below),
                cosine_to_last: 1.0,
            });
            embeddings.push(embedding);
        }
        if let Some(last) = embeddings.last() {
            for (step, embedding) in steps.iter_mut().zip(&embeddings) {
                step.cosine_to_last = embedding.cosine(last);
            }
        }
        let values: Vec<f64> = steps.iter().map(|step| step.aleatoric).collect();
        let numbers: Vec<f64> = (0..steps.len()).map(|step| step as f64).collect();
        let Agreement { tau, p_value } = kendall_agreement(&numbers, &values)?;
        Ok(Ladder { steps, dimensions, tau, p_value })
    })
}

/// A step before it is predicted.
struct Asked {
    query: RecipeQuery,
    title: String,
    image: Option<RgbImage>,
}

fn queries(steps: &LadderSteps) -> Result<Vec<Asked>, SessionError> {
    match steps {
        LadderSteps::Queries(queries) => Ok(queries
            .iter()
            .map(|query| Asked { title: query.title(), query: query.clone(), image: None })
            .collect()),
        LadderSteps::Masks { image, shares } => {
            let pixels = read_image(image)?.to_rgb(AlphaPolicy::default());
            let masked = shares.iter().map(|&share| Asked {
                query: RecipeQuery::image(image),
                title: format!("{:.0} % masked", 100.0 * share),
                image: Some(mask(&pixels, share)),
            });
            Ok(masked.collect())
        }
    }
}

/// Hides a share of an image, 0 to 1, behind grey squares. A larger share hides all that a smaller
/// one does.
pub(super) fn mask(image: &RgbImage, share: f64) -> RgbImage {
    let mut order: Vec<u32> = (0..MASK_CELLS * MASK_CELLS).collect();
    order.shuffle(&mut generator(0, Stream::Resampling, 0));
    let hidden = (share.clamp(0.0, 1.0) * order.len() as f64).round() as usize;
    let mut is_hidden = vec![false; order.len()];
    for &cell in &order[..hidden] {
        is_hidden[cell as usize] = true;
    }
    let (width, height) = image.dimensions();
    RgbImage::from_fn(width, height, |x, y| {
        let cell = (y * MASK_CELLS / height) * MASK_CELLS + x * MASK_CELLS / width;
        if is_hidden[cell as usize] { image::Rgb([128; 3]) } else { *image.get_pixel(x, y) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_nested_and_hide_their_share() {
        let image = RgbImage::from_pixel(64, 64, image::Rgb([255, 0, 0]));
        let grey = |share| -> Vec<bool> {
            mask(&image, share).pixels().map(|p| p.0 == [128; 3]).collect()
        };
        let (half, most) = (grey(0.5), grey(0.75));
        assert_eq!(half.iter().filter(|&&g| g).count(), 64 * 64 / 2);
        assert!(half.iter().zip(&most).all(|(half, most)| !half || *most));
        assert!(grey(0.0).iter().all(|g| !g));
    }
}
