//! Metrics by plausible matches: people judged more pairs to match than the dataset states.
//!
//! ECCV Caption (Chun et al., ECCV 2022, arXiv 2204.03359) and Crisscrossed Captions (CxC; Parekh
//! et al., EACL 2021, arXiv 2004.15020). Queries and matches are ids of COCO. The files are read in
//! `plausible_file`.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::EvaluationError;
use super::error::check_pair;

/// Places in a ranking that recall is told for.
pub const PLAUSIBLE_RECALL_AT: [usize; 3] = [1, 5, 10];

/// All plausible matches of each judged query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlausibleTruth {
    /// Never empty, and no query without a match.
    matches: BTreeMap<u64, BTreeSet<u64>>,
}

/// What the judged queries find, one entry per judged query.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PlausibleScores {
    /// Position of each judged query among the queries.
    pub judged: Vec<usize>,
    /// Whether a plausible match is among the first 1, 5 and 10.
    pub hits: [Vec<bool>; 3],
    /// Share of plausible matches among the first R, where R is how many the query has.
    pub r_precision: Vec<f64>,
    /// AP@R = 1/R · the sum over k = 1..R of P(k) rel(k), with P(k) the precision of the first k
    /// and rel(k) 1 where the k-th is plausible, else 0; its mean is mAP@R (Musgrave, Belongie, Lim,
    /// ECCV 2020, arXiv 2003.08505, section 3.2).
    pub average_precision: Vec<f64>,
}

impl PlausibleTruth {
    /// From the matches of each query. A query without any was not judged and is left out.
    ///
    /// # Errors
    /// When no query has a match.
    pub fn new(matches: BTreeMap<u64, BTreeSet<u64>>) -> Result<Self, EvaluationError> {
        let matches: BTreeMap<_, _> = matches.into_iter().filter(|(_, m)| !m.is_empty()).collect();
        if matches.is_empty() {
            return Err(EvaluationError::Truth(
                "no query has a plausible match, expected at least one".to_owned(),
            ));
        }
        Ok(Self { matches })
    }

    /// The same seen from the other side: the queries of each match.
    pub fn reversed(&self) -> Self {
        let mut matches: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
        for (&query, of_query) in &self.matches {
            for &id in of_query {
                matches.entry(id).or_default().insert(query);
            }
        }
        Self { matches }
    }

    /// Number of judged queries.
    pub fn len(&self) -> usize {
        self.matches.len()
    }

    /// Never true.
    pub fn is_empty(&self) -> bool {
        self.matches.is_empty()
    }

    /// Number of pairs of a query and a match.
    pub fn pairs(&self) -> usize {
        self.matches.values().map(BTreeSet::len).sum()
    }

    /// Most matches of one query: how deep rankings have to be at least.
    pub fn depth(&self) -> usize {
        self.matches.values().map(BTreeSet::len).max().unwrap_or(0)
    }

    /// The part about these queries; `None` where none of them was judged.
    pub fn of_queries(&self, queries: &HashSet<u64>) -> Option<Self> {
        let matches = self.matches.iter().filter(|(query, _)| queries.contains(query));
        Self::new(matches.map(|(&query, of_query)| (query, of_query.clone())).collect()).ok()
    }

    /// The part with these matches; `None` where none of them is one. What is not in a gallery
    /// cannot be found, and R counts without it.
    pub fn within(&self, gallery: &HashSet<u64>) -> Option<Self> {
        let kept = |of_query: &BTreeSet<u64>| {
            of_query.iter().copied().filter(|id| gallery.contains(id)).collect()
        };
        Self::new(self.matches.iter().map(|(&query, m)| (query, kept(m))).collect()).ok()
    }

