//! The losses of the pairwise methods and their gradients.
//!
//! In: unit embeddings of B matched pairs, what the networks gave for them, and the two learned
//! scalars. Out: one loss and its derivative with respect to every network output and scalar.
//! Item k of a batch is text k and its image k; items may share their image, and then every such
//! image matches every such text. Nothing here knows of networks, optimisers or files.
//!
//! | method | network output | loss |
//! | --- | --- | --- |
//! | PFE | ln σ² | `-MLS`, mean over matched pairs and dimensions: `1/2 [Δ²/v + ln v + ln 2π]`, `v = σ²_text + σ²_image`, nats per dimension (arXiv 1904.09658, equation 3) |
//! | PCME | ln σ | `-ln (1/J²) Σ p` over J samples a side, `p = sigmoid(2m (b - a d))`, m = 1 for a match and -1 for any other pair, mean over all B² pairs, plus the divergence (arXiv 2101.05068, equation 4) |
//! | PCME++ | ln σ² | 2 BCE(b - a (Δ² + Σ σ²_text + Σ σ²_image)) + 0.1 pseudo-positive terms + divergence (arXiv 2305.18171, equations 1 to 3) |
//! | AsymVLM | η | cross entropy of `T ln p(point; η)` over the batch, both ways (arXiv 2505.11029) |
//!
//! Choices where embeddings are frozen and cached:
//! - PCME: the published code sums over pairs and both directions, which are equal; dividing by
//!   `2 B²` gives the mean here and leaves the share of the divergence as it is. That code takes
//!   `exp(ln σ)` for the variance in the divergence; here it is the divergence of the Gaussian
//!   that is sampled.
//! - PCME++: no mixed images, which need the encoder. Labels are smoothed to 1e-4 and 1 - 1e-4. A
//!   pair is a pseudo-positive where its logit is at least that of the match of its text (or, in
//!   the other term, of its image).
//! - AsymVLM: the target is uniform over the matches of a row, which without shared images is the
//!   identity of the published code.

use burn::tensor::activation::{log_sigmoid, log_softmax};
use burn::tensor::{Device, Tensor, TensorData};

use super::PairwiseKind;
use super::spherical::Spherical;
use crate::adapter::AdapterError;

/// Log variances are kept within this range: e^10 is beyond any spread of unit vectors, and e^-20
/// below the resolution of their f32 distances.
pub const LOG_VARIANCE_RANGE: [f32; 2] = [-20.0, 10.0];
/// Added to squared distances under a root, as in PCME's code.
const DISTANCE_EPSILON: f64 = 1e-6;
/// Smallest `1 + μ·x` of the power spherical density, whose logarithm has no lower bound.
const SMALLEST_BASE: f64 = 1e-6;
/// Weight of the pseudo-positive terms of PCME++.
const PSEUDO_POSITIVE_WEIGHT: f64 = 0.1;
/// Label smoothing of PCME++.
const LABEL_SMOOTHING: f64 = 1e-4;
/// Sample pairs of PCME that are on one graph: bounds its memory to about 16 MiB a tensor.
const SAMPLE_PAIRS_AT_ONCE: usize = 1 << 22;

/// Constants of a batch, on an autodiff device.
#[derive(Debug, Clone)]
pub struct PairBatch {
    /// Unit embeddings `[B, D]`.
    pub texts: Tensor<2>,
    /// Unit embeddings `[B, D]`, image k belonging to text k.
    pub images: Tensor<2>,
    /// 1 where text i (row) belongs to image j (column), 0 elsewhere, `[B, B]`; symmetric.
    pub matches: Tensor<2>,
    /// The identity `[B, B]`.
    pub identity: Tensor<2>,
    /// Standard normal noise of the texts and of the images, `[B, J * D]` each; PCME only.
    pub noise: Option<[Tensor<2>; 2]>,
}

/// What a loss depends on. Tensors are on a plain device.
#[derive(Debug, Clone)]
pub struct Outputs {
    /// Of the text network `[B, D]`.
    pub text: Option<Tensor<2>>,
    /// Of the image network `[B, D]`.
    pub image: Option<Tensor<2>>,
    /// `[2]`: a and b, or the temperatures of texts and images.
    pub scalars: Tensor<1>,
}

