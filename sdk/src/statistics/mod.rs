//! Evidence of one image → [`Statistics`], its score vector.
//!
//! No single statistic is a detector: a likelihood alone ranks smooth foreign images as normal.
//! Each statistic is one number that images unlike the normal ones tend to move, up or down; which
//! values are strange is learned by [`crate::calibration`]. All are divided by the number of
//! dimensions, so that image sizes compare. Unit: nats per dimension for likelihoods, bits per
//! dimension for the complexity, none for the others.
//!
//! | name | per noise floor t0 |
//! |---|---|
//! | `nll@t0` | negative log-likelihood |
//! | `latent_norm@t0` | squared length of the latent; 1 on average for normal images |
//! | `divergence@t0` | divergence part of the likelihood, `-log_det` |
//! | `whiteness@t0` | correlation of neighbouring latent values; 0 for white noise |
//! | `peak@t0` | likelihood of the strangest 5 x 5 pixels |
//! | `path@t0` | change of speed from the first to the last step; only with more than one step |
//!
//! `complexity`, once per image, is the size of its PNG file.

mod complexity;
mod divergence;
mod latent_norm;
mod nll;
mod path;
mod peak;
mod pixel_map;
mod whiteness;

use crate::error::{Error, Result};
use crate::flow::Transported;
use crate::likelihood::Likelihood;
use crate::preprocess::{Pixels, Shape};

pub(crate) use pixel_map::PixelMap;

/// What the flow said about one image from one noise floor.
#[derive(Clone, Debug, PartialEq)]
pub struct FloorEvidence {
    /// The noise floor: the time that the transport started from.
    pub t0: f64,
    /// The transport to noise.
    pub transported: Transported,
    /// The likelihood at `t0`.
    pub likelihood: Likelihood,
}

/// Everything that the statistics and the heat map of one image are computed from.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// The 8-bit image at the model's size.
    pub pixels: &'a Pixels,
    /// Shape of the latents.
    pub shape: Shape,
    /// One entry per noise floor, in the model's order.
    pub floors: &'a [FloorEvidence],
}

/// One number about an image.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistic {
    /// Which number; with the noise floor where there is one, as in `nll@0.97`.
    pub name: String,
    /// Its value, finite.
    pub value: f64,
}

/// The score vector of one image. Names and order depend on the schedules alone, never on the
/// image.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics(Vec<Statistic>);

/// A statistic of one noise floor; `None` if the schedule does not support it.
type Measure = fn(Shape, &FloorEvidence) -> Option<f64>;

const PER_FLOOR: [(&str, Measure); 6] = [
    ("nll", nll::measure),
    ("latent_norm", latent_norm::measure),
    ("divergence", divergence::measure),
    ("whiteness", whiteness::measure),
    ("peak", peak::measure),
    ("path", path::measure),
];

impl Statistics {
    /// The score vector of one image.
    ///
    /// # Errors
    /// [`Error::NonFinite`] naming the statistic that is NaN or infinite, [`Error::InvalidOption`]
    /// for evidence whose parts do not have the size of `shape`.
    pub fn new(evidence: &Evidence<'_>) -> Result<Self> {
        check_sizes(evidence)?;
        let mut statistics = Vec::with_capacity(PER_FLOOR.len() * evidence.floors.len() + 1);
        let mut push = |what: &'static str, name: String, value: f64| {
            if !value.is_finite() {
                return Err(Error::NonFinite { what });
            }
            statistics.push(Statistic { name, value });
            Ok(())
        };
        for floor in evidence.floors {
            for (what, measure) in PER_FLOOR {
                if let Some(value) = measure(evidence.shape, floor) {
                    push(what, format!("{what}@{}", floor.t0), value)?;
                }
            }
        }
        push("complexity", "complexity".into(), complexity::measure(evidence.pixels))?;
        Ok(Self(statistics))
    }

    /// The statistics in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Statistic> {
        self.0.iter()
    }

    /// The value of the statistic `name`.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.iter().find(|s| s.name == name).map(|s| s.value)
    }

    /// Number of statistics.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[cfg(test)]
    pub(crate) fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, f64)>) -> Self {
        let statistic = |(name, value): (&str, f64)| Statistic { name: name.into(), value };
        Self(pairs.into_iter().map(statistic).collect())
    }
}

