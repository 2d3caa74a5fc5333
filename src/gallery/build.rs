//! Embedding a whole dataset into a store.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};

use rayon::prelude::*;

use super::{Dataset, DatasetItem, GalleryError, ImageLocation, IndexInfo, SourceRef, StoreWriter};
use crate::encoder::Embedding;

/// Batches that wait, prepared, for the encoder. One being embedded, one ready, one in the making.
const BATCHES_AHEAD: usize = 1;

/// How a dataset is embedded.
#[derive(Debug, Clone)]
pub struct BuildOptions {
    /// Images given to the encoder at a time, at least 1. Has no influence on the result.
    pub batch_size: usize,
    /// The encoder and a hash over its files, noted in the store.
    pub encoder: SourceRef,
    /// Dimension D of its embeddings.
    pub dim: usize,
}

/// An image that is not in the index, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedImage {
    pub image: PathBuf,
    pub reason: String,
}

/// A finished index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildReport {
    pub info: IndexInfo,
    pub skipped: Vec<SkippedImage>,
}

/// Embeds every image of `dataset` and writes the store to `destination`.
///
/// `prepare` turns an image into what the encoder takes; it runs on all cores, ahead of
/// `embed`, and at most three batches of its results are alive. `embed` is called on the calling
/// thread. Images that `prepare` refuses are skipped and reported, rows keep the dataset's order.
/// `on_progress` is told (images done, all images) after each batch and may cancel.
///
/// # Errors
/// When `embed` fails, no image is usable, `on_progress` breaks, or the store cannot be written;
/// nothing is written then, and an index that was at `destination` before stays.
pub fn build_index<T, P, E>(
    dataset: &Dataset,
    destination: &Path,
    options: &BuildOptions,
    prepare: impl Fn(&ImageLocation) -> Result<T, P> + Sync,
    mut embed: impl FnMut(&[T]) -> Result<Vec<Embedding>, E>,
    mut on_progress: impl FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<BuildReport, GalleryError>
where
    T: Send,
    P: std::fmt::Display,
    E: std::error::Error + Send + Sync + 'static,
{
    let mut writer =
        StoreWriter::create(destination, options.dim, options.encoder.clone(), dataset)?;
    let total = dataset.items.len();
    let mut skipped = Vec::new();
    let mut done = 0;
    with_batches(dataset, options.batch_size.max(1), &prepare, |batches| {
        while let Ok(batch) = batches.recv() {
            done += batch.len();
            let (mut items, mut inputs) = (Vec::new(), Vec::new());
            for (item, input) in batch {
                match input {
                    Ok(input) => {
                        items.push(item);
                        inputs.push(input);
                    }
                    Err(reason) => skipped.push(SkippedImage { image: item.image.path(), reason }),
                }
            }
            if !inputs.is_empty() {
                let embeddings = embed_batch(&inputs, &mut embed)?;
                push(&mut writer, &items, &embeddings, &mut skipped)?;
            }
            if on_progress(done, total).is_break() {
                return Err(GalleryError::Cancelled);
            }
        }
        Ok(())
    })?;
    if writer.count() == 0 {
        let reasons = skipped.into_iter().map(|skipped| skipped.reason).collect();
        return Err(GalleryError::AllSkipped { reasons });
    }
    Ok(BuildReport { info: writer.finish()?, skipped })
}

/// One item with what was prepared of it, or why that failed.
type Prepared<'a, T> = (&'a DatasetItem, Result<T, String>);

/// Runs `consume` while a thread of its own prepares the batches that it receives.
fn with_batches<'a, T: Send, P: std::fmt::Display, R>(
    dataset: &'a Dataset,
    batch_size: usize,
    prepare: &(impl Fn(&ImageLocation) -> Result<T, P> + Sync),
    consume: impl FnOnce(Receiver<Vec<Prepared<'a, T>>>) -> R,
) -> R {
    std::thread::scope(|scope| {
        let (sender, batches) = sync_channel(BATCHES_AHEAD);
        scope.spawn(move || {
            for batch in dataset.items.chunks(batch_size) {
                let prepared = batch
                    .par_iter()
                    .map(|item| (item, prepare(&item.image).map_err(|reason| reason.to_string())));
                // The receiver is gone when the work was cancelled or failed.
                if sender.send(prepared.collect()).is_err() {
                    return;
                }
            }
        });
        consume(batches)
    })
}

fn embed_batch<T, E: std::error::Error + Send + Sync + 'static>(
    inputs: &[T],
    embed: &mut impl FnMut(&[T]) -> Result<Vec<Embedding>, E>,
) -> Result<Vec<Embedding>, GalleryError> {
    let batch = inputs.len();
    let embeddings =
        embed(inputs).map_err(|error| GalleryError::Encoder { batch, source: Box::new(error) })?;
    if embeddings.len() != batch {
        let reason = format!("it gave {} embeddings", embeddings.len());
        return Err(GalleryError::Encoder { batch, source: reason.into() });
    }
    Ok(embeddings)
}

