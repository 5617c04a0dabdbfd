//! The only numeric tolerances of the suites, each with its reason, and the only comparison.

/// How far a value may be from the expected one: `absolute + relative * |expected|`.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    /// In the unit of the compared value.
    pub absolute: f64,
    /// Per unit of the expected value.
    pub relative: f64,
}

/// Bits per dimension, engine against closed form: a state in f32 has a relative error of about 1e-6 after eight
/// steps; a wrong term is worth more than 0.01.
pub const BITS_PER_DIM: Tolerance = Tolerance { absolute: 1e-3, relative: 0.0 };

/// Values of a latent, or their squares: the f32 state through up to eight steps.
pub const LATENT: Tolerance = Tolerance { absolute: 1e-4, relative: 1e-4 };

/// Nats per dimension between two schedules of one exact map: the same rounding as [`LATENT`].
pub const NATS_PER_DIM: Tolerance = Tolerance { absolute: 1e-4, relative: 1e-5 };

/// Bits per dimension of a map that is inverted: a residual of 1e-4 per step, amplified by 1 over the deviation, 0.1.
pub const INVERTED_BITS_PER_DIM: Tolerance = Tolerance { absolute: 5e-3, relative: 0.0 };

/// Mean square of about 3 000 standard normal values: its standard deviation is 0.026; this is five of them.
pub const MEAN_SQUARE: Tolerance = Tolerance { absolute: 0.13, relative: 0.0 };

/// Mean absolute difference in bits per dimension of a few-step map from the many-step likelihood of its teacher.
pub const REFERENCE_BITS_PER_DIM: Tolerance = Tolerance { absolute: 0.4, relative: 0.0 };

/// Bits per dimension between two engines in f32.
pub const ENGINE_BITS_PER_DIM: Tolerance = Tolerance { absolute: 1e-4, relative: 0.0 };

/// Bits per dimension between f16 storage and f32.
pub const F16_BITS_PER_DIM: Tolerance = Tolerance { absolute: 2e-3, relative: 0.0 };

/// Values of one kernel in f32 against f64: sums of at most some thousand terms of unit size.
pub const KERNEL: Tolerance = Tolerance { absolute: 3e-5, relative: 3e-5 };

/// The same with f16 storage: half a unit in the last place of f16 is 2^-11, of inputs, weights and output.
pub const KERNEL_F16: Tolerance = Tolerance { absolute: 2e-2, relative: 4e-3 };

/// Grey levels of a sampled pixel: a value next to the border between two bins may fall on either side.
pub const GREY_LEVEL: Tolerance = Tolerance { absolute: 1.0, relative: 0.0 };

/// Where the values differ most from what they should be, if that is too far.
///
/// Written in the accepting form: a NaN is on neither side of a bound, so it has to be refused.
///
/// # Errors
/// Says how many values are wrong, and the index, the value and the expected value of the first.
pub fn compare(got: &[f64], need: &[f64], tolerance: Tolerance) -> Result<(), String> {
    if got.len() != need.len() {
        return Err(format!("got {} values, need {}", got.len(), need.len()));
    }
    let accepted =
        |(g, n): (f64, f64)| (g - n).abs() <= tolerance.absolute + tolerance.relative * n.abs();
    let pairs = || got.iter().copied().zip(need.iter().copied());
    match pairs().position(|pair| !accepted(pair)) {
        None => Ok(()),
        Some(i) => {
            let wrong = pairs().filter(|&pair| !accepted(pair)).count();
            let (g, n) = (got[i], need[i]);
            Err(format!("{wrong} of {} differ, first at {i}: got {g}, need {n}", got.len()))
        }
    }
}

/// Fails the test unless `got` is close to `need`.
///
/// # Panics
/// With `what`, the index and both values.
#[track_caller]
pub fn assert_close(what: &str, got: &[f64], need: &[f64], tolerance: Tolerance) {
    if let Err(why) = compare(got, need, tolerance) {
        panic!("{what}: {why} ({tolerance:?})");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_times_the_tolerance_nan_and_other_lengths_are_refused() {
        let need = [0.0, 1.0, -250.0, 3e-7];
        for tolerance in [
            BITS_PER_DIM,
            LATENT,
            NATS_PER_DIM,
            MEAN_SQUARE,
            REFERENCE_BITS_PER_DIM,
            KERNEL,
            KERNEL_F16,
            ENGINE_BITS_PER_DIM,
            F16_BITS_PER_DIM,
            INVERTED_BITS_PER_DIM,
            GREY_LEVEL,
        ] {
            compare(&need, &need, tolerance).unwrap();
            for i in 0..need.len() {
                let step = tolerance.absolute + tolerance.relative * need[i].abs();
                for wrong in [need[i] + 10.0 * step, need[i] - 10.0 * step, f64::NAN, f64::INFINITY]
                {
                    let mut got = need;
                    got[i] = wrong;
                    let why = compare(&got, &need, tolerance).unwrap_err();
                    assert!(why.contains(&format!("first at {i}: got {wrong}")), "{why}");
                }
                let mut got = need;
                got[i] += 0.5 * step;
                compare(&got, &need, tolerance).unwrap();
            }
            assert!(compare(&need[1..], &need, tolerance).is_err());
            assert!(compare(&[f64::NAN], &[f64::NAN], tolerance).is_err());
        }
    }
}
