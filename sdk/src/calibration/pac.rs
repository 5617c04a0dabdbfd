//! Thresholds that hold with confidence: a false-alarm rate of at most alpha, except with
//! probability delta.
//!
//! Flagging every score above the k-th largest of n calibration scores gives a true false-alarm
//! rate that is distributed as Beta(k, n + 1 - k) over calibrations, for continuous scores; ties
//! only lower it. It is at most alpha with probability `P(Beta(k, n + 1 - k) <= alpha) =
//! P(Binomial(n, alpha) >= k)`.

use statrs::distribution::{Beta, ContinuousCDF};

/// Smallest number of calibration scores for which a threshold exists, `ceil(ln delta / ln(1 -
/// alpha))`; `usize::MAX` unless both are between 0 and 1.
pub(super) fn minimum(alpha: f64, delta: f64) -> usize {
    let inside = |x: f64| x > 0.0 && x < 1.0;
    if !(inside(alpha) && inside(delta)) {
        return usize::MAX;
    }
    let n = (delta.ln() / (-alpha).ln_1p()).ceil();
    (n as usize).max(1)
}

/// The largest k such that the k-th largest of n calibration scores is a valid threshold; `None` if
/// n is too small.
pub(super) fn rank(n: usize, alpha: f64, delta: f64) -> Option<usize> {
    if n < minimum(alpha, delta) {
        return None;
    }
    let (mut valid, mut invalid) = (1, n + 1);
    while invalid - valid > 1 {
        let k = valid + (invalid - valid) / 2;
        let holds = confidence(n, k, alpha) >= 1.0 - delta;
        if holds { valid = k } else { invalid = k }
    }
    Some(valid)
}

/// Central 95 % interval of the true false-alarm rate when the k-th largest of n scores is the
/// threshold.
pub(super) fn band(n: usize, k: usize) -> (f64, f64) {
    (quantile(n, k, 0.025), quantile(n, k, 0.975))
}

/// Probability that the true false-alarm rate is at most `rate`; NaN unless 1 <= k <= n.
fn confidence(n: usize, k: usize, rate: f64) -> f64 {
    Beta::new(k as f64, (n + 1).saturating_sub(k) as f64).map_or(f64::NAN, |beta| beta.cdf(rate))
}

/// By bisection: it cannot fail to converge.
fn quantile(n: usize, k: usize, probability: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..BISECTIONS {
        let middle = 0.5 * (low + high);
        if confidence(n, k, middle) < probability { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

/// Halvings until the interval is at the resolution of f64 for rates down to 1e-6.
const BISECTIONS: u32 = 72;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preprocess::noise;

    #[test]
    fn minimum_numbers_of_scores() {
        for (alpha, n) in [(0.05, 59), (0.01, 299), (0.001, 2995)] {
            assert_eq!(minimum(alpha, 0.05), n);
            assert_eq!(rank(n, alpha, 0.05), Some(1));
            assert_eq!(rank(n - 1, alpha, 0.05), None);
            assert!(confidence(n, 1, alpha) >= 0.95 && confidence(n - 1, 1, alpha) < 0.95);
        }
        assert_eq!(minimum(0.5, 0.25), 2);
        for bad in [0.0, 1.0, -0.1, f64::NAN, f64::INFINITY] {
            assert_eq!((minimum(bad, 0.05), minimum(0.05, bad)), (usize::MAX, usize::MAX));
        }
    }

    #[test]
    fn ranks_for_one_percent_with_95_percent_confidence() {
        for (n, k) in [(1000, 5), (5000, 39), (10_000, 84)] {
            assert_eq!(rank(n, 0.01, 0.05), Some(k));
        }
    }

    #[test]
    fn the_band_holds_its_probability() {
        // k = 1 has the closed form 1 - (1 - p)^(1/n).
        let (low, high) = band(299, 1);
        let close = |a: f64, b: f64| (a - b).abs() <= 1e-12;
        assert!(close(low, -((-0.025f64).ln_1p() / 299.0).exp_m1()));
        assert!(close(high, -(0.025f64.ln() / 299.0).exp_m1()));
        assert!(
            !close(low + 1e-9, -((-0.025f64).ln_1p() / 299.0).exp_m1()) && !close(f64::NAN, 0.0)
        );
        let (low, high) = band(1000, 5);
        assert!(low < 0.005 && 0.005 < high && high < 0.0105);
    }

    #[test]
    fn the_promise_is_kept_and_one_rank_more_would_break_it() {
        let (alpha, delta, n, runs) = (0.05, 0.1, 200, 1000);
        let k = rank(n, alpha, delta).unwrap();
        let broken = |k: usize| {
            // Uniform scores: the true false-alarm rate of a threshold is one minus the threshold.
            let broken = (0..runs).filter(|&seed| {
                let mut scores = noise::uniform(seed, 0, n);
                scores.sort_by(f32::total_cmp);
                1.0 - f64::from(scores[n - k]) > alpha
            });
            broken.count() as f64 / runs as f64
        };
        let three_sigma = 3.0 * (delta * (1.0 - delta) / runs as f64).sqrt();
        assert!(broken(k) <= delta + three_sigma, "{}", broken(k));
        assert!(broken(k + 1) > delta, "{}", broken(k + 1));
    }
}
