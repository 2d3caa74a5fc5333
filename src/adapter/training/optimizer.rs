//! Adam over the parameters of a module, with a state that can be written down.
//!
//! burn's own module optimiser restores its state through the process-wide default device, which
//! may be a GPU that is not there; this one keeps the same update rule and holds the moments in
//! the order of the parameters.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::{Adam, AdamConfig, AdamState, AdaptiveMomentumState, GradientsParams, Optimizer};
use burn::tensor::{DType, Device, Tensor, TensorData};

use crate::adapter::AdapterError;

/// Coefficients as in `torch.optim.Adam`: 0.9, 0.999, 1e-8.
const EPSILON: f32 = 1e-8;

/// Adam and its moments.
pub struct AdamOptimizer {
    adam: Adam,
    /// One per parameter, in the order the module is visited; empty before the first step.
    states: Vec<AdamState<1>>,
}

/// The moments of one parameter on the host.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    pub first: Vec<f32>,
    pub second: Vec<f32>,
}

impl Default for AdamOptimizer {
    fn default() -> Self {
        Self { adam: AdamConfig::new().with_epsilon(EPSILON).build(), states: Vec::new() }
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
        let states = moments
            .into_iter()
            .map(|m| {
                AdamState::new(AdaptiveMomentumState::new(steps, tensor(m.first), tensor(m.second)))
            })
            .collect();
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
        let moments = self
            .states
            .iter()
            .map(|s| {
                Ok(Moments {
                    first: read(&s.momentum.moment_1)?,
                    second: read(&s.momentum.moment_2)?,
                })
            })
            .collect::<Result<_, AdapterError>>()?;
        Ok((moments, self.states.first().map_or(0, |s| s.momentum.time)))
    }

    /// One step. Parameters without a gradient stay as they are.
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
    states: std::vec::IntoIter<AdamState<1>>,
    next: Vec<AdamState<1>>,
}

impl ModuleMapper for Step<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(gradient) = self.gradients.remove::<D>(param.id) else { return param };
        let state = self.states.next();
        let (adam, rate, next) = (self.adam, self.learning_rate, &mut self.next);
        param.map(|tensor| {
            let shape = tensor.shape();
            let len = shape.num_elements();
            let flat = tensor.inner().reshape([len]);
            let (flat, state) = adam.step(rate, flat, gradient.reshape([len]), state);
            next.extend(state);
            Tensor::from_inner(flat.reshape(shape)).require_grad()
        })
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
