//! Reading caches that [`CacheWriter`](super::CacheWriter) wrote.

use std::path::Path;

use super::manifest::{Manifest, PartInfo};
use super::parts::Array;
use super::{tables, unusable};
use crate::experiment::pairs::{AugmentationVariance, PooledFeatures};
use crate::experiment::{ExperimentError, PairStore};
use crate::gallery::EmbeddingRows;

/// Maps the arrays and reads the tables of a finished cache.
pub fn open(folder: &Path) -> Result<PairStore, ExperimentError> {
    let manifest = Manifest::read(folder)?;
    if !manifest.complete {
        return Err(unusable(
            folder,
            format!(
                "the cache is unfinished: {} images and {} texts so far; run the same `haze \
                 embed` command again, it goes on where it stopped",
                rows(&manifest.image_parts),
                rows(&manifest.text_parts)
            ),
        ));
    }
    let images = embeddings(Array::ImageEmbeddings, folder, &manifest, &manifest.image_parts)?;
    let texts = embeddings(Array::TextEmbeddings, folder, &manifest, &manifest.text_parts)?;
    let facts = tables::read_images(folder, images.len())?;
    let captions = tables::read_captions(folder, manifest.captions, texts.len())?;
    let augmented = match manifest.augmentation {
        None => None,
        Some(augmentation) => Some(AugmentationVariance {
            passes: augmentation.passes,
            images: variances(Array::ImageVariances, folder, &manifest.image_parts)?,
            texts: variances(Array::TextVariances, folder, &manifest.text_parts)?,
        }),
    };
    let pooled = match manifest.pooled {
        false => None,
        true => Some(PooledFeatures {
            images: Array::PooledImages.map(folder, &manifest.image_parts)?,
            texts: Array::PooledTexts.map(folder, &manifest.text_parts)?,
        }),
    };
    Ok(PairStore {
        name: manifest.name,
        images,
        texts,
        facts: facts.facts,
        captions: captions.links,
        words: Some(captions.words),
        classes: facts.classes,
        encoder: Some(manifest.encoder.hash),
        logit_scale: Some(manifest.logit_scale),
        augmented,
        pooled,
    })
}

fn rows(parts: &[PartInfo]) -> usize {
    parts.iter().map(|part| part.rows).sum()
}

fn embeddings(
    array: Array,
    folder: &Path,
    manifest: &Manifest,
    parts: &[PartInfo],
) -> Result<EmbeddingRows, ExperimentError> {
    let rows = array.map(folder, parts)?;
    if rows.dim() != manifest.dim {
        return Err(unusable(
            &folder.join(array.name()),
            format!(
                "its rows have {} dimensions, cache.json says {}; embed the dataset again with \
                 --overwrite",
                rows.dim(),
                manifest.dim
            ),
        ));
    }
    Ok(rows)
}

fn variances(array: Array, folder: &Path, parts: &[PartInfo]) -> Result<Vec<f32>, ExperimentError> {
    let rows = array.map(folder, parts)?;
    let mut values = vec![0f32; rows.len()];
    let valid = rows.dim() == 1 && {
        rows.read(0..rows.len(), 1, &mut values);
        values.iter().all(|value| value.is_finite() && *value >= 0.0)
    };
    if !valid {
        let path = folder.join(array.name());
        return Err(unusable(
            &path,
            "expected one variance per row, finite and not negative; embed the dataset again with \
             --overwrite",
        ));
    }
    Ok(values)
}
