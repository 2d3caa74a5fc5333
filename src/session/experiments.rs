//! Experiments on pairs that are named by path, or on the demo's.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::embedding::EmbeddingProgress;
use super::error::SessionError;
use super::pairs::{Opening, open_pairs};
use super::request::or_demo;
use super::{Session, guarded};
use crate::adapter::training::TrainingEvent;
use crate::encoder::Modality;
use crate::encoder::augment::PASSES;
use crate::evaluation::PlausibleFile;
use crate::experiment::report::{Report, Settings};
use crate::experiment::shift::{ShiftMatrix, ShiftSource, shift_matrix};
use crate::experiment::{EmbeddedPairs, Experiment, ExperimentError, Method, Progress, TestSet};

/// Steps of progress are told in words while pairs are read and embedded: how many there will be
/// is not known then.
const UNKNOWN: usize = 0;

/// An experiment job.
#[derive(Debug, Clone)]
pub struct ExperimentRequest {
    pub data: ExperimentData,
    /// Hugging Face folder of the encoder, for pairs that have to be embedded.
    pub encoder: Option<PathBuf>,
    /// Files of plausible matches for the test sets, as ECCV Caption and CxC publish them.
    pub plausible: Vec<PathBuf>,
    pub settings: Settings,
    /// Folder that keeps the trained adapters, as `METHOD/seed-N/{image,text}`.
    pub save_adapters: Option<PathBuf>,
}

/// What an experiment learns from and is tested on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExperimentData {
    /// The demo bundle: its pairs, and its gallery as the test set.
    Demo,
    Pairs {
        training: PairSource,
        validation: PairSource,
        tests: Vec<PairSource>,
    },
}

impl ExperimentData {
    /// The pairs that are meant: for training, validation and tests.
    pub fn sources(&self) -> (PairSource, PairSource, Vec<PairSource>) {
        let demo = |part: &str, splits: &[&str]| PairSource {
            path: or_demo(None, part),
            splits: splits.iter().map(|&split| split.to_owned()).collect(),
        };
        match self.clone() {
            ExperimentData::Demo => {
                (demo("pairs", &["train"]), demo("pairs", &["val"]), vec![demo("gallery", &[])])
            }
            ExperimentData::Pairs { training, validation, tests } => (training, validation, tests),
        }
    }
}

/// A cache of embeddings, or some splits of one: `PATH` or `PATH:SPLIT,SPLIT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairSource {
    pub path: PathBuf,
    /// All where empty.
    pub splits: Vec<String>,
}

impl std::str::FromStr for PairSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // A colon also stands in Windows paths; what follows the last one is a list of splits only
        // where it looks like one.
        let is_name = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | ',' | '.');
        let (path, splits) = match text.rsplit_once(':') {
            Some((path, splits))
                if !path.is_empty() && !splits.is_empty() && splits.chars().all(is_name) =>
            {
                (path, splits)
            }
            _ => (text, ""),
        };
        if path.is_empty() {
            return Err("the path is empty; expected PATH or PATH:SPLIT,SPLIT".to_owned());
        }
        let splits = splits.split(',').filter(|split| !split.is_empty()).map(str::to_owned);
        Ok(Self { path: PathBuf::from(path), splits: splits.collect() })
    }
}

impl PairSource {
    /// The splits that are meant, of all pairs at the path.
    ///
    /// # Errors
    /// When a split is not there.
    pub fn part_of(&self, whole: EmbeddedPairs) -> Result<EmbeddedPairs, ExperimentError> {
        if self.splits.is_empty() {
            return Ok(whole);
        }
        let splits: Vec<&str> = self.splits.iter().map(String::as_str).collect();
        whole.with_splits(&splits)
    }
}

impl std::fmt::Display for PairSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.path.display())?;
        match self.splits.is_empty() {
            true => Ok(()),
            false => write!(f, ":{}", self.splits.join(",")),
        }
    }
}

/// What an experiment says while it runs.
pub enum ExperimentEvent<'a> {
    /// `done` of `total` steps are over; `what` comes next.
    Step {
        done: usize,
        total: usize,
        what: String,
    },
    Training {
        method: Method,
        seed: u64,
        side: &'a str,
        event: TrainingEvent,
    },
    /// The report so far.
    Partial(Box<Report>),
}

