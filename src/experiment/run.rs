//! Runs an experiment: fits every method with every seed, and scores them on the same queries.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use burn::tensor::Device;

use super::method::{FittedMethod, Method, Scores};
use super::methods::Fit;
use super::plausible::PlausibleTests;
use super::report::{
    DirectionReport, MethodReport, Report, SCHEMA, SeedReport, Settings, SplitFacts, TestReport,
    TrainingRecord, Whose,
};
use super::retrieval::{Direction, FittedScales, Relevance, RetrievalPair, Softmax};
use super::{EmbeddedPairs, ExperimentError, likelihood};
use crate::adapter::training::TrainingEvent;
use crate::encoder::Modality;
use crate::evaluation::{
    Binning, Clusters, ConfidenceCalibration, Estimate, FailureOptions, LikelihoodChecks,
    PairedStatistic, PlausibleFile, Queries, TrendOptions, confidence_calibration,
    failure_detection, hits_at_k, level_trend, paired_difference, seed_estimate, share_of_hits,
    spearman,
};

/// Places in a ranking that recall is told for.
pub const RECALL_AT: [usize; 3] = [1, 5, 10];
/// Bins of a reliability diagram, as in BayesVLM (arXiv 2412.06014).
const CONFIDENCE_BINS: usize = 20;
/// Coverages that selective recall is told for.
const COVERAGES: [f64; 2] = [0.8, 0.9];

/// What an experiment is run on.
pub struct Experiment<'a> {
    pub training: &'a EmbeddedPairs,
    /// Decides when training stops, and the temperature; nothing else.
    pub validation: &'a EmbeddedPairs,
    /// Test sets, reported one by one.
    pub tests: &'a [TestSet],
    /// What people judged to match in the test sets, beyond their own pairs; usually nothing.
    pub plausible: &'a [PlausibleFile],
    pub settings: &'a Settings,
    /// A plain (not autodiff) device.
    pub device: &'a Device,
}

/// Pairs that are only tested on.
#[derive(Debug, Clone)]
pub struct TestSet {
    /// For people, such as `coco test`.
    pub name: String,
    pub pairs: EmbeddedPairs,
}

/// What an experiment says while it runs.
pub enum Progress<'a> {
    /// Fits or scores: `done` of `total` steps are over, and `what` comes next.
    Step { done: usize, total: usize, what: String },
    /// The training run of one side of a method.
    Training { method: Method, seed: u64, side: &'a str, event: TrainingEvent },
    /// A method is ready, for whoever wants to keep it.
    Fitted { method: Method, seed: u64, fitted: &'a dyn FittedMethod },
    /// The report so far; methods that are not over yet are missing.
    Partial(Box<Report>),
}

/// Hears the progress of an experiment; `Break` cancels it at the next step.
pub type OnProgress<'a> =
    &'a mut dyn FnMut(Progress<'_>) -> Result<ControlFlow<()>, ExperimentError>;

/// Uncertainties of one method: per seed, one number per query.
#[derive(Default)]
struct MethodScores {
    seeds: Vec<SeedScores>,
    likelihood: Option<LikelihoodChecks>,
}

struct SeedScores {
    /// One per query.
    total: Vec<f64>,
    /// Made once, when the seed is scored: the report grows with every method.
    report: SeedReport,
}

/// What all methods share.
struct Shared {
    /// One per test set.
    retrieved: Vec<RetrievalPair>,
    scales: FittedScales,
    /// By seed, for the methods that stand on it.
    probvlm: BTreeMap<u64, Arc<dyn FittedMethod>>,
}

/// One test set in one direction.
struct Side<'a> {
    test: &'a TestSet,
    direction: Direction,
    hits: Vec<bool>,
    /// Captions of one image are no independent queries.
    clusters: Option<Clusters>,
    cosine_distance: Vec<f64>,
    scores: BTreeMap<Method, MethodScores>,
    /// Without methods.
    report: DirectionReport,
}

