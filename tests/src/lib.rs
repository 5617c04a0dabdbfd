//! What the test suites share: models with a known answer, tolerances, and the programs under test.
//!
//! Nothing here is a copy of the library: expected values come from closed forms.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod allocations;
pub mod compiler;
pub mod device;
pub mod dist;
pub mod gaussian;
pub mod graph;
pub mod native;
pub mod network;
pub mod programs;
pub mod shipped;
pub mod subject;
pub mod tolerance;
pub mod twin;

use f2d2::{Frame, PixelFormat};

/// A packed grey frame, `[height, width]`.
///
/// # Panics
/// If `data` does not have the frame's size.
pub fn grey(data: &[u8], width: u32, height: u32) -> Frame<'_> {
    Frame::packed(data, PixelFormat::Gray8, width, height).unwrap()
}

/// Says on standard output that part of a test was left out; counted by whoever reads the log.
pub fn skipped(what: &str) {
    println!("skipped: {what}");
}
