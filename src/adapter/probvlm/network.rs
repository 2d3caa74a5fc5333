//! The network of a ProbVLM adapter for one modality (`BayesCap_MLP` in the authors' code).
//!
//! ```text
//! h = x + mod.5(dropout(relu(mod.2(relu(mod.0 x)))))
//! μ    = block_mu.2(relu(block_mu.0 h))
//! 1/α  = link(block_alpha.2(relu(block_alpha.0 h)))
//! β    = link(block_beta.2(relu(block_beta.0 h)))
//! ```
//!
//! The head called `block_alpha` gives **1/α**. The links are applied on the host (see
//! [`Link`](crate::adapter::loss::Link)), so the outputs here are the raw ones.

use burn::module::{Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::store::{BurnToPyTorchAdapter, ModuleSnapshot, bridge};
use burn::tensor::activation::relu;
use burn::tensor::{DType, Device, Tensor, Transaction};
use rand::Rng;

use crate::adapter::AdapterError;
use crate::adapter::initial_layer::initial_layer;
use crate::adapter::loss::HeadValues;
use crate::adapter::tensor_file::NamedTensor;
use crate::random::{Stream, generator};

/// PyTorch names of the layers, and the fields they are here.
const NAMES: [(&str, &str); 9] = [
    ("mod.0.", "input."),
    ("mod.2.", "hidden."),
    ("mod.5.", "output."),
    ("block_mu.0.", "mu.first."),
    ("block_mu.2.", "mu.second."),
    ("block_alpha.0.", "inverse_alpha.first."),
    ("block_alpha.2.", "inverse_alpha.second."),
    ("block_beta.0.", "beta.first."),
    ("block_beta.2.", "beta.second."),
];

/// The field path of a PyTorch parameter name; `None` for a name that is no parameter of it.
pub fn from_pytorch_name(name: &str) -> Option<String> {
    NAMES.iter().find_map(|(theirs, ours)| Some(format!("{ours}{}", name.strip_prefix(theirs)?)))
}

/// The PyTorch name of a field path.
fn to_pytorch_name(name: &str) -> Option<String> {
    NAMES.iter().find_map(|(theirs, ours)| Some(format!("{theirs}{}", name.strip_prefix(ours)?)))
}

/// Two layers with a rectifier in between.
#[derive(Module, Debug)]
pub struct Head {
    first: Linear,
    second: Linear,
}

impl Head {
    fn new(dim: usize, width: usize, device: &Device) -> Self {
        let layer = |from, to| LinearConfig::new(from, to).init(device);
        Self { first: layer(dim, width), second: layer(width, dim) }
    }

    fn forward(&self, h: Tensor<2>) -> Tensor<2> {
        self.second.forward(relu(self.first.forward(h)))
    }
}

/// One modality's network, `[N, D]` to three times `[N, D]`.
#[derive(Module, Debug)]
pub struct Network {
    input: Linear,
    hidden: Linear,
    output: Linear,
    mu: Head,
    inverse_alpha: Head,
    beta: Head,
}

/// Raw outputs of the three heads, `[N, D]` each, before the link.
#[derive(Debug, Clone)]
pub struct HeadOutputs {
    pub mu: Tensor<2>,
    pub inverse_alpha: Tensor<2>,
    pub beta: Tensor<2>,
}

impl HeadOutputs {
    /// Reads all three back from their device.
    ///
    /// # Errors
    /// When the device failed.
    pub fn read(&self) -> Result<HeadValues, AdapterError> {
        let tensors = [&self.mu, &self.inverse_alpha, &self.beta];
        let transaction = tensors.into_iter().fold(Transaction::default(), |t, tensor| {
            t.register(tensor.clone().without_autodiff())
        });
        let values = transaction
            .try_execute()
            .map_err(|e| AdapterError::Device(e.to_string()))?
            .into_iter()
            .map(|data| data.try_into_vec_as::<f32>())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| AdapterError::Device(e.to_string()))?;
        let [mu, inverse_alpha, beta] =
            values.try_into().map_err(|_| AdapterError::Device("outputs were lost".into()))?;
        Ok(HeadValues { mu, inverse_alpha, beta })
    }
}

impl Network {
    /// A network of this size whose parameters are yet to be loaded.
    pub fn uninitialised(dim: usize, hidden_dim: usize, device: &Device) -> Self {
        Self::uninitialised_with_heads(dim, hidden_dim, dim, device)
    }

