//! The JSON manifest in `metadata_props["f2d2.manifest"]`: all that the graph itself does not say.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::golden::{Golden, GoldenGradient};
use crate::flow::{Clock, MAX_STEPS, Schedule};
use crate::preprocess::Preprocess;

/// The manifest format that this library reads and the recipe writes.
pub const FORMAT_VERSION: u32 = 1;

/// Shape of the divergence output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Head {
    /// `d` [N, 1, H, W], nats per unit of time and pixel.
    PerPixel,
    /// `d`, shape `[N]`, nats per unit of time.
    Scalar,
}

/// How the network takes its two times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeParametrization {
    /// Inputs `t` and `s`, the times between which it maps, in the directions of [`Directions`].
    Pair,
    /// As [`Pair`](Self::Pair), but for s > t alone: a shortcut model of step s - t. It is inverted for scoring.
    Step,
}

/// Directions that the model is used in; those of a [`Pair`](TimeParametrization::Pair) it was trained for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Directions {
    /// Data to noise.
    pub scoring: bool,
    /// Noise to data.
    pub sampling: bool,
}

/// Where the model comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// The data set of normal images.
    pub data: String,
    /// The command and version of the recipe that trained it.
    pub recipe: String,
    /// Seed of the training.
    pub seed: u64,
}

/// Everything about a model that scoring and sampling depend on, beside its network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT_VERSION`] of the writer.
    pub format_version: u32,
    /// A name for people.
    pub name: String,
    /// Licence of the weights.
    pub licence: String,
    /// Where the model comes from.
    pub provenance: Provenance,
    /// From a frame to the network's input.
    pub preprocess: Preprocess,
    /// Shape of the divergence output.
    pub head: Head,
    /// Trained directions.
    pub directions: Directions,
    /// How times are given to the network.
    pub time: TimeParametrization,
    /// The clock in which schedules without a recommendation are spread.
    pub clock: Clock,
    /// Recommended scoring schedules from t = 1, by number of steps.
    pub schedules: BTreeMap<usize, Schedule>,
    /// Recommended noise floors, the first one being that of the reported likelihood.
    pub noise_floors: Vec<f64>,
    /// Seed of the noise at noise floors below 1.
    pub noise_seed: u64,
    /// Recommended number of steps.
    pub default_steps: usize,
    /// What every engine must reproduce.
    pub golden: Vec<Golden>,
    /// What the output `grad_d` must be, in files that have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub golden_gradient: Option<GoldenGradient>,
}

impl Manifest {
    /// Recommended or evenly spread times for `steps` steps from `t0` to 0.
    ///
    /// # Errors
    /// [`crate::Error::InvalidOption`] for no steps or a `t0` outside (0, 1].
    pub fn scoring_schedule(&self, steps: usize, t0: f64) -> crate::Result<Schedule> {
        match self.schedules.get(&steps) {
            Some(schedule) if t0 == 1.0 => Ok(schedule.clone()),
            _ => Schedule::spread(self.clock, steps, t0, 0.0),
        }
    }

    /// Says what is inconsistent, if anything.
    pub(super) fn check(&self) -> Result<(), String> {
        let Preprocess { shape, scale, offset, .. } = &self.preprocess;
        if !matches!(shape.channels, 1 | 3) || shape.is_empty() {
            return Err(format!(
                "shape is {shape:?}, need 1 or 3 channels and at least 1x1 pixels"
            ));
        }
        if !(scale.is_finite() && *scale > 0.0 && offset.is_finite()) {
            return Err(format!("affine map is {scale} and {offset}, need finite, scale above 0"));
        }
        if let Clock::LogSnr { epsilon } = self.clock
            && !(epsilon.is_finite() && epsilon > 0.0)
        {
            return Err(format!("clock epsilon is {epsilon}, need a finite number above 0"));
        }
        if self.time == TimeParametrization::Step && !self.directions.sampling {
            return Err("a step map is for scoring only, need one that samples".into());
        }
        let floor_ok = |t0: &f64| *t0 > 0.0 && *t0 <= 1.0;
        if self.noise_floors.is_empty() || !self.noise_floors.iter().all(floor_ok) {
            return Err(format!("noise floors are {:?}, need times in (0, 1]", self.noise_floors));
        }
        for (steps, schedule) in &self.schedules {
            let times = schedule.times();
            if schedule.steps() != *steps || times[0] != 1.0 || times[times.len() - 1] != 0.0 {
                return Err(format!("schedule for {steps} steps is {times:?}, need 1 to 0"));
            }
        }
        if !(1..=MAX_STEPS).contains(&self.default_steps) {
            return Err(format!("default_steps is {}, need 1 to {MAX_STEPS}", self.default_steps));
        }
        if self.golden.is_empty() {
            return Err("there are no golden vectors".into());
        }
        self.golden_gradient.iter().try_for_each(|golden| golden.check(shape.len()))?;
        self.golden.iter().try_for_each(|golden| golden.check(shape.len()))
    }
}
