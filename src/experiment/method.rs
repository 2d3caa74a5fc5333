//! The methods that an experiment compares, and what a fitted one can say.

use serde::{Deserialize, Serialize};

use super::retrieval::RetrievalPair;
use super::{EmbeddedPairs, ExperimentError};
use crate::adapter::Adapter;
use crate::encoder::Modality;

/// A way to say how uncertain an embedding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// ProbVLM as its paper says (arXiv 2307.00398).
    #[serde(rename = "probvlm")]
    ProbVlm,
    /// ProbVLM as its authors' code does.
    #[serde(rename = "probvlm-released")]
    ProbVlmReleased,
    /// A generalised Gaussian over the *other* modality's embedding.
    #[serde(rename = "probvlm-cross")]
    ProbVlmCross,
    /// Entropy of what samples of ProbVLM's density retrieve.
    #[serde(rename = "probvlm-retrieval")]
    ProbVlmRetrieval,
    /// Heteroscedastic Gaussian: ProbVLM with β = 2.
    Gaussian,
    /// Heteroscedastic Laplace: ProbVLM with β = 1.
    Laplace,
    /// Probabilistic Face Embeddings, ICCV 2019.
    Pfe,
    /// Probabilistic Cross-Modal Embeddings, CVPR 2021.
    Pcme,
    /// Improved PCME, ICLR 2024.
    #[serde(rename = "pcme++")]
    PcmePlusPlus,
    /// AsymVLM with von Mises-Fisher densities, arXiv 2505.11029.
    AsymVmf,
    /// AsymVLM with power spherical densities.
    AsymPowerSpherical,
    /// Laplace approximation of the projection layers, arXiv 2412.06014.
    #[serde(rename = "bayesvlm")]
    BayesVlm,
    /// Test-time data augmentation.
    Ttda,
    /// 1 - cosine of query and best match.
    CosineDistance,
    /// Entropy of the softmax over the gallery, at the encoder's logit scale.
    Entropy,
    /// The same at the logit scale that explains the validation pairs best.
    EntropyFitted,
    /// Distance to the k-th nearest training embedding.
    Knn,
    /// Mahalanobis distance to the training embeddings.
    Mahalanobis,
    /// Chance of a wrong answer by logistic regression on the validation pairs, from cosine
    /// distance, margin, entropy and ProbVLM's uncertainty.
    Stacked,
    /// Noise: what no knowledge at all scores.
    Random,
}

impl Method {
    pub const ALL: [Method; 20] = [
        Method::ProbVlm,
        Method::ProbVlmReleased,
        Method::ProbVlmCross,
        Method::ProbVlmRetrieval,
        Method::Gaussian,
        Method::Laplace,
        Method::Pfe,
        Method::Pcme,
        Method::PcmePlusPlus,
        Method::AsymVmf,
        Method::AsymPowerSpherical,
        Method::BayesVlm,
        Method::Ttda,
        Method::CosineDistance,
        Method::Entropy,
        Method::EntropyFitted,
        Method::Knn,
        Method::Mahalanobis,
        Method::Stacked,
        Method::Random,
    ];

    /// Its name on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Method::ProbVlm => "probvlm",
            Method::ProbVlmReleased => "probvlm-released",
            Method::ProbVlmCross => "probvlm-cross",
            Method::ProbVlmRetrieval => "probvlm-retrieval",
            Method::Gaussian => "gaussian",
            Method::Laplace => "laplace",
            Method::Pfe => "pfe",
            Method::Pcme => "pcme",
            Method::PcmePlusPlus => "pcme++",
            Method::AsymVmf => "asym-vmf",
            Method::AsymPowerSpherical => "asym-power-spherical",
            Method::BayesVlm => "bayesvlm",
            Method::Ttda => "ttda",
            Method::CosineDistance => "cosine-distance",
            Method::Entropy => "entropy",
            Method::EntropyFitted => "entropy-fitted",
            Method::Knn => "knn",
            Method::Mahalanobis => "mahalanobis",
            Method::Stacked => "stacked",
            Method::Random => "random",
        }
    }

    /// Its name for people.
    pub fn label(self) -> &'static str {
        match self {
            Method::ProbVlm => "ProbVLM",
            Method::ProbVlmReleased => "ProbVLM, released",
            Method::ProbVlmCross => "ProbVLM, cross-modal",
            Method::ProbVlmRetrieval => "ProbVLM, retrieval entropy",
            Method::Gaussian => "Gaussian",
            Method::Laplace => "Laplace",
            Method::Pfe => "PFE",
            Method::Pcme => "PCME",
            Method::PcmePlusPlus => "PCME++",
            Method::AsymVmf => "AsymVLM, vMF",
            Method::AsymPowerSpherical => "AsymVLM, power spherical",
            Method::BayesVlm => "BayesVLM",
            Method::Ttda => "TTDA",
            Method::CosineDistance => "cosine distance",
            Method::Entropy => "gallery entropy",
            Method::EntropyFitted => "gallery entropy, fitted scale",
            Method::Knn => "kNN distance",
            Method::Mahalanobis => "Mahalanobis distance",
            Method::Stacked => "stacked on validation",
            Method::Random => "random",
        }
    }

    /// Whether its result depends on a seed: it is trained, or random.
    pub fn has_seeds(self) -> bool {
        !matches!(
            self,
            Method::BayesVlm
                | Method::Ttda
                | Method::CosineDistance
                | Method::Entropy
                | Method::EntropyFitted
                | Method::Knn
                | Method::Mahalanobis
        )
    }

    /// Whether it has to be trained by gradient descent.
    pub fn is_trained(self) -> bool {
        self.has_seeds() && self != Method::Random
    }
}

impl std::fmt::Display for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Method {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Method::ALL.into_iter().find(|method| method.name() == text).ok_or_else(|| {
            let names: Vec<_> = Method::ALL.iter().map(|method| method.name()).collect();
            format!("unknown method {text:?}; expected one of {}", names.join(", "))
        })
    }
}

/// One uncertainty per item, larger is less certain.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    /// What the method says, in its own unit.
    pub total: Vec<f64>,
    /// The part that the input leaves open, where the method tells it apart.
    pub aleatoric: Option<Vec<f64>>,
    /// The part that training leaves open, where the method tells it apart.
    pub epistemic: Option<Vec<f64>>,
}

impl Scores {
    /// Scores without parts.
    pub fn whole(total: Vec<f64>) -> Self {
        Self { total, aleatoric: None, epistemic: None }
    }
}

/// A method after training.
pub trait FittedMethod: Send + Sync {
    /// The uncertainty of every item of `modality` in `pairs`, in order. `retrieval` holds what the
    /// frozen embeddings find for them, for methods that look at that.
    ///
    /// # Errors
    /// When the method needs what the pairs do not hold, or a model fails.
    fn score(
        &self,
        pairs: &EmbeddedPairs,
        retrieval: &RetrievalPair,
        modality: Modality,
    ) -> Result<Scores, ExperimentError>;

    /// The adapter that predicts densities for `modality`, where there is one.
    fn adapter(&self, _modality: Modality) -> Option<&Adapter> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_is_found_by_its_name_in_text_and_in_json() {
        for method in Method::ALL {
            assert_eq!(method.name().parse::<Method>().unwrap(), method);
            let json = serde_json::to_string(&method).unwrap();
            assert_eq!(json, format!("{:?}", method.name()));
        }
        assert!("prob".parse::<Method>().unwrap_err().contains("pcme++"));
    }
}
