//! Scoring through the C ABI allocates nothing beyond what the library itself does.

use std::ffi::{c_char, c_void};

use f2d2::{Frame, PixelFormat};
use f2d2_tests::allocations::Counting;

use super::fixture::{Fixture, sized};
use crate::inspection::f2d2_inspection;
use crate::log::F2D2_LOG_DEBUG;
use crate::session::*;
use crate::status::F2D2_OK;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const FRAMES: usize = 640;
/// The queue of the thread pool allocates a block for every few dozen jobs: two runs may differ by two of them.
const BLOCKS: usize = 2;

/// Allocations of this thread, since other tests run at the same time and the binding works on its caller's, during `FRAMES` calls, after as many to warm up.
fn allocations(mut call: impl FnMut()) -> usize {
    (0..FRAMES).for_each(|_| call());
    let before = Counting::of_this_thread();
    (0..FRAMES).for_each(|_| call());
    Counting::of_this_thread() - before
}

unsafe extern "C-unwind" fn ignore(_: *mut c_void, _: u32, _: *const c_char) {}

#[test]
fn scoring_a_frame_allocates_no_more_than_the_library_does() {
    let fixture = Fixture::new();
    let detector = fixture.gaussian.detector();
    let pixels = fixture.gaussian.image(0);
    let mut last = None;
    let library = allocations(|| {
        // Kept until the next one, as a session does.
        let view = Frame::packed(&pixels, PixelFormat::Gray8, 8, 6).unwrap();
        last = Some(detector.inspect(&view));
    });
    assert!(library > FRAMES, "the library allocates {library} times");
    let score = |session| {
        let frame = fixture.frame(0);
        let mut inspection: f2d2_inspection = sized();
        // SAFETY: variables that live here.
        assert_eq!(unsafe { f2d2_session_score(session, &frame, &mut inspection) }, F2D2_OK);
        assert!(inspection.bpd.is_finite());
    };
    let binding = allocations(|| score(fixture.session));
    assert!(binding.abs_diff(library) <= BLOCKS, "{binding} through C, {library} without");

    // The count would notice one allocation per frame: a message has one.
    let mut options: f2d2_session_options = sized();
    options.log = Some(ignore);
    options.log_level = F2D2_LOG_DEBUG;
    let mut talking = std::ptr::null_mut();
    // SAFETY: variables that live here.
    assert_eq!(unsafe { f2d2_session_create(fixture.detector, &options, &mut talking) }, F2D2_OK);
    let with_messages = allocations(|| score(talking));
    assert!(with_messages >= library + FRAMES, "{with_messages} with messages, {library} without");
    // SAFETY: handles are never followed.
    unsafe { f2d2_session_destroy(talking) };
    fixture.close();
}
