//! The rounding mode of the calling thread. Rust is compiled for rounding to nearest, and a host may have set another.
//!
//! In another mode sums are biased and tricks with the bits of numbers give wrong digits: engines on the CPU refuse to
//! compute. A host that flushes denormals changes results by less than 1e-37 only, which is let be.

use std::hint::black_box;

/// What is wrong with the rounding of the calling thread, if anything.
pub(super) fn check() -> Result<(), &'static str> {
    // Hidden from the compiler, which would compute the sums itself.
    let sum = |a: f32, b: f32| black_box(a) + black_box(b);
    let quarter = f32::EPSILON / 4.0;
    if sum(1.0, quarter) != 1.0 {
        return Err("the calling thread rounds up, need to nearest");
    }
    if sum(-1.0, -quarter) != -1.0 {
        return Err("the calling thread rounds down, need to nearest");
    }
    if sum(1.0, 3.0 * quarter) == 1.0 {
        return Err("the calling thread rounds towards zero, need to nearest");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_default_mode_is_accepted() {
        // Other modes cannot be set in safe code: tests/cpu.rs sets them.
        assert_eq!(super::check(), Ok(()));
    }
}