/// A loss and its derivatives, in the layout of [`Outputs`].
#[derive(Debug, Clone)]
pub struct PairGradients {
    pub loss: f64,
    pub text: Option<Tensor<2>>,
    pub image: Option<Tensor<2>>,
    pub scalars: Option<Tensor<1>>,
}

/// The loss of a batch and its gradient.
///
/// # Errors
/// When the outputs that the method needs are not there, or the device failed.
pub fn gradients(
    kind: PairwiseKind,
    vib_weight: f64,
    batch: &PairBatch,
    outputs: &Outputs,
) -> Result<PairGradients, AdapterError> {
    let mut total = PairGradients { loss: 0.0, text: None, image: None, scalars: None };
    if let Some(family) = kind.spherical() {
        if outputs.text.is_some() {
            total.add(outputs, |o| {
                let (eta, points) = (o.text()?, batch.images.clone());
                spherical(family, eta, points, &batch.matches, o.scalar(0))
            })?;
        }
        if outputs.image.is_some() {
            total.add(outputs, |o| {
                let (eta, points) = (o.image()?, batch.texts.clone());
                spherical(family, eta, points, &batch.matches, o.scalar(1))
            })?;
        }
        return Ok(total);
    }
    match kind {
        PairwiseKind::Pfe => {
            total.add(outputs, |o| Ok(negative_mutual_likelihood(batch, o.text()?, o.image()?)))?;
        }
        PairwiseKind::PcmePlusPlus => total.add(outputs, |o| {
            let divergence = divergence(&batch.texts, bounded(o.text()?)).mean()
                + divergence(&batch.images, bounded(o.image()?)).mean();
            Ok(closed_form_contrastive(batch, o)? + divergence * vib_weight)
        })?,
        _ => {
            let [items, dim] = batch.texts.dims();
            let noise = batch.noise.as_ref();
            let noise = noise.ok_or_else(|| AdapterError::Device("no noise for PCME".into()))?;
            let samples = noise[0].dims()[1] / dim;
            let rows = (SAMPLE_PAIRS_AT_ONCE / (samples * samples * items)).clamp(1, items);
            for first in (0..items).step_by(rows) {
                let range = first..(first + rows).min(items);
                total.add(outputs, |o| soft_contrastive(batch, noise, range, o))?;
            }
            total.add(outputs, |o| {
                let divergence = divergence(&batch.texts, bounded(o.text()? * 2.0)).sum()
                    + divergence(&batch.images, bounded(o.image()? * 2.0)).sum();
                Ok(divergence * (vib_weight / (2 * items * items) as f64))
            })?;
        }
    }
    Ok(total)
}

impl PairGradients {
    /// Adds one term on a graph of its own.
    fn add(
        &mut self,
        outputs: &Outputs,
        term: impl FnOnce(&Leaves) -> Result<Tensor<1>, AdapterError>,
    ) -> Result<(), AdapterError> {
        let leaf = |t: &Tensor<2>| Tensor::from_inner(t.clone()).require_grad();
        let leaves = Leaves {
            text: outputs.text.as_ref().map(leaf),
            image: outputs.image.as_ref().map(leaf),
            scalars: Tensor::from_inner(outputs.scalars.clone()).require_grad(),
        };
        let loss = term(&leaves)?;
        let backward = loss.backward();
        self.loss += read(&loss.inner())?[0];
        let gradient = |leaf: &Option<Tensor<2>>| leaf.as_ref().and_then(|l| l.grad(&backward));
        sum(&mut self.text, gradient(&leaves.text));
        sum(&mut self.image, gradient(&leaves.image));
        sum(&mut self.scalars, leaves.scalars.grad(&backward));
        Ok(())
    }
}

fn sum<const D: usize>(total: &mut Option<Tensor<D>>, term: Option<Tensor<D>>) {
    *total = match (total.take(), term) {
        (Some(a), Some(b)) => Some(a + b),
        (a, b) => a.or(b),
    };
}

