//! The training loop.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use burn::module::Module;
use burn::tensor::{DType, Device, Tensor, TensorData};
use rand::seq::SliceRandom;

use super::baseline::ConstantDensities;
use super::batch::{BatchSource, Spaces};
use super::calibration::{CALIBRATION_ITEMS, Calibration};
use super::checkpoint::{self, BestEpoch, Identity, Position};
use super::data::{Rows, TrainingData};
use super::optimizer::{AdamOptimizer, clip_gradients};
use super::{
    Baselines, EpochRecord, TrainingError, TrainingEvent, TrainingOptions, TrainingSummary,
};
use crate::adapter::PROBVLM;
use crate::adapter::bridge::LinearMap;
use crate::adapter::loss::{Family, HeadValues, Loss, Residual};
use crate::adapter::probvlm::{Network, Preset, ProbVlm, ProbVlmConfig, released_space};
use crate::adapter::space::{Space, SpaceKind};
use crate::encoder::{Modality, norm};
use crate::random::{Stream, generator};

/// Rows of one forward pass in validation.
const VALIDATION_ROWS: usize = 2048;
/// Training items, evenly spread, that constant densities are fitted to.
const BASELINE_ITEMS: usize = 1 << 15;
/// How many standard deviations the head for μ lets pass unchanged where it starts as identity.
const IDENTITY_REACH: f32 = 4.0;

/// Everything a run needs.
pub struct TrainingRun<'a> {
    pub options: &'a TrainingOptions,
    pub input_modality: Modality,
    pub output_modality: Modality,
    pub training: &'a TrainingData<'a>,
    /// Held-out items; nothing is fitted to them but the choice of the epoch.
    pub validation: &'a TrainingData<'a>,
    /// Where the state is kept. A checkpoint of the same run found there is resumed. It stays
    /// when the run is over, so that the caller can remove it once the adapter is saved.
    pub checkpoint: Option<&'a Path>,
    /// A plain (not autodiff) device.
    pub device: &'a Device,
}

/// How a run ended.
#[derive(Debug)]
pub enum TrainingOutcome {
    /// All epochs are done or the held-out score no longer improves; the best weights.
    Finished { adapter: Box<ProbVlm>, history: Vec<EpochRecord> },
    /// The caller asked to stop.
    Interrupted {
        /// Whole epochs that were done.
        epochs: usize,
        /// Batches of the next one that were done.
        batches: usize,
    },
}

