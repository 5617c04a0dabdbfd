//! How well scores tell anomalous from normal: ROC curve, area under it, false alarms at a given hit rate.
//!
//! Scores are higher for stranger images; an image is flagged if its score is at or above the threshold.

use anyhow::{Result, bail};
use rand_philox::Philox;

/// Resamples of the bootstrap.
const RESAMPLES: usize = 1000;
/// Probability that a bootstrap interval leaves out on either side.
const TAIL: f64 = 0.025;

/// The area under the ROC curve with its uncertainty.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Area {
    /// Probability that an anomalous image scores above a normal one, ties counted half.
    pub(crate) value: f64,
    /// 95 % bootstrap interval.
    pub(crate) interval: (f64, f64),
}

/// Normal and anomalous scores, counted per distinct value.
pub(crate) struct Roc {
    // Falling; every value once.
    values: Vec<f64>,
    // Position in `values` of every image's score.
    normal: Vec<u32>,
    anomalous: Vec<u32>,
}

impl Roc {
    /// Compares two sets of scores.
    ///
    /// # Errors
    /// If either set is empty or holds NaN, which has no place in an order.
    pub(crate) fn new(normal: &[f64], anomalous: &[f64]) -> Result<Self> {
        for (name, scores) in [("normal", normal), ("anomalous", anomalous)] {
            if scores.is_empty() {
                bail!("got no usable {name} image, need at least one");
            }
            if scores.iter().any(|score| score.is_nan()) {
                bail!("a score of the {name} images is NaN, need numbers");
            }
        }
        let mut values: Vec<f64> = normal.iter().chain(anomalous).copied().collect();
        values.sort_unstable_by(|a, b| b.total_cmp(a));
        // == and not bits: 0.0 and -0.0 are the same score.
        values.dedup_by(|a, b| a == b);
        let rank = |score: &f64| values.partition_point(|value| value > score) as u32;
        let normal = normal.iter().map(rank).collect();
        let anomalous = anomalous.iter().map(rank).collect();
        Ok(Self { values, normal, anomalous })
    }

    /// Area under the curve and its bootstrap interval, both sets being resampled.
    pub(crate) fn area(&self, seed: u64) -> Area {
        let distinct = self.values.len();
        let value = area(&count(&self.normal, distinct), &count(&self.anomalous, distinct));
        let mut random = Philox::from_u64_seed(seed);
        let mut again = || {
            area(
                &resample(&self.normal, distinct, &mut random),
                &resample(&self.anomalous, distinct, &mut random),
            )
        };
        let mut areas: Vec<f64> = (0..RESAMPLES).map(|_| again()).collect();
        areas.sort_unstable_by(f64::total_cmp);
        let at = |q: f64| areas[(q * (RESAMPLES - 1) as f64).round() as usize];
        Area { value, interval: (at(TAIL), at(1.0 - TAIL)) }
    }

    /// Share of normal images flagged by the highest threshold that flags `rate` of the anomalous ones.
    pub(crate) fn false_alarms_at(&self, rate: f64) -> f64 {
        let reached = self.curve().into_iter().find(|(_, hits)| *hits >= rate);
        reached.map_or(1.0, |(alarms, _)| alarms)
    }

    /// Points (false-alarm rate, hit rate) from (0, 0) to (1, 1), one per distinct score.
    pub(crate) fn curve(&self) -> Vec<(f64, f64)> {
        let distinct = self.values.len();
        let (normal, anomalous) = (count(&self.normal, distinct), count(&self.anomalous, distinct));
        let mut flagged = (0u64, 0u64);
        let mut points = vec![(0.0, 0.0)];
        for (n, a) in normal.iter().zip(&anomalous) {
            flagged = (flagged.0 + u64::from(*n), flagged.1 + u64::from(*a));
            let share = |flagged: u64, of: usize| flagged as f64 / of as f64;
            points.push((
                share(flagged.0, self.normal.len()),
                share(flagged.1, self.anomalous.len()),
            ));
        }
        points
    }
}

fn count(ranks: &[u32], distinct: usize) -> Vec<u32> {
    let mut counts = vec![0; distinct];
    ranks.iter().for_each(|&rank| counts[rank as usize] += 1);
    counts
}

fn resample(ranks: &[u32], distinct: usize, random: &mut Philox) -> Vec<u32> {
    let mut counts = vec![0; distinct];
    for _ in ranks {
        let drawn = ranks[random.bounded(ranks.len() as u32) as usize];
        counts[drawn as usize] += 1;
    }
    counts
}

/// Share of pairs that are in the right order; counts per distinct score, falling.
fn area(normal: &[u32], anomalous: &[u32]) -> f64 {
    let (mut above, mut pairs, mut normals) = (0.0, 0.0, 0.0);
    for (&n, &a) in normal.iter().zip(anomalous) {
        let (n, a) = (f64::from(n), f64::from(a));
        pairs += n * (above + a / 2.0);
        above += a;
        normals += n;
    }
    pairs / (normals * above)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn area_with_ties_matches_the_hand_count() {
        // Pairs (normal, anomalous): 1-2 right, 1-3 right, 2-2 tie, 2-3 right, 4-2 wrong, 4-3 wrong: 3.5 of 6.
        let roc = Roc::new(&[1.0, 2.0, 4.0], &[3.0, 2.0]).unwrap();
        assert!((roc.area(0).value - 3.5 / 6.0).abs() < 1e-15);
    }

    #[test]
    fn perfect_reversed_and_constant_scores() {
        let value = |n: &[f64], a: &[f64]| Roc::new(n, a).unwrap().area(0);
        let perfect = value(&[1.0, 2.0], &[3.0, 4.0]);
        assert_eq!((perfect.value, perfect.interval), (1.0, (1.0, 1.0)));
        assert_eq!(value(&[3.0, 4.0], &[1.0, 2.0]).value, 0.0);
        assert_eq!(value(&[5.0; 3], &[5.0; 4]).value, 0.5);
        assert_eq!(value(&[0.0], &[-0.0]).value, 0.5);
    }

    #[test]
    fn false_alarms_are_those_of_the_first_threshold_that_hits_enough() {
        // 20 anomalous: 95 % is 19 of them, reached at threshold 2, which flags the normal 2 and 9.
        let anomalous: Vec<f64> = (1..=20).map(f64::from).collect();
        let roc = Roc::new(&[0.0, 1.0, 2.0, 9.0], &anomalous).unwrap();
        assert_eq!(roc.false_alarms_at(0.95), 0.5);
        assert_eq!(roc.curve().last(), Some(&(1.0, 1.0)));
    }

    #[test]
    fn nan_and_empty_sets_are_refused() {
        assert!(Roc::new(&[f64::NAN], &[1.0]).is_err());
        assert!(Roc::new(&[1.0], &[2.0, f64::NAN]).is_err());
        assert!(Roc::new(&[], &[1.0]).is_err());
        assert!(Roc::new(&[1.0], &[]).is_err());
    }

    #[test]
    fn interval_holds_the_value_and_repeats_with_the_seed() {
        let normal: Vec<f64> = (0..50).map(|i| f64::from(i * 7 % 50)).collect();
        let anomalous: Vec<f64> = (0..40).map(|i| f64::from(20 + i * 11 % 53)).collect();
        let roc = Roc::new(&normal, &anomalous).unwrap();
        let area = roc.area(3);
        let (low, high) = area.interval;
        assert!(low < area.value && area.value < high && high - low < 0.3, "{area:?}");
        assert_eq!(area, roc.area(3));
        assert_ne!(area.interval, roc.area(4).interval);
    }
}