/// Hears an experiment; `Break` cancels it at the next step.
pub type OnExperiment<'a> = &'a mut dyn FnMut(ExperimentEvent<'_>) -> ControlFlow<()>;

/// Runs an experiment.
///
/// # Errors
/// When pairs cannot be read or do not fit each other, a method fails, adapters cannot be written,
/// or the job was cancelled.
pub fn run(
    session: &Session,
    request: &ExperimentRequest,
    on_event: OnExperiment<'_>,
) -> Result<Report, SessionError> {
    guarded(|| {
        // First: pairs may take long to open.
        let plausible = request.plausible.iter().map(|path| PlausibleFile::read(path));
        let plausible =
            plausible.collect::<Result<Vec<_>, _>>().map_err(ExperimentError::Evaluation)?;
        let opening = opening(request.encoder.as_deref(), &request.settings.methods);
        let data = Data::open(session, &request.data, &opening, on_event)?;
        let experiment = Experiment {
            training: &data.training,
            validation: &data.validation,
            tests: &data.tests,
            plausible: &plausible,
            settings: &request.settings,
            device: &session.device.device,
        };
        let save = request.save_adapters.as_deref();
        let report = experiment.run(&mut |progress| match progress {
            Progress::Step { done, total, what } => {
                Ok(on_event(ExperimentEvent::Step { done, total, what }))
            }
            Progress::Training { method, seed, side, event } => {
                Ok(on_event(ExperimentEvent::Training { method, seed, side, event }))
            }
            Progress::Partial(report) => Ok(on_event(ExperimentEvent::Partial(report))),
            Progress::Fitted { method, seed, fitted } => {
                if let Some(folder) = save {
                    for modality in [Modality::Image, Modality::Text] {
                        if let Some(adapter) = fitted.adapter(modality) {
                            let norm = data.training.mean_raw_norm(adapter.output_modality());
                            let folder = adapter_folder(folder, method, seed, modality);
                            adapter.save_trained_on_unit(&folder, norm)?;
                        }
                    }
                }
                Ok(ControlFlow::Continue(()))
            }
        });
        let mut report = report?;
        report.notes.splice(0..0, data.notes);
        Ok(report)
    })
}

/// Trains on each of several sources and tests each on all targets.
#[derive(Debug, Clone)]
pub struct ShiftRequest {
    /// Training and validation pairs of each source.
    pub sources: Vec<(PairSource, PairSource)>,
    pub encoder: Option<PathBuf>,
    pub tests: Vec<PairSource>,
    pub settings: Settings,
}

/// Runs the experiments of a shift matrix.
///
/// # Errors
/// As [`run`].
pub fn run_shift(
    session: &Session,
    request: &ShiftRequest,
    on_event: OnExperiment<'_>,
) -> Result<ShiftMatrix, SessionError> {
    guarded(|| {
        let opening = opening(request.encoder.as_deref(), &request.settings.methods);
        let mut opened = Opened::new(session, &opening, &mut *on_event);
        let mut sources = Vec::new();
        for (training, validation) in &request.sources {
            sources.push(ShiftSource {
                name: training.to_string(),
                training: opened.pairs(training)?,
                validation: opened.pairs(validation)?,
            });
        }
        let tests = opened.test_sets(&request.tests)?;
        let device = &session.device.device;
        let matrix = shift_matrix(&sources, &tests, &request.settings, device, &mut |progress| {
            Ok(match progress {
                Progress::Step { done, total, what } => {
                    on_event(ExperimentEvent::Step { done, total, what })
                }
                Progress::Training { method, seed, side, event } => {
                    on_event(ExperimentEvent::Training { method, seed, side, event })
                }
                Progress::Partial(_) | Progress::Fitted { .. } => ControlFlow::Continue(()),
            })
        });
        Ok(matrix?)
    })
}

/// Where an experiment keeps an adapter.
fn adapter_folder(folder: &Path, method: Method, seed: u64, modality: Modality) -> PathBuf {
    folder.join(method.name()).join(format!("seed-{seed}")).join(modality.to_string())
}

/// Opened pairs of an experiment, of unit length.
pub struct Data {
    pub training: EmbeddedPairs,
    pub validation: EmbeddedPairs,
    pub tests: Vec<TestSet>,
    /// What had to be assumed.
    pub notes: Vec<String>,
}

impl Data {
    /// Opens what an experiment names.
    ///
    /// # Errors
    /// When pairs cannot be read or embedded, or the job was cancelled.
    pub fn open(
        session: &Session,
        data: &ExperimentData,
        opening: &Opening,
        on_event: OnExperiment<'_>,
    ) -> Result<Self, SessionError> {
        let (training, validation, tests) = data.sources();
        let mut opened = Opened::new(session, opening, on_event);
        Ok(Self {
            training: opened.pairs(&training)?,
            validation: opened.pairs(&validation)?,
            tests: opened.test_sets(&tests)?,
            notes: opened.notes,
        })
    }
}

/// Pairs that were opened already: several sources may be splits of one cache.
pub struct Opened<'a> {
    session: &'a Session,
    opening: &'a Opening,
    on_event: OnExperiment<'a>,
    whole: BTreeMap<PathBuf, EmbeddedPairs>,
    raw: bool,
    /// What had to be assumed.
    pub notes: Vec<String>,
}

