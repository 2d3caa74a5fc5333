//! The VAE against diffusers' `AutoencoderKL`.

use burn::tensor::{Device, Tensor};

use super::{Case, CaseError, Comparison};
use crate::decoder::vae::Vae;

/// Folders with the same weights under older names and shapes.
const OLDER_FILES: [&str; 2] = ["old_linear", "old_conv"];

/// Checks encoder and decoder, and that older weight files give the very same result.
pub fn run(case: &mut Case, device: &Device) -> Result<(), CaseError> {
    let vae = Vae::load(&case.model_folder(), device)?;
    let image: Tensor<4> = case.float("image", device)?;
    let latent: Tensor<4> = case.float("latent", device)?;

    let (moments, trace) = vae.encode_observed(image)?;
    let noise = case.float("posterior_noise", device)?;
    case.check("moments", trace.raw_moments)?;
    case.check("encoder_mid", trace.mid)?;
    case.check("sample", moments.sample(noise))?;
    case.check("std", moments.std())?;
    case.check("mean", moments.mean)?;
    case.check("logvar", moments.logvar)?;

    if case.expects("moments_rect") {
        let (_, trace) = vae.encode_observed(case.float("image_rect", device)?)?;
        case.check("moments_rect", trace.raw_moments)?;
    }

    let (decoded, mid) = vae.decode_observed(latent.clone())?;
    case.check("decoded", decoded.clone())?;
    case.check("decoder_mid", mid)?;
    if case.expects("decoded_from_scaled") {
        let unscaled = latent.clone() / vae.scaling_factor();
        case.check("decoded_from_scaled", vae.decode(unscaled)?)?;
    }

    for name in OLDER_FILES {
        let folder = case.folder().join(name);
        if !folder.is_dir() {
            continue;
        }
        let older = Vae::load(&folder, device)?.decode(latent.clone())?;
        let worst: f32 = (older - decoded.clone()).abs().max().try_into_scalar()?;
        case.record(Comparison {
            name: format!("decoded_{name}"),
            passed: worst == 0.0,
            worst_error: worst.into(),
            ratio: if worst == 0.0 { 0.0 } else { f64::INFINITY },
            note: (worst != 0.0).then(|| "differs from the current weight file".to_owned()),
        });
    }
    Ok(())
}
