//! Frozen encoders: text and images in, embeddings of one shared space out.
//!
//! Every encoder is read from a Hugging Face folder and is driven by its config files alone.
//! Nothing here knows where a query came from or what its embedding is used for.

pub mod augment;
pub mod clip;
mod error;
pub mod preprocess;
pub mod resample;
pub mod tokenizer;

pub use clip::{ClipEncoder, Pooled};
pub use error::EncoderError;

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

/// One point of a model's shared space, as the model gives it: **not** normalised.
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
