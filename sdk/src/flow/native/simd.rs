//! Instruction sets, and the functions of vectors that the kernels share.
//!
//! Kernels are written once, against `pulp::Simd`, in safe Rust; which instruction set runs is decided when an engine
//! opens. `F2D2_CPU` = `avx512`, `avx2`, `neon` or `portable` forces one.

use std::fmt;

use pulp::{Scalar128b, Simd, WithSimd};

use crate::error::{Error, Result};

/// An instruction set that this processor has.
#[derive(Clone, Copy, Debug)]
pub(super) enum InstructionSet {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2(pulp::x86::V3),
    #[cfg(target_arch = "x86_64")]
    Avx512(pulp::x86::V4),
    #[cfg(target_arch = "aarch64")]
    Neon(pulp::aarch64::Neon),
}

const FORCE: &str = "F2D2_CPU";

impl InstructionSet {
    /// The best one, or the one that the environment asks for.
    pub(super) fn detect() -> Result<Self> {
        match std::env::var(FORCE) {
            Ok(name) if !name.is_empty() => Self::named(&name),
            _ => Ok(Self::all().pop().unwrap_or(Self::Portable)),
        }
    }

    /// The instruction set called `name`.
    pub(super) fn named(name: &str) -> Result<Self> {
        let found = Self::all().into_iter().find(|set| set.to_string() == name);
        found.ok_or_else(|| {
            let names: Vec<String> = Self::all().iter().map(ToString::to_string).collect();
            Error::option(
                "instruction set",
                name,
                format!("{} on this processor", names.join(", ")),
            )
        })
    }

    /// All that this processor has, the best last.
    pub(super) fn all() -> Vec<Self> {
        let mut all = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            all.extend(pulp::x86::V3::try_new().map(Self::Avx2));
            all.extend(pulp::x86::V4::try_new().map(Self::Avx512));
        }
        #[cfg(target_arch = "aarch64")]
        all.extend(pulp::aarch64::Neon::try_new().map(Self::Neon));
        all
    }

    /// Values of one vector.
    pub(super) fn lanes(self) -> usize {
        match self {
            Self::Portable => Scalar128b::F32_LANES,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => pulp::x86::V3::F32_LANES,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => pulp::x86::V4::F32_LANES,
            #[cfg(target_arch = "aarch64")]
            Self::Neon(_) => pulp::aarch64::Neon::F32_LANES,
        }
    }

    /// Vectors side by side in one panel of weights: as many as the registers allow.
    pub(super) fn panel_vectors(self) -> usize {
        match self {
            Self::Portable => 2,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => 2,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => 4,
            #[cfg(target_arch = "aarch64")]
            Self::Neon(_) => 4,
        }
    }

    /// Runs `work` with this instruction set.
    pub(super) fn run<Op: WithSimd>(self, work: Op) -> Op::Output {
        match self {
            Self::Portable => Simd::vectorize(Scalar128b, work),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(simd) => Simd::vectorize(simd, work),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(simd) => Simd::vectorize(simd, work),
            #[cfg(target_arch = "aarch64")]
            Self::Neon(simd) => Simd::vectorize(simd, work),
        }
    }
}

impl fmt::Display for InstructionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => "avx512",
            #[cfg(target_arch = "aarch64")]
            Self::Neon(_) => "neon",
        })
    }
}

/// The first `n` of `values`, zeros after them.
#[inline(always)]
pub(super) fn load<S: Simd>(simd: S, values: &[f32], n: usize) -> S::f32s {
    if n == S::F32_LANES {
        S::as_simd_f32s(&values[..S::F32_LANES]).0[0]
    } else {
        simd.partial_load_f32s(&values[..n])
    }
}

/// `exp(x)` to about one unit in the last place between -87 and 88, and the value at the end beyond.
#[inline(always)]
pub(super) fn exp<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let constant = |v: f32| simd.splat_f32s(v);
    let x = simd.min_f32s(simd.max_f32s(x, constant(-87.0)), constant(88.0));
    let magic = constant(MAGIC);
    let shifted = simd.mul_add_e_f32s(x, constant(std::f32::consts::LOG2_E), magic);
    let n = simd.sub_f32s(shifted, magic);
    // ln 2 in two parts, the first exact in few bits.
    let r = simd.mul_add_e_f32s(n, constant(-0.693_359_4), x);
    let r = simd.mul_add_e_f32s(n, constant(2.121_944_4e-4), r);
    let coefficients =
        [1.987_569_2e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];
    let mut p = constant(coefficients[0]);
    for &c in &coefficients[1..] {
        p = simd.mul_add_e_f32s(p, r, constant(c));
    }
    let p = simd.mul_add_e_f32s(p, simd.mul_f32s(r, r), simd.add_f32s(r, constant(1.0)));
    let exponent =
        simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(shifted), simd.splat_u32s(23));
    let bits = simd.add_u32s(simd.transmute_u32s_f32s(p), exponent);
    simd.transmute_f32s_u32s(bits)
}