    /// Scores rankings, best first, of gallery ids. `rankings[i]` belongs to the query with id
    /// `queries[i]` and has ten places, or the whole gallery; queries that were not judged are
    /// skipped.
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
        let mut scores = PlausibleScores::default();
        for (position, (query, ranking)) in queries.iter().zip(rankings).enumerate() {
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
            let first = ranking.iter().position(|id| matches.contains(id));
            for (hits, k) in scores.hits.iter_mut().zip(PLAUSIBLE_RECALL_AT) {
                hits.push(first.is_some_and(|place| place < k));
            }
            scores.judged.push(position);
            scores.r_precision.push(right as f64 / needed as f64);
            scores.average_precision.push(precision / needed as f64);
        }
        if scores.judged.is_empty() {
            return Err(EvaluationError::Truth(format!(
                "none of the {} queries is among the {} that have plausible matches; expected ids \
                 of the same dataset, COCO's",
                queries.len(),
                self.len()
            )));
        }
        Ok(scores)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Query 7 matches 1, 2 and 3, query 8 matches 5, query 10 matches 4; 9 was not judged.
    fn truth() -> PlausibleTruth {
        let of = |ids: &[u64]| ids.iter().copied().collect::<BTreeSet<u64>>();
        let matches = [(7, of(&[1, 2, 3])), (8, of(&[5])), (9, of(&[])), (10, of(&[4]))];
        PlausibleTruth::new(matches.into()).unwrap()
    }

    #[test]
    fn scores_follow_their_definitions() {
        let truth = truth();
        assert_eq!((truth.len(), truth.depth(), truth.pairs()), (3, 3, 5));
        // Query 7 has R = 3 and finds places 1 and 3: R-precision 2/3, AP@R (1 + 2/3) / 3. Query 8
        // has R = 1 and misses; its match in the second place counts for recall@5 alone. 11 was not
        // judged.
        let rankings = [vec![2, 9, 1, 3], vec![6, 5], vec![1]];
        let scores = truth.score(&[7, 8, 11], &rankings).unwrap();
        assert_eq!(scores.judged, [0, 1]);
        assert_eq!(scores.hits, [vec![true, false], vec![true, true], vec![true, true]]);
        assert_eq!(scores.r_precision, [2.0 / 3.0, 0.0]);
        assert!((scores.average_precision[0] - 5.0 / 9.0).abs() < 1e-15);
        assert_eq!(scores.average_precision[1], 0.0);
        let late = truth.score(&[10], &[vec![1, 2, 3, 5, 6, 4]]).unwrap();
        assert_eq!(late.hits, [vec![false], vec![false], vec![true]]);
    }

    #[test]
    fn a_smaller_gallery_takes_its_matches_out_of_r() {
        let truth = truth();
        let within = truth.within(&HashSet::from([1, 3, 4])).unwrap();
        assert_eq!((within.len(), within.pairs()), (2, 3));
        let scores = within.score(&[7], &[vec![3, 1]]).unwrap();
        assert_eq!((scores.r_precision[0], scores.average_precision[0]), (1.0, 1.0));
        assert_eq!(truth.within(&HashSet::from([99])), None);
        assert_eq!(truth.of_queries(&HashSet::from([8, 9, 11])).unwrap().pairs(), 1);
        assert_eq!(truth.of_queries(&HashSet::from([9])), None);
        let reversed = truth.reversed();
        assert_eq!((reversed.len(), reversed.depth()), (5, 1));
        assert_eq!(reversed.reversed(), truth);
    }

    #[test]
    fn what_cannot_be_scored_is_refused() {
        let truth = truth();
        let shallow = truth.score(&[7], &[vec![1, 2]]);
        assert_eq!(shallow, Err(EvaluationError::Shallow { query: 7, found: 2, needed: 3 }));
        assert!(truth.score(&[7, 8], &[vec![1, 2, 3]]).is_err());
        let foreign = truth.score(&[11], &[vec![1]]).unwrap_err().to_string();
        assert!(foreign.contains("none of the 1 queries"), "{foreign}");
        assert!(PlausibleTruth::new(BTreeMap::from([(9, BTreeSet::new())])).is_err());
    }
}
