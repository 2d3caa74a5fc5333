//! Noise levels in the convention x = x0 + sigma epsilon, which the ODE solvers work in.

use super::NoiseTable;

/// sigma = sqrt((1 - a) / a) at every time step, linear between training steps, and a final 0.
pub(super) fn sigmas(table: &NoiseTable, timesteps: &[f64]) -> Vec<f64> {
    let at = |t: usize| {
        let a = table.alpha_bar(t.min(table.len() - 1));
        ((1.0 - a) / a).sqrt()
    };
    timesteps
        .iter()
        .map(|&t| {
            let below = t.floor();
            let share = t - below;
            at(below as usize) * (1.0 - share) + at(t.ceil() as usize) * share
        })
        .chain([0.0])
        .collect()
}

/// Signal and noise factors (alpha, sigma) of the variance-preserving sample at noise level
/// `sigma`.
pub(super) fn alpha_sigma(sigma: f64) -> (f64, f64) {
    let alpha = 1.0 / (sigma * sigma + 1.0).sqrt();
    (alpha, sigma * alpha)
}

/// Half the log signal-to-noise ratio: log(alpha / sigma).
pub(super) fn lambda(sigma: f64) -> f64 {
    -sigma.ln()
}
