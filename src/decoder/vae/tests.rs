use std::path::PathBuf;

use super::*;
use crate::model::device::ComputeDevice;
use crate::random::{Stream, standard_normal};
use burn::tensor::{DType, TensorData};

fn fixture() -> PathBuf {
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/vae/autoencoder_kl").into()
}

fn noise<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    let values = standard_normal(1, Stream::InitialLatents, 0, shape.iter().product());
    Tensor::from_data(TensorData::new(values, shape), (&ComputeDevice::cpu().device, DType::F32))
}

fn load(engine: Engine) -> Vae {
    Vae::load_for(&fixture(), &ComputeDevice::cpu().device, engine).unwrap()
}

fn distance(a: Tensor<4>, b: Tensor<4>) -> f32 {
    (a - b).abs().max().into_scalar()
}

#[test]
fn the_kernels_of_the_cpu_agree_with_burn() {
    let (burn, cpu) = (load(Engine::Burn), load(Engine::Cpu));
    let factor = burn.spatial_factor();
    let images = noise([2, 3, 3 * factor, 5 * factor]);
    let [a, b] = [&burn, &cpu].map(|vae| vae.encode(images.clone()).unwrap());
    assert!(distance(a.mean, b.mean) < 2e-5);
    assert!(distance(a.logvar, b.logvar) < 2e-5);
    let latents = noise([2, burn.latent_channels(), 3, 5]);
    let [a, b] = [&burn, &cpu].map(|vae| vae.decode(latents.clone()).unwrap());
    assert_eq!(a.dims(), [2, 3, 3 * factor, 5 * factor]);
    assert!(distance(a, b) < 2e-5);
}

#[test]
fn an_image_is_decoded_the_same_alone_and_in_a_batch() {
    for engine in [Engine::Burn, Engine::Cpu] {
        let vae = load(engine);
        // Below and above the size from which on images are decoded one after the other.
        for side in [3, 66] {
            let latents = noise([2, vae.latent_channels(), side, side + 1]);
            let together = vae.decode(latents.clone()).unwrap();
            let (observed, _) = vae.decode_observed(latents.clone()).unwrap();
            assert!(distance(together.clone(), observed) < 1e-5);
            let second = vae.decode(latents.narrow(0, 1, 1)).unwrap();
            assert!(distance(together.narrow(0, 1, 1), second) < 1e-5);
        }
    }
}

#[test]
fn the_log_variance_is_clamped_and_its_square_root_is_sampled_with() {
    let mean = noise([1, 1, 2, 2]);
    let moments = Moments { logvar: mean.zeros_like() + 2.0 * 3f64.ln(), mean: mean.clone() };
    let sample = moments.sample(mean.ones_like());
    assert!(distance(sample, mean + 3.0) < 1e-5);
    let raw = load(Engine::Cpu).encode(noise([1, 3, 8, 8]) * 1e4).unwrap().logvar;
    let (low, high): (f32, f32) = (raw.clone().min().into_scalar(), raw.max().into_scalar());
    assert!(low >= -30.0 && high <= 20.0);
}

#[test]
fn images_and_latents_that_do_not_fit_are_refused() {
    let vae = load(Engine::Cpu);
    let factor = vae.spatial_factor();
    let error = vae.encode(noise([1, 3, factor, factor + 1])).unwrap_err().to_string();
    assert!(error.contains(&format!("multiples of {factor}")), "{error}");
    let error = vae.decode(noise([1, vae.latent_channels() + 1, 2, 2])).unwrap_err().to_string();
    assert!(error.contains("latents"), "{error}");
}

/// `tests/make_tiled_vae_fixture.py` has written what diffusers makes of the same latents.
#[test]
fn tiles_are_joined_as_diffusers_does() {
    let folder = fixture().join("tiled");
    let device = ComputeDevice::cpu().device;
    let weights =
        crate::model::weights::Weights::open(&folder.join("expected.safetensors")).unwrap();
    for engine in [Engine::Burn, Engine::Cpu] {
        let vae = load(engine);
        let latents: Tensor<4> = weights.tensor("latents", &device).unwrap();
        let expected: Tensor<4> = weights.tensor("images", &device).unwrap();
        let tiled = vae.decode_tiled(latents.clone(), vae.tile_side()).unwrap();
        assert_eq!(tiled.dims(), expected.dims());
        assert!(distance(tiled, expected.clone()) < 2e-5);
        // And tiles do make a difference.
        assert!(distance(vae.decode(latents).unwrap(), expected) > 1e-3);
    }
}

#[test]
fn tiles_are_themselves_away_from_the_seams() {
    let vae = load(Engine::Cpu);
    let (factor, side) = (vae.spatial_factor(), 8);
    let latents = noise([2, vae.latent_channels(), 11, 13]);
    let tiled = vae.decode_tiled(latents.clone(), side).unwrap();
    assert_eq!(tiled.dims(), [2, 3, 11 * factor, 13 * factor]);
    // Tiles start 6 latent pixels apart and fade over the first 2 of each.
    for (y, x) in [(0, 0), (0, 6), (6, 0), (6, 6)] {
        let tile = latents.clone().narrow(2, y, side.min(11 - y)).narrow(3, x, side.min(13 - x));
        let alone = vae.decode(tile).unwrap();
        let [top, left] = [y, x].map(|start| if start == 0 { 0 } else { 2 * factor });
        let [bottom, right] = [2, 3].map(|dim| alone.dims()[dim].min(6 * factor));
        let own = |image: Tensor<4>, y: usize, x: usize| {
            image.narrow(2, y, bottom - top).narrow(3, x, right - left)
        };
        let inside = own(tiled.clone(), y * factor + top, x * factor + left);
        assert_eq!(distance(inside, own(alone, top, left)), 0.0, "tile at {y}, {x}");
    }
}

#[test]
fn an_image_that_fits_into_one_tile_is_decoded_whole() {
    let vae = load(Engine::Cpu);
    let latents = noise([1, vae.latent_channels(), 7, 8]);
    let whole = vae.decode(latents.clone()).unwrap();
    assert_eq!(distance(vae.decode_tiled(latents, 8).unwrap(), whole), 0.0);
}