fn read<const D: usize>(tensor: &Tensor<D>) -> Result<Vec<f64>, AdapterError> {
    let data = tensor.clone().try_into_data();
    Ok(data.map_err(|e| AdapterError::Device(e.to_string()))?.iter::<f64>().collect())
}

/// [`Outputs`] as leaves of a graph.
struct Leaves {
    text: Option<Tensor<2>>,
    image: Option<Tensor<2>>,
    scalars: Tensor<1>,
}

impl Leaves {
    fn text(&self) -> Result<Tensor<2>, AdapterError> {
        self.text.clone().ok_or_else(|| AdapterError::Device("the text side was lost".into()))
    }

    fn image(&self) -> Result<Tensor<2>, AdapterError> {
        self.image.clone().ok_or_else(|| AdapterError::Device("the image side was lost".into()))
    }

    /// One of the scalars, `[1, 1]`.
    fn scalar(&self, index: usize) -> Tensor<2> {
        self.scalars.clone().slice(index..index + 1).reshape([1, 1])
    }
}

fn bounded(log_variance: Tensor<2>) -> Tensor<2> {
    let [low, high] = LOG_VARIANCE_RANGE;
    log_variance.clamp(low, high)
}

/// `KL(N(mean, e^lv) || N(0, 1))` per item and dimension, in nats.
fn divergence(mean: &Tensor<2>, log_variance: Tensor<2>) -> Tensor<2> {
    (mean.clone().square() + log_variance.clone().exp() - log_variance - 1.0) * 0.5
}

/// PFE: items k and k are all the matched pairs there are, since an image that is there twice is
/// the same one.
fn negative_mutual_likelihood(batch: &PairBatch, text: Tensor<2>, image: Tensor<2>) -> Tensor<1> {
    let variance = bounded(text).exp() + bounded(image).exp();
    let difference = (batch.texts.clone() - batch.images.clone()).square();
    let ln_tau = (2.0 * std::f64::consts::PI).ln();
    ((difference / variance.clone() + variance.log() + ln_tau) * 0.5).mean()
}

/// Squared Euclidean distances between the rows of `a` and of `b`, `[N, M]`.
fn squared_distances(a: Tensor<2>, b: Tensor<2>) -> Tensor<2> {
    let squares = |x: &Tensor<2>| x.clone().square().sum_dim(1);
    let (a2, b2) = (squares(&a), squares(&b).transpose());
    (a2 + b2 - a.matmul(b.transpose()) * 2.0).clamp_min(0.0)
}

/// PCME++ without its divergence.
fn closed_form_contrastive(batch: &PairBatch, o: &Leaves) -> Result<Tensor<1>, AdapterError> {
    let spread = |log_variance: Tensor<2>| bounded(log_variance).exp().sum_dim(1);
    let distance = squared_distances(batch.texts.clone(), batch.images.clone())
        + spread(o.text()?)
        + spread(o.image()?).transpose();
    let logits = o.scalar(1) - o.scalar(0) * distance;
    let smooth = |labels: Tensor<2>| labels * (1.0 - 2.0 * LABEL_SMOOTHING) + LABEL_SMOOTHING;
    let of_match = (logits.clone().detach() * batch.identity.clone()).sum_dim(1);
    let with_pseudo_positives = |threshold: Tensor<2>| {
        let near = logits.clone().detach().greater_equal(threshold.expand(logits.dims()));
        smooth(batch.matches.clone().mask_fill(near, 1.0))
    };
    let of_texts = with_pseudo_positives(of_match.clone());
    let of_images = with_pseudo_positives(of_match.transpose());
    let bce = |labels: Tensor<2>| binary_cross_entropy(logits.clone(), labels);
    let pseudo = (bce(of_texts) + bce(of_images)) * PSEUDO_POSITIVE_WEIGHT;
    Ok(bce(smooth(batch.matches.clone())) * 2.0 + pseudo)
}

/// Mean of `-t ln sigmoid(x) - (1 - t) ln sigmoid(-x)`.
fn binary_cross_entropy(logits: Tensor<2>, labels: Tensor<2>) -> Tensor<1> {
    let yes = log_sigmoid(logits.clone()) * labels.clone();
    let no = log_sigmoid(-logits) * (-labels + 1.0);
    -(yes + no).mean()
}

