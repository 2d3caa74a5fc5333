//! Opening pairs for an experiment from whatever a path holds, embedding what is not embedded yet.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::assets::Assets;
use super::embedding::{EmbeddingJob, EmbeddingProgress, embed_into, open_dataset};
use super::error::SessionError;
use super::request::or_demo;
use super::{cache, fingerprint, guarded};
use crate::encoder::{Encoder, Modality};
use crate::experiment::cache::{self as caches, CaptionedImages, Kind, Manifest};
use crate::experiment::pairs::PooledFeatures;
use crate::experiment::{ExperimentError, PairStore};
use crate::gallery::{EmbeddingRows, SourceRef};
use crate::model::device::ComputeDevice;

/// Captions embedded at a time.
const TEXT_BATCH: usize = 256;

/// How pairs are opened, and what embeds those that have no embeddings.
#[derive(Debug, Clone, Default)]
pub struct Opening {
    /// Hugging Face folder of the encoder; the demo's where it is not named. Where the pairs are
    /// embedded already a named one is compared with the one that made them.
    pub encoder: Option<PathBuf>,
    /// Augmented copies of each item, for TTDA, where a data set is embedded.
    pub augmentation: Option<usize>,
    /// Whether features before the projections are kept, for BayesVLM, where items are embedded.
    pub pooled: bool,
}

/// Opens pairs: a cache, a store with captions, arrays of another tool, or a data set of images.
/// A data set is embedded into the cache folder on first use; captions of a store are embedded
/// anew each time. `notes` gets what had to be assumed.
///
/// # Errors
/// When the path holds no pairs, a cache is stale or damaged, the encoder is another one than made
/// the images, the device fails, or the job was cancelled.
pub fn open_pairs(
    path: &Path,
    opening: &Opening,
    assets: &Assets,
    device: &ComputeDevice,
    notes: &mut Vec<String>,
    on_progress: &mut dyn FnMut(EmbeddingProgress) -> ControlFlow<()>,
) -> Result<PairStore, SessionError> {
    guarded(|| {
        let path = assets.resolve(path, "pairs")?;
        let named = opening.encoder.as_deref();
        let encoder = || load_encoder(&or_demo(named, "clip"), assets, device);
        match Kind::of(&path) {
            Some(Kind::Native) => {
                require_current(&path, named, assets, notes)?;
                Ok(caches::open(&path, notes)?)
            }
            Some(Kind::Captioned) => {
                let store = CaptionedImages::open(&path, notes)?;
                if store.has_texts() && named.is_none() {
                    return Ok(store.with_own_texts()?);
                }
                let (encoder, reference) = encoder()?;
                embed_captions(store, &encoder, &reference.hash, opening.pooled, on_progress)
            }
            Some(Kind::Foreign) => Ok(caches::open(&path, notes)?),
            None => {
                let dataset = open_dataset(&path, &[])?;
                notes.extend(dataset.notes.iter().map(|note| format!("{}: {note}", dataset.name)));
                let (encoder, reference) = encoder()?;
                let Opening { augmentation, pooled, .. } = *opening;
                let key = format!(
                    "{} {} {augmentation:?} {pooled}",
                    dataset.fingerprint(),
                    reference.hash
                );
                let key = blake3::hash(key.as_bytes());
                let folder = cache::folder()?.join(format!("pairs-{}", &key.to_hex()[..16]));
                let job = EmbeddingJob {
                    dataset: path,
                    encoder: reference.path.clone(),
                    splits: Vec::new(),
                    augmentation,
                    seed: 0,
                    pooled,
                    out: folder.clone(),
                    overwrite: false,
                };
                let manifest = embed_into(&job, &dataset, &encoder, reference, on_progress)?;
                if let Some(text) = left_out_text(&manifest) {
                    notes.push(text);
                }
                Ok(caches::open(&folder, notes)?)
            }
        }
    })
}

/// Embeds the captions of a store in clip-retrieval's layout, every distinct one once, in memory.
///
/// # Errors
/// When it is no such store, its images are of another encoder, or the device fails.
pub fn embed_pair_store(
    folder: &Path,
    encoder: &Encoder,
    encoder_hash: &str,
    pooled: bool,
    notes: &mut Vec<String>,
    on_progress: &mut dyn FnMut(EmbeddingProgress) -> ControlFlow<()>,
) -> Result<PairStore, SessionError> {
    let store = CaptionedImages::open(folder, notes)?;
    embed_captions(store, encoder, encoder_hash, pooled, on_progress)
}

