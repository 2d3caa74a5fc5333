//! Rough colours of latents without the VAE: a linear map from latent channels to RGB.
//!
//! The map is fitted by least squares on what the VAE makes of its own latents of plain colours,
//! gradients and discs: it needs no data, and works for any VAE.

use burn::tensor::{DType, Device, Tensor, TensorData};
use faer::linalg::solvers::Solve;
use faer::{Mat, Side};
use image::RgbImage;
use rand::RngExt;

use super::DecodeError;
use super::vae::Vae;
use crate::random::{Stream, generator};

/// Pictures that the map is fitted on.
const PICTURES: usize = 48;
/// Their edge in latent pixels.
const LATENT_SIDE: usize = 8;
/// Size of a latent pixel in the preview.
const SCALE: u32 = 4;
/// Ridge penalty, which keeps the fit defined where a channel never varies.
const RIDGE: f64 = 1e-4;

/// The map `[(C + 1) * 3]`: one row per channel, the last one for the constant.
#[derive(Debug, Clone)]
pub(super) struct LatentPreview {
    weights: Vec<f64>,
    channels: usize,
}

impl LatentPreview {
    /// Fits the map of a VAE.
    ///
    /// # Errors
    /// When the device fails.
    pub fn fit(vae: &Vae, device: &Device) -> Result<Self, DecodeError> {
        let side = LATENT_SIDE * vae.spatial_factor();
        let channels = vae.latent_channels();
        let pictures: Vec<Vec<f32>> = (0..PICTURES as u64).map(|i| picture(i, side)).collect();
        let data = TensorData::new(pictures.concat(), [PICTURES, 3, side, side]);
        let images = Tensor::<4>::from_data(data, (device, DType::F32));
        let latents = vae.encode(images)?.mean;
        // The decoder's own colours: what a preview has to foretell.
        let pictures: Vec<f32> = vae.decode(latents.clone())?.into_data().iter().collect();
        let latents = latents.mul_scalar(vae.scaling_factor());
        let latents: Vec<f32> = latents.into_data().iter().collect();
        let mut rows = Vec::new();
        let area = LATENT_SIDE * LATENT_SIDE;
        let pictures = pictures.chunks(3 * side * side);
        for (picture, latents) in pictures.zip(latents.chunks(channels * area)) {
            for pixel in 0..area {
                let inputs: Vec<f64> =
                    (0..channels).map(|c| f64::from(latents[c * area + pixel])).collect();
                rows.push((inputs, mean_colour(picture, side, pixel)));
            }
        }
        Ok(Self { weights: least_squares(&rows, channels), channels })
    }

    /// Pictures of latents `[B, C, h, w]` (as the sampler holds them), [`SCALE`] pixels to a latent.
    pub fn images(&self, latents: Tensor<4>) -> Vec<RgbImage> {
        let [_, channels, height, width] = latents.dims();
        let values: Vec<f32> = latents.into_data().iter().collect();
        let area = height * width;
        let colour = |latents: &[f32], pixel: usize| -> [u8; 3] {
            std::array::from_fn(|rgb| {
                let linear: f64 = (0..channels.min(self.channels))
                    .map(|c| f64::from(latents[c * area + pixel]) * self.weights[c * 3 + rgb])
                    .sum();
                let value = linear + self.weights[self.channels * 3 + rgb];
                ((value / 2.0 + 0.5).clamp(0.0, 1.0) * 255.0).round() as u8
            })
        };
        values
            .chunks(channels * area)
            .map(|latents| {
                RgbImage::from_fn(width as u32 * SCALE, height as u32 * SCALE, |x, y| {
                    let (x, y) = ((x / SCALE) as usize, (y / SCALE) as usize);
                    image::Rgb(colour(latents, y * width + x))
                })
            })
            .collect()
    }
}

