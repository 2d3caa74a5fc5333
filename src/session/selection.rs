//! Opening the candidates of a model selection.

use std::ops::ControlFlow;
use std::path::PathBuf;

use super::embedding::EmbeddingProgress;
use super::error::SessionError;
use super::experiments::PairSource;
use super::pairs::{Opening, open_pairs};
use super::{Session, guarded};
use crate::adapter::{Adapter, Predictor};
use crate::encoder::Modality;
use crate::experiment::cache::Kind;
use crate::experiment::retrieval::{DEFAULT_LOGIT_SCALE, unit_rows};
use crate::experiment::selection::{Candidate, SelectionReport, select};
use crate::experiment::{EmbeddedPairs, PairStore};
use crate::gallery::{EmbeddingRows, EmbeddingStore};

/// One candidate by its files.
#[derive(Debug, Clone)]
pub struct CandidateFiles {
    pub name: String,
    /// Embeddings of the target items by this candidate's encoder: pairs, or an index of images
    /// without captions.
    pub target: PairSource,
    /// Folders of adapters that take embeddings of the target's modality, with shares that add up
    /// to 1: one adapter, the weighted mean of several, or none.
    pub adapter: Vec<(PathBuf, f64)>,
    /// Pairs that the candidate was trained on, for the distance to them.
    pub reference: Option<PairSource>,
    /// Hugging Face folder of the encoder, where captions are not embedded yet.
    pub encoder: Option<PathBuf>,
}

/// A selection job.
#[derive(Debug, Clone)]
pub struct SelectionRequest {
    pub candidates: Vec<CandidateFiles>,
    /// Modality of the target items.
    pub modality: Modality,
    /// Whether adapters were trained on embeddings of unit length, as those of `haze evaluate`.
    pub unit: bool,
    /// Whether the pairing is looked at, for the truth beside the rankings.
    pub labelled: bool,
    pub passes: usize,
    pub seed: u64,
}

/// A candidate with its files open.
struct Opened {
    target: Target,
    adapter: Option<Adapter>,
    reference: Option<EmbeddingRows>,
}

#[derive(Clone)]
enum Target {
    Pairs(EmbeddedPairs),
    Images { values: Vec<f32>, dim: usize },
}

/// Ranks the candidates.
///
/// # Errors
/// When a candidate cannot be opened, candidates do not correspond, or the job was cancelled.
pub fn run(
    session: &Session,
    request: &SelectionRequest,
    on_progress: &mut dyn FnMut(EmbeddingProgress) -> ControlFlow<()>,
) -> Result<SelectionReport, SessionError> {
    guarded(|| {
        let mut opened = Vec::with_capacity(request.candidates.len());
        for files in &request.candidates {
            // Candidates that differ in their adapters alone share their items.
            let same = |(other, _): &(&CandidateFiles, &Opened)| {
                (&other.target, &other.encoder) == (&files.target, &files.encoder)
            };
            let earlier = request.candidates.iter().zip(&opened).find(same);
            let target = earlier.map(|(_, opened)| opened.target.clone());
            opened.push(open(session, files, target, request.modality, on_progress)?);
        }
        let candidates: Vec<Candidate<'_>> = request
            .candidates
            .iter()
            .zip(&opened)
            .map(|(files, opened)| opened.candidate(&files.name, request))
            .collect();
        let device = &session.device.device;
        Ok(select(&candidates, request.modality, request.passes, request.seed, device)?)
    })
}

impl Opened {
    fn candidate(&self, name: &str, request: &SelectionRequest) -> Candidate<'_> {
        let modality = request.modality;
        let other = match modality {
            Modality::Image => Modality::Text,
            Modality::Text => Modality::Image,
        };
        let (items, others, dim, pairs) = match &self.target {
            Target::Pairs(pairs) => (
                pairs.matrix(modality),
                Some(pairs.matrix(other)),
                pairs.dim(),
                request.labelled.then_some(pairs),
            ),
            Target::Images { values, dim } => (values.clone(), None, *dim, None),
        };
        let logit_scale = match &self.target {
            Target::Pairs(pairs) => pairs.logit_scale(),
            Target::Images { .. } => DEFAULT_LOGIT_SCALE,
        };
        Candidate {
            name: name.to_owned(),
            items: if request.unit { unit_rows(items, dim) } else { items },
            others,
            dim,
            logit_scale,
            adapter: self.adapter.as_ref().map(|adapter| &**adapter as &dyn Predictor),
            reference: self.reference.as_ref(),
            pairs,
        }
    }
}

