//! What is written beside the weights of a ProbVLM adapter, and the two presets.

use serde::{Deserialize, Serialize};

use crate::adapter::loss::{Family, Link, Loss};
use crate::adapter::space::{Space, SpaceConfig};
use crate::adapter::training::TrainingSummary;
use crate::encoder::Modality;

/// Whose rules an adapter follows where the paper and the authors' code differ.
///
/// | | `Paper` | `Released` |
/// | --- | --- | --- |
/// | loss | exact likelihood `(\|z - μ\|/α)^β` alone | `1.0 L1 + 0.05 NLL` with the product `\|z - μ\| β/α` clamped to `[1e-4, 1e3]` |
/// | 1/α and β | softplus (the text names no link), β above 1/2 | rectifier |
/// | working space | standardised dimensions, or unit vectors | unit vectors, image features times 100 (CLIP's logit scale) |
/// | crossed term λ | 0.1: with the exact likelihood, 1e-4 leaves the reconstruction error alone | 1e-4 |
/// | first weights | last layers at the constant standard normal, μ of one modality at the identity | PyTorch's |
/// | α, β in prediction | `1/(h + 1e-4)`, `h + 0.5`, as in training | `clip(1/(h + 1e-5), 1e-4, 5)`, `clip(h + 0.1, 0.1, 5)` |
/// | density | of one pass without dropout | of the means of μ, 1/α and β over the dropout passes |
/// | epistemic | `Var(μ)` over passes with the trained dropout, divisor M | `sqrt(Var(σ²) Var(μ))` over passes with dropout 0.3, divisor M - 1 |
/// | steps per epoch | all items | 2001 at most |
/// | learning rate | cosine to zero | constant (the cosine schedule is never stepped) |
/// | weights kept | best held-out likelihood | best held-out L1 |
///
/// The released clip of β at 0.1 lets a predicted variance reach 1e24 times α²: read it as a score.
///
/// The rows on λ, steps, first weights, learning rate and kept weights are choices of training, and
/// the weights of the loss can be set there too (the README of the released code trains with 1e-4 in
/// place of 0.05); see [`TrainingOptions`](crate::adapter::training::TrainingOptions). Two more quirks of the released code are not
/// reproduced here: its `Var(σ²)` also runs over the items of a batch (one query is a batch of
/// one), and it sorts texts by `1/u` (see `evaluation`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    #[default]
    Paper,
    Released,
}

impl Preset {
    /// The loss a preset trains with; its link also counts in prediction.
    pub fn loss(self) -> Loss {
        match self {
            Preset::Paper => Loss::PAPER,
            Preset::Released => Loss::RELEASED,
        }
    }

    /// How 1/α and β are made positive.
    pub fn link(self) -> Link {
        self.loss().link
    }
}

impl std::fmt::Display for Preset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Preset::Paper => "paper",
            Preset::Released => "released",
        })
    }
}

impl std::str::FromStr for Preset {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "paper" => Ok(Preset::Paper),
            "released" => Ok(Preset::Released),
            other => Err(format!("unknown preset {other:?}; expected paper or released")),
        }
    }
}

/// Dropout probability of the published notebook's adapters. A checkpoint does not hold it.
pub const RELEASED_DROPOUT: f64 = 0.05;

/// What the authors' code sets the dropout to for its uncertainty passes.
pub const RELEASED_PREDICTION_DROPOUT: f64 = 0.3;

/// CLIP's logit scale, which the authors' image features are multiplied with.
pub const RELEASED_IMAGE_FACTOR: f32 = 100.0;

/// The space that the released code gives a modality to.
pub fn released_space(modality: Modality) -> Space {
    let factor = match modality {
        Modality::Text => 1.0,
        Modality::Image => RELEASED_IMAGE_FACTOR,
    };
    Space::Unit { factor, norm: None }
}

/// How predictions of an adapter that knows unit embeddings alone get a norm.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct UnitRows {
    /// Mean norm of the raw targets. Without one a prediction gets the norm of the query, as it
    /// should within one modality.
    pub target_norm: Option<f64>,
}

/// `adapter_config.json` of a ProbVLM adapter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbVlmConfig {
    /// Always `"probvlm"`.
    pub kind: String,
    pub preset: Preset,
    /// The densities it predicts.
    #[serde(default, skip_serializing_if = "Family::is_generalized")]
    pub family: Family,
    pub input_modality: Modality,
    pub output_modality: Modality,
    pub input_dim: usize,
    /// Equal to `input_dim`: the network adds its input to its output.
    pub output_dim: usize,
    pub hidden_dim: usize,
    /// Dropout probability in training, and in the passes that epistemic uncertainty comes from.
    pub dropout: f64,
    pub input_space: SpaceConfig,
    pub output_space: SpaceConfig,
    /// Set where the adapter was trained on embeddings of unit length: inputs are scaled to it,
    /// and predictions back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit_rows: Option<UnitRows>,
    /// Fingerprint of the encoder whose embeddings the adapter was trained on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder: Option<String>,
    /// How it was trained, where Haze trained it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training: Option<TrainingSummary>,
}