/// `1 / (1 + exp(-x))`; not-a-number stays one.
#[inline(always)]
pub(super) fn sigmoid<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    simd.select_f32s(simd.equal_f32s(x, x), logistic(simd, x), x)
}

/// `x / (1 + exp(-x))`; not-a-number stays one.
#[inline(always)]
pub(super) fn silu<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    simd.mul_f32s(x, logistic(simd, x))
}

/// `tanh(x)` to two units in the last place; not-a-number stays one.
#[inline(always)]
pub(super) fn tanh<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let constant = |v: f32| simd.splat_f32s(v);
    let size = simd.abs_f32s(x);
    // 1 - 2 / (exp(2 |x|) + 1) loses digits near 0: there an odd polynomial, whose relative error is below 5e-9.
    let e = simd.add_f32s(exp(simd, simd.add_f32s(size, size)), constant(1.0));
    let far = simd.sub_f32s(constant(1.0), simd.div_f32s(constant(2.0), e));
    let square = simd.mul_f32s(x, x);
    let coefficients =
        [-5.717_044_5e-3, 2.065_050_7e-2, -5.374_35e-2, 1.333_149_1e-1, -3.333_328_4e-1];
    let mut p = constant(coefficients[0]);
    for &c in &coefficients[1..] {
        p = simd.mul_add_e_f32s(p, square, constant(c));
    }
    let near = simd.mul_add_e_f32s(simd.mul_f32s(p, square), size, size);
    let small = simd.less_than_f32s(size, constant(0.625));
    let result = simd.select_f32s(small, near, far);
    let negative = simd.less_than_f32s(x, constant(0.0));
    let result = simd.select_f32s(negative, simd.neg_f32s(result), result);
    simd.select_f32s(simd.equal_f32s(x, x), result, x)
}

/// `1 / (1 + exp(-x))` of numbers: to 5e-7 of the value between -10 and 10, to 2e-6 where it vanishes. Convolutions
/// call it for every input: hence an exponential of its own, with fewer terms, and no division.
#[inline(always)]
fn logistic<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let constant = |v: f32| simd.splat_f32s(v);
    let x = simd.min_f32s(simd.max_f32s(x, constant(-87.0)), constant(87.0));
    // 2^-(x / ln 2) as 2^n 2^f.
    let (magic, base) = (constant(MAGIC), constant(-std::f32::consts::LOG2_E));
    let shifted = simd.mul_add_e_f32s(x, base, magic);
    let f = simd.mul_add_e_f32s(x, base, simd.sub_f32s(magic, shifted));
    reciprocal(simd, simd.add_f32s(scaled_power(simd, f, shifted), constant(1.0)))
}

/// `2^x` to 2e-7 from -126 to 126, and the value at the end below.
#[inline(always)]
pub(super) fn power_of_two<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let constant = |v: f32| simd.splat_f32s(v);
    let x = simd.max_f32s(x, constant(-126.0));
    let magic = constant(MAGIC);
    let shifted = simd.add_f32s(x, magic);
    let f = simd.sub_f32s(x, simd.sub_f32s(shifted, magic));
    scaled_power(simd, f, shifted)
}

/// Adding 1.5 * 2^23 leaves the rounded number in the low bits of the sum.
const MAGIC: f32 = 12_582_912.0;

/// `2^(n + f)` for f between -1/2 and 1/2, and n in the low bits of `shifted`.
#[inline(always)]
fn scaled_power<S: Simd>(simd: S, f: S::f32s, shifted: S::f32s) -> S::f32s {
    // A polynomial of degree 5 that is 1 at 0; its relative error is at most about 1e-7.
    let coefficients =
        [1.326_473e-3, 9.671_513e-3, 5.550_733_6e-2, 0.240_222_42, std::f32::consts::LN_2, 1.0];
    let mut p = simd.splat_f32s(coefficients[0]);
    for &c in &coefficients[1..] {
        p = simd.mul_add_e_f32s(p, f, simd.splat_f32s(c));
    }
    let exponent =
        simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(shifted), simd.splat_u32s(23));
    simd.transmute_f32s_u32s(simd.add_u32s(simd.transmute_u32s_f32s(p), exponent))
}

/// `1 / x` of numbers from 1 to 1e38, to 3e-7: a division is slower than an approximation and a step of Newton's
/// method where there is an instruction for the approximation.
#[inline(always)]
fn reciprocal<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let one = simd.splat_f32s(1.0);
    match about_reciprocal(simd, x) {
        Some(guess) => {
            let error = simd.mul_add_e_f32s(simd.neg_f32s(x), guess, one);
            simd.mul_add_e_f32s(guess, error, guess)
        }
        None => simd.div_f32s(one, x),
    }
}

