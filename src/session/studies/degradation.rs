//! Ladders over a whole data set: does uncertainty grow as images are masked or cropped, as words
//! are masked, and from exact to coarse captions?
//!
//! One image that gets masked more and more is an anecdote (see [`super::ladder`]); here every
//! step is a mean over many items, each compared with itself.

use std::path::PathBuf;

use image::RgbImage;
use rand::seq::SliceRandom;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::ladder::mask;
use crate::encoder::{Embedding, Modality};
use crate::evaluation::{Estimate, EvaluationError, kendall_tau_b, mean_estimate};
use crate::gallery::{Dataset, ImageLocation};
use crate::query::{AlphaPolicy, read_located_image};
use crate::random::{Stream, generator};
use crate::session::event::{Event, Stage};
use crate::session::recipe::Recipe;
use crate::session::{Job, OnEvent, Session, SessionError, guarded};

/// Items embedded at a time.
const BATCH: usize = 32;
/// Replicates behind the intervals.
const BOOTSTRAP: usize = 2000;

/// What is taken away from step to step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Degradation {
    /// Grey squares over a share of the image (figure 6 of the ProbVLM paper).
    MaskImage,
    /// The outer part of the image; the rest is scaled up.
    CropImage,
    /// A share of the words of a caption (figure 6 of the ProbVLM paper).
    MaskWords,
    /// From exact to coarse captions of the same image, by the data set's own levels.
    CaptionLevel,
}

impl Degradation {
    pub const ALL: [Degradation; 4] = [
        Degradation::MaskImage,
        Degradation::CropImage,
        Degradation::MaskWords,
        Degradation::CaptionLevel,
    ];

    /// What is degraded.
    pub fn modality(self) -> Modality {
        match self {
            Degradation::MaskImage | Degradation::CropImage => Modality::Image,
            Degradation::MaskWords | Degradation::CaptionLevel => Modality::Text,
        }
    }
}

impl std::fmt::Display for Degradation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Degradation::MaskImage => "mask-image",
            Degradation::CropImage => "crop-image",
            Degradation::MaskWords => "mask-words",
            Degradation::CaptionLevel => "caption-level",
        })
    }
}

impl std::str::FromStr for Degradation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Degradation::ALL.into_iter().find(|d| d.to_string() == text).ok_or_else(|| {
            let names: Vec<_> = Degradation::ALL.iter().map(ToString::to_string).collect();
            format!("unknown ladder {text:?}; expected {}", names.join(", "))
        })
    }
}

/// What to climb.
#[derive(Debug, Clone)]
pub struct DegradationRequest {
    /// Models; its query only tells the modality.
    pub recipe: Recipe,
    /// The data set, a path as [`Dataset::open`] takes it.
    pub dataset: PathBuf,
    pub degradation: Degradation,
    /// Shares taken away, 0 to below 1, growing; ignored for caption levels.
    pub shares: Vec<f64>,
    /// Items at most, evenly spread over the data set.
    pub items: usize,
    pub seed: u64,
}

/// A climbed ladder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DegradationLadder {
    pub dataset: String,
    pub degradation: Degradation,
    pub items: usize,
    pub steps: Vec<DegradationStep>,
    /// Kendall's tau-b of step and uncertainty, mean over items, with a 95 % bootstrap interval
    /// over items: 1 where every item gets more uncertain at every step, 0 for no relation.
    pub tau: Estimate,
    /// Share of items that are more uncertain at the last step than at the first.
    pub rising: f64,
}

/// One step of the ladder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DegradationStep {
    /// Share taken away, or the caption level.
    pub amount: f64,
    /// Total variance, mean over dimensions and items, squared embedding units.
    pub uncertainty: f64,
    /// Mean over items of the difference to the first step, with a 95 % bootstrap interval over
    /// items.
    pub change: Estimate,
    /// Mean cosine with the same item's embedding at the first step: what the frozen encoder alone
    /// notices.
    pub cosine_to_first: f64,
}

