//! Methods that need no training by gradient descent: densities of the training embeddings,
//! augmented copies, and BayesVLM's posterior of the projection layers.

use rayon::prelude::*;

use crate::adapter::bayesvlm::{BayesVlm, FitOptions, PairedFeatures, probit_softmax};
use crate::adapter::training::Rows;
use crate::encoder::Modality;
use crate::experiment::density::{DEFAULT_NEIGHBOURS, KnnDensity, MahalanobisDensity};
use crate::experiment::method::{FittedMethod, Method, Scores};
use crate::experiment::pairs::PooledFeatures;
use crate::experiment::retrieval::{Direction, RetrievalPair, cosines};
use crate::experiment::{EmbeddedPairs, ExperimentError};

/// Distance to the training embeddings of the same modality.
pub enum Density {
    Knn { image: KnnDensity, text: KnnDensity },
    Mahalanobis { image: MahalanobisDensity, text: MahalanobisDensity },
}

impl Density {
    /// Nearest neighbours.
    ///
    /// # Errors
    /// As [`KnnDensity::fit`].
    pub fn knn(training: &EmbeddedPairs) -> Result<Self, ExperimentError> {
        let fit = |modality| KnnDensity::fit(training, modality, DEFAULT_NEIGHBOURS);
        Ok(Density::Knn { image: fit(Modality::Image)?, text: fit(Modality::Text)? })
    }

    /// One Gaussian per modality.
    ///
    /// # Errors
    /// As [`MahalanobisDensity::fit`].
    pub fn mahalanobis(training: &EmbeddedPairs) -> Result<Self, ExperimentError> {
        let fit = |modality| MahalanobisDensity::fit(training, modality);
        Ok(Density::Mahalanobis { image: fit(Modality::Image)?, text: fit(Modality::Text)? })
    }
}

impl FittedMethod for Density {
    fn score(
        &self,
        pairs: &EmbeddedPairs,
        _retrieval: &RetrievalPair,
        modality: Modality,
    ) -> Result<Scores, ExperimentError> {
        let rows = pairs.matrix(modality);
        Ok(Scores::whole(match (self, modality) {
            (Density::Knn { image, .. }, Modality::Image) => image.score(&rows)?,
            (Density::Knn { text, .. }, Modality::Text) => text.score(&rows)?,
            (Density::Mahalanobis { image, .. }, Modality::Image) => image.score(&rows)?,
            (Density::Mahalanobis { text, .. }, Modality::Text) => text.score(&rows)?,
        }))
    }
}

/// Test-time data augmentation: the variance over augmented copies, as the cache holds it.
pub struct Augmentation;

impl FittedMethod for Augmentation {
    fn score(
        &self,
        pairs: &EmbeddedPairs,
        _retrieval: &RetrievalPair,
        modality: Modality,
    ) -> Result<Scores, ExperimentError> {
        let Some(augmented) = &pairs.store().augmented else {
            return Err(ExperimentError::Missing {
                method: Method::Ttda.label().to_owned(),
                needs: "the variance over augmented copies",
                name: pairs.name().to_owned(),
                hint: "embed the data set again with --augment 10",
            });
        };
        let variances = match modality {
            Modality::Image => &augmented.images,
            Modality::Text => &augmented.texts,
        };
        let of = |position| f64::from(variances[pairs.row_of(modality, position)]);
        Ok(Scores::whole((0..pairs.count(modality)).map(of).collect()))
    }
}

/// BayesVLM (arXiv 2412.06014): the total is the entropy of the probit-adjusted softmax of the
/// ProbCosines with the gallery, the epistemic part the mean variance of the unit embedding.
pub struct Posterior {
    model: BayesVlm,
}

impl Posterior {
    /// Estimates the posterior from the training pairs, one caption of each image.
    ///
    /// # Errors
    /// When the pairs hold no features before the projections, or too few.
    pub fn fit(training: &EmbeddedPairs) -> Result<Self, ExperimentError> {
        let pooled = pooled(training)?;
        let raw = |modality| training.rows(modality).clone().into_raw();
        let (images, texts) = (raw(Modality::Image), raw(Modality::Text));
        let data = PairedFeatures {
            image_features: Rows::stored(&pooled.images)?,
            image_embeddings: Rows::stored(&images)?,
            text_features: Rows::stored(&pooled.texts)?,
            text_embeddings: Rows::stored(&texts)?,
            pairs: (0..training.image_count())
                .map(|image| {
                    let caption = training.captions_of(image).start;
                    (
                        training.row_of(Modality::Image, image),
                        training.row_of(Modality::Text, caption),
                    )
                })
                .collect(),
        };
        let scale = training.logit_scale();
        Ok(Self { model: BayesVlm::fit(&data, &FitOptions::new(scale))? })
    }

