//! Which images of a pool to label next, and the models and captions that this takes.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::embedding::EmbeddingProgress;
use super::error::SessionError;
use super::experiments::PairSource;
use super::pairs::{Opening, open_pairs};
use super::request::or_demo;
use super::{Session, fingerprint, guarded};
use crate::adapter::{Adapter, Predictor};
use crate::encoder::{Encoder, Modality};
use crate::experiment::active::pick::{Pick, UnitRows, View, pick};
use crate::experiment::active::{ActiveSettings, RoundModels, Strategy};
use crate::experiment::annotation::{LABELS_FILE, Labels, Task};
use crate::experiment::cache::Kind;
use crate::experiment::pairs::{CaptionLink, ImageFacts};
use crate::experiment::retrieval::{DEFAULT_LOGIT_SCALE, unit_rows};
use crate::experiment::uncertainty::UnitUncertainty;
use crate::experiment::{EmbeddedPairs, ExperimentError, PairStore};
use crate::gallery::{EmbeddingRows, EmbeddingStore};

/// Labelled images below which no model is trained on them: a part is held out.
const FEWEST_LABELLED: usize = 10;
/// Share of the labelled images that decides when training stops.
const HELD_OUT: f64 = 0.2;

/// Images that may be labelled, with or without captions.
pub struct LabelPool {
    name: String,
    /// Of every image, in order.
    ids: Vec<String>,
    /// Raw, one row per image.
    images: EmbeddingRows,
    /// What is known to be written about each image; empty where nothing is.
    captions: Vec<Vec<String>>,
    /// The same images with embedded captions, where that was asked for.
    pairs: Option<EmbeddedPairs>,
    encoder: Option<String>,
    logit_scale: f64,
}

/// What to label next.
#[derive(Debug, Clone)]
pub struct LabelRequest {
    pub pool: PairSource,
    /// Hugging Face folder of the encoder, for captions and answers.
    pub encoder: Option<PathBuf>,
    pub strategy: Strategy,
    /// Items at most.
    pub count: usize,
    /// Folder of an adapter for images; without one a strategy that needs it is trained on what is
    /// labelled.
    pub adapter: Option<PathBuf>,
    /// Whether the adapter was trained on embeddings of unit length, as those of `haze evaluate`.
    pub unit: bool,
    /// How models are trained on what is labelled.
    pub passes: usize,
    pub seed: u64,
}

/// What to label next, and what was looked at.
pub struct NextTasks {
    pub tasks: Vec<Task>,
    /// Images of the pool.
    pub images: usize,
    /// Those that are labelled.
    pub labelled: usize,
}

/// Where the labels of a cache are kept.
pub fn labels_file(pool: &Path) -> PathBuf {
    match pool.is_dir() {
        true => pool.join(LABELS_FILE),
        false => pool.with_file_name(LABELS_FILE),
    }
}

impl LabelPool {
    /// Opens a pool: a cache, arrays of another tool, a data set, or a store of image embeddings
    /// with or without captions. `with_captions` embeds the captions that such a store has.
    ///
    /// # Errors
    /// When the path holds no embeddings, or the job was cancelled.
    pub fn open(
        session: &Session,
        source: &PairSource,
        encoder: Option<&Path>,
        with_captions: bool,
        on_progress: &mut dyn FnMut(EmbeddingProgress) -> ControlFlow<()>,
    ) -> Result<Self, SessionError> {
        let path = session.assets.resolve(&source.path, "pool")?;
        if Kind::of(&path) == Some(Kind::Captioned) && !with_captions {
            return Self::of_store(&EmbeddingStore::open(&path)?, &source.splits);
        }
        let opening = Opening { encoder: encoder.map(Path::to_owned), ..Opening::default() };
        let Session { assets, device, .. } = session;
        let mut notes = Vec::new();
        let store = open_pairs(&path, &opening, assets, device, &mut notes, on_progress)?;
        let pairs = source.part_of(EmbeddedPairs::new(store)?)?;
        let positions = 0..pairs.image_count();
        let words = |image| {
            let captions = pairs.captions_of(image);
            captions.filter_map(|j| pairs.words(j)).map(str::to_owned).collect()
        };
        Ok(Self {
            name: pairs.name().to_owned(),
            ids: positions.clone().map(|image| pairs.facts(image).id.clone()).collect(),
            images: EmbeddingRows::from_values(pairs.matrix(Modality::Image), pairs.dim())?,
            captions: positions.map(words).collect(),
            encoder: pairs.store().encoder.clone(),
            logit_scale: pairs.logit_scale(),
            pairs: Some(pairs),
        })
    }

