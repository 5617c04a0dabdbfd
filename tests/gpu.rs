//! The GPU engine as a whole.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
