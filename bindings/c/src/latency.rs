//! Counters of a session and the histogram of its latencies.

use std::time::Duration;

use crate::entry::entry;
use crate::failure::Failure;
use crate::inspection::{F2D2_VERDICT_ANOMALOUS, F2D2_VERDICT_NONE, F2D2_VERDICT_NORMAL};
use crate::memory::{self, Versioned};
use crate::status::{F2D2_INVALID_VALUE, F2D2_UNAVAILABLE, f2d2_status};

/// Number of buckets of a latency histogram.
pub const F2D2_LATENCY_BUCKETS: usize = 128;

/// What a session did since it was created.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct f2d2_stats {
    /// Size of this struct, set by the caller.
    pub struct_size: u32,
    /// Zero.
    pub reserved: u32,
    /// Calls that scored, of one frame or a batch.
    pub calls: u64,
    /// Frames of these calls.
    pub frames: u64,
    /// Frames that were judged normal.
    pub normal: u64,
    /// Frames that were judged anomalous.
    pub anomalous: u64,
    /// Frames that could not be judged.
    pub invalid: u64,
    /// Frames that there was no calibration for.
    pub unjudged: u64,
    /// Sum of the latencies of all calls, nanoseconds.
    pub latency_sum_ns: u64,
    /// Shortest latency of a call, nanoseconds; 0 before the first.
    pub latency_min_ns: u64,
    /// Longest latency of a call, nanoseconds; 0 before the first.
    pub latency_max_ns: u64,
    /// Number of calls by latency. Buckets 0 to 3 are one microsecond wide; from there on, every power of two of
    /// microseconds has four of equal width. The last one has no end.
    pub latency: [u64; F2D2_LATENCY_BUCKETS],
}

// SAFETY: repr(C), begins with its u32 size, and any bytes are valid fields.
unsafe impl Versioned for f2d2_stats {
    const NAME: &str = "f2d2_stats";
    const FIRST: usize = size_of::<Self>();
}

impl f2d2_stats {
    pub(crate) const fn new() -> Self {
        Self {
            struct_size: 0,
            reserved: 0,
            calls: 0,
            frames: 0,
            normal: 0,
            anomalous: 0,
            invalid: 0,
            unjudged: 0,
            latency_sum_ns: 0,
            latency_min_ns: 0,
            latency_max_ns: 0,
            latency: [0; F2D2_LATENCY_BUCKETS],
        }
    }

    /// Counts one call with the verdicts of its frames.
    pub(crate) fn count(&mut self, elapsed: Duration, verdicts: impl Iterator<Item = u32>) {
        for verdict in verdicts {
            self.frames += 1;
            *match verdict {
                F2D2_VERDICT_NORMAL => &mut self.normal,
                F2D2_VERDICT_ANOMALOUS => &mut self.anomalous,
                F2D2_VERDICT_NONE => &mut self.unjudged,
                _ => &mut self.invalid,
            } += 1;
        }
        let ns = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        self.latency_min_ns = if self.calls == 0 { ns } else { self.latency_min_ns.min(ns) };
        self.latency_max_ns = self.latency_max_ns.max(ns);
        self.latency_sum_ns = self.latency_sum_ns.saturating_add(ns);
        self.latency[bucket(ns / 1000)] += 1;
        self.calls += 1;
    }

    /// The smallest latency that a share `q` of all calls does not exceed, rounded up to the end of its bucket.
    fn quantile(&self, q: f64) -> Option<u64> {
        let calls = self.latency.iter().fold(0u64, |sum, &n| sum.saturating_add(n));
        let wanted = (q * calls as f64).ceil().max(1.0);
        let mut seen = 0u64;
        for (i, &count) in self.latency.iter().enumerate() {
            seen = seen.saturating_add(count);
            if calls > 0 && seen as f64 >= wanted {
                return Some(end(i).saturating_mul(1000).min(self.latency_max_ns));
            }
        }
        None
    }
}

/// Four buckets per power of two.
fn bucket(microseconds: u64) -> usize {
    if microseconds < 4 {
        return microseconds as usize;
    }
    let power = microseconds.ilog2();
    let quarter = microseconds >> (power - 2) & 3;
    (4 * (power as usize - 1) + quarter as usize).min(F2D2_LATENCY_BUCKETS - 1)
}

/// Where bucket `i` ends, microseconds.
fn end(i: usize) -> u64 {
    if i < 4 {
        return i as u64 + 1;
    }
    (5 + i as u64 % 4) << (i / 4 - 1)
}

/// The latency that a share of all calls does not exceed: 0.5 for the median, 0.99 for the slowest percent.
///
/// @param stats what f2d2_session_get_stats gave, or sums and differences of such.
/// @param quantile between 0 and 1.
/// @param[out] latency_ns nanoseconds, at most a quarter too long.
/// Returns F2D2_OK, F2D2_INVALID_VALUE, F2D2_UNAVAILABLE before the first call, or why the arguments cannot be used.
/// Threads: any.
///
/// # Safety
/// Pointers are NULL or valid for what their types say.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn f2d2_stats_quantile(
    stats: *const f2d2_stats,
    quantile: f64,
    latency_ns: *mut u64,
) -> f2d2_status {
    entry(c"f2d2_stats_quantile", || {
        // SAFETY: the caller's promise.
        let (stats, place) =
            unsafe { (memory::sized_in("stats", stats)?, memory::out("latency_ns", latency_ns)?) };
        if !(0.0..=1.0).contains(&quantile) {
            let message = format!("quantile is {quantile}, need 0 to 1");
            return Err(Failure::new(F2D2_INVALID_VALUE, message));
        }
        let none = || Failure::new(F2D2_UNAVAILABLE, "there are no calls yet");
        place.write(stats.quantile(quantile).ok_or_else(none)?);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_next_to_each_other_and_grow() {
        for i in 0..F2D2_LATENCY_BUCKETS - 1 {
            assert_eq!(bucket(end(i) - 1), i);
            assert_eq!(bucket(end(i)), i + 1);
        }
        assert_eq!(bucket(u64::MAX), F2D2_LATENCY_BUCKETS - 1);
        assert_eq!((end(3), end(4), end(7), end(8)), (4, 5, 8, 10));
    }

    #[test]
    fn quantiles_are_those_of_the_calls() {
        let mut stats = f2d2_stats::new();
        assert_eq!(stats.quantile(0.5), None);
        for us in 1..=1000 {
            stats.count(Duration::from_micros(us), [F2D2_VERDICT_NORMAL].into_iter());
        }
        for (q, us) in [(0.5, 500.0), (0.9, 900.0), (0.99, 990.0), (1.0, 1000.0), (0.0, 1.0)] {
            let got = stats.quantile(q).unwrap() as f64 / 1000.0;
            assert!(got >= us && got <= us * 1.25 + 1.0, "{q}: {got}");
        }
        assert_eq!((stats.calls, stats.frames, stats.normal), (1000, 1000, 1000));
        assert_eq!((stats.latency_min_ns, stats.latency_max_ns), (1000, 1_000_000));
    }
}
