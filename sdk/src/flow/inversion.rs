//! Scoring with a map that only samples: each step towards noise is the solution of a step towards data.
//!
//! A model with the parametrization `step` was trained for s > t alone. The step from t to s < t then solves
//! `y + (t - s) u(y, s, t) = x` for y by damped fixed-point iteration, `y ← y + ω (x - Φ(y))`. It converges where the
//! map expands by less than about two; elsewhere the image fails with [`Error::NotInvertible`], never with a wrong score.

use std::sync::Arc;

use super::{
    Batch, EngineReport, FlowMap, KernelTime, MemoryPlan, Schedule, StepStatistics, Transport,
    Transported,
};
use crate::error::{Error, Result};
use crate::model::{ModelInfo, TimeParametrization};
use crate::preprocess::Shape;

/// Share ω of the residual by which the iterate moves.
const DAMPING: f32 = 0.7;
/// Evaluations of the network per step, at most.
const ITERATIONS: usize = 64;
/// Largest residual of any value that is accepted; a bin of an 8-bit image is 78 times as wide.
const TOLERANCE: f32 = 1e-4;

/// `flow` as it is, or inverted if `model` only samples.
pub(super) fn for_scoring(model: &ModelInfo, flow: Arc<dyn FlowMap>) -> Arc<dyn FlowMap> {
    match model.manifest().time {
        TimeParametrization::Pair => flow,
        TimeParametrization::Step => Arc::new(Inverted { forward: flow }),
    }
}

/// A sampling map that also scores.
struct Inverted {
    forward: Arc<dyn FlowMap>,
}

impl Inverted {
    /// Carries `image` along a falling schedule.
    fn invert(&self, image: &[f32], shape: Shape, schedule: &Schedule) -> Result<Transported> {
        let mut whole = Transported {
            state: image.to_vec(),
            log_det: 0.0,
            log_det_map: None,
            steps: Vec::with_capacity(schedule.steps()),
        };
        for (t, s) in schedule.pairs() {
            let (start, there) = self.solve(&whole.state, shape, t, s)?;
            let speed = there.steps.first().map_or(0.0, |step| step.speed);
            whole.state = start;
            whole.log_det -= there.log_det;
            whole.steps.push(StepStatistics { speed, log_det: -there.log_det });
            match (&mut whole.log_det_map, there.log_det_map) {
                (Some(sum), Some(map)) => sum.iter_mut().zip(map).for_each(|(a, b)| *a -= b),
                (sum @ None, Some(map)) => *sum = Some(map.into_iter().map(|v| -v).collect()),
                (_, None) => {}
            }
        }
        Ok(whole)
    }

    /// The point at time s that the map takes to `target` at time t > s, and that last evaluation of the map.
    fn solve(
        &self,
        target: &[f32],
        shape: Shape,
        t: f64,
        s: f64,
    ) -> Result<(Vec<f32>, Transported)> {
        let step = Schedule::new(vec![s, t])?;
        let mut y = target.to_vec();
        let mut residual = f32::INFINITY;
        for _ in 0..ITERATIONS {
            let batch = Batch::new(shape, y).map_err(|_| Error::NotInvertible {
                from: t,
                to: s,
                residual,
                need: TOLERANCE,
            })?;
            let there = self
                .forward
                .transport(&batch, &step)
                .pop()
                .unwrap_or(Err(Error::NonFinite { what: "result of the flow" }))?;
            y = batch.values().to_vec();
            let missing = || target.iter().zip(&there.state).map(|(a, b)| a - b);
            residual = missing().fold(0.0, |worst, v| v.abs().max(worst));
            if residual <= TOLERANCE {
                return Ok((y, there));
            }
            y.iter_mut().zip(missing()).for_each(|(y, v)| *y += DAMPING * v);
        }
        Err(Error::NotInvertible { from: t, to: s, residual, need: TOLERANCE })
    }
}