    /// The images alone; their ids are those that a cache of the same store has.
    fn of_store(store: &EmbeddingStore, splits: &[String]) -> Result<Self, SessionError> {
        let dim = store.dim();
        let (mut row, mut values) = (0, Vec::new());
        let (mut ids, mut captions) = (Vec::new(), Vec::new());
        let mut found = BTreeSet::new();
        store.for_each_metadata(|item| {
            let wanted = |split: &String| splits.is_empty() || splits.contains(split);
            if item.split.as_ref().map_or(splits.is_empty(), wanted) {
                values.extend(store.image_rows().row(row));
                ids.push(item.image_path.unwrap_or_else(|| row.to_string()));
                captions.push(item.captions.into_iter().map(|caption| caption.text).collect());
            }
            found.extend(item.split);
            row += 1;
            Ok(())
        })?;
        let name = store.folder().display().to_string();
        if ids.is_empty() {
            let found: Vec<&str> = found.iter().map(String::as_str).collect();
            return Err(unusable(
                &name,
                format!("no image has split {}; found {}", splits.join(","), found.join(", ")),
            ));
        }
        let pool = Self {
            name,
            ids,
            images: EmbeddingRows::from_values(values, dim)?,
            captions,
            pairs: None,
            encoder: store.info().map(|info| info.encoder.hash.clone()),
            logit_scale: DEFAULT_LOGIT_SCALE,
        };
        if pool.known_ids().len() != pool.ids.len() {
            let reason = "two of its images have the same id, so an answer would mean both";
            return Err(unusable(&pool.name, reason.to_owned()));
        }
        Ok(pool)
    }

    /// The ids that answers may name.
    pub fn known_ids(&self) -> BTreeSet<&str> {
        self.ids.iter().map(String::as_str).collect()
    }

    /// Images of the pool.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Which images are labelled.
    fn labelled(&self, labels: &Labels) -> Vec<bool> {
        self.ids.iter().map(|id| labels.contains(id)).collect()
    }

    /// Labelled images with the captions that were answered.
    fn labelled_pairs(
        &self,
        labels: &Labels,
        encoder: &Encoder,
    ) -> Result<EmbeddedPairs, SessionError> {
        let (mut images, mut facts, mut captions) = (Vec::new(), Vec::new(), Vec::new());
        let mut words: Vec<&str> = Vec::new();
        for (position, id) in self.ids.iter().enumerate() {
            let Some(answers) = labels.captions(id) else { continue };
            for answer in answers {
                let (text, image) = (words.len() as u32, facts.len() as u32);
                captions.push(CaptionLink { text, image, level: None, id: None });
                words.push(answer);
            }
            images.extend(self.images.row(position));
            facts.push(ImageFacts { id: id.clone(), split: None, class: None, coco_id: None });
        }
        let texts = encoder.embed_texts(&words)?;
        let texts = texts.into_iter().flat_map(|embedding| embedding.values).collect();
        Ok(EmbeddedPairs::new(PairStore {
            words: Some(words.into_iter().map(Arc::from).collect()),
            encoder: self.encoder.clone(),
            logit_scale: Some(f64::from(encoder.logit_scale())),
            ..PairStore::new(
                format!("the labelled part of {}", self.name),
                EmbeddingRows::from_values(images, self.images.dim())?,
                EmbeddingRows::from_values(texts, encoder.dim())?,
                facts,
                captions,
            )
        })?)
    }
}

fn unusable(name: &str, reason: String) -> SessionError {
    ExperimentError::Data { name: name.to_owned(), reason }.into()
}

