//! Group and layer normalisation.

use rayon::prelude::*;

use super::TASK;
use super::activation::silu;
use super::simd::vectorised;

/// Lanes of the widest vector.
const LANES: usize = 16;

/// What follows the normalisation of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    Nothing,
    Silu,
}

/// Scale, shift and shape of a group norm.
#[derive(Debug, Clone)]
pub struct GroupNorm {
    /// `[C]`.
    pub gamma: Vec<f32>,
    /// `[C]`.
    pub beta: Vec<f32>,
    pub groups: usize,
    pub epsilon: f64,
}

impl GroupNorm {
    /// Normalises `x` `[B, pixels, C]` per image and group of channels.
    pub fn forward(&self, x: &[f32], pixels: usize, then: Then) -> Vec<f32> {
        let channels = self.gamma.len();
        let image = pixels * channels;
        // Per-channel vectors are repeated to a multiple of the widest vector.
        let period = channels * (LANES / gcd(channels, LANES));
        let task = TASK.next_multiple_of(period);
        let tasks: Vec<(usize, &[f32])> = x
            .chunks_exact(image)
            .enumerate()
            .flat_map(|(image, values)| values.chunks(task).map(move |part| (image, part)))
            .collect();

        let zero = vec![0.0; period];
        let sums: Vec<Vec<f32>> = tasks
            .par_iter()
            .map(|(_, part)| {
                let mut sums = vec![0.0; period];
                add_deviations(&mut sums, part, &zero);
                sums
            })
            .collect();
        let means = self.per_group(&tasks, &sums, x.len() / image, pixels);
        let shifts: Vec<Vec<f32>> = means.iter().map(|means| self.spread(means, period)).collect();

        let sums: Vec<Vec<f32>> = tasks
            .par_iter()
            .map(|&(image, part)| {
                let mut sums = vec![0.0; period];
                add_squared_deviations(&mut sums, part, &shifts[image]);
                sums
            })
            .collect();
        let variances = self.per_group(&tasks, &sums, x.len() / image, pixels);

        // gamma (x - mean) / sqrt(variance + epsilon) + beta, as one product and one sum.
        let affine: Vec<(Vec<f32>, Vec<f32>)> = means
            .iter()
            .zip(&variances)
            .map(|(means, variances)| {
                let size = channels / self.groups;
                let scale = |c: usize| {
                    f64::from(self.gamma[c]) / (variances[c / size] + self.epsilon).sqrt()
                };
                let shift = |c: usize| f64::from(self.beta[c]) - means[c / size] * scale(c);
                (
                    (0..period).map(|i| scale(i % channels) as f32).collect(),
                    (0..period).map(|i| shift(i % channels) as f32).collect(),
                )
            })
            .collect();
        let mut out = vec![0.0; x.len()];
        let mut parts = Vec::with_capacity(tasks.len());
        for image in out.chunks_exact_mut(image) {
            parts.extend(image.chunks_mut(task));
        }
        parts.into_par_iter().zip(&tasks).for_each(|(out, &(image, part))| {
            let (scale, shift) = &affine[image];
            match then {
                Then::Nothing => scale_shift(out, part, scale, shift),
                Then::Silu => scale_shift_silu(out, part, scale, shift),
            }
        });
        out
    }

    /// Averages of per-channel sums over each group, `[images][groups]`.
    fn per_group(
        &self,
        tasks: &[(usize, &[f32])],
        sums: &[Vec<f32>],
        images: usize,
        pixels: usize,
    ) -> Vec<Vec<f64>> {
        let channels = self.gamma.len();
        let size = channels / self.groups;
        let mut groups = vec![vec![0.0; self.groups]; images];
        for ((image, _), sums) in tasks.iter().zip(sums) {
            for (i, &sum) in sums.iter().enumerate() {
                groups[*image][i % channels / size] += f64::from(sum);
            }
        }
        let count = (pixels * size) as f64;
        groups.iter_mut().flatten().for_each(|sum| *sum /= count);
        groups
    }

