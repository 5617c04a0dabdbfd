//! Conformal p-values: the rank of a score among those of normal images that the density has not
//! seen.

/// `(1 + number of calibration scores >= score) / (n + 1)`, in (0, 1].
///
/// For an image exchangeable with the n calibration images, `P(p <= a) <= a` for every a, on
/// average over calibrations. `sorted` is ascending. NaN has the smallest p-value.
pub(super) fn p_value(sorted: &[f64], score: f64) -> f64 {
    let below = if score.is_nan() { sorted.len() } else { sorted.partition_point(|&s| s < score) };
    (1 + sorted.len() - below) as f64 / (sorted.len() + 1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preprocess::noise;

    #[test]
    fn ranks_and_ties_are_exact() {
        let sorted = [1.0, 2.0, 2.0, 3.0];
        let expected = [(0.0, 5), (1.0, 5), (1.5, 4), (2.0, 4), (2.5, 2), (3.0, 2), (3.5, 1)];
        for (score, rank) in expected {
            assert_eq!(p_value(&sorted, score), f64::from(rank) / 5.0, "{score}");
        }
        assert_eq!(p_value(&sorted, f64::NAN), 0.2);
        assert_eq!(p_value(&sorted, f64::INFINITY), 0.2);
    }

    #[test]
    fn p_values_fall_with_the_score() {
        let mut sorted = noise::normal(1, 0, 99);
        sorted.sort_by(f32::total_cmp);
        let sorted: Vec<f64> = sorted.into_iter().map(f64::from).collect();
        let p: Vec<f64> = (-40..=40).map(|i| p_value(&sorted, f64::from(i) / 10.0)).collect();
        assert!(p.windows(2).all(|w| w[0] >= w[1]));
        assert_eq!((p[0], p[80]), (1.0, 0.01));
    }

    #[test]
    fn p_values_are_super_uniform() {
        const RUNS: usize = 4000;
        let p = (0..RUNS as u64).map(|seed| {
            let scores: Vec<f64> = noise::normal(seed, 0, 20).into_iter().map(f64::from).collect();
            let mut sorted = scores[1..].to_vec();
            sorted.sort_by(f64::total_cmp);
            p_value(&sorted, scores[0])
        });
        let p: Vec<f64> = p.collect();
        for alpha in [0.05, 0.1, 0.25, 0.5] {
            let share = |shift: f64| {
                p.iter().filter(|&&p| p - shift <= alpha + 1e-12).count() as f64 / RUNS as f64
            };
            let sigma = (alpha * (1.0 - alpha) / RUNS as f64).sqrt();
            assert!(share(0.0) <= alpha + 3.0 * sigma, "{alpha}: {}", share(0.0));
            // The bound is tight: p-values one rank too small would break it.
            assert!(share(0.05) > alpha + 3.0 * sigma, "{alpha}: {}", share(0.05));
        }
    }
}
