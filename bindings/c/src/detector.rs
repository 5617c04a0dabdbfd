//! Detectors: a model on an engine, with or without a calibration. Immutable and shared.

use std::ffi::{c_char, c_void};
use std::mem::offset_of;
use std::sync::Arc;

use f2d2::{DetectorOptions, Statistics};

use crate::calibration::{Calibration, f2d2_calibration, f2d2_calibration_options, read_options};
use crate::cancel::{self, Cancel, f2d2_cancel};
use crate::engine::EngineOptions;
use crate::entry::entry;
use crate::failure::Result;
use crate::frame::{self, f2d2_frame};
use crate::handle::{self, Kind, Object};
use crate::log::{F2D2_LOG_INFO, F2D2_LOG_WARNING, Log, f2d2_log_callback};
use crate::memory::{self, Versioned, fixed};
use crate::model::{Model, f2d2_model, on_large_stack};
use crate::status::f2d2_status;
use crate::threads::{self, f2d2_threads};

/// A model on an engine, with a calibration to judge by or without. Immutable; any number of threads may use it.
pub struct f2d2_detector {
    _opaque: (),
}

pub(crate) struct Detector {
    pub(crate) detector: f2d2::Detector,
    log: Log,
}

impl Object for Detector {
    type Handle = f2d2_detector;
    const KIND: Kind = Kind::Detector;
}

/// How a detector is set up. Zero is the default of each.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct f2d2_detector_options {
    /// Size of this struct, set by the caller.
    pub struct_size: u32,
    /// Images evaluated side by side, at most 1024; 0 is one per core.
    pub threads: u32,
    /// Network evaluations per noise floor; 0 takes the model's recommendation.
    pub steps: u32,
    /// 1: sessions can give heat maps.
    pub heat_maps: u32,
    /// 1: the engine is not checked against the model's golden vectors.
    pub skip_self_test: u32,
    /// Least important level that `log` gets, F2D2_LOG_ERROR to F2D2_LOG_DEBUG; 0 is F2D2_LOG_INFO.
    pub log_level: u32,
    /// Number of `noise_floors`; 0 takes the model's recommendation.
    pub noise_floor_count: u32,
    /// Zero.
    pub reserved: u32,
    /// Noise floors, each in (0, 1], each once. Read during the call only.
    pub noise_floors: *const f64,
    /// Name of the engine, "auto", "cpu", "gpu" or one of the names that a report gives; NULL is "auto".
    pub engine: *const c_char,
    /// Graphics adapter to use, by its PCI bus id or a part of its name; NULL for any. F2D2_UNSUPPORTED_FIELD with
    /// an engine on the CPU.
    pub adapter: *const c_char,
    /// What to judge by; NULL for no verdicts. The detector keeps its own copy.
    pub calibration: *const f2d2_calibration,
    /// Receives messages about creating and calibrating; NULL for none. It must work until the detector is destroyed
    /// and the calls on it have returned; the same holds for detectors made of it with f2d2_detector_calibrated.
    pub log: f2d2_log_callback,
    /// Passed to `log`.
    pub log_user_data: *mut c_void,
    /// Threads to use in place of `threads` ones, which is 0 then; NULL for those. The detector keeps them as long as
    /// needed.
    pub pool: *const f2d2_threads,
    /// Number format, "f32" or "f16"; NULL is "f32". With "f16" a GPU keeps weights and activations in 16 bits, a CPU
    /// weights; creating fails unless the results agree. A report says what is used: "tract" knows "f32" only.
    pub precision: *const c_char,
    /// 1: the CPU serves while the GPU compiles; creating does not wait for that, destroying does.
    /// F2D2_UNSUPPORTED_FIELD with an engine on the CPU.
    pub background: u32,
    /// 1: when the GPU is lost for good, the CPU takes over; 0: frames are F2D2_VERDICT_INVALID then.
    /// F2D2_UNSUPPORTED_FIELD with an engine on the CPU.
    pub cpu_on_loss: u32,
}

// SAFETY: repr(C), begins with its u32 size, and any bytes are valid fields.
unsafe impl Versioned for f2d2_detector_options {
    const NAME: &str = "f2d2_detector_options";
    const FIRST: usize = offset_of!(Self, pool);
}

/// Which engine a detector runs on, and why.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct f2d2_engine_report {
    /// Size of this struct, set by the caller.
    pub struct_size: u32,
    /// Threads that evaluate images side by side.
    pub threads: u32,
    /// Name of the engine, with a NUL.
    pub engine: [c_char; 16],
    /// Number format of the convolutions, with a NUL.
    pub precision: [c_char; 16],
    /// Why this engine, UTF-8, with a NUL; cut if it is longer.
    pub reason: [c_char; 256],
}

// SAFETY: repr(C), begins with its u32 size, and any bytes are valid fields.
unsafe impl Versioned for f2d2_engine_report {
    const NAME: &str = "f2d2_engine_report";
    const FIRST: usize = size_of::<Self>();
}