/// The next items to label.
///
/// # Errors
/// When the pool, the encoder or the adapter is unusable or do not belong together, the strategy
/// needs what is not there, everything is labelled, or `on_progress` answered `Break`.
pub fn next_tasks(
    session: &Session,
    request: &LabelRequest,
    labels: &Labels,
    on_progress: &mut dyn FnMut(EmbeddingProgress) -> ControlFlow<()>,
) -> Result<NextTasks, SessionError> {
    guarded(|| {
        let strategy = request.strategy;
        let encoder = request.encoder.as_deref();
        let pool = LabelPool::open(
            session,
            &request.pool,
            encoder,
            strategy.needs_captions(),
            on_progress,
        )?;
        let is_labelled = pool.labelled(labels);
        let labelled = is_labelled.iter().filter(|&&l| l).count();
        if labelled == pool.len() {
            let reason = format!("all of its {labelled} images are labelled");
            return Err(unusable(&pool.name, reason));
        }
        let device = &session.device.device;
        let adapter = match &request.adapter {
            Some(folder) => {
                Some(Adapter::load(&session.assets.resolve(folder, "adapter")?, device)?)
            }
            None => None,
        };
        let needs_models =
            strategy.needs_adapter() && adapter.is_none() || strategy == Strategy::Bald;
        let models =
            match needs_models || (strategy.needs_captions() && labelled >= FEWEST_LABELLED) {
                true => Some(trained(session, request, &pool, labels, labelled)?),
                false => None,
            };
        let predictor: Option<&dyn Predictor> = match (&adapter, &models) {
            (Some(adapter), _) => Some(&**adapter),
            (None, Some(models)) => Some(&*models.image),
            (None, None) => None,
        };
        if let Some(adapter) = predictor {
            check_adapter(adapter, &pool)?;
        }
        let open: Vec<usize> = (0..pool.len()).filter(|&image| !is_labelled[image]).collect();
        let dim = pool.images.dim();
        let mut raw = vec![0f32; pool.len() * dim];
        pool.images.read(0..pool.len(), dim, &mut raw);
        let unit = unit_rows(raw.clone(), dim);
        let rows = if request.unit && adapter.is_some() { &unit } else { &raw };
        let embedding = |&image: &usize| crate::encoder::Embedding {
            values: rows[image * dim..][..dim].to_vec(),
            modality: Modality::Image,
        };
        let uncertainty = match predictor {
            Some(adapter) => Some(UnitUncertainty::of(
                adapter,
                open.iter().map(embedding),
                request.passes,
                request.seed,
            )?),
            None => None,
        };
        let captions = pool
            .pairs
            .as_ref()
            .map(|pairs| unit_rows(pairs.subset(&open).matrix(Modality::Text), dim));
        let view = View {
            images: UnitRows { values: &unit, dim },
            labelled: &is_labelled,
            captions: captions.as_deref().map(|values| UnitRows { values, dim }),
            head: models.as_ref().map(|models| &models.head),
            logit_scale: pool.logit_scale,
            uncertainty: uncertainty.as_ref(),
            passes: request.passes,
            seed: request.seed,
            device,
        };
        let picks = pick(strategy, &view, request.count)?;
        let tasks = (1..).zip(picks).map(|(rank, Pick { image, score })| {
            let place = open.partition_point(|&other| other < image);
            let part = |of: fn(&UnitUncertainty) -> &Vec<f64>| {
                uncertainty.as_ref().map(|uncertainty| of(uncertainty)[place])
            };
            let id = pool.ids[image].clone();
            Task {
                rank,
                image: Path::new(&id).extension().is_some().then(|| id.clone()),
                id,
                captions: pool.captions[image].clone(),
                strategy,
                score,
                uncertainty: part(|u| &u.total),
                aleatoric: part(|u| &u.aleatoric),
                epistemic: part(|u| &u.epistemic),
                answer: String::new(),
            }
        });
        Ok(NextTasks { tasks: tasks.collect(), images: pool.len(), labelled })
    })
}

fn check_adapter(adapter: &dyn Predictor, pool: &LabelPool) -> Result<(), SessionError> {
    if adapter.input_modality() != Modality::Image || adapter.dim() != pool.images.dim() {
        return Err(SessionError::Mismatch(format!(
            "the adapter takes {} embeddings of {} dimensions, the pool holds images of {}; name \
             an adapter that takes images",
            adapter.input_modality(),
            adapter.dim(),
            pool.images.dim()
        )));
    }
    match (adapter.encoder(), pool.encoder.as_deref()) {
        (Some(theirs), Some(ours)) if theirs != ours => Err(SessionError::Mismatch(format!(
            "the adapter belongs to the encoder {theirs:.12}, the pool {} was embedded by \
             {ours:.12}; train an adapter on this encoder",
            pool.name
        ))),
        _ => Ok(()),
    }
}

/// A head and adapters trained on what is labelled.
fn trained(
    session: &Session,
    request: &LabelRequest,
    pool: &LabelPool,
    labels: &Labels,
    labelled: usize,
) -> Result<RoundModels, SessionError> {
    if labelled < FEWEST_LABELLED {
        return Err(SessionError::OutOfRange {
            what: "the number of labelled images",
            found: labelled.to_string(),
            expected: format!(
                "at least {FEWEST_LABELLED}, for the strategy {} trains on them; name an adapter \
                 with --adapter, or begin with random or k-center",
                request.strategy
            ),
        });
    }
    let Session { assets, device, .. } = session;
    let path = assets.resolve(&or_demo(request.encoder.as_deref(), "clip"), "encoder")?;
    let hash = fingerprint::of_folder(&path)?;
    if let Some(expected) = pool.encoder.as_deref()
        && expected != hash
    {
        return Err(SessionError::Mismatch(format!(
            "the pool {} was embedded by the encoder {expected:.12}, {} is {hash:.12}; name its \
             encoder with --encoder",
            pool.name,
            path.display()
        )));
    }
    let encoder = Encoder::load(&path, &device.device)?;
    let pairs = pool.labelled_pairs(labels, &encoder)?;
    let (training, held_out) = pairs.hold_out(HELD_OUT, request.seed)?;
    let settings = ActiveSettings::new(Vec::new());
    Ok(RoundModels::train(
        &training,
        &held_out,
        &settings,
        request.seed,
        &device.device,
        &mut || ControlFlow::Continue(()),
    )?)
}
