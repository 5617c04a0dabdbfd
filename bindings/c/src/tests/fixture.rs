//! One object of every kind on a model with a known answer, and one call of every function.

use std::ffi::{CStr, c_char, c_void};
use std::ptr::{null, null_mut};

use f2d2_tests::gaussian::Gaussian;

use crate::calibration::*;
use crate::cancel::*;
use crate::detector::*;
use crate::frame::{F2D2_FORMAT_GRAY8, f2d2_frame};
use crate::handle::f2d2_live_handles;
use crate::inspection::f2d2_inspection;
use crate::latency::{f2d2_stats, f2d2_stats_quantile};
use crate::model::*;
use crate::sampler::*;
use crate::session::*;
use crate::status::{F2D2_OK, f2d2_status};
use crate::threads::*;

const WIDTH: u32 = 8;
const HEIGHT: u32 = 6;
const IMAGES: u64 = 200;

/// A call that works as long as nothing panics.
pub(super) type Call = unsafe fn(&mut Fixture) -> f2d2_status;

pub(super) struct Fixture {
    pub(super) gaussian: Gaussian,
    file: Vec<u8>,
    json: String,
    images: Vec<Vec<u8>>,
    pub(super) model: *mut f2d2_model,
    pub(super) detector: *mut f2d2_detector,
    pub(super) session: *mut f2d2_session,
    pub(super) calibration: *mut f2d2_calibration,
    pub(super) sampler: *mut f2d2_sampler,
    pub(super) cancel: *mut f2d2_cancel,
    pub(super) threads: *mut f2d2_threads,
    pub(super) work: *mut f2d2_work,
    /// What calls create; NULL unless one did.
    pub(super) made: *mut c_void,
}

/// A zeroed struct with its size.
pub(super) fn sized<T>() -> T {
    assert!(size_of::<T>() >= size_of::<u32>());
    // SAFETY: used for structs of the interface only, for which any bytes are valid.
    let mut value: T = unsafe { std::mem::zeroed() };
    // SAFETY: they begin with their size.
    unsafe { (&raw mut value).cast::<u32>().write(size_of::<T>() as u32) };
    value
}

impl Fixture {
    pub(super) fn new() -> Self {
        let gaussian = Gaussian::new(1, HEIGHT as usize, WIDTH as usize, 31);
        let mut fixture = Self {
            file: gaussian.bytes(),
            images: gaussian.images(0, IMAGES),
            gaussian,
            json: String::new(),
            model: null_mut(),
            detector: null_mut(),
            session: null_mut(),
            calibration: null_mut(),
            sampler: null_mut(),
            cancel: null_mut(),
            threads: null_mut(),
            work: null_mut(),
            made: null_mut(),
        };
        fixture.open();
        fixture
    }

    fn open(&mut self) {
        let mut options: f2d2_detector_options = sized();
        options.threads = 1;
        let (data, size) = (self.file.as_ptr().cast(), self.file.len());
        let frames: Vec<f2d2_frame> = (0..self.images.len()).map(|i| self.frame(i)).collect();
        let rates = self.rates();
        // SAFETY: all pointers are those of variables that live here.
        let all = unsafe {
            [
                f2d2_model_open_memory(data, size, null(), &mut self.model),
                f2d2_detector_create(self.model, &options, &mut self.detector),
                f2d2_session_create(self.detector, null(), &mut self.session),
                f2d2_sampler_create(self.model, null(), &mut self.sampler),
                f2d2_cancel_create(&mut self.cancel),
                f2d2_threads_create_host(2, &mut self.threads),
                f2d2_threads_take_work(self.threads, &mut self.work),
                f2d2_detector_calibrate(
                    self.detector,
                    frames.as_ptr(),
                    frames.len(),
                    &rates,
                    null(),
                    &mut self.calibration,
                ),
                self.score(),
            ]
        };
        assert_eq!(all, [F2D2_OK; 9]);
        let mut text = vec![0u8; 1 << 20];
        let mut needed = 0;
        // SAFETY: the buffer has the size that is given.
        let status = unsafe {
            let text = text.as_mut_ptr().cast();
            f2d2_calibration_save_memory(self.calibration, text, 1 << 20, &mut needed)
        };
        assert_eq!(status, F2D2_OK);
        self.json = String::from_utf8(text[..needed - 1].to_vec()).unwrap();
    }

    pub(super) fn frame(&self, i: usize) -> f2d2_frame {
        let mut frame: f2d2_frame = sized();
        let pixels = &self.images[i];
        frame.format = F2D2_FORMAT_GRAY8;
        frame.data = pixels.as_ptr().cast();
        (frame.size, frame.width, frame.height) = (pixels.len() as u64, WIDTH, HEIGHT);
        frame
    }