impl Experiment<'_> {
    /// Runs everything.
    ///
    /// A method that needs what the pairs do not hold, or whose training diverges, is left out
    /// with a note; everything else that fails ends the experiment.
    ///
    /// # Errors
    /// When settings or pairs are unusable, a device fails, or it was cancelled.
    pub fn run(&self, on_progress: OnProgress<'_>) -> Result<Report, ExperimentError> {
        self.check()?;
        let plausible = PlausibleTests::new(self.plausible, self.tests)?;
        let clock = Instant::now();
        let settings = self.settings;
        let total = 1 + settings.methods.iter().map(|&m| self.seeds_of(m).len()).sum::<usize>();
        let mut done = 0;
        tell(on_progress, done, total, "search with the frozen embeddings".to_owned())?;
        let retrieved = self.tests.iter().map(|test| RetrievalPair::of(&test.pairs));
        let mut shared = Shared {
            retrieved: retrieved.collect::<Result<_, _>>()?,
            scales: FittedScales::of(self.validation),
            probvlm: BTreeMap::new(),
        };
        let mut notes = self.notes();
        notes.extend_from_slice(&plausible.notes);
        let mut sides = self.sides(&shared, &plausible, &mut notes)?;
        done += 1;
        let mut runs = Vec::new();
        let mut report = None;
        for &method in &settings.methods {
            for seed in self.seeds_of(method) {
                tell(on_progress, done, total, format!("{}, seed {seed}", method.label()))?;
                done += 1;
                match self.fit_and_score(method, seed, &mut shared, &mut sides, on_progress) {
                    Ok(records) => runs.extend(records),
                    Err(error) => match left_out(method, seed, &error) {
                        Some(note) => notes.push(note),
                        None => return Err(error),
                    },
                }
            }
            let seconds = clock.elapsed().as_secs_f64();
            let so_far = report.insert(self.report(&sides, &runs, &notes, seconds)?);
            if on_progress(Progress::Partial(Box::new(so_far.clone())))?.is_break() {
                return Err(ExperimentError::Cancelled);
            }
        }
        // Checked above: there is a method, so there is a report.
        report.ok_or(ExperimentError::Cancelled)
    }

    fn check(&self) -> Result<(), ExperimentError> {
        let settings = self.settings;
        let wrong = |what, found: String, expected: &str| {
            Err(ExperimentError::Setting { what, found, expected: expected.to_owned() })
        };
        if settings.methods.is_empty() {
            return wrong("the list of methods", "empty".to_owned(), "at least one");
        }
        let mut different = settings.methods.clone();
        different.sort_unstable();
        different.dedup();
        if different.len() != settings.methods.len() {
            return wrong(
                "the list of methods",
                "a list with a method twice".to_owned(),
                "each once",
            );
        }
        if settings.seeds.is_empty() {
            return wrong("the list of seeds", "empty".to_owned(), "at least one");
        }
        if settings.levels.is_empty() {
            return wrong("the list of level counts", "empty".to_owned(), "at least one");
        }
        if let Some(levels) = settings.levels.iter().find(|&&levels| !(2..=1000).contains(&levels))
        {
            return wrong("a number of levels", levels.to_string(), "2 to 1000");
        }
        if self.tests.is_empty() {
            return wrong("the list of test sets", "empty".to_owned(), "at least one");
        }
        for pairs in std::iter::once(self.validation).chain(self.tests.iter().map(|t| &t.pairs)) {
            if pairs.dim() != self.training.dim() {
                return Err(pairs.unusable(format!(
                    "embeddings have {} dimensions, those of the training pairs {}; embed all \
                     with one encoder",
                    pairs.dim(),
                    self.training.dim()
                )));
            }
            let (ours, theirs) = (&pairs.store().encoder, &self.training.store().encoder);
            if let (Some(ours), Some(theirs)) = (ours, theirs)
                && ours != theirs
            {
                return Err(pairs.unusable(
                    "they were embedded by another encoder than the training pairs; embed all \
                     with one encoder"
                        .to_owned(),
                ));
            }
        }
        Ok(())
    }

    fn seeds_of(&self, method: Method) -> Vec<u64> {
        match method.has_seeds() {
            true => self.settings.seeds.clone(),
            false => self.settings.seeds[..1].to_vec(),
        }
    }

    /// What a reader should know about the data.
    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let most = self.settings.levels.iter().copied().max().unwrap_or(0);
        for test in self.tests {
            let fewest = test.pairs.image_count().min(test.pairs.caption_count());
            if fewest < most {
                notes.push(format!(
                    "{}: {fewest} queries are fewer than {most} levels; the last levels are empty",
                    test.name
                ));
            }
            if test.pairs.store().logit_scale.is_none() {
                notes.push(format!("{}: the cache names no logit scale; 100 was taken", test.name));
            }
        }
        notes
    }

    /// Everything about the frozen embeddings, before any method.
    fn sides<'t>(
        &'t self,
        shared: &Shared,
        plausible: &PlausibleTests,
        notes: &mut Vec<String>,
    ) -> Result<Vec<Side<'t>>, ExperimentError> {
        let mut sides = Vec::new();
        for direction in Direction::BOTH {
            let scale = match shared.scales.get(direction) {
                Ok(scale) => Some(scale),
                Err(error) => {
                    notes.push(format!("no temperature for {direction}: {error}"));
                    None
                }
            };
            for (i, (test, retrieved)) in self.tests.iter().zip(&shared.retrieved).enumerate() {
                let mut side = self.side(test, retrieved, direction, scale)?;
                let found = retrieved.get(direction);
                side.report.plausible = plausible.score(i, test, found, self.settings)?;
                sides.push(side);
            }
        }
        Ok(sides)
    }

    fn side<'t>(
        &self,
        test: &'t TestSet,
        retrieved: &RetrievalPair,
        direction: Direction,
        scale: Option<f64>,
    ) -> Result<Side<'t>, ExperimentError> {
        let found = retrieved.get(direction);
        let hits = found.hits();
        let clusters = match direction {
            Direction::ImageToText => None,
            Direction::TextToImage => Some(Clusters::of(&test.pairs.image_of_caption())),
        };
        let relevant = Relevance::new(&test.pairs, direction).counts();
        let gallery = test.pairs.count(direction.gallery());
        let mut recall = [Estimate { value: 0.0, low: 0.0, high: 0.0 }; 3];
        let mut chance = [0.0; 3];
        for ((recall, chance), k) in recall.iter_mut().zip(&mut chance).zip(RECALL_AT) {
            let hits = hits_at_k(&found.ranks, k);
            let queries = Queries { hits: &hits, clusters: clusters.as_ref() };
            *recall = share_of_hits(queries, self.settings.bootstrap, self.first_seed())?;
            let of = |&r: &usize| chance_of_a_hit(gallery, r, k);
            *chance = relevant.iter().map(of).sum::<f64>() / relevant.len() as f64;
        }
        let calibration = |softmax: &Softmax, scale| -> Result<ConfidenceCalibration, _> {
            confidence_calibration(
                &softmax.confidence,
                Queries { hits: &hits, clusters: clusters.as_ref() },
                &softmax.relevant,
                scale,
                CONFIDENCE_BINS,
                self.settings.bootstrap,
                self.first_seed(),
            )
        };
        let confidence = calibration(&found.softmax, retrieved.logit_scale)?;
        let scaled_confidence = match scale {
            Some(scale) => Some(calibration(&Softmax::of(&test.pairs, direction, scale), scale)?),
            None => None,
        };
        let cosine_distance = found.best_similarity().into_iter().map(|s| 1.0 - s).collect();
        let report = DirectionReport {
            direction,
            queries: found.len(),
            recall,
            chance,
            confidence: Some(confidence),
            scaled_confidence,
            plausible: Vec::new(),
            methods: Vec::new(),
        };
        let scores = BTreeMap::new();
        Ok(Side { test, direction, hits, clusters, cosine_distance, scores, report })
    }

    fn fit_and_score(
        &self,
        method: Method,
        seed: u64,
        shared: &mut Shared,
        sides: &mut [Side<'_>],
        on_progress: OnProgress<'_>,
    ) -> Result<Vec<TrainingRecord>, ExperimentError> {
        let fit = Fit {
            scales: &shared.scales,
            fitted_probvlm: shared.probvlm.get(&seed).cloned(),
            training: self.training,
            validation: self.validation,
            budget: &self.settings.budget,
            probvlm: self.settings.probvlm,
            seed,
            device: self.device,
        };
        let mut failed = None;
        let fitted = fit.run(method, &mut |side, event| {
            let told = on_progress(Progress::Training { method, seed, side, event });
            told.unwrap_or_else(|error| {
                failed = Some(error);
                ControlFlow::Break(())
            })
        });
        if let Some(error) = failed {
            return Err(error);
        }
        let fitted = fitted?;
        if method == Method::ProbVlm {
            shared.probvlm.insert(seed, Arc::clone(&fitted.method));
        }
        if on_progress(Progress::Fitted { method, seed, fitted: &*fitted.method })?.is_break() {
            return Err(ExperimentError::Cancelled);
        }
        let first = seed == self.first_seed();
        for (test, retrieved) in self.tests.iter().zip(&shared.retrieved) {
            let of = |modality| fitted.method.score(&test.pairs, retrieved, modality);
            let (images, texts) = (of(Modality::Image)?, of(Modality::Text)?);
            for side in sides.iter_mut().filter(|side| std::ptr::eq(side.test, test)) {
                let (own, other) = match side.direction {
                    Direction::ImageToText => (&images, &texts),
                    Direction::TextToImage => (&texts, &images),
                };
                let best = retrieved.get(side.direction).best_item();
                let whose =
                    |own: &[f64], other: &[f64]| whose(self.settings.whose, own, other, &best);
                let part = |own: &Option<Vec<f64>>, other: &Option<Vec<f64>>| {
                    Some(whose(own.as_ref()?, other.as_ref()?))
                };
                let scores = Scores {
                    total: whose(&own.total, &other.total),
                    aleatoric: part(&own.aleatoric, &other.aleatoric),
                    epistemic: part(&own.epistemic, &other.epistemic),
                };
                if let Some(at) = scores.total.iter().position(|u| !u.is_finite()) {
                    return Err(test.pairs.unusable(format!(
                        "{} gave an uncertainty of {} for query {at}",
                        method.label(),
                        scores.total[at]
                    )));
                }
                let report = self.seed_report(side, seed, &scores)?;
                let entry = side.scores.entry(method).or_default();
                entry.seeds.push(SeedScores { total: scores.total, report });
                if first && let Some(adapter) = fitted.method.adapter(side.direction.query()) {
                    entry.likelihood =
                        likelihood::of_adapter(method, adapter, self.training, &test.pairs, seed)?;
                }
            }
        }
        Ok(fitted.records)
    }

    fn first_seed(&self) -> u64 {
        self.settings.seeds[0]
    }

    fn report(
        &self,
        sides: &[Side<'_>],
        runs: &[TrainingRecord],
        notes: &[String],
        seconds: f64,
    ) -> Result<Report, ExperimentError> {
        let facts = |name: &str, pairs: &EmbeddedPairs| SplitFacts {
            name: name.to_owned(),
            images: pairs.image_count(),
            captions: pairs.caption_count(),
        };
        let mut tests = Vec::new();
        for test in self.tests {
            let of_test = sides.iter().filter(|side| std::ptr::eq(side.test, test));
            tests.push(TestReport {
                split: facts(&test.name, &test.pairs),
                by_class: test.pairs.has_classes(),
                directions: of_test.map(|s| self.direction_report(s)).collect::<Result<_, _>>()?,
            });
        }
        Ok(Report {
            schema: SCHEMA,
            haze: env!("CARGO_PKG_VERSION").to_owned(),
            settings: self.settings.clone(),
            training: facts(self.training.name(), self.training),
            validation: facts(self.validation.name(), self.validation),
            dim: self.training.dim(),
            runs: runs.to_vec(),
            tests,
            notes: notes.to_vec(),
            seconds,
        })
    }

    fn direction_report(&self, side: &Side<'_>) -> Result<DirectionReport, ExperimentError> {
        let wanted = self.settings.methods.iter();
        let methods = wanted
            .filter_map(|method| side.scores.get(method).map(|scores| (*method, scores)))
            .map(|(method, scores)| self.method_report(side, method, scores))
            .collect::<Result<_, _>>()?;
        Ok(DirectionReport { methods, ..side.report.clone() })
    }

    fn method_report(
        &self,
        side: &Side<'_>,
        method: Method,
        scores: &MethodScores,
    ) -> Result<MethodReport, ExperimentError> {
        let Settings { bootstrap, levels, .. } = self.settings;
        let (hits, seed) = (side.queries(), self.first_seed());
        let ours = rows(scores);
        let estimate = |statistic| seed_estimate(&ours, hits, statistic, *bootstrap, seed);
        let mixed = side.hits.contains(&true) && side.hits.contains(&false);
        let against =
            |other: Method, ours_first: bool| -> Result<Option<Estimate>, ExperimentError> {
                let Some(theirs) = side.scores.get(&other).filter(|_| other != method) else {
                    return Ok(None);
                };
                let theirs = rows(theirs);
                let (a, b) = if ours_first { (&ours, &theirs) } else { (&theirs, &ours) };
                let statistic = PairedStatistic::Aurc;
                Ok(Some(paired_difference(a, b, hits, statistic, *bootstrap, seed)?))
            };
        Ok(MethodReport {
            method,
            seeds: scores.seeds.iter().map(|scores| scores.report.clone()).collect(),
            minus_s_r2: estimate(PairedStatistic::MinusSR2 { levels: levels[0] })?,
            aurc: estimate(PairedStatistic::Aurc)?,
            auroc: match mixed {
                true => Some(estimate(PairedStatistic::Auroc)?),
                false => None,
            },
            aurc_against_cosine: against(Method::CosineDistance, true)?,
            probvlm_aurc_against: against(Method::ProbVlm, false)?,
            likelihood: scores.likelihood.clone(),
        })
    }

    fn seed_report(
        &self,
        side: &Side<'_>,
        seed: u64,
        scores: &Scores,
    ) -> Result<SeedReport, ExperimentError> {
        let Settings { bootstrap, permutations, levels, .. } = self.settings;
        let first = self.first_seed();
        let mut trends = Vec::new();
        for binning in [Binning::Quantile, Binning::CumulativeWidth] {
            for &levels in levels {
                let (bootstrap, permutations) = (*bootstrap, *permutations);
                let options =
                    TrendOptions { levels, binning, bootstrap, permutations, seed: first };
                trends.push(level_trend(&scores.total, side.queries(), &options)?);
            }
        }
        let options =
            FailureOptions { bootstrap: *bootstrap, seed: first, coverages: COVERAGES.to_vec() };
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let parts = scores.aleatoric.as_ref().zip(scores.epistemic.as_ref());
        Ok(SeedReport {
            seed,
            mean_uncertainty: mean(&scores.total),
            mean_aleatoric: scores.aleatoric.as_deref().map(mean),
            mean_epistemic: scores.epistemic.as_deref().map(mean),
            // Not defined where one of them is constant.
            aleatoric_epistemic: parts.and_then(|(a, e)| spearman(a, e).ok()),
            against_cosine: spearman(&scores.total, &side.cosine_distance).unwrap_or(0.0),
            trends,
            failure: failure_detection(&scores.total, side.queries(), &options)?,
        })
    }
}

impl Side<'_> {
    fn queries(&self) -> Queries<'_> {
        Queries { hits: &self.hits, clusters: self.clusters.as_ref() }
    }
}

