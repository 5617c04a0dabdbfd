//! Evidence of one image → its score vector.
use crate::{error::Result, flow::Transported, likelihood::Likelihood, preprocess::{Pixels, Shape}};
/// One floor.
pub struct FloorEvidence {/// t0
 pub t0: f64, /// t
 pub transported: Transported, /// l
 pub likelihood: Likelihood }
/// E
pub struct Evidence<'a> {/// p
 pub pixels: &'a Pixels, /// s
 pub shape: Shape, /// f
 pub floors: &'a [FloorEvidence] }
/// One.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistic {/// n
 pub name: String, /// v
 pub value: f64 }
/// All.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics(Vec<Statistic>);
impl Statistics {
 /// n
 pub fn new(e: &Evidence<'_>) -> Result<Self> { Ok(Self(e.floors.iter().map(|f| Statistic{name: format!("nll@{}", f.t0), value: f.likelihood.nll().0}).collect())) }
 /// i
 pub fn iter(&self) -> std::slice::Iter<'_, Statistic> { self.0.iter() }
 /// g
 pub fn get(&self, name: &str) -> Option<f64> { self.0.iter().find(|s| s.name == name).map(|s| s.value) }
}
