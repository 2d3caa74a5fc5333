//! Methods whose uncertainty comes from an adapter of each modality.

use crate::adapter::Adapter;
use crate::encoder::{Embedding, Modality};
use crate::experiment::method::{FittedMethod, Scores};
use crate::experiment::retrieval::RetrievalPair;
use crate::experiment::{EmbeddedPairs, ExperimentError};

/// Items predicted at a time: densities take 24 bytes a dimension.
const BATCH: usize = 512;

/// An adapter for images and one for texts.
pub struct AdapterPair {
    pub image: Adapter,
    pub text: Adapter,
    /// Dropout passes behind the epistemic part; 0 for none.
    pub passes: usize,
    pub seed: u64,
}

impl AdapterPair {
    fn of(&self, modality: Modality) -> &Adapter {
        match modality {
            Modality::Image => &self.image,
            Modality::Text => &self.text,
        }
    }
}

impl FittedMethod for AdapterPair {
    /// The adapter's own scalar where its paper defines one, else the total variance, mean over
    /// dimensions.
    fn score(
        &self,
        pairs: &EmbeddedPairs,
        _retrieval: &RetrievalPair,
        modality: Modality,
    ) -> Result<Scores, ExperimentError> {
        let adapter = self.of(modality);
        let count = pairs.count(modality);
        let mut scores = Scores {
            total: Vec::with_capacity(count),
            aleatoric: Some(Vec::with_capacity(count)),
            epistemic: Some(Vec::with_capacity(count)),
        };
        for start in (0..count).step_by(BATCH) {
            let batch: Vec<Embedding> = (start..(start + BATCH).min(count))
                .map(|position| pairs.embedding(modality, position))
                .collect();
            if let Some(own) = adapter.own_scores(&batch)? {
                scores.total.extend(own);
                continue;
            }
            for predicted in adapter.predict_batch(&batch, self.passes, self.seed)? {
                let (aleatoric, epistemic) =
                    (predicted.mean_aleatoric(), predicted.mean_epistemic());
                scores.total.push(aleatoric + epistemic);
                scores.aleatoric.as_mut().into_iter().for_each(|a| a.push(aleatoric));
                scores.epistemic.as_mut().into_iter().for_each(|e| e.push(epistemic));
            }
        }
        let parts = scores.aleatoric.as_ref().is_some_and(|a| a.len() == count);
        if !parts {
            (scores.aleatoric, scores.epistemic) = (None, None);
        }
        Ok(scores)
    }

    fn adapter(&self, modality: Modality) -> Option<&Adapter> {
        Some(self.of(modality))
    }
}
