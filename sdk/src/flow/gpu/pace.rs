//! How much work one submission takes: some drivers take a device for hung after a second or two.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Numbers of images that memory is kept for.
pub(super) const BUCKETS: [usize; 3] = [1, 8, 64];

/// An estimate that excludes a bucket shrinks by this part whenever it does: what was slow once is tried again, the
/// later the slower it was. Ten times the limit takes 146 calls.
const FORGOTTEN: u64 = 64;
/// A faster measurement moves the estimate by this part; a slower one replaces it.
const LEARNT: u64 = 2;

/// What one network evaluation takes with a full bucket, by bucket, as measured.
#[derive(Debug, Default)]
pub(super) struct Pace {
    nanoseconds: [AtomicU64; BUCKETS.len()],
}

impl Pace {
    /// Records that `steps` evaluations of `images` images in `bucket` took `time`: as many times as long for as many
    /// times the images.
    pub(super) fn measured(&self, bucket: usize, images: usize, steps: usize, time: Duration) {
        let full = time.as_nanos() * BUCKETS[bucket] as u128;
        let each = full / (steps.max(1) * images.max(1)) as u128;
        let each = each.clamp(1, u64::MAX.into()) as u64;
        self.change(bucket, |before| {
            if each < before { before - (before - each).div_ceil(LEARNT) } else { each }
        });
    }

    /// Everything is to be measured anew.
    pub(super) fn forget(&self) {
        self.nanoseconds.iter().for_each(|n| n.store(0, Ordering::Relaxed));
    }

    fn change(&self, bucket: usize, new: impl Fn(u64) -> u64) {
        let change = |before| Some(new(before));
        // It always says what is new.
        let _ = self.nanoseconds[bucket].fetch_update(Ordering::Relaxed, Ordering::Relaxed, change);
    }

    fn of(&self, bucket: usize) -> Option<u64> {
        Some(self.nanoseconds[bucket].load(Ordering::Relaxed)).filter(|&n| n > 0)
    }

    /// The number of the bucket to use for `images` images: the smallest that holds them all, or else the largest of
    /// which one evaluation stays within `limit`. Before a bucket is measured, its images are taken to need as long
    /// as those of the next smaller one.
    pub(super) fn bucket(&self, images: usize, limit: Duration) -> usize {
        let mut chosen = 0;
        let mut estimate = self.of(0);
        for next in 1..BUCKETS.len() {
            if BUCKETS[next - 1] >= images {
                break;
            }
            let grown = |n: u64| n.saturating_mul((BUCKETS[next] / BUCKETS[next - 1]) as u64);
            let own = self.of(next);
            estimate = own.or(estimate.map(grown));
            if estimate.is_some_and(|n| u128::from(n) > limit.as_nanos()) {
                if own.is_some() {
                    self.change(next, |n| n - n.div_ceil(FORGOTTEN).min(n - 1));
                }
                break;
            }
            chosen = next;
        }
        chosen
    }

    /// Evaluations of `bucket` that one submission takes; one where it is not measured.
    pub(super) fn steps(&self, bucket: usize, limit: Duration) -> usize {
        let fit = |each: u64| (limit.as_nanos() / u128::from(each)) as usize;
        self.of(bucket).map_or(1, fit).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_millis(50);

    /// A full bucket.
    fn full(pace: &Pace, bucket: usize, steps: usize, milliseconds: u64) {
        pace.measured(bucket, BUCKETS[bucket], steps, Duration::from_millis(milliseconds));
    }

    #[test]
    fn submissions_stay_within_the_limit_once_measured() {
        let pace = Pace::default();
        assert_eq!([1, 2, 8, 9, 1000].map(|n| pace.bucket(n, LIMIT)), [0, 1, 1, 2, 2]);
        assert_eq!(pace.steps(0, LIMIT), 1);
        full(&pace, 0, 2, 10);
        assert_eq!(pace.steps(0, LIMIT), 10);
        // 5 ms an image: eight fit, 64 do not.
        assert_eq!([1, 2, 9, 1000].map(|n| pace.bucket(n, LIMIT)), [0, 1, 1, 1]);
        // Side by side they take less: then 64 are worth a try.
        full(&pace, 1, 1, 6);
        assert_eq!(pace.bucket(1000, LIMIT), 2);
        full(&pace, 2, 1, 80);
        assert_eq!(pace.bucket(1000, LIMIT), 1);
        assert_eq!(pace.steps(2, LIMIT), 1);
        full(&pace, 0, 1, 3_000);
        full(&pace, 1, 1, 9_000);
        assert_eq!((pace.bucket(1000, LIMIT), pace.steps(0, LIMIT)), (0, 1));
    }

    #[test]
    fn a_few_images_are_not_taken_for_a_full_bucket() {
        let pace = Pace::default();
        // Nine images took 36 ms: 64 of them would take 256.
        pace.measured(2, 9, 1, Duration::from_millis(36));
        assert_eq!(pace.of(2), Some(256_000_000));
        assert_eq!(pace.bucket(1000, LIMIT), 1);
        // Nine in 6.3 ms: 64 of them in 44.8.
        let quick = Pace::default();
        quick.measured(2, 9, 1, Duration::from_micros(6_300));
        assert_eq!((quick.bucket(1000, LIMIT), quick.steps(2, LIMIT)), (2, 1));
    }

    #[test]
    fn one_slow_run_is_forgotten_step_by_step() {
        let pace = Pace::default();
        full(&pace, 1, 1, 5);
        assert_eq!(pace.steps(1, LIMIT), 10);
        full(&pace, 1, 1, 45);
        assert_eq!(pace.steps(1, LIMIT), 1);
        full(&pace, 1, 1, 5);
        assert_eq!(pace.of(1), Some(25_000_000));
        (0..20).for_each(|_| full(&pace, 1, 1, 5));
        assert_eq!(pace.steps(1, LIMIT), 9);
        pace.forget();
        assert_eq!(pace.of(1), None);
    }

    #[test]
    fn a_bucket_that_was_too_slow_is_tried_now_and_then() {
        let calls_until_tried = |pace: &Pace| (0..10_000).position(|_| pace.bucket(64, LIMIT) == 2);
        let pace = Pace::default();
        full(&pace, 2, 1, 60);
        let soon = calls_until_tried(&pace).unwrap();
        // It is as slow as before, and left alone as long as before.
        full(&pace, 2, 1, 60);
        assert_eq!(calls_until_tried(&pace), Some(soon));
        // The slower, the later: at ten times the limit one run in 146.
        full(&pace, 2, 1, 500);
        let late = calls_until_tried(&pace).unwrap();
        assert!((5..20).contains(&soon) && (140..150).contains(&late), "{soon} {late}");
        // A limit that nothing keeps excludes for ever.
        assert!((0..10_000).all(|_| pace.bucket(64, Duration::ZERO) == 1));
        assert_eq!(pace.of(2), Some(1));
    }
}
