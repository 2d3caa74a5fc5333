//! The loop: train on what is labelled, measure, pick, label.

use std::ops::ControlFlow;
use std::time::Instant;

use burn::tensor::Device;
use rand::seq::SliceRandom;

use super::pick::{Pick, UnitRows, View, pick};
use super::projection_head::ProjectionHead;
use super::report::{self, ActiveCurve, ActiveReport, ActiveRound, FrozenRecall, QueryRisk};
use super::{ActiveSettings, Strategy};
use crate::adapter::ProbVlm;
use crate::adapter::training::{TrainingOptions, TrainingOutcome, TrainingRun};
use crate::encoder::{Embedding, Modality};
use crate::evaluation::{recall_at_k, selective_risk};
use crate::experiment::report::SplitFacts;
use crate::experiment::retrieval::{RetrievalPair, unit_rows};
use crate::experiment::uncertainty::UnitUncertainty;
use crate::experiment::{EmbeddedPairs, ExperimentError, Retrieval};
use crate::random::{Stream, generator};

/// The three parts of the data.
pub struct ActiveData<'a> {
    /// Images that can be labelled; a label says which captions belong to an image.
    pub pool: &'a EmbeddedPairs,
    /// Decides when training stops; labelled all along, and not counted as labels.
    pub validation: &'a EmbeddedPairs,
    /// Only measured.
    pub test: &'a EmbeddedPairs,
    /// Pool positions that are labelled before the first round; `None` draws as many as the first
    /// budget says, by the seed.
    pub labelled: Option<&'a [usize]>,
    /// A plain (not autodiff) device.
    pub device: &'a Device,
}

/// What a running experiment says. The caller answers with [`ControlFlow`]: `Break` stops.
#[derive(Debug)]
pub enum ActiveEvent<'a> {
    /// Models are trained on `labelled` images, round `done` of `total` in all.
    Training {
        strategy: Strategy,
        seed: u64,
        labelled: usize,
        done: usize,
        total: usize,
    },
    /// A step of training is over: a chance to stop.
    Step,
    Measured {
        strategy: Strategy,
        seed: u64,
        round: &'a ActiveRound,
    },
}

/// The models of a round.
pub struct RoundModels {
    pub head: ProjectionHead,
    /// p(image embedding | image embedding), which picks and is measured.
    pub image: Box<ProbVlm>,
    /// p(text embedding | text embedding), which is measured.
    pub text: Box<ProbVlm>,
}

