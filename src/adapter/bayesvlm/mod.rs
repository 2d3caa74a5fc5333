//! BayesVLM (Baumann et al., ICLR 2026, arXiv 2412.06014): the variance of an embedding from a
//! Laplace approximation of the two projection layers of a trained encoder.
//!
//! In: features just before a projection (`Encoder::pool_texts`, `Encoder::pool_images`).
//! Out: variances of the raw embedding, per dimension, and from those the mean and variance of
//! cosines. Nothing is trained: the posterior comes from the authors' files, or from one pass over
//! cached pairs.
//!
//! | module | what |
//! | --- | --- |
//! | [`factors`] | Kronecker factors and the posterior they stand for |
//! | [`cosine`] | cosines and softmaxes of Gaussian embeddings |
//! | [`fit`] | factors from the user's own pairs |

pub mod cosine;
pub mod factors;
pub mod fit;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use faer::Mat;
use serde::Deserialize;

pub use cosine::{prob_cosine, probit_softmax, unit_variance};
pub use factors::{KroneckerFactors, Posterior};
pub use fit::{FitOptions, PairedFeatures};

use super::AdapterError;
use super::tensor_file::{NamedTensor, read_tensor, write_tensors};
use crate::encoder::Modality;
use crate::files::create_folder;
use crate::model::bare_tensor;
use crate::model::config::read_json;
use crate::model::weights::Weights;

/// Prior and count of the authors' factor files.
pub const PRIOR_FILE: &str = "prior_precision_analytic.json";
/// A file with the buffers `{text,image}_{a_inv,b_diag}`, as in the authors' Hugging Face models.
pub const BUFFERS_FILE: &str = "model.safetensors";
/// More than any projection has inputs or outputs.
const SIZE_LIMIT: usize = 1 << 13;

/// Posteriors of the image and the text projection of one encoder.
#[derive(Debug, Clone, PartialEq)]
pub struct BayesVlm {
    image: Posterior,
    text: Posterior,
}

/// `prior_precision_analytic.json`.
#[derive(Debug, Clone, Copy, Deserialize)]
struct Prior {
    lambda_img: f64,
    n_img: f64,
    lambda_txt: f64,
    n_txt: f64,
}

impl BayesVlm {
    /// The posteriors that two layers' factors stand for.
    ///
    /// # Errors
    /// As [`KroneckerFactors::posterior`], and when the layers have different outputs.
    pub fn new(image: &KroneckerFactors, text: &KroneckerFactors) -> Result<Self, AdapterError> {
        Self::from_posteriors(image.posterior("image")?, text.posterior("text")?)
    }

    fn from_posteriors(image: Posterior, text: Posterior) -> Result<Self, AdapterError> {
        let (found, expected) = (text.b_diagonal().len(), image.b_diagonal().len());
        if found != expected {
            return Err(factors::unusable(format!(
                "the image projection has {expected} outputs and the text projection {found}; the \
                 factors are of two encoders"
            )));
        }
        Ok(Self { image, text })
    }

    /// Estimates the posteriors from cached pairs; see [`fit::fit_factors`].
    ///
    /// # Errors
    /// As [`fit::fit_factors`].
    pub fn fit(data: &PairedFeatures, options: &FitOptions) -> Result<Self, AdapterError> {
        let [image, text] = fit::fit_factors(data, options)?;
        Self::new(&image, &text)
    }

    /// Reads a folder with the authors' factor files (`A_img_analytic.pt`, `B_img_analytic.pt`,
    /// `A_txt_analytic.pt`, `B_txt_analytic.pt` and `prior_precision_analytic.json`), or with a
    /// `model.safetensors` that has the buffers of their Hugging Face models, such as
    /// [`BayesVlm::save`] writes.
    ///
    /// # Errors
    /// When the files are missing or malformed, or hold no posterior.
    pub fn load(folder: &Path) -> Result<Self, AdapterError> {
        let prior = folder.join(PRIOR_FILE);
        if prior.is_file() {
            return Self::load_factors(folder, read_json(&prior)?);
        }
        let buffers = folder.join(BUFFERS_FILE);
        if !buffers.is_file() {
            return Err(AdapterError::checkpoint(
                folder,
                format!(
                    "neither {PRIOR_FILE} nor {BUFFERS_FILE}; expected a folder of hessians/ of \
                     BayesVLM, or one that `BayesVlm::save` wrote"
                ),
            ));
        }
        let weights = Weights::open(&buffers)?;
        let posterior = |name: &str| {
            let a_inverse = square(&weights, &format!("{name}_a_inv"), &buffers)?;
            let name_b = format!("{name}_b_diag");
            bounded(&weights, &name_b, &buffers)?;
            let b: Vec<f32> = read_tensor::<1>(&weights, &name_b)?;
            Posterior::new(a_inverse, b.into_iter().map(f64::from).collect(), name)
                .map_err(|error| AdapterError::checkpoint(&buffers, error.to_string()))
        };
        Self::from_posteriors(posterior("image")?, posterior("text")?)
    }

