//! `nll`: the negative log-likelihood, nats per dimension.

use super::FloorEvidence;
use crate::preprocess::Shape;

pub(super) fn measure(shape: Shape, floor: &FloorEvidence) -> Option<f64> {
    Some(floor.likelihood.nll().0 / shape.len() as f64)
}
