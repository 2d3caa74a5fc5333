//! Which image each row of texts belongs to.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use crate::experiment::ExperimentError;
use crate::experiment::cache::unusable;
use crate::experiment::pairs::CaptionLink;
use crate::files::{map_readonly, read_bounded};
use crate::gallery::npy;
use crate::model::config::read_json;

/// Names of the map, without the extension.
const NAMES: [&str; 3] = ["cap_id_to_img_id", "caption_to_image", "caption_to_image_map"];
/// A line of a map has some 16 bytes: 16 million captions.
const CSV_LIMIT: u64 = 256 << 20;
/// Captions per image of COCO and Flickr30k, assumed where nothing else is said.
const CAPTIONS_PER_IMAGE: usize = 5;

/// Reads the map of a folder. Without one, as many texts as images, or five times as many, are
/// taken to be in the images' order, and `notes` says so.
pub fn read(
    folder: &Path,
    images: usize,
    texts: usize,
    notes: &mut Vec<String>,
) -> Result<Vec<CaptionLink>, ExperimentError> {
    let candidates = NAMES.iter().flat_map(|name| {
        ["json", "npy", "csv"].iter().map(move |extension| format!("{name}.{extension}"))
    });
    let Some(path) = candidates.map(|name| folder.join(name)).find(|path| path.is_file()) else {
        let each = match texts {
            _ if texts == images => 1,
            _ if Some(texts) == images.checked_mul(CAPTIONS_PER_IMAGE) => CAPTIONS_PER_IMAGE,
            _ => {
                let reason = format!(
                    "{texts} texts for {images} images and no map between them; add \
                     cap_id_to_img_id.json, .npy or .csv with the image row of each text"
                );
                return Err(unusable(folder, reason));
            }
        };
        notes.push(format!(
            "{}: no caption-to-image map, so {each} text row(s) per image are taken to be in the \
             images' order",
            folder.display()
        ));
        return Ok((0..texts).map(|text| link(text, (text / each) as u32)).collect());
    };
    let map = match path.extension().and_then(|extension| extension.to_str()) {
        Some("json") => from_json(&path)?,
        Some("npy") => npy::integers(&map_readonly(&path, "an npy file")?)
            .map_err(|reason| unusable(&path, reason))?,
        _ => from_csv(&path)?,
    };
    if map.len() != texts {
        let reason = format!(
            "it maps {} captions, but there are {texts} text rows; expected one entry per row",
            map.len()
        );
        return Err(unusable(&path, reason));
    }
    map.into_iter()
        .enumerate()
        .map(|(text, image)| match u32::try_from(image) {
            Ok(row) if (row as usize) < images => Ok(link(text, row)),
            _ => Err(unusable(
                &path,
                format!("caption {text} belongs to image {image}, expected 0 to {}", images - 1),
            )),
        })
        .collect()
}

fn link(text: usize, image: u32) -> CaptionLink {
    CaptionLink { text: text as u32, image, level: None, id: None }
}

/// A list with the image of each caption, or an object from caption to image, as Python's `json`
/// writes a dictionary with whole numbers.
#[derive(Deserialize)]
#[serde(untagged)]
enum Map {
    List(Vec<i64>),
    Object(BTreeMap<String, i64>),
}

fn from_json(path: &Path) -> Result<Vec<i64>, ExperimentError> {
    match read_json(path)? {
        Map::List(images) => Ok(images),
        Map::Object(entries) => {
            let pairs = entries.into_iter().map(|(caption, image)| {
                let row = caption.parse().map_err(|_| {
                    let reason = format!("the key {caption:?} is not the number of a text row");
                    unusable(path, reason)
                })?;
                Ok((row, image))
            });
            in_order(path, pairs.collect::<Result<_, ExperimentError>>()?)
        }
    }
}

/// Lines `caption,image`, or `image` alone in the order of the captions; a first line of words is
/// a header.
fn from_csv(path: &Path) -> Result<Vec<i64>, ExperimentError> {
    let bytes = read_bounded(path, CSV_LIMIT, "a caption-to-image map")?;
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .trim(csv::Trim::All)
        .from_reader(bytes.as_slice());
    let (mut list, mut pairs) = (Vec::new(), Vec::new());
    for (line, record) in reader.records().enumerate() {
        let record = record.map_err(|error| unusable(path, error.to_string()))?;
        let numbers: Result<Vec<i64>, _> = record.iter().map(str::parse).collect();
        match numbers.as_deref() {
            Ok(&[image]) => list.push(image),
            Ok(&[caption, image]) if caption >= 0 => pairs.push((caption as usize, image)),
            _ if line == 0 => {}
            _ => {
                let reason = format!(
                    "line {} is {:?}, expected caption,image or image as whole numbers",
                    line + 1,
                    record.iter().collect::<Vec<_>>().join(",")
                );
                return Err(unusable(path, reason));
            }
        }
    }
    match pairs.is_empty() {
        true => Ok(list),
        false => in_order(path, pairs),
    }
}

/// The images of captions 0, 1, 2..., each of which must be there once.
fn in_order(path: &Path, mut pairs: Vec<(usize, i64)>) -> Result<Vec<i64>, ExperimentError> {
    pairs.sort_unstable();
    if let Some(i) = pairs.iter().enumerate().position(|(i, pair)| pair.0 != i) {
        let reason = format!(
            "caption {} comes where caption {i} is expected; every text row from 0 must be there \
             once",
            pairs[i].0
        );
        return Err(unusable(path, reason));
    }
    Ok(pairs.into_iter().map(|pair| pair.1).collect())
}
