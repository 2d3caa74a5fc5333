//! The gradient of one batch.
//!
//! On the CPU a batch is cut into shards of a fixed number of rows that run side by side, each on
//! a graph of its own: one matrix product of this size does not keep several cores busy. The
//! gradients are added in the order of the shards, so a result depends neither on the number of
//! threads nor on who finishes first. A GPU gets the batch in one piece.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, Tensor, TensorData};
use rayon::prelude::*;

use super::data::{Rows, TrainingData};
use super::{TrainingError, TrainingOptions};
use crate::adapter::loss::{HeadGradients, with_gradients};
use crate::adapter::probvlm::{HeadOutputs, Network, dropout_mask};
use crate::adapter::space::Space;
use crate::random::{Stream, standard_normal};

/// Rows that share a sequence of random numbers, and rows of a shard on the CPU.
const BLOCK_ROWS: usize = 256;
/// Random sequences of training come after all that a prediction with the same seed could use.
const FIRST_SEQUENCE: u64 = 1 << 32;
/// Sequences that are set aside for a step: one for each block of its batch.
const SEQUENCES_PER_STEP: u64 = 1 << 20;

/// The working spaces of a run.
pub(super) struct Spaces {
    pub input: Space,
    pub output: Space,
    /// Of the crossed targets; only training needs it.
    pub crossed: Option<Space>,
}

/// What a batch is made from.
pub(super) struct BatchSource<'a> {
    pub options: &'a TrainingOptions,
    pub data: &'a TrainingData<'a>,
    pub spaces: &'a Spaces,
    /// Standard deviation of the noise on inputs.
    pub input_noise: f64,
    /// An autodiff device.
    pub device: &'a Device,
}

/// Rows in the working spaces and the random numbers that go with them.
#[derive(Default)]
struct Prepared {
    inputs: Vec<f32>,
    targets: Vec<f32>,
    crossed: Vec<f32>,
    mask: Vec<f32>,
}

impl BatchSource<'_> {
    /// The loss of the batch and its gradient, for the items `chosen` in training step `step`.
    /// A loss that is not finite comes without a usable gradient.
    pub fn gradients(
        &self,
        network: &Network,
        chosen: &[usize],
        step: u64,
    ) -> Result<(f64, GradientsParams), TrainingError> {
        let on_cpu = *self.device == Device::flex();
        let rows = if on_cpu { BLOCK_ROWS } else { chosen.len() };
        if chosen.len() <= rows {
            // On this very thread: a GPU gives every thread a stream of its own.
            return self.shard(network, chosen, chosen.len(), step, 0);
        }
        let blocks_per_shard = rows.div_ceil(BLOCK_ROWS);
        let shards: Vec<_> = chosen
            .par_chunks(rows)
            .enumerate()
            .map(|(i, shard)| {
                // New leaves over the same weights: graphs that share leaves exclude each other.
                let network = network.valid().train();
                let first_block = i * blocks_per_shard;
                self.shard(&network, shard, chosen.len(), step, first_block)
            })
            .collect::<Result<_, _>>()?;
        let mut shards = shards.into_iter();
        let Some((mut loss, mut total)) = shards.next() else {
            return Ok((0.0, GradientsParams::new()));
        };
        for (part, gradients) in shards {
            loss += part;
            network.visit(&mut Add { total: &mut total, other: gradients });
        }
        Ok((loss, total))
    }

    /// A shard's share of the loss of a batch of `batch` items, and its gradient.
    fn shard(
        &self,
        network: &Network,
        chosen: &[usize],
        batch: usize,
        step: u64,
        first_block: usize,
    ) -> Result<(f64, GradientsParams), TrainingError> {
        let Prepared { inputs, targets, crossed, mask } =
            self.prepare(chosen, step, first_block)?;
        let tensor = |values: Vec<f32>, width: usize| -> Tensor<2> {
            let data = TensorData::new(values, [chosen.len(), width]);
            Tensor::from_data(data, (self.device, DType::F32))
        };
        let x = tensor(inputs, self.data.dim());
        let outputs = match mask.is_empty() {
            true => network.forward(x),
            false => network.forward_masked(x, tensor(mask, self.options.hidden_dim)),
        };
        let values = outputs.read()?;
        let loss = self.options.loss();
        let share = chosen.len() as f64 / batch as f64;
        let mut gradients = HeadGradients::zeros(targets.len());
        let mut total = share * loss.accumulate(&values, &targets, share, &mut gradients).total;
        if !crossed.is_empty() {
            let weight = share * self.options.cross_weight;
            total += weight * loss.accumulate(&values, &crossed, weight, &mut gradients).total;
        }
        let HeadOutputs { mu, inverse_alpha, beta } = outputs;
        let backward = with_gradients([mu, inverse_alpha, beta], gradients).backward();
        Ok((total, GradientsParams::from_grads(backward, network)))
    }

    fn prepare(
        &self,
        chosen: &[usize],
        step: u64,
        first_block: usize,
    ) -> Result<Prepared, TrainingError> {
        let blocks = chosen
            .par_chunks(BLOCK_ROWS)
            .enumerate()
            .map(|(i, block)| {
                let sequence = step * SEQUENCES_PER_STEP + (first_block + i) as u64;
                self.prepare_block(block, FIRST_SEQUENCE + sequence)
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(blocks
            .into_iter()
            .reduce(|mut all, block| {
                all.inputs.extend(block.inputs);
                all.targets.extend(block.targets);
                all.crossed.extend(block.crossed);
                all.mask.extend(block.mask);
                all
            })
            .unwrap_or_default())
    }

    fn prepare_block(&self, chosen: &[usize], sequence: u64) -> Result<Prepared, TrainingError> {
        let (options, data, spaces) = (self.options, self.data, self.spaces);
        let size = chosen.len() * data.dim();
        let rows = |space: &Space, rows: Rows<'_>, index: &dyn Fn(usize) -> usize| {
            let mut out = Vec::with_capacity(size);
            for &i in chosen {
                space.push_working(&rows.row(index(i)), &mut out)?;
            }
            Ok::<_, TrainingError>(out)
        };
        let mut inputs = rows(&spaces.input, data.inputs, &|i| data.items[i].input)?;
        if self.input_noise > 0.0 {
            let noise = standard_normal(options.seed, Stream::EmbeddingNoise, sequence, size);
            let scale = self.input_noise as f32;
            inputs.iter_mut().zip(noise).for_each(|(x, n)| *x += scale * n);
        }
        let targets = rows(&spaces.output, data.targets, &|i| data.items[i].target)?;
        let crossed = match (&data.crossed, &spaces.crossed) {
            (Some(crossed), Some(space)) if options.cross_weight > 0.0 => {
                rows(space, crossed.targets, &|i| crossed.of_item[i])?
            }
            _ => Vec::new(),
        };
        let mask = match options.dropout > 0.0 {
            true => {
                let len = chosen.len() * options.hidden_dim;
                dropout_mask(options.dropout, options.seed, sequence, len)
            }
            false => Vec::new(),
        };
        Ok(Prepared { inputs, targets, crossed, mask })
    }
}

/// Adds the gradients of `other` to those of `total`, parameter by parameter.
struct Add<'a> {
    total: &'a mut GradientsParams,
    other: GradientsParams,
}

impl ModuleVisitor for Add<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        match (self.total.remove::<D>(param.id), self.other.remove::<D>(param.id)) {
            (Some(a), Some(b)) => self.total.register(param.id, a + b),
            (Some(one), None) | (None, Some(one)) => self.total.register(param.id, one),
            (None, None) => {}
        }
    }
}
