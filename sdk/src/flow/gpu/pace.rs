//! How much work one submission takes: some drivers take a device for hung after a second or two.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Numbers of images that memory is kept for.
pub(super) const BUCKETS: [usize; 3] = [1, 8, 64];

/// What one network evaluation takes, by bucket, as last measured.
#[derive(Debug, Default)]
pub(super) struct Pace {
    nanoseconds: [AtomicU64; BUCKETS.len()],
}

impl Pace {
    /// Records that `steps` evaluations in `bucket` took `time`.
    pub(super) fn measured(&self, bucket: usize, steps: usize, time: Duration) {
        let each = (time.as_nanos() / steps.max(1) as u128).clamp(1, u64::MAX.into()) as u64;
        self.nanoseconds[bucket].store(each, Ordering::Relaxed);
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
            estimate = self.of(next).or(estimate.map(grown));
            if estimate.is_some_and(|n| u128::from(n) > limit.as_nanos()) {
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

    #[test]
    fn submissions_stay_within_the_limit_once_measured() {
        let limit = Duration::from_millis(50);
        let pace = Pace::default();
        assert_eq!([1, 2, 8, 9, 1000].map(|n| pace.bucket(n, limit)), [0, 1, 1, 2, 2]);
        assert_eq!(pace.steps(0, limit), 1);
        pace.measured(0, 2, Duration::from_millis(10));
        assert_eq!(pace.steps(0, limit), 10);
        // 5 ms an image: eight fit, 64 do not.
        assert_eq!([1, 2, 9, 1000].map(|n| pace.bucket(n, limit)), [0, 1, 1, 1]);
        // Side by side they take less: then 64 are worth a try.
        pace.measured(1, 1, Duration::from_millis(6));
        assert_eq!(pace.bucket(1000, limit), 2);
        pace.measured(2, 1, Duration::from_millis(80));
        assert_eq!(pace.bucket(1000, limit), 1);
        assert_eq!(pace.steps(2, limit), 1);
        pace.measured(0, 1, Duration::from_secs(3));
        pace.measured(1, 1, Duration::from_secs(9));
        assert_eq!((pace.bucket(1000, limit), pace.steps(0, limit)), (0, 1));
    }
}
