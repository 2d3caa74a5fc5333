//! A light head on a frozen encoder: unit embeddings of both modalities in, unit embeddings of a
//! space that fits the labelled pairs better out.
//!
//! ```text
//! z' = unit(z + second(dropout(relu(first z))))     one such map for images, one for texts
//! ```
//!
//! `second` starts at zero, so an untrained head leaves retrieval as the encoder has it. The loss
//! is CLIP's symmetric contrastive loss at the encoder's logit scale (Radford et al., arXiv
//! 2103.00020, figure 3); pairs of one class count as matches of each other where there are
//! classes.

use std::ops::ControlFlow;

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::optim::GradientsParams;
use burn::tensor::activation::{log_softmax, relu};
use burn::tensor::{DType, Device, Tensor, TensorData};
use rand::RngExt;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use crate::adapter::AdapterError;
use crate::adapter::probvlm::dropout_mask;
use crate::adapter::training::AdamOptimizer;
use crate::encoder::Modality;
use crate::experiment::pairs::CaptionLink;
use crate::experiment::retrieval::unit_rows;
use crate::experiment::{EmbeddedPairs, ExperimentError, PairStore};
use crate::gallery::EmbeddingRows;
use crate::random::{Stream, generator};

/// Rows that go through the head at once.
const ROWS_AT_ONCE: usize = 4096;
/// Masks of training come after all that a prediction with the same seed could use.
const FIRST_TRAINING_MASK: u64 = 1 << 32;

/// How a head is built and trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeadOptions {
    /// Width of the hidden layer.
    pub hidden_dim: usize,
    /// Share of hidden units dropped in training and in BALD's passes, 0 to below 1.
    pub dropout: f64,
    pub learning_rate: f64,
    /// Pairs per step, each of another image; at least 2.
    pub batch_size: usize,
    /// Epochs at most; each sees every labelled image once, with one of its captions.
    pub epochs: usize,
    /// Epochs without a better held-out loss before training stops.
    pub patience: usize,
}

impl Default for HeadOptions {
    fn default() -> Self {
        Self {
            hidden_dim: 256,
            dropout: 0.1,
            learning_rate: 1e-3,
            batch_size: 256,
            epochs: 40,
            patience: 6,
        }
    }
}

impl HeadOptions {
    pub(super) fn check(&self) -> Result<(), ExperimentError> {
        let bad = |what, found: &dyn std::fmt::Display, expected: &str| {
            let (found, expected) = (found.to_string(), expected.to_owned());
            Err(ExperimentError::Setting { what, found, expected })
        };
        for (what, value, least) in [
            ("the head's hidden size", self.hidden_dim, 1),
            ("the head's batch size", self.batch_size, 2),
            ("the head's epochs", self.epochs, 1),
            ("the head's patience", self.patience, 1),
        ] {
            if value < least {
                return bad(what, &value, &format!("at least {least}"));
            }
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return bad("the head's dropout", &self.dropout, "0 <= dropout < 1");
        }
        if !(self.learning_rate.is_finite() && self.learning_rate > 0.0) {
            return bad("the head's learning rate", &self.learning_rate, "a positive number");
        }
        Ok(())
    }
}

/// The map of one modality.
#[derive(Module, Debug)]
struct Residual {
    first: Linear,
    second: Linear,
}

impl Residual {
    /// PyTorch's initial distribution for the first layer, zeros for the second.
    fn new(dim: usize, hidden: usize, seed: u64, index: u64, device: &Device) -> Self {
        let bound = (dim as f32).sqrt().recip();
        let mut rng = generator(seed, Stream::Initialisation, index);
        let mut draw = |len: usize| -> Vec<f32> {
            (0..len).map(|_| rng.random_range(-bound..=bound)).collect()
        };
        let weight = TensorData::new(draw(dim * hidden), [dim, hidden]);
        let bias = TensorData::new(draw(hidden), [hidden]);
        let options = || (device, DType::F32);
        Self {
            first: Linear {
                weight: Param::from_tensor(Tensor::from_data(weight, options())),
                bias: Some(Param::from_tensor(Tensor::from_data(bias, options()))),
            },
            second: Linear {
                weight: Param::from_tensor(Tensor::zeros([hidden, dim], options())),
                bias: Some(Param::from_tensor(Tensor::zeros([dim], options()))),
            },
        }
    }

    /// `[N, D]` to unit rows `[N, D]`, with a dropout mask `[N, H]` or `[1, H]`.
    fn forward(&self, x: Tensor<2>, mask: Option<Tensor<2>>) -> Tensor<2> {
        let hidden = relu(self.first.forward(x.clone()));
        let hidden = match mask {
            Some(mask) => hidden * mask,
            None => hidden,
        };
        let moved = x + self.second.forward(hidden);
        let length = moved.clone().square().sum_dim(1).clamp_min(1e-12).sqrt();
        moved / length
    }
}

#[derive(Module, Debug)]
struct Maps {
    image: Residual,
    text: Residual,
}

