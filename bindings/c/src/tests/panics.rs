//! A panic anywhere becomes a status, and what it may have left half done cannot be used any more.

use std::ffi::CStr;

use super::fault::{Place, during};
use super::fixture::{ALONE, Call, Fixture, ON_OBJECTS, WITHOUT_BOUNDARY, sized, text};
use crate::failure::{f2d2_error, f2d2_last_error};
use crate::status::{F2D2_OK, F2D2_PANIC, F2D2_POISONED};

fn last_error() -> f2d2_error {
    let mut error: f2d2_error = sized();
    // SAFETY: a variable that lives here.
    assert_eq!(unsafe { f2d2_last_error(&mut error) }, F2D2_OK);
    error
}

fn all() -> impl Iterator<Item = &'static (&'static CStr, Call)> {
    ON_OBJECTS.iter().chain(ALONE)
}

#[test]
fn every_function_of_the_list_is_called_here() {
    let list = include_str!("../../../../tests/abi/symbols.txt");
    let mut listed: Vec<&str> = list.lines().collect();
    let mut called: Vec<&str> = all().map(|(name, _)| name.to_str().unwrap()).collect();
    called.extend(WITHOUT_BOUNDARY);
    called.sort_unstable();
    listed.sort_unstable();
    assert_eq!(called, listed);
}

#[test]
fn a_panic_in_any_entry_is_a_status() {
    let mut fixture = Fixture::new();
    for (name, call) in all() {
        // SAFETY: the fixture passes its own variables.
        let status = during(Place::Entry, || unsafe { call(&mut fixture) });
        assert_eq!(status, F2D2_PANIC, "{name:?}");
        let error = last_error();
        assert_eq!(error.status, F2D2_PANIC);
        assert_eq!(text(error.function), name.to_str().unwrap());
        assert_eq!(text(error.message), "the library panicked: asked for");
        assert!(text(error.source).contains("fault.rs:"), "{}", text(error.source));
        assert!(!text(error.hint).is_empty());
        assert!(fixture.made.is_null(), "{name:?} gave something");
    }
    assert_eq!(fixture.score(), F2D2_OK, "no object took part");
    assert_eq!(fixture.close(), [F2D2_OK; 8], "nothing was destroyed");
}

#[test]
fn an_object_that_a_panic_met_is_poisoned_and_can_be_destroyed() {
    for (name, call) in ON_OBJECTS {
        let mut fixture = Fixture::new();
        // SAFETY: the fixture passes its own variables.
        let status = during(Place::Handle, || unsafe { call(&mut fixture) });
        assert_eq!(status, F2D2_PANIC, "{name:?}");
        // SAFETY: as above.
        assert_eq!(unsafe { call(&mut fixture) }, F2D2_POISONED, "{name:?}");
        assert_eq!(text(last_error().function), name.to_str().unwrap());
        assert!(fixture.made.is_null(), "{name:?} gave something");
        assert_eq!(fixture.close(), [F2D2_OK; 8], "{name:?}");
    }
}

#[test]
fn a_panic_on_one_thread_leaves_the_others_alone() {
    let mut fixture = Fixture::new();
    during(Place::Entry, || {
        let worked = std::thread::scope(|scope| {
            let session = fixture.session.addr();
            let thread = scope.spawn(move || {
                let mut stats = sized();
                let session = std::ptr::without_provenance_mut(session);
                // SAFETY: a variable that lives here.
                unsafe { crate::session::f2d2_session_get_stats(session, &mut stats) }
            });
            thread.join().unwrap()
        });
        assert_eq!(worked, F2D2_OK);
    });
    assert_eq!(fixture.score(), F2D2_OK);
    fixture.close();
}
