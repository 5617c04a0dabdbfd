//! [`Binding`]: what a calibration was made for. Scores of another model, schedule or engine do not
//! compare.

use std::fmt::Debug;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::flow::Schedule;
use crate::preprocess::Preprocess;

/// Everything that the distribution of scores depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Binding {
    /// SHA-256 of the model file, hexadecimal.
    pub model: String,
    /// One per noise floor.
    pub schedules: Vec<Schedule>,
    /// Times that scoring starts from.
    pub noise_floors: Vec<f64>,
    /// Number format of its convolutions.
    pub precision: String,
    /// From frame to model range.
    pub preprocess: Preprocess,
}

impl Binding {
    /// Whether `detector` is what this was made for.
    ///
    /// # Errors
    /// [`Error::CalibrationMismatch`] naming the first part that differs.
    pub(super) fn check(&self, detector: &Self) -> Result<()> {
        same("model", &self.model, &detector.model)?;
        same("schedules", &self.schedules, &detector.schedules)?;
        same("noise_floors", &self.noise_floors, &detector.noise_floors)?;
        same("precision", &self.precision, &detector.precision)?;
        same("preprocess", &self.preprocess, &detector.preprocess)
    }
}

/// # Errors
/// [`Error::CalibrationMismatch`] unless `got`, the calibration's, equals `need`, the detector's.
pub(super) fn same<T: PartialEq + Debug>(field: &'static str, got: &T, need: &T) -> Result<()> {
    if got == need {
        return Ok(());
    }
    let (got, need) = (format!("{got:?}"), format!("{need:?}"));
    Err(Error::CalibrationMismatch { field, got, need })
}

#[cfg(test)]
pub(super) mod fixture {
    use super::*;
    use crate::preprocess::{Dequantization, ResizeFilter, Shape};

    pub(crate) fn binding() -> Binding {
        let schedule = |t0| Schedule::new(vec![t0, 0.4, 0.0]).unwrap();
        Binding {
            model: "ab12".into(),
            schedules: vec![schedule(1.0), schedule(0.97)],
            noise_floors: vec![1.0, 0.97],
            precision: "f32".into(),
            preprocess: Preprocess {
                shape: Shape { channels: 1, height: 28, width: 28 },
                resize: ResizeFilter::Bilinear,
                dequantization: Dequantization::Midpoint,
                scale: 1.0 / 128.0,
                offset: -1.0,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Change = fn(&mut Binding);

    #[test]
    fn a_difference_in_any_part_is_refused_by_name() {
        let changes: [(&str, Change); 6] = [
            ("model", |b| b.model.push('c')),
            ("schedules", |b| b.schedules[1] = Schedule::new(vec![0.97, 0.4001, 0.0]).unwrap()),
            ("schedules", |b| b.schedules.truncate(1)),
            ("noise_floors", |b| b.noise_floors[1] = f64::NAN),
            ("precision", |b| b.precision = "f16".into()),
            ("preprocess", |b| b.preprocess.offset = -1.0 + f64::EPSILON),
        ];
        let binding = fixture::binding();
        binding.check(&binding).unwrap();
        for (name, change) in changes {
            let mut detector = binding.clone();
            change(&mut detector);
            let Err(Error::CalibrationMismatch { field, got, need }) = binding.check(&detector)
            else {
                panic!("{name} is not checked");
            };
            assert_eq!(field, name);
            assert_ne!(got, need);
        }
    }
}