    /// Means and variances of the raw embeddings of one modality.
    fn side(&self, pairs: &EmbeddedPairs, modality: Modality) -> Result<Side, ExperimentError> {
        let pooled = pooled(pairs)?;
        let features = match modality {
            Modality::Image => &pooled.images,
            Modality::Text => &pooled.texts,
        };
        let (count, dim) = (pairs.count(modality), pairs.dim());
        let rows = pairs.rows(modality).clone().into_raw();
        let posterior = self.model.posterior(modality);
        let mut values = vec![0f32; count * features.dim()];
        for (position, out) in values.chunks_exact_mut(features.dim()).enumerate() {
            let row = pairs.row_of(modality, position);
            features.read(row..row + 1, features.dim(), out);
        }
        let input = posterior.input_variance(&values, features.dim())?;
        let mut side = Side {
            mean: Vec::with_capacity(count * dim),
            square: Vec::with_capacity(count * dim),
            variance: Vec::with_capacity(count * dim),
            second_moment: Vec::with_capacity(count),
            unit_variance: Vec::with_capacity(count),
            dim,
        };
        for (position, input) in input.into_iter().enumerate() {
            let mean = rows.row(pairs.row_of(modality, position));
            let variance = posterior.b_diagonal().iter().map(|b| (input * b) as f32);
            let start = side.variance.len();
            side.variance.extend(variance);
            side.square.extend(mean.iter().map(|m| m * m));
            let total = |values: &[f32]| values.iter().map(|&v| f64::from(v)).sum::<f64>();
            let (squares, variances) =
                (total(&side.square[start..]), total(&side.variance[start..]));
            side.second_moment.push(squares + variances);
            side.unit_variance.push(variances / squares.max(f64::MIN_POSITIVE) / dim as f64);
            side.mean.extend(mean);
        }
        Ok(side)
    }
}

/// Gaussian embeddings of one modality, `[N, D]` each.
struct Side {
    mean: Vec<f32>,
    square: Vec<f32>,
    variance: Vec<f32>,
    /// E|z|², `[N]`.
    second_moment: Vec<f64>,
    /// Mean over dimensions of the variance, over the squared norm, `[N]`.
    unit_variance: Vec<f64>,
    dim: usize,
}

impl FittedMethod for Posterior {
    fn score(
        &self,
        pairs: &EmbeddedPairs,
        retrieval: &RetrievalPair,
        modality: Modality,
    ) -> Result<Scores, ExperimentError> {
        let direction = Direction::asked_by(modality);
        let queries = self.side(pairs, modality)?;
        let gallery = self.side(pairs, direction.gallery())?;
        let scale = retrieval.logit_scale;
        let dim = queries.dim;
        let row = |values: &[f32], i: usize| values[i * dim..(i + 1) * dim].to_vec();
        let total = (0..queries.second_moment.len())
            .into_par_iter()
            .map(|i| {
                // ProbCosine (`prob_cosine`) as products with the whole gallery:
                // var = [Σ (μq² + σq²) σg² + Σ σq² μg²] / (E|q|² E|g|²).
                let second: Vec<f32> = row(&queries.square, i)
                    .into_iter()
                    .zip(row(&queries.variance, i))
                    .map(|(s, v)| s + v)
                    .collect();
                let mean = row(&queries.mean, i);
                let variance = row(&queries.variance, i);
                let products = cosines(&mean, &gallery.mean, dim);
                let first = cosines(&second, &gallery.variance, dim);
                let rest = cosines(&variance, &gallery.square, dim);
                let (means, variances): (Vec<f64>, Vec<f64>) = products
                    .zip(first.zip(rest))
                    .zip(&gallery.second_moment)
                    .map(|((product, (first, rest)), moment)| {
                        let norm = queries.second_moment[i] * moment;
                        (scale * product / norm.sqrt(), scale * scale * (first + rest) / norm)
                    })
                    .unzip();
                let entropy = |p: f64| if p > 0.0 { -p * p.ln() } else { 0.0 };
                probit_softmax(&means, &variances).into_iter().map(entropy).sum()
            })
            .collect();
        Ok(Scores { total, aleatoric: None, epistemic: Some(queries.unit_variance) })
    }
}

fn pooled(pairs: &EmbeddedPairs) -> Result<&PooledFeatures, ExperimentError> {
    pairs.store().pooled.as_ref().ok_or_else(|| ExperimentError::Missing {
        method: Method::BayesVlm.label().to_owned(),
        needs: "the features before the encoder's projections",
        name: pairs.name().to_owned(),
        hint: "embed the data set again with --pooled",
    })
}