impl TrainingRun<'_> {
    /// Trains, from the start or from the checkpoint.
    ///
    /// The result depends on options and data alone: not on interruptions, and on one machine not
    /// on the number of threads.
    ///
    /// # Errors
    /// When options or data are unusable, the loss is no longer finite, or a checkpoint cannot be
    /// written, is damaged, or belongs to another run.
    pub fn run(
        &self,
        mut on_event: impl FnMut(TrainingEvent) -> ControlFlow<()>,
    ) -> Result<TrainingOutcome, TrainingError> {
        let options = self.options;
        options.check()?;
        self.check_data()?;
        let spaces = self.spaces()?;
        let ln_scale = self.ln_scale(&spaces);
        let baselines = self.baselines(&spaces, ln_scale)?;
        let kept = self.checkpoint.map(|path| Kept {
            path,
            identity: Identity {
                options: options.clone(),
                training_data: self.training.fingerprint(),
                validation_data: self.validation.fingerprint(),
            },
        });
        let mut state = self.start(kept.as_ref(), &spaces)?;
        let items = self.training.len();
        let batches = options.batches(items);
        let clock = Instant::now();
        let batches_before = state.position.epoch * batches + state.position.batch;

        let started = TrainingEvent::Started {
            training_items: items,
            validation_items: self.validation.len(),
            batches_per_epoch: batches,
            epochs: options.epochs,
            resumed: (state.position.epoch, state.position.batch),
            baselines,
        };
        let mut stop = on_event(started).is_break();

        while !state.is_over(options) {
            let epoch = state.position.epoch;
            let order = order(items, options.seed, epoch);
            while state.position.batch < batches {
                if stop {
                    // Already stopping: the answer to this event changes nothing.
                    let _ = write_checkpoint(kept.as_ref(), &state, &mut on_event)?;
                    return Ok(TrainingOutcome::Interrupted {
                        epochs: epoch,
                        batches: state.position.batch,
                    });
                }
                let batch = state.position.batch;
                let start = batch * options.batch_size;
                let chosen = &order[start..(start + options.batch_size).min(items)];
                let step = epoch * batches + batch;
                let rate = options.learning_rate_at(step, options.epochs * batches);
                let loss;
                (state, loss) = self.step(state, &spaces, chosen, step as u64, rate)?;
                if !loss.is_finite() {
                    return Err(self.diverged(epoch + 1, batch + 1, batches, loss));
                }
                state.position.loss_sum += loss * chosen.len() as f64;
                state.position.batch += 1;
                let elapsed = clock.elapsed();
                let left = options.epochs * batches - (step + 1);
                let event = TrainingEvent::Batch {
                    epoch: epoch + 1,
                    batch: batch + 1,
                    batches_per_epoch: batches,
                    loss,
                    learning_rate: rate,
                    elapsed,
                    remaining: elapsed.mul_f64(left as f64 / (step + 1 - batches_before) as f64),
                };
                stop = on_event(event).is_break();
            }
            let record = self.finish_epoch(&mut state, &spaces, batches, ln_scale)?;
            let epochs = options.epochs;
            let event = TrainingEvent::Epoch { record, epochs, elapsed: clock.elapsed() };
            stop |= on_event(event).is_break();
            stop |= write_checkpoint(kept.as_ref(), &state, &mut on_event)?.is_break();
            if stop && !state.is_over(options) {
                return Ok(TrainingOutcome::Interrupted { epochs: epoch + 1, batches: 0 });
            }
        }
        let history = state.position.history.clone();
        let adapter = Box::new(self.adapter(state, spaces, baselines)?);
        Ok(TrainingOutcome::Finished { adapter, history })
    }

    fn check_data(&self) -> Result<(), TrainingError> {
        if self.training.dim() != self.validation.dim() {
            return Err(TrainingError::Data(format!(
                "the training data has {} dimensions, the validation data {}",
                self.training.dim(),
                self.validation.dim()
            )));
        }
        Ok(())
    }

    fn spaces(&self) -> Result<Spaces, TrainingError> {
        let data = self.training;
        let dim = data.dim();
        let other = match self.output_modality {
            Modality::Text => Modality::Image,
            Modality::Image => Modality::Text,
        };
        let same = self.input_modality == self.output_modality;
        Ok(match self.options.space {
            SpaceKind::Standardised => {
                let fit = |rows: Rows<'_>, indices: &mut dyn Iterator<Item = usize>| {
                    let indices: Vec<usize> = indices.collect();
                    Space::standardised(indices.iter().map(|&i| rows.row(i)), dim)
                };
                Spaces {
                    input: fit(data.inputs, &mut data.items.iter().map(|i| i.input)),
                    output: fit(data.targets, &mut data.items.iter().map(|i| i.target)),
                    crossed: data
                        .crossed
                        .as_ref()
                        .map(|c| fit(c.targets, &mut c.of_item.iter().copied())),
                }
            }
            SpaceKind::Unit => {
                let factor = |modality| match (self.options.preset, released_space(modality)) {
                    (Preset::Released, Space::Unit { factor, .. }) => factor,
                    _ => 1.0,
                };
                let norm = (!same).then(|| {
                    let norms = data.items.iter().map(|i| norm(&data.targets.row(i.target)));
                    norms.sum::<f64>() / data.len() as f64
                });
                let unit = |modality, norm| Space::Unit { factor: factor(modality), norm };
                Spaces {
                    input: unit(self.input_modality, None),
                    output: unit(self.output_modality, norm),
                    crossed: data.crossed.as_ref().map(|_| unit(other, None)),
                }
            }
        })
    }

    /// What constant densities achieve, in nats per raw dimension.
    fn baselines(&self, spaces: &Spaces, ln_scale: f64) -> Result<Baselines, TrainingError> {
        let dim = self.training.dim();
        let mut rows = Vec::new();
        let step = self.training.len().div_ceil(BASELINE_ITEMS);
        for item in self.training.items.iter().step_by(step) {
            spaces.output.push_working(&self.training.targets.row(item.target), &mut rows)?;
        }
        let densities = ConstantDensities::fit(&rows, dim);
        let mut sums = [0.0; 2];
        for chunk in self.validation.items.chunks(VALIDATION_ROWS) {
            rows.clear();
            for item in chunk {
                spaces.output.push_working(&self.validation.targets.row(item.target), &mut rows)?;
            }
            let part = densities.nll_sums(&rows);
            sums = [0, 1].map(|k| sums[k] + part[k]);
        }
        let count = (self.validation.len() * dim) as f64;
        let [gaussian_nll, generalized_gaussian_nll] = sums.map(|sum| sum / count + ln_scale);
        Ok(Baselines { gaussian_nll, generalized_gaussian_nll })
    }

    /// Mean over the held-out items of what a density per dimension loses in nats on its way from
    /// the working space to the raw one.
    fn ln_scale(&self, spaces: &Spaces) -> f64 {
        let (data, dim) = (self.validation, self.validation.dim());
        match &spaces.output {
            Space::Unit { norm: None, .. } => {
                let shifts = data.items.iter().map(|item| {
                    spaces.output.mean_ln_scale(dim, norm(&data.inputs.row(item.input)))
                });
                shifts.sum::<f64>() / data.len() as f64
            }
            space => space.mean_ln_scale(dim, 1.0),
        }
    }

    /// The noise of the options, or the one that suits the data.
    fn input_noise(&self, spaces: &Spaces) -> Result<f64, TrainingError> {
        if let Some(noise) = self.options.input_noise {
            return Ok(noise);
        }
        let standardised = matches!(spaces.input, Space::Standardised { .. });
        if !standardised || self.input_modality == self.output_modality {
            return Ok(0.0);
        }
        let (_, fit) = LinearMap::fit(self.training, self.validation, self.device)?;
        Ok(fit.penalty.unwrap_or(0.0).sqrt())
    }

    fn start(&self, kept: Option<&Kept<'_>>, spaces: &Spaces) -> Result<State, TrainingError> {
        let device = self.device.clone().autodiff();
        let dim = self.training.dim();
        let found = match kept {
            Some(Kept { path, identity }) => checkpoint::read(path, identity, dim, &device)?,
            None => None,
        };
        Ok(match found {
            Some(found) => State {
                network: found.network,
                best: found.best.map(|best| best.valid()),
                optimizer: AdamOptimizer::restore(found.moments, found.position.steps, &device),
                position: found.position,
                device,
            },
            None => State {
                network: self.initial_network(dim, &device),
                best: None,
                optimizer: AdamOptimizer::default(),
                position: Position {
                    input_noise: self.input_noise(spaces)?,
                    epoch: 0,
                    batch: 0,
                    loss_sum: 0.0,
                    steps: 0,
                    best: None,
                    history: Vec::new(),
                },
                device,
            },
        })
    }

    /// PyTorch's initial weights. In a standardised space the last layers start at the constant
    /// standard normal (or the Laplace density of its variance), so that a run starts from the
    /// likelihood of that baseline; within one modality the head for μ starts as the identity.
    fn initial_network(&self, dim: usize, device: &Device) -> Network {
        let network = Network::random(dim, self.options.hidden_dim, self.options.seed, device);
        if self.options.space == SpaceKind::Unit {
            return network;
        }
        let Loss { link, smallest_beta, .. } = self.options.loss();
        // Variance 1: α = sqrt(2) with β = 2, and α = 1/sqrt(2) with β = 1.
        let inverse_alpha = link.inverse(match self.options.family {
            Family::GeneralizedGaussian | Family::Gaussian => std::f32::consts::FRAC_1_SQRT_2,
            Family::Laplace => std::f32::consts::SQRT_2,
        });
        let beta = link.inverse(2.0 - smallest_beta as f32);
        let network = network.with_constant_heads(0.0, inverse_alpha, beta);
        match self.input_modality == self.output_modality {
            true => network.with_identity_mu(IDENTITY_REACH),
            false => network,
        }
    }

    /// One step of the optimiser: the state after it, and the loss of the batch before it.
    fn step(
        &self,
        mut state: State,
        spaces: &Spaces,
        chosen: &[usize],
        step: u64,
        learning_rate: f64,
    ) -> Result<(State, f64), TrainingError> {
        let source = BatchSource {
            options: self.options,
            data: self.training,
            spaces,
            input_noise: state.position.input_noise,
            device: &state.device,
        };
        let (loss, mut gradients) = source.gradients(&state.network, chosen, step)?;
        if !loss.is_finite() {
            return Ok((state, loss));
        }
        if let Some(limit) = self.options.gradient_clip {
            clip_gradients(&mut gradients, &state.network, limit)?;
        }
        state.network = state.optimizer.step(learning_rate, state.network, gradients);
        state.position.steps += 1;
        Ok((state, loss))
    }

    fn diverged(&self, epoch: usize, batch: usize, batches: usize, loss: f64) -> TrainingError {
        let checkpoint = self.checkpoint.filter(|p| p.exists()).map(Path::to_owned);
        TrainingError::Diverged { epoch, batch, batches, loss, checkpoint }
    }

    fn finish_epoch(
        &self,
        state: &mut State,
        spaces: &Spaces,
        batches: usize,
        ln_scale: f64,
    ) -> Result<EpochRecord, TrainingError> {
        let network = state.network.valid();
        let Validated { nll, l1, calibration } = self.validate(&network, spaces, ln_scale)?;
        let score = match self.options.preset {
            Preset::Paper => nll,
            Preset::Released => l1,
        };
        let position = &mut state.position;
        let epoch = position.epoch + 1;
        if !score.is_finite() {
            // The last batch spoilt the weights; they must not get into a checkpoint.
            return Err(self.diverged(epoch, batches, batches, score));
        }
        let best = position.best.is_none_or(|best| score < best.score);
        if best {
            position.best = Some(BestEpoch { epoch, score, validation_nll: nll });
            state.best = Some(network);
        }
        let last_step = epoch * batches - 1;
        let items = self.training.len().min(batches * self.options.batch_size);
        let (coverage, pit) = calibration.shares().unzip();
        let record = EpochRecord {
            epoch,
            training_loss: position.loss_sum / items as f64,
            validation_nll: nll,
            validation_l1: l1,
            learning_rate: self.options.learning_rate_at(last_step, self.options.epochs * batches),
            best,
            coverage,
            pit: pit.unwrap_or_default(),
        };
        position.history.push(record.clone());
        position.epoch = epoch;
        position.batch = 0;
        position.loss_sum = 0.0;
        Ok(record)
    }

    /// Scores of the weights on the held-out items.
    fn validate(
        &self,
        network: &Network,
        spaces: &Spaces,
        ln_scale: f64,
    ) -> Result<Validated, TrainingError> {
        let data = self.validation;
        let exact = Loss {
            l1_weight: 0.0,
            nll_weight: 1.0,
            residual: Residual::Power,
            clamp: None,
            ..self.options.loss()
        };
        let (mut nll, mut l1) = (0.0, 0.0);
        let every = data.len().div_ceil(CALIBRATION_ITEMS).max(1);
        let mut calibration = Calibration::new(data.len().div_ceil(every) * data.dim());
        let mut first = 0usize;
        for chunk in data.items.chunks(VALIDATION_ROWS) {
            let (mut inputs, mut targets) = (Vec::new(), Vec::new());
            for item in chunk {
                spaces.input.push_working(&data.inputs.row(item.input), &mut inputs)?;
                spaces.output.push_working(&data.targets.row(item.target), &mut targets)?;
            }
            let x = TensorData::new(inputs, [chunk.len(), data.dim()]);
            let x = Tensor::from_data(x, (self.device, DType::F32));
            let heads = network.forward(x).read()?;
            let value = exact.evaluate(&heads, &targets);
            nll += value.nll * chunk.len() as f64;
            l1 += value.l1 * chunk.len() as f64;
            // Items 0, `every`, 2 `every`... of all chunks together.
            let skipped = first.next_multiple_of(every) - first;
            let rows = (skipped..chunk.len()).step_by(every);
            let pick = |values: &[f32]| -> Vec<f32> {
                rows.clone()
                    .flat_map(|i| &values[i * data.dim()..][..data.dim()])
                    .copied()
                    .collect()
            };
            let picked = HeadValues {
                mu: pick(&heads.mu),
                inverse_alpha: pick(&heads.inverse_alpha),
                beta: pick(&heads.beta),
            };
            calibration.add(&picked, &pick(&targets), &exact);
            first += chunk.len();
        }
        let count = data.len() as f64;
        let constant = std::f64::consts::LN_2 + ln_scale;
        Ok(Validated { nll: nll / count + constant, l1: l1 / count, calibration })
    }

    fn adapter(
        &self,
        state: State,
        spaces: Spaces,
        baselines: Baselines,
    ) -> Result<ProbVlm, TrainingError> {
        let options = self.options;
        let (Some(best), Some(network)) = (state.position.best, state.best) else {
            return Err(TrainingError::Data("no epoch was run".to_owned()));
        };
        let dim = self.training.dim();
        let config = ProbVlmConfig {
            kind: PROBVLM.to_owned(),
            preset: options.preset,
            family: options.family,
            input_modality: self.input_modality,
            output_modality: self.output_modality,
            input_dim: dim,
            output_dim: dim,
            hidden_dim: options.hidden_dim,
            dropout: options.dropout,
            input_space: spaces.input.config(),
            output_space: spaces.output.config(),
            unit_rows: None,
            encoder: None,
            training: Some(TrainingSummary {
                training_items: self.training.len(),
                validation_items: self.validation.len(),
                epochs: state.position.epoch,
                best_epoch: best.epoch,
                validation_nll: best.validation_nll,
                baselines,
                input_noise: state.position.input_noise,
                options: options.clone(),
            }),
        };
        Ok(ProbVlm::from_parts(config, spaces.input, spaces.output, network))
    }
}

