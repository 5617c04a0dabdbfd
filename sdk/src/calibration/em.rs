//! Fitting a [`Mixture`] by expectation maximisation, and choosing how many components it has.

use rand_philox::{Philox, u32_to_unit_f64};

use super::cholesky::packed_len;
use super::mixture::{Component, Mixture, log_sum_exp};

/// The mixture of 1, 2, 4 or 8 components that predicts the last fifth of `points` best when fitted
/// to the others, fitted again to all. `None` if no mixture can be fitted, because numbers are not
/// finite.
///
/// More components are chosen only if their log-likelihood is higher by more than the noise of the
/// comparison. `points` [N][D] must be in random order. A component needs ten points per dimension,
/// so small sets get one.
pub(super) fn select(points: &[Vec<f64>], seed: u64) -> Option<Mixture> {
    let dimension = points.first()?.len();
    let (fitted, held_out) = points.split_at(points.len() - points.len() / HELD_OUT_SHARE);
    let affordable = fitted.len() / (POINTS_PER_DIMENSION * dimension).max(1);
    let mut chosen = vec![1];
    if affordable >= 2 {
        let mut best: Option<Vec<f64>> = None;
        for count in COUNTS.into_iter().filter(|&count| count <= affordable) {
            let Some(mixture) = fit(fitted, count, seed) else { continue };
            let predicted: Vec<f64> = held_out.iter().map(|x| mixture.log_density(x)).collect();
            if best.as_ref().is_none_or(|best| clearly_better(&predicted, best)) {
                chosen.push(count);
                best = Some(predicted);
            }
        }
    }
    // What a part of the points supports may starve on all of them; then the next smaller number
    // does.
    chosen.into_iter().rev().find_map(|count| fit(points, count, seed))
}

/// Whether the mean of `new - old` is above [`CLEARLY`] times its standard error, and above what
/// the iterations leave undecided.
fn clearly_better(new: &[f64], old: &[f64]) -> bool {
    let n = new.len() as f64;
    let gain = new.iter().zip(old).map(|(new, old)| new - old);
    let mean = gain.clone().sum::<f64>() / n;
    let variance = gain.map(|g| (g - mean) * (g - mean)).sum::<f64>() / n;
    mean > CLEARLY * (variance / n).sqrt() + CONVERGED
}

/// A mixture of `count` components fitted to `points`; `None` if a component starves in every
/// attempt.
fn fit(points: &[Vec<f64>], count: usize, seed: u64) -> Option<Mixture> {
    let attempts = if count == 1 { 1 } else { ATTEMPTS };
    (0..attempts).find_map(|attempt| {
        let mut draws = Philox::from_u64_seed_stream(seed, INITIAL_CENTRES + attempt);
        climb(points, start(points, count, &mut draws)?)
    })
}

/// Centres drawn from the points with probability proportional to the squared distance from those
/// already drawn (k-means++); every component starts with the covariance of the whole set.
fn start(points: &[Vec<f64>], count: usize, draws: &mut Philox) -> Option<Mixture> {
    let whole = component(points, points.iter().map(|_| 1.0))?;
    if count == 1 {
        return Mixture::try_from(vec![whole]).ok();
    }
    let first = draws.bounded(u32::try_from(points.len()).ok()?) as usize;
    let mut centres = vec![points[first].clone()];
    let mut distance = vec![f64::INFINITY; points.len()];
    while centres.len() < count {
        let newest = &centres[centres.len() - 1];
        for (near, point) in distance.iter_mut().zip(points) {
            let square: f64 = point.iter().zip(newest).map(|(a, b)| (a - b) * (a - b)).sum();
            *near = near.min(square);
        }
        let mut left = u32_to_unit_f64(draws.next_u32()) * distance.iter().sum::<f64>();
        let chosen = distance.iter().position(|d| {
            left -= d;
            left < 0.0
        });
        centres.push(points[chosen.unwrap_or(points.len() - 1)].clone());
    }
    let weight = 1.0 / count as f64;
    let covariance = whole.covariance;
    let component = |mean| Component { weight, mean, covariance: covariance.clone() };
    Mixture::try_from(centres.into_iter().map(component).collect::<Vec<_>>()).ok()
}

/// Alternates expectation and maximisation until the mean log-likelihood stops rising.
fn climb(points: &[Vec<f64>], mut mixture: Mixture) -> Option<Mixture> {
    let count = mixture.components().len();
    let mut reached = f64::NEG_INFINITY;
    for _ in 0..if count == 1 { 0 } else { ITERATIONS } {
        let mut total = 0.0;
        let mut shares: Vec<Vec<f64>> = Vec::with_capacity(points.len());
        for point in points {
            let terms = mixture.terms(point);
            let sum = log_sum_exp(&terms);
            total += sum;
            shares.push(terms.iter().map(|t| (t - sum).exp()).collect());
        }
        let components = (0..count).map(|k| component(points, shares.iter().map(|s| s[k])));
        let mut components: Vec<Component> = components.collect::<Option<_>>()?;
        let weights: f64 = components.iter().map(|c| c.weight).sum();
        components.iter_mut().for_each(|c| c.weight /= weights);
        mixture = Mixture::try_from(components).ok()?;
        let mean = total / points.len() as f64;
        if mean - reached < CONVERGED {
            break;
        }
        reached = mean;
    }
    Some(mixture)
}

