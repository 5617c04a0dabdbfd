//! Tests of the whole calibration.

use statrs::distribution::{ContinuousCDF, Normal};

use super::fixture::{OPTIONS, calibration, vector, vectors};
use super::*;

fn fit(vectors: &[Statistics], options: &CalibrationOptions) -> Result<Calibration> {
    Calibration::fit(binding::fixture::binding(), vectors, options)
}

#[test]
fn flagged_means_above_the_threshold_and_a_small_p_value() {
    let calibration = calibration();
    let (n, k) = (calibration.record.scores.len(), calibration.rank);
    assert_eq!((n, calibration.images()), (100, 200));
    let highest = k as f64 / (n + 1) as f64;
    let mut flagged = 0;
    let own = calibration.record.scores.iter().copied();
    let others = own.clone().flat_map(|s| [s.next_down(), s.next_up()]);
    for value in own.chain(others).chain([f64::MAX, f64::MIN, f64::NAN]) {
        let score = Score { value, p_value: conformal::p_value(&calibration.record.scores, value) };
        assert_eq!(calibration.is_anomalous(&score), score.p_value <= highest, "{score:?}");
        flagged += usize::from(calibration.is_anomalous(&score));
    }
    // k - 1 scores with both neighbours each, the upper neighbour of the threshold, MAX and NaN.
    assert_eq!(flagged, 3 * (k - 1) + 3);
    let at = Score { value: calibration.threshold(), p_value: 0.0 };
    assert!(!calibration.is_anomalous(&at));
}

#[test]
fn strange_vectors_are_flagged_on_either_side_and_in_combination() {
    let calibration = calibration();
    let flagged = |nll, complexity| {
        let score = calibration.score(&vector(nll, complexity)).unwrap();
        calibration.is_anomalous(&score)
    };
    assert!(!flagged(3.0, 0.0));
    assert!(flagged(9.0, 6.0) && flagged(-3.0, -6.0));
    assert!(flagged(4.5, -1.5), "each value is normal, the pair is not");
}

#[test]
fn numbers_that_are_not_finite_have_no_score() {
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300] {
        let score = calibration().score(&vector(value, 0.0));
        assert!(matches!(score, Err(Error::NonFinite { .. })), "{value}");
        let mut vectors = vectors(200, 1);
        vectors[17] = vector(value, 0.0);
        assert!(matches!(fit(&vectors, &OPTIONS), Err(Error::NonFinite { .. })), "{value}");
    }
}

#[test]
fn other_statistics_are_refused() {
    let other = Statistics::from_pairs([("nll@0.9", 3.0), ("complexity", 0.0)]);
    let score = calibration().score(&other);
    assert!(matches!(score, Err(Error::CalibrationMismatch { field: "statistics", .. })));
    let mut vectors = vectors(200, 1);
    vectors[17] = other;
    assert!(matches!(fit(&vectors, &OPTIONS), Err(Error::InvalidOption { .. })));
}

#[test]
fn too_few_images_and_impossible_rates_are_refused() {
    let need = Calibration::minimum_images(0.05, 0.05);
    assert_eq!(need, 2 * 59);
    let options = CalibrationOptions { alpha: 0.05, delta: 0.05, seed: 0 };
    assert!(fit(&vectors(need, 1), &options).is_ok());
    let refused = fit(&vectors(need - 1, 1), &options);
    assert!(matches!(refused, Err(Error::TooFewImages { got: 117, need: 118 })));
    assert!(matches!(fit(&[], &options), Err(Error::TooFewImages { got: 0, need: 118 })));
    for bad in [0.0, 1.0, -0.1, f64::NAN] {
        for options in [
            CalibrationOptions { alpha: bad, ..OPTIONS },
            CalibrationOptions { delta: bad, ..OPTIONS },
        ] {
            let refused = fit(&vectors(200, 1), &options);
            assert!(matches!(refused, Err(Error::InvalidOption { .. })), "{options:?}");
        }
    }
}

#[test]
fn a_statistic_that_is_a_sum_of_others_changes_nothing_but_a_constant() {
    let with_sum = |v: &Statistics| {
        let (a, b) = (v.get("nll@1").unwrap(), v.get("complexity").unwrap());
        Statistics::from_pairs([("nll@1", a), ("complexity", b), ("sum", a + b)])
    };
    let vectors = vectors(200, 1);
    let plain = fit(&vectors, &OPTIONS).unwrap();
    let redundant = fit(&vectors.iter().map(with_sum).collect::<Vec<_>>(), &OPTIONS).unwrap();
    assert!((redundant.score(&with_sum(&vectors[0])).unwrap().value).is_finite());
    let same = vectors.iter().filter(|v| {
        let flagged = plain.is_anomalous(&plain.score(v).unwrap());
        flagged == redundant.is_anomalous(&redundant.score(&with_sum(v)).unwrap())
    });
    assert!(same.count() >= 198);
}

#[test]
fn files_give_back_the_same_calibration() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("calibration.json");
    let calibration = calibration();
    calibration.save(&path).unwrap();
    assert_eq!(Calibration::load(&path).unwrap(), calibration);
    let other = fit(&vectors(200, 1), &CalibrationOptions { seed: 1, ..OPTIONS }).unwrap();
    assert_ne!(other, calibration);
    other.save(&path).unwrap();
    assert_eq!(Calibration::load(&path).unwrap(), other);
}

#[test]
fn over_many_splits_the_false_alarm_rate_keeps_the_promise() {
    // Quantiles of the true distribution of the only statistic: the share flagged is the true
    // false-alarm rate.
    const GRID: usize = 2000;
    const RUNS: u64 = 1000;
    let normal = Normal::standard();
    let quantile = |i| normal.inverse_cdf((f64::from(i) + 0.5) / GRID as f64);
    let one = |x| Statistics::from_pairs([("nll@1", x)]);
    let population: Vec<Statistics> = (0..GRID as u32).map(|i| one(quantile(i))).collect();
    let (mut broken, mut rates) = (0, 0.0);
    for seed in 0..RUNS {
        let order = split::shuffled(GRID, seed + 50_000);
        // Drawn without replacement, 1 in 20: slightly less varied than independent draws.
        let drawn: Vec<Statistics> =
            order.iter().take(100).map(|&i| population[i].clone()).collect();
        let calibration = fit(&drawn, &CalibrationOptions { seed, ..OPTIONS }).unwrap();
        let flags = |v: &&Statistics| calibration.is_anomalous(&calibration.score(v).unwrap());
        let rate = population.iter().filter(flags).count() as f64 / GRID as f64;
        broken += usize::from(rate > OPTIONS.alpha);
        rates += rate / RUNS as f64;
        let (low, high) = calibration.band();
        assert!(low < high && low > 0.0 && high < 0.1);
    }
    let three_sigma = 3.0 * (OPTIONS.delta * (1.0 - OPTIONS.delta) / RUNS as f64).sqrt();
    let share = broken as f64 / RUNS as f64;
    assert!(share <= OPTIONS.delta + three_sigma, "{share}");
    // k = 1 of n = 50: the mean rate is 1 / 51, so that the promise is kept by no more than it
    // needs.
    assert!((rates - 1.0 / 51.0).abs() < 0.004, "{rates}");
}
