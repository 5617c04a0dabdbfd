//! Golden vectors: what the trained network computed for seeded inputs, recorded in the model file.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::flow::{Batch, FlowMap, Schedule, Transported};
use crate::preprocess::{Shape, noise};

/// Largest deviation of a state value, relative to 1 plus its size.
const STATE_TOLERANCE: f64 = 2e-4;
/// Largest deviation of a log-determinant, in nats per dimension, relative to 1 plus its size per dimension.
const LOG_DET_TOLERANCE: f64 = 2e-5;

/// Largest deviation of a value of `grad_d`, relative to the root mean square of all plus its size.
const GRADIENT_TOLERANCE: f64 = 2e-4;

/// How much further results in f16 may be from the recorded ones, which are in f32: 2^-11 against 2^-24, less what
/// sums in f32 keep. The GPU engine compares likelihoods in both more strictly.
const F16_SLACK: f64 = 100.0;

/// Distribution of the seeded input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// Standard normal, [`noise::normal`].
    Normal,
    /// `2 u - 1` with [`noise::uniform`].
    Uniform,
}

/// A seeded input and the result of its transport.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Golden {
    /// Distribution of the input.
    pub start: Start,
    /// Seed of the input, on the stream [`noise::GOLDEN`].
    pub seed: u64,
    /// The transport.
    pub schedule: Schedule,
    /// Expected log-determinant, nats.
    pub log_det: f64,
    /// Expected mean square of the final state.
    pub mean_square: f64,
    /// Expected values of the final state at the positions `i * len / samples.len()`.
    pub samples: Vec<f32>,
}

impl Golden {
    /// The seeded input, [C, H, W].
    pub fn input(&self, shape: Shape) -> Vec<f32> {
        match self.start {
            Start::Normal => noise::normal(self.seed, noise::GOLDEN, shape.len()),
            Start::Uniform => {
                let u = noise::uniform(self.seed, noise::GOLDEN, shape.len());
                u.into_iter().map(|u| 2.0 * u - 1.0).collect()
            }
        }
    }

    /// Runs the transport on `flow` and compares.
    ///
    /// # Errors
    /// [`Error::SelfTest`] naming the first value that deviates; the engine's own errors.
    pub fn verify(&self, flow: &dyn FlowMap, shape: Shape) -> Result<()> {
        let batch = Batch::new(shape, self.input(shape))?;
        let report = flow.latest_report();
        for result in flow.transport(&batch, &self.schedule) {
            self.compare_in(&result?, &report.engine.to_string(), report.precision)?;
        }
        Ok(())
    }

    /// Compares a result with the recorded one.
    ///
    /// # Errors
    /// [`Error::SelfTest`] naming the first value that deviates.
    pub fn compare(&self, result: &Transported, engine: &str) -> Result<()> {
        self.compare_in(result, engine, "f32")
    }

    /// The same for a result that was computed in `precision`.
    pub(crate) fn compare_in(
        &self,
        result: &Transported,
        engine: &str,
        precision: &str,
    ) -> Result<()> {
        let slack = if precision == "f16" { F16_SLACK } else { 1.0 };
        let n = result.state.len();
        let differs = |what: String, got: f64, need: f64| {
            Err(Error::SelfTest { engine: engine.into(), what, got, need })
        };
        let close = |got: f64, need: f64, tolerance: f64, unit: f64| {
            ((got - need) / unit).abs() <= slack * tolerance * (1.0 + (need / unit).abs())
        };
        if !close(result.log_det, self.log_det, LOG_DET_TOLERANCE, n as f64) {
            return differs("log-determinant".into(), result.log_det, self.log_det);
        }
        let squares = result.state.iter().map(|&v| f64::from(v) * f64::from(v));
        let mean_square = squares.sum::<f64>() / n as f64;
        if !close(mean_square, self.mean_square, STATE_TOLERANCE, 1.0) {
            return differs("mean square".into(), mean_square, self.mean_square);
        }
        for (i, &need) in self.samples.iter().enumerate() {
            let at = i * n / self.samples.len();
            let got = result.state[at];
            if !close(got.into(), need.into(), STATE_TOLERANCE, 1.0) {
                return differs(format!("state value {at}"), got.into(), need.into());
            }
        }
        Ok(())
    }