/// Where the state of a run is kept, and what marks it as this run's.
struct Kept<'a> {
    path: &'a Path,
    identity: Identity,
}

/// Scores on the held-out items.
struct Validated {
    /// Negative log likelihood, nats per raw dimension.
    nll: f64,
    /// Mean absolute error of μ in the working space.
    l1: f64,
    calibration: Calibration,
}

fn write_checkpoint(
    kept: Option<&Kept<'_>>,
    state: &State,
    on_event: &mut impl FnMut(TrainingEvent) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, TrainingError> {
    let Some(Kept { path, identity }) = kept else { return Ok(ControlFlow::Continue(())) };
    let (moments, _) = state.optimizer.moments()?;
    let best = state.best.as_ref();
    checkpoint::write(path, identity, &state.position, &state.network, best, &moments)?;
    Ok(on_event(TrainingEvent::Checkpoint { path: path.to_path_buf() }))
}

struct State {
    network: Network,
    /// The best weights so far, on the plain device.
    best: Option<Network>,
    optimizer: AdamOptimizer,
    position: Position,
    device: Device,
}

impl State {
    fn is_over(&self, options: &TrainingOptions) -> bool {
        let Position { epoch, best, .. } = &self.position;
        let since_best = epoch - best.map_or(0, |best| best.epoch);
        *epoch >= options.epochs || since_best >= options.patience
    }
}

/// The order of the items in an epoch, a function of the seed and the epoch alone.
pub(in crate::adapter) fn order(items: usize, seed: u64, epoch: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..items).collect();
    order.shuffle(&mut generator(seed, Stream::TrainingOrder, epoch as u64));
    order
}