/// `[3 * side * side]` from -1 to 1: by turns one plain colour, a gradient between two, and a disc
/// of one on white.
fn picture(index: u64, side: usize) -> Vec<f32> {
    let mut rng = generator(0, Stream::InitialLatents, index);
    let mut colour = || -> [f32; 3] { std::array::from_fn(|_| rng.random_range(-1.0..1.0)) };
    let (from, to) = (colour(), colour());
    let angle = index as f32;
    let radius = 0.2 + 0.25 * (0.5 + 0.5 * angle.sin());
    let mut values = Vec::with_capacity(3 * side * side);
    for channel in 0..3 {
        for y in 0..side {
            for x in 0..side {
                let place = |v: usize| (v as f32 + 0.5) / side as f32 - 0.5;
                let (x, y) = (place(x), place(y));
                values.push(match index % 3 {
                    0 => from[channel],
                    1 => {
                        let share = x * angle.cos() + y * angle.sin() + 0.5;
                        let share = share.clamp(0.0, 1.0);
                        from[channel] * (1.0 - share) + to[channel] * share
                    }
                    _ if x.hypot(y) < radius => from[channel],
                    _ => 1.0,
                });
            }
        }
    }
    values
}

/// Mean colour of the square of a picture that one latent pixel stands for.
fn mean_colour(picture: &[f32], side: usize, pixel: usize) -> [f64; 3] {
    let factor = side / LATENT_SIDE;
    let (x0, y0) = (pixel % LATENT_SIDE * factor, pixel / LATENT_SIDE * factor);
    std::array::from_fn(|channel| {
        let mut sum = 0.0;
        for y in y0..y0 + factor {
            for x in x0..x0 + factor {
                sum += f64::from(picture[channel * side * side + y * side + x]);
            }
        }
        sum / (factor * factor) as f64
    })
}

/// Weights `[(C + 1) * 3]` of the linear map from inputs with a constant to colours.
fn least_squares(rows: &[(Vec<f64>, [f64; 3])], channels: usize) -> Vec<f64> {
    let n = channels + 1;
    let mut gram = Mat::<f64>::zeros(n, n);
    let mut cross = Mat::<f64>::zeros(n, 3);
    for (inputs, colour) in rows {
        let inputs: Vec<f64> = inputs.iter().copied().chain([1.0]).collect();
        for i in 0..n {
            for j in 0..n {
                gram[(i, j)] += inputs[i] * inputs[j];
            }
            for rgb in 0..3 {
                cross[(i, rgb)] += inputs[i] * colour[rgb];
            }
        }
    }
    for i in 0..n {
        gram[(i, i)] += RIDGE * rows.len() as f64;
    }
    match gram.llt(Side::Lower) {
        Ok(factor) => {
            let solved = factor.solve(&cross);
            (0..n).flat_map(|i| (0..3).map(move |rgb| (i, rgb))).map(|at| solved[at]).collect()
        }
        // Only values that are not finite get here; grey is then as good as anything.
        Err(_) => vec![0.0; n * 3],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linear_map_is_recovered() {
        let truth = [0.5, -0.25, 1.0, 2.0, 0.0, 0.1, -0.3, 0.2, 0.7];
        let row = |i: usize| {
            let inputs = vec![(i as f64).sin(), (1.7 * i as f64).cos()];
            let colour = std::array::from_fn(|rgb| {
                inputs[0] * truth[rgb] + inputs[1] * truth[3 + rgb] + truth[6 + rgb]
            });
            (inputs, colour)
        };
        let rows: Vec<_> = (0..200).map(row).collect();
        for (found, truth) in least_squares(&rows, 2).iter().zip(truth) {
            assert!((found - truth).abs() < 2e-3, "{found} {truth}");
        }
    }

    #[test]
    fn a_preview_has_four_pixels_to_a_latent_and_the_colour_of_its_weights() {
        let device = crate::model::device::ComputeDevice::cpu().device;
        let preview = LatentPreview { weights: vec![1.0, 0.0, 0.0, 0.0, 0.0, -1.0], channels: 1 };
        let latents = Tensor::<4>::ones([2, 1, 2, 3], &device);
        let images = preview.images(latents);
        assert_eq!(images.len(), 2);
        assert_eq!(images[0].dimensions(), (12, 8));
        assert_eq!(images[0].get_pixel(0, 0).0, [255, 128, 0]);
    }
}
