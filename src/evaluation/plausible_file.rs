//! The files that plausible matches are published in.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `*_image_to_caption.json`, `*_caption_to_image.json` | `{"query id": [match ids]}`, as in the package of ECCV Caption: its own `eccv_*`, and `cxc_*`, `original_*` and `pm_*` |
//! | `sits_*.csv` | CxC's ratings of pairs: `caption,image,agg_score,sampling_method`, with `COCO_val2014:sentid:732091` and `COCO_val2014_000000365325.jpg` |
//!
//! A pair that people rated 3 or higher of 5 is plausible (CxC, arXiv 2004.15020, section 3). Of
//! `sits_test.csv` that gives the 35,585 pairs of ECCV Caption's `cxc_*.json` exactly.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{EvaluationError, PlausibleTruth};
use crate::files::read_bounded;

/// The published files have less than 4 MB each.
const MAX_BYTES: u64 = 64 << 20;
/// The lowest rating of a plausible pair.
const PLAUSIBLE_RATING: f64 = 3.0;
const RATINGS_HEADER: [&str; 4] = ["caption", "image", "agg_score", "sampling_method"];
const IMAGE_TO_CAPTION: &str = "image_to_caption";
const CAPTION_TO_IMAGE: &str = "caption_to_image";

/// A file of plausible matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlausibleFile {
    /// What the matches are called: `eccv` of `eccv_image_to_caption.json`, `cxc` of ratings.
    pub name: String,
    pub path: PathBuf,
    /// Captions that match each image.
    pub image_to_text: Option<PlausibleTruth>,
    /// Images that match each caption.
    pub text_to_image: Option<PlausibleTruth>,
}

impl PlausibleFile {
    /// Reads one of the files above. Of a JSON file a query whose list is empty was not judged, and
    /// ids may be numbers or numbers in quotes.
    ///
    /// # Errors
    /// When the file cannot be read, has more than 64 MiB, is none of these, or judges no query.
    pub fn read(path: &Path) -> Result<Self, EvaluationError> {
        let in_file =
            |error: EvaluationError| EvaluationError::Truth(format!("{}: {error}", path.display()));
        let bytes = read_bounded(path, MAX_BYTES, "a file of plausible matches")
            .map_err(|error| EvaluationError::Truth(error.to_string()))?;
        let path = path.to_owned();
        if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv")) {
            let truth = ratings(&bytes).map_err(in_file)?;
            let reversed = truth.reversed();
            return Ok(Self {
                name: "cxc".to_owned(),
                path,
                image_to_text: Some(reversed),
                text_to_image: Some(truth),
            });
        }
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let named = |ending| Some(stem.strip_suffix(ending)?.trim_end_matches('_').to_owned());
        let (name, from_image) = match (named(IMAGE_TO_CAPTION), named(CAPTION_TO_IMAGE)) {
            (Some(name), _) => (name, true),
            (None, Some(name)) => (name, false),
            (None, None) => {
                return Err(in_file(EvaluationError::Truth(format!(
                    "its name does not say whether images or captions are the queries; expected \
                     *_{IMAGE_TO_CAPTION}.json or *_{CAPTION_TO_IMAGE}.json, as ECCV Caption names \
                     them, or CxC's sits_*.csv"
                ))));
            }
        };
        let truth = Some(matches(&bytes).map_err(in_file)?);
        let name = if name.is_empty() { "plausible".to_owned() } else { name };
        Ok(match from_image {
            true => Self { name, path, image_to_text: truth, text_to_image: None },
            false => Self { name, path, image_to_text: None, text_to_image: truth },
        })
    }
}

/// A JSON object `{"query id": [match ids]}`.
fn matches(bytes: &[u8]) -> Result<PlausibleTruth, EvaluationError> {
    let listed: BTreeMap<u64, Vec<Id>> = serde_json::from_slice(bytes).map_err(|error| {
        EvaluationError::Truth(format!(
            "no plausible matches: {error}; expected one JSON object that maps query ids to lists \
             of match ids, {{\"391895\": [770337, 771687]}}, as in the files of ECCV Caption"
        ))
    })?;
    let numbers = |ids: Vec<Id>| ids.into_iter().map(Id::number).collect::<Result<_, _>>();
    let each = listed.into_iter().map(|(query, ids)| Ok((query, numbers(ids)?)));
    PlausibleTruth::new(each.collect::<Result<_, EvaluationError>>()?)
}

