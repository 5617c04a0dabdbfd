//! Keeps panics of this library off standard error: where one happened goes into the failure instead.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic;
use std::sync::Once;

/// Names of the detector's threads begin with this.
const THREADS: &str = "f2d2-";

thread_local! {
    static DEPTH: Cell<usize> = const { Cell::new(0) };
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Installs the hook that stays silent for panics inside of this library and leaves all others to the one before.
///
/// The hook is that of the copy of Rust's standard library that is linked into this library.
pub(crate) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let inside = DEPTH.try_with(|depth| depth.get() > 0).unwrap_or(true);
            let ours = std::thread::current().name().is_some_and(|name| name.starts_with(THREADS));
            if !inside && !ours {
                return before(info);
            }
            let place = info.location().map(ToString::to_string).unwrap_or_default();
            let _ = PLACE.try_with(|last| last.replace(place));
        }));
    });
}

/// Marks this thread as being inside of the library.
pub(crate) struct Inside;

impl Inside {
    pub(crate) fn new() -> Self {
        let _ = DEPTH.try_with(|depth| depth.set(depth.get() + 1));
        Self
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let _ = DEPTH.try_with(|depth| depth.set(depth.get().saturating_sub(1)));
    }
}

/// The message of a panic, and where it happened if that was on this thread.
pub(crate) fn describe(payload: &(dyn Any + Send)) -> (String, String) {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    let place = PLACE.try_with(RefCell::take).unwrap_or_default();
    (text.unwrap_or_else(|| "without a message".into()), place)
}