/// Embeds every item at every step and predicts its uncertainty.
///
/// # Errors
/// When the data set cannot be used, has no captions (or levels) where they are needed, shares are
/// out of range, models fail, or the job was cancelled.
pub fn climb(
    session: &Session,
    request: &DegradationRequest,
    on_event: OnEvent<'_>,
) -> Result<DegradationLadder, SessionError> {
    guarded(|| {
        let mut job = Job::new(on_event);
        let mut recipe = request.recipe.clone();
        let route = session.route(&mut recipe, &mut job)?;
        let (encoder, adapter) = (&route.encoder, route.adapter()?);
        let dataset = Dataset::open(&session.assets.resolve(&request.dataset, "data set")?)?;
        let ladder = Ladder::new(&dataset, request)?;
        job.stage(Stage::Predict)?;
        let sampling = &recipe.sampling;
        let steps = ladder.amounts.len();
        let mut items: Vec<Item> = Vec::new();
        for batch in ladder.inputs.chunks(BATCH) {
            job.tell(Event::Progress { done: items.len(), total: ladder.inputs.len() })?;
            let embeddings = match batch_inputs(batch)? {
                Inputs::Images(images) => {
                    let degraded: Vec<RgbImage> = images
                        .par_iter()
                        .flat_map_iter(|image| ladder.degraded_images(image))
                        .collect();
                    embed_images(encoder, &degraded, &mut job)?
                }
                Inputs::Texts(texts) => {
                    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
                    encoder.embed_texts(&texts)?
                }
            };
            let predicted =
                adapter.predict_batch(&embeddings, sampling.dropout_passes, sampling.seed)?;
            items.extend(embeddings.chunks(steps).zip(predicted.chunks(steps)).map(
                |(embeddings, predicted)| Item {
                    uncertainty: predicted.iter().map(|d| d.mean_total()).collect(),
                    cosines: embeddings.iter().map(|e| e.cosine(&embeddings[0])).collect(),
                },
            ));
        }
        ladder.summary(&dataset.name, request, &items)
    })
}

fn embed_images(
    encoder: &crate::encoder::Encoder,
    images: &[RgbImage],
    job: &mut Job<'_>,
) -> Result<Vec<Embedding>, SessionError> {
    let mut embeddings = Vec::with_capacity(images.len());
    for images in images.chunks(BATCH) {
        job.tell(Event::Progress { done: 0, total: 0 })?;
        embeddings.extend(encoder.embed_images(images)?);
    }
    Ok(embeddings)
}

/// One item at every step.
struct Item {
    uncertainty: Vec<f64>,
    cosines: Vec<f64>,
}

/// An item before it is read: an image to degrade, or the texts of all steps.
enum Input {
    Image(ImageLocation),
    Texts(Vec<String>),
}

enum Inputs {
    Images(Vec<RgbImage>),
    Texts(Vec<String>),
}

fn batch_inputs(batch: &[Input]) -> Result<Inputs, SessionError> {
    let mut texts = Vec::new();
    let mut sources = Vec::new();
    for input in batch {
        match input {
            Input::Image(source) => sources.push(source),
            Input::Texts(steps) => texts.extend(steps.iter().cloned()),
        }
    }
    if sources.is_empty() {
        return Ok(Inputs::Texts(texts));
    }
    let images = sources
        .par_iter()
        .map(|place| Ok(read_located_image(place)?.to_rgb(AlphaPolicy::default())))
        .collect::<Result<_, SessionError>>()?;
    Ok(Inputs::Images(images))
}

struct Ladder {
    degradation: Degradation,
    /// Share or level of each step.
    amounts: Vec<f64>,
    inputs: Vec<Input>,
}

impl Ladder {
    fn new(dataset: &Dataset, request: &DegradationRequest) -> Result<Self, SessionError> {
        let degradation = request.degradation;
        if request.items == 0 {
            return Err(SessionError::OutOfRange {
                what: "the number of items",
                found: "0".to_owned(),
                expected: "at least 1".to_owned(),
            });
        }
        let amounts = match degradation {
            Degradation::CaptionLevel => levels(dataset),
            _ => request.shares.clone(),
        };
        let growing = amounts.is_sorted_by(|a, b| a < b);
        let in_range = degradation == Degradation::CaptionLevel
            || amounts.iter().all(|share| (0.0..1.0).contains(share));
        if amounts.len() < 2 || !growing || !in_range {
            return Err(SessionError::OutOfRange {
                what: "the steps of the ladder",
                found: format!("{amounts:?}"),
                expected: match degradation {
                    Degradation::CaptionLevel => {
                        format!("a data set with at least two caption levels ({})", dataset.name)
                    }
                    _ => "at least two growing shares from 0 to below 1".to_owned(),
                },
            });
        }
        let mut inputs: Vec<Input> = dataset
            .items
            .iter()
            .enumerate()
            .filter_map(|(i, item)| match degradation {
                Degradation::MaskImage | Degradation::CropImage => {
                    Some(Input::Image(item.image.clone()))
                }
                Degradation::MaskWords => {
                    let caption = item.captions.get(i % item.captions.len().max(1))?;
                    let texts = amounts
                        .iter()
                        .map(|&share| mask_words(&caption.text, share, request.seed, i as u64));
                    Some(Input::Texts(texts.collect()))
                }
                Degradation::CaptionLevel => {
                    let of_level = |&level: &f64| {
                        let wanted = |c: &&crate::gallery::Caption| {
                            c.level.is_some_and(|l| f64::from(l) == level)
                        };
                        Some(item.captions.iter().find(wanted)?.text.clone())
                    };
                    Some(Input::Texts(amounts.iter().map(of_level).collect::<Option<_>>()?))
                }
            })
            .collect();
        if inputs.is_empty() {
            return Err(SessionError::Mismatch(format!(
                "no item of {} can climb {degradation}: it needs {}",
                dataset.name,
                match degradation {
                    Degradation::CaptionLevel => "a caption of every level",
                    Degradation::MaskWords => "a caption",
                    _ => "an image",
                }
            )));
        }
        let step = inputs.len().div_ceil(request.items);
        inputs = inputs.into_iter().step_by(step).collect();
        Ok(Self { degradation, amounts, inputs })
    }

