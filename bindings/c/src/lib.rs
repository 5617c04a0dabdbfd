//! The C ABI of f2d2. `include/f2d2.h` is generated from this crate; `include/README.md` explains it to its users.
//!
//! * `memory` is the only file that touches the caller's memory, `handle` the only one that knows what a handle is,
//!   and `entry` stands around every exported function. One file per object holds the functions themselves.
//! * A function checks all of its arguments before it works and writes its results after: what it was to fill is
//!   untouched when it fails.

// Comments of exported functions are those of the C header: `@param[out]` is no link.
#![allow(rustdoc::broken_intra_doc_links)]
#![allow(unsafe_code, non_camel_case_types)]

pub mod version;
pub mod status;
pub mod failure;
mod entry;
mod environment;
mod panics;
mod memory;
pub mod handle;
pub mod log;
pub mod limits;
pub mod cancel;
pub mod threads;
pub mod model;
pub mod frame;
pub mod inspection;
pub mod calibration;
mod engine;
pub mod detector;
pub mod latency;
pub mod session;
pub mod sampler;

#[cfg(test)]
mod tests;
