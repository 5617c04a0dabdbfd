//! What the camera gives: borrowed pixels, described and checked, never copied here.

mod format;
mod view;

pub use format::PixelFormat;
pub use view::{Frame, MAX_SIDE, Roi};