    fn degraded_images<'a>(&'a self, image: &'a RgbImage) -> impl Iterator<Item = RgbImage> + 'a {
        self.amounts.iter().map(|&share| match self.degradation {
            Degradation::CropImage => crop(image, share),
            _ => mask(image, share),
        })
    }

    fn summary(
        &self,
        dataset: &str,
        request: &DegradationRequest,
        items: &[Item],
    ) -> Result<DegradationLadder, SessionError> {
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let column = |f: &dyn Fn(&Item) -> f64| items.iter().map(f).collect::<Vec<f64>>();
        let interval = |values: &[f64]| mean_estimate(values, BOOTSTRAP, request.seed);
        let step = |(i, &amount): (usize, &f64)| {
            let change = column(&|item| item.uncertainty[i] - item.uncertainty[0]);
            Ok(DegradationStep {
                amount,
                uncertainty: mean(&column(&|item| item.uncertainty[i])),
                change: interval(&change)?,
                cosine_to_first: mean(&column(&|item| item.cosines[i])),
            })
        };
        let steps = self.amounts.iter().enumerate().map(step);
        let steps = steps.collect::<Result<Vec<_>, EvaluationError>>()?;
        let last = self.amounts.len() - 1;
        let taus = items
            .iter()
            .map(|item| kendall_tau_b(&self.amounts, &item.uncertainty))
            .collect::<Result<Vec<f64>, _>>()?;
        Ok(DegradationLadder {
            dataset: dataset.to_owned(),
            degradation: self.degradation,
            items: items.len(),
            steps,
            tau: interval(&taus)?,
            rising: mean(&column(&|item| {
                f64::from(u8::from(item.uncertainty[last] > item.uncertainty[0]))
            })),
        })
    }
}

/// All caption levels of a data set, from exact on.
fn levels(dataset: &Dataset) -> Vec<f64> {
    let captions = dataset.items.iter().flat_map(|item| &item.captions);
    let mut levels: Vec<u32> = captions.filter_map(|caption| caption.level).collect();
    levels.sort_unstable();
    levels.dedup();
    levels.into_iter().map(f64::from).collect()
}

/// The middle of an image, with `share` of its area cut away, scaled back to its size.
fn crop(image: &RgbImage, share: f64) -> RgbImage {
    let (width, height) = image.dimensions();
    let side = (1.0 - share.clamp(0.0, 1.0)).sqrt();
    let kept = |length: u32| ((f64::from(length) * side).round() as u32).clamp(1, length);
    let (w, h) = (kept(width), kept(height));
    let part = image::imageops::crop_imm(image, (width - w) / 2, (height - h) / 2, w, h).to_image();
    if (w, h) == (width, height) {
        return part;
    }
    image::imageops::resize(&part, width, height, image::imageops::FilterType::CatmullRom)
}

/// A text without a share of its words, at least one of which stays. A larger share takes away all
/// that a smaller one does.
fn mask_words(text: &str, share: f64, seed: u64, item: u64) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let gone = ((share * words.len() as f64).round() as usize).min(words.len().saturating_sub(1));
    let mut order: Vec<usize> = (0..words.len()).collect();
    order.shuffle(&mut generator(seed, Stream::Resampling, item));
    let mut stays = vec![true; words.len()];
    order[..gone].iter().for_each(|&word| stays[word] = false);
    let kept: Vec<&str> = words.iter().zip(&stays).filter(|(_, s)| **s).map(|(w, _)| *w).collect();
    kept.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masked_words_are_nested_and_one_always_stays() {
        let text = "a glossy drawing of a red apple";
        let count = |share| mask_words(text, share, 3, 5).split(' ').count();
        assert_eq!(mask_words(text, 0.0, 3, 5), text);
        assert_eq!((count(0.5), count(0.99)), (3, 1));
        let half = mask_words(text, 0.5, 3, 5);
        let more = mask_words(text, 0.7, 3, 5);
        assert!(more.split(' ').all(|word| half.split(' ').any(|other| other == word)));
    }

    #[test]
    fn a_crop_keeps_the_size_and_the_middle() {
        let image = RgbImage::from_fn(40, 40, |x, y| {
            let inside = (10..30).contains(&x) && (10..30).contains(&y);
            image::Rgb(if inside { [200, 0, 0] } else { [0, 0, 200] })
        });
        assert_eq!(crop(&image, 0.0), image);
        let cropped = crop(&image, 0.75);
        assert_eq!(cropped.dimensions(), (40, 40));
        assert!(cropped.pixels().all(|p| p.0[0] > 150 && p.0[2] < 60));
    }
}