    fn rates(&self) -> f2d2_calibration_options {
        let mut rates: f2d2_calibration_options = sized();
        rates.alpha = 0.05;
        rates
    }

    pub(super) fn score(&mut self) -> f2d2_status {
        let frame = self.frame(0);
        let mut inspection: f2d2_inspection = sized();
        // SAFETY: variables that live here.
        unsafe { f2d2_session_score(self.session, &frame, &mut inspection) }
    }

    /// Destroys everything; the statuses.
    pub(super) fn close(self) -> [f2d2_status; 8] {
        // SAFETY: handles are never followed.
        unsafe {
            [
                f2d2_work_destroy(self.work),
                f2d2_threads_destroy(self.threads),
                f2d2_cancel_destroy(self.cancel),
                f2d2_sampler_destroy(self.sampler),
                f2d2_calibration_destroy(self.calibration),
                f2d2_session_destroy(self.session),
                f2d2_detector_destroy(self.detector),
                f2d2_model_destroy(self.model),
            ]
        }
    }
}

unsafe extern "C-unwind" fn read(
    user_data: *mut c_void,
    buffer: *mut c_void,
    capacity: usize,
    count: *mut usize,
) -> i32 {
    // SAFETY: what `calls` passes: the bytes that are left, and a buffer of `capacity`.
    unsafe {
        let left = &mut *user_data.cast::<&[u8]>();
        let n = left.len().min(capacity);
        buffer.cast::<u8>().copy_from_nonoverlapping(left.as_ptr(), n);
        *left = &left[n..];
        *count = n;
    }
    0
}

/// Functions that hold an object while they work.
#[rustfmt::skip]
pub(super) const ON_OBJECTS: &[(&CStr, Call)] = &[
    (c"f2d2_cancel_set", |f| unsafe { f2d2_cancel_set(f.cancel) }),
    (c"f2d2_cancel_reset", |f| unsafe { f2d2_cancel_reset(f.cancel) }),
    (c"f2d2_threads_take_work", |f| unsafe { f2d2_threads_take_work(f.threads, (&raw mut f.made).cast()) }),
    (c"f2d2_model_get_info", |f| unsafe { f2d2_model_get_info(f.model, &mut sized()) }),
    (c"f2d2_calibration_save", |f| unsafe { f2d2_calibration_save(f.calibration, c"/dev/null/x".as_ptr()) }),
    (c"f2d2_calibration_save_memory", |f| unsafe {
        f2d2_calibration_save_memory(f.calibration, null_mut(), 0, &mut 0)
    }),
    (c"f2d2_calibration_get_info", |f| unsafe { f2d2_calibration_get_info(f.calibration, &mut sized()) }),
    (c"f2d2_detector_create", |f| unsafe { f2d2_detector_create(f.model, null(), (&raw mut f.made).cast()) }),
    (c"f2d2_detector_calibrated", |f| unsafe {
        f2d2_detector_calibrated(f.detector, f.calibration, (&raw mut f.made).cast())
    }),
    (c"f2d2_detector_get_engine", |f| unsafe { f2d2_detector_get_engine(f.detector, &mut sized()) }),
    (c"f2d2_detector_self_test", |f| unsafe { f2d2_detector_self_test(f.detector) }),
    (c"f2d2_detector_warm_up", |f| unsafe { f2d2_detector_warm_up(f.detector) }),
    (c"f2d2_detector_calibrate", |f| unsafe {
        let frames: Vec<f2d2_frame> = (0..IMAGES as usize).map(|i| f.frame(i)).collect();
        let (rates, made) = (f.rates(), (&raw mut f.made).cast());
        f2d2_detector_calibrate(f.detector, frames.as_ptr(), frames.len(), &rates, f.cancel, made)
    }),
    (c"f2d2_session_create", |f| unsafe { f2d2_session_create(f.detector, null(), (&raw mut f.made).cast()) }),
    (c"f2d2_session_score", |f| f.score()),
    (c"f2d2_session_score_batch", |f| unsafe {
        f2d2_session_score_batch(f.session, &f.frame(0), 1, &mut sized(), f.cancel)
    }),
    (c"f2d2_session_reason", |f| unsafe { f2d2_session_reason(f.session, 0, null_mut(), 0, &mut 0) }),
    (c"f2d2_session_statistics", |f| unsafe { f2d2_session_statistics(f.session, 0, null_mut(), 0, &mut 0) }),
    (c"f2d2_session_statistic_name", |f| unsafe {
        f2d2_session_statistic_name(f.session, 0, 0, null_mut(), 0, &mut 0)
    }),
    (c"f2d2_session_statistic", |f| unsafe { f2d2_session_statistic(f.session, 0, c"nll@1".as_ptr(), &mut 0.0) }),
    (c"f2d2_session_heat_map", |f| unsafe {
        f2d2_session_heat_map(f.session, 0, null_mut(), 0, &mut 0, null_mut(), null_mut())
    }),
    (c"f2d2_session_collect", |f| unsafe { f2d2_session_collect(f.session, &f.frame(0)) }),
    (c"f2d2_session_calibrate", |f| unsafe {
        f2d2_session_calibrate(f.session, &f.rates(), (&raw mut f.made).cast())
    }),
    (c"f2d2_session_get_stats", |f| unsafe { f2d2_session_get_stats(f.session, &mut sized()) }),
    (c"f2d2_sampler_create", |f| unsafe { f2d2_sampler_create(f.model, null(), (&raw mut f.made).cast()) }),
    (c"f2d2_sampler_draw", |f| unsafe { f2d2_sampler_draw(f.sampler, 1, 1, 1, null_mut(), 0, &mut 0) }),
    (c"f2d2_sampler_draw_guided", |f| unsafe {
        f2d2_sampler_draw_guided(f.sampler, 1, 1, 1, 0.1, null_mut(), 0, &mut 0)
    }),
];

