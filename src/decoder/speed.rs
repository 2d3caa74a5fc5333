//! How long one denoising step and one decode take: run by hand with
//! `cargo test --release --lib decoder::speed -- --ignored --nocapture`.

use std::path::PathBuf;
use std::time::Instant;

use burn::tensor::{DType, Device, Tensor, TensorData};

use super::unet::UNet;
use super::vae::Vae;
use crate::model::device::ComputeDevice;
use crate::random::{Stream, standard_normal};

const RUNS: usize = 8;

fn noise<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    let values = standard_normal(1, Stream::InitialLatents, 0, shape.iter().product());
    Tensor::from_data(TensorData::new(values, shape), (device, DType::F32))
}

fn fastest(label: &str, mut run: impl FnMut() -> Tensor<4>) {
    let mut times: Vec<f64> = (0..=RUNS)
        .map(|_| {
            let start = Instant::now();
            run().try_into_data().unwrap();
            start.elapsed().as_secs_f64() * 1e3
        })
        .skip(1)
        .collect();
    times.sort_by(f64::total_cmp);
    println!("{label}: fastest {:.1} ms, median {:.1} ms", times[0], times[RUNS / 2]);
}

fn model(part: &str) -> PathBuf {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/demo/unclip").into();
    std::env::var_os("HAZE_SPEED_MODEL").map_or(default, PathBuf::from).join(part)
}

#[test]
#[ignore = "measures, checks nothing"]
fn one_denoising_step() {
    let device = ComputeDevice::cpu().device;
    let unet = UNet::load(&model("unet"), &device).unwrap();
    let [height, width] = unet.sample_size().unwrap();
    for batch in [16, 32] {
        let sample = noise([batch, unet.in_channels(), height, width], &device);
        let text = noise([1, 77, unet.text_dim()], &device);
        let class = unet.class_vector_len().map(|length| noise([batch, length], &device));
        let conditioning = unet.prepare(text, class).unwrap();
        fastest(&format!("UNet step, batch {batch}"), || {
            unet.forward_prepared(sample.clone(), 501.0, &conditioning).unwrap()
        });
    }
}

#[test]
#[ignore = "measures, checks nothing"]
fn one_decode() {
    let device = ComputeDevice::cpu().device;
    let vae = Vae::load(&model("vae"), &device).unwrap();
    let latents = noise([16, vae.latent_channels(), 8, 8], &device);
    fastest("VAE decode, batch 16", || vae.decode(latents.clone()).unwrap());
}
