//! Picks the next images to label from the unlabelled part of a pool.
//!
//! What may be looked at: the embeddings of all pool images, what an adapter trained on the
//! labelled pairs says about them, and the captions of the unlabelled part as one heap without
//! order. Which caption belongs to which unlabelled image is what a label would say, so no
//! strategy sees it.

use burn::tensor::{DType, Device, Tensor, TensorData};
use rand::seq::SliceRandom;
use rayon::prelude::*;

use super::Strategy;
use super::projection_head::{ProjectionHead, read};
use crate::encoder::Modality;
use crate::experiment::{ExperimentError, uncertainty::UnitUncertainty};
use crate::random::{Stream, generator};

/// Captions that an image is held against at most, evenly spread over the heap.
const CAPTIONS_AT_MOST: usize = 4096;
/// Images that meet the captions at once.
const IMAGES_AT_ONCE: usize = 128;

/// Unit rows `[N, D]` of one modality.
#[derive(Debug, Clone, Copy)]
pub struct UnitRows<'a> {
    pub values: &'a [f32],
    pub dim: usize,
}

impl<'a> UnitRows<'a> {
    fn row(&self, index: usize) -> &'a [f32] {
        &self.values[index * self.dim..(index + 1) * self.dim]
    }

    fn len(&self) -> usize {
        self.values.len() / self.dim
    }

    fn gather(&self, rows: &[usize]) -> Vec<f32> {
        rows.iter().flat_map(|&row| self.row(row).iter().copied()).collect()
    }
}

/// What a pick can look at.
pub struct View<'a> {
    /// Unit embeddings of all pool images.
    pub images: UnitRows<'a>,
    /// Whether each pool image is labelled.
    pub labelled: &'a [bool],
    /// Unit embeddings of the captions of the unlabelled images, in no order that says anything;
    /// none where they are not known.
    pub captions: Option<UnitRows<'a>>,
    /// The head trained on the labelled pairs; without one, retrieval is the frozen encoder's.
    pub head: Option<&'a ProjectionHead>,
    /// The encoder's logit scale.
    pub logit_scale: f64,
    /// What the adapter says about every unlabelled image, in the order of the pool.
    pub uncertainty: Option<&'a UnitUncertainty>,
    /// Dropout passes of BALD.
    pub passes: usize,
    pub seed: u64,
    pub device: &'a Device,
}

/// A picked image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pick {
    /// Position in the pool.
    pub image: usize,
    /// What it was picked by, larger first; its distance to everything chosen before for
    /// k-center, its place for random.
    pub score: f64,
}

/// The next `count` images, the most wanted first; fewer where fewer are unlabelled. Equal scores
/// go by position.
///
/// # Errors
/// When the strategy needs what the view does not hold, or the device failed.
pub fn pick(
    strategy: Strategy,
    view: &View<'_>,
    count: usize,
) -> Result<Vec<Pick>, ExperimentError> {
    let open: Vec<usize> = (0..view.images.len()).filter(|&i| !view.labelled[i]).collect();
    let scores = match strategy {
        Strategy::Random => {
            let mut order = open;
            order.shuffle(&mut generator(view.seed, Stream::Resampling, 1));
            let picks = order.into_iter().take(count).enumerate();
            return Ok(picks.map(|(i, image)| Pick { image, score: -(i as f64) }).collect());
        }
        Strategy::KCenter => {
            let labelled: Vec<usize> =
                (0..view.images.len()).filter(|&i| view.labelled[i]).collect();
            return Ok(k_center(view.images, &labelled, &open, count));
        }
        Strategy::Total => view.uncertainty(strategy)?.total.clone(),
        Strategy::Aleatoric => view.uncertainty(strategy)?.aleatoric.clone(),
        Strategy::Epistemic => view.uncertainty(strategy)?.epistemic.clone(),
        Strategy::Margin => view.retrieval(strategy, &open)?.iter().map(|r| -r.margin).collect(),
        Strategy::Entropy => view.retrieval(strategy, &open)?.iter().map(|r| r.entropy).collect(),
        Strategy::Bald => {
            view.retrieval(strategy, &open)?.iter().map(|r| r.mutual_information).collect()
        }
    };
    if scores.len() != open.len() {
        return Err(ExperimentError::Setting {
            what: "the number of uncertainties",
            found: scores.len().to_string(),
            expected: format!("one for each of {} unlabelled images", open.len()),
        });
    }
    let mut picks: Vec<Pick> =
        open.into_iter().zip(scores).map(|(image, score)| Pick { image, score }).collect();
    picks.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.image.cmp(&b.image)));
    picks.truncate(count);
    Ok(picks)
}