/// All others that can fail.
#[rustfmt::skip]
pub(super) const ALONE: &[(&CStr, Call)] = &[
    (c"f2d2_live_handles", |_| unsafe { f2d2_live_handles(&mut 0) }),
    (c"f2d2_cancel_create", |f| unsafe { f2d2_cancel_create((&raw mut f.made).cast()) }),
    (c"f2d2_model_open", |f| unsafe { f2d2_model_open(c"nowhere".as_ptr(), null(), (&raw mut f.made).cast()) }),
    (c"f2d2_model_open_memory", |f| unsafe {
        f2d2_model_open_memory(f.file.as_ptr().cast(), f.file.len(), null(), (&raw mut f.made).cast())
    }),
    (c"f2d2_model_open_callback", |f| unsafe {
        let mut left = f.file.as_slice();
        f2d2_model_open_callback(Some(read), (&raw mut left).cast(), null(), (&raw mut f.made).cast())
    }),
    (c"f2d2_calibration_load", |f| unsafe { f2d2_calibration_load(c"nowhere".as_ptr(), (&raw mut f.made).cast()) }),
    (c"f2d2_calibration_load_memory", |f| unsafe {
        f2d2_calibration_load_memory(f.json.as_ptr().cast(), f.json.len(), (&raw mut f.made).cast())
    }),
    (c"f2d2_calibration_minimum_images", |_| unsafe { f2d2_calibration_minimum_images(null(), &mut 0) }),
    (c"f2d2_stats_quantile", |_| unsafe { f2d2_stats_quantile(&sized::<f2d2_stats>(), 0.5, &mut 0) }),
    (c"f2d2_threads_create", |f| unsafe { f2d2_threads_create(1, (&raw mut f.made).cast()) }),
    (c"f2d2_threads_create_none", |f| unsafe { f2d2_threads_create_none((&raw mut f.made).cast()) }),
    (c"f2d2_threads_create_host", |f| unsafe { f2d2_threads_create_host(1, (&raw mut f.made).cast()) }),
    (c"f2d2_threads_destroy", |f| unsafe { f2d2_threads_destroy(f.threads) }),
    (c"f2d2_work_run", |f| unsafe { f2d2_work_run(f.work) }),
    (c"f2d2_work_destroy", |f| unsafe { f2d2_work_destroy(f.work) }),
    (c"f2d2_cancel_destroy", |f| unsafe { f2d2_cancel_destroy(f.cancel) }),
    (c"f2d2_model_destroy", |f| unsafe { f2d2_model_destroy(f.model) }),
    (c"f2d2_calibration_destroy", |f| unsafe { f2d2_calibration_destroy(f.calibration) }),
    (c"f2d2_detector_destroy", |f| unsafe { f2d2_detector_destroy(f.detector) }),
    (c"f2d2_session_destroy", |f| unsafe { f2d2_session_destroy(f.session) }),
    (c"f2d2_sampler_destroy", |f| unsafe { f2d2_sampler_destroy(f.sampler) }),
];

/// Functions that cannot fail, or only for their one pointer.
pub(super) const WITHOUT_BOUNDARY: [&str; 4] =
    ["f2d2_last_error", "f2d2_status_name", "f2d2_version", "f2d2_version_string"];

/// A text of the library.
pub(super) fn text(text: *const c_char) -> String {
    // SAFETY: texts of the library end with a NUL.
    unsafe { CStr::from_ptr(text) }.to_str().unwrap().to_owned()
}
