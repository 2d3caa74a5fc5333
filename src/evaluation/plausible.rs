//! Metrics by plausible matches: people judged more pairs to match than the dataset states.
//!
//! ECCV Caption (Chun et al., ECCV 2022, arXiv 2204.03359) and Crisscrossed Captions (CxC; Parekh
//! et al., EACL 2021, arXiv 2004.15020). Both come as one JSON object per direction that maps the
//! id of a query to the ids of all its matches; the ids are those of COCO.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;

use super::EvaluationError;
use super::error::check_pair;
use crate::files::read_bounded;

/// The published files have less than 2 MB each.
const MAX_BYTES: u64 = 64 << 20;

/// All plausible matches of each judged query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlausibleTruth {
    /// Never empty, and no query without a match.
    matches: BTreeMap<u64, BTreeSet<u64>>,
}

/// Means over the judged queries, each in `0..=1`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PlausibleScores {
    /// Queries that the ground truth knows.
    pub queries: usize,
    /// Share of queries whose best match is plausible.
    pub recall_at_1: f64,
    /// Share of plausible matches among the first R, where R is how many the query has.
    pub r_precision: f64,
    /// mAP@R = 1/R · the sum over k = 1..R of P(k) rel(k), with P(k) the precision of the first k
    /// and rel(k) 1 where the k-th is plausible, else 0 (Musgrave, Belongie, Lim, ECCV 2020, arXiv
    /// 2003.08505, section 3.2).
    pub map_at_r: f64,
}

impl PlausibleTruth {
    /// Reads a JSON file `{"query id": [match ids]}`. A query whose list is empty was not judged
    /// and is left out; ids may be numbers or numbers in quotes.
    ///
    /// # Errors
    /// When the file cannot be read, has more than 64 MiB, is no such JSON, or judges no query.
    pub fn read(path: &Path) -> Result<Self, EvaluationError> {
        let bytes = read_bounded(path, MAX_BYTES, "a file of plausible matches")
            .map_err(|error| EvaluationError::Truth(error.to_string()))?;
        Self::parse(&bytes)
            .map_err(|error| EvaluationError::Truth(format!("{}: {error}", path.display())))
    }

    /// The same from bytes.
    ///
    /// # Errors
    /// When they are no such JSON, or judge no query.
    pub fn parse(bytes: &[u8]) -> Result<Self, EvaluationError> {
        let listed: BTreeMap<u64, Vec<Id>> = serde_json::from_slice(bytes).map_err(|error| {
            EvaluationError::Truth(format!(
                "no plausible matches: {error}; expected one JSON object that maps query ids to \
                 lists of match ids, {{\"391895\": [770337, 771687]}}, as in the files of ECCV \
                 Caption"
            ))
        })?;
        let mut matches = BTreeMap::new();
        for (query, ids) in listed {
            let ids: BTreeSet<u64> =
                ids.into_iter().map(Id::number).collect::<Result<_, EvaluationError>>()?;
            if !ids.is_empty() {
                matches.insert(query, ids);
            }
        }
        if matches.is_empty() {
            return Err(EvaluationError::Truth(
                "no query has a plausible match, expected at least one".to_owned(),
            ));
        }
        Ok(Self { matches })
    }

    /// Number of judged queries.
    pub fn len(&self) -> usize {
        self.matches.len()
    }

    /// Never true.
    pub fn is_empty(&self) -> bool {
        self.matches.is_empty()
    }

    /// Whether a query was judged.
    pub fn knows(&self, query: u64) -> bool {
        self.matches.contains_key(&query)
    }

    /// Most matches of one query: how deep rankings have to be at least.
    pub fn depth(&self) -> usize {
        self.matches.values().map(BTreeSet::len).max().unwrap_or(0)
    }

