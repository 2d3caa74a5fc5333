//! The generalised Gaussian against scipy and autograd, and distances between Gaussians.

use std::f64::consts::LN_2;

use burn::tensor::Device;

use super::case::Numbers;
use super::{Case, CaseError, Comparison};
use crate::distribution::{
    DiagonalGaussian, DistributionError, GeneralizedGaussian, MatchProbability,
    closed_form_sampled_distance, mutual_likelihood_score, mutual_likelihood_score_released,
    sampled_match_probability, squared_wasserstein2,
};
use crate::random::{Stream, generator};

/// Draws may be this many standard errors from what they estimate.
const STANDARD_ERRORS: f64 = 5.0;

/// Kinds "ggd" and "distances". Both are plain f64 arithmetic: the device has no part in them.
pub fn run(case: &mut Case, _device: &Device) -> Result<(), CaseError> {
    match case.kind() {
        "distances" => distances(case),
        _ => {
            loss_and_gradients(case)?;
            variances(case)?;
            functions(case)?;
            sampler(case)
        }
    }
}

fn loss_and_gradients(case: &mut Case) -> Result<(), CaseError> {
    let densities = densities(case, "mu", "alpha", "beta")?;
    let z = case.input("z")?.values.clone();
    let shape = [z.len()];
    let score = |i: usize| densities[i].score(z[i]);
    let columns: [(&str, Vec<f64>); 5] = [
        ("loss", (0..z.len()).map(|i| -densities[i].log_prob(z[i]) - LN_2).collect()),
        ("dmu", (0..z.len()).map(|i| -score(i).d_mu).collect()),
        ("dalpha", (0..z.len()).map(|i| -score(i).d_alpha).collect()),
        ("dbeta", (0..z.len()).map(|i| -score(i).d_beta).collect()),
        ("dz", (0..z.len()).map(|i| -score(i).d_x).collect()),
    ];
    let with_log2 = columns[0].1.iter().map(|loss| loss + LN_2).collect();
    case.check_values("loss_with_log2/f64", &shape, with_log2)?;
    for (name, values) in columns {
        case.check_values(&format!("{name}/f32"), &shape, rounded_to_f32(&values))?;
        case.check_values(&format!("{name}/f64"), &shape, values)?;
    }

    let alpha = case.input("zero_alpha")?.values.clone();
    let beta = case.input("zero_beta")?.values.clone();
    let shape = [alpha.len()];
    let (mut loss, mut dalpha, mut dbeta) = (vec![], vec![], vec![]);
    for (alpha, beta) in alpha.into_iter().zip(beta) {
        let density = GeneralizedGaussian::new(0.0, alpha, beta)?;
        let score = density.score(0.0);
        loss.push(-density.log_prob(0.0) - LN_2);
        dalpha.push(-score.d_alpha);
        dbeta.push(-score.d_beta);
    }
    case.check_values("zero_residual/loss", &shape, loss)?;
    case.check_values("zero_residual/dalpha", &shape, dalpha)?;
    case.check_values("zero_residual/dbeta", &shape, dbeta)
}

fn variances(case: &mut Case) -> Result<(), CaseError> {
    let alpha = case.input("var_alpha")?.values.clone();
    let beta = case.input("var_beta")?.values.clone();
    let shape = [alpha.len()];
    let (mut log_variance, mut variance) = (vec![], vec![]);
    for (alpha, beta) in alpha.into_iter().zip(beta) {
        let density = GeneralizedGaussian::new(0.0, alpha, beta)?;
        log_variance.push(density.log_variance());
        variance.push(density.variance());
    }
    case.check_values("log_variance/f32", &shape, rounded_to_f32(&log_variance))?;
    case.check_values("log_variance/f64", &shape, log_variance)?;
    case.check_values("variance/f64", &shape, variance)?;

    let one_over_alpha = case.input("published_one_over_alpha")?.values.clone();
    let beta = case.input("published_beta")?.values.clone();
    let uncertainty = one_over_alpha
        .iter()
        .zip(&beta)
        .map(|(&h, &beta)| {
            let alpha = (1.0 / (h + 1e-5)).clamp(1e-4, 5.0);
            let beta = (beta + 0.1).clamp(0.1, 5.0);
            Ok(GeneralizedGaussian::new(0.0, alpha, beta)?.variance())
        })
        .collect::<Result<Vec<_>, DistributionError>>()?;
    case.check_values("published_uncertainty", &[beta.len()], uncertainty)
}

