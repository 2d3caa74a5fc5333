use std::path::Path;

use burn::tensor::DType;

use super::*;
use crate::distribution::{MatchProbability, sampled_match_probability};
use crate::model::device::ComputeDevice;
use crate::random::{Stream, standard_normal};
use crate::verify::Case;

/// A batch in f64, and the outputs that go with it.
struct Setup {
    texts: Vec<f64>,
    images: Vec<f64>,
    /// Which image each text has; equal numbers are one image.
    image_of: Vec<usize>,
    text_output: Vec<f64>,
    image_output: Vec<f64>,
    scalars: [f64; 2],
    noise: Option<[Vec<f64>; 2]>,
    sides: [bool; 2],
}

impl Setup {
    fn dim(&self) -> usize {
        self.texts.len() / self.image_of.len()
    }

    fn batch(&self) -> PairBatch {
        let device = ComputeDevice::cpu().device.autodiff();
        let count = self.image_of.len();
        let tensor = |values: &[f64]| -> Tensor<2> {
            let data = TensorData::new(values.to_vec(), [count, values.len() / count]);
            Tensor::from_data(data, (&device, DType::F64))
        };
        let square = |same: &dyn Fn(usize, usize) -> bool| {
            let pairs = (0..count).flat_map(|i| (0..count).map(move |j| (i, j)));
            tensor(&pairs.map(|(i, j)| f64::from(u8::from(same(i, j)))).collect::<Vec<_>>())
        };
        PairBatch {
            texts: tensor(&self.texts),
            images: tensor(&self.images),
            matches: square(&|i, j| self.image_of[i] == self.image_of[j]),
            identity: square(&|i, j| i == j),
            noise: self.noise.as_ref().map(|[text, image]| [tensor(text), tensor(image)]),
        }
    }

    fn outputs(&self) -> Outputs {
        let device = ComputeDevice::cpu().device;
        let count = self.image_of.len();
        let tensor = |values: &[f64]| -> Tensor<2> {
            let data = TensorData::new(values.to_vec(), [count, values.len() / count]);
            Tensor::from_data(data, (&device, DType::F64))
        };
        let scalars = TensorData::new(self.scalars.to_vec(), [2]);
        Outputs {
            text: self.sides[0].then(|| tensor(&self.text_output)),
            image: self.sides[1].then(|| tensor(&self.image_output)),
            scalars: Tensor::from_data(scalars, (&device, DType::F64)),
        }
    }

    fn gradients(&self, kind: PairwiseKind, vib_weight: f64) -> PairGradients {
        gradients(kind, vib_weight, &self.batch(), &self.outputs()).unwrap()
    }

    fn loss(&self, kind: PairwiseKind, vib_weight: f64) -> f64 {
        self.gradients(kind, vib_weight).loss
    }

    fn text(&self, i: usize) -> &[f64] {
        &self.texts[i * self.dim()..][..self.dim()]
    }

    fn image(&self, i: usize) -> &[f64] {
        &self.images[i * self.dim()..][..self.dim()]
    }
}

fn normals(index: u64, len: usize) -> Vec<f64> {
    standard_normal(9, Stream::Resampling, index, len).into_iter().map(f64::from).collect()
}

fn unit_rows(mut values: Vec<f64>, dim: usize) -> Vec<f64> {
    for row in values.chunks_mut(dim) {
        let length = row.iter().map(|x| x * x).sum::<f64>().sqrt();
        row.iter_mut().for_each(|x| *x /= length);
    }
    values
}