/// The Gaussian of `points`, each counted with its share, and the mean share as weight. `None` if
/// the shares sum to less than the matrix needs (one component alone always suffices) or a number
/// is not finite.
fn component(points: &[Vec<f64>], shares: impl Iterator<Item = f64> + Clone) -> Option<Component> {
    let dimension = points.first()?.len();
    let mass: f64 = shares.clone().sum();
    let starved = mass < (dimension + 1) as f64 && mass < points.len() as f64;
    if starved || !mass.is_finite() {
        return None;
    }
    let mut mean = vec![0.0; dimension];
    for (point, share) in points.iter().zip(shares.clone()) {
        mean.iter_mut().zip(point).for_each(|(m, x)| *m += share * x);
    }
    mean.iter_mut().for_each(|m| *m /= mass);
    let mut covariance = vec![0.0; packed_len(dimension)];
    for (point, share) in points.iter().zip(shares) {
        let offset: Vec<f64> = point.iter().zip(&mean).map(|(x, m)| x - m).collect();
        let mut packed = covariance.iter_mut();
        for (i, a) in offset.iter().enumerate() {
            let row = packed.by_ref().take(i + 1);
            row.zip(&offset).for_each(|(sum, b)| *sum += share * a * b);
        }
    }
    covariance.iter_mut().for_each(|v| *v /= mass);
    (0..dimension).for_each(|i| covariance[packed_len(i) + i] += RIDGE);
    let finite = mean.iter().chain(&covariance).all(|v| v.is_finite());
    finite.then(|| Component { weight: mass / points.len() as f64, mean, covariance })
}

/// Numbers of components to choose from.
const COUNTS: [usize; 4] = [1, 2, 4, 8];
/// Points that a component needs per dimension.
const POINTS_PER_DIMENSION: usize = 10;
/// One point in this many judges the number of components.
const HELD_OUT_SHARE: usize = 5;
/// Standard errors that a gain in held-out log-likelihood must exceed.
const CLEARLY: f64 = 2.0;
/// Added to each variance: the statistics are standardised and some are sums of others, so that
/// their covariance is singular; no direction counts as narrower than a hundredth of a statistic's
/// spread.
const RIDGE: f64 = 1e-4;
/// Smallest rise of the mean log-likelihood, nats, that is worth another iteration.
const CONVERGED: f64 = 1e-4;
/// Most iterations.
const ITERATIONS: usize = 100;
/// Starts until every component has enough points.
const ATTEMPTS: u64 = 3;
/// First Philox stream of the starts.
const INITIAL_CENTRES: u64 = 0x100;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preprocess::noise;

    /// Two Gaussians with means ±3, in the ratio 3 : 7.
    fn two_clusters(n: usize) -> Vec<Vec<f64>> {
        let noise = noise::normal(11, 0, 2 * n);
        let centre = |i: usize| if i % 10 < 3 { 3.0 } else { -3.0 };
        let point = |i: usize| {
            let (a, b) = (f64::from(noise[2 * i]), f64::from(noise[2 * i + 1]));
            vec![centre(i) + a, 0.5 * a + b]
        };
        (0..n).map(point).collect()
    }

    #[test]
    fn two_clusters_are_recovered() {
        let mixture = select(&two_clusters(3000), 5).unwrap();
        let mut components = mixture.components().to_vec();
        components.sort_by(|a, b| a.weight.total_cmp(&b.weight));
        assert_eq!(components.len(), 2);
        for (component, (weight, mean)) in components.iter().zip([(0.3, 3.0), (0.7, -3.0)]) {
            assert!((component.weight - weight).abs() < 0.01, "{component:?}");
            assert!((component.mean[0] - mean).abs() < 0.1, "{component:?}");
            assert!(component.mean[1].abs() < 0.1, "{component:?}");
            for (got, need) in component.covariance.iter().zip([1.0, 0.5, 1.25]) {
                assert!((got - need).abs() < 0.15, "{component:?}");
            }
        }
    }

    #[test]
    fn a_gain_counts_only_above_its_noise() {
        assert!(clearly_better(&[1.1, 2.1, 3.0, 4.1], &[1.0, 2.0, 3.0, 4.0]));
        assert!(!clearly_better(&[1.1, 2.0, 3.0, 3.9], &[1.0, 2.0, 3.0, 4.0]));
        assert!(!clearly_better(&[1.0, 2.0], &[1.0, 2.0]));
        assert!(!clearly_better(&[f64::NAN, 3.0], &[1.0, 2.0]) && !clearly_better(&[], &[]));
    }

    #[test]
    fn one_component_has_the_moments_of_the_points() {
        let points = vec![vec![1.0, 2.0], vec![3.0, 2.0], vec![2.0, 5.0]];
        let mixture = select(&points, 1).unwrap();
        let component = &mixture.components()[0];
        assert_eq!((component.weight, component.mean.as_slice()), (1.0, [2.0, 3.0].as_slice()));
        let expected = [2.0 / 3.0 + RIDGE, 0.0, 2.0 + RIDGE];
        assert!(component.covariance.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12));
    }

    #[test]
    fn few_or_equal_points_get_one_component() {
        let components = |points: &[Vec<f64>]| select(points, 1).unwrap().components().len();
        assert_eq!(components(&two_clusters(40)), 1);
        assert_eq!(components(&vec![vec![1.0, 1.0]; 500]), 1);
        assert_eq!(components(&[vec![1.0; 20]]), 1);
    }

    #[test]
    fn the_same_seed_gives_the_same_mixture() {
        let points = two_clusters(600);
        assert_eq!(select(&points, 3), select(&points, 3));
    }

    #[test]
    fn points_that_are_not_finite_give_nothing() {
        let mut points = two_clusters(100);
        points[99][1] = f64::NAN;
        assert_eq!(select(&points, 1), None);
        points[99][1] = 1e200;
        assert_eq!(select(&points, 1), None);
        assert_eq!(select(&[], 1), None);
    }
}
