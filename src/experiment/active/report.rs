//! What an active-learning experiment found, as plain numbers, and its files.

use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{ActiveSettings, Strategy};
use crate::evaluation::{Estimate, curve_area, mean_over_seeds};
use crate::experiment::ExperimentError;
use crate::experiment::report::SplitFacts;
use crate::files::{FileError, write_atomic};

/// Version of the written form; raised when a field changes its meaning.
pub const SCHEMA: u32 = 1;

/// A whole experiment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ActiveReport {
    pub schema: u32,
    /// Version of Haze that made it.
    pub haze: String,
    pub settings: ActiveSettings,
    pub pool: SplitFacts,
    pub validation: SplitFacts,
    pub test: SplitFacts,
    /// What the frozen encoder achieves on the test pairs without a label.
    pub frozen: FrozenRecall,
    /// One per seed and strategy.
    pub curves: Vec<ActiveCurve>,
    /// One per strategy and measure.
    pub areas: Vec<CurveArea>,
    pub seconds: f64,
}

/// Recall at 1, 5 and 10 without a head.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct FrozenRecall {
    pub image_to_text: [f64; 3],
    pub text_to_image: [f64; 3],
}

/// One strategy with one seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ActiveCurve {
    pub strategy: Strategy,
    pub seed: u64,
    /// One per budget; the first is the start, the same for all strategies of a seed.
    pub rounds: Vec<ActiveRound>,
}

/// Both models after training on the labelled images, measured on the test pairs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ActiveRound {
    /// Labelled images.
    pub labelled: usize,
    /// Captions of those images.
    pub captions: usize,
    /// Recall at 1, 5 and 10 with the projection head.
    pub image_to_text: [f64; 3],
    pub text_to_image: [f64; 3],
    /// How the adapter's total variance orders the failures of that retrieval at rank 1.
    pub image_risk: QueryRisk,
    pub text_risk: QueryRisk,
    /// The epoch of the head that was kept; 0 leaves the encoder as it is.
    pub head_epoch: usize,
    /// Held-out negative log-likelihood of both adapters, nats per dimension.
    pub image_nll: f64,
    pub text_nll: f64,
}

/// Risk of answering queries from the most certain one on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct QueryRisk {
    /// Area under the risk-coverage curve; falls with better recall too.
    pub aurc: f64,
    /// The same above the best possible order: what uncertainty alone gets wrong.
    pub excess_aurc: f64,
}

/// A number of a round that makes a curve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Measure {
    ImageToTextRecallAt1,
    TextToImageRecallAt1,
    ImageAurc,
    TextAurc,
}

impl Measure {
    pub const ALL: [Measure; 4] = [
        Measure::ImageToTextRecallAt1,
        Measure::TextToImageRecallAt1,
        Measure::ImageAurc,
        Measure::TextAurc,
    ];

    /// Its name for people.
    pub fn label(self) -> &'static str {
        match self {
            Measure::ImageToTextRecallAt1 => "R@1 i2t",
            Measure::TextToImageRecallAt1 => "R@1 t2i",
            Measure::ImageAurc => "AURC i2t",
            Measure::TextAurc => "AURC t2i",
        }
    }

    /// Its name in names of files.
    pub fn file_name(self) -> &'static str {
        match self {
            Measure::ImageToTextRecallAt1 => "r1-i2t",
            Measure::TextToImageRecallAt1 => "r1-t2i",
            Measure::ImageAurc => "aurc-i2t",
            Measure::TextAurc => "aurc-t2i",
        }
    }

    /// Whether more of it is better.
    pub fn higher_is_better(self) -> bool {
        matches!(self, Measure::ImageToTextRecallAt1 | Measure::TextToImageRecallAt1)
    }

    /// Its value without a label, where it has one: without labels there is no adapter.
    pub fn of_frozen(self, frozen: &FrozenRecall) -> Option<f64> {
        match self {
            Measure::ImageToTextRecallAt1 => Some(frozen.image_to_text[0]),
            Measure::TextToImageRecallAt1 => Some(frozen.text_to_image[0]),
            Measure::ImageAurc | Measure::TextAurc => None,
        }
    }

    /// Its value in a round.
    pub fn of(self, round: &ActiveRound) -> f64 {
        match self {
            Measure::ImageToTextRecallAt1 => round.image_to_text[0],
            Measure::TextToImageRecallAt1 => round.text_to_image[0],
            Measure::ImageAurc => round.image_risk.aurc,
            Measure::TextAurc => round.text_risk.aurc,
        }
    }
}

/// One budget of a strategy's curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CurvePoint {
    /// Labelled images.
    pub labelled: usize,
    /// Seeds that were run.
    pub seeds: usize,
    pub mean: f64,
    /// Mean over seeds with Student's 95 % interval; `None` with a single seed.
    pub over_seeds: Option<Estimate>,
}

/// Area under the curve of one measure, divided by the width of the budgets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CurveArea {
    pub strategy: Strategy,
    pub measure: Measure,
    /// In the order of the seeds.
    pub per_seed: Vec<f64>,
    pub mean: f64,
    /// Mean over seeds with Student's 95 % interval; `None` with a single seed.
    pub over_seeds: Option<Estimate>,
    /// This strategy less random, seed by seed, likewise. `None` for random itself, where random
    /// was not run, and with a single seed.
    pub against_random: Option<Estimate>,
}