/// Five pairs, the second and the fourth with the same image.
fn setup(kind: PairwiseKind, dim: usize) -> Setup {
    let image_of = vec![0, 1, 2, 1, 3];
    let count = image_of.len();
    let images = unit_rows(normals(0, 4 * dim), dim);
    let images: Vec<f64> =
        image_of.iter().flat_map(|&i| images[i * dim..][..dim].to_vec()).collect();
    let noise = normals(1, count * dim);
    let texts = unit_rows(images.iter().zip(&noise).map(|(x, n)| x + 0.1 * n).collect(), dim);
    let (scale, shift) = match kind.spherical() {
        Some(_) => (1.5, 0.0),
        None => (0.5, -3.0),
    };
    let output = |index| normals(index, count * dim).iter().map(|n| scale * n + shift).collect();
    let samples = 3;
    Setup {
        texts,
        images,
        image_of,
        text_output: output(2),
        image_output: output(3),
        scalars: if kind.spherical().is_some() { [0.7, 1.3] } else { [2.5, 1.8] },
        noise: (kind == PairwiseKind::Pcme)
            .then(|| [normals(4, count * samples * dim), normals(5, count * samples * dim)]),
        sides: [true, true],
    }
}

fn squared_distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum()
}

/// Binary cross entropy of a logit, in f64.
fn bce(logit: f64, label: f64) -> f64 {
    let ln_sigmoid = |x: f64| -(-x).exp().ln_1p();
    -label * ln_sigmoid(logit) - (1.0 - label) * ln_sigmoid(-logit)
}

#[test]
fn gradients_are_the_slopes_of_every_loss() {
    for kind in PairwiseKind::ALL {
        let dim = 32;
        let weight = 0.3;
        let found = setup(kind, dim).gradients(kind, weight);
        let values = |t: &Option<Tensor<2>>| read(t.as_ref().unwrap()).unwrap();
        let (text, image) = (values(&found.text), values(&found.image));
        let h = 1e-5;
        let slope = |change: &dyn Fn(&mut Setup, f64)| {
            let at = |step| {
                let mut moved = setup(kind, dim);
                change(&mut moved, step);
                moved.loss(kind, weight)
            };
            (at(h) - at(-h)) / (2.0 * h)
        };
        let check = |got: f64, expected: f64, what: &str| {
            let close = (got - expected).abs() < 1e-6 * (1.0 + expected.abs());
            assert!(close, "{kind} {what}: {got}, expected {expected}");
        };
        for at in [0, 7, 33, 64, 100, 159] {
            check(text[at], slope(&|s, step| s.text_output[at] += step), "text");
            check(image[at], slope(&|s, step| s.image_output[at] += step), "image");
        }
        if kind != PairwiseKind::Pfe {
            let scalars = read(found.scalars.as_ref().unwrap()).unwrap();
            for at in [0, 1] {
                check(scalars[at], slope(&|s, step| s.scalars[at] += step), "scalar");
            }
        }
    }
}

/// Pair (i, j) of the golden case as a batch of one; `None` where a log variance is out of range.
fn golden_pair(case: &Case, i: usize, j: usize) -> Option<Setup> {
    let row = |name: &str, at: usize| {
        let numbers = case.input(name).unwrap();
        let len = numbers.values.len() / numbers.shape[0];
        numbers.values[at * len..][..len].to_vec()
    };
    let (text, image) = (row("logvar1", i), row("logvar2", j));
    let [low, high] = LOG_VARIANCE_RANGE.map(f64::from);
    if text.iter().chain(&image).any(|v| !(low..high).contains(v)) {
        return None;
    }
    Some(Setup {
        texts: row("mu1", i),
        images: row("mu2", j),
        image_of: vec![0],
        text_output: text,
        image_output: image,
        scalars: [1.0, 0.0],
        noise: Some([row("eps1", i), row("eps2", j)]),
        sides: [true, true],
    })
}

