//! `divergence`: `-log_det / d`, nats per dimension. How much the flow had to contract towards the
//! image.

use super::FloorEvidence;
use crate::preprocess::Shape;

pub(super) fn measure(shape: Shape, floor: &FloorEvidence) -> Option<f64> {
    Some(-floor.transported.log_det / shape.len() as f64)
}