impl View<'_> {
    fn missing(strategy: Strategy, needs: &'static str, hint: &'static str) -> ExperimentError {
        let method = format!("the strategy {strategy}");
        ExperimentError::Missing { method, needs, name: "the pool".to_owned(), hint }
    }

    fn uncertainty(&self, strategy: Strategy) -> Result<&UnitUncertainty, ExperimentError> {
        self.uncertainty.ok_or_else(|| {
            Self::missing(strategy, "an adapter for images", "train one, or choose random")
        })
    }

    fn retrieval(
        &self,
        strategy: Strategy,
        open: &[usize],
    ) -> Result<Vec<RetrievalDoubt>, ExperimentError> {
        let captions = self.captions.filter(|captions| captions.len() > 1).ok_or_else(|| {
            Self::missing(
                strategy,
                "captions that the images can look for",
                "choose a strategy that looks at images alone: random, total, aleatoric, \
                 epistemic or k-center",
            )
        })?;
        let dim = self.images.dim;
        let step = captions.len().div_ceil(CAPTIONS_AT_MOST);
        let heap: Vec<usize> = (0..captions.len()).step_by(step).collect();
        let (images, captions) = (self.images.gather(open), captions.gather(&heap));
        let mut networks = Vec::new();
        match (strategy, self.head) {
            (Strategy::Bald, None) => {
                let hint = "label some images first";
                return Err(Self::missing(strategy, "a head trained on labelled pairs", hint));
            }
            (Strategy::Bald, Some(head)) => {
                for pass in 0..self.passes.max(2) as u64 {
                    let project = |modality, rows| head.project(modality, rows, dim, Some(pass));
                    networks.push([
                        project(Modality::Image, &images)?,
                        project(Modality::Text, &captions)?,
                    ]);
                }
            }
            (_, Some(head)) => networks.push([
                head.project(Modality::Image, &images, dim, None)?,
                head.project(Modality::Text, &captions, dim, None)?,
            ]),
            (_, None) => networks.push([images, captions]),
        }
        doubts(&networks, dim, self.logit_scale, self.device)
    }
}

/// How undecided one image is between captions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::experiment) struct RetrievalDoubt {
    /// Entropy of the mean softmax in nats.
    pub entropy: f64,
    /// Difference of its two largest probabilities.
    pub margin: f64,
    /// Entropy of the mean softmax less the mean entropy over networks, in nats; 0 for one.
    pub mutual_information: f64,
}

/// Doubts of every image, from unit images `[N, D]` and captions `[C, D]` of each network.
pub(in crate::experiment) fn doubts(
    networks: &[[Vec<f32>; 2]],
    dim: usize,
    scale: f64,
    device: &Device,
) -> Result<Vec<RetrievalDoubt>, ExperimentError> {
    let tensor = |values: &[f32]| -> Tensor<2> {
        let data = TensorData::new(values.to_vec(), [values.len() / dim, dim]);
        Tensor::from_data(data, (device, DType::F32))
    };
    let captions: Vec<Tensor<2>> = networks.iter().map(|n| tensor(&n[1]).transpose()).collect();
    let gallery = networks[0][1].len() / dim;
    let images = networks[0][0].len() / dim;
    let mut found = Vec::with_capacity(images);
    for start in (0..images).step_by(IMAGES_AT_ONCE) {
        let end = (start + IMAGES_AT_ONCE).min(images);
        let mut mean = vec![0f64; (end - start) * gallery];
        let mut mean_entropy = vec![0f64; end - start];
        for (network, captions) in networks.iter().zip(&captions) {
            let cosines = tensor(&network[0][start * dim..end * dim]).matmul(captions.clone());
            let cosines = read(cosines)?;
            let share = 1.0 / networks.len() as f64;
            mean.par_chunks_mut(gallery)
                .zip(cosines.par_chunks(gallery))
                .zip(&mut mean_entropy)
                .for_each(|((mean, cosines), mean_entropy)| {
                    let probabilities = softmax(cosines, scale);
                    *mean_entropy += share * entropy(&probabilities);
                    mean.iter_mut().zip(probabilities).for_each(|(m, p)| *m += share * p);
                });
        }
        found.par_extend(mean.par_chunks(gallery).zip(&mean_entropy).map(|(mean, &within)| {
            let entropy = entropy(mean);
            let (mut first, mut second) = (0.0, 0.0);
            for &p in mean {
                if p > first {
                    (first, second) = (p, first);
                } else if p > second {
                    second = p;
                }
            }
            let mutual_information = (entropy - within).max(0.0);
            RetrievalDoubt { entropy, margin: first - second, mutual_information }
        }));
    }
    Ok(found)
}

