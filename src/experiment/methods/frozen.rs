//! Methods that look at the frozen embeddings alone: no adapter, no training.

use rand::RngExt;

use crate::encoder::Modality;
use crate::experiment::method::{FittedMethod, Scores};
use crate::experiment::retrieval::{Direction, RetrievalPair, Scales, Softmax};
use crate::experiment::{EmbeddedPairs, ExperimentError};
use crate::random::{Stream, generator};

/// 1 - cosine of an item and its best match in the other modality: 0 to 2. The baseline that the
/// papers call deterministic (GroVE, arXiv 2505.05163, table 1).
pub struct BestMatch;

impl FittedMethod for BestMatch {
    fn score(
        &self,
        _pairs: &EmbeddedPairs,
        retrieval: &RetrievalPair,
        modality: Modality,
    ) -> Result<Scores, ExperimentError> {
        let similarity = retrieval.asking(modality).best_similarity();
        Ok(Scores::whole(similarity.into_iter().map(|s| 1.0 - s).collect()))
    }
}

/// Entropy in nats of the softmax over the gallery, at the encoder's logit scale.
pub struct GalleryEntropy;

impl FittedMethod for GalleryEntropy {
    fn score(
        &self,
        _pairs: &EmbeddedPairs,
        retrieval: &RetrievalPair,
        modality: Modality,
    ) -> Result<Scores, ExperimentError> {
        Ok(Scores::whole(retrieval.asking(modality).softmax.entropy.clone()))
    }
}

/// Entropy in nats of the softmax over the gallery, at a scale fitted on validation pairs
/// (temperature scaling; Guo et al., arXiv 1706.04599, section 4.2).
pub struct FittedEntropy {
    pub scales: Scales,
}

impl FittedMethod for FittedEntropy {
    fn score(
        &self,
        pairs: &EmbeddedPairs,
        _retrieval: &RetrievalPair,
        modality: Modality,
    ) -> Result<Scores, ExperimentError> {
        let direction = Direction::asked_by(modality);
        let softmax = Softmax::of(pairs, direction, self.scales.get(direction));
        Ok(Scores::whole(softmax.entropy))
    }
}

/// Uniform noise: what no knowledge at all scores.
pub struct Noise {
    pub seed: u64,
}

impl FittedMethod for Noise {
    fn score(
        &self,
        pairs: &EmbeddedPairs,
        _retrieval: &RetrievalPair,
        modality: Modality,
    ) -> Result<Scores, ExperimentError> {
        let mut rng = generator(self.seed, Stream::Resampling, modality as u64);
        Ok(Scores::whole((0..pairs.count(modality)).map(|_| rng.random()).collect()))
    }
}
