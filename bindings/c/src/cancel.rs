//! Cancel flags.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::entry::entry;
use crate::failure::{Failure, Result};
use crate::handle::{self, Kind, Live, Object};
use crate::memory;
use crate::status::{F2D2_CANCELLED, f2d2_status};

/// A flag that long calls look at between frames. Any thread may set it.
pub struct f2d2_cancel {
    _opaque: (),
}

pub(crate) struct Cancel(AtomicBool);

impl Object for Cancel {
    type Handle = f2d2_cancel;
    const KIND: Kind = Kind::Cancel;
}

/// # Errors
/// F2D2_CANCELLED if there is a flag and it is set.
pub(crate) fn poll(cancel: Option<&Live<Cancel>>) -> Result<()> {
    match cancel {
        Some(cancel) if cancel.0.load(Ordering::Acquire) => {
            Err(Failure::new(F2D2_CANCELLED, "the cancel flag was set"))
        }
        _ => Ok(()),
    }
}

/// Creates a flag that is not set.
///
/// @param[out] cancel the flag; destroy it with f2d2_cancel_destroy.
/// Returns F2D2_OK or why not.
/// Threads: any.
///
/// # Safety
/// `cancel` is NULL or valid for writing.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn f2d2_cancel_create(cancel: *mut *mut f2d2_cancel) -> f2d2_status {
    entry(c"f2d2_cancel_create", || {
        // SAFETY: the caller's promise.
        let place = unsafe { memory::out("cancel", cancel) }?;
        place.write(handle::create(Cancel(AtomicBool::new(false)))?);
        Ok(())
    })
}

/// Sets the flag: calls that were given it end with F2D2_CANCELLED before their next frames.
///
/// @param cancel the flag.
/// Returns F2D2_OK or why not.
/// Threads: any, also while calls look at the flag.
///
/// # Safety
/// None.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn f2d2_cancel_set(cancel: *mut f2d2_cancel) -> f2d2_status {
    entry(c"f2d2_cancel_set", || {
        handle::get::<Cancel>(cancel)?.0.store(true, Ordering::Release);
        Ok(())
    })
}

/// Clears the flag, to use it again.
///
/// @param cancel the flag.
/// Returns F2D2_OK or why not.
/// Threads: any.
///
/// # Safety
/// None.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn f2d2_cancel_reset(cancel: *mut f2d2_cancel) -> f2d2_status {
    entry(c"f2d2_cancel_reset", || {
        handle::get::<Cancel>(cancel)?.0.store(false, Ordering::Release);
        Ok(())
    })
}

/// Destroys a flag. Calls that look at it keep it until they end.
///
/// @param cancel the flag, or NULL.
/// Returns F2D2_OK or why not.
/// Threads: any.
///
/// # Safety
/// None.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn f2d2_cancel_destroy(cancel: *mut f2d2_cancel) -> f2d2_status {
    entry(c"f2d2_cancel_destroy", || handle::destroy::<Cancel>(cancel))
}
