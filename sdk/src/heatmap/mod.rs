//! stub
/// h
#[derive(Clone, Debug, PartialEq)]
pub struct HeatMap {/// w
 pub width: usize, /// h
 pub height: usize, /// v
 pub values: Vec<f32> }
/// h
pub fn heat_map(e: &crate::statistics::Evidence<'_>) -> HeatMap { HeatMap { width: e.shape.width, height: e.shape.height, values: vec![0.0; e.shape.pixels()] } }