    fn load_factors(folder: &Path, prior: Prior) -> Result<Self, AdapterError> {
        let factor = |name: &str| {
            let path = folder.join(format!("{name}_analytic.pt"));
            square(&Weights::open(&path)?, bare_tensor::NAME, &path)
        };
        let image = KroneckerFactors {
            a: factor("A_img")?,
            b: factor("B_img")?,
            pseudo_count: prior.n_img,
            prior_precision: prior.lambda_img,
        };
        let text = KroneckerFactors {
            a: factor("A_txt")?,
            b: factor("B_txt")?,
            pseudo_count: prior.n_txt,
            prior_precision: prior.lambda_txt,
        };
        Self::new(&image, &text)
            .map_err(|error| AdapterError::checkpoint(folder, error.to_string()))
    }

    /// Writes `model.safetensors` with the buffers `{text,image}_{a_inv,b_diag}`, and returns its
    /// path.
    ///
    /// # Errors
    /// When the folder or the file cannot be written.
    pub fn save(&self, folder: &Path) -> Result<PathBuf, AdapterError> {
        create_folder(folder)?;
        let mut tensors = Vec::new();
        for (name, posterior) in [("image", &self.image), ("text", &self.text)] {
            let (a, size) = (posterior.a_inverse(), posterior.a_inverse().nrows());
            tensors.push(NamedTensor {
                name: format!("{name}_a_inv"),
                shape: vec![size, size],
                values: (0..size * size).map(|i| a[(i / size, i % size)] as f32).collect(),
            });
            let diagonal = posterior.b_diagonal().iter().map(|&b| b as f32).collect();
            tensors.push(NamedTensor::vector(&format!("{name}_b_diag"), diagonal));
        }
        let path = folder.join(BUFFERS_FILE);
        write_tensors(&path, &tensors, HashMap::new())?;
        Ok(path)
    }

    /// Dimension D of the embeddings.
    pub fn dim(&self) -> usize {
        self.image.b_diagonal().len()
    }

    /// The posterior of one projection.
    pub fn posterior(&self, modality: Modality) -> &Posterior {
        match modality {
            Modality::Image => &self.image,
            Modality::Text => &self.text,
        }
    }

    /// Variances `[D]` of the raw embedding projected from `pooled` `[P]`:
    /// (φᵀ A⁻¹ φ) (B⁻¹)_dd. For many items, [`Posterior::input_variance`] gives the first factor
    /// of all of them at once.
    ///
    /// # Errors
    /// When the features have another width than the layer, or are not finite.
    pub fn variance(&self, modality: Modality, pooled: &[f32]) -> Result<Vec<f64>, AdapterError> {
        let posterior = self.posterior(modality);
        let input = posterior.input_variance(pooled, pooled.len())?;
        Ok(posterior.b_diagonal().iter().map(|b| input[0] * b).collect())
    }
}

/// Reads a square matrix.
fn square(weights: &Weights, name: &str, path: &Path) -> Result<Mat<f64>, AdapterError> {
    bounded(weights, name, path)?;
    let values: Vec<f32> = read_tensor::<2>(weights, name)?;
    let size = values.len().isqrt();
    if size * size != values.len() || weights.shape(name) != Some(vec![size, size]) {
        let reason =
            format!("tensor {name} has shape {:?}, expected a square", weights.shape(name));
        return Err(AdapterError::checkpoint(path, reason));
    }
    Ok(Mat::from_fn(size, size, |i, j| f64::from(values[i * size + j])))
}

