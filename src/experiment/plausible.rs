//! Retrieval scored by plausible matches: ECCV Caption's and CxC's.
//!
//! In: files of matches by COCO's ids, and test pairs that carry such ids. Out: scores per test set
//! and direction. Matches that a gallery does not hold do not count, and are counted.

use std::collections::HashSet;

use super::report::{PlausibleMatches, Settings};
use super::retrieval::{Direction, Retrieval, best_of};
use super::run::TestSet;
use super::{EmbeddedPairs, ExperimentError};
use crate::encoder::Modality;
use crate::evaluation::{
    Clusters, EvaluationError, PLAUSIBLE_RECALL_AT, PlausibleFile, PlausibleTruth, Queries,
    mean_over_queries, share_of_hits,
};
use crate::gallery::Hit;

const IDS_HINT: &str = "plausible matches go by the numbers that COCO gives its images and captions: embed Karpathy's \
     dataset_coco.json or COCO's captions_*.json by `haze embed --dataset DATASET --out CACHE`, with \
     --overwrite where an older Haze made the cache";

/// What is known about the test sets of an experiment; in the order of the sets.
pub struct PlausibleTests {
    sets: Vec<Option<Ids>>,
    /// By test set.
    truths: Vec<Vec<Judged>>,
    /// Fallbacks that were taken.
    pub notes: Vec<String>,
}

/// COCO's numbers of all items of a test set.
struct Ids {
    images: Vec<u64>,
    texts: Vec<u64>,
}

/// The part of one file about one test set in one direction.
struct Judged {
    name: String,
    direction: Direction,
    /// Without what the gallery does not hold.
    truth: PlausibleTruth,
    /// Queries of the whole file.
    judged: usize,
    /// Matches that the file lists for queries of the test set.
    listed: usize,
}

impl PlausibleTests {
    /// Finds which test sets the files are about.
    ///
    /// # Errors
    /// When there are files, but no test set has COCO's ids, or a file is about none of them.
    pub fn new(files: &[PlausibleFile], tests: &[TestSet]) -> Result<Self, ExperimentError> {
        let mut found = Self { sets: Vec::new(), truths: Vec::new(), notes: Vec::new() };
        if files.is_empty() {
            return Ok(found);
        }
        let mut without = Vec::new();
        for test in tests {
            let ids = Ids::of(&test.pairs);
            if let Err(reason) = &ids {
                without.push(format!("{}: not scored by plausible matches: {reason}", test.name));
            }
            found.sets.push(ids.ok());
        }
        if found.sets.iter().all(Option::is_none) {
            let name = tests.iter().map(|test| test.name.as_str()).collect::<Vec<_>>().join(", ");
            let reason = Ids::of(&tests[0].pairs).err().unwrap_or_default();
            return Err(ExperimentError::Data { name, reason: format!("{reason}; {IDS_HINT}") });
        }
        for (test, ids) in tests.iter().zip(&found.sets) {
            let of_test = match ids {
                Some(ids) => files.iter().flat_map(|file| ids.judged(file)).collect(),
                None => Vec::new(),
            };
            found.notes.extend(of_test.iter().filter_map(|judged: &Judged| judged.note(test)));
            found.truths.push(of_test);
        }
        found.notes.extend(without);
        for file in files {
            let is_of = |judged: &Judged| {
                judged.name == file.name && truth(file, judged.direction).is_some()
            };
            if !found.truths.iter().flatten().any(is_of) {
                let counts: Vec<String> = Direction::BOTH
                    .into_iter()
                    .filter_map(|direction| {
                        Some(format!("{} {}s", truth(file, direction)?.len(), direction.query()))
                    })
                    .collect();
                let sets: Vec<&str> = tests.iter().map(|test| test.name.as_str()).collect();
                return Err(EvaluationError::Truth(format!(
                    "{}: it judges {}, but none is in {} with a match; expected the matches of the \
                     split that is tested (ECCV Caption and sits_test.csv are about Karpathy's test \
                     split of COCO, sits_val.csv about val)",
                    file.path.display(),
                    counts.join(" and "),
                    sets.join(", ")
                ))
                .into());
            }
        }
        Ok(found)
    }

    /// The scores of the test set at `position` in one direction.
    ///
    /// # Errors
    /// When a deeper search fails, or no bootstrap replicate is wanted.
    pub fn score(
        &self,
        position: usize,
        test: &TestSet,
        found: &Retrieval,
        settings: &Settings,
    ) -> Result<Vec<PlausibleMatches>, ExperimentError> {
        let Some(Some(ids)) = self.sets.get(position) else { return Ok(Vec::new()) };
        self.truths[position]
            .iter()
            .filter(|judged| judged.direction == found.direction)
            .map(|judged| judged.score(ids, &test.pairs, found, settings))
            .collect()
    }
}

