//! The training loop of the pairwise methods.

use std::ops::ControlFlow;
use std::time::Instant;

use burn::module::{Module, ModuleMapper, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, Tensor, TensorData};

use super::loss::{self, Outputs, PairBatch, PairGradients};
use super::network::Mlp;
use super::{
    PairRows, PairwiseAdapter, PairwiseConfig, PairwiseKind, PairwiseOptions, PairwiseSummary,
};
use crate::adapter::AdapterError;
use crate::adapter::probvlm::dropout_mask;
use crate::adapter::training::{
    AdamOptimizer, Baselines, EpochRecord, TrainingError, TrainingEvent, order,
};
use crate::encoder::{Modality, norm};
use crate::random::{Stream, standard_normal};

/// Random sequences of training come after all that a prediction with the same seed could use.
const FIRST_SEQUENCE: u64 = 1 << 32;
/// Sequences of the noise in validation; the same in every epoch.
const VALIDATION_SEQUENCE: u64 = 1 << 48;
/// The order of held-out pairs: captions of one image are apart, as they are in training.
const VALIDATION_ORDER: usize = usize::MAX;
/// The expansion of the Bessel function needs a dimension that is not tiny.
const SMALLEST_SPHERE: usize = 8;
/// Variance of a whole embedding that the networks start from, as a share of its squared norm.
const FIRST_VARIANCE: f32 = 0.5;

/// Everything a run needs.
pub struct PairwiseRun<'a> {
    pub kind: PairwiseKind,
    pub options: &'a PairwiseOptions,
    pub training: &'a PairRows<'a>,
    /// Held-out pairs; nothing is fitted to them but the choice of the epoch.
    pub validation: &'a PairRows<'a>,
    /// A plain (not autodiff) device.
    pub device: &'a Device,
}

/// How a run ended.
#[derive(Debug)]
pub enum PairwiseOutcome {
    /// All epochs are done or the held-out loss no longer improves; the best weights.
    Finished {
        /// For text embeddings.
        text: Option<Box<PairwiseAdapter>>,
        /// For image embeddings; AsymVLM only has it where the options ask for it.
        image: Option<Box<PairwiseAdapter>>,
        history: Vec<EpochRecord>,
    },
    /// The caller asked to stop. Nothing is kept: a run takes minutes.
    Interrupted {
        /// Whole epochs that were done.
        epochs: usize,
        /// Batches of the next one that were done.
        batches: usize,
    },
}

/// What is trained.
#[derive(Module, Debug)]
struct Trainee {
    text: Option<Mlp>,
    image: Option<Mlp>,
    scalars: Param<Tensor<1>>,
}

struct State {
    trainee: Trainee,
    optimizer: AdamOptimizer,
    best: Option<Best>,
    history: Vec<EpochRecord>,
    device: Device,
}

struct Best {
    epoch: usize,
    loss: f64,
    /// On the plain device.
    trainee: Trainee,
}

/// What belongs to one batch besides its rows.
#[derive(Clone, Copy)]
struct Draws {
    /// First of the two random sequences of the batch.
    sequence: u64,
    dropout: bool,
}

