//! [`Schedule`]: the list of times of a transport. It knows nothing of networks.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// How times are spread between the two ends of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum Clock {
    /// Evenly in t.
    Uniform,
    /// Evenly in the log-SNR clock `w(t) = ln((t + e) / (1 - t + e))`.
    LogSnr {
        /// The e that keeps both ends finite; above 0.
        epsilon: f64,
    },
}

impl Clock {
    fn of_time(self, t: f64) -> f64 {
        match self {
            Self::Uniform => t,
            Self::LogSnr { epsilon } => ((t + epsilon) / (1.0 - t + epsilon)).ln(),
        }
    }

    fn to_time(self, w: f64) -> f64 {
        match self {
            Self::Uniform => w,
            Self::LogSnr { epsilon } => {
                let ratio = w.exp();
                ((ratio * (1.0 + epsilon) - epsilon) / (1.0 + ratio)).clamp(0.0, 1.0)
            }
        }
    }
}

/// The largest number of steps of a schedule; a many-step reference takes a few hundred.
pub const MAX_STEPS: usize = 4096;

/// Strictly monotone times in [0, 1]: falling to score (data to noise), rising to sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<f64>", into = "Vec<f64>")]
pub struct Schedule(Vec<f64>);

impl Schedule {
    /// A schedule through the given times.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] unless there are 2 to [`MAX_STEPS`] + 1 times, all in [0, 1], strictly monotone.
    pub fn new(times: Vec<f64>) -> Result<Self> {
        check_steps(times.len().saturating_sub(1))?;
        let rising = times.windows(2).all(|w| w[0] < w[1]);
        let falling = times.windows(2).all(|w| w[0] > w[1]);
        let inside = times.iter().all(|t| (0.0..=1.0).contains(t));
        if !inside || !(rising || falling) {
            let need = "strictly monotone times from 0 to 1";
            return Err(Error::option("schedule", format!("{times:?}"), need));
        }
        Ok(Self(times))
    }

    /// `steps` steps from `from` to `to`, evenly spread in `clock`.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for no steps or more than [`MAX_STEPS`], equal ends, or ends outside [0, 1].
    pub fn spread(clock: Clock, steps: usize, from: f64, to: f64) -> Result<Self> {
        check_steps(steps)?;
        let (a, b) = (clock.of_time(from), clock.of_time(to));
        let inner = (1..steps).map(|i| clock.to_time(a + (b - a) * i as f64 / steps as f64));
        Self::new(std::iter::once(from).chain(inner).chain([to]).collect())
    }

    /// The times.
    pub fn times(&self) -> &[f64] {
        &self.0
    }

    /// Number of steps, and so of network evaluations.
    pub fn steps(&self) -> usize {
        self.0.len() - 1
    }

    /// The same times in the opposite direction.
    pub fn reversed(&self) -> Self {
        Self(self.0.iter().rev().copied().collect())
    }

    /// Pairs (t, s) of the steps, in order.
    pub fn pairs(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        self.0.windows(2).map(|w| (w[0], w[1]))
    }

    /// Whether the schedule runs from data to noise.
    pub fn is_scoring(&self) -> bool {
        self.0[0] > self.0[1]
    }
}

fn check_steps(steps: usize) -> Result<()> {
    match steps {
        1..=MAX_STEPS => Ok(()),
        _ => Err(Error::option("steps", steps, format!("1 to {MAX_STEPS}"))),
    }
}

impl TryFrom<Vec<f64>> for Schedule {
    type Error = Error;

    fn try_from(times: Vec<f64>) -> Result<Self> {
        Self::new(times)
    }
}

impl From<Schedule> for Vec<f64> {
    fn from(schedule: Schedule) -> Self {
        schedule.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_invert_and_ends_are_exact() {
        for clock in [Clock::Uniform, Clock::LogSnr { epsilon: 1e-3 }] {
            for t in [0.0, 0.01, 0.5, 0.93, 1.0] {
                assert!((clock.to_time(clock.of_time(t)) - t).abs() < 1e-12, "{clock:?} {t}");
            }
            let schedule = Schedule::spread(clock, 4, 1.0, 0.0).unwrap();
            assert_eq!((schedule.times()[0], schedule.times()[4]), (1.0, 0.0));
            assert!((schedule.times()[2] - 0.5).abs() < 1e-12);
            assert!(schedule.is_scoring() && !schedule.reversed().is_scoring());
        }
    }

    #[test]
    fn unusable_times_are_refused() {
        let nan = f64::NAN;
        for times in
            [vec![], vec![1.0], vec![1.0, 1.0], vec![1.0, 0.5, 0.7], vec![1.2, 0.0], vec![1.0, nan]]
        {
            assert!(Schedule::new(times.clone()).is_err(), "{times:?}");
        }
        assert!(Schedule::spread(Clock::Uniform, 0, 1.0, 0.0).is_err());
    }
}
