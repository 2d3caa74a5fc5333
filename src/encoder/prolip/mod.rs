//! ProLIP (Chun et al. 2025, arXiv 2410.18857): CLIP-like towers with one more token, `[UNC]`, that
//! predict a Gaussian with independent dimensions for each input: a mean of unit length and the
//! logarithm of the variance.
//!
//! In: padded token ids, pixel values. Out: means and log variances of one space. LongProLIP
//! (arXiv 2503.08048) has the same towers with more text positions.
//!
//! Published folders hold `config.json` and `model.safetensors` of the authors' code, which is kept
//! to here in what may surprise: the last norm of the vision tower is applied twice to the class
//! token, and the variance of a text is computed from its projected mean, not from its `[UNC]`
//! token.

mod config;
mod model;
mod text;
mod vision;

pub use config::{ProLipConfig, ProLipTextConfig, ProLipVisionConfig};
pub use model::{ProLipModel, ProLipOutput};
