//! [`Mixture`]: a mixture of Gaussians with full covariances.

use serde::{Deserialize, Serialize};

use super::cholesky::Cholesky;
use crate::likelihood::LOG_TAU;

/// One Gaussian of a mixture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Component {
    /// Share of the mixture, above 0.
    pub(super) weight: f64,
    /// Centre, [D].
    pub(super) mean: Vec<f64>,
    /// Covariance, packed row by row: D (D + 1) / 2 values.
    pub(super) covariance: Vec<f64>,
}

/// Gaussians of one dimension whose weights sum to 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Component>", into = "Vec<Component>")]
pub(super) struct Mixture {
    components: Vec<Component>,
    factors: Vec<Factor>,
}

/// What the log-density of a component is computed from.
#[derive(Clone, Debug, PartialEq)]
struct Factor {
    cholesky: Cholesky,
    /// `ln weight - ln det(2 pi covariance) / 2`
    log_scale: f64,
}

impl Mixture {
    /// Number of values of a point.
    pub(super) fn dimension(&self) -> usize {
        self.components.first().map_or(0, |c| c.mean.len())
    }

    pub(super) fn components(&self) -> &[Component] {
        &self.components
    }

    /// `ln(weight * density)` of each component at `x`, [D].
    pub(super) fn terms(&self, x: &[f64]) -> Vec<f64> {
        let term = |(component, factor): (&Component, &Factor)| {
            let offset: Vec<f64> = x.iter().zip(&component.mean).map(|(x, m)| x - m).collect();
            factor.log_scale - 0.5 * factor.cholesky.mahalanobis(&offset)
        };
        self.components.iter().zip(&self.factors).map(term).collect()
    }

    /// Log-density at `x`, [D], in nats. Not finite where `x` is not, or so far away that its
    /// square overflows.
    pub(super) fn log_density(&self, x: &[f64]) -> f64 {
        log_sum_exp(&self.terms(x))
    }
}

/// `ln Σ exp(term)`; NaN if any term is.
pub(super) fn log_sum_exp(terms: &[f64]) -> f64 {
    let largest = terms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if largest == f64::NEG_INFINITY {
        return if terms.iter().any(|t| t.is_nan()) { f64::NAN } else { largest };
    }
    largest + terms.iter().map(|t| (t - largest).exp()).sum::<f64>().ln()
}

impl TryFrom<Vec<Component>> for Mixture {
    type Error = String;

    fn try_from(components: Vec<Component>) -> Result<Self, String> {
        let dimension = components.first().map_or(0, |c| c.mean.len());
        if dimension == 0 {
            return Err("the density has no components or no dimensions".into());
        }
        let total: f64 = components.iter().map(|c| c.weight).sum();
        let normalised = (total - 1.0).abs() <= WEIGHT_TOLERANCE;
        if !normalised {
            return Err(format!("weights of the density sum to {total}, need 1"));
        }
        let factors = components.iter().map(|component| {
            let positive = component.weight > 0.0;
            if !positive {
                return Err(format!(
                    "a weight of the density is {}, need above 0",
                    component.weight
                ));
            }
            if component.mean.len() != dimension || component.mean.iter().any(|v| !v.is_finite()) {
                return Err(format!("a mean of the density is not {dimension} finite values"));
            }
            let cholesky = Cholesky::new(dimension, &component.covariance)
                .ok_or("a covariance of the density is not a positive definite matrix")?;
            let log_det = dimension as f64 * LOG_TAU + cholesky.log_det();
            Ok(Factor { cholesky, log_scale: component.weight.ln() - 0.5 * log_det })
        });
        let factors = factors.collect::<Result<_, String>>()?;
        Ok(Self { components, factors })
    }
}

impl From<Mixture> for Vec<Component> {
    fn from(mixture: Mixture) -> Self {
        mixture.components
    }
}

/// Rounding of a sum of a few weights.
const WEIGHT_TOLERANCE: f64 = 1e-9;

#[cfg(test)]
mod tests {
    use super::*;

    fn component(weight: f64, mean: [f64; 2], covariance: [f64; 3]) -> Component {
        Component { weight, mean: mean.into(), covariance: covariance.into() }
    }

    #[test]
    fn one_component_is_the_closed_form_gaussian() {
        let mixture =
            Mixture::try_from(vec![component(1.0, [1.0, -1.0], [2.0, 0.5, 1.0])]).unwrap();
        // det = 1.75, inverse = [[1, -0.5], [-0.5, 2]] / 1.75, at an offset of (2, 1).
        let square = (4.0 - 2.0 + 2.0) / 1.75;
        let expected = -0.5 * square - 0.5 * 1.75f64.ln() - LOG_TAU;
        let close = |got: f64| (got - expected).abs() <= 1e-12;
        assert!(close(mixture.log_density(&[3.0, 0.0])));
        assert!(!close(mixture.log_density(&[3.0, 1e-6])));
        assert!(!close(mixture.log_density(&[3.0, f64::NAN])));
    }

    #[test]
    fn components_add_up_also_where_both_underflow() {
        let far = [
            component(0.25, [0.0, 0.0], [1.0, 0.0, 1.0]),
            component(0.75, [0.0, 0.0], [1.0, 0.0, 1.0]),
        ];
        let mixture = Mixture::try_from(far.to_vec()).unwrap();
        let x = [100.0, 0.0];
        assert!((mixture.log_density(&x) - (-5000.0 - LOG_TAU)).abs() < 1e-9);
        assert_eq!(mixture.log_density(&[1e200, 0.0]), f64::NEG_INFINITY);
        assert!(mixture.log_density(&[f64::NAN, 0.0]).is_nan());
        assert!(log_sum_exp(&[f64::NAN, 1.0]).is_nan());
    }

    #[test]
    fn unusable_components_are_refused_with_the_reason() {
        let good = component(0.5, [0.0, 0.0], [1.0, 0.0, 1.0]);
        let refused = |components: Vec<Component>| Mixture::try_from(components).unwrap_err();
        assert!(refused(vec![]).contains("no components"));
        assert!(refused(vec![good.clone()]).contains("sum to 0.5"));
        let pair = |change: fn(&mut Component)| {
            let mut other = good.clone();
            change(&mut other);
            refused(vec![good.clone(), other])
        };
        assert!(pair(|c| c.mean[0] = f64::NAN).contains("mean"));
        assert!(pair(|c| c.mean.push(0.0)).contains("mean"));
        assert!(pair(|c| c.covariance[0] = -1.0).contains("positive definite"));
        assert!(pair(|c| c.covariance.push(0.0)).contains("positive definite"));
        assert!(pair(|c| c.weight = f64::NAN).contains("sum to NaN"));
        let negative =
            [component(1.5, [0.0; 2], [1.0, 0.0, 1.0]), component(-0.5, [0.0; 2], [1.0, 0.0, 1.0])];
        assert!(refused(negative.to_vec()).contains("-0.5"));
    }
}