/// The areas of all strategies and measures.
pub(super) fn areas(
    curves: &[ActiveCurve],
    settings: &ActiveSettings,
) -> Result<Vec<CurveArea>, ExperimentError> {
    let of = |strategy: Strategy, measure: Measure| {
        let curves = curves.iter().filter(|curve| curve.strategy == strategy);
        let area = |curve: &ActiveCurve| {
            let budgets: Vec<f64> = curve.rounds.iter().map(|r| r.labelled as f64).collect();
            let values: Vec<f64> = curve.rounds.iter().map(|round| measure.of(round)).collect();
            curve_area(&budgets, &values)
        };
        curves.map(area).collect::<Result<Vec<f64>, _>>()
    };
    let mut found = Vec::new();
    for &strategy in &settings.strategies {
        for measure in Measure::ALL {
            let per_seed = of(strategy, measure)?;
            let random = of(Strategy::Random, measure)?;
            let differences: Vec<f64> = per_seed.iter().zip(&random).map(|(a, b)| a - b).collect();
            // One seed says nothing about others.
            let interval = |values: &[f64]| mean_over_seeds(values).ok();
            found.push(CurveArea {
                strategy,
                measure,
                mean: per_seed.iter().sum::<f64>() / per_seed.len() as f64,
                over_seeds: interval(&per_seed),
                against_random: match strategy {
                    Strategy::Random => None,
                    _ => interval(&differences),
                },
                per_seed,
            });
        }
    }
    Ok(found)
}

impl ActiveReport {
    /// Writes one row per strategy, seed and budget.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_curves(&self, path: &Path) -> Result<(), FileError> {
        write_atomic(path, |file| {
            let mut csv = csv::Writer::from_writer(file);
            csv.write_record([
                "strategy",
                "seed",
                "labelled",
                "captions",
                "i2t_r1",
                "i2t_r5",
                "i2t_r10",
                "t2i_r1",
                "t2i_r5",
                "t2i_r10",
                "i2t_aurc",
                "i2t_excess_aurc",
                "t2i_aurc",
                "t2i_excess_aurc",
                "head_epoch",
                "image_nll",
                "text_nll",
            ])?;
            for curve in &self.curves {
                for round in &curve.rounds {
                    let mut row = vec![
                        curve.strategy.to_string(),
                        curve.seed.to_string(),
                        round.labelled.to_string(),
                        round.captions.to_string(),
                    ];
                    let recall = round.image_to_text.iter().chain(&round.text_to_image);
                    row.extend(recall.map(f64::to_string));
                    for risk in [round.image_risk, round.text_risk] {
                        row.extend([risk.aurc.to_string(), risk.excess_aurc.to_string()]);
                    }
                    row.push(round.head_epoch.to_string());
                    row.extend([round.image_nll.to_string(), round.text_nll.to_string()]);
                    csv.write_record(&row)?;
                }
            }
            csv.flush()
        })
    }

    /// Writes one row per strategy and measure.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_areas(&self, path: &Path) -> Result<(), FileError> {
        write_atomic(path, |file| {
            let mut csv = csv::Writer::from_writer(file);
            csv.write_record([
                "strategy",
                "measure",
                "seeds",
                "area",
                "low",
                "high",
                "minus_random",
                "minus_random_low",
                "minus_random_high",
            ])?;
            let ends = |estimate: Option<Estimate>| match estimate {
                Some(e) => [e.value.to_string(), e.low.to_string(), e.high.to_string()],
                None => [String::new(), String::new(), String::new()],
            };
            for area in &self.areas {
                let [_, low, high] = ends(area.over_seeds);
                let [difference, difference_low, difference_high] = ends(area.against_random);
                csv.write_record([
                    area.strategy.to_string(),
                    area.measure.label().to_owned(),
                    area.per_seed.len().to_string(),
                    area.mean.to_string(),
                    low,
                    high,
                    difference,
                    difference_low,
                    difference_high,
                ])?;
            }
            csv.flush()
        })
    }

    /// Writes all of it as JSON.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_json(&self, path: &Path) -> Result<(), FileError> {
        write_atomic(path, |file| {
            serde_json::to_writer_pretty(&mut *file, self)?;
            file.write_all(b"\n")
        })
    }

    /// A strategy's curve as means over seeds, in the order of the budgets.
    pub fn mean_curve(&self, strategy: Strategy, measure: Measure) -> Vec<CurvePoint> {
        let of_strategy = || self.curves.iter().filter(|curve| curve.strategy == strategy);
        let point = |(round, &labelled): (usize, &usize)| {
            let of_round = of_strategy().filter_map(|curve| curve.rounds.get(round));
            let values: Vec<f64> = of_round.map(|round| measure.of(round)).collect();
            (!values.is_empty()).then(|| CurvePoint {
                labelled,
                seeds: values.len(),
                mean: values.iter().sum::<f64>() / values.len() as f64,
                over_seeds: mean_over_seeds(&values).ok(),
            })
        };
        self.settings.budgets.iter().enumerate().filter_map(point).collect()
    }

    /// The area of one strategy and measure.
    pub fn area(&self, strategy: Strategy, measure: Measure) -> Option<&CurveArea> {
        self.areas.iter().find(|area| area.strategy == strategy && area.measure == measure)
    }
}