impl<'a> Opened<'a> {
    pub fn new(session: &'a Session, opening: &'a Opening, on_event: OnExperiment<'a>) -> Self {
        Self { session, opening, on_event, whole: BTreeMap::new(), raw: false, notes: Vec::new() }
    }

    /// Leaves embeddings as long as the encoder made them.
    pub fn raw(mut self) -> Self {
        self.raw = true;
        self
    }

    /// The pairs of a source, of unit length unless they are wanted [`raw`](Self::raw).
    ///
    /// # Errors
    /// When they cannot be read or embedded, a split is not there, or the job was cancelled.
    pub fn pairs(&mut self, source: &PairSource) -> Result<EmbeddedPairs, SessionError> {
        let whole = match self.whole.get(&source.path) {
            Some(whole) => whole.clone(),
            None => {
                let Session { assets, device, .. } = self.session;
                let mut flow = |progress: EmbeddingProgress| {
                    let EmbeddingProgress { modality, done, total } = progress;
                    let what = format!("{}: embed {modality} {done} of {total}", source);
                    (self.on_event)(ExperimentEvent::Step { done: UNKNOWN, total: UNKNOWN, what })
                };
                let (opening, notes) = (self.opening, &mut self.notes);
                let store = open_pairs(&source.path, opening, assets, device, notes, &mut flow)?;
                let whole = match self.raw {
                    true => EmbeddedPairs::new(store)?,
                    false => EmbeddedPairs::unit(store)?,
                };
                self.whole.insert(source.path.clone(), whole.clone());
                whole
            }
        };
        Ok(source.part_of(whole)?)
    }

    /// Several sources as test sets.
    ///
    /// # Errors
    /// As [`Opened::pairs`].
    pub fn test_sets(&mut self, sources: &[PairSource]) -> Result<Vec<TestSet>, SessionError> {
        let mut test_set = |source: &PairSource| {
            let pairs = self.pairs(source)?;
            let name = match source.splits.is_empty() {
                true => pairs.name().to_owned(),
                false => format!("{} {}", pairs.name(), source.splits.join("+")),
            };
            Ok(TestSet { name, pairs })
        };
        sources.iter().map(&mut test_set).collect()
    }
}

/// What the methods of an experiment want of pairs that have to be embedded.
fn opening(encoder: Option<&Path>, methods: &[Method]) -> Opening {
    Opening {
        encoder: encoder.map(Path::to_owned),
        augmentation: methods.contains(&Method::Ttda).then_some(PASSES),
        pooled: methods.contains(&Method::BayesVlm),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_a_path_with_or_without_splits() {
        let source = |text: &str| text.parse::<PairSource>().unwrap();
        assert_eq!(source("a/b").splits, Vec::<String>::new());
        let two = source("a/b:train,restval");
        assert_eq!((two.path, two.splits.len()), (PathBuf::from("a/b"), 2));
        assert_eq!(source(r"C:\data").path, PathBuf::from(r"C:\data"));
        assert_eq!(source(r"C:\data:test").splits, ["test"]);
        assert_eq!(source("a/b:test").to_string(), "a/b:test");
        assert!("".parse::<PairSource>().is_err());
    }
}
