//! stub
use crate::{error::Result, flow::Schedule, preprocess::Preprocess, statistics::Statistics};
use serde::{Serialize, Deserialize};
/// b
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Binding {/// m
 pub model: String, /// s
 pub schedules: Vec<Schedule>, /// n
 pub noise_floors: Vec<f64>, /// e
 pub engine: String, /// p
 pub precision: String, /// p
 pub preprocess: Preprocess }
/// o
#[derive(Clone, Debug)]
pub struct CalibrationOptions {/// a
 pub alpha: f64, /// d
 pub delta: f64, /// s
 pub seed: u64 }
impl Default for CalibrationOptions { fn default() -> Self { Self { alpha: 0.01, delta: 0.05, seed: 0 } } }
/// s
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {/// v
 pub value: f64, /// p
 pub p_value: f64 }
/// c
#[derive(Clone, Debug)]
pub struct Calibration;
impl Calibration {
 /// f
 pub fn fit(_b: Binding, _v: &[Statistics], _o: &CalibrationOptions) -> Result<Self> { Ok(Self) }
 /// s
 pub fn score(&self, _s: &Statistics) -> Result<Score> { Ok(Score { value: 0.0, p_value: 1.0 }) }
 /// i
 pub fn is_anomalous(&self, _s: &Score) -> bool { false }
 /// c
 pub fn check(&self, _b: &Binding) -> Result<()> { Ok(()) }
 /// l
 pub fn load(_p: impl AsRef<std::path::Path>) -> Result<Self> { Ok(Self) }
 /// s
 pub fn save(&self, _p: impl AsRef<std::path::Path>) -> Result<()> { Ok(()) }
 /// a
 pub fn alpha(&self) -> f64 { 0.01 }
 /// d
 pub fn delta(&self) -> f64 { 0.05 }
 /// t
 pub fn threshold(&self) -> f64 { 0.0 }
 /// b
 pub fn band(&self) -> (f64, f64) { (0.0, 0.01) }
 /// i
 pub fn images(&self) -> usize { 0 }
}