    pub(super) fn check(&self, values: usize) -> std::result::Result<(), String> {
        let finite = self.log_det.is_finite()
            && self.mean_square.is_finite()
            && self.samples.iter().all(|v| v.is_finite());
        if !finite || self.samples.is_empty() || self.samples.len() > values {
            return Err(format!(
                "a golden vector has {} samples or is not finite",
                self.samples.len()
            ));
        }
        Ok(())
    }
}

/// `grad_d` = ∂(Σ d)/∂x of seeded noise over the whole jump from t = 0 to s = 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenGradient {
    /// Seed of the standard normal input, on the stream [`noise::GOLDEN`].
    pub seed: u64,
    /// Expected mean square.
    pub mean_square: f64,
    /// Expected values at the positions `i * len / samples.len()`.
    pub samples: Vec<f32>,
}

impl GoldenGradient {
    /// The seeded input, [C, H, W].
    pub fn input(&self, shape: Shape) -> Vec<f32> {
        noise::normal(self.seed, noise::GOLDEN, shape.len())
    }

    /// Compares a gradient [C, H, W] with the recorded one.
    ///
    /// # Errors
    /// [`Error::SelfTest`] naming the first value that deviates.
    pub fn compare(&self, gradient: &[f32], engine: &str) -> Result<()> {
        let n = gradient.len();
        let unit = self.mean_square.sqrt();
        let check = |what: String, got: f64, need: f64| {
            if (got - need).abs() <= GRADIENT_TOLERANCE * (unit + need.abs()) {
                return Ok(());
            }
            Err(Error::SelfTest { engine: engine.into(), what, got, need })
        };
        let squares = gradient.iter().map(|&v| f64::from(v) * f64::from(v));
        let root = (squares.sum::<f64>() / n as f64).sqrt();
        check("root mean square of grad_d".into(), root, unit)?;
        self.samples.iter().enumerate().try_for_each(|(i, &need)| {
            let at = i * n / self.samples.len();
            check(format!("grad_d at {at}"), gradient[at].into(), need.into())
        })
    }

    pub(super) fn check(&self, values: usize) -> std::result::Result<(), String> {
        let finite = self.mean_square.is_finite() && self.samples.iter().all(|v| v.is_finite());
        if !finite || self.mean_square < 0.0 || !(1..=values).contains(&self.samples.len()) {
            return Err(format!(
                "the golden vector of grad_d has {} samples or is not finite",
                self.samples.len()
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn golden() -> Golden {
        Golden {
            start: Start::Normal,
            seed: 1,
            schedule: Schedule::new(vec![1.0, 0.0]).unwrap(),
            log_det: -12.0,
            mean_square: 2.5,
            samples: vec![1.0, 2.0],
        }
    }

    fn result(state: Vec<f32>, log_det: f64) -> Transported {
        Transported { state, log_det, log_det_map: None, steps: vec![] }
    }

    #[test]
    fn the_recorded_result_passes_and_any_deviation_fails() {
        assert!(golden().compare(&result(vec![1.0, 2.0], -12.0), "x").is_ok());
        for (state, log_det) in [
            (vec![1.0, 2.0], -12.01),
            (vec![1.0, 2.0], f64::NAN),
            (vec![1.01, 2.0], -12.0),
            (vec![1.0, f32::NAN], -12.0),
            (vec![2.0, 1.0], -12.0),
        ] {
            assert!(golden().compare(&result(state.clone(), log_det), "x").is_err(), "{state:?}");
        }
    }

    #[test]
    fn a_gradient_that_deviates_or_is_not_finite_fails() {
        let golden = GoldenGradient { seed: 1, mean_square: 2.5, samples: vec![1.0, 2.0] };
        assert!(golden.compare(&[1.0, 2.0], "x").is_ok());
        for gradient in [[1.01, 2.0], [1.0, f32::NAN], [2.0, 1.0], [1.0, -2.0]] {
            assert!(golden.compare(&gradient, "x").is_err(), "{gradient:?}");
        }
        // Of a Gaussian it is zero, and then nothing else will do.
        let none = GoldenGradient { seed: 1, mean_square: 0.0, samples: vec![0.0] };
        assert!(none.compare(&[0.0, -0.0], "x").is_ok());
        assert!(none.compare(&[1e-9, 0.0], "x").is_err());
        assert!(GoldenGradient { samples: vec![], ..none.clone() }.check(2).is_err());
        assert!(GoldenGradient { mean_square: -1.0, ..none }.check(2).is_err());
    }
}