/// The images that match each caption, by CxC's ratings.
fn ratings(bytes: &[u8]) -> Result<PlausibleTruth, EvaluationError> {
    let broken = |error: csv::Error| EvaluationError::Truth(error.to_string());
    let mut reader = csv::Reader::from_reader(bytes);
    let header = reader.headers().map_err(broken)?;
    if *header != RATINGS_HEADER[..] {
        return Err(EvaluationError::Truth(format!(
            "its columns are {}, expected {}, as in CxC's sits_val.csv and sits_test.csv (sis_*.csv \
             and sts_*.csv rate pairs of one modality)",
            header.iter().collect::<Vec<_>>().join(","),
            RATINGS_HEADER.join(",")
        )));
    }
    let mut matches: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    for (line, record) in (2..).zip(reader.records()) {
        let record = record.map_err(broken)?;
        let wrong = |found: &str, expected: &str| {
            EvaluationError::Truth(format!("line {line} has {found:?}, expected {expected}"))
        };
        let caption = record[0].rsplit(':').next().and_then(|id| id.parse().ok());
        let caption = caption
            .ok_or_else(|| wrong(&record[0], "a caption such as COCO_val2014:sentid:732091"))?;
        let stem = record[1].split('.').next().unwrap_or_default();
        let image = stem.rsplit('_').next().and_then(|id| id.parse().ok());
        let image = image
            .ok_or_else(|| wrong(&record[1], "an image such as COCO_val2014_000000365325.jpg"))?;
        let rating = record[2].parse::<f64>().ok().filter(|rating| rating.is_finite());
        let rating = rating.ok_or_else(|| wrong(&record[2], "a rating from 0 to 5"))?;
        if rating >= PLAUSIBLE_RATING {
            matches.entry(caption).or_default().insert(image);
        }
    }
    PlausibleTruth::new(matches)
}

/// An id as people write it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Id {
    Number(u64),
    Text(String),
}

impl Id {
    fn number(self) -> Result<u64, EvaluationError> {
        match self {
            Id::Number(number) => Ok(number),
            Id::Text(text) => text.parse().map_err(|_| {
                EvaluationError::Truth(format!(
                    "a match has the id {text:?}, expected a whole number such as 770337"
                ))
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATINGS: &str = "caption,image,agg_score,sampling_method\n\
                           COCO_val2014:sentid:732091,COCO_val2014_000000365325.jpg,2.2,c2i_intrasim\n\
                           COCO_val2014:sentid:262300,COCO_val2014_000000369373.jpg,4.97,c2i_original\n\
                           COCO_val2014:sentid:262300,COCO_val2014_000000463918.jpg,3.0,c2i_intrasim\n";

    fn file(name: &str, content: &str) -> Result<PlausibleFile, EvaluationError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        PlausibleFile::read(&path)
    }

    #[test]
    fn the_name_of_a_json_file_says_which_way_it_goes() {
        let content = r#"{"7": [1, 2, "3"], "8": [5], "9": [], "10": [4, 4]}"#;
        let found = file("eccv_image_to_caption.json", content).unwrap();
        assert_eq!(found.name, "eccv");
        let truth = found.image_to_text.unwrap();
        assert_eq!((truth.len(), truth.pairs(), found.text_to_image), (3, 5, None));
        let found = file("caption_to_image.json", content).unwrap();
        assert_eq!((found.name.as_str(), found.image_to_text), ("plausible", None));
        assert_eq!(found.text_to_image, Some(truth));
        let error = file("eccv.json", content).unwrap_err().to_string();
        assert!(error.contains("eccv.json") && error.contains("*_image_to_caption"), "{error}");
    }

    #[test]
    fn ratings_of_three_and_more_are_plausible_both_ways() {
        let found = file("sits_test.csv", RATINGS).unwrap();
        assert_eq!(found.name, "cxc");
        let (images, captions) = (found.image_to_text.unwrap(), found.text_to_image.unwrap());
        assert_eq!((captions.len(), captions.pairs()), (1, 2));
        assert_eq!((images.len(), images.depth()), (2, 1));
        let scores = captions.score(&[262_300], &[vec![463_918, 369_373]]).unwrap();
        assert_eq!(scores.average_precision, [1.0]);
    }

    #[test]
    fn what_is_no_such_file_is_refused_with_the_place() {
        let name = "eccv_image_to_caption.json";
        for bad in
            ["", "[]", "{}", r#"{"7": []}"#, r#"{"a": [1]}"#, r#"{"7": ["x"]}"#, r#"{"7": [-1]}"#]
        {
            let error = file(name, bad).unwrap_err().to_string();
            assert!(error.contains(name), "{bad}: {error}");
        }
        let refused = |from: &str, to: &str, word: &str| {
            let error = file("x.csv", &RATINGS.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains("x.csv") && error.contains(word), "{error}");
        };
        refused("caption,image,", "image1,image2,", "sits_test.csv");
        refused("sentid:262300", "sentid:x", "line 3");
        refused("_000000365325", "_", "line 2");
        refused("3.0", "NaN", "line 4");
        refused("4.97", "4,97", "line");
        let low = RATINGS.lines().take(2).collect::<Vec<_>>().join("\n");
        assert!(file("x.csv", &low).unwrap_err().to_string().contains("no query"));
        assert!(PlausibleFile::read(Path::new("/nowhere/eccv_image_to_caption.json")).is_err());
    }
}