fn functions(case: &mut Case) -> Result<(), CaseError> {
    let densities = densities_of_rows(case.input("dist_params")?)?;
    let x = case.input("dist_x")?.clone();
    let q = case.input("dist_q")?.values.clone();
    let points = x.values.len() / densities.len();
    let at_points = |f: fn(&GeneralizedGaussian, f64) -> f64| -> Vec<f64> {
        let rows = densities.iter().zip(x.values.chunks(points));
        rows.flat_map(|(d, row)| row.iter().map(move |&x| f(d, x))).collect()
    };
    case.check_values("logpdf", &x.shape, at_points(GeneralizedGaussian::log_prob))?;
    case.check_values("pdf", &x.shape, at_points(|d, x| d.log_prob(x).exp()))?;
    case.check_values("cdf", &x.shape, at_points(GeneralizedGaussian::cdf))?;
    case.check_values("sf", &x.shape, at_points(GeneralizedGaussian::sf))?;
    let quantiles = densities.iter().flat_map(|d| q.iter().map(|&q| d.quantile(q))).collect();
    case.check_values("ppf", &[densities.len(), q.len()], quantiles)?;
    // mean and skewness of a symmetric density are its centre and 0
    let moments = densities
        .iter()
        .flat_map(|d| {
            let deviation = d.absolute_moment(1);
            [d.mu(), d.variance(), 0.0, d.excess_kurtosis(), d.entropy(), deviation]
        })
        .collect();
    case.check_values("moments", &[densities.len(), 6], moments)
}

fn sampler(case: &mut Case) -> Result<(), CaseError> {
    let densities = densities_of_rows(case.input("sampler_params")?)?;
    let q = case.input("sampler_q")?.values.clone();
    let n = case.input("sampler_n")?.values[0];
    let (mut stats, mut quantiles, mut quantile_errors) = (vec![], vec![], vec![]);
    let mut worst = 0f64;
    for (row, density) in densities.iter().enumerate() {
        let moments = [
            (density.mu(), mean_error(density, n)),
            (density.variance(), variance_error(density, n)),
            (density.excess_kurtosis(), kurtosis_error(density, n)),
        ];
        let at: Vec<f64> = q.iter().map(|&q| density.quantile(q)).collect();
        let errors: Vec<f64> = q
            .iter()
            .zip(&at)
            .map(|(q, &x)| (q * (1.0 - q) / n).sqrt() / density.log_prob(x).exp())
            .collect();

        let mut rng = generator(0, Stream::EmbeddingSamples, row as u64);
        let mut draws: Vec<f64> = (0..n as usize).map(|_| density.sample(&mut rng)).collect();
        draws.sort_by(f64::total_cmp);
        let drawn = moments_of(&draws);
        let off = |got: f64, expected: f64, error: f64| {
            let errors = (got - expected).abs() / error;
            // f64::max would pass over a NaN
            if errors.is_nan() { f64::INFINITY } else { errors }
        };
        for (got, (expected, error)) in drawn.into_iter().zip(moments) {
            worst = worst.max(off(got, expected, error));
        }
        for ((&q, &x), &error) in q.iter().zip(&at).zip(&errors) {
            let place = (q * (n - 1.0)).round() as usize;
            worst = worst.max(off(draws[place], x, error));
        }

        stats.extend(moments.map(|(value, _)| value));
        stats.extend(moments.map(|(_, error)| error));
        quantiles.extend(at);
        quantile_errors.extend(errors);
    }
    let rows = densities.len();
    case.check_values("sampler/stats", &[rows, 6], stats)?;
    case.check_values("sampler/quantiles", &[rows, q.len()], quantiles)?;
    case.check_values("sampler/quantile_se", &[rows, q.len()], quantile_errors)?;
    case.record(Comparison {
        name: "sampler/draws".to_owned(),
        passed: worst <= STANDARD_ERRORS,
        worst_error: worst,
        ratio: worst / STANDARD_ERRORS,
        note: Some(format!("worst of the moments and quantiles: {worst:.2} standard errors")),
    });
    Ok(())
}

/// Mean, variance and excess kurtosis of some draws.
fn moments_of(draws: &[f64]) -> [f64; 3] {
    let n = draws.len() as f64;
    let mean = draws.iter().sum::<f64>() / n;
    let central = |order: i32| draws.iter().map(|x| (x - mean).powi(order)).sum::<f64>() / n;
    let variance = central(2);
    [mean, variance, central(4) / (variance * variance) - 3.0]
}

fn mean_error(density: &GeneralizedGaussian, n: f64) -> f64 {
    (density.variance() / n).sqrt()
}

fn variance_error(density: &GeneralizedGaussian, n: f64) -> f64 {
    ((density.absolute_moment(4) - density.variance().powi(2)) / n).sqrt()
}