impl<'a> IntoIterator for &'a Statistics {
    type Item = &'a Statistic;
    type IntoIter = std::slice::Iter<'a, Statistic>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

fn check_sizes(evidence: &Evidence<'_>) -> Result<()> {
    let shape = evidence.shape;
    let size = |what, got: usize, need: usize| match got == need && need > 0 {
        true => Ok(()),
        false => Err(Error::option(what, got, format!("{need} values, at least 1"))),
    };
    size("length of the image", evidence.pixels.data.len(), shape.len())?;
    for floor in evidence.floors {
        size("length of the latent", floor.transported.state.len(), shape.len())?;
        if let Some(map) = &floor.transported.log_det_map {
            size("length of the divergence map", map.len(), shape.pixels())?;
        }
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod fixture {
    use super::*;
    use crate::flow::StepStatistics;
    use crate::likelihood::likelihood;
    use crate::preprocess::noise;

    pub(crate) const SHAPE: Shape = Shape { channels: 3, height: 8, width: 9 };

    pub(crate) fn floor(t0: f64, state: Vec<f32>, map: Option<Vec<f32>>) -> FloorEvidence {
        let log_det = map.as_ref().map_or(-3.0, |m| m.iter().map(|&v| f64::from(v)).sum());
        let likelihood = likelihood(&state, log_det, t0, 1.0 / 128.0);
        let step = |speed| StepStatistics { speed, log_det: log_det / 2.0 };
        let steps = vec![step(0.5), step(0.75)];
        FloorEvidence {
            t0,
            transported: Transported { state, log_det, log_det_map: map, steps },
            likelihood,
        }
    }

    pub(crate) fn floors(shape: Shape) -> Vec<FloorEvidence> {
        let map = noise::normal(3, 9, shape.pixels());
        let state = |seed| noise::normal(seed, 0, shape.len());
        vec![floor(1.0, state(1), Some(map.clone())), floor(0.97, state(2), Some(map))]
    }

    pub(crate) fn pixels(shape: Shape) -> Pixels {
        let data = noise::uniform(4, 0, shape.len()).iter().map(|v| (v * 255.0) as u8).collect();
        Pixels { channels: shape.channels, height: shape.height, width: shape.width, data }
    }
}

#[cfg(test)]
mod tests {
    use super::fixture::*;
    use super::*;

    fn statistics(floors: &[FloorEvidence]) -> Result<Statistics> {
        Statistics::new(&Evidence { pixels: &pixels(SHAPE), shape: SHAPE, floors })
    }

    #[test]
    fn names_carry_the_floor_and_keep_their_order() {
        let statistics = statistics(&floors(SHAPE)).unwrap();
        let names: Vec<&str> = statistics.iter().map(|s| s.name.as_str()).collect();
        let per_floor = ["nll", "latent_norm", "divergence", "whiteness", "peak", "path"];
        let expected = ["@1", "@0.97"].iter().flat_map(|t| per_floor.map(|n| format!("{n}{t}")));
        assert_eq!(names, expected.chain(["complexity".to_string()]).collect::<Vec<_>>());
        assert_eq!(statistics.get("nll@0.5"), None);
        assert_eq!(statistics.len(), 13);
    }

    #[test]
    fn the_likelihood_is_the_sum_of_its_parts() {
        let statistics = statistics(&floors(SHAPE)).unwrap();
        let value = |name: &str| statistics.get(name).unwrap();
        for (t0, bin) in [("1", 128f64.ln()), ("0.97", 0.0)] {
            let prior =
                0.5 * value(&format!("latent_norm@{t0}")) + 0.5 * crate::likelihood::LOG_TAU;
            let sum = prior + value(&format!("divergence@{t0}")) + bin;
            assert!((value(&format!("nll@{t0}")) - sum).abs() < 1e-12);
        }
        assert_eq!(value("path@1"), 0.25);
    }

    #[test]
    fn one_step_and_a_scalar_head_leave_names_out_or_keep_them() {
        let mut floors = floors(SHAPE);
        for floor in &mut floors {
            floor.transported.steps.truncate(1);
            floor.transported.log_det_map = None;
        }
        let statistics = statistics(&floors).unwrap();
        assert_eq!(statistics.get("path@1"), None);
        assert!(statistics.get("peak@1").is_some());
    }

    #[test]
    fn a_non_finite_statistic_is_an_error_with_its_name() {
        let refused = |change: fn(&mut FloorEvidence)| {
            let mut floors = floors(SHAPE);
            change(&mut floors[1]);
            statistics(&floors).unwrap_err().to_string()
        };
        assert_eq!(refused(|f| f.likelihood.prior.0 = f64::NAN), "nll is not finite");
        assert_eq!(refused(|f| f.transported.state[3] = f32::NAN), "latent_norm is not finite");
        assert_eq!(refused(|f| f.transported.log_det = f64::INFINITY), "divergence is not finite");
        assert_eq!(refused(|f| f.transported.steps[1].speed = f64::NAN), "path is not finite");
        let nan_in_map = |f: &mut FloorEvidence| {
            f.transported.log_det_map.as_mut().unwrap()[7] = f32::NAN;
        };
        assert_eq!(refused(nan_in_map), "peak is not finite");
    }

    #[test]
    fn parts_of_another_size_are_refused() {
        let mut floors = floors(SHAPE);
        floors[0].transported.state.pop();
        assert!(matches!(statistics(&floors), Err(Error::InvalidOption { .. })));
    }
}
