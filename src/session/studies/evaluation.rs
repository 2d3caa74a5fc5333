//! A gallery's own captions as queries: recall, and whether the uncertain ones retrieve worse.

use crate::encoder::Modality;
use crate::evaluation::{self, Binning};
use crate::session::event::{Event, Stage};
use crate::session::recipe::Recipe;
use crate::session::{Job, OnEvent, Session, SessionError, guarded};

/// Captions at most, evenly spread over the gallery.
const MAX_CAPTIONS: usize = 2000;
/// Captions at a time.
const BATCH: usize = 64;
const BINS: usize = 5;

/// Recall and uncertainty over a gallery's own captions.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    pub gallery: String,
    pub captions: usize,
    pub items: usize,
    /// Recall at 1, 5 and 10 of the frozen embedding, 0 to 1.
    pub recall: [f64; 3],
    /// Captions in bins of growing uncertainty, equally many in each.
    pub bins: Vec<EvaluationBin>,
    /// Spearman's rank correlation between the mean aleatoric variance and the rank of the
    /// caption's own item; 0 where one of them does not vary.
    pub spearman: f64,
}

/// One bin of captions.
#[derive(Debug, Clone, PartialEq)]
pub struct EvaluationBin {
    pub count: usize,
    /// Mean over the bin of the mean aleatoric variance.
    pub aleatoric: f64,
    /// Recall at 10 in the bin, 0 to 1.
    pub recall_at_10: f64,
}

/// Ranks every caption's own item by the frozen embedding, and predicts its uncertainty.
///
/// # Errors
/// When the recipe names no gallery or one without captions, models fail, or the job was
/// cancelled.
pub fn evaluate(
    session: &Session,
    recipe: &Recipe,
    on_event: OnEvent<'_>,
) -> Result<Evaluation, SessionError> {
    guarded(|| {
        let mut recipe = recipe.clone();
        let mut job = Job::new(on_event);
        let route = session.route(&mut recipe, &mut job)?;
        let (encoder, adapter) = (&route.encoder, route.adapter()?);
        debug_assert_eq!(adapter.input_modality(), Modality::Text);
        let Some(model) = &mut recipe.models.gallery else {
            return Err(SessionError::Mismatch("the recipe names no gallery".to_owned()));
        };
        job.stage(Stage::IndexGallery)?;
        let (assets, models) = (&session.assets, &recipe.models.encoder);
        let gallery = session.loaded.gallery(model, models, assets, encoder, &mut job)?;
        let mut captions: Vec<(usize, String)> = Vec::new();
        let mut row = 0;
        gallery.store.for_each_metadata(|item| {
            captions.extend(item.captions.into_iter().map(|caption| (row, caption.text)));
            row += 1;
            Ok(())
        })?;
        captions.retain(|(_, text)| !text.trim().is_empty());
        if captions.is_empty() {
            return Err(SessionError::Mismatch(format!(
                "the gallery {} has no captions; index it from a dataset file that has them",
                model.path.display()
            )));
        }
        let step = captions.len().div_ceil(MAX_CAPTIONS).max(1);
        let captions: Vec<(usize, String)> = captions.into_iter().step_by(step).collect();
        job.stage(Stage::Evaluate)?;
        let (mut ranks, mut aleatoric) = (Vec::new(), Vec::new());
        for (i, batch) in captions.chunks(BATCH).enumerate() {
            job.tell(Event::Progress { done: i * BATCH, total: captions.len() })?;
            let texts: Vec<&str> = batch.iter().map(|(_, text)| text.as_str()).collect();
            let embeddings = encoder.embed_texts(&texts)?;
            let predicted = adapter.predict_batch(&embeddings, 0, 0)?;
            aleatoric.extend(predicted.iter().map(|d| d.mean_aleatoric()));
            for (embedding, (row, _)) in embeddings.iter().zip(batch) {
                let rank = gallery.ranks_of(std::slice::from_ref(&embedding.values), &[*row])?;
                ranks.push(rank[0][0]);
            }
        }
        let places: Vec<Option<usize>> = ranks.iter().map(|rank| Some(rank - 1)).collect();
        let hits = evaluation::hits_at_k(&places, 10);
        let bins = evaluation::uncertainty_bins(&aleatoric, &hits, BINS, Binning::Quantile)?;
        let as_numbers: Vec<f64> = ranks.iter().map(|&rank| rank as f64).collect();
        let mut recall = [0.0; 3];
        for (recall, k) in recall.iter_mut().zip([1, 5, 10]) {
            *recall = evaluation::recall_at_k(&places, k)?;
        }
        Ok(Evaluation {
            gallery: model.path.display().to_string(),
            captions: captions.len(),
            items: gallery.store.len(),
            recall,
            bins: bins
                .iter()
                .map(|bin| EvaluationBin {
                    count: bin.count,
                    aleatoric: bin.mean_uncertainty,
                    recall_at_10: bin.recall,
                })
                .collect(),
            spearman: evaluation::trend(&aleatoric, &as_numbers)?.spearman,
        })
    })
}