fn embed_captions(
    store: CaptionedImages,
    encoder: &Encoder,
    encoder_hash: &str,
    pooled: bool,
    on_progress: &mut dyn FnMut(EmbeddingProgress) -> ControlFlow<()>,
) -> Result<PairStore, SessionError> {
    store.require_encoder(encoder_hash)?;
    if store.dim() != encoder.dim() {
        return Err(SessionError::Mismatch(format!(
            "the image rows of the pairs have {} dimensions, the encoder makes {}; name the \
             encoder that made them with --encoder",
            store.dim(),
            encoder.dim()
        )));
    }
    let total = store.texts().len();
    let mut values = Vec::with_capacity(total * encoder.dim());
    // The images are gone: their features come from the embeddings, where that can be.
    let image_features = match pooled {
        true => encoder.unproject(Modality::Image, &store.image_values())?,
        false => None,
    };
    let mut text_features = Vec::new();
    let mut done = 0;
    for batch in store.texts().chunks(TEXT_BATCH) {
        let texts: Vec<&str> = batch.iter().map(|text| &**text).collect();
        if image_features.is_some() {
            for item in encoder.pool_texts(&texts)? {
                values.extend(item.embedding.values);
                text_features.extend(item.features);
            }
        } else {
            let embedded = encoder.embed_texts(&texts)?;
            values.extend(embedded.into_iter().flat_map(|embedding| embedding.values));
        }
        done += batch.len();
        let progress = EmbeddingProgress { modality: Modality::Text, done, total };
        if on_progress(progress).is_break() {
            return Err(SessionError::Cancelled);
        }
    }
    let rows = EmbeddingRows::from_values(values, encoder.dim())?;
    let logit_scale = f64::from(encoder.logit_scale());
    let mut pairs = store.with_texts(rows, Some(encoder_hash.to_owned()), Some(logit_scale));
    if let Some(images) = image_features {
        let rows =
            |values, modality| EmbeddingRows::from_values(values, encoder.pooled_dim(modality));
        pairs.pooled = Some(PooledFeatures {
            images: rows(images, Modality::Image)?,
            texts: rows(text_features, Modality::Text)?,
        });
    }
    Ok(pairs)
}

/// Checks a cache against its dataset, where that is still in its place, and against an encoder,
/// where one is named.
///
/// # Errors
/// When one of the two changed since; says which.
pub fn require_current(
    folder: &Path,
    encoder: Option<&Path>,
    assets: &Assets,
    notes: &mut Vec<String>,
) -> Result<(), SessionError> {
    let manifest = Manifest::read(folder)?;
    if let Some(encoder) = encoder {
        let hash = fingerprint::of_folder(&assets.resolve(encoder, "encoder")?)?;
        manifest.require_encoder(folder, &hash)?;
    }
    if !manifest.dataset.path.exists() {
        notes.push(format!(
            "{}: its dataset is no longer at {}, so whether the cache is stale was not checked",
            folder.display(),
            manifest.dataset.path.display()
        ));
        return Ok(());
    }
    let changed = |fingerprint: &str| manifest.require_dataset(folder, fingerprint);
    match open_dataset(&manifest.dataset.path, &manifest.splits) {
        Ok(dataset) => Ok(changed(&dataset.fingerprint())?),
        Err(error) => Err(ExperimentError::Stale {
            path: folder.to_owned(),
            changed: format!(
                "the dataset {} changed and cannot be opened now ({error})",
                manifest.dataset.path.display()
            ),
            hint: "restore the dataset, or move it away to use the cache without it",
        }
        .into()),
    }
}

/// What to say of items that are not in a cache.
pub fn left_out_text(manifest: &Manifest) -> Option<String> {
    let mut parts = Vec::new();
    if manifest.without_caption > 0 {
        parts.push(format!("{} image(s) have no caption", manifest.without_caption));
    }
    let skipped = &manifest.skipped;
    if !skipped.is_empty() {
        let first: Vec<&str> = skipped.iter().take(3).map(|s| s.reason.as_str()).collect();
        parts.push(format!(
            "{} image(s) could not be used, for example: {}",
            skipped.len(),
            first.join("; ")
        ));
    }
    (!parts.is_empty()).then(|| format!("Not in the cache: {}", parts.join(". ")))
}

fn load_encoder(
    path: &Path,
    assets: &Assets,
    device: &ComputeDevice,
) -> Result<(Encoder, SourceRef), SessionError> {
    let found = assets.resolve(path, "encoder")?;
    let encoder = Encoder::load(&found, &device.device)?;
    Ok((encoder, SourceRef { path: path.to_owned(), hash: fingerprint::of_folder(&found)? }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::EmbeddedPairs;

    #[test]
    fn the_bundled_pairs_need_an_encoder_and_are_whole_with_it() {
        let assets = Assets::find(None).unwrap();
        let mut notes = Vec::new();
        let store = open_pairs(
            Path::new("demo/pairs"),
            &Opening { pooled: true, ..Opening::default() },
            &assets,
            &ComputeDevice::cpu(),
            &mut notes,
            &mut |_| ControlFlow::Continue(()),
        )
        .unwrap();
        assert!(notes.is_empty(), "{notes:?}");
        assert!(store.logit_scale.is_some() && store.encoder.is_some());
        assert!(store.pooled.is_some());
        let pairs = EmbeddedPairs::new(store).unwrap();
        let splits = pairs.split_counts();
        assert!(splits.contains_key("train") && splits.contains_key("val"), "{splits:?}");
        // A caption is nearer to its own image than to another, on average.
        let mean = |shift: usize| {
            let count = 500;
            let cosine = |j: usize| {
                let image = (pairs.captions()[j].image as usize + shift) % pairs.image_count();
                pairs.embedding(Modality::Text, j).cosine(&pairs.embedding(Modality::Image, image))
            };
            (0..count).map(cosine).sum::<f64>() / f64::from(count as u32)
        };
        assert!(mean(0) > mean(1000) + 0.05, "{} {}", mean(0), mean(1000));

        let path = assets.resolve(Path::new("demo/pairs"), "pairs").unwrap();
        let error = caches::open(&path, &mut Vec::new()).unwrap_err().to_string();
        assert!(error.contains("--encoder") && error.contains("haze embed --dataset"), "{error}");
    }
}