fn softmax(cosines: &[f32], scale: f64) -> Vec<f64> {
    let most = cosines.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut weights: Vec<f64> =
        cosines.iter().map(|&c| (scale * (f64::from(c) - f64::from(most))).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.iter_mut().for_each(|w| *w /= sum);
    weights
}

fn entropy(probabilities: &[f64]) -> f64 {
    probabilities.iter().filter(|&&p| p > 0.0).map(|p| -p * p.ln()).sum()
}

/// Greedy k-center on the unit sphere: the image farthest (in cosine) from everything labelled or
/// picked, again and again. With nothing labelled it begins at the image nearest to the mean.
fn k_center(images: UnitRows<'_>, labelled: &[usize], open: &[usize], count: usize) -> Vec<Pick> {
    let mut nearest = vec![f64::INFINITY; open.len()];
    let closer = |nearest: &mut Vec<f64>, centre: &[f32]| {
        nearest.par_iter_mut().zip(open).with_min_len(256).for_each(|(distance, &image)| {
            *distance = distance.min(1.0 - dot(images.row(image), centre));
        });
    };
    labelled.iter().for_each(|&centre| closer(&mut nearest, images.row(centre)));
    let mut picks: Vec<Pick> = Vec::with_capacity(count.min(open.len()));
    let mut is_picked = vec![false; open.len()];
    while picks.len() < count.min(open.len()) {
        let first = labelled.is_empty() && picks.is_empty();
        let by_mean: Vec<f64> = match first {
            true => {
                let mut mean = vec![0f32; images.dim];
                for &image in open {
                    mean.iter_mut().zip(images.row(image)).for_each(|(m, v)| *m += v);
                }
                open.iter().map(|&image| dot(images.row(image), &mean)).collect()
            }
            false => Vec::new(),
        };
        let score = |i: usize| if first { by_mean[i] } else { nearest[i] };
        let best = (0..open.len())
            .filter(|&i| !is_picked[i])
            .max_by(|&a, &b| score(a).total_cmp(&score(b)).then(b.cmp(&a)));
        let Some(best) = best else { break };
        is_picked[best] = true;
        let score = if first { 2.0 } else { nearest[best] };
        picks.push(Pick { image: open[best], score });
        closer(&mut nearest, images.row(open[best]));
    }
    picks
}

/// In eight lanes, so that the compiler may use vectors; the order of sums is fixed.
fn dot(a: &[f32], b: &[f32]) -> f64 {
    let (a_lanes, a_rest) = a.as_chunks::<8>();
    let (b_lanes, b_rest) = b.as_chunks::<8>();
    let mut sums = [0f32; 8];
    for (a, b) in a_lanes.iter().zip(b_lanes) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    f64::from(sums.iter().sum::<f32>() + rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::device::ComputeDevice;

    fn view<'a>(images: &'a [f32], labelled: &'a [bool], device: &'a Device) -> View<'a> {
        View {
            images: UnitRows { values: images, dim: 2 },
            labelled,
            captions: None,
            head: None,
            logit_scale: 10.0,
            uncertainty: None,
            passes: 4,
            seed: 3,
            device,
        }
    }

    fn circle(degrees: &[f32]) -> Vec<f32> {
        degrees.iter().flat_map(|d| [d.to_radians().cos(), d.to_radians().sin()]).collect()
    }

    fn images(picks: &[Pick]) -> Vec<usize> {
        picks.iter().map(|pick| pick.image).collect()
    }

    #[test]
    fn k_center_goes_where_nothing_is_labelled_and_covers_every_cluster() {
        let device = ComputeDevice::cpu().device;
        // Three clusters of three around 0, 120 and 240 degrees; one of the first is labelled.
        let rows = circle(&[0.0, 1.0, 2.0, 120.0, 121.0, 119.0, 240.0, 241.0, 242.0]);
        let mut labelled = [false; 9];
        labelled[0] = true;
        let found = pick(Strategy::KCenter, &view(&rows, &labelled, &device), 2).unwrap();
        let clusters: Vec<usize> = images(&found).iter().map(|i| i / 3).collect();
        assert!(clusters == [1, 2] || clusters == [2, 1], "{clusters:?}");
        let all = pick(Strategy::KCenter, &view(&rows, &labelled, &device), 99).unwrap();
        let mut sorted = images(&all);
        sorted.sort_unstable();
        assert_eq!(sorted, [1, 2, 3, 4, 5, 6, 7, 8]);
        assert!(all.windows(2).all(|w| w[0].score >= w[1].score), "{all:?}");
        let unlabelled = pick(Strategy::KCenter, &view(&rows, &[false; 9], &device), 3).unwrap();
        let mut clusters: Vec<usize> = images(&unlabelled).iter().map(|i| i / 3).collect();
        clusters.sort_unstable();
        assert_eq!(clusters, [0, 1, 2]);
    }

    #[test]
    fn uncertainty_strategies_take_the_part_they_are_named_after() {
        let device = ComputeDevice::cpu().device;
        let rows = circle(&[0.0, 10.0, 20.0, 30.0]);
        let labelled = [false, true, false, false];
        let uncertainty = UnitUncertainty {
            total: vec![3.0, 2.0, 3.0],
            aleatoric: vec![2.5, 0.5, 2.9],
            epistemic: vec![0.5, 1.5, 0.1],
        };
        let mut view = view(&rows, &labelled, &device);
        let missing = pick(Strategy::Total, &view, 1).unwrap_err().to_string();
        assert!(missing.contains("an adapter for images"), "{missing}");
        view.uncertainty = Some(&uncertainty);
        assert_eq!(images(&pick(Strategy::Total, &view, 3).unwrap()), [0, 3, 2]);
        assert_eq!(images(&pick(Strategy::Aleatoric, &view, 1).unwrap()), [3]);
        assert_eq!(images(&pick(Strategy::Epistemic, &view, 1).unwrap()), [2]);
        let first = pick(Strategy::Random, &view, 3).unwrap();
        assert_eq!(first, pick(Strategy::Random, &view, 3).unwrap());
        assert!(!images(&first).contains(&1) && first.len() == 3);
    }

    #[test]
    fn margin_and_entropy_ask_for_the_image_between_captions() {
        let device = ComputeDevice::cpu().device;
        // The second image is half way between the two captions, the others stand on one.
        let rows = circle(&[0.0, 45.0, 90.0]);
        let captions = circle(&[0.0, 90.0]);
        let labelled = [false; 3];
        let mut view = view(&rows, &labelled, &device);
        let missing = pick(Strategy::Entropy, &view, 1).unwrap_err().to_string();
        assert!(missing.contains("captions") && missing.contains("k-center"), "{missing}");
        view.captions = Some(UnitRows { values: &captions, dim: 2 });
        for strategy in [Strategy::Margin, Strategy::Entropy] {
            assert_eq!(pick(strategy, &view, 1).unwrap()[0].image, 1, "{strategy}");
        }
        let missing = pick(Strategy::Bald, &view, 1).unwrap_err().to_string();
        assert!(missing.contains("label some images first"), "{missing}");
    }

    #[test]
    fn mutual_information_is_where_networks_disagree() {
        let device = ComputeDevice::cpu().device;
        let captions = circle(&[0.0, 90.0]);
        // Both networks are torn about the first image; about the second each is sure of another
        // caption.
        let networks =
            [[circle(&[45.0, 0.0]), captions.clone()], [circle(&[45.0, 90.0]), captions]];
        let found = doubts(&networks, 2, 50.0, &device).unwrap();
        assert!((found[0].entropy - 2f64.ln()).abs() < 1e-4, "{found:?}");
        assert!(found[0].mutual_information < 1e-6, "{found:?}");
        assert!((found[1].mutual_information - 2f64.ln()).abs() < 1e-6, "{found:?}");
        let alone = doubts(&networks[..1], 2, 50.0, &device).unwrap();
        assert!(alone[1].mutual_information == 0.0 && alone[1].margin > 0.99, "{alone:?}");
    }
}
