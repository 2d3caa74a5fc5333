//! Embeddings that other tools cached: a folder with
//!
//! ```text
//! image.{npy,npz,safetensors,pt}     [N, D]
//! text.{npy,npz,safetensors,pt}      [M, D], one row per caption
//! cap_id_to_img_id.{json,npy,csv}    the image of each caption; may be missing, see `links`
//! splits.json                        optional: the split of each image
//! classes.npy                        optional: the class of each image, a whole number
//! ```
//!
//! as AsymVLM's `cache_embeddings.py` writes it (arXiv 2505.11029). The names of similar tools are
//! known too. `npy` stays in its file; the other formats are read into memory as float32.

mod links;
mod matrix;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use super::{name_of, unusable};
use crate::experiment::pairs::ImageFacts;
use crate::experiment::{ExperimentError, PairStore};
use crate::files::map_readonly;
use crate::gallery::npy;
use crate::model::config::read_json;

/// Names of arrays of images and of texts, without the extension.
const IMAGE_NAMES: [&str; 5] = ["image", "images", "image_emb", "img_emb", "image_embeddings"];
const TEXT_NAMES: [&str; 5] = ["text", "texts", "text_emb", "txt_emb", "text_embeddings"];
const EXTENSIONS: [&str; 5] = ["npy", "npz", "safetensors", "pt", "pth"];

/// True for a folder with arrays of images and texts.
pub fn is_foreign(path: &Path) -> bool {
    !files(path, &IMAGE_NAMES).is_empty() && !files(path, &TEXT_NAMES).is_empty()
}

/// Reads such a folder. `notes` gets what had to be assumed.
pub fn open(folder: &Path, notes: &mut Vec<String>) -> Result<PairStore, ExperimentError> {
    let images = matrix::read(&only(folder, "image", &IMAGE_NAMES)?, &IMAGE_NAMES)?;
    let texts = matrix::read(&only(folder, "text", &TEXT_NAMES)?, &TEXT_NAMES)?;
    if images.is_empty() || texts.is_empty() {
        let reason = format!(
            "it holds {} image and {} text embeddings; expected at least one of each",
            images.len(),
            texts.len()
        );
        return Err(unusable(folder, reason));
    }
    let captions = links::read(folder, images.len(), texts.len(), notes)?;
    let splits = splits(folder, images.len())?;
    let (class_of, classes) = classes(folder, images.len())?;
    let facts = (0..images.len())
        .map(|row| ImageFacts {
            id: row.to_string(),
            split: splits.as_ref().and_then(|splits| splits[row].clone()),
            class: class_of.as_ref().map(|class_of| class_of[row]),
            coco_id: None,
        })
        .collect();
    Ok(PairStore { classes, ..PairStore::new(name_of(folder), images, texts, facts, captions) })
}

/// The files of one side that are there.
fn files(folder: &Path, names: &[&str]) -> Vec<PathBuf> {
    names
        .iter()
        .flat_map(|name| EXTENSIONS.iter().map(move |extension| format!("{name}.{extension}")))
        .map(|name| folder.join(name))
        .filter(|path| path.is_file())
        .collect()
}

fn only(folder: &Path, side: &str, names: &[&str]) -> Result<PathBuf, ExperimentError> {
    let mut found = files(folder, names);
    match found.len() {
        1 => Ok(found.swap_remove(0)),
        count => {
            let list: Vec<_> = found.iter().map(|path| path.display().to_string()).collect();
            Err(unusable(
                folder,
                format!(
                    "expected one {side} array, found {count}{}{}; leave one of them",
                    if count == 0 { "" } else { ": " },
                    list.join(", ")
                ),
            ))
        }
    }
}

/// `splits.json`: a name or null per image, or the rows of every split by its name.
#[derive(Deserialize)]
#[serde(untagged)]
enum Splits {
    PerImage(Vec<Option<String>>),
    ByName(BTreeMap<String, Vec<usize>>),
}

fn splits(folder: &Path, images: usize) -> Result<Option<Vec<Option<Arc<str>>>>, ExperimentError> {
    let path = folder.join("splits.json");
    if !path.exists() {
        return Ok(None);
    }
    match read_json(&path)? {
        Splits::PerImage(names) => {
            if names.len() != images {
                let reason = format!("it names {} splits for {images} images", names.len());
                return Err(unusable(&path, reason));
            }
            let distinct: BTreeMap<&str, Arc<str>> =
                names.iter().flatten().map(|name| (name.as_str(), name.as_str().into())).collect();
            let of = |name: &Option<String>| name.as_ref().map(|n| distinct[n.as_str()].clone());
            Ok(Some(names.iter().map(of).collect()))
        }
        Splits::ByName(rows) => {
            let mut splits: Vec<Option<Arc<str>>> = vec![None; images];
            for (name, rows) in rows {
                let name: Arc<str> = name.into();
                for row in rows {
                    let slot = splits.get_mut(row).ok_or_else(|| {
                        let reason = format!("split {name:?} names image {row} of {images}");
                        unusable(&path, reason)
                    })?;
                    if let Some(other) = slot.replace(Arc::clone(&name)) {
                        let reason =
                            format!("image {row} is in two splits, {other:?} and {name:?}");
                        return Err(unusable(&path, reason));
                    }
                }
            }
            Ok(Some(splits))
        }
    }
}