impl FlowMap for Inverted {
    fn report(&self) -> &EngineReport {
        self.forward.report()
    }

    fn latest_report(&self) -> EngineReport {
        self.forward.latest_report()
    }

    fn memory_plan(&self, images: usize) -> Option<MemoryPlan> {
        self.forward.memory_plan(images)
    }

    fn profile(&self, batch: &Batch, schedule: &Schedule) -> Result<Vec<KernelTime>> {
        self.forward.profile(batch, &schedule.reversed())
    }

    fn transport(&self, batch: &Batch, schedule: &Schedule) -> Transport {
        let rises = schedule.times().windows(2).all(|pair| pair[0] < pair[1]);
        if rises {
            return self.forward.transport(batch, schedule);
        }
        batch.images().map(|image| self.invert(image, batch.shape(), schedule)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Engine;

    /// `Φ(y) = gain^(t - s) y` for rising times only, as an exact semigroup.
    struct Exponential {
        gain: f64,
        report: EngineReport,
    }

    impl FlowMap for Exponential {
        fn report(&self) -> &EngineReport {
            &self.report
        }

        fn transport(&self, batch: &Batch, schedule: &Schedule) -> Transport {
            let one = |image: &[f32]| {
                let mut state = image.to_vec();
                let (mut log_det, mut steps) = (0.0, vec![]);
                for (t, s) in schedule.pairs() {
                    assert!(s > t, "this map only samples");
                    let factor = self.gain.powf(s - t);
                    state.iter_mut().for_each(|v| *v = (f64::from(*v) * factor) as f32);
                    let change = factor.ln() * state.len() as f64;
                    log_det += change;
                    steps.push(StepStatistics { speed: 1.0, log_det: change });
                }
                let map = vec![(log_det / state.len() as f64) as f32; state.len()];
                Ok(Transported { state, log_det, log_det_map: Some(map), steps })
            };
            batch.images().map(one).collect()
        }
    }

    const SHAPE: Shape = Shape { channels: 1, height: 2, width: 2 };

    fn score(gain: f64, times: Vec<f64>) -> Result<Transported> {
        let report = EngineReport {
            engine: Engine::Tract,
            precision: "f32",
            threads: 1,
            reason: "test".into(),
        };
        let map = Inverted { forward: Arc::new(Exponential { gain, report }) };
        let batch = Batch::new(SHAPE, vec![0.5, -0.25, 1.0, 0.0])?;
        map.transport(&batch, &Schedule::new(times)?).remove(0)
    }

    #[test]
    fn inverse_has_the_exact_state_and_log_determinant() {
        for gain in [0.5, 1.0, 2.0] {
            for times in [vec![1.0, 0.0], vec![1.0, 0.6, 0.3, 0.0]] {
                let steps = times.len() - 1;
                let found = score(gain, times).unwrap();
                assert!((f64::from(found.state[0]) - 0.5 / gain).abs() < 1e-3, "{found:?}");
                assert!((found.log_det + 4.0 * gain.ln()).abs() < 1e-9);
                let map: f64 = found.log_det_map.unwrap().into_iter().map(f64::from).sum();
                assert!((map - found.log_det).abs() < 1e-5);
                assert_eq!(found.steps.len(), steps);
            }
        }
    }

    #[test]
    fn map_that_expands_too_much_is_an_error_with_its_residual() {
        // ω times the slope of the map must stay below 2.
        let error = score(4.0, vec![1.0, 0.0]).unwrap_err();
        let Error::NotInvertible { residual, .. } = error else { panic!("{error}") };
        assert!(residual > 1.0 || residual.is_nan(), "{residual}");
        // More steps expand less each.
        assert!(score(4.0, vec![1.0, 0.5, 0.0]).is_ok());
    }

    #[test]
    fn sampling_is_left_to_the_map() {
        let found = score(2.0, vec![0.0, 1.0]).unwrap();
        assert!((found.state[0] - 1.0).abs() < 1e-6);
    }
}
