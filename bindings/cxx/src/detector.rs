//! Detectors and what they say.

use std::sync::Arc;

use crate::calibration::Calibration;
use crate::engine::engine_options;
use crate::failure::{Failure, guard};
use crate::ffi;
use crate::model::Model;
use crate::threads::Threads;

pub(crate) struct Detector(f2d2::Detector);

pub(crate) fn detector_options() -> ffi::DetectorOptions {
    let default = f2d2::DetectorOptions::default();
    ffi::DetectorOptions {
        engine: engine_options(),
        steps: 0,
        threads: default.threads,
        noise_floors: Vec::new(),
        heat_maps: default.heat_maps,
        self_test: default.self_test,
    }
}

pub(crate) fn detector_new(
    model: &Model,
    options: &ffi::DetectorOptions,
) -> Result<Box<Detector>, Failure> {
    open(model, options, None)
}

pub(crate) fn detector_on(
    model: &Model,
    options: &ffi::DetectorOptions,
    threads: &Threads,
) -> Result<Box<Detector>, Failure> {
    if options.threads != 0 {
        return Err(Failure::from(f2d2::Error::InvalidOption {
            option: "threads",
            got: options.threads.to_string(),
            need: "0, since there are threads".into(),
        }));
    }
    open(model, options, Some(threads.shared.clone()))
}

fn open(
    model: &Model,
    options: &ffi::DetectorOptions,
    pool: Option<f2d2::Threads>,
) -> Result<Box<Detector>, Failure> {
    guard(|| {
        let floors = &options.noise_floors;
        let (engine, gpu) = options.engine.read()?;
        let options = f2d2::DetectorOptions {
            engine,
            gpu,
            steps: (options.steps != 0).then_some(options.steps),
            threads: options.threads,
            pool,
            noise_floors: (!floors.is_empty()).then(|| floors.clone()),
            heat_maps: options.heat_maps,
            self_test: options.self_test,
            ..f2d2::DetectorOptions::default()
        };
        Ok(Box::new(Detector(f2d2::Detector::from_model(Arc::clone(&model.0), options)?)))
    })
}

impl Detector {
    pub(crate) fn engine(&self) -> ffi::EngineReport {
        let report = self.0.engine();
        ffi::EngineReport {
            engine: report.engine.to_string(),
            precision: report.precision.to_owned(),
            threads: report.threads,
            reason: report.reason.clone(),
        }
    }

    pub(crate) fn steps(&self) -> usize {
        self.0.steps()
    }

    pub(crate) fn self_test(&self) -> Result<(), Failure> {
        guard(|| Ok(self.0.self_test()?))
    }

    pub(crate) fn set_calibration(&mut self, calibration: &Calibration) -> Result<(), Failure> {
        guard(|| Ok(self.0.set_calibration(calibration.0.clone())?))
    }

    pub(crate) fn inspect(&self, frame: &ffi::Frame<'_>) -> Result<ffi::Inspection, Failure> {
        guard(|| Ok(self.0.inspect(&frame.checked()?).into()))
    }

    pub(crate) fn inspect_batch(
        &self,
        frames: &[ffi::Frame<'_>],
    ) -> Result<Vec<ffi::Inspection>, Failure> {
        guard(|| {
            let checked: Vec<_> = frames.iter().map(ffi::Frame::checked).collect();
            let good: Vec<_> = checked.iter().flatten().copied().collect();
            let mut inspections = self.0.inspect_batch(&good).into_iter();
            let inspection = |frame: Result<_, Failure>| match frame {
                Ok(_) => inspections.next().map(Into::into),
                Err(failure) => Some(ffi::Inspection::invalid(failure.message)),
            };
            Ok(checked.into_iter().filter_map(inspection).collect())
        })
    }

    pub(crate) fn calibrate(
        &self,
        frames: &[ffi::Frame<'_>],
        options: &ffi::CalibrationOptions,
    ) -> Result<Box<Calibration>, Failure> {
        guard(|| {
            let ffi::CalibrationOptions { alpha, delta, seed } = *options;
            let options = f2d2::CalibrationOptions { alpha, delta, seed };
            let good: Vec<_> = frames.iter().filter_map(|frame| frame.checked().ok()).collect();
            Ok(Box::new(Calibration(self.0.calibrate(&good, &options)?)))
        })
    }
}

impl ffi::Inspection {
    /// What is said about a frame whose description cannot be true.
    fn invalid(reason: String) -> Self {
        Self {
            verdict: ffi::Verdict::Invalid,
            reason,
            score: f64::NAN,
            p_value: f64::NAN,
            nll: f64::NAN,
            bpd: f64::NAN,
            statistics: Vec::new(),
            heat_map: Vec::new(),
            elapsed_ns: 0,
        }
    }
}

impl From<f2d2::Inspection> for ffi::Inspection {
    fn from(inspection: f2d2::Inspection) -> Self {
        let (verdict, reason) = match inspection.verdict {
            None => (ffi::Verdict::Uncalibrated, String::new()),
            Some(f2d2::Verdict::Normal) => (ffi::Verdict::Normal, String::new()),
            Some(f2d2::Verdict::Anomalous) => (ffi::Verdict::Anomalous, String::new()),
            Some(f2d2::Verdict::Invalid(reason)) => (ffi::Verdict::Invalid, reason),
        };
        let (nll, bpd, statistics, heat_map) = match inspection.measurement {
            None => (f64::NAN, f64::NAN, Vec::new(), Vec::new()),
            Some(measurement) => {
                let statistic = |s: &f2d2::statistics::Statistic| ffi::Statistic {
                    name: s.name.clone(),
                    value: s.value,
                };
                let statistics = measurement.statistics.iter().map(statistic).collect();
                let heat_map = measurement.heat_map.map_or_else(Vec::new, |map| map.values);
                (measurement.nll.0, measurement.bpd.0, statistics, heat_map)
            }
        };
        let nanoseconds = inspection.elapsed.as_nanos();
        Self {
            verdict,
            reason,
            score: inspection.score.map_or(f64::NAN, |score| score.value),
            p_value: inspection.score.map_or(f64::NAN, |score| score.p_value),
            nll,
            bpd,
            statistics,
            heat_map,
            elapsed_ns: u64::try_from(nanoseconds).unwrap_or(u64::MAX),
        }
    }
}
