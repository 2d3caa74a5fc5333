//! Which training steps a run of n steps visits.

use super::SchedulerKind;
use super::config::Settings;
use crate::decoder::DecodeError;

/// How the time steps spread over the training steps (arXiv 2305.08891, table 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spacing {
    /// Multiples of T / n, from 0 upwards, plus an offset.
    Leading,
    /// Multiples of T / n, from the last training step downwards.
    Trailing,
    /// Evenly from the first to the last training step.
    Linspace,
}

/// Network calls of PNDM's Runge-Kutta warm-up: three steps of four calls.
pub(super) const PRK_CALLS: usize = 12;
/// Time steps that the warm-up is built from.
const PRK_STEPS: usize = 4;

/// The time steps of `steps` steps, highest first. They may lie beyond the last training step
/// when `steps_offset` pushes them there.
///
/// # Errors
/// When `steps` is 0, exceeds the training steps, or is too small for the algorithm.
pub(super) fn timesteps(
    settings: &Settings,
    kind: SchedulerKind,
    steps: usize,
) -> Result<Vec<f64>, DecodeError> {
    let trained = settings.table.len();
    let skips_warm_up = kind != SchedulerKind::Pndm || settings.skip_prk_steps;
    let fewest = match kind {
        _ if !skips_warm_up => PRK_STEPS,
        SchedulerKind::UnClip => 2,
        _ => 1,
    };
    if !(fewest..=trained).contains(&steps) {
        return Err(DecodeError::Steps {
            scheduler: kind.to_string(),
            steps,
            reason: format!("choose {fewest} to {trained}"),
        });
    }
    let Settings { spacing, steps_offset, .. } = *settings;
    let plain = || spaced(spacing, trained, steps, steps_offset);
    Ok(match kind {
        SchedulerKind::Ddim | SchedulerKind::Ddpm => plain(),
        SchedulerKind::Pndm if settings.skip_prk_steps => second_twice(&plain()),
        SchedulerKind::Pndm => with_warm_up(&plain(), trained / steps),
        SchedulerKind::Euler | SchedulerKind::EulerAncestral => match spacing {
            Spacing::Linspace => {
                linspace(trained, steps).rev().map(|t| f64::from(t as f32)).collect()
            }
            Spacing::Leading | Spacing::Trailing => plain(),
        },
        SchedulerKind::DpmSolverPlusPlus | SchedulerKind::UniPc => match spacing {
            // One point more than steps; the one at the clean end is dropped.
            Spacing::Linspace => {
                linspace(trained, steps + 1).skip(1).rev().map(f64::round_ties_even).collect()
            }
            Spacing::Leading => {
                let stride = trained / (steps + 1);
                (1..=steps).rev().map(|i| (i * stride + steps_offset) as f64).collect()
            }
            Spacing::Trailing => plain(),
        },
        SchedulerKind::UnClip => linspace(trained, steps).rev().map(f64::round_ties_even).collect(),
    })
}

/// The list of DDIM and DDPM, which others build on.
fn spaced(spacing: Spacing, trained: usize, steps: usize, offset: usize) -> Vec<f64> {
    match spacing {
        Spacing::Leading => {
            (0..steps).rev().map(|i| (i * (trained / steps) + offset) as f64).collect()
        }
        Spacing::Trailing => {
            // The stride as numpy.arange rounds it, since ties are decided by its last bit.
            let end = trained as f64;
            let stride = (end - end / steps as f64) - end;
            (0..steps).map(|i| (end + i as f64 * stride).round_ties_even() - 1.0).collect()
        }
        Spacing::Linspace => linspace(trained, steps).rev().map(f64::round_ties_even).collect(),
    }
}

/// `n` points from 0 to the last training step; the single point of n = 1 is 0.
fn linspace(trained: usize, n: usize) -> impl DoubleEndedIterator<Item = f64> + ExactSizeIterator {
    let last = (trained - 1) as f64;
    let stride = if n > 1 { last / (n - 1) as f64 } else { 0.0 };
    (0..n).map(move |i| if n > 1 && i == n - 1 { last } else { i as f64 * stride })
}

/// PLMS without warm-up visits the second time step twice.
fn second_twice(list: &[f64]) -> Vec<f64> {
    let mut calls = list.to_vec();
    if let Some(&second) = list.get(1) {
        calls.insert(1, second);
    }
    calls
}

/// The warm-up calls on the four highest time steps and the half strides between them, then the
/// remaining time steps.
fn with_warm_up(list: &[f64], stride: usize) -> Vec<f64> {
    let half = (stride / 2) as f64;
    let mut points = Vec::with_capacity(2 * PRK_STEPS);
    for &t in list[..PRK_STEPS].iter().rev() {
        points.extend([t, t + half]);
    }
    points.pop();
    let mut calls: Vec<f64> = points.iter().flat_map(|&t| [t, t]).collect();
    calls.pop();
    calls.remove(0);
    calls.reverse();
    calls.extend(&list[PRK_STEPS - 1..]);
    calls
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailing_lists_have_exactly_the_asked_number_of_steps() {
        for steps in 1..=1000 {
            let list = spaced(Spacing::Trailing, 1000, steps, 0);
            assert_eq!(list.len(), steps);
            assert_eq!(list[0], 999.0);
            assert!(list.iter().all(|&t| t >= 0.0), "{steps} steps: {list:?}");
        }
    }

    #[test]
    fn the_warm_up_has_twelve_calls_in_groups_of_four() {
        let calls = with_warm_up(&[80.0, 60.0, 40.0, 20.0, 0.0], 20);
        assert_eq!(calls, [80., 70., 70., 60., 60., 50., 50., 40., 40., 30., 30., 20., 20., 0.]);
        assert_eq!(calls.len(), PRK_CALLS + 2);
    }
}