/// Adds the embeddings that have a direction. One overflow in half precision must not cost the
/// hours that the rest took.
fn push(
    writer: &mut StoreWriter,
    items: &[&DatasetItem],
    embeddings: &[Embedding],
    skipped: &mut Vec<SkippedImage>,
) -> Result<(), GalleryError> {
    let (mut kept, mut rows) = (Vec::new(), Vec::new());
    for (&item, embedding) in items.iter().zip(embeddings) {
        if embedding.norm().is_normal() {
            kept.push(item);
            rows.push(embedding.values.as_slice());
        } else {
            let reason = format!("{}: its embedding is zero or not finite", item.image);
            skipped.push(SkippedImage { image: item.image.path(), reason });
        }
    }
    writer.push(&kept, &rows)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io;

    use super::*;
    use crate::encoder::Modality;
    use crate::gallery::EmbeddingStore;

    fn dataset(count: usize) -> Dataset {
        let item = |i: usize| DatasetItem {
            id: format!("{i}.png"),
            image: PathBuf::from(format!("/images/{i}.png")).into(),
            captions: Vec::new(),
            split: None,
            labels: BTreeMap::new(),
        };
        let source = PathBuf::from("/images");
        Dataset::new("images", source, (0..count).map(item).collect())
    }

    fn options(batch_size: usize) -> BuildOptions {
        let encoder = SourceRef { path: PathBuf::from("/clip"), hash: "abc".to_owned() };
        BuildOptions { batch_size, encoder, dim: 2 }
    }

    /// The number in the file's name; every fifth file is unreadable.
    fn prepare(image: &ImageLocation) -> Result<u16, String> {
        let number = image.path().file_stem().unwrap().to_string_lossy().parse().unwrap();
        if number % 5 == 2 { Err(format!("{number} is broken")) } else { Ok(number) }
    }

    fn embed(inputs: &[u16]) -> Result<Vec<Embedding>, io::Error> {
        let values = |n: u16| vec![f32::from(n).cos(), f32::from(n).sin()];
        let embedding = |&n| Embedding { values: values(n), modality: Modality::Image };
        Ok(inputs.iter().map(embedding).collect())
    }

    fn go_on(_: usize, _: usize) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    #[test]
    fn every_readable_image_gets_its_row_in_order_for_every_batch_size() {
        for batch_size in [1, 3, 16, 100] {
            let folder = tempfile::tempdir().unwrap();
            let destination = folder.path().join("index");
            let mut seen = Vec::new();
            let report = build_index(
                &dataset(16),
                &destination,
                &options(batch_size),
                prepare,
                embed,
                |done, total| {
                    seen.push((done, total));
                    ControlFlow::Continue(())
                },
            )
            .unwrap();
            let skipped: Vec<_> = report.skipped.iter().map(|s| s.reason.as_str()).collect();
            assert_eq!(skipped, ["2 is broken", "7 is broken", "12 is broken"]);
            assert_eq!(seen.last(), Some(&(16, 16)));
            assert_eq!(seen.len(), 16usize.div_ceil(batch_size));
            let store = EmbeddingStore::open(&destination).unwrap();
            let numbers: Vec<f32> = (0..16u16).filter(|n| n % 5 != 2).map(f32::from).collect();
            assert_eq!(store.len(), numbers.len());
            let ids: Vec<_> = (0..store.len()).collect();
            for ((id, number), item) in ids.iter().zip(numbers).zip(store.metadata(&ids).unwrap()) {
                assert!((store.image_rows().row(*id)[0] - number.cos()).abs() < 1e-3);
                assert_eq!(item.image_path, Some(format!("/images/{number}.png")));
            }
        }
    }

    #[test]
    fn a_cancelled_or_failed_build_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let destination = folder.path().join("index");
        let stop = |done, _| match done < 6 {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        };
        let error = build_index(&dataset(99), &destination, &options(3), prepare, embed, stop);
        assert!(matches!(error.unwrap_err(), GalleryError::Cancelled));
        let fail = |_: &[u16]| Err(io::Error::other("out of memory"));
        let error = build_index(&dataset(99), &destination, &options(3), prepare, fail, go_on);
        let error = error.unwrap_err().to_string();
        assert!(error.contains("out of memory") && error.contains("batch of 2 images"), "{error}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_dataset_without_a_readable_image_is_an_error_with_reasons() {
        let folder = tempfile::tempdir().unwrap();
        let broken = |_: &ImageLocation| Err::<u16, _>("not an image");
        let error = build_index(
            &dataset(9),
            &folder.path().join("index"),
            &options(4),
            broken,
            embed,
            go_on,
        );
        let error = error.unwrap_err().to_string();
        assert!(error.contains("none of the 9 images"), "{error}");
        assert!(error.contains("not an image") && error.contains("and 4 more"));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn an_embedding_that_is_not_finite_costs_its_own_row_only() {
        let folder = tempfile::tempdir().unwrap();
        let overflow = |inputs: &[u16]| {
            let mut embeddings = embed(inputs)?;
            if let Some(i) = inputs.iter().position(|&n| n == 3) {
                embeddings[i].values[1] = f32::NAN;
            }
            Ok::<_, io::Error>(embeddings)
        };
        let destination = folder.path().join("index");
        let report =
            build_index(&dataset(6), &destination, &options(4), prepare, overflow, go_on).unwrap();
        assert_eq!(report.info.count, 4);
        assert_eq!(report.skipped.len(), 2);
        assert!(report.skipped[1].reason.starts_with("/images/3.png: its embedding is zero or"));
    }

    #[test]
    fn an_encoder_that_gives_too_few_embeddings_is_caught() {
        let folder = tempfile::tempdir().unwrap();
        let few = |inputs: &[u16]| embed(&inputs[1..]);
        let error = build_index(
            &dataset(4),
            &folder.path().join("index"),
            &options(4),
            prepare,
            few,
            go_on,
        );
        assert!(error.unwrap_err().to_string().contains("it gave 2 embeddings"));
    }
}
