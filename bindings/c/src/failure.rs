//! Why a call failed, and the record of it that each thread keeps.

use std::cell::RefCell;
use std::error::Error as _;
use std::ffi::{CStr, CString, c_char};

use crate::memory::{self, Versioned};
use crate::status::{self, F2D2_OK, f2d2_status};

/// A result with a [`Failure`].
pub(crate) type Result<T> = std::result::Result<T, Failure>;

/// A status with its explanation.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: f2d2_status,
    pub(crate) message: String,
    pub(crate) source: String,
}

impl Failure {
    pub(crate) fn new(status: f2d2_status, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), source: String::new() }
    }
}

impl From<f2d2::Error> for Failure {
    fn from(error: f2d2::Error) -> Self {
        let source = error.source().map(ToString::to_string).unwrap_or_default();
        Self { status: error.code() as f2d2_status, message: error.to_string(), source }
    }
}

/// The last failure on this thread.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct f2d2_error {
    /// Size of this struct, set by the caller.
    pub struct_size: u32,
    /// Status of the last failed call of this thread; F2D2_OK if none failed.
    pub status: f2d2_status,
    /// What was got and what was needed.
    pub message: *const c_char,
    /// The cause further down, such as the operating system's message; empty if there is none.
    pub source: *const c_char,
    /// What to do about it; may be empty.
    pub hint: *const c_char,
    /// The function that failed; empty if none did.
    pub function: *const c_char,
}

// SAFETY: repr(C), begins with its u32 size, and any bytes are valid fields.
unsafe impl Versioned for f2d2_error {
    const NAME: &str = "f2d2_error";
    const FIRST: usize = size_of::<Self>();
}

struct Record {
    status: f2d2_status,
    function: &'static CStr,
    message: CString,
    source: CString,
}

thread_local! {
    static LAST: RefCell<Option<Record>> = const { RefCell::new(None) };
}

/// Keeps a failure for [`f2d2_last_error`]. While its thread ends there is no place for it any more.
pub(crate) fn keep(function: &'static CStr, failure: Failure) -> f2d2_status {
    let Failure { status, message, source } = failure;
    let text = |text: String| CString::new(text.replace('\0', " ")).unwrap_or_default();
    let record = Record { status, function, message: text(message), source: text(source) };
    // A failure to keep it must not hide the failure itself.
    let _ = LAST.try_with(|last| last.try_borrow_mut().map(|mut last| *last = Some(record)));
    status
}

/// Says why the last failed call of this thread failed. Calls that work leave it as it is.
///
/// @param[out] error filled in; its texts are UTF-8 and stay valid until the next failed call of this thread.
/// Returns F2D2_OK; F2D2_NULL_POINTER, F2D2_MISALIGNED or F2D2_INVALID_STRUCT for `error`, which are not recorded.
/// Threads: any; every thread has its own record.
///
/// # Safety
/// `error` is NULL or valid for the `struct_size` that it begins with.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn f2d2_last_error(error: *mut f2d2_error) -> f2d2_status {
    // SAFETY: the caller's promise.
    let place = match unsafe { memory::sized_out("error", error) } {
        Ok(place) => place,
        Err(failure) => return failure.status,
    };
    let empty = f2d2_error {
        struct_size: 0,
        status: F2D2_OK,
        message: c"".as_ptr(),
        source: c"".as_ptr(),
        hint: c"".as_ptr(),
        function: c"".as_ptr(),
    };
    let describe = |record: &Record| f2d2_error {
        struct_size: 0,
        status: record.status,
        message: record.message.as_ptr(),
        source: record.source.as_ptr(),
        hint: status::hint(record.status).as_ptr(),
        function: record.function.as_ptr(),
    };
    let last = LAST.try_with(|last| Some(last.try_borrow().ok()?.as_ref().map(describe)));
    place.write(last.ok().flatten().flatten().unwrap_or(empty));
    F2D2_OK
}