/// `1 / x` to 4e-4, where there is an instruction for it.
#[inline(always)]
fn about_reciprocal<S: Simd>(simd: S, x: S::f32s) -> Option<S::f32s> {
    #[cfg(target_arch = "x86_64")]
    {
        let any: &dyn std::any::Any = &simd;
        let mut guess = x;
        let parts = std::slice::from_mut(&mut guess);
        if let Some(v4) = any.downcast_ref::<pulp::x86::V4>() {
            for part in bytemuck::cast_slice_mut::<_, pulp::f32x16>(parts) {
                *part = pulp::cast(v4.avx512f._mm512_rcp14_ps(pulp::cast(*part)));
            }
            return Some(guess);
        }
        if let Some(v3) = any.downcast_ref::<pulp::x86::V3>() {
            for part in bytemuck::cast_slice_mut(parts) {
                *part = v3.approx_reciprocal_f32x8(*part);
            }
            return Some(guess);
        }
    }
    let _ = (simd, x);
    None
}

/// Numbers in f16, of which each 32-bit word holds one of an even vector in its lower half and one of the odd vector
/// that follows in its upper half, as f32; none is infinite or not a number.
#[inline(always)]
pub(super) fn widen<S: Simd>(simd: S, words: &[f32], to: &mut [f32]) {
    let (words, to) = (S::as_simd_f32s(words).0, S::as_mut_simd_f32s(to).0.as_chunks_mut::<2>().0);
    for (&word, to) in words.iter().zip(to) {
        let word = simd.transmute_u32s_f32s(word);
        let low = simd.wrapping_dyn_shl_u32s(word, simd.splat_u32s(16));
        *to = [widen_upper(simd, low), widen_upper(simd, word)];
    }
}

/// Numbers in f16 in the upper halves of words.
#[inline(always)]
fn widen_upper<S: Simd>(simd: S, word: S::u32s) -> S::f32s {
    let sign = simd.and_u32s(word, simd.splat_u32s(0x8000_0000));
    let size = simd.and_u32s(word, simd.splat_u32s(0x7fff_0000));
    // Exponent and mantissa where those of f32 are; the exponents' biases differ by 112.
    let bits = simd.or_u32s(simd.wrapping_dyn_shr_u32s(size, simd.splat_u32s(3)), sign);
    simd.mul_f32s(simd.transmute_f32s_u32s(bits), simd.splat_f32s(f32::from_bits(0x7780_0000)))
}

/// Asks for the cache line of the first of `values` in the second-level cache, to be read soon.
#[inline(always)]
#[allow(unsafe_code)]
pub(super) fn prefetch(values: &[f32]) {
    // SAFETY: a prefetch reads nothing that the program can see and never faults, whatever the address.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(values.as_ptr().cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = values;
}

/// Values that start at a multiple of 64 bytes, as wide vectors like them.
#[derive(Clone, Debug, Default)]
pub(super) struct Aligned(Vec<Line>);

#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Line([f32; 16]);

impl Aligned {
    /// `n` zeros; at least that many are accessible.
    pub(super) fn zeros(n: usize) -> Self {
        Self(vec![Line([0.0; 16]); n.div_ceil(16)])
    }

    /// Grows to at least `n` values; keeps what is there.
    pub(super) fn reserve(&mut self, n: usize) {
        if self.0.len() < n.div_ceil(16) {
            self.0.resize(n.div_ceil(16), Line([0.0; 16]));
        }
    }

    pub(super) fn values(&self) -> &[f32] {
        bytemuck::cast_slice(&self.0)
    }

    pub(super) fn values_mut(&mut self) -> &mut [f32] {
        bytemuck::cast_slice_mut(&mut self.0)
    }
}

/// Many values in few pages: the weights of a whole network.
///
/// Walking through tens of megabytes in pages of 4 KiB costs more than reading them. Where the operating system has no
/// large pages, or refuses them, ordinary ones serve.
#[derive(Debug)]
pub(super) struct Pages(memmap2::MmapMut);

impl Pages {
    /// `n` zeros.
    pub(super) fn zeros(n: usize) -> std::io::Result<Self> {
        let map = memmap2::MmapMut::map_anon(4 * n.max(1))?;
        #[cfg(target_os = "linux")]
        {
            // Refused where the kernel was built without large pages: ordinary ones do.
            let _ = map.advise(memmap2::Advice::HugePage);
        }
        Ok(Self(map))
    }

    pub(super) fn values(&self) -> &[f32] {
        bytemuck::cast_slice(&self.0)
    }

