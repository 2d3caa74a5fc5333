//! The first weights of a layer.

use burn::module::Param;
use burn::nn::Linear;
use burn::tensor::{DType, Device, Tensor, TensorData};
use rand::RngExt;

use crate::random::{Stream, generator};

/// A layer with PyTorch's initial distribution, uniform in `±1/sqrt(inputs)`, drawn from `seed`
/// alone: equal on every device. `index` numbers the parameters that were drawn so far. Where
/// `bias` is given it stands in for the drawn one.
pub(super) fn initial_layer(
    [from, to]: [usize; 2],
    bias: Option<f32>,
    seed: u64,
    index: &mut u64,
    device: &Device,
) -> Linear {
    let bound = (from as f32).sqrt().recip();
    let mut draw = |len: usize| -> Vec<f32> {
        let mut rng = generator(seed, Stream::Initialisation, *index);
        *index += 1;
        (0..len).map(|_| rng.random_range(-bound..=bound)).collect()
    };
    let weight = TensorData::new(draw(from * to), [from, to]);
    let bias = bias.map_or_else(|| draw(to), |value| vec![value; to]);
    let bias = TensorData::new(bias, [to]);
    Linear {
        weight: Param::from_tensor(Tensor::from_data(weight, (device, DType::F32))),
        bias: Some(Param::from_tensor(Tensor::from_data(bias, (device, DType::F32)))),
    }
}
