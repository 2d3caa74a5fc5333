//! The multilayer perceptron of a pairwise adapter.
//!
//! ```text
//! h = dropout(relu(.. relu(layers.0 x)))
//! y = layers.last h
//! ```
//!
//! `[N, D]` to `[N, D]`: log variances (PFE, PCME++), log standard deviations (PCME), or the natural
//! parameter η of a density on the sphere (AsymVLM).

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::store::{BurnToPyTorchAdapter, ModuleSnapshot, bridge};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};

use crate::adapter::AdapterError;
use crate::adapter::initial_layer::initial_layer;
use crate::adapter::tensor_file::NamedTensor;

/// Linear layers with rectifiers in between.
#[derive(Module, Debug)]
pub struct Mlp {
    layers: Vec<Linear>,
}

impl Mlp {
    /// A network of these widths whose parameters are yet to be loaded.
    pub fn uninitialised(widths: &[usize], device: &Device) -> Self {
        let layers = widths.windows(2).map(|w| LinearConfig::new(w[0], w[1]).init(device));
        Self { layers: layers.collect() }
    }

    /// PyTorch's initial distribution, uniform in `±1/sqrt(inputs)`, from (`seed`, `network`)
    /// alone; two networks of one seed differ. A constant replaces the last bias where one is
    /// given.
    pub fn random(
        widths: &[usize],
        last_bias: Option<f32>,
        seed: u64,
        network: u64,
        device: &Device,
    ) -> Self {
        let mut index = network << 16;
        let count = widths.len() - 1;
        let layers = widths.windows(2).enumerate().map(|(layer, width)| {
            let bias = last_bias.filter(|_| layer + 1 == count);
            initial_layer([width[0], width[1]], bias, seed, &mut index, device)
        });
        Self { layers: layers.collect() }
    }

    /// The device its parameters live on.
    pub fn device(&self) -> Device {
        self.layers[0].weight.val().device()
    }

    /// The activations that dropout acts on, `[N, D]` to `[N, H]`.
    pub fn hidden_activations(&self, x: Tensor<2>) -> Tensor<2> {
        let inner = &self.layers[..self.layers.len() - 1];
        inner.iter().fold(x, |x, layer| relu(layer.forward(x)))
    }

    /// From the (possibly masked) hidden activations to the output, `[N, D]`.
    pub fn output(&self, hidden: Tensor<2>) -> Tensor<2> {
        self.layers[self.layers.len() - 1].forward(hidden)
    }

    /// The whole network, with a dropout mask of zeros and `1/(1 - p)`, `[N, H]` or `[1, H]`,
    /// where one is given.
    pub fn forward(&self, x: Tensor<2>, mask: Option<Tensor<2>>) -> Tensor<2> {
        let hidden = self.hidden_activations(x);
        self.output(match mask {
            Some(mask) => hidden * mask,
            None => hidden,
        })
    }

    /// All parameters in PyTorch's layout, under names like `layers.0.weight`.
    ///
    /// # Errors
    /// When the device failed.
    pub fn to_pytorch(&self) -> Result<Vec<NamedTensor>, AdapterError> {
        let device_error = |e: &dyn std::fmt::Display| AdapterError::Device(e.to_string());
        self.collect(None, Some(Box::new(BurnToPyTorchAdapter)), true)
            .into_iter()
            .map(|tensor| {
                let (name, shape) = (tensor.name.clone(), tensor.shape.to_vec());
                let data = bridge::into_data(tensor).map_err(|e| device_error(&e))?;
                let values = data.try_into_vec_as::<f32>().map_err(|e| device_error(&e))?;
                Ok(NamedTensor { name, shape, values })
            })
            .collect()
    }
}
