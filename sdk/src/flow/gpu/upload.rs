//! 8-bit images → states at every noise floor, on the device.

use super::layout::Layout;
use super::network::{LEGS, interleaved};
use super::shader::{Dispatch, Resource, Shader};
use crate::flow::Starts;
use crate::flow::plan::Plan;
use crate::preprocess::{Dequantization, Pixels, Preprocess, Shape, noise};

/// What the images of a run are.
#[derive(Clone, Copy)]
pub(super) enum Images<'a> {
    /// Values in the model's range, [C, H, W] each, leg by leg.
    Values(&'a [&'a [f32]]),
    /// 8-bit images that all legs start from.
    Pixels(&'a [&'a Pixels], &'a Starts),
}

impl Images<'_> {
    /// Number of states.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Values(images) => images.len(),
            Self::Pixels(images, starts) => images.len() * starts.noise_floors().len(),
        }
    }
}

/// Words of an 8-bit image on the device.
pub(super) fn words(shape: Shape) -> usize {
    shape.len().div_ceil(4)
}

/// The affine map from 8-bit values to the model's range in whole numbers: `(2^24 (k + u) - zero) unit`.
struct Map {
    zero: u32,
    unit: f32,
}

impl Map {
    /// `None` where the numbers are not whole: where the scale is no power of two, or the offset does not lie between
    /// the values that it moves.
    fn new(preprocess: &Preprocess) -> Option<Self> {
        let unit = preprocess.scale / f64::from(1u32 << 24);
        let power =
            preprocess.scale.to_bits() << 12 == 0 && (1e-9..1e9).contains(&preprocess.scale);
        let zero = -preprocess.offset / unit;
        let whole = zero.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&zero);
        (power && whole).then_some(Self { zero: zero as u32, unit: unit as f32 })
    }
}

/// The kernel that makes states of 8-bit images; `None` where it would not give the CPU's values bit by bit.
pub(super) fn dispatch(
    plan: &Plan,
    layout: &Layout,
    preprocess: &Preprocess,
) -> Option<Result<Dispatch, String>> {
    let Map { zero, unit } = Map::new(preprocess)?;
    let shape = preprocess.shape;
    let seed = match preprocess.dequantization {
        Dequantization::Midpoint => None,
        Dequantization::Uniform { seed } => Some(seed),
    };
    let key = seed.unwrap_or(0);
    let mut shader = Shader::new();
    shader.number("VALUES", shape.len());
    shader.number("CHANNELS", shape.channels);
    shader.number("WORDS", words(shape));
    shader.number("STATE_IMAGE", layout.stride(plan.input));
    shader.number("KEY_LOW", (key & 0xffff_ffff) as usize);
    shader.number("KEY_HIGH", (key >> 32) as usize);
    shader.number("STREAM", noise::DEQUANTIZATION as usize);
    shader.flag("MIDPOINT", seed.is_none());
    shader.number("ZERO", zero as usize);
    shader.constants.insert("UNIT", super::generate::number(unit));
    shader.bind("pixels", "u32", Resource::Pixels, true);
    shader.bind("floors", "f32", Resource::Floors, true);
    shader.bind("state", "f32", Resource::Slot(layout.memory.slot[plan.input]), false);
    let groups = [shape.len().div_ceil(256), 1, 1];
    Some(shader.dispatch("upload", include_str!("shaders/upload.wgsl"), &[], groups, 0))
}

/// Bytes of the noise of all legs.
pub(super) fn floor_bytes(shape: Shape, legs: usize) -> usize {
    (shape.len() + 1) * legs.min(LEGS) * 4
}

/// Of every leg t0, then `(1 - t0) n` of every value, [H, W, C].
pub(super) fn floors(starts: &Starts) -> Vec<f32> {
    let shape = starts.preprocess().shape;
    let leg = |(&t0, noise): (&f64, &Vec<f32>)| -> Vec<f32> {
        let floor = (1.0 - t0) as f32;
        let noise = interleaved(noise, shape).map(|n| floor * n);
        std::iter::once(t0 as f32).chain(noise).collect()
    };
    starts.noise_floors().iter().zip(starts.noise()).flat_map(leg).collect()
}

/// The bytes of all images, each padded to whole words.
pub(super) fn bytes(images: &[&Pixels], shape: Shape) -> Vec<u8> {
    let size = words(shape) * 4;
    let mut bytes = vec![0; images.len() * size];
    for (image, to) in images.iter().zip(bytes.chunks_exact_mut(size)) {
        to[..image.data.len()].copy_from_slice(&image.data);
    }
    bytes
}