fn rows(scores: &MethodScores) -> Vec<&[f64]> {
    scores.seeds.iter().map(|seed| seed.total.as_slice()).collect()
}

fn tell(
    on_progress: OnProgress<'_>,
    done: usize,
    total: usize,
    what: String,
) -> Result<(), ExperimentError> {
    match on_progress(Progress::Step { done, total, what })? {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(ExperimentError::Cancelled),
    }
}

/// A note for a method that cannot be fitted to these pairs; `None` for what ends the experiment.
fn left_out(method: Method, seed: u64, error: &ExperimentError) -> Option<String> {
    use crate::adapter::training::TrainingError;
    match error {
        ExperimentError::Missing { .. } => Some(format!("left out: {error}")),
        ExperimentError::Training(TrainingError::Diverged { .. }) => {
            Some(format!("{}, seed {seed} is left out: {error}", method.label()))
        }
        _ => None,
    }
}

/// Uncertainties that belong to a query's outcome. `best` is the gallery position of each query's
/// best match.
fn whose(whose: Whose, own: &[f64], gallery: &[f64], best: &[usize]) -> Vec<f64> {
    let pairs = own.iter().zip(best).map(|(&own, &best)| (own, gallery[best]));
    match whose {
        Whose::Query => own.to_vec(),
        Whose::Retrieved => pairs.map(|(_, found)| found).collect(),
        Whose::Sum => pairs.map(|(own, found)| own + found).collect(),
    }
}