#[test]
fn losses_of_one_pair_agree_with_the_golden_distances() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/probvlm/distances");
    let case = Case::open(&folder).unwrap();
    let [scale, shift] = case.input("scale_shift").unwrap().values[..] else { panic!() };
    let expected = |name: &str, i: usize, j: usize| case.expected(name).unwrap().values[i * 7 + j];
    let close = |got: f64, expected: f64, tolerance: f64, what: &str| {
        let good = (got - expected).abs() < tolerance * (1.0 + expected.abs());
        assert!(good, "{what}: {got}, expected {expected}");
    };
    let mut compared = 0;
    for (i, j) in (0..6).flat_map(|i| (0..7).map(move |j| (i, j))) {
        let Some(mut pair) = golden_pair(&case, i, j) else { continue };
        compared += 1;
        let mls = expected("mutual_likelihood", i, j);
        close(pair.loss(PairwiseKind::Pfe, 0.0), -mls / pair.dim() as f64, 1e-9, "PFE");

        // One matched pair: 2 + 2 * 0.1 times its cross entropy.
        pair.scalars = [0.2, 3.0];
        let logit = 3.0 - 0.2 * expected("csd", i, j);
        let entropy = 2.2 * bce(logit, 1.0 - LABEL_SMOOTHING);
        close(pair.loss(PairwiseKind::PcmePlusPlus, 0.0), entropy, 1e-9, "PCME++");

        // PCME's sigmoid takes twice its argument; the case's takes it once.
        pair.scalars = [scale / 2.0, shift / 2.0];
        pair.text_output.iter_mut().for_each(|v| *v /= 2.0);
        pair.image_output.iter_mut().for_each(|v| *v /= 2.0);
        let p = expected("match_probability", i, j);
        close(pair.loss(PairwiseKind::Pcme, 0.0), -p.ln(), 1e-5, "PCME");
    }
    assert!(compared >= 10, "{compared} pairs of the case are in range");
}

#[test]
fn pcme_counts_every_pair_with_its_samples_and_signs() {
    let setup = setup(PairwiseKind::Pcme, 6);
    let [text_noise, image_noise] = setup.noise.clone().unwrap();
    let draw = |mean: &[f64], output: &[f64], noise: &[f64]| -> Vec<Vec<f64>> {
        let each = noise.chunks(6).map(|noise| {
            (0..6).map(|d| mean[d] + noise[d] * output[d].exp()).collect::<Vec<f64>>()
        });
        each.collect()
    };
    let mut total = 0.0;
    for i in 0..5 {
        for j in 0..5 {
            let texts =
                draw(setup.text(i), &setup.text_output[i * 6..], &text_noise[i * 18..][..18]);
            let images =
                draw(setup.image(j), &setup.image_output[j * 6..], &image_noise[j * 18..][..18]);
            let probability =
                MatchProbability { scale: 2.0 * setup.scalars[0], shift: 2.0 * setup.scalars[1] };
            let p = sampled_match_probability(&texts, &images, probability).unwrap();
            let matched = setup.image_of[i] == setup.image_of[j];
            total -= if matched { p.ln() } else { (1.0 - p).ln() };
        }
    }
    let moments = |means: &[f64], outputs: &[f64]| -> f64 {
        let each =
            means.iter().zip(outputs).map(|(m, o)| (m * m + (2.0 * o).exp() - 1.0) / 2.0 - o);
        each.sum()
    };
    let divergence =
        moments(&setup.texts, &setup.text_output) + moments(&setup.images, &setup.image_output);
    let expected = total / 25.0 + 0.3 * divergence / 50.0;
    let got = setup.loss(PairwiseKind::Pcme, 0.3);
    assert!((got - expected).abs() < 1e-4 * expected, "{got} {expected}");
}

#[test]
fn pcme_gives_the_same_in_pieces() {
    let setup = setup(PairwiseKind::Pcme, 6);
    let (batch, outputs) = (setup.batch(), setup.outputs());
    let noise = batch.noise.clone().unwrap();
    let total = |bounds: &[usize]| {
        let mut total = PairGradients { loss: 0.0, text: None, image: None, scalars: None };
        for bound in bounds.windows(2) {
            let range = bound[0]..bound[1];
            total.add(&outputs, |o| soft_contrastive(&batch, &noise, range, o)).unwrap();
        }
        (total.loss, read(&total.text.unwrap()).unwrap(), read(&total.image.unwrap()).unwrap())
    };
    let (whole, parts) = (total(&[0, 5]), total(&[0, 2, 5]));
    assert!((whole.0 - parts.0).abs() < 1e-12);
    for (a, b) in whole.1.iter().zip(&parts.1).chain(whole.2.iter().zip(&parts.2)) {
        assert!((a - b).abs() < 1e-12);
    }
}

