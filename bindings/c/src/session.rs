//! Sessions: one thread's use of a detector, with the results of its last call.

use std::ffi::{c_char, c_void};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::Instant;

use f2d2::{HeatMap, Statistics};

use crate::calibration::{Calibration, f2d2_calibration, f2d2_calibration_options, read_options};
use crate::cancel::{self, Cancel, f2d2_cancel};
use crate::detector::{Detector, f2d2_detector};
use crate::entry::entry;
use crate::failure::{Failure, Result};
use crate::frame::{self, f2d2_frame};
use crate::handle::{self, Kind, Live, Object, Shared};
use crate::inspection::{Outcome, f2d2_inspection};
use crate::latency::f2d2_stats;
use crate::log::{F2D2_LOG_DEBUG, F2D2_LOG_WARNING, Log, f2d2_log_callback};
use crate::memory::{self, Versioned};
use crate::status::{
    F2D2_BUSY, F2D2_INVALID_VALUE, F2D2_LIMIT_EXCEEDED, F2D2_POISONED, F2D2_UNAVAILABLE,
    f2d2_status,
};

/// Frames of a batch unless the options say otherwise.
const MAX_BATCH: u32 = 256;

/// One thread's use of a detector. Cheap; it holds the results of the last call. A second call at the same time gets
/// F2D2_BUSY.
pub struct f2d2_session {
    _opaque: (),
}

pub(crate) struct Session {
    detector: Arc<Shared<Detector>>,
    log: Log,
    max_batch: usize,
    work: Mutex<Work>,
}

/// What a call changes.
struct Work {
    outcomes: Vec<Outcome>,
    collected: Vec<Statistics>,
    stats: f2d2_stats,
}

impl Object for Session {
    type Handle = f2d2_session;
    const KIND: Kind = Kind::Session;
}

/// How a session is set up. Zero is the default of each.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct f2d2_session_options {
    /// Size of this struct, set by the caller.
    pub struct_size: u32,
    /// Frames that a batch may have. Default 256.
    pub max_batch: u32,
    /// Least important level that `log` gets, F2D2_LOG_ERROR to F2D2_LOG_DEBUG; 0 is F2D2_LOG_INFO.
    pub log_level: u32,
    /// Zero.
    pub reserved: u32,
    /// Receives messages about frames; NULL for none. It must work until the session is destroyed and the call on it
    /// has returned.
    pub log: f2d2_log_callback,
    /// Passed to `log`.
    pub log_user_data: *mut c_void,
}

// SAFETY: repr(C), begins with its u32 size, and any bytes are valid fields.
unsafe impl Versioned for f2d2_session_options {
    const NAME: &str = "f2d2_session_options";
    const FIRST: usize = size_of::<Self>();
}

/// Creates a session.
///
/// @param detector the detector; the session keeps what it needs of it.
/// @param options how; NULL for the defaults.
/// @param[out] session the session; destroy it with f2d2_session_destroy.
/// Returns F2D2_OK or why not.
/// Threads: any.
///
/// # Safety
/// Pointers are NULL or valid for what their types say.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn f2d2_session_create(
    detector: *const f2d2_detector,
    options: *const f2d2_session_options,
    session: *mut *mut f2d2_session,
) -> f2d2_status {
    entry(c"f2d2_session_create", || {
        let detector = handle::get::<Detector>(detector)?;
        // SAFETY: the caller's promise.
        let (place, options) = unsafe {
            (memory::out("session", session)?, memory::sized_or_zero("options", options)?)
        };
        memory::reserved(f2d2_session_options::NAME, options.reserved)?;
        let log = Log::new(options.log, options.log_user_data, options.log_level)?;
        let max_batch = if options.max_batch == 0 { MAX_BATCH } else { options.max_batch } as usize;
        let stats = f2d2_stats::new();
        let work = Mutex::new(Work { outcomes: Vec::new(), collected: Vec::new(), stats });
        let created = Session { detector: detector.share(), log, max_batch, work };
        place.write(handle::create(created)?);
        Ok(())
    })
}