/// What a file says about the queries of a direction.
fn truth(file: &PlausibleFile, direction: Direction) -> Option<&PlausibleTruth> {
    match direction {
        Direction::ImageToText => file.image_to_text.as_ref(),
        Direction::TextToImage => file.text_to_image.as_ref(),
    }
}

impl Ids {
    /// The ids of all images and captions, or why there are none.
    fn of(pairs: &EmbeddedPairs) -> Result<Self, String> {
        let all = |modality: Modality| {
            let count = pairs.count(modality);
            let ids: Vec<u64> = (0..count).filter_map(|i| pairs.coco_id(modality, i)).collect();
            if ids.len() < count {
                return Err(format!("{} of {count} {modality}s have an id of COCO", ids.len()));
            }
            let mut sorted = ids.clone();
            sorted.sort_unstable();
            match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
                Some(twice) => Err(format!("two {modality}s have the id {}", twice[0])),
                None => Ok(ids),
            }
        };
        Ok(Self { images: all(Modality::Image)?, texts: all(Modality::Text)? })
    }

    fn get(&self, modality: Modality) -> &[u64] {
        match modality {
            Modality::Image => &self.images,
            Modality::Text => &self.texts,
        }
    }

    /// What a file says about these items.
    fn judged(&self, file: &PlausibleFile) -> Vec<Judged> {
        let set = |modality| -> HashSet<u64> { self.get(modality).iter().copied().collect() };
        let part = |direction: Direction| {
            let whole = truth(file, direction)?;
            let of_queries = whole.of_queries(&set(direction.query()))?;
            Some(Judged {
                name: file.name.clone(),
                direction,
                truth: of_queries.within(&set(direction.gallery()))?,
                judged: whole.len(),
                listed: of_queries.pairs(),
            })
        };
        Direction::BOTH.into_iter().filter_map(part).collect()
    }
}

impl Judged {
    /// What is missing in the test set.
    fn note(&self, test: &TestSet) -> Option<String> {
        let (queries, matches) = (self.truth.len(), self.truth.pairs());
        (queries < self.judged || matches < self.listed).then(|| {
            format!(
                "{}, {}: of the {} queries that {} judges {queries} were scored, with {matches} of \
                 their {} matches; the others are not in this test set, so the figures cannot be \
                 compared with published ones",
                test.name, self.direction, self.judged, self.name, self.listed
            )
        })
    }

    fn score(
        &self,
        ids: &Ids,
        pairs: &EmbeddedPairs,
        found: &Retrieval,
        settings: &Settings,
    ) -> Result<PlausibleMatches, ExperimentError> {
        let direction = self.direction;
        let [_, _, deepest] = PLAUSIBLE_RECALL_AT;
        let gallery = ids.get(direction.gallery());
        let depth = self.truth.depth().max(deepest).min(gallery.len());
        let deeper;
        let best: &[Vec<Hit>] = match found.best.iter().all(|hits| hits.len() >= depth) {
            true => &found.best,
            false => {
                deeper = best_of(pairs, direction, depth)?;
                &deeper
            }
        };
        let rankings: Vec<Vec<u64>> =
            best.iter().map(|hits| hits.iter().map(|hit| gallery[hit.id]).collect()).collect();
        let scores = self.truth.score(ids.get(direction.query()), &rankings)?;
        let clusters = match direction {
            Direction::ImageToText => None,
            Direction::TextToImage => {
                let image_of = pairs.image_of_caption();
                let images: Vec<usize> = scores.judged.iter().map(|&i| image_of[i]).collect();
                Some(Clusters::of(&images))
            }
        };
        let (clusters, seed) = (clusters.as_ref(), settings.seeds[0]);
        let share = |hits| share_of_hits(Queries { hits, clusters }, settings.bootstrap, seed);
        let mean = |values: &[f64]| mean_over_queries(values, clusters, settings.bootstrap, seed);
        let [first, fifth, tenth] = &scores.hits;
        Ok(PlausibleMatches {
            truth: self.name.clone(),
            judged: self.judged,
            queries: scores.judged.len(),
            listed: self.listed,
            matches: self.truth.pairs(),
            recall: [share(first)?, share(fifth)?, share(tenth)?],
            r_precision: mean(&scores.r_precision)?,
            map_at_r: mean(&scores.average_precision)?,
        })
    }
}

#[cfg(test)]
mod tests;