/// Runs every strategy with every seed. The same data and settings give the same report on one
/// machine, but for its duration.
///
/// Each round trains a projection head and both adapters from scratch on the labelled pairs. The
/// start is trained once per seed, since it is the same for all strategies.
///
/// # Errors
/// When settings do not fit the data, a training fails, or `on_event` answered `Break`.
pub fn run(
    data: &ActiveData<'_>,
    settings: &ActiveSettings,
    on_event: &mut dyn FnMut(ActiveEvent<'_>) -> ControlFlow<()>,
) -> Result<ActiveReport, ExperimentError> {
    settings.check(data)?;
    let clock = Instant::now();
    let frozen = RetrievalPair::of(data.test)?;
    let frozen = FrozenRecall {
        image_to_text: recalls(&frozen.image_to_text)?,
        text_to_image: recalls(&frozen.text_to_image)?,
    };
    let per_seed = 1 + settings.strategies.len() * (settings.budgets.len() - 1);
    let total = settings.seeds.len() * per_seed;
    let mut done = 0;
    let mut curves = Vec::new();
    for &seed in &settings.seeds {
        let start = start(data, settings.budgets[0], seed);
        let mut train = |strategy, labelled: &[usize]| {
            let count = labelled.len();
            let event = ActiveEvent::Training { strategy, seed, labelled: count, done, total };
            if on_event(event).is_break() {
                return Err(ExperimentError::Cancelled);
            }
            done += 1;
            let step = &mut || on_event(ActiveEvent::Step);
            let models = RoundModels::train(
                &data.pool.subset(labelled),
                data.validation,
                settings,
                seed,
                data.device,
                step,
            )?;
            let round = measure(data, settings, &models, labelled, seed)?;
            if on_event(ActiveEvent::Measured { strategy, seed, round: &round }).is_break() {
                return Err(ExperimentError::Cancelled);
            }
            Ok((models, round))
        };
        let (first_models, first_round) = train(settings.strategies[0], &start)?;
        for &strategy in &settings.strategies {
            let mut labelled = start.clone();
            let mut rounds = vec![first_round.clone()];
            let mut models: Option<RoundModels> = None;
            for &budget in &settings.budgets[1..] {
                let now = models.as_ref().unwrap_or(&first_models);
                let picks =
                    next(data, settings, strategy, now, &labelled, budget - labelled.len(), seed)?;
                labelled.extend(picks.iter().map(|pick| pick.image));
                let (trained, round) = train(strategy, &labelled)?;
                models = Some(trained);
                rounds.push(round);
            }
            curves.push(ActiveCurve { strategy, seed, rounds });
        }
    }
    let areas = report::areas(&curves, settings)?;
    Ok(ActiveReport {
        schema: report::SCHEMA,
        haze: env!("CARGO_PKG_VERSION").to_owned(),
        settings: settings.clone(),
        pool: facts(data.pool),
        validation: facts(data.validation),
        test: facts(data.test),
        frozen,
        curves,
        areas,
        seconds: clock.elapsed().as_secs_f64(),
    })
}

impl RoundModels {
    /// Trains the head and both adapters on labelled pairs. `keep_going` is asked at every step.
    ///
    /// # Errors
    /// When a training fails, or `keep_going` says stop.
    pub fn train(
        labelled: &EmbeddedPairs,
        validation: &EmbeddedPairs,
        settings: &ActiveSettings,
        seed: u64,
        device: &Device,
        keep_going: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Self, ExperimentError> {
        let head =
            ProjectionHead::train(labelled, validation, &settings.head, seed, device, keep_going)?;
        let mut adapter = |modality| {
            let options = TrainingOptions { seed, ..settings.adapter.clone() };
            let outcome = TrainingRun {
                options: &options,
                input_modality: modality,
                output_modality: modality,
                training: &labelled.training_data(modality, modality)?,
                validation: &validation.training_data(modality, modality)?,
                checkpoint: None,
                device,
            }
            .run(|_| keep_going())?;
            match outcome {
                TrainingOutcome::Finished { adapter, .. } => Ok(adapter),
                TrainingOutcome::Interrupted { .. } => Err(ExperimentError::Cancelled),
            }
        };
        let (image, text) = (adapter(Modality::Image)?, adapter(Modality::Text)?);
        Ok(Self { head, image, text })
    }
}

/// Pool positions labelled at the start, in order.
fn start(data: &ActiveData<'_>, count: usize, seed: u64) -> Vec<usize> {
    let mut start: Vec<usize> = match data.labelled {
        Some(labelled) => labelled.to_vec(),
        None => {
            let mut order: Vec<usize> = (0..data.pool.image_count()).collect();
            order.shuffle(&mut generator(seed, Stream::Resampling, 0));
            order.truncate(count);
            order
        }
    };
    start.sort_unstable();
    start
}

/// The next images of a strategy, by the models of the round.
fn next(
    data: &ActiveData<'_>,
    settings: &ActiveSettings,
    strategy: Strategy,
    models: &RoundModels,
    labelled: &[usize],
    count: usize,
    seed: u64,
) -> Result<Vec<Pick>, ExperimentError> {
    let (pool, dim) = (data.pool, data.pool.dim());
    let mut is_labelled = vec![false; pool.image_count()];
    labelled.iter().for_each(|&image| is_labelled[image] = true);
    let open: Vec<usize> = (0..pool.image_count()).filter(|&i| !is_labelled[i]).collect();
    let images = unit_rows(pool.matrix(Modality::Image), dim);
    let captions = strategy
        .needs_captions()
        .then(|| unit_rows(pool.subset(&open).matrix(Modality::Text), dim))
        .filter(|captions| !captions.is_empty());
    let uncertainty = match strategy.needs_adapter() {
        true => Some(UnitUncertainty::of(
            &*models.image,
            open.iter().map(|&image| pool.embedding(Modality::Image, image)),
            settings.passes,
            seed,
        )?),
        false => None,
    };
    let view = View {
        images: UnitRows { values: &images, dim },
        labelled: &is_labelled,
        captions: captions.as_deref().map(|values| UnitRows { values, dim }),
        head: Some(&models.head),
        logit_scale: pool.logit_scale(),
        uncertainty: uncertainty.as_ref(),
        passes: settings.passes,
        // Another order in every round.
        seed: seed.wrapping_add((labelled.len() as u64) << 32),
        device: data.device,
    };
    pick(strategy, &view, count)
}

fn measure(
    data: &ActiveData<'_>,
    settings: &ActiveSettings,
    models: &RoundModels,
    labelled: &[usize],
    seed: u64,
) -> Result<ActiveRound, ExperimentError> {
    let test = data.test;
    let found = RetrievalPair::of(&models.head.apply(test)?)?;
    let risk = |adapter: &ProbVlm, modality| {
        let items = (0..test.count(modality)).map(|i| -> Embedding { test.embedding(modality, i) });
        let uncertainty = UnitUncertainty::of(adapter, items, settings.passes, seed)?;
        let risk = selective_risk(&uncertainty.total, &found.asking(modality).hits())?;
        Ok::<_, ExperimentError>(QueryRisk { aurc: risk.aurc, excess_aurc: risk.excess_aurc })
    };
    let nll = |adapter: &ProbVlm| {
        adapter.config().training.as_ref().map_or(f64::NAN, |summary| summary.validation_nll)
    };
    Ok(ActiveRound {
        labelled: labelled.len(),
        captions: labelled.iter().map(|&image| data.pool.captions_of(image).len()).sum(),
        image_to_text: recalls(&found.image_to_text)?,
        text_to_image: recalls(&found.text_to_image)?,
        image_risk: risk(&models.image, Modality::Image)?,
        text_risk: risk(&models.text, Modality::Text)?,
        head_epoch: models.head.best_epoch(),
        image_nll: nll(&models.image),
        text_nll: nll(&models.text),
    })
}

/// Recall at 1, 5 and 10.
fn recalls(retrieval: &Retrieval) -> Result<[f64; 3], ExperimentError> {
    let at = |k| recall_at_k(&retrieval.ranks, k);
    Ok([at(1)?, at(5)?, at(10)?])
}

fn facts(pairs: &EmbeddedPairs) -> SplitFacts {
    SplitFacts {
        name: pairs.name().to_owned(),
        images: pairs.image_count(),
        captions: pairs.caption_count(),
    }
}