/// Puts a model on an engine and checks the engine against the model's golden vectors.
///
/// @param model the model; the detector keeps it as long as needed.
/// @param options how; NULL for the defaults.
/// @param[out] detector the detector; destroy it with f2d2_detector_destroy.
/// Returns F2D2_OK; F2D2_ENGINE_UNAVAILABLE, F2D2_SELF_TEST, F2D2_MODEL_CORRUPT, F2D2_OUT_OF_RESOURCES;
/// F2D2_CALIBRATION_MISMATCH for a calibration of another detector; F2D2_INVALID_OPTION or F2D2_INVALID_VALUE for the
/// options; or why the arguments cannot be used.
/// Threads: any.
///
/// # Safety
/// Pointers are NULL or valid for what their types say; so are those in `options`.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn f2d2_detector_create(
    model: *const f2d2_model,
    options: *const f2d2_detector_options,
    detector: *mut *mut f2d2_detector,
) -> f2d2_status {
    entry(c"f2d2_detector_create", || {
        let model = handle::get::<Model>(model)?;
        // SAFETY: the caller's promise.
        let (place, options) = unsafe {
            (memory::out("detector", detector)?, memory::sized_or_zero("options", options)?)
        };
        let calibration = handle::optional::<Calibration>(options.calibration)?;
        let log = Log::new(options.log, options.log_user_data, options.log_level)?;
        // SAFETY: the caller's promise.
        let wanted = unsafe { options.wanted() }?;
        let model = Arc::clone(&model.0);
        let mut made = on_large_stack(|| f2d2::Detector::from_model(model, wanted))??;
        if let Some(calibration) = calibration {
            made.set_calibration(calibration.0.clone())?;
        }
        let report = made.engine();
        log.say(F2D2_LOG_INFO, || {
            format!("engine {} in {}: {}", report.engine, report.precision, report.reason)
        });
        place.write(handle::create(Detector { detector: made, log })?);
        Ok(())
    })
}

/// The same detector, judging by `calibration`. Model and engine are shared with the first, which stays as it is.
///
/// @param detector the first detector.
/// @param calibration what to judge by; copied.
/// @param[out] calibrated the new detector; destroy it with f2d2_detector_destroy.
/// Returns F2D2_OK, F2D2_CALIBRATION_MISMATCH, or why the arguments cannot be used.
/// Threads: any.
///
/// # Safety
/// `calibrated` is NULL or valid for writing.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn f2d2_detector_calibrated(
    detector: *const f2d2_detector,
    calibration: *const f2d2_calibration,
    calibrated: *mut *mut f2d2_detector,
) -> f2d2_status {
    entry(c"f2d2_detector_calibrated", || {
        let first = handle::get::<Detector>(detector)?;
        let calibration = handle::get::<Calibration>(calibration)?;
        // SAFETY: the caller's promise.
        let place = unsafe { memory::out("calibrated", calibrated) }?;
        let mut made = first.detector.clone();
        made.set_calibration(calibration.0.clone())?;
        place.write(handle::create(Detector { detector: made, log: first.log })?);
        Ok(())
    })
}

/// Which engine runs the detector, and why.
///
/// @param detector the detector.
/// @param[out] report filled in.
/// Returns F2D2_OK or why not.
/// Threads: any.
///
/// # Safety
/// `report` is NULL or valid for the `struct_size` that it begins with.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn f2d2_detector_get_engine(
    detector: *const f2d2_detector,
    report: *mut f2d2_engine_report,
) -> f2d2_status {
    entry(c"f2d2_detector_get_engine", || {
        let detector = handle::get::<Detector>(detector)?;
        // SAFETY: the caller's promise.
        let place = unsafe { memory::sized_out("report", report) }?;
        let report = detector.detector.engine();
        place.write(f2d2_engine_report {
            struct_size: 0,
            threads: report.threads as u32,
            engine: fixed(report.engine),
            precision: fixed(report.precision),
            reason: fixed(&report.reason),
        });
        Ok(())
    })
}

/// Checks the engine against the golden vectors in the model file.
///
/// @param detector the detector.
/// Returns F2D2_OK, F2D2_SELF_TEST, or why it could not be checked.
/// Threads: any.
///
/// # Safety
/// None.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn f2d2_detector_self_test(detector: *const f2d2_detector) -> f2d2_status {
    entry(c"f2d2_detector_self_test", || {
        Ok(handle::get::<Detector>(detector)?.detector.self_test()?)
    })
}

/// Scores one grey frame and forgets it, so that the first frame of the camera does not pay for what comes once.
///
/// @param detector the detector.
/// Returns F2D2_OK, or why the frame could not be scored.
/// Threads: any.
///
/// # Safety
/// None.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn f2d2_detector_warm_up(detector: *const f2d2_detector) -> f2d2_status {
    entry(c"f2d2_detector_warm_up", || {
        Ok(handle::get::<Detector>(detector)?.detector.warm_up(1)?)
    })
}