fn open(
    session: &Session,
    files: &CandidateFiles,
    target: Option<Target>,
    modality: Modality,
    on_progress: &mut dyn FnMut(EmbeddingProgress) -> ControlFlow<()>,
) -> Result<Opened, SessionError> {
    let Session { assets, device, .. } = session;
    let opening = Opening { encoder: files.encoder.clone(), ..Opening::default() };
    let mut pairs = |source: &PairSource| {
        let mut notes = Vec::new();
        let store = open_pairs(&source.path, &opening, assets, device, &mut notes, on_progress)?;
        part(store, &source.splits)
    };
    let path = assets.resolve(&files.target.path, "target")?;
    let target = match (target, Kind::of(&path), modality) {
        (Some(target), ..) => target,
        (None, Some(Kind::Captioned), Modality::Image) => match without_captions(&path)? {
            Some((values, dim)) if files.target.splits.is_empty() => Target::Images { values, dim },
            _ => Target::Pairs(pairs(&files.target)?),
        },
        (None, ..) => Target::Pairs(pairs(&files.target)?),
    };
    let reference = match &files.reference {
        Some(source) => {
            let known = pairs(source)?;
            Some(EmbeddingRows::from_values(known.matrix(modality), known.dim())?)
        }
        None => None,
    };
    let dim = match &target {
        Target::Pairs(pairs) => pairs.dim(),
        Target::Images { dim, .. } => *dim,
    };
    let encoder = match &target {
        Target::Pairs(pairs) => pairs.store().encoder.clone(),
        Target::Images { .. } => None,
    };
    if let Some(reference) = &reference
        && reference.dim() != dim
    {
        return Err(SessionError::Mismatch(format!(
            "candidate {}: its reference has {} dimensions, its target items {dim}; both must come \
             from one encoder",
            files.name,
            reference.dim()
        )));
    }
    let folders: Vec<(PathBuf, f64)> = (files.adapter.iter())
        .map(|(folder, share)| Ok((assets.resolve(folder, "adapter")?, *share)))
        .collect::<Result<_, SessionError>>()?;
    let adapter = match &folders[..] {
        [] => None,
        [(folder, _)] => Some(Adapter::load(folder, &device.device)?),
        several => Some(Adapter::weighted_mean(several, &device.device)?),
    };
    if let (Some(theirs), Some(ours)) =
        (adapter.as_ref().and_then(|adapter| adapter.encoder()), encoder.as_deref())
        && theirs != ours
    {
        return Err(SessionError::Mismatch(format!(
            "candidate {}: its adapter belongs to the encoder {theirs:.12}, its target items were \
             embedded by {ours:.12}; pair each adapter with embeddings by its own encoder",
            files.name
        )));
    }
    Ok(Opened { target, adapter, reference })
}

fn part(store: PairStore, splits: &[String]) -> Result<EmbeddedPairs, SessionError> {
    let pairs = EmbeddedPairs::new(store)?;
    match splits.is_empty() {
        true => Ok(pairs),
        false => {
            let splits: Vec<&str> = splits.iter().map(String::as_str).collect();
            Ok(pairs.with_splits(&splits)?)
        }
    }
}

/// The image rows of a store whose table has no captions at all.
fn without_captions(path: &std::path::Path) -> Result<Option<(Vec<f32>, usize)>, SessionError> {
    let store = EmbeddingStore::open(path)?;
    let mut captions = 0;
    store.for_each_metadata(|item| {
        captions += item.captions.len();
        Ok(())
    })?;
    if captions > 0 {
        return Ok(None);
    }
    let (rows, dim) = (store.image_rows(), store.dim());
    let mut values = vec![0f32; rows.len() * dim];
    rows.read(0..rows.len(), dim, &mut values);
    Ok(Some((values, dim)))
}
