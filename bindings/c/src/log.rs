//! Messages to the host: through its callback, on the thread of the call that they are about, and nowhere else.

use std::ffi::{CString, c_char, c_void};

use crate::failure::{Failure, Result};
use crate::status::F2D2_INVALID_VALUE;

/// Something failed.
pub const F2D2_LOG_ERROR: u32 = 1;
/// A frame could not be judged or was left out.
pub const F2D2_LOG_WARNING: u32 = 2;
/// What was chosen, and what is done. The default.
pub const F2D2_LOG_INFO: u32 = 3;
/// Every frame.
pub const F2D2_LOG_DEBUG: u32 = 4;

/// Receives a message.
///
/// It is called during a call on the object that it was given to, on the thread of that call. It may call this library
/// but not the session that is at work, which answers F2D2_BUSY. It may destroy any handle. It must return: no
/// exception, no longjmp.
///
/// @param user_data what was given along with the callback.
/// @param level F2D2_LOG_ERROR to F2D2_LOG_DEBUG.
/// @param message UTF-8 text, valid during the call.
pub type f2d2_log_callback =
    Option<unsafe extern "C-unwind" fn(user_data: *mut c_void, level: u32, message: *const c_char)>;

/// Where messages of one object go.
#[derive(Clone, Copy)]
pub(crate) struct Log {
    callback: f2d2_log_callback,
    user_data: *mut c_void,
    level: u32,
}

// SAFETY: the header says that the callback is called on whatever thread uses the object, with this data.
unsafe impl Send for Log {}
// SAFETY: as above.
unsafe impl Sync for Log {}

impl Log {
    /// A level of 0 is the default.
    pub(crate) fn new(
        callback: f2d2_log_callback,
        user_data: *mut c_void,
        level: u32,
    ) -> Result<Self> {
        if level > F2D2_LOG_DEBUG {
            let message = format!("log level is {level}, need 0 to {F2D2_LOG_DEBUG}");
            return Err(Failure::new(F2D2_INVALID_VALUE, message));
        }
        let level = if level == 0 { F2D2_LOG_INFO } else { level };
        Ok(Self { callback, user_data, level })
    }

    /// Composes and delivers a message, if somebody listens at this level.
    pub(crate) fn say(&self, level: u32, message: impl FnOnce() -> String) {
        let Some(callback) = self.callback.filter(|_| level <= self.level) else { return };
        let message = CString::new(message().replace('\0', " ")).unwrap_or_default();
        // SAFETY: the host's function of this type, with its own data; the text lives until it returns.
        unsafe { callback(self.user_data, level, message.as_ptr()) };
    }
}
