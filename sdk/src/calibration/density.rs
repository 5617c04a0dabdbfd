//! [`Density`]: how probable a score vector is among those of normal images.
//!
//! Two-sided and joint: too likely is as strange as too unlikely, and so is a combination that does
//! not go together.

use serde::{Deserialize, Serialize};

use super::em;
use super::mixture::Mixture;
use crate::error::{Error, Result};

/// A mixture of Gaussians over the standardised statistics.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Density {
    /// Mean of each statistic, [D].
    center: Vec<f64>,
    /// Standard deviation of each statistic, [D].
    scale: Vec<f64>,
    mixture: Mixture,
}

impl Density {
    /// The density of `vectors` [N][D], in random order.
    ///
    /// A statistic that hardly varies among them is given a spread of a millionth of its size: any
    /// other value is then very strange.
    ///
    /// # Errors
    /// [`Error::NonFinite`] if a value or the result is not finite, or there is no vector.
    pub(super) fn fit(vectors: &[Vec<f64>], seed: u64) -> Result<Self> {
        let dimension = vectors.first().map_or(0, Vec::len);
        let n = vectors.len() as f64;
        let mean = |of: &dyn Fn(&Vec<f64>) -> f64| vectors.iter().map(of).sum::<f64>() / n;
        let center: Vec<f64> = (0..dimension).map(|i| mean(&|v| v[i])).collect();
        let spread = |(i, &c): (usize, &f64)| {
            let deviation = mean(&|v| (v[i] - c) * (v[i] - c)).sqrt();
            deviation.max(LEAST_SPREAD * c.abs().max(1.0))
        };
        let scale: Vec<f64> = center.iter().enumerate().map(spread).collect();
        let standardised: Vec<_> =
            vectors.iter().map(|v| standardise(v, &center, &scale)).collect();
        let mixture = em::select(&standardised, seed);
        let mixture = mixture.ok_or(Error::NonFinite { what: "density of the score vectors" })?;
        let density = Self { center, scale, mixture };
        // An overflowing spread would standardise every vector to zero.
        match density.fault() {
            None => Ok(density),
            Some(_) => Err(Error::NonFinite { what: "density of the score vectors" }),
        }
    }

    /// Number of statistics.
    pub(super) fn dimension(&self) -> usize {
        self.mixture.dimension()
    }

    /// Number of Gaussians.
    pub(super) fn components(&self) -> usize {
        self.mixture.components().len()
    }

    /// Negative log-density of the standardised vector, nats; higher = stranger.
    ///
    /// # Errors
    /// [`Error::NonFinite`] if a value is, or is so far away that its square overflows.
    pub(super) fn strangeness(&self, vector: &[f64]) -> Result<f64> {
        let score = -self.mixture.log_density(&standardise(vector, &self.center, &self.scale));
        if score.is_finite() { Ok(score) } else { Err(Error::NonFinite { what: "score" }) }
    }

    /// Why the density cannot be used: its parts do not fit together or are not finite.
    pub(super) fn fault(&self) -> Option<String> {
        let dimension = self.dimension();
        if self.center.len() != dimension || self.center.iter().any(|v| !v.is_finite()) {
            return Some(format!("the centre of the density is not {dimension} finite values"));
        }
        if self.scale.len() != dimension || !self.scale.iter().all(|v| v.is_finite() && *v > 0.0) {
            return Some(format!("the scale of the density is not {dimension} values above 0"));
        }
        None
    }
}

fn standardise(vector: &[f64], center: &[f64], scale: &[f64]) -> Vec<f64> {
    let parts = vector.iter().zip(center).zip(scale);
    parts.map(|((value, center), scale)| (value - center) / scale).collect()
}

/// Smallest standard deviation, relative to the statistic or to 1, whichever is larger.
const LEAST_SPREAD: f64 = 1e-6;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preprocess::noise;

    fn normals(n: usize) -> Vec<Vec<f64>> {
        let noise = noise::normal(2, 0, n);
        noise.iter().map(|&v| vec![10.0 + 2.0 * f64::from(v), 5.0]).collect()
    }

    #[test]
    fn both_tails_are_strange_and_units_do_not_matter() {
        let density = Density::fit(&normals(90), 1).unwrap();
        assert_eq!((density.dimension(), density.components()), (2, 1));
        let score = |x: f64| density.strangeness(&[x, 5.0]).unwrap();
        assert!(score(2.0) > score(8.0) && score(18.0) > score(12.0));
        let thousand = |v: &Vec<f64>| v.iter().map(|x| x * 1000.0).collect();
        let scaled: Vec<Vec<f64>> = normals(90).iter().map(thousand).collect();
        let scaled = Density::fit(&scaled, 1).unwrap();
        let other = scaled.strangeness(&[12_000.0, 5000.0]).unwrap();
        assert!((score(12.0) - other).abs() < 1e-9);
    }

    #[test]
    fn a_change_of_a_constant_statistic_is_very_strange() {
        let density = Density::fit(&normals(90), 1).unwrap();
        let typical = density.strangeness(&[10.0, 5.0]).unwrap();
        assert!(density.strangeness(&[10.0, 5.001]).unwrap() > typical + 1e6);
    }

    #[test]
    fn numbers_that_are_not_finite_are_errors() {
        let density = Density::fit(&normals(90), 1).unwrap();
        for x in [f64::NAN, f64::INFINITY, 1e300] {
            assert!(density.strangeness(&[x, 5.0]).is_err(), "{x}");
        }
        assert!(Density::fit(&[vec![f64::NAN], vec![1.0]], 1).is_err());
        assert!(Density::fit(&[vec![1e300], vec![1.0]], 1).is_err());
        assert!(Density::fit(&[], 1).is_err());
    }
}