/// Scores one frame, and judges it if the detector has a calibration.
///
/// @param session the session; its results are replaced by that of this frame, number 0.
/// @param frame the frame; its pixels are read during the call only.
/// @param[out] inspection filled in. If the pixels cannot be judged (a float that is NaN, say) its verdict is
/// F2D2_VERDICT_INVALID and the call returns F2D2_OK all the same.
/// Returns F2D2_OK; F2D2_INVALID_FRAME if the description of the frame cannot be true; F2D2_BUSY; or why the arguments
/// cannot be used.
/// Threads: one at a time per session.
///
/// # Safety
/// Pointers are NULL or valid for what their types say; so is the one in `frame`.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn f2d2_session_score(
    session: *mut f2d2_session,
    frame: *const f2d2_frame,
    inspection: *mut f2d2_inspection,
) -> f2d2_status {
    entry(c"f2d2_session_score", || {
        let session = handle::get::<Session>(session)?;
        let mut work = session.work()?;
        // SAFETY: the caller's promise.
        let (view, place) = unsafe {
            let frame: f2d2_frame = memory::sized_in("frame", frame)?;
            (frame.view()?, memory::sized_out("inspection", inspection)?)
        };
        let start = Instant::now();
        let detector = &session.detector.detector;
        let outcome = Outcome::Inspected(detector.inspect(&view));
        session.tell(0, &outcome);
        place.write(outcome.describe(detector));
        work.stats.count(start.elapsed(), std::iter::once(outcome.verdict()));
        work.outcomes.clear();
        work.outcomes.push(outcome);
        Ok(())
    })
}

/// Scores frames side by side. A frame that fails fails alone: its verdict is F2D2_VERDICT_INVALID.
///
/// @param session the session; its results are replaced by those of these frames, numbered from 0.
/// @param frames `count` frames, all with the struct_size of the first; sizes and formats may differ.
/// @param count number of frames, at most max_batch of the session's options; 0 does nothing.
/// @param[out] inspections `count` structs, all with the struct_size of the first; filled in.
/// @param cancel looked at between frames; may be NULL.
/// Returns F2D2_OK, F2D2_LIMIT_EXCEEDED, F2D2_CANCELLED, F2D2_BUSY, or why the arguments cannot be used.
/// Threads: one at a time per session.
///
/// # Safety
/// Pointers are NULL or valid for what their types and `count` say; so are those in `frames`.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn f2d2_session_score_batch(
    session: *mut f2d2_session,
    frames: *const f2d2_frame,
    count: usize,
    inspections: *mut f2d2_inspection,
    cancel: *const f2d2_cancel,
) -> f2d2_status {
    entry(c"f2d2_session_score_batch", || {
        let session = handle::get::<Session>(session)?;
        let cancel = handle::optional::<Cancel>(cancel)?;
        let mut work = session.work()?;
        if count > session.max_batch {
            let message =
                format!("the batch has {count} frames, need at most {}", session.max_batch);
            return Err(Failure::new(F2D2_LIMIT_EXCEEDED, message));
        }
        // SAFETY: the caller's promise.
        let (views, places) = unsafe {
            (frame::views(frames, count)?, memory::sized_array("inspections", inspections, count)?)
        };
        if count == 0 {
            return Ok(());
        }
        let start = Instant::now();
        let outcomes = session.inspect(views, cancel.as_ref())?;
        for (i, outcome) in outcomes.iter().enumerate() {
            session.tell(i, outcome);
        }
        for (place, outcome) in places.zip(&outcomes) {
            // SAFETY: element of the array whose sizes were read above.
            let place = unsafe { memory::sized_out("inspections", place.cast_mut()) }?;
            place.write(outcome.describe(&session.detector.detector));
        }
        work.stats.count(start.elapsed(), outcomes.iter().map(Outcome::verdict));
        work.outcomes = outcomes;
        Ok(())
    })
}