    fn spread(&self, groups: &[f64], period: usize) -> Vec<f32> {
        let channels = self.gamma.len();
        let size = channels / self.groups;
        (0..period).map(|i| groups[i % channels / size] as f32).collect()
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

vectorised! {
    fn add_deviations(sums: &mut [f32], x: &[f32], centre: &[f32]) {
        for x in x.chunks(sums.len()) {
            let (sums, centre) = (&mut sums[..x.len()], &centre[..x.len()]);
            for i in 0..x.len() {
                sums[i] += x[i] - centre[i];
            }
        }
    }
}

vectorised! {
    fn add_squared_deviations(sums: &mut [f32], x: &[f32], centre: &[f32]) {
        for x in x.chunks(sums.len()) {
            let (sums, centre) = (&mut sums[..x.len()], &centre[..x.len()]);
            for i in 0..x.len() {
                let deviation = x[i] - centre[i];
                sums[i] += deviation * deviation;
            }
        }
    }
}

vectorised! {
    fn scale_shift(out: &mut [f32], x: &[f32], scale: &[f32], shift: &[f32]) {
        for (out, x) in out.chunks_mut(scale.len()).zip(x.chunks(scale.len())) {
            let n = x.len().min(out.len());
            let (out, x) = (&mut out[..n], &x[..n]);
            let (scale, shift) = (&scale[..n], &shift[..n]);
            for i in 0..n {
                out[i] = x[i] * scale[i] + shift[i];
            }
        }
    }
}

vectorised! {
    fn scale_shift_silu(out: &mut [f32], x: &[f32], scale: &[f32], shift: &[f32]) {
        for (out, x) in out.chunks_mut(scale.len()).zip(x.chunks(scale.len())) {
            let n = x.len().min(out.len());
            let (out, x) = (&mut out[..n], &x[..n]);
            let (scale, shift) = (&scale[..n], &shift[..n]);
            for i in 0..n {
                out[i] = silu(x[i] * scale[i] + shift[i]);
            }
        }
    }
}

vectorised! {
    /// Layer norm of rows `[N, C]`: mean 0 and variance 1, then `gamma x + beta`.
    pub fn layer_norm(out: &mut [f32], x: &[f32], gamma: &[f32], beta: &[f32], epsilon: f64) {
        let channels = gamma.len();
        let beta = &beta[..channels];
        for (out, x) in out.chunks_exact_mut(channels).zip(x.chunks_exact(channels)) {
            let (out, x) = (&mut out[..channels], &x[..channels]);
            let mean = (sum_of(x, |x| x) / channels as f64) as f32;
            let variance = sum_of(x, |x| (x - mean) * (x - mean)) / channels as f64;
            let scale = (variance + epsilon).sqrt().recip() as f32;
            for c in 0..channels {
                out[c] = (x[c] - mean) * scale * gamma[c] + beta[c];
            }
        }
    }
}

/// Sum of a function of every number, in lanes side by side, which the compiler may not introduce
/// by itself.
#[inline(always)]
fn sum_of(x: &[f32], f: impl Fn(f32) -> f32) -> f64 {
    let mut sums = [0f32; LANES];
    let (blocks, rest) = x.as_chunks::<LANES>();
    for block in blocks {
        for i in 0..LANES {
            sums[i] += f(block[i]);
        }
    }
    let mut total = 0.0;
    for sum in sums {
        total += f64::from(sum);
    }
    for &x in rest {
        total += f64::from(f(x));
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, seed: u64) -> Vec<f32> {
        crate::random::standard_normal(seed, crate::random::Stream::Initialisation, 0, count)
    }

    #[test]
    fn every_group_of_every_image_gets_the_mean_and_variance_of_its_affine_map() {
        // More pixels than one task takes; a mean far from zero, where a naive variance fails.
        let (images, pixels, channels, groups) = (2, 3000, 12, 3);
        let x: Vec<f32> =
            numbers(images * pixels * channels, 1).iter().map(|v| v + 300.0).collect();
        let norm = GroupNorm {
            gamma: vec![2.0; channels],
            beta: vec![0.5; channels],
            groups,
            epsilon: 0.0,
        };
        let out = norm.forward(&x, pixels, Then::Nothing);
        let size = channels / groups;
        for image in 0..images {
            for group in 0..groups {
                let values: Vec<f64> = (0..pixels * size)
                    .map(|i| {
                        f64::from(
                            out[(image * pixels + i / size) * channels + group * size + i % size],
                        )
                    })
                    .collect();
                let n = values.len() as f64;
                let mean = values.iter().sum::<f64>() / n;
                let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
                assert!((mean - 0.5).abs() < 2e-4, "{mean}");
                assert!((variance - 4.0).abs() < 1e-3, "{variance}");
            }
        }
        let activated = norm.forward(&x, pixels, Then::Silu);
        assert!(activated.iter().zip(&out).all(|(a, b)| (a - silu(*b)).abs() < 1e-6));
    }

    #[test]
    fn layer_norm_agrees_with_double_precision_for_odd_widths() {
        for channels in [1, 7, 16, 37] {
            let (x, gamma, beta) =
                (numbers(3 * channels, 1), numbers(channels, 2), numbers(channels, 3));
            let mut out = vec![0.0; x.len()];
            layer_norm(&mut out, &x, &gamma, &beta, 1e-5);
            for (row, x) in x.chunks_exact(channels).enumerate() {
                let n = channels as f64;
                let mean = x.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
                let variance = x.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
                for c in 0..channels {
                    let expected = (f64::from(x[c]) - mean) / (variance + 1e-5).sqrt()
                        * f64::from(gamma[c])
                        + f64::from(beta[c]);
                    assert!((f64::from(out[row * channels + c]) - expected).abs() < 1e-5);
                }
            }
        }
    }
}
