//! Adam over the parameters of a module, with a state that can be written down.
//!
//! burn's own module optimiser restores its state through the process-wide default device, which
//! may be a GPU that is not there; this one keeps the same update rule and holds the moments in
//! the order of the parameters.
//!
//! On the CPU backend one pass over a parameter does the whole rule: as tensor operations it would
//! read and write every array several times, and memory is what a small network waits for.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::{Adam, AdamConfig, AdamState, AdaptiveMomentumState, GradientsParams, Optimizer};
use burn::tensor::{DType, Device, Tensor, TensorData};
use rayon::prelude::*;

use crate::adapter::AdapterError;

/// Coefficients as in `torch.optim.Adam`.
const BETAS: [f32; 2] = [0.9, 0.999];
const EPSILON: f32 = 1e-8;
/// Elements that one task updates: enough to be worth a task, few enough for the cache.
const CHUNK: usize = 1 << 14;
/// Networks are made as float32 and nothing casts them.
const FLOAT: &str = "parameters and gradients are float32";

/// Adam and its moments.
pub struct AdamOptimizer {
    adam: Adam,
    /// One per parameter, in the order the module is visited; empty before the first step.
    states: Vec<State>,
}

/// What is remembered of one parameter.
enum State {
    OnHost { moments: Moments, steps: usize },
    OnDevice(Box<AdamState<1>>),
}

/// The moments of one parameter on the host.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    pub first: Vec<f32>,
    pub second: Vec<f32>,
}

impl Default for AdamOptimizer {
    fn default() -> Self {
        let [beta_1, beta_2] = BETAS;
        let config = AdamConfig::new().with_beta_1(beta_1).with_beta_2(beta_2);
        Self { adam: config.with_epsilon(EPSILON).build(), states: Vec::new() }
    }
}

impl AdamOptimizer {
    /// An optimiser that goes on after `steps` steps with these moments.
    pub fn restore(moments: Vec<Moments>, steps: usize, device: &Device) -> Self {
        let device = device.clone().inner();
        let tensor = |values: Vec<f32>| -> Tensor<1> {
            let shape = [values.len()];
            Tensor::from_data(TensorData::new(values, shape), (&device, DType::F32))
        };
        let on_host = device == Device::flex();
        let states = moments.into_iter().map(|moments| {
            if on_host {
                return State::OnHost { moments, steps };
            }
            let (first, second) = (tensor(moments.first), tensor(moments.second));
            let momentum = AdaptiveMomentumState::new(steps, first, second);
            State::OnDevice(Box::new(AdamState::new(momentum)))
        });
        let states = states.collect();
        Self { states, ..Self::default() }
    }

    /// The moments of all parameters, and the number of steps taken.
    ///
    /// # Errors
    /// When the device failed.
    pub fn moments(&self) -> Result<(Vec<Moments>, usize), AdapterError> {
        let read = |tensor: &Tensor<1>| {
            let values = tensor.clone().try_into_vec_as::<f32>();
            values.map_err(|e| AdapterError::Device(e.to_string()))
        };
        let moments = self.states.iter().map(|state| match state {
            State::OnHost { moments, .. } => Ok(moments.clone()),
            State::OnDevice(state) => Ok(Moments {
                first: read(&state.momentum.moment_1)?,
                second: read(&state.momentum.moment_2)?,
            }),
        });
        let steps = match self.states.first() {
            Some(State::OnHost { steps, .. }) => *steps,
            Some(State::OnDevice(state)) => state.momentum.time,
            None => 0,
        };
        Ok((moments.collect::<Result<_, AdapterError>>()?, steps))
    }

    /// One step. Parameters without a gradient stay as they are. On the CPU parameters that nothing
    /// else refers to are changed in place, so it is quicker without a copy of `module` around.
    pub fn step<M: Module>(
        &mut self,
        learning_rate: f64,
        module: M,
        gradients: GradientsParams,
    ) -> M {
        let states = std::mem::take(&mut self.states).into_iter();
        let mut step =
            Step { adam: &self.adam, learning_rate, gradients, states, next: Vec::new() };
        let module = module.map(&mut step);
        self.states = step.next;
        module
    }
}

struct Step<'a> {
    adam: &'a Adam,
    learning_rate: f64,
    gradients: GradientsParams,
    states: std::vec::IntoIter<State>,
    next: Vec<State>,
}

impl ModuleMapper for Step<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(gradient) = self.gradients.remove::<D>(param.id) else { return param };
        let state = self.states.next();
        param.map(|tensor| {
            let (tensor, state) = self.update(tensor.inner(), gradient, state);
            self.next.extend(state);
            Tensor::from_inner(tensor).require_grad()
        })
    }
}