/// A trained head.
#[derive(Debug)]
pub struct ProjectionHead {
    maps: Maps,
    options: HeadOptions,
    logit_scale: f64,
    /// Epochs behind the kept weights; 0 where training only made the held-out loss worse.
    best_epoch: usize,
    seed: u64,
    device: Device,
}

/// Unit embeddings of pairs, and which pairs count as matches.
struct UnitPairs<'a> {
    pairs: &'a EmbeddedPairs,
    images: Vec<f32>,
    captions: Vec<f32>,
}

impl<'a> UnitPairs<'a> {
    fn new(pairs: &'a EmbeddedPairs) -> Self {
        let dim = pairs.dim();
        Self {
            pairs,
            images: unit_rows(pairs.matrix(Modality::Image), dim),
            captions: unit_rows(pairs.matrix(Modality::Text), dim),
        }
    }

    /// Images, captions and targets of some (image, caption) pairs.
    fn batch(&self, chosen: &[(usize, usize)], device: &Device) -> [Tensor<2>; 3] {
        let (dim, count) = (self.pairs.dim(), chosen.len());
        let gather = |rows: &[f32], index: &dyn Fn(&(usize, usize)) -> usize| {
            let row = |pair| &rows[index(pair) * dim..][..dim];
            let values: Vec<f32> = chosen.iter().flat_map(|pair| row(pair).to_vec()).collect();
            Tensor::from_data(TensorData::new(values, [count, dim]), (device, DType::F32))
        };
        let key = |image: usize| match self.pairs.facts(image).class {
            Some(class) => class as usize,
            None => image,
        };
        let keys: Vec<usize> = chosen.iter().map(|&(image, _)| key(image)).collect();
        let mut targets = Vec::with_capacity(count * count);
        for key in &keys {
            let same = keys.iter().filter(|other| *other == key).count() as f32;
            targets.extend(keys.iter().map(|other| if other == key { 1.0 / same } else { 0.0 }));
        }
        let targets = TensorData::new(targets, [count, count]);
        [
            gather(&self.images, &|pair| pair.0),
            gather(&self.captions, &|pair| pair.1),
            Tensor::from_data(targets, (device, DType::F32)),
        ]
    }
}

/// Mean of the cross-entropies of both directions, `[1]`.
fn contrastive_loss(
    images: Tensor<2>,
    captions: Tensor<2>,
    targets: Tensor<2>,
    scale: f64,
) -> Tensor<1> {
    let [count, _] = images.dims();
    let logits = images.matmul(captions.transpose()).mul_scalar(scale);
    let rows = (log_softmax(logits.clone(), 1) * targets.clone()).sum();
    // The targets are symmetric: the same class, divided by the size of the class in the batch.
    let columns = (log_softmax(logits.transpose(), 1) * targets).sum();
    (rows + columns).mul_scalar(-0.5 / count as f64)
}