    pub(super) fn values_mut(&mut self) -> &mut [f32] {
        bytemuck::cast_slice_mut(&mut self.0)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    struct Map<'a, F> {
        x: &'a [f32],
        y: &'a mut [f32],
        f: F,
    }

    /// A function of vectors, whatever the instruction set.
    pub(super) trait Function: Copy {
        fn apply<S: Simd>(self, simd: S, x: S::f32s) -> S::f32s;
    }

    impl<F: Function> WithSimd for Map<'_, F> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            for (x, y) in self.x.chunks(S::F32_LANES).zip(self.y.chunks_mut(S::F32_LANES)) {
                let v = self.f.apply(simd, simd.partial_load_f32s(x));
                simd.partial_store_f32s(y, v);
            }
        }
    }

    #[derive(Clone, Copy, PartialEq)]
    enum Which {
        Exp,
        Sigmoid,
        Silu,
        Tanh,
        PowerOfTwo,
    }

    impl Function for Which {
        #[inline(always)]
        fn apply<S: Simd>(self, simd: S, x: S::f32s) -> S::f32s {
            match self {
                Self::Exp => exp(simd, x),
                Self::Sigmoid => sigmoid(simd, x),
                Self::Silu => silu(simd, x),
                Self::Tanh => tanh(simd, x),
                Self::PowerOfTwo => power_of_two(simd, x),
            }
        }
    }

    #[test]
    fn functions_are_exact_to_a_few_units_in_the_last_place_and_less_so_where_they_vanish() {
        let x: Vec<f32> = (-8600..=8700).map(|i| i as f32 / 100.0).collect();
        let exact = |which: Which, x: f64| match which {
            Which::Exp => x.exp(),
            Which::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Which::Silu => x / (1.0 + (-x).exp()),
            Which::Tanh => x.tanh(),
            Which::PowerOfTwo => x.exp2(),
        };
        let all = [Which::Exp, Which::Sigmoid, Which::Silu, Which::Tanh, Which::PowerOfTwo];
        for set in InstructionSet::all() {
            for which in all {
                let mut y = vec![f32::NAN; x.len()];
                set.run(Map { x: &x, y: &mut y, f: which });
                for (&x, &y) in x.iter().zip(&y) {
                    let need = exact(which, x.into());
                    let error = (f64::from(y) - need).abs() / need.abs().max(1e-35);
                    let exponential = matches!(which, Which::Exp | Which::PowerOfTwo);
                    let most = if exponential || x.abs() <= 10.0 { 5e-7 } else { 2e-6 };
                    assert!(error < most, "{set} {x}: {y}, need {need}");
                }
            }
        }
    }

    #[test]
    fn powers_of_two_end_where_normal_numbers_do() {
        for set in InstructionSet::all() {
            let mut y = [f32::NAN; 4];
            let x = [-126.0, -127.0, f32::NEG_INFINITY, 126.0];
            set.run(Map { x: &x, y: &mut y, f: Which::PowerOfTwo });
            let least = f32::MIN_POSITIVE;
            assert_eq!(y, [least, least, least, 126f32.exp2()], "{set}");
        }
    }

    struct Widen<'a>(&'a [f32], &'a mut [f32]);

    impl WithSimd for Widen<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            widen(simd, self.0, self.1);
        }
    }

    #[test]
    fn every_number_in_f16_becomes_the_same_in_f32() {
        let finite = |bits: &u16| half::f16::from_bits(*bits).is_finite();
        let all: Vec<u16> = (0..=u16::MAX).filter(finite).collect();
        for set in InstructionSet::all() {
            let lanes = set.lanes();
            let mut words = Vec::new();
            for pair in all.chunks_exact(2 * lanes) {
                let word = |i: usize| u32::from(pair[i]) | u32::from(pair[lanes + i]) << 16;
                words.extend((0..lanes).map(|i| f32::from_bits(word(i))));
            }
            let mut values = vec![f32::NAN; 2 * words.len()];
            set.run(Widen(&words, &mut values));
            assert_eq!(values.len(), all.len(), "{set}");
            for (value, &bits) in values.iter().zip(&all) {
                assert_eq!(value.to_bits(), half::f16::from_bits(bits).to_f32().to_bits(), "{set}");
            }
        }
    }

    #[test]
    fn not_a_number_stays_one() {
        for set in InstructionSet::all() {
            for which in [Which::Sigmoid, Which::Silu, Which::Tanh] {
                let mut y = [0.0; 1];
                set.run(Map { x: &[f32::NAN], y: &mut y, f: which });
                assert!(y[0].is_nan(), "{set}");
            }
        }
    }

    #[test]
    fn an_unknown_instruction_set_is_refused() {
        assert!(InstructionSet::named("mmx").is_err());
        assert_eq!(InstructionSet::named("portable").unwrap().to_string(), "portable");
    }
}