/// Chance that one of `relevant` items is among the first `k` of a random order of `items`:
/// `1 - C(items - relevant, k) / C(items, k)`.
fn chance_of_a_hit(items: usize, relevant: usize, k: usize) -> f64 {
    let missed: f64 = (0..k.min(items))
        .map(|place| {
            let left = (items - place) as f64;
            ((left - relevant as f64) / left).max(0.0)
        })
        .product();
    1.0 - missed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_counts_the_ways_to_miss() {
        assert!((chance_of_a_hit(4, 1, 1) - 0.25).abs() < 1e-15);
        // C(3, 2) / C(5, 2) = 3 / 10 orders miss.
        assert!((chance_of_a_hit(5, 2, 2) - 0.7).abs() < 1e-15);
        assert_eq!(chance_of_a_hit(3, 1, 10), 1.0);
        assert_eq!(chance_of_a_hit(3, 0, 2), 0.0);
    }

    #[test]
    fn the_uncertainty_is_the_querys_the_retrieved_items_or_their_sum() {
        let (own, gallery, best) = ([1.0, 2.0], [10.0, 20.0, 30.0], [2, 0]);
        assert_eq!(whose(Whose::Query, &own, &gallery, &best), [1.0, 2.0]);
        assert_eq!(whose(Whose::Retrieved, &own, &gallery, &best), [30.0, 10.0]);
        assert_eq!(whose(Whose::Sum, &own, &gallery, &best), [31.0, 12.0]);
    }
}
