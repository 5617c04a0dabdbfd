//! Calibrations.

use crate::failure::{Failure, guard};
use crate::ffi;

pub(crate) struct Calibration(pub(crate) f2d2::Calibration);

pub(crate) fn calibration_options() -> ffi::CalibrationOptions {
    let f2d2::CalibrationOptions { alpha, delta, seed } = f2d2::CalibrationOptions::default();
    ffi::CalibrationOptions { alpha, delta, seed }
}

pub(crate) fn calibration_load(path: &str) -> Result<Box<Calibration>, Failure> {
    guard(|| Ok(Box::new(Calibration(f2d2::Calibration::load(path)?))))
}

pub(crate) fn calibration_from_json(json: &str) -> Result<Box<Calibration>, Failure> {
    guard(|| Ok(Box::new(Calibration(f2d2::Calibration::from_json(json)?))))
}

impl Calibration {
    pub(crate) fn save(&self, path: &str) -> Result<(), Failure> {
        guard(|| Ok(self.0.save(path)?))
    }

    pub(crate) fn to_json(&self) -> Result<String, Failure> {
        guard(|| Ok(self.0.to_json()?))
    }

    pub(crate) fn threshold(&self) -> f64 {
        self.0.threshold()
    }

    pub(crate) fn images(&self) -> usize {
        self.0.images()
    }
}
