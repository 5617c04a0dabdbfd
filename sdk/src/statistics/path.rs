//! `path`: speed of the last step minus speed of the first. Paths of normal images are nearly
//! straight.

use super::FloorEvidence;
use crate::preprocess::Shape;

pub(super) fn measure(_: Shape, floor: &FloorEvidence) -> Option<f64> {
    match floor.transported.steps.as_slice() {
        [first, .., last] => Some(last.speed - first.speed),
        _ => None,
    }
}
