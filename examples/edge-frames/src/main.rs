//! Frames of a camera.

fn main() {}
