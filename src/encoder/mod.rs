//! Frozen encoders: text and images in, embeddings of one shared space out.
//!
//! Every encoder is read from a Hugging Face folder and is driven by its config files alone.
//! Nothing here knows where a query came from or what its embedding is used for.

mod activation;
mod attention;
pub mod augment;
pub mod blip;
pub mod clip;
mod config;
mod dual_encoder;
mod error;
mod kind;
mod patches;
pub mod preprocess;
pub mod prolip;
pub mod resample;
pub mod siglip;
pub mod tokenizer;
mod tokens;
mod transformer;
mod weights;

pub use activation::Activation;
pub use config::{PatchGrid, TransformerConfig};
pub use dual_encoder::{Encoder, Logits, Pooled, PooledBatch, Towers};
pub use error::EncoderError;
pub use kind::{EncoderConfig, EncoderKind, Norm, Prediction};

/// Which side of a vision-language model an embedding comes from, or is meant for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Modality {
    Text,
    Image,
}

impl std::fmt::Display for Modality {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Modality::Text => "text",
            Modality::Image => "image",
        })
    }
}

/// One point of a model's shared space, as the model gives it ([`EncoderConfig::norm`]).
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding {
    /// `[D]` components.
    pub values: Vec<f32>,
    /// The tower that made it.
    pub modality: Modality,
}

impl Embedding {
    /// Dimension D of the space.
    pub fn dim(&self) -> usize {
        self.values.len()
    }

    /// Euclidean norm, accumulated in f64.
    pub fn norm(&self) -> f64 {
        norm(&self.values)
    }

    /// Cosine of the angle to another embedding, -1 to 1; 0 where one of them is zero.
    pub fn cosine(&self, other: &Embedding) -> f64 {
        cosine(&self.values, &other.values)
    }

    /// The embedding scaled to unit length; a zero vector stays zero.
    pub fn unit(&self) -> Vec<f32> {
        let scale = self.norm().max(f64::MIN_POSITIVE);
        self.values.iter().map(|&v| (f64::from(v) / scale) as f32).collect()
    }
}

/// What a probabilistic encoder predicts for one input: a Gaussian with independent dimensions.
#[derive(Debug, Clone, PartialEq)]
pub struct Gaussian {
    /// The embedding that the density is centred on.
    pub mean: Embedding,
    /// Variances `[D]`.
    pub variance: Vec<f32>,
}

/// Cosine of the angle between two vectors, accumulated in f64; 0 where one of them is zero.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot: f64 = a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
    let norms = norm(a) * norm(b);
    if norms > 0.0 { dot / norms } else { 0.0 }
}

/// Euclidean norm of a vector, accumulated in f64.
pub fn norm(values: &[f32]) -> f64 {
    values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt()
}