impl PairwiseRun<'_> {
    /// Trains both sides together.
    ///
    /// An epoch is a new order of the pairs, cut into whole batches; what is left over waits for
    /// the next order. In events and records, `validation_nll` is the held-out loss of the method
    /// (see [`loss`]; nats per dimension for PFE alone), `validation_l1` the mean over held-out
    /// pairs and dimensions of the absolute difference between the point a density is centred on
    /// and its partner, both of norm 1 (only AsymVLM's centre is learned), and both `baselines`
    /// are the held-out loss before the first step.
    ///
    /// The result depends on options and data alone.
    ///
    /// # Errors
    /// When options or data are unusable, or the loss is no longer finite.
    pub fn run(
        &self,
        mut on_event: impl FnMut(TrainingEvent) -> ControlFlow<()>,
    ) -> Result<PairwiseOutcome, TrainingError> {
        let options = self.options;
        options.check()?;
        self.check_data()?;
        let device = self.device.clone().autodiff();
        let mut state = State {
            trainee: self.first_trainee(&device),
            optimizer: AdamOptimizer::default(),
            best: None,
            history: Vec::new(),
            device,
        };
        let items = self.training.len();
        let size = options.batch_size.min(items);
        let batches = items / size;
        let steps = options.epochs * batches;
        let clock = Instant::now();

        let (first_loss, _) = self.validate(&state)?;
        let baselines =
            Baselines { gaussian_nll: first_loss, generalized_gaussian_nll: first_loss };
        let mut stop = on_event(TrainingEvent::Started {
            training_items: items,
            validation_items: self.validation.len(),
            batches_per_epoch: batches,
            epochs: options.epochs,
            resumed: (0, 0),
            baselines,
        })
        .is_break();

        for epoch in 0..options.epochs {
            let order = order(items, options.seed, epoch);
            let mut loss_sum = 0.0;
            let mut rate = options.learning_rate;
            for (batch, chosen) in order.chunks_exact(size).enumerate() {
                if stop {
                    return Ok(PairwiseOutcome::Interrupted { epochs: epoch, batches: batch });
                }
                let step = epoch * batches + batch;
                rate = options.schedule.rate(options.learning_rate, step, steps);
                let loss = self.step(&mut state, chosen, step as u64, rate)?;
                if !loss.is_finite() {
                    return Err(diverged(epoch + 1, batch + 1, batches, loss));
                }
                loss_sum += loss;
                let elapsed = clock.elapsed();
                let left = steps - (step + 1);
                let event = TrainingEvent::Batch {
                    epoch: epoch + 1,
                    batch: batch + 1,
                    batches_per_epoch: batches,
                    loss,
                    learning_rate: rate,
                    elapsed,
                    remaining: elapsed.mul_f64(left as f64 / (step + 1) as f64),
                };
                stop = on_event(event).is_break();
            }
            let (loss, l1) = self.validate(&state)?;
            if !loss.is_finite() {
                return Err(diverged(epoch + 1, batches, batches, loss));
            }
            let best = state.best.as_ref().is_none_or(|best| loss < best.loss);
            if best {
                let trainee = state.trainee.valid();
                state.best = Some(Best { epoch: epoch + 1, loss, trainee });
            }
            let record = EpochRecord {
                epoch: epoch + 1,
                training_loss: loss_sum / batches as f64,
                validation_nll: loss,
                validation_l1: l1,
                learning_rate: rate,
                best,
                coverage: None,
                pit: Vec::new(),
            };
            state.history.push(record.clone());
            let (epochs, elapsed) = (options.epochs, clock.elapsed());
            stop |= on_event(TrainingEvent::Epoch { record, epochs, elapsed }).is_break();
            let since_best = epoch + 1 - state.best.as_ref().map_or(0, |best| best.epoch);
            if since_best >= options.patience {
                break;
            }
            if stop && epoch + 1 < options.epochs {
                return Ok(PairwiseOutcome::Interrupted { epochs: epoch + 1, batches: 0 });
            }
        }
        self.finished(state, first_loss)
    }

    fn check_data(&self) -> Result<(), TrainingError> {
        let (dim, other) = (self.training.dim(), self.validation.dim());
        if dim != other {
            return Err(TrainingError::Data(format!(
                "the training data has {dim} dimensions, the validation data {other}"
            )));
        }
        if self.kind.spherical().is_some() && dim < SMALLEST_SPHERE {
            return Err(TrainingError::Data(format!(
                "embeddings have {dim} dimensions, densities on the sphere need {SMALLEST_SPHERE}"
            )));
        }
        if self.training.len() < 2 {
            return Err(TrainingError::Data(
                "there is 1 pair to learn from, at least 2 are needed to tell pairs apart".into(),
            ));
        }
        Ok(())
    }

    fn hidden_dim(&self) -> usize {
        let default = self.kind.default_hidden_dim(self.training.dim());
        self.options.hidden_dim.unwrap_or(default)
    }

    /// PyTorch's initial weights. Variances start with a last bias at which all of them together
    /// are [`FIRST_VARIANCE`].
    fn first_trainee(&self, device: &Device) -> Trainee {
        let dim = self.training.dim();
        let log_variance = (FIRST_VARIANCE / dim as f32).ln();
        let bias = match self.kind {
            PairwiseKind::Pfe | PairwiseKind::PcmePlusPlus => Some(log_variance),
            PairwiseKind::Pcme => Some(0.5 * log_variance),
            PairwiseKind::AsymVmf | PairwiseKind::AsymPowerSpherical => None,
        };
        let widths = self.kind.widths(dim, self.hidden_dim());
        let network = |index| Mlp::random(&widths, bias, self.options.seed, index, device);
        let image = self.kind.spherical().is_none() || self.options.image_side;
        let scalars = TensorData::new(self.kind.first_scalars().to_vec(), [2]);
        Trainee {
            text: Some(network(0)),
            image: image.then(|| network(1)),
            scalars: Param::from_tensor(Tensor::from_data(scalars, (device, DType::F32))),
        }
    }

    /// The constants of a batch.
    fn batch(
        &self,
        data: &PairRows<'_>,
        chosen: &[usize],
        draws: Draws,
        device: &Device,
    ) -> Result<PairBatch, TrainingError> {
        let (count, dim) = (chosen.len(), data.dim());
        let tensor = |values: Vec<f32>, width: usize| -> Tensor<2> {
            Tensor::from_data(TensorData::new(values, [count, width]), (device, DType::F32))
        };
        let (mut texts, mut images) = (Vec::new(), Vec::new());
        for &item in chosen {
            let (text, image) = data.pairs[item];
            push_unit(&data.texts.row(text), &mut texts)?;
            push_unit(&data.images.row(image), &mut images)?;
        }
        let square = |same: &dyn Fn(usize, usize) -> bool| {
            let rows = (0..count).flat_map(|i| (0..count).map(move |j| (i, j)));
            rows.map(|(i, j)| f32::from(u8::from(same(i, j)))).collect::<Vec<f32>>()
        };
        let image = |k: usize| data.pairs[chosen[k]].1;
        let noise = (self.kind == PairwiseKind::Pcme).then(|| {
            let width = self.options.samples * dim;
            [0, 1].map(|side| {
                let sequence = draws.sequence + side;
                let noise = standard_normal(
                    self.options.seed,
                    Stream::EmbeddingNoise,
                    sequence,
                    count * width,
                );
                tensor(noise, width)
            })
        });
        Ok(PairBatch {
            texts: tensor(texts, dim),
            images: tensor(images, dim),
            matches: tensor(square(&|i, j| image(i) == image(j)), count),
            identity: tensor(square(&|i, j| i == j), count),
            noise,
        })
    }

    /// The outputs of both networks for a batch, on its autodiff device.
    fn forward(
        &self,
        trainee: &Trainee,
        batch: &PairBatch,
        draws: Draws,
    ) -> [Option<Tensor<2>>; 2] {
        let hidden_dim = self.hidden_dim();
        let dropout = self.options.dropout;
        let side = |network: &Option<Mlp>, unit: &Tensor<2>, side: u64| {
            let network = network.as_ref()?;
            let mask = (draws.dropout && dropout > 0.0).then(|| {
                let [count, _] = unit.dims();
                let len = count * hidden_dim;
                let mask = dropout_mask(dropout, self.options.seed, draws.sequence + side, len);
                let data = TensorData::new(mask, [count, hidden_dim]);
                Tensor::<2>::from_data(data, (&unit.device(), DType::F32))
            });
            Some(network.forward(network_input(unit.clone()), mask))
        };
        [side(&trainee.text, &batch.texts, 0), side(&trainee.image, &batch.images, 1)]
    }

    fn gradients(
        &self,
        trainee: &Trainee,
        batch: &PairBatch,
        outputs: &[Option<Tensor<2>>; 2],
    ) -> Result<PairGradients, AdapterError> {
        let plain = |t: &Option<Tensor<2>>| t.clone().map(|t| t.detach().inner());
        let [text, image] = outputs;
        let outputs = Outputs {
            text: plain(text),
            image: plain(image),
            scalars: trainee.scalars.val().detach().inner(),
        };
        loss::gradients(self.kind, self.options.vib_weight, batch, &outputs)
    }

    /// One step of the optimiser; returns the loss of the batch before it.
    fn step(
        &self,
        state: &mut State,
        chosen: &[usize],
        step: u64,
        rate: f64,
    ) -> Result<f64, TrainingError> {
        let draws = Draws { sequence: FIRST_SEQUENCE + 2 * step, dropout: true };
        let batch = self.batch(self.training, chosen, draws, &state.device)?;
        let outputs = self.forward(&state.trainee, &batch, draws);
        let gradients = self.gradients(&state.trainee, &batch, &outputs)?;
        if !gradients.loss.is_finite() {
            return Ok(gradients.loss);
        }
        // A scalar whose gradient with respect to the outputs is the one of the loss.
        let mut carrier: Option<Tensor<1>> = None;
        let mut carry = |term: Tensor<1>| {
            carrier = Some(match carrier.take() {
                Some(sum) => sum + term,
                None => term,
            });
        };
        for (output, gradient) in outputs.into_iter().zip([gradients.text, gradients.image]) {
            if let (Some(output), Some(gradient)) = (output, gradient) {
                carry((output * Tensor::from_inner(gradient)).sum());
            }
        }
        if let Some(gradient) = gradients.scalars {
            carry((state.trainee.scalars.val() * Tensor::from_inner(gradient)).sum());
        }
        let Some(carrier) = carrier else { return Ok(gradients.loss) };
        let parameters = GradientsParams::from_grads(carrier.backward(), &state.trainee);
        let mut trainee = state.optimizer.step(rate, state.trainee.clone(), parameters);
        let kept = 1.0 - rate * self.options.weight_decay;
        if kept < 1.0 {
            trainee.text = trainee.text.map(|network| network.map(&mut Scale(kept)));
            trainee.image = trainee.image.map(|network| network.map(&mut Scale(kept)));
        }
        state.trainee = trainee;
        Ok(gradients.loss)
    }

    /// Mean held-out loss, without dropout, and mean absolute difference of centre and partner.
    /// Batches are of nearly equal size, since a contrastive loss depends on it.
    fn validate(&self, state: &State) -> Result<(f64, f64), TrainingError> {
        let data = self.validation;
        let order = order(data.len(), self.options.seed, VALIDATION_ORDER);
        let batches = (data.len() / self.options.batch_size).max(1);
        let (mut loss, mut l1) = (0.0, 0.0);
        for (index, chosen) in order.chunks(data.len().div_ceil(batches)).enumerate() {
            let draws = Draws { sequence: VALIDATION_SEQUENCE + 2 * index as u64, dropout: false };
            let batch = self.batch(data, chosen, draws, &state.device)?;
            let outputs = self.forward(&state.trainee, &batch, draws);
            let share = chosen.len() as f64 / data.len() as f64;
            loss += share * self.gradients(&state.trainee, &batch, &outputs)?.loss;
            let centre = match (self.kind.spherical(), &outputs[0]) {
                (Some(_), Some(eta)) => {
                    let length = (eta.clone().square().sum_dim(1) + 1e-12).sqrt();
                    eta.clone() / length
                }
                _ => batch.texts.clone(),
            };
            let difference = (centre - batch.images).abs().mean().inner();
            let difference = difference.try_into_vec_as::<f32>();
            let difference = difference.map_err(|e| AdapterError::Device(e.to_string()))?;
            l1 += share * f64::from(difference[0]);
        }
        Ok((loss, l1))
    }

    fn finished(&self, state: State, first_loss: f64) -> Result<PairwiseOutcome, TrainingError> {
        let Some(best) = state.best else {
            return Err(TrainingError::Data("no epoch was run".to_owned()));
        };
        let scalars = best.trainee.scalars.val().try_into_vec_as::<f32>();
        let scalars = scalars.map_err(|e| AdapterError::Device(e.to_string()))?;
        let summary = PairwiseSummary {
            training_pairs: self.training.len(),
            validation_pairs: self.validation.len(),
            epochs: state.history.len(),
            best_epoch: best.epoch,
            validation_loss: best.loss,
            first_validation_loss: first_loss,
            options: self.options.clone(),
        };
        let adapter = |network: Option<Mlp>, modality: Modality| {
            let network = network?;
            let partner = match modality {
                Modality::Text => Modality::Image,
                Modality::Image => Modality::Text,
            };
            let spherical = self.kind.spherical().is_some();
            let contrastive = matches!(self.kind, PairwiseKind::Pcme | PairwiseKind::PcmePlusPlus);
            let temperature = scalars[usize::from(modality == Modality::Image)];
            let config = PairwiseConfig {
                kind: self.kind,
                input_modality: modality,
                output_modality: if spherical { partner } else { modality },
                input_dim: self.training.dim(),
                hidden_dim: self.hidden_dim(),
                dropout: self.options.dropout,
                output_norm: spherical.then(|| self.mean_norm(partner)),
                scale: contrastive.then_some(scalars[0]),
                shift: contrastive.then_some(scalars[1]),
                temperature: spherical.then_some(temperature),
                encoder: None,
                training: Some(summary.clone()),
            };
            Some(Box::new(PairwiseAdapter::from_parts(config, network)))
        };
        Ok(PairwiseOutcome::Finished {
            text: adapter(best.trainee.text, Modality::Text),
            image: adapter(best.trainee.image, Modality::Image),
            history: state.history,
        })
    }

    /// Mean norm of the raw training embeddings of a modality, over the pairs.
    fn mean_norm(&self, modality: Modality) -> f64 {
        let data = self.training;
        let norms = data.pairs.iter().map(|&(text, image)| match modality {
            Modality::Text => norm(&data.texts.row(text)),
            Modality::Image => norm(&data.images.row(image)),
        });
        norms.sum::<f64>() / data.len() as f64
    }
}

/// Networks get unit vectors times √D, so that their dimensions are about 1 in size, which
/// PyTorch's initial weights are made for.
pub(super) fn network_input(unit: Tensor<2>) -> Tensor<2> {
    let [_, dim] = unit.dims();
    unit * (dim as f64).sqrt()
}

/// Appends `row / |row|`.
pub(super) fn push_unit(row: &[f32], out: &mut Vec<f32>) -> Result<(), AdapterError> {
    let length = norm(row);
    if length == 0.0 {
        return Err(AdapterError::Zero);
    }
    out.extend(row.iter().map(|&x| (f64::from(x) / length) as f32));
    Ok(())
}

fn diverged(epoch: usize, batch: usize, batches: usize, loss: f64) -> TrainingError {
    TrainingError::Diverged { epoch, batch, batches, loss, checkpoint: None }
}

/// Multiplies every parameter.
struct Scale(f64);

impl ModuleMapper for Scale {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let factor = self.0;
        param.map(|t| Tensor::from_inner(t.inner() * factor).require_grad())
    }
}
