//! ProLIP against the authors' code.

use burn::tensor::{Device, Tensor};

use super::clip::token_ids;
use super::{Case, CaseError};
use crate::encoder::Towers;
use crate::encoder::prolip::{ProLipModel, ProLipOutput};

pub fn run(case: &mut Case, device: &Device) -> Result<(), CaseError> {
    let model = ProLipModel::load(&case.model_folder(), device)?;
    let images = model.images(case.float::<4>("pixel_values", device)?)?;
    let texts = model.texts(&token_ids(case)?)?;
    let mut means = Vec::new();
    for (name, ProLipOutput { mean, log_variance, .. }) in [("image", images), ("text", texts)] {
        means.push(mean.clone());
        case.check(&format!("{name}_mean"), mean)?;
        case.check(&format!("{name}_log_variance"), log_variance)?;
    }
    let logits = model.logits();
    let cosines = means.remove(0).matmul(means.remove(0).transpose());
    let bias = Tensor::full([1, 1], logits.bias.unwrap_or_default(), device);
    case.check("logits_per_image", cosines * logits.scale + bias)
}