/// Makes a calibration from frames that are all normal. Frames that cannot be used are left out, with a message each.
///
/// For more frames than fit into memory use f2d2_session_collect.
///
/// @param detector the detector.
/// @param frames `count` frames, all with the struct_size of the first; sizes and formats may differ.
/// @param count number of frames; f2d2_calibration_minimum_images says how many are needed.
/// @param options what the calibration shall promise; NULL for the defaults.
/// @param cancel looked at between frames; may be NULL.
/// @param[out] calibration the calibration; destroy it with f2d2_calibration_destroy.
/// Returns F2D2_OK, F2D2_TOO_FEW_IMAGES, F2D2_CANCELLED, F2D2_INVALID_OPTION, F2D2_NON_FINITE, or why the arguments
/// cannot be used.
/// Threads: any.
///
/// # Safety
/// Pointers are NULL or valid for what their types and `count` say; so are those in `frames`.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn f2d2_detector_calibrate(
    detector: *const f2d2_detector,
    frames: *const f2d2_frame,
    count: usize,
    options: *const f2d2_calibration_options,
    cancel: *const f2d2_cancel,
    calibration: *mut *mut f2d2_calibration,
) -> f2d2_status {
    entry(c"f2d2_detector_calibrate", || {
        let detector = handle::get::<Detector>(detector)?;
        let cancel = handle::optional::<Cancel>(cancel)?;
        // SAFETY: the caller's promise.
        let (place, options, views) = unsafe {
            let options = read_options(options)?;
            (memory::out("calibration", calibration)?, options, frame::views(frames, count)?)
        };
        let mut usable = Vec::with_capacity(views.len());
        let left_out = |i: usize, why: &str| {
            detector.log.say(F2D2_LOG_WARNING, || format!("frame {i} is left out: {why}"));
        };
        for (i, view) in views.into_iter().enumerate() {
            match view {
                Ok(frame) => usable.push((i, frame)),
                Err(failure) => left_out(i, &failure.message),
            }
        }
        let mut vectors: Vec<Statistics> = Vec::with_capacity(usable.len());
        for group in usable.chunks(detector.side_by_side()) {
            cancel::poll(cancel.as_ref())?;
            let frames: Vec<_> = group.iter().map(|(_, frame)| *frame).collect();
            for ((i, _), measured) in group.iter().zip(detector.detector.measure(&frames)) {
                match measured {
                    Ok(vector) => vectors.push(vector),
                    Err(error) => left_out(*i, &error.to_string()),
                }
            }
        }
        cancel::poll(cancel.as_ref())?;
        let made = f2d2::Calibration::fit(detector.detector.binding(), &vectors, &options)?;
        detector
            .log
            .say(F2D2_LOG_INFO, || format!("calibrated on {} of {count} frames", vectors.len()));
        place.write(handle::create(Calibration(made))?);
        Ok(())
    })
}

/// Destroys a detector. Sessions keep what they need of it.
///
/// @param detector the detector, or NULL.
/// Returns F2D2_OK or why not.
/// Threads: any.
///
/// # Safety
/// None.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn f2d2_detector_destroy(detector: *mut f2d2_detector) -> f2d2_status {
    entry(c"f2d2_detector_destroy", || handle::destroy::<Detector>(detector))
}

impl Detector {
    /// Frames that keep the engine busy; a cancel flag is looked at between groups of them.
    pub(crate) fn side_by_side(&self) -> usize {
        self.detector.engine().threads.max(1)
    }
}

impl f2d2_detector_options {
    /// # Safety
    /// Pointers are NULL or valid for what their types and counts say.
    unsafe fn wanted(&self) -> Result<DetectorOptions> {
        memory::reserved(Self::NAME, self.reserved)?;
        let engine = EngineOptions {
            engine: self.engine,
            adapter: self.adapter,
            precision: self.precision,
            background: self.background,
            cpu_on_loss: self.cpu_on_loss,
        };
        // SAFETY: the caller's promise.
        let ((engine, gpu), floors) = unsafe {
            let count = self.noise_floor_count as usize;
            let floors = memory::numbers("noise_floors", self.noise_floors, count)?;
            (engine.read()?, floors)
        };
        Ok(DetectorOptions {
            engine,
            gpu,
            steps: (self.steps != 0).then_some(self.steps as usize),
            pool: Some(threads::asked_for(self.pool, self.threads)?),
            noise_floors: (!floors.is_empty()).then_some(floors),
            heat_maps: memory::switch("heat_maps", self.heat_maps)?,
            self_test: !memory::switch("skip_self_test", self.skip_self_test)?,
            ..DetectorOptions::default()
        })
    }
}