/// Refuses a tensor that is larger than any posterior's before it is read.
fn bounded(weights: &Weights, name: &str, path: &Path) -> Result<(), AdapterError> {
    match weights.shape(name) {
        Some(shape) if shape.iter().any(|&side| side > SIZE_LIMIT) => {
            let reason = format!(
                "tensor {name} has shape {shape:?}, expected sides of at most {SIZE_LIMIT}"
            );
            Err(AdapterError::checkpoint(path, reason))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by `tests/make_bayesvlm_fixture.py` with exact fractions.
    const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/bayesvlm");

    #[derive(Deserialize)]
    struct Expected {
        img: Item,
        txt: Item,
        cosine_mean: f64,
        cosine_variance: f64,
    }

    #[derive(Deserialize)]
    struct Item {
        features: Vec<f32>,
        embedding: Vec<f32>,
        variance: Vec<f64>,
    }

    fn expected() -> Expected {
        read_json(&Path::new(FIXTURE).join("expected.json")).unwrap()
    }

    fn close(found: &[f64], expected: &[f64], tolerance: f64) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((found / expected - 1.0).abs() < tolerance, "{found} {expected}");
        }
    }

    #[test]
    fn the_authors_files_give_the_variances_and_cosines_of_their_code() {
        let posterior = BayesVlm::load(Path::new(FIXTURE)).unwrap();
        let Expected { img, txt, cosine_mean, cosine_variance } = expected();
        assert_eq!(posterior.dim(), 3);
        let image = posterior.variance(Modality::Image, &img.features).unwrap();
        let text = posterior.variance(Modality::Text, &txt.features).unwrap();
        close(&image, &img.variance, 1e-12);
        close(&text, &txt.variance, 1e-12);
        let (mean, variance) = prob_cosine(&img.embedding, &image, &txt.embedding, &text);
        close(&[mean, variance], &[cosine_mean, cosine_variance], 1e-12);
    }

    #[test]
    fn a_saved_posterior_loads_with_the_same_variances() {
        let posterior = BayesVlm::load(Path::new(FIXTURE)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = posterior.save(&folder.path().join("new")).unwrap();
        let weights = Weights::open(&path).unwrap();
        assert_eq!(weights.shape("text_a_inv"), Some(vec![4, 4]));
        assert_eq!(weights.shape("image_b_diag"), Some(vec![3]));
        let again = BayesVlm::load(path.parent().unwrap()).unwrap();
        let Expected { img, .. } = expected();
        // Through float32.
        close(&again.variance(Modality::Image, &img.features).unwrap(), &img.variance, 1e-5);
    }

    #[test]
    fn folders_without_a_posterior_are_refused_with_the_file_that_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |words: &str| {
            let message = BayesVlm::load(folder.path()).unwrap_err().to_string();
            assert!(message.contains(words), "{message}");
        };
        refused("neither prior_precision_analytic.json nor model.safetensors");
        std::fs::copy(Path::new(FIXTURE).join(PRIOR_FILE), folder.path().join(PRIOR_FILE)).unwrap();
        refused("A_img_analytic.pt");
        for name in ["A_img", "B_img", "A_txt", "B_txt"] {
            let name = format!("{name}_analytic.pt");
            std::fs::copy(Path::new(FIXTURE).join(&name), folder.path().join(name)).unwrap();
        }
        assert!(BayesVlm::load(folder.path()).is_ok());
        let path = folder.path().join("B_img_analytic.pt");
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        refused("B_img_analytic.pt");
        std::fs::copy(Path::new(FIXTURE).join("A_txt_analytic.pt"), &path).unwrap();
        refused("4 outputs and the text projection 3");
        std::fs::write(folder.path().join(PRIOR_FILE), r#"{"lambda_img": 1.0}"#).unwrap();
        refused(PRIOR_FILE);
    }

    /// `HAZE_BAYESVLM=hessians/hessian_CLIP-ViT-B-32-laion2B-s34B-b79K cargo test --release --lib \
    /// bayesvlm -- --ignored`, with that folder of github AaltoML/BayesVLM.
    #[test]
    #[ignore = "needs the authors' files"]
    fn the_released_files_of_vit_b_32_load() {
        let folder = std::env::var_os("HAZE_BAYESVLM").expect("HAZE_BAYESVLM names the folder");
        let posterior = BayesVlm::load(Path::new(&folder)).unwrap();
        for (modality, width) in [(Modality::Image, 768), (Modality::Text, 512)] {
            let variance = posterior.variance(modality, &vec![1.0; width]).unwrap();
            assert_eq!(variance.len(), 512);
            let mean = variance.iter().sum::<f64>() / 512.0;
            println!("{modality}: mean variance of ones {mean:e}");
            assert!(variance.iter().all(|&v| v > 0.0 && v < 1.0), "{mean}");
        }
    }
}
