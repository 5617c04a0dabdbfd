//! Calibrations: loaded, saved, described. Detectors and sessions make them.

use std::ffi::{c_char, c_void};

use f2d2::CalibrationOptions;

use crate::entry::entry;
use crate::failure::{Failure, Result};
use crate::handle::{self, Kind, Object};
use crate::memory::{self, Versioned};
use crate::model::on_large_stack;
use crate::status::{F2D2_CALIBRATION_CORRUPT, f2d2_status};

/// What normal images score, with a threshold. Immutable; any number of threads may use it.
pub struct f2d2_calibration {
    _opaque: (),
}

pub(crate) struct Calibration(pub(crate) f2d2::Calibration);

impl Object for Calibration {
    type Handle = f2d2_calibration;
    const KIND: Kind = Kind::Calibration;
}

/// What a calibration shall promise. Zero is the default of each.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct f2d2_calibration_options {
    /// Size of this struct, set by the caller.
    pub struct_size: u32,
    /// Zero.
    pub reserved: u32,
    /// Highest share of normal images that may be called anomalous, between 0 and 1. Default 0.01.
    pub alpha: f64,
    /// Probability that an unlucky choice of calibration images breaks that, between 0 and 1. Default 0.05.
    pub delta: f64,
    /// Seed of the split of the images and of the fit.
    pub seed: u64,
}

// SAFETY: repr(C), begins with its u32 size, and any bytes are valid fields.
unsafe impl Versioned for f2d2_calibration_options {
    const NAME: &str = "f2d2_calibration_options";
    const FIRST: usize = size_of::<Self>();
}

impl f2d2_calibration_options {
    pub(crate) fn options(&self) -> CalibrationOptions {
        let default = CalibrationOptions::default();
        let or = |asked: f64, default: f64| if asked == 0.0 { default } else { asked };
        CalibrationOptions {
            alpha: or(self.alpha, default.alpha),
            delta: or(self.delta, default.delta),
            seed: self.seed,
        }
    }
}

/// What a calibration promises and what it was made from.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct f2d2_calibration_info {
    /// Size of this struct, set by the caller.
    pub struct_size: u32,
    /// Number of Gaussians in the density of score vectors.
    pub components: u32,
    /// Images that it was made from.
    pub images: u64,
    /// Highest share of normal images that may be called anomalous.
    pub alpha: f64,
    /// Probability that it is exceeded after all.
    pub delta: f64,
    /// Scores above it are anomalous.
    pub threshold: f64,
    /// Lower end of the central 95 % interval of the true false-alarm rate.
    pub band_low: f64,
    /// Upper end of it.
    pub band_high: f64,
}

// SAFETY: repr(C), begins with its u32 size, and any bytes are valid fields.
unsafe impl Versioned for f2d2_calibration_info {
    const NAME: &str = "f2d2_calibration_info";
    const FIRST: usize = size_of::<Self>();
}

/// Reads a calibration file.
///
/// @param path UTF-8 path of a regular file.
/// @param[out] calibration the calibration; destroy it with f2d2_calibration_destroy.
/// Returns F2D2_OK, F2D2_IO, F2D2_CALIBRATION_CORRUPT, or why the arguments cannot be used.
/// Threads: any.
///
/// # Safety
/// Pointers are NULL or valid for what their types say; `path` ends with a NUL.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn f2d2_calibration_load(
    path: *const c_char,
    calibration: *mut *mut f2d2_calibration,
) -> f2d2_status {
    entry(c"f2d2_calibration_load", || {
        // SAFETY: the caller's promise.
        let (place, path) =
            unsafe { (memory::out("calibration", calibration)?, memory::text("path", path)?) };
        let loaded = on_large_stack(|| f2d2::Calibration::load(&path))??;
        place.write(handle::create(Calibration(loaded))?);
        Ok(())
    })
}

/// Reads a calibration that is in memory, in the form of a calibration file.
///
/// @param data UTF-8 text; read during the call only. No NUL is needed.
/// @param size its length in bytes.
/// @param[out] calibration the calibration; destroy it with f2d2_calibration_destroy.
/// Returns as f2d2_calibration_load, without F2D2_IO.
/// Threads: any.
///
/// # Safety
/// Pointers are NULL or valid for what their types and `size` say.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn f2d2_calibration_load_memory(
    data: *const c_void,
    size: usize,
    calibration: *mut *mut f2d2_calibration,
) -> f2d2_status {
    entry(c"f2d2_calibration_load_memory", || {
        // SAFETY: the caller's promise.
        let (place, data) = unsafe {
            (memory::out("calibration", calibration)?, memory::bytes("data", data.cast(), size)?)
        };
        let json = std::str::from_utf8(data).map_err(|error| Failure {
            status: F2D2_CALIBRATION_CORRUPT,
            message: "calibration is not usable: it is not UTF-8".into(),
            source: error.to_string(),
        })?;
        let loaded = on_large_stack(|| f2d2::Calibration::from_json(json))??;
        place.write(handle::create(Calibration(loaded))?);
        Ok(())
    })
}

