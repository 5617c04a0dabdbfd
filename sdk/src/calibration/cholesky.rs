//! Cholesky factor of a small symmetric positive definite matrix, packed: row i holds its columns
//! 0..=i.

/// Number of packed values of a symmetric matrix with `dimension` rows.
pub(super) const fn packed_len(dimension: usize) -> usize {
    dimension * (dimension + 1) / 2
}

/// The lower triangular L with `L L^T = A`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cholesky {
    dimension: usize,
    lower: Vec<f64>,
}

impl Cholesky {
    /// Factors the packed matrix; `None` unless it has the right length, is finite and positive
    /// definite.
    pub(super) fn new(dimension: usize, packed: &[f64]) -> Option<Self> {
        if packed.len() != packed_len(dimension) || packed.iter().any(|v| !v.is_finite()) {
            return None;
        }
        let mut lower = packed.to_vec();
        for i in 0..dimension {
            let row = packed_len(i);
            for j in 0..=i {
                let column = packed_len(j);
                let dot: f64 = (0..j).map(|k| lower[row + k] * lower[column + k]).sum();
                let rest = lower[row + j] - dot;
                lower[row + j] = if i == j { rest.sqrt() } else { rest / lower[column + j] };
            }
            let pivot = lower[row + i];
            let positive = pivot > 0.0 && pivot.is_finite();
            if !positive {
                return None;
            }
        }
        Some(Self { dimension, lower })
    }

    /// `ln det A`.
    pub(super) fn log_det(&self) -> f64 {
        (0..self.dimension).map(|i| 2.0 * self.lower[packed_len(i) + i].ln()).sum()
    }

    /// `x^T A^-1 x` for a vector of the matrix's dimension.
    pub(super) fn mahalanobis(&self, x: &[f64]) -> f64 {
        let mut solved: Vec<f64> = Vec::with_capacity(self.dimension);
        for (i, &value) in x.iter().enumerate() {
            let row = &self.lower[packed_len(i)..packed_len(i + 1)];
            let dot: f64 = row.iter().zip(&solved).map(|(l, s)| l * s).sum();
            solved.push((value - dot) / row[i]);
        }
        solved.iter().map(|v| v * v).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [[4, 2, 2], [2, 5, 3], [2, 3, 6]] = L L^T with L = [[2], [1, 2], [1, 1, 2]].
    const MATRIX: [f64; 6] = [4.0, 2.0, 5.0, 2.0, 3.0, 6.0];

    #[test]
    fn a_matrix_solved_by_hand() {
        let cholesky = Cholesky::new(3, &MATRIX).unwrap();
        assert_eq!(cholesky.lower, [2.0, 1.0, 2.0, 1.0, 1.0, 2.0]);
        assert!((cholesky.log_det() - 64f64.ln()).abs() < 1e-12);
        // L y = (2, 5, 8) has y = (1, 2, 2.5).
        assert!((cholesky.mahalanobis(&[2.0, 5.0, 8.0]) - 11.25).abs() < 1e-12);
    }

    #[test]
    fn other_matrices_are_refused() {
        let with = |i: usize, value| {
            let mut matrix = MATRIX;
            matrix[i] = value;
            Cholesky::new(3, &matrix)
        };
        assert!(with(2, 5.1).is_some());
        assert!(with(2, 1.0).is_none(), "singular");
        assert!(with(5, -6.0).is_none(), "indefinite");
        assert!(with(0, 0.0).is_none());
        assert!(with(3, f64::NAN).is_none());
        assert!(with(0, f64::INFINITY).is_none());
        assert!(Cholesky::new(2, &MATRIX).is_none());
    }
}