    /// As [`Self::uninitialised`], with heads whose inner layer is `head_dim` wide: 128 in the
    /// authors' `BayesCap_HF_MLP`.
    pub fn uninitialised_with_heads(
        dim: usize,
        hidden_dim: usize,
        head_dim: usize,
        device: &Device,
    ) -> Self {
        let layer = |from, to| LinearConfig::new(from, to).init(device);
        Self {
            input: layer(dim, hidden_dim),
            hidden: layer(hidden_dim, hidden_dim),
            output: layer(hidden_dim, dim),
            mu: Head::new(dim, head_dim, device),
            inverse_alpha: Head::new(dim, head_dim, device),
            beta: Head::new(dim, head_dim, device),
        }
    }

    /// A network with PyTorch's initial distribution, uniform in `±1/sqrt(inputs)`, drawn from
    /// `seed` alone: equal on every device.
    pub fn random(dim: usize, hidden_dim: usize, seed: u64, device: &Device) -> Self {
        let mut index = 0;
        let mut layer = |from, to| initial_layer([from, to], None, seed, &mut index, device);
        Self {
            input: layer(dim, hidden_dim),
            hidden: layer(hidden_dim, hidden_dim),
            output: layer(hidden_dim, dim),
            mu: Head { first: layer(dim, dim), second: layer(dim, dim) },
            inverse_alpha: Head { first: layer(dim, dim), second: layer(dim, dim) },
            beta: Head { first: layer(dim, dim), second: layer(dim, dim) },
        }
    }

    /// The network whose every parameter is the sum of those of `parts`, each times its factor.
    ///
    /// # Panics
    /// When there is no part, or they differ in size.
    pub fn weighted_sum(parts: &[(&Network, f64)]) -> Self {
        let layer = |of: &dyn Fn(&Network) -> &Linear| weighted_layer(parts, of);
        Self {
            input: layer(&|network| &network.input),
            hidden: layer(&|network| &network.hidden),
            output: layer(&|network| &network.output),
            mu: Head {
                first: layer(&|network| &network.mu.first),
                second: layer(&|network| &network.mu.second),
            },
            inverse_alpha: Head {
                first: layer(&|network| &network.inverse_alpha.first),
                second: layer(&|network| &network.inverse_alpha.second),
            },
            beta: Head {
                first: layer(&|network| &network.beta.first),
                second: layer(&|network| &network.beta.second),
            },
        }
    }

    /// Replaces the last layer of each head by a constant: raw outputs `mu`, `inverse_alpha` and
    /// `beta` for every input.
    pub fn with_constant_heads(mut self, mu: f32, inverse_alpha: f32, beta: f32) -> Self {
        let device = self.device();
        for (head, value) in
            [(&mut self.mu, mu), (&mut self.inverse_alpha, inverse_alpha), (&mut self.beta, beta)]
        {
            let [rows, columns] = head.second.weight.dims();
            let weight = Tensor::zeros([rows, columns], (&device, DType::F32));
            let bias = Tensor::full([columns], value, (&device, DType::F32));
            head.second =
                Linear { weight: Param::from_tensor(weight), bias: Some(Param::from_tensor(bias)) };
        }
        self
    }

    /// Lets the head for μ pass its input through as long as it is above `-reach`: the rectifier
    /// between its layers is lifted out of the way.
    pub fn with_identity_mu(mut self, reach: f32) -> Self {
        let device = self.device();
        let dim = self.dim();
        let layer = |bias: f32| {
            let weight = Tensor::eye(dim, &device);
            let bias = Tensor::full([dim], bias, (&device, DType::F32));
            Linear { weight: Param::from_tensor(weight), bias: Some(Param::from_tensor(bias)) }
        };
        self.mu = Head { first: layer(reach), second: layer(-reach) };
        self
    }

    /// Number of dimensions D of inputs and outputs.
    pub fn dim(&self) -> usize {
        self.input.weight.lazy_shape()[0]
    }

    /// Width of the hidden layers.
    pub fn hidden_dim(&self) -> usize {
        self.input.weight.lazy_shape()[1]
    }

    /// The device its parameters live on.
    pub fn device(&self) -> Device {
        self.input.weight.val().device()
    }

    /// The activations that dropout acts on, `[N, D]` to `[N, H]`.
    pub fn hidden_activations(&self, x: Tensor<2>) -> Tensor<2> {
        relu(self.hidden.forward(relu(self.input.forward(x))))
    }

    /// From the (possibly masked) hidden activations to the input of the heads, `[N, D]`.
    pub fn trunk_output(&self, x: Tensor<2>, hidden: Tensor<2>) -> Tensor<2> {
        self.output.forward(hidden) + x
    }

    /// The head for μ alone.
    pub fn mu(&self, trunk: Tensor<2>) -> Tensor<2> {
        self.mu.forward(trunk)
    }

    /// All heads.
    pub fn heads(&self, trunk: Tensor<2>) -> HeadOutputs {
        HeadOutputs {
            mu: self.mu.forward(trunk.clone()),
            inverse_alpha: self.inverse_alpha.forward(trunk.clone()),
            beta: self.beta.forward(trunk),
        }
    }