/// `classes.npy`: numbers are the names of the classes, in numeric order.
fn classes(
    folder: &Path,
    images: usize,
) -> Result<(Option<Vec<u32>>, Vec<String>), ExperimentError> {
    let path = folder.join("classes.npy");
    if !path.exists() {
        return Ok((None, Vec::new()));
    }
    let numbers = npy::integers(&map_readonly(&path, "an npy file")?)
        .map_err(|reason| unusable(&path, reason))?;
    if numbers.len() != images {
        let reason = format!("it has {} classes for {images} images", numbers.len());
        return Err(unusable(&path, reason));
    }
    let distinct: BTreeSet<i64> = numbers.iter().copied().collect();
    let index: BTreeMap<i64, u32> = distinct.iter().copied().zip(0..).collect();
    let classes = distinct.iter().map(i64::to_string).collect();
    Ok((Some(numbers.iter().map(|number| index[number]).collect()), classes))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use safetensors::Dtype;
    use safetensors::tensor::TensorView;

    use super::*;
    use crate::experiment::EmbeddedPairs;
    use crate::experiment::cache::{self, Kind};
    use crate::export::arrays::{Array, write_npz};

    const IMAGES: [f32; 4] = [1.0, 0.5, -1.0, 2.0];
    const TEXTS: [f32; 6] = [1.0, 0.0, 0.0, 1.0, -3.0, 1.0];

    fn npy(descr: &str, shape: &str, bytes: &[u8]) -> Vec<u8> {
        let dict = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
        let length = (dict.len() as u16).to_le_bytes();
        [b"\x93NUMPY\x01\x00", &length[..], dict.as_bytes(), bytes].concat()
    }

    fn floats(values: &[f32]) -> Vec<u8> {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        npy("<f4", &format!("({}, 2)", values.len() / 2), &bytes)
    }

    fn numbers(values: &[i64]) -> Vec<u8> {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        npy("<i8", &format!("({},)", values.len()), &bytes)
    }

    /// Two images, three texts and further files.
    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("image.npy"), floats(&IMAGES)).unwrap();
        std::fs::write(folder.path().join("text.npy"), floats(&TEXTS)).unwrap();
        for (name, bytes) in files {
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        folder
    }

    fn read(folder: &Path) -> Result<(PairStore, Vec<String>), ExperimentError> {
        let mut notes = Vec::new();
        let store = cache::open(folder, &mut notes)?;
        Ok((store, notes))
    }

    fn images_of(store: &PairStore) -> Vec<u32> {
        store.captions.iter().map(|link| link.image).collect()
    }

    fn refused(files: &[(&str, &[u8])], word: &str) {
        let folder = folder(files);
        let error = match read(folder.path()) {
            Err(error) => error,
            Ok((store, _)) => EmbeddedPairs::new(store).map(|_| ()).unwrap_err(),
        };
        let error = error.to_string();
        assert!(error.contains(word), "expected {word:?}: {error}");
    }

    #[test]
    fn the_map_is_read_from_json_npy_and_csv() {
        for (name, bytes) in [
            ("cap_id_to_img_id.json", &b"{\"1\": 0, \"0\": 1, \"2\": 1}"[..]),
            ("cap_id_to_img_id.json", b"[1, 0, 1]"),
            ("cap_id_to_img_id.npy", &numbers(&[1, 0, 1])),
            ("caption_to_image.csv", b"caption,image\n0,1\n2,1\r\n1,0\n"),
            ("caption_to_image.csv", b"1\n0\n1\n"),
        ] {
            let folder = folder(&[(name, bytes)]);
            assert_eq!(Kind::of(folder.path()), Some(Kind::Foreign));
            let (store, notes) = read(folder.path()).unwrap();
            assert_eq!(images_of(&store), [1, 0, 1], "{name}");
            assert!(notes.is_empty(), "{notes:?}");
            let pairs = EmbeddedPairs::new(store).unwrap();
            assert_eq!((pairs.image_count(), pairs.caption_count()), (2, 3));
        }
    }

    #[test]
    fn five_texts_per_image_in_order_are_assumed_and_said() {
        let texts: Vec<f32> = (1..=20).map(|i| i as f32).collect();
        let five = folder(&[("text.npy", &floats(&texts))]);
        let (store, notes) = read(five.path()).unwrap();
        assert_eq!(images_of(&store), [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]);
        assert!(notes[0].contains("5 text row(s) per image"), "{notes:?}");
        refused(&[], "3 texts for 2 images and no map");
    }

    #[test]
    fn every_format_gives_the_same_rows() {
        let map = ("cap_id_to_img_id.json", &b"[0, 1, 1]"[..]);
        let bytes: Vec<u8> = TEXTS.iter().flat_map(|value| value.to_le_bytes()).collect();
        let tensor = TensorView::new(Dtype::F32, vec![3, 2], &bytes).unwrap();
        let safetensors = safetensors::serialize(&HashMap::from([("text", tensor)]), None).unwrap();
        let npz = |path: &Path| {
            let other = Array::F32("other", vec![1], vec![9.0]);
            write_npz(path, &[other, Array::F32("texts", vec![3, 2], TEXTS.to_vec())]).unwrap();
        };
        for name in ["text.safetensors", "text.npz"] {
            let folder = folder(&[map]);
            std::fs::remove_file(folder.path().join("text.npy")).unwrap();
            let path = folder.path().join(name);
            match name {
                "text.npz" => npz(&path),
                _ => std::fs::write(&path, &safetensors).unwrap(),
            }
            let (store, _) = read(folder.path()).unwrap();
            let rows: Vec<f32> = (0..3).flat_map(|row| store.texts.row(row)).collect();
            assert_eq!(rows, TEXTS, "{name}");
        }
    }

    #[test]
    fn a_tensor_that_pytorch_saved_alone_is_read() {
        let fixture =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/bayesvlm/A_img_analytic.pt");
        let folder = tempfile::tempdir().unwrap();
        for name in ["image.pt", "text.pt"] {
            std::fs::copy(&fixture, folder.path().join(name)).unwrap();
        }
        let (store, notes) = read(folder.path()).unwrap();
        assert!(store.images.len() > 1 && store.images.dim() > 1);
        assert_eq!(store.images.row(1), store.texts.row(1));
        assert!(notes[0].contains("1 text row(s) per image"), "{notes:?}");
    }

    #[test]
    fn splits_and_classes_are_read_where_they_are() {
        let map = ("cap_id_to_img_id.json", &b"[0, 1, 1]"[..]);
        let classes = numbers(&[40, -2]);
        for splits in [&b"[\"train\", \"test\"]"[..], b"{\"test\": [1], \"train\": [0]}"] {
            let folder = folder(&[map, ("splits.json", splits), ("classes.npy", &classes)]);
            let (store, _) = read(folder.path()).unwrap();
            assert_eq!(store.classes, ["-2", "40"]);
            assert_eq!(store.facts[0].class, Some(1));
            let pairs = EmbeddedPairs::new(store).unwrap();
            assert_eq!(pairs.with_splits(&["test"]).unwrap().caption_count(), 2);
        }
        refused(&[map, ("splits.json", b"[\"train\"]")], "1 splits for 2 images");
        refused(&[map, ("splits.json", b"{\"a\": [0], \"b\": [0, 1]}")], "in two splits");
        refused(&[map, ("splits.json", b"{\"a\": [2]}")], "image 2 of 2");
        refused(&[map, ("classes.npy", &numbers(&[1]))], "1 classes for 2 images");
    }

    #[test]
    fn bad_data_is_refused_with_what_is_wrong() {
        let map = ("cap_id_to_img_id.json", &b"[0, 1, 1]"[..]);
        let doubles: Vec<u8> = TEXTS.iter().flat_map(|&v| f64::from(v).to_le_bytes()).collect();
        let cut = floats(&TEXTS);
        let nan = floats(&[1.0, f32::NAN, 1.0, 1.0, 1.0, 1.0]);
        let list = |map: &'static [u8]| ("cap_id_to_img_id.json", map);
        refused(&[map, ("text.npy", &npy("<f8", "(3, 2)", &doubles))], "float32");
        refused(&[map, ("text.npy", &cut[..cut.len() - 1])], "cut off");
        refused(&[map, ("text.npy", &nan)], "text embedding 0 is not finite");
        refused(&[map, ("text.npy", &npy("<f4", "(0, 2)", &[]))], "0 text embeddings");
        refused(&[map, ("text.npy", &npy("<f4", "(6,)", &floats(&TEXTS)[..24]))], "two axes");
        refused(&[map, ("texts.npy", &floats(&TEXTS))], "expected one text array, found 2");
        refused(&[list(b"[0, 1]")], "maps 2 captions, but there are 3");
        refused(&[list(b"[0, 1, 2]")], "caption 2 belongs to image 2, expected 0 to 1");
        refused(&[list(b"[0, 1, -1]")], "belongs to image -1");
        refused(&[list(b"{\"0\": 0, \"1\": 1, \"3\": 1}")], "caption 3 comes where caption 2");
        refused(&[list(b"{\"0\": 0, \"00\": 1, \"1\": 1}")], "caption 0 comes where caption 1");
        refused(&[list(b"{\"a\": 0}")], "key \"a\"");
        refused(&[list(b"[0, 0, 0]")], "image 1 (1) has no caption");
        refused(&[("caption_to_image.csv", b"0\n1\nx\n")], "line 3");
        refused(&[map, ("text.npy", &floats(&[0.0; 6]))], "all zeros");
    }
}
