//! Panics on demand, on the thread that asked for them.

use std::cell::Cell;

/// Where a panic can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// At the beginning of an entry.
    Entry,
    /// When an entry holds an object.
    Handle,
}

thread_local! {
    static WANTED: Cell<Option<Place>> = const { Cell::new(None) };
}

/// Panics if that was asked for here.
pub(crate) fn point(place: Place) {
    if WANTED.get() == Some(place) {
        panic!("asked for");
    }
}

/// The result of `call`, in which every [`point`] at `place` panics.
pub(crate) fn during<T>(place: Place, call: impl FnOnce() -> T) -> T {
    WANTED.set(Some(place));
    let result = call();
    WANTED.set(None);
    result
}
