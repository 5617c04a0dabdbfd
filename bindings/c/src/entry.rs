//! What stands around every exported function: fork check, floating-point environment, panic boundary, last error.

use std::ffi::CStr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::environment;
use crate::failure::{self, Failure, Result};
use crate::panics;
use crate::status::{F2D2_FORKED, F2D2_OK, F2D2_PANIC, f2d2_status};

/// The process that made the first call; 0 before that.
static PROCESS: AtomicU32 = AtomicU32::new(0);

/// Runs the body of the exported function `name`. Whatever happens in it becomes a status.
pub(crate) fn entry(name: &'static CStr, body: impl FnOnce() -> Result<()>) -> f2d2_status {
    let guarded = || {
        same_process()?;
        panics::install();
        let _inside = panics::Inside::new();
        let _floats = environment::Default::new();
        // What a panic leaves half done is inside objects that get poisoned by it.
        let called = AssertUnwindSafe(|| {
            #[cfg(test)]
            crate::tests::fault::point(crate::tests::fault::Place::Entry);
            body()
        });
        catch_unwind(called).unwrap_or_else(|payload| {
            let (message, place) = panics::describe(&*payload);
            // Dropping a payload can panic again; that one's payload is then kept for ever, a few bytes.
            if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
                std::mem::forget(again);
            }
            let message = format!("the library panicked: {message}");
            Err(Failure { status: F2D2_PANIC, message, source: place })
        })
    };
    match guarded() {
        Ok(()) => F2D2_OK,
        Err(failure) => failure::keep(name, failure),
    }
}

/// A forked child has the locks and the memory of all threads, but not the threads.
fn same_process() -> Result<()> {
    let here = std::process::id();
    match PROCESS.compare_exchange(0, here, Ordering::Relaxed, Ordering::Relaxed) {
        Err(first) if first != here => {
            let message = format!("this is process {here}, the library was first used in {first}");
            Err(Failure::new(F2D2_FORKED, message))
        }
        _ => Ok(()),
    }
}