/// Why the verdict of a frame of the last call is F2D2_VERDICT_INVALID; empty for any other verdict.
///
/// @param session the session.
/// @param index number of the frame in the last call.
/// @param buffer where the UTF-8 text goes, with a NUL; NULL to ask for the size.
/// @param capacity its size in bytes.
/// @param[out] needed size of the text in bytes, with the NUL; also written for F2D2_BUFFER_TOO_SMALL.
/// Returns F2D2_OK, F2D2_BUFFER_TOO_SMALL, F2D2_INVALID_VALUE for an index beyond the last call, F2D2_BUSY, or why the
/// arguments cannot be used.
/// Threads: one at a time per session.
///
/// # Safety
/// Pointers are NULL or valid for what their types and `capacity` say.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn f2d2_session_reason(
    session: *mut f2d2_session,
    index: usize,
    buffer: *mut c_char,
    capacity: usize,
    needed: *mut usize,
) -> f2d2_status {
    entry(c"f2d2_session_reason", || {
        let session = handle::get::<Session>(session)?;
        let work = session.work()?;
        // SAFETY: the caller's promise.
        let buffer = unsafe { memory::buffer("buffer", buffer, capacity, needed) }?;
        buffer.write_text(work.outcome(index)?.reason())
    })
}

/// The score vector of a frame of the last call.
///
/// @param session the session.
/// @param index number of the frame in the last call.
/// @param values where the numbers go; NULL to ask for their number.
/// @param capacity how many fit.
/// @param[out] needed how many there are; the same for every frame of a detector.
/// Returns as f2d2_session_reason, and F2D2_UNAVAILABLE for a frame that was not judged.
/// Threads: one at a time per session.
///
/// # Safety
/// Pointers are NULL or valid for what their types and `capacity` say.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn f2d2_session_statistics(
    session: *mut f2d2_session,
    index: usize,
    values: *mut f64,
    capacity: usize,
    needed: *mut usize,
) -> f2d2_status {
    entry(c"f2d2_session_statistics", || {
        let session = handle::get::<Session>(session)?;
        let work = session.work()?;
        // SAFETY: the caller's promise.
        let buffer = unsafe { memory::buffer("values", values, capacity, needed) }?;
        buffer.write(work.statistics(index)?.iter().map(|statistic| statistic.value))
    })
}

/// The name of a number in the score vector, as in "nll@1".
///
/// @param session the session.
/// @param index number of the frame in the last call.
/// @param position which number of its score vector.
/// @param buffer where the UTF-8 text goes, with a NUL; NULL to ask for the size.
/// @param capacity its size in bytes.
/// @param[out] needed size of the text in bytes, with the NUL; also written for F2D2_BUFFER_TOO_SMALL.
/// Returns as f2d2_session_statistics.
/// Threads: one at a time per session.
///
/// # Safety
/// Pointers are NULL or valid for what their types and `capacity` say.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn f2d2_session_statistic_name(
    session: *mut f2d2_session,
    index: usize,
    position: usize,
    buffer: *mut c_char,
    capacity: usize,
    needed: *mut usize,
) -> f2d2_status {
    entry(c"f2d2_session_statistic_name", || {
        let session = handle::get::<Session>(session)?;
        let work = session.work()?;
        // SAFETY: the caller's promise.
        let buffer = unsafe { memory::buffer("buffer", buffer, capacity, needed) }?;
        let statistics = work.statistics(index)?;
        let Some(statistic) = statistics.iter().nth(position) else {
            let message = format!("position is {position}, need less than {}", statistics.len());
            return Err(Failure::new(F2D2_INVALID_VALUE, message));
        };
        buffer.write_text(&statistic.name)
    })
}

/// One number of the score vector by its name, as in "nll@1".
///
/// @param session the session.
/// @param index number of the frame in the last call.
/// @param name which number.
/// @param[out] value the number.
/// Returns as f2d2_session_statistics, and F2D2_INVALID_VALUE for a name that there is not.
/// Threads: one at a time per session.
///
/// # Safety
/// Pointers are NULL or valid for what their types say; `name` ends with a NUL.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn f2d2_session_statistic(
    session: *mut f2d2_session,
    index: usize,
    name: *const c_char,
    value: *mut f64,
) -> f2d2_status {
    entry(c"f2d2_session_statistic", || {
        let session = handle::get::<Session>(session)?;
        let work = session.work()?;
        // SAFETY: the caller's promise.
        let (name, place) = unsafe { (memory::text("name", name)?, memory::out("value", value)?) };
        let Some(value) = work.statistics(index)?.get(&name) else {
            let message = format!("there is no statistic {name:?}");
            return Err(Failure::new(F2D2_INVALID_VALUE, message));
        };
        place.write(value);
        Ok(())
    })
}