/// Writes a calibration file. An older file is replaced as a whole, or kept if writing fails.
///
/// @param calibration the calibration.
/// @param path UTF-8 path.
/// Returns F2D2_OK, F2D2_IO, or why the arguments cannot be used.
/// Threads: any.
///
/// # Safety
/// `path` is NULL or ends with a NUL.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn f2d2_calibration_save(
    calibration: *const f2d2_calibration,
    path: *const c_char,
) -> f2d2_status {
    entry(c"f2d2_calibration_save", || {
        let calibration = handle::get::<Calibration>(calibration)?;
        // SAFETY: the caller's promise.
        let path = unsafe { memory::text("path", path) }?;
        Ok(calibration.0.save(path)?)
    })
}

/// The text of a calibration file, to be kept anywhere.
///
/// @param calibration the calibration.
/// @param buffer where the text goes, with a NUL; NULL to ask for the size.
/// @param capacity its size in bytes.
/// @param[out] needed size of the text in bytes, with the NUL; also written for F2D2_BUFFER_TOO_SMALL.
/// Returns F2D2_OK, F2D2_BUFFER_TOO_SMALL, or why the arguments cannot be used.
/// Threads: any.
///
/// # Safety
/// Pointers are NULL or valid for what their types and `capacity` say.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn f2d2_calibration_save_memory(
    calibration: *const f2d2_calibration,
    buffer: *mut c_char,
    capacity: usize,
    needed: *mut usize,
) -> f2d2_status {
    entry(c"f2d2_calibration_save_memory", || {
        let calibration = handle::get::<Calibration>(calibration)?;
        // SAFETY: the caller's promise.
        let buffer = unsafe { memory::buffer("buffer", buffer, capacity, needed) }?;
        buffer.write_text(&calibration.0.to_json()?)
    })
}

/// What a calibration promises and what it was made from.
///
/// @param calibration the calibration.
/// @param[out] info filled in.
/// Returns F2D2_OK or why not.
/// Threads: any.
///
/// # Safety
/// `info` is NULL or valid for the `struct_size` that it begins with.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn f2d2_calibration_get_info(
    calibration: *const f2d2_calibration,
    info: *mut f2d2_calibration_info,
) -> f2d2_status {
    entry(c"f2d2_calibration_get_info", || {
        let calibration = handle::get::<Calibration>(calibration)?;
        // SAFETY: the caller's promise.
        let place = unsafe { memory::sized_out("info", info) }?;
        let calibration = &calibration.0;
        let (band_low, band_high) = calibration.band();
        place.write(f2d2_calibration_info {
            struct_size: 0,
            components: calibration.components() as u32,
            images: calibration.images() as u64,
            alpha: calibration.alpha(),
            delta: calibration.delta(),
            threshold: calibration.threshold(),
            band_low,
            band_high,
        });
        Ok(())
    })
}

/// How many normal images a calibration needs at least.
///
/// @param options what it shall promise; NULL for the defaults.
/// @param[out] images the number; the largest size_t if no number suffices.
/// Returns F2D2_OK or why not.
/// Threads: any.
///
/// # Safety
/// Pointers are NULL or valid for what their types say.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn f2d2_calibration_minimum_images(
    options: *const f2d2_calibration_options,
    images: *mut usize,
) -> f2d2_status {
    entry(c"f2d2_calibration_minimum_images", || {
        // SAFETY: the caller's promise.
        let (options, place) = unsafe { (read_options(options)?, memory::out("images", images)?) };
        place.write(f2d2::Calibration::minimum_images(options.alpha, options.delta));
        Ok(())
    })
}

/// Destroys a calibration. Detectors that judge by it keep their own copy.
///
/// @param calibration the calibration, or NULL.
/// Returns F2D2_OK or why not.
/// Threads: any.
///
/// # Safety
/// None.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn f2d2_calibration_destroy(
    calibration: *mut f2d2_calibration,
) -> f2d2_status {
    entry(c"f2d2_calibration_destroy", || handle::destroy::<Calibration>(calibration))
}

/// # Safety
/// As [`memory::sized_or_zero`].
pub(crate) unsafe fn read_options(
    options: *const f2d2_calibration_options,
) -> Result<CalibrationOptions> {
    // SAFETY: the caller's promise.
    let options = unsafe { memory::sized_or_zero("options", options) }?;
    memory::reserved("f2d2_calibration_options", options.reserved)?;
    Ok(options.options())
}