/// PCME without its divergence: the share of the texts in `range` of the mean over all pairs.
fn soft_contrastive(
    batch: &PairBatch,
    noise: &[Tensor<2>; 2],
    range: std::ops::Range<usize>,
    o: &Leaves,
) -> Result<Tensor<1>, AdapterError> {
    let [items, dim] = batch.texts.dims();
    let samples = noise[0].dims()[1] / dim;
    let draw = |mean: Tensor<2>, log_deviation: Tensor<2>, noise: Tensor<2>| {
        let rows = mean.dims()[0];
        let deviation = (bounded(log_deviation * 2.0) * 0.5).exp().unsqueeze_dim::<3>(1);
        let noise = noise.reshape([rows, samples, dim]);
        (mean.unsqueeze_dim::<3>(1) + noise * deviation).reshape([rows * samples, dim])
    };
    let rows = range.len();
    let part = |t: Tensor<2>| t.slice(range.clone());
    let texts = draw(part(batch.texts.clone()), part(o.text()?), part(noise[0].clone()));
    let images = draw(batch.images.clone(), o.image()?, noise[1].clone());
    let distance = (squared_distances(texts, images) + DISTANCE_EPSILON).sqrt();
    let logits = o.scalar(1) - o.scalar(0) * distance;
    let sign = part(batch.matches.clone()) * 2.0 - 1.0;
    let log_p = log_sigmoid(
        logits.reshape([rows, samples, items, samples]) * sign.reshape([rows, 1, items, 1]) * 2.0,
    );
    let largest = log_p.clone().detach().max_dim(3).max_dim(1);
    let mean = (log_p - largest.clone()).exp().sum_dim(3).sum_dim(1) / (samples * samples) as f64;
    Ok(-(mean.log() + largest).sum() / (items * items) as f64)
}

/// AsymVLM: `eta` `[B, D]` against the points `[B, D]` of the other modality.
fn spherical(
    family: Spherical,
    eta: Tensor<2>,
    points: Tensor<2>,
    matches: &Tensor<2>,
    temperature: Tensor<2>,
) -> Result<Tensor<1>, AdapterError> {
    let [items, dim] = eta.dims();
    let kappa = (eta.clone().square().sum_dim(1) + 1e-12).sqrt();
    let log_unnormalised = match family {
        Spherical::VonMisesFisher => eta.matmul(points.transpose()),
        Spherical::Power => {
            let cosine = (eta / kappa.clone()).matmul(points.transpose());
            (cosine + 1.0).clamp_min(SMALLEST_BASE).log() * kappa.clone()
        }
    };
    let log_density = log_unnormalised + log_normaliser(family, dim, kappa)?;
    let logits = log_density * temperature;
    let target = matches.clone() / matches.clone().sum_dim(1);
    let of_inputs = (log_softmax(logits.clone(), 1) * target.clone()).sum();
    let of_points = (log_softmax(logits, 0) * target.transpose()).sum();
    Ok((of_inputs + of_points) * (-0.5 / items as f64))
}

/// `ln C(κ) - ln C(0)` `[B, 1]`, with its first derivative: values and slopes are computed in f64
/// on the host, since no Bessel or gamma function is asked of the tensor backend.
fn log_normaliser(
    family: Spherical,
    dim: usize,
    kappa: Tensor<2>,
) -> Result<Tensor<2>, AdapterError> {
    let device: Device = kappa.device();
    let dtype = kappa.dtype();
    let kappas = read(&kappa.clone().inner())?;
    let (values, slopes): (Vec<f64>, Vec<f64>) =
        kappas.iter().map(|&k| family.log_normaliser(dim, k)).unzip();
    let column = |values: Vec<f64>| -> Tensor<2> {
        let data = TensorData::new(values, [kappas.len(), 1]);
        Tensor::from_data(data, (&device, dtype))
    };
    Ok(column(values) + (kappa.clone() - kappa.detach()) * column(slopes))
}

#[cfg(test)]
mod tests;