/// The heat map of a frame of the last call: strangeness per pixel of the model's image size, row by row.
///
/// Values are relative within one image; a hot pixel is no verdict.
///
/// @param session the session, of a detector that was created with heat_maps.
/// @param index number of the frame in the last call.
/// @param values where the numbers go, nats per pixel, higher = stranger; NULL to ask for their number.
/// @param capacity how many fit.
/// @param[out] needed how many there are, width times height.
/// @param[out] width columns; may be NULL.
/// @param[out] height rows; may be NULL.
/// Returns as f2d2_session_statistics, and F2D2_UNAVAILABLE without heat_maps.
/// Threads: one at a time per session.
///
/// # Safety
/// Pointers are NULL or valid for what their types and `capacity` say.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn f2d2_session_heat_map(
    session: *mut f2d2_session,
    index: usize,
    values: *mut f32,
    capacity: usize,
    needed: *mut usize,
    width: *mut u32,
    height: *mut u32,
) -> f2d2_status {
    entry(c"f2d2_session_heat_map", || {
        let session = handle::get::<Session>(session)?;
        let work = session.work()?;
        // SAFETY: the caller's promise.
        let (buffer, width, height) = unsafe {
            let buffer = memory::buffer("values", values, capacity, needed)?;
            (buffer, memory::optional_out("width", width)?, memory::optional_out("height", height)?)
        };
        let map = work.heat_map(index)?;
        buffer.write(map.values.iter().copied())?;
        for (place, side) in [(width, map.width), (height, map.height)] {
            if let Some(place) = place {
                place.write(side as u32);
            }
        }
        Ok(())
    })
}

/// Measures a normal frame and keeps its score vector for f2d2_session_calibrate. The frame itself is not kept.
///
/// @param session the session; its results stay as they are.
/// @param frame the frame; its pixels are read during the call only.
/// Returns F2D2_OK; F2D2_INVALID_FRAME or F2D2_NON_FINITE for a frame that cannot be used, which is left out;
/// F2D2_BUSY; or why the arguments cannot be used.
/// Threads: one at a time per session.
///
/// # Safety
/// Pointers are NULL or valid for what their types say; so is the one in `frame`.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn f2d2_session_collect(
    session: *mut f2d2_session,
    frame: *const f2d2_frame,
) -> f2d2_status {
    entry(c"f2d2_session_collect", || {
        let session = handle::get::<Session>(session)?;
        let mut work = session.work()?;
        // SAFETY: the caller's promise.
        let view = unsafe { memory::sized_in::<f2d2_frame>("frame", frame)?.view() }?;
        for measured in session.detector.detector.measure(&[view]) {
            work.collected.push(measured?);
        }
        Ok(())
    })
}

/// Makes a calibration from the frames that were collected, which are forgotten then. If it fails they are kept.
///
/// @param session the session.
/// @param options what the calibration shall promise; NULL for the defaults.
/// @param[out] calibration the calibration; destroy it with f2d2_calibration_destroy.
/// Returns F2D2_OK, F2D2_TOO_FEW_IMAGES, F2D2_INVALID_OPTION, F2D2_NON_FINITE, F2D2_BUSY, or why the arguments cannot be
/// used.
/// Threads: one at a time per session.
///
/// # Safety
/// Pointers are NULL or valid for what their types say.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn f2d2_session_calibrate(
    session: *mut f2d2_session,
    options: *const f2d2_calibration_options,
    calibration: *mut *mut f2d2_calibration,
) -> f2d2_status {
    entry(c"f2d2_session_calibrate", || {
        let session = handle::get::<Session>(session)?;
        let mut work = session.work()?;
        // SAFETY: the caller's promise.
        let (options, place) =
            unsafe { (read_options(options)?, memory::out("calibration", calibration)?) };
        let binding = session.detector.detector.binding();
        let made = f2d2::Calibration::fit(binding, &work.collected, &options)?;
        place.write(handle::create(Calibration(made))?);
        work.collected.clear();
        Ok(())
    })
}