impl ProjectionHead {
    /// Trains a head on labelled pairs, and keeps the weights with the lowest contrastive loss on
    /// `validation`: those of the start, where no epoch is better. `keep_going` is asked before
    /// every step.
    ///
    /// # Errors
    /// When an option is out of range, the pairs have different dimensions, the loss is no longer
    /// finite, the device fails, or `keep_going` says stop.
    pub fn train(
        labelled: &EmbeddedPairs,
        validation: &EmbeddedPairs,
        options: &HeadOptions,
        seed: u64,
        device: &Device,
        keep_going: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Self, ExperimentError> {
        options.check()?;
        let dim = labelled.dim();
        if validation.dim() != dim {
            return Err(validation.unusable(format!(
                "its embeddings have {} dimensions, those of {} have {dim}; both must come from \
                 one encoder",
                validation.dim(),
                labelled.name()
            )));
        }
        let learning = device.clone().autodiff();
        let hidden = options.hidden_dim;
        let side = |index| Residual::new(dim, hidden, seed, index, &learning);
        let mut maps = Maps { image: side(0), text: side(1) };
        let scale = labelled.logit_scale();
        let head = |maps: Maps, best_epoch| Self {
            maps,
            options: options.clone(),
            logit_scale: scale,
            best_epoch,
            seed,
            device: device.clone(),
        };
        let (training, held_out) = (UnitPairs::new(labelled), UnitPairs::new(validation));
        let mut optimizer = AdamOptimizer::default();
        let mut best = head(maps.valid(), 0);
        let mut best_loss = best.held_out_loss(&held_out)?;
        let mut step = 0u64;
        for epoch in 1..=options.epochs {
            for chosen in one_caption_each(labelled, seed, epoch).chunks(options.batch_size) {
                // Alone, a pair has nothing to be told apart from.
                if chosen.len() < 2 {
                    continue;
                }
                if keep_going().is_break() {
                    return Err(ExperimentError::Cancelled);
                }
                let [images, captions, targets] = training.batch(chosen, &learning);
                let mask = |side: u64| {
                    (options.dropout > 0.0).then(|| {
                        let index = FIRST_TRAINING_MASK + 2 * step + side;
                        let len = chosen.len() * hidden;
                        let mask = dropout_mask(options.dropout, seed, index, len);
                        let mask = TensorData::new(mask, [chosen.len(), hidden]);
                        Tensor::from_data(mask, (&learning, DType::F32))
                    })
                };
                let images = maps.image.forward(images, mask(0));
                let captions = maps.text.forward(captions, mask(1));
                let loss = contrastive_loss(images, captions, targets, scale);
                let gradients = GradientsParams::from_grads(loss.backward(), &maps);
                maps = optimizer.step(options.learning_rate, maps, gradients);
                step += 1;
            }
            let now = head(maps.valid(), epoch);
            let loss = now.held_out_loss(&held_out)?;
            if !loss.is_finite() {
                return Err(ExperimentError::Setting {
                    what: "the held-out loss of the projection head",
                    found: format!("{loss} after epoch {epoch}"),
                    expected: "a finite number: lower its learning rate".to_owned(),
                });
            }
            if loss < best_loss {
                (best, best_loss) = (now, loss);
            } else if epoch - best.best_epoch >= options.patience {
                break;
            }
        }
        Ok(best)
    }

    /// The epoch whose weights were kept; 0 leaves the encoder as it is.
    pub fn best_epoch(&self) -> usize {
        self.best_epoch
    }

    /// The factor on cosines before a softmax.
    pub fn logit_scale(&self) -> f64 {
        self.logit_scale
    }

    /// Maps unit rows `[N, D]` to unit rows `[N, D]`. With a `pass`, through the network that is
    /// thinned by the dropout mask of that pass.
    ///
    /// # Errors
    /// When the device failed.
    pub fn project(
        &self,
        modality: Modality,
        rows: &[f32],
        dim: usize,
        pass: Option<u64>,
    ) -> Result<Vec<f32>, ExperimentError> {
        let (map, side) = match modality {
            Modality::Image => (&self.maps.image, 0),
            Modality::Text => (&self.maps.text, 1),
        };
        let hidden = self.options.hidden_dim;
        let mask: Option<Tensor<2>> = pass.filter(|_| self.options.dropout > 0.0).map(|pass| {
            let mask = dropout_mask(self.options.dropout, self.seed, 2 * pass + side, hidden);
            Tensor::from_data(TensorData::new(mask, [1, hidden]), (&self.device, DType::F32))
        });
        let mut out = Vec::with_capacity(rows.len());
        for chunk in rows.chunks(ROWS_AT_ONCE * dim) {
            let x = TensorData::new(chunk.to_vec(), [chunk.len() / dim, dim]);
            let x = Tensor::from_data(x, (&self.device, DType::F32));
            out.extend(read(map.forward(x, mask.clone()))?);
        }
        Ok(out)
    }

    /// The same pairs with projected embeddings.
    ///
    /// # Errors
    /// When the device failed.
    pub fn apply(&self, pairs: &EmbeddedPairs) -> Result<EmbeddedPairs, ExperimentError> {
        let dim = pairs.dim();
        let project = |modality| {
            let unit = unit_rows(pairs.matrix(modality), dim);
            Ok::<_, ExperimentError>(EmbeddingRows::from_values(
                self.project(modality, &unit, dim, None)?,
                dim,
            )?)
        };
        let links = pairs.captions().iter().enumerate();
        EmbeddedPairs::new(PairStore {
            classes: pairs.store().classes.clone(),
            logit_scale: pairs.store().logit_scale,
            ..PairStore::new(
                pairs.name().to_owned(),
                project(Modality::Image)?,
                project(Modality::Text)?,
                (0..pairs.image_count()).map(|image| pairs.facts(image).clone()).collect(),
                links.map(|(j, link)| CaptionLink { text: j as u32, ..*link }).collect(),
            )
        })
    }

    /// Contrastive loss in nats without dropout: the first caption of every image, in batches of
    /// the training's size.
    fn held_out_loss(&self, pairs: &UnitPairs<'_>) -> Result<f64, ExperimentError> {
        let chosen: Vec<(usize, usize)> = (0..pairs.pairs.image_count())
            .map(|image| (image, pairs.pairs.captions_of(image).start))
            .collect();
        let mut sum = 0.0;
        for chunk in chosen.chunks(self.options.batch_size) {
            let [images, captions, targets] = pairs.batch(chunk, &self.device);
            let images = self.maps.image.forward(images, None);
            let captions = self.maps.text.forward(captions, None);
            let loss = contrastive_loss(images, captions, targets, self.logit_scale);
            sum += f64::from(read(loss)?[0]) * chunk.len() as f64;
        }
        Ok(sum / chosen.len() as f64)
    }
}

/// Every image once, in the order of the epoch, with one of its captions.
fn one_caption_each(pairs: &EmbeddedPairs, seed: u64, epoch: usize) -> Vec<(usize, usize)> {
    let mut rng = generator(seed, Stream::TrainingOrder, epoch as u64);
    let mut order: Vec<usize> = (0..pairs.image_count()).collect();
    order.shuffle(&mut rng);
    order.into_iter().map(|image| (image, rng.random_range(pairs.captions_of(image)))).collect()
}

pub(super) fn read<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, ExperimentError> {
    Ok(tensor.try_into_vec_as::<f32>().map_err(|e| AdapterError::Device(e.to_string()))?)
}
