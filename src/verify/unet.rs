//! The UNet against diffusers' `UNet2DConditionModel`.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor};

use super::{Case, CaseError};
use crate::decoder::unet::{Intermediate, Timestep, UNet};

/// Checks every intermediate tensor at the main timestep, then the other timesteps, sizes and
/// weight files that the case has.
pub fn run(case: &mut Case, device: &Device) -> Result<(), CaseError> {
    let unet = UNet::load_in(&case.model_folder(), device, case.precision())?;
    case.computed_in(unet.precision());
    let sample: Tensor<4> = case.float("sample", device)?;
    let text: Tensor<3> = case.float("encoder_hidden_states", device)?;
    let class = match case.input("class_labels") {
        Ok(_) => Some(case.float("class_labels", device)?),
        Err(_) => None,
    };
    let timestep = Timestep::Each(case.input("timestep")?.values.clone());

    let conditioning = unet.prepare(text.clone(), class.clone())?;
    let mut seen = BTreeMap::new();
    let out = unet.forward_observed(
        sample.clone(),
        timestep.clone(),
        &conditioning,
        &mut |name, value| drop(seen.insert(name.to_owned(), value)),
    )?;
    for (name, value) in seen {
        if !case.expects(&name) {
            continue;
        }
        match value {
            Intermediate::Vector(value) => case.check(&name, value)?,
            Intermediate::Map(value) => case.check(&name, value)?,
        }
    }
    if let Some(embedding) =
        conditioning.class_embedding().filter(|_| case.expects("class_embedding"))
    {
        case.check("class_embedding", embedding)?;
    }
    case.check("out", out)?;

    if case.expects("out_odd") {
        let odd = case.float("sample_odd", device)?;
        let out = unet.forward_prepared(odd, timestep.clone(), &conditioning)?;
        case.check("out_odd", out)?;
    }
    for (name, input) in
        [("out_fraction", "timestep_fraction"), ("out_scalar_t", "timestep_scalar")]
    {
        if case.expects(name) {
            let [t] = case.input(input)?.values[..] else {
                return Err(CaseError(format!("input {input} is not one number")));
            };
            let out = unet.forward_prepared(sample.clone(), t, &conditioning)?;
            case.check(name, out)?;
        }
    }
    if case.expects("out_fp16_weights") {
        let halved = UNet::load(&case.folder().join("fp16"), device)?;
        let out = halved.forward(sample, timestep, text, class)?;
        case.check("out_fp16_weights", out)?;
    }
    Ok(())
}