    /// Scores rankings, best first, of gallery ids. `rankings[i]` belongs to the query with id
    /// `queries[i]`; queries that were not judged are skipped.
    ///
    /// # Errors
    /// When the lengths differ, no query was judged, or a ranking is shorter than its query has
    /// matches.
    pub fn score<R: AsRef<[u64]>>(
        &self,
        queries: &[u64],
        rankings: &[R],
    ) -> Result<PlausibleScores, EvaluationError> {
        check_pair("the list of rankings", rankings.len(), queries.len())?;
        let mut sums = [0.0; 3];
        let mut judged = 0;
        for (query, ranking) in queries.iter().zip(rankings) {
            let Some(matches) = self.matches.get(query) else { continue };
            let (ranking, needed) = (ranking.as_ref(), matches.len());
            if ranking.len() < needed {
                let found = ranking.len();
                return Err(EvaluationError::Shallow { query: *query, found, needed });
            }
            let (mut right, mut precision) = (0usize, 0.0);
            for (place, id) in ranking[..needed].iter().enumerate() {
                if matches.contains(id) {
                    right += 1;
                    precision += right as f64 / (place + 1) as f64;
                }
            }
            sums[0] += f64::from(u8::from(matches.contains(&ranking[0])));
            sums[1] += right as f64 / needed as f64;
            sums[2] += precision / needed as f64;
            judged += 1;
        }
        if judged == 0 {
            return Err(EvaluationError::Truth(format!(
                "none of the {} queries is among the {} that have plausible matches; expected ids \
                 of the same dataset, COCO's",
                queries.len(),
                self.len()
            )));
        }
        let [recall_at_1, r_precision, map_at_r] = sums.map(|sum| sum / judged as f64);
        Ok(PlausibleScores { queries: judged, recall_at_1, r_precision, map_at_r })
    }
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

    const TRUTH: &str = r#"{"7": [1, 2, "3"], "8": [5], "9": [], "10": [4, 4]}"#;

    #[test]
    fn scores_follow_their_definitions() {
        let truth = PlausibleTruth::parse(TRUTH.as_bytes()).unwrap();
        assert_eq!((truth.len(), truth.depth()), (3, 3));
        assert!(truth.knows(7) && !truth.knows(9));
        // Query 7 has R = 3 and finds places 1 and 3: R-precision 2/3, mAP@R (1 + 2/3) / 3. Query 8
        // has R = 1 and misses; its match in the second place does not count. 11 was not judged.
        let rankings = [vec![2, 9, 1, 3], vec![6, 5], vec![1]];
        let scores = truth.score(&[7, 8, 11], &rankings).unwrap();
        assert_eq!(scores.queries, 2);
        assert!((scores.recall_at_1 - 0.5).abs() < 1e-15);
        assert!((scores.r_precision - 1.0 / 3.0).abs() < 1e-15);
        assert!((scores.map_at_r - 5.0 / 18.0).abs() < 1e-15);
    }

    #[test]
    fn a_match_that_is_listed_twice_counts_once() {
        let truth = PlausibleTruth::parse(TRUTH.as_bytes()).unwrap();
        let scores = truth.score(&[10], &[vec![4]]).unwrap();
        assert_eq!((scores.recall_at_1, scores.r_precision, scores.map_at_r), (1.0, 1.0, 1.0));
    }

    #[test]
    fn what_cannot_be_scored_is_refused() {
        let truth = PlausibleTruth::parse(TRUTH.as_bytes()).unwrap();
        let shallow = truth.score(&[7], &[vec![1, 2]]);
        assert_eq!(shallow, Err(EvaluationError::Shallow { query: 7, found: 2, needed: 3 }));
        assert!(truth.score(&[7, 8], &[vec![1, 2, 3]]).is_err());
        let foreign = truth.score(&[11], &[vec![1]]).unwrap_err().to_string();
        assert!(foreign.contains("none of the 1 queries"), "{foreign}");
        for bad in
            ["", "[]", "{}", r#"{"7": []}"#, r#"{"a": [1]}"#, r#"{"7": ["x"]}"#, r#"{"7": [-1]}"#]
        {
            assert!(PlausibleTruth::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_file_is_read_and_named_in_errors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("eccv.json");
        std::fs::write(&path, TRUTH).unwrap();
        assert_eq!(PlausibleTruth::read(&path).unwrap().len(), 3);
        std::fs::write(&path, "{").unwrap();
        assert!(PlausibleTruth::read(&path).unwrap_err().to_string().contains("eccv.json"));
        assert!(PlausibleTruth::read(&folder.path().join("none.json")).is_err());
    }
}
