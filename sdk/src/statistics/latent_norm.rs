//! `latent_norm`: `|z|^2 / d`, 1 on average where the prior is right. Smooth foreign images fall
//! below it.

use super::FloorEvidence;
use crate::likelihood::square_norm;
use crate::preprocess::Shape;

pub(super) fn measure(shape: Shape, floor: &FloorEvidence) -> Option<f64> {
    Some(square_norm(&floor.transported.state) / shape.len() as f64)
}