#[test]
fn pcme_plus_plus_takes_what_is_nearer_than_the_match_for_a_match() {
    let mut setup = setup(PairwiseKind::PcmePlusPlus, 6);
    // Text 0 lies on image 2: the pair is nearer than its own.
    let stolen = setup.image(2).to_vec();
    setup.texts[..6].copy_from_slice(&stolen);
    let spread = |output: &[f64]| output.iter().map(|v| v.exp()).sum::<f64>();
    let logit = |i: usize, j: usize| {
        let d = squared_distance(setup.text(i), setup.image(j))
            + spread(&setup.text_output[i * 6..][..6])
            + spread(&setup.image_output[j * 6..][..6]);
        setup.scalars[1] - setup.scalars[0] * d
    };
    let smooth = |label: bool| if label { 1.0 - LABEL_SMOOTHING } else { LABEL_SMOOTHING };
    let (mut plain, mut pseudo, mut found) = (0.0, 0.0, 0);
    for i in 0..5 {
        for j in 0..5 {
            let (x, matched) = (logit(i, j), setup.image_of[i] == setup.image_of[j]);
            plain += bce(x, smooth(matched));
            for of_match in [logit(i, i), logit(j, j)] {
                let near = matched || x >= of_match;
                found += usize::from(near && !matched);
                pseudo += bce(x, smooth(near));
            }
        }
    }
    assert!(found > 0);
    let expected = (2.0 * plain + 0.1 * pseudo) / 25.0;
    let got = setup.loss(PairwiseKind::PcmePlusPlus, 0.0);
    assert!((got - expected).abs() < 1e-10, "{got} {expected}");
}

#[test]
fn asymvlm_is_a_cross_entropy_both_ways_whose_targets_are_all_matches() {
    for kind in [PairwiseKind::AsymVmf, PairwiseKind::AsymPowerSpherical] {
        let family = kind.spherical().unwrap();
        let mut setup = setup(kind, 16);
        setup.sides = [true, false];
        let mut logits = [[0f64; 5]; 5];
        for (i, row) in logits.iter_mut().enumerate() {
            let eta = &setup.text_output[i * 16..][..16];
            let kappa = eta.iter().map(|e| e * e).sum::<f64>().sqrt();
            for (j, logit) in row.iter_mut().enumerate() {
                let dot: f64 = eta.iter().zip(setup.image(j)).map(|(e, x)| e * x).sum();
                let log_density = match family {
                    Spherical::VonMisesFisher => dot,
                    Spherical::Power => kappa * (dot / kappa).ln_1p(),
                } + family.log_normaliser(16, kappa).0;
                *logit = setup.scalars[0] * log_density;
            }
        }
        let columns: [[f64; 5]; 5] = std::array::from_fn(|j| std::array::from_fn(|i| logits[i][j]));
        let cross_entropy = |rows: &[[f64; 5]; 5]| -> f64 {
            let each = rows.iter().enumerate().map(|(i, row)| {
                let ln_sum = row.iter().map(|x| x.exp()).sum::<f64>().ln();
                let matches: Vec<usize> =
                    (0..5).filter(|&j| setup.image_of[i] == setup.image_of[j]).collect();
                let sum: f64 = matches.iter().map(|&j| row[j] - ln_sum).sum();
                -sum / matches.len() as f64
            });
            each.sum::<f64>() / 5.0
        };
        let expected = 0.5 * (cross_entropy(&logits) + cross_entropy(&columns));
        let found = setup.gradients(kind, 0.0);
        assert!((found.loss - expected).abs() < 1e-9, "{kind} {} {expected}", found.loss);
        assert!(found.image.is_none());
    }
}