impl Step<'_> {
    /// The parameter after the step, and what to remember of it.
    fn update<const D: usize>(
        &self,
        parameter: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<State>,
    ) -> (Tensor<D>, Option<State>) {
        let shape = parameter.shape();
        let len = shape.num_elements();
        let state = match state {
            Some(State::OnDevice(state)) => Some(*state),
            Some(State::OnHost { moments, steps }) => {
                return self.update_on_host(parameter, gradient, moments, steps);
            }
            None if parameter.device() == Device::flex() => {
                let moments = Moments { first: vec![0.0; len], second: vec![0.0; len] };
                return self.update_on_host(parameter, gradient, moments, 0);
            }
            None => None,
        };
        let (flat, gradient) = (parameter.reshape([len]), gradient.reshape([len]));
        let (flat, state) = self.adam.step(self.learning_rate, flat, gradient, state);
        (flat.reshape(shape), state.map(|state| State::OnDevice(Box::new(state))))
    }

    /// Adam (arXiv 1412.6980, algorithm 1), all of it element by element.
    fn update_on_host<const D: usize>(
        &self,
        parameter: Tensor<D>,
        gradient: Tensor<D>,
        mut moments: Moments,
        steps: usize,
    ) -> (Tensor<D>, Option<State>) {
        let (device, steps) = (parameter.device(), steps + 1);
        let [beta_1, beta_2] = BETAS;
        let correction = |beta: f32| 1.0 - f64::from(beta).powi(steps as i32);
        let rate = (self.learning_rate / correction(beta_1)) as f32;
        let second_scale = correction(beta_2).sqrt().recip() as f32;

        let (mut parameter, gradient) = (parameter.into_data(), gradient.into_data());
        let values = parameter.as_mut_slice::<f32>().expect(FLOAT);
        values
            .par_chunks_mut(CHUNK)
            .zip(gradient.as_slice::<f32>().expect(FLOAT).par_chunks(CHUNK))
            .zip(moments.first.par_chunks_mut(CHUNK))
            .zip(moments.second.par_chunks_mut(CHUNK))
            .for_each(|(((values, gradient), first), second)| {
                let moments = first.iter_mut().zip(second);
                for ((value, &g), (m, v)) in values.iter_mut().zip(gradient).zip(moments) {
                    *m = beta_1 * *m + (1.0 - beta_1) * g;
                    *v = beta_2 * *v + (1.0 - beta_2) * g * g;
                    *value -= rate * *m / (v.sqrt() * second_scale + EPSILON);
                }
            });
        let tensor = Tensor::from_data(parameter, (&device, DType::F32));
        (tensor, Some(State::OnHost { moments, steps }))
    }
}

/// Scales all gradients down so that their common norm is at most `limit`.
///
/// # Errors
/// When the device failed.
pub fn clip_gradients<M: Module>(
    gradients: &mut GradientsParams,
    module: &M,
    limit: f64,
) -> Result<(), AdapterError> {
    struct Squares<'a>(&'a GradientsParams, Option<Tensor<1>>);
    impl ModuleVisitor for Squares<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = self.0.get::<D>(param.id) {
                let sum = gradient.square().sum();
                self.1 = Some(match self.1.take() {
                    Some(total) => total + sum,
                    None => sum,
                });
            }
        }
    }
    struct Scale<'a>(&'a mut GradientsParams, f64);
    impl ModuleVisitor for Scale<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = self.0.remove::<D>(param.id) {
                self.0.register(param.id, gradient.mul_scalar(self.1));
            }
        }
    }
    let mut squares = Squares(gradients, None);
    module.visit(&mut squares);
    let Some(total) = squares.1 else { return Ok(()) };
    let total = total.try_into_vec_as::<f32>().map_err(|e| AdapterError::Device(e.to_string()))?;
    let norm = f64::from(total[0]).sqrt();
    if norm > limit {
        module.visit(&mut Scale(gradients, limit / norm));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::probvlm::Network;
    use crate::model::device::ComputeDevice;

    #[test]
    fn clipping_shortens_all_gradients_together_to_the_limit() {
        let device = ComputeDevice::cpu().device.autodiff();
        let network = Network::random(5, 7, 1, &device);
        let x = Tensor::<2>::ones([3, 5], &device);
        let gradients = || {
            let outputs = network.forward(x.clone());
            let loss = (outputs.mu + outputs.inverse_alpha + outputs.beta).sum();
            GradientsParams::from_grads(loss.backward(), &network)
        };
        struct Norm<'a>(&'a GradientsParams, f64);
        impl ModuleVisitor for Norm<'_> {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                let gradient = self.0.get::<D>(param.id).unwrap();
                let values = gradient.try_into_vec_as::<f32>().unwrap();
                self.1 += values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>();
            }
        }
        let norm = |gradients: &GradientsParams| {
            let mut visitor = Norm(gradients, 0.0);
            network.visit(&mut visitor);
            visitor.1.sqrt()
        };
        let before = norm(&gradients());
        for (limit, expected) in [(0.1 * before, 0.1 * before), (10.0 * before, before)] {
            let mut clipped = gradients();
            clip_gradients(&mut clipped, &network, limit).unwrap();
            assert!((norm(&clipped) / expected - 1.0).abs() < 1e-5);
        }
    }
}