/// What the session did since it was created.
///
/// @param session the session.
/// @param[out] stats filled in.
/// Returns F2D2_OK, F2D2_BUSY, or why the arguments cannot be used.
/// Threads: one at a time per session.
///
/// # Safety
/// `stats` is NULL or valid for the `struct_size` that it begins with.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn f2d2_session_get_stats(
    session: *mut f2d2_session,
    stats: *mut f2d2_stats,
) -> f2d2_status {
    entry(c"f2d2_session_get_stats", || {
        let session = handle::get::<Session>(session)?;
        let work = session.work()?;
        // SAFETY: the caller's promise.
        unsafe { memory::sized_out("stats", stats) }?.write(work.stats);
        Ok(())
    })
}

/// Destroys a session; a call on it that is under way ends as usual.
///
/// @param session the session, or NULL.
/// Returns F2D2_OK or why not.
/// Threads: any.
///
/// # Safety
/// None.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn f2d2_session_destroy(session: *mut f2d2_session) -> f2d2_status {
    entry(c"f2d2_session_destroy", || handle::destroy::<Session>(session))
}

impl Session {
    /// The right to work, if nobody else has it.
    fn work(&self) -> Result<MutexGuard<'_, Work>> {
        self.work.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => Failure::new(F2D2_BUSY, "the session is at work"),
            TryLockError::Poisoned(_) => {
                Failure::new(F2D2_POISONED, "an earlier call on this session panicked")
            }
        })
    }

    /// Frames that could be viewed, inspected; the others refused; all in order.
    fn inspect(
        &self,
        views: Vec<Result<f2d2::Frame<'_>>>,
        cancel: Option<&Live<Cancel>>,
    ) -> Result<Vec<Outcome>> {
        let frames: Vec<_> = views.iter().flatten().copied().collect();
        // Without a flag there is nothing to stop for, and the detector groups the frames as it likes.
        let group = if cancel.is_some() { self.detector.side_by_side() } else { frames.len() };
        let mut inspections = Vec::with_capacity(frames.len());
        for frames in frames.chunks(group.max(1)) {
            cancel::poll(cancel)?;
            inspections.extend(self.detector.detector.inspect_batch(frames));
        }
        cancel::poll(cancel)?;
        let mut inspections = inspections.into_iter();
        let outcome = |view: Result<_>| match view {
            Ok(_) => inspections.next().map(Outcome::Inspected),
            Err(failure) => Some(Outcome::Refused(failure.message)),
        };
        Ok(views.into_iter().filter_map(outcome).collect())
    }

    fn tell(&self, index: usize, outcome: &Outcome) {
        let reason = outcome.reason();
        if reason.is_empty() {
            self.log
                .say(F2D2_LOG_DEBUG, || format!("frame {index}: verdict {}", outcome.verdict()));
        } else {
            self.log.say(F2D2_LOG_WARNING, || format!("frame {index} is not judged: {reason}"));
        }
    }
}

impl Work {
    fn outcome(&self, index: usize) -> Result<&Outcome> {
        self.outcomes.get(index).ok_or_else(|| {
            let got = self.outcomes.len();
            let message = format!("index is {index}, the last call had {got} frames");
            Failure::new(F2D2_INVALID_VALUE, message)
        })
    }

    fn statistics(&self, index: usize) -> Result<&Statistics> {
        Ok(&self.measurement(index)?.statistics)
    }

    fn heat_map(&self, index: usize) -> Result<&HeatMap> {
        let none = || Failure::new(F2D2_UNAVAILABLE, "the detector was created without heat_maps");
        self.measurement(index)?.heat_map.as_ref().ok_or_else(none)
    }

    fn measurement(&self, index: usize) -> Result<&f2d2::Measurement> {
        let measurement = match self.outcome(index)? {
            Outcome::Inspected(inspection) => inspection.measurement.as_ref(),
            Outcome::Refused(_) => None,
        };
        measurement.ok_or_else(|| {
            Failure::new(F2D2_UNAVAILABLE, format!("frame {index} could not be judged"))
        })
    }
}