    /// The whole network without dropout.
    pub fn forward(&self, x: Tensor<2>) -> HeadOutputs {
        let hidden = self.hidden_activations(x.clone());
        self.heads(self.trunk_output(x, hidden))
    }

    /// The whole network with a dropout mask `[N, H]` of zeros and `1/(1 - p)`.
    pub fn forward_masked(&self, x: Tensor<2>, mask: Tensor<2>) -> HeadOutputs {
        let hidden = self.hidden_activations(x.clone()) * mask;
        self.heads(self.trunk_output(x, hidden))
    }

    /// All parameters with their PyTorch names and layouts, in the order of the layers.
    ///
    /// # Errors
    /// When the device failed.
    pub fn to_pytorch(&self) -> Result<Vec<NamedTensor>, AdapterError> {
        let device_error = |e: &dyn std::fmt::Display| AdapterError::Device(e.to_string());
        self.collect(None, Some(Box::new(BurnToPyTorchAdapter)), true)
            .into_iter()
            .map(|tensor| {
                let name = to_pytorch_name(&tensor.name).unwrap_or_else(|| tensor.name.clone());
                let shape = tensor.shape.to_vec();
                let data = bridge::into_data(tensor).map_err(|e| device_error(&e))?;
                let values = data.try_into_vec_as::<f32>().map_err(|e| device_error(&e))?;
                Ok(NamedTensor { name, shape, values })
            })
            .collect()
    }
}

fn weighted_layer(parts: &[(&Network, f64)], of: &dyn Fn(&Network) -> &Linear) -> Linear {
    let layers = || parts.iter().map(|(network, factor)| (of(network), *factor));
    let weights = layers().map(|(layer, factor)| layer.weight.val() * factor);
    let biases = layers().filter_map(|(layer, factor)| Some(layer.bias.as_ref()?.val() * factor));
    let weight = weights.reduce(|sum, weight| sum + weight).expect("at least one part");
    let bias = biases.reduce(|sum, bias| sum + bias);
    Linear { weight: Param::from_tensor(weight), bias: bias.map(Param::from_tensor) }
}

/// A dropout mask of zeros and `1/(1 - p)` with `len` entries, from (seed, stream, index).
pub fn dropout_mask(p: f64, seed: u64, index: u64, len: usize) -> Vec<f32> {
    let mut bytes = vec![0u8; len * size_of::<u32>()];
    generator(seed, Stream::DropoutPasses, index).fill_bytes(&mut bytes);
    // An entry is dropped when its 32 random bits are below p * 2^32.
    let threshold = (p * 2f64.powi(32)) as u64;
    let kept = (1.0 / (1.0 - p)) as f32;
    let (words, _) = bytes.as_chunks::<4>();
    words
        .iter()
        .map(|&word| if u64::from(u32::from_le_bytes(word)) < threshold { 0.0 } else { kept })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::device::ComputeDevice;

    #[test]
    fn initial_weights_depend_on_the_seed_alone_and_stay_in_bounds() {
        let device = ComputeDevice::cpu().device;
        let first = Network::random(12, 20, 5, &device).to_pytorch().unwrap();
        assert_eq!(first, Network::random(12, 20, 5, &device).to_pytorch().unwrap());
        assert_ne!(first, Network::random(12, 20, 6, &device).to_pytorch().unwrap());
        assert_eq!(first.len(), 18);
        for tensor in &first {
            let inputs = if tensor.name.starts_with("mod.2.") || tensor.name.starts_with("mod.5.") {
                20f32
            } else {
                12f32
            };
            let bound = inputs.sqrt().recip();
            let largest = tensor.values.iter().fold(0f32, |m, v| m.max(v.abs()));
            assert!(largest <= bound && largest > 0.5 * bound, "{}", tensor.name);
        }
        let output = first.iter().find(|t| t.name == "mod.5.weight").unwrap();
        assert_eq!(output.shape, [12, 20], "PyTorch stores [outputs, inputs]");
    }

    #[test]
    fn a_mask_drops_its_share_and_keeps_the_mean() {
        let mask = dropout_mask(0.3, 1, 0, 100_000);
        let dropped = mask.iter().filter(|&&m| m == 0.0).count() as f64 / mask.len() as f64;
        assert!((dropped - 0.3).abs() < 5.0 * (0.21f64 / mask.len() as f64).sqrt());
        let mean = mask.iter().map(|&m| f64::from(m)).sum::<f64>() / mask.len() as f64;
        assert!((mean - 1.0).abs() < 0.02);
        assert_eq!(mask[..10], dropout_mask(0.3, 1, 0, 10));
        assert!(dropout_mask(0.0, 1, 0, 100).iter().all(|&m| m == 1.0));
    }
}