/// Standard error of m4 / m2², by the delta method.
fn kurtosis_error(density: &GeneralizedGaussian, n: f64) -> f64 {
    let [m2, m4, m6, m8] = [2, 4, 6, 8].map(|order| density.absolute_moment(order));
    let kurtosis = m4 / (m2 * m2);
    let fourth = (m8 - m4 * m4) / m2.powi(4);
    let mixed = -4.0 * kurtosis * (m6 - m4 * m2) / m2.powi(3);
    let second = 4.0 * kurtosis * kurtosis * (m4 - m2 * m2) / (m2 * m2);
    ((fourth + mixed + second).max(0.0) / n).sqrt()
}

fn distances(case: &mut Case) -> Result<(), CaseError> {
    let first = gaussians(case, "mu1", "logvar1")?;
    let second = gaussians(case, "mu2", "logvar2")?;
    let first_samples = samples(&first, case.input("eps1")?)?;
    let second_samples = samples(&second, case.input("eps2")?)?;
    let [scale, shift] = case.input("scale_shift")?.values[..] else {
        return Err(CaseError("scale_shift must hold two numbers".to_owned()));
    };
    let probability = MatchProbability { scale, shift };

    let shape = [first.len(), second.len()];
    let every_pair = |f: fn(&DiagonalGaussian, &DiagonalGaussian) -> _| {
        let pairs = first.iter().flat_map(|a| second.iter().map(move |b| f(a, b)));
        pairs.collect::<Result<Vec<f64>, DistributionError>>()
    };
    let mutual_likelihood = every_pair(mutual_likelihood_score)?;
    let released = every_pair(mutual_likelihood_score_released)?;
    let csd = every_pair(closed_form_sampled_distance)?;
    let wasserstein2 = every_pair(squared_wasserstein2)?;
    let sampled = first_samples
        .iter()
        .flat_map(|a| second_samples.iter().map(|b| sampled_match_probability(a, b, probability)))
        .collect::<Result<Vec<f64>, DistributionError>>()?;

    case.check_values("mutual_likelihood", &shape, mutual_likelihood)?;
    case.check_values("mutual_likelihood_pfe_code", &shape, released)?;
    case.check_values("match_probability", &shape, sampled)?;
    let closed_form = csd.iter().map(|&d| probability.at(d)).collect();
    case.check_values("csd_match_probability", &shape, closed_form)?;
    case.check_values("expected_sq_distance", &shape, csd.clone())?;
    case.check_values("csd", &shape, csd)?;
    case.check_values("wasserstein2", &shape, wasserstein2)
}

fn densities(
    case: &Case,
    mu: &str,
    alpha: &str,
    beta: &str,
) -> Result<Vec<GeneralizedGaussian>, CaseError> {
    let (mu, alpha, beta) = (case.input(mu)?, case.input(alpha)?, case.input(beta)?);
    let parameters = mu.values.iter().zip(&alpha.values).zip(&beta.values);
    parameters.map(|((&m, &a), &b)| Ok(GeneralizedGaussian::new(m, a, b)?)).collect()
}

/// Rows of (mu, alpha, beta).
fn densities_of_rows(parameters: &Numbers) -> Result<Vec<GeneralizedGaussian>, CaseError> {
    let rows = parameters.values.as_chunks::<3>().0;
    rows.iter().map(|&[mu, alpha, beta]| Ok(GeneralizedGaussian::new(mu, alpha, beta)?)).collect()
}

/// Rows of a mean and a log variance.
fn gaussians(
    case: &Case,
    mean: &str,
    log_variance: &str,
) -> Result<Vec<DiagonalGaussian>, CaseError> {
    let (mean, log_variance) = (case.input(mean)?, case.input(log_variance)?);
    let dim = mean.shape.last().copied().unwrap_or(1);
    let rows = mean.values.chunks(dim).zip(log_variance.values.chunks(dim));
    rows.map(|(mean, log_variance)| {
        let variance = log_variance.iter().map(|v| v.exp()).collect();
        Ok(DiagonalGaussian::new(mean.to_vec(), variance)?)
    })
    .collect()
}

/// Samples `[J, D]` of each Gaussian from noise `[N, J, D]`.
fn samples(
    gaussians: &[DiagonalGaussian],
    noise: &Numbers,
) -> Result<Vec<Vec<Vec<f64>>>, CaseError> {
    let per_gaussian = noise.values.len() / gaussians.len();
    gaussians
        .iter()
        .zip(noise.values.chunks(per_gaussian))
        .map(|(gaussian, noise)| {
            let each = noise.chunks(gaussian.dim());
            Ok(each.map(|noise| gaussian.reparameterize(noise)).collect::<Result<_, _>>()?)
        })
        .collect()
}

fn rounded_to_f32(values: &[f64]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v as f32)).collect()
}
