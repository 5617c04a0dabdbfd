use std::collections::HashMap;

use super::*;
use crate::flow::plan::{self, Activation, Call, Prologue};
use crate::model::{Limits, Model};

/// Values that look random and are the same everywhere.
fn values(n: usize, seed: u64) -> Vec<f32> {
    crate::preprocess::noise::normal(seed, crate::preprocess::noise::GOLDEN, n)
}

struct Case {
    call: Convolution,
    images: usize,
    input: Vec<f32>,
    residual: Vec<f32>,
    map: Vec<f32>,
    weights: Vec<f32>,
    bias: Vec<f32>,
}

/// One image of `size` in a buffer with `spare` values more per pixel, of which `first` come before.
fn image(
    buffer: usize,
    [height, width, channels]: [usize; 3],
    first: usize,
    spare: usize,
) -> Image {
    let pixel = channels + spare;
    Image { buffer, offset: first, height, width, channels, row: width * pixel, pixel }
}

fn len(image: &Image) -> usize {
    image.height * image.row
}

impl Case {
    fn new(kernel: [usize; 2], size: [usize; 3], outputs: usize, seed: u64) -> Self {
        let input = image(0, size, 0, 0);
        let output = image(1, [size[0], size[1], outputs], 0, 0);
        let call = Convolution {
            node: "test".into(),
            input,
            upsample: 1,
            prologue: None,
            kernel,
            stride: [1, 1],
            padding: [kernel[0] / 2, kernel[1] / 2],
            weights: 0,
            bias: Some(1),
            residual: None,
            scale: 1.0,
            output,
            interleave: 1,
            moments: Some(0),
        };
        let mut case = Self {
            call,
            images: 1,
            input: vec![],
            residual: vec![],
            map: vec![],
            weights: vec![],
            bias: vec![],
        };
        case.fill(seed);
        case
    }

    /// Draws all values anew for the sizes at hand.
    fn fill(&mut self, seed: u64) {
        let c = &self.call;
        let depth = c.kernel[0] * c.kernel[1] * c.input.channels;
        self.input = values(self.images * len(&c.input), seed);
        self.residual = values(self.images * c.residual.map_or(0, |r| len(&r)), seed + 1);
        self.map = values(self.images * 2 * c.input.channels, seed + 2);
        let scale = (depth as f32).sqrt().recip();
        self.weights = values(depth * c.columns(), seed + 3).iter().map(|w| w * scale).collect();
        self.bias = values(c.output.channels, seed + 4);
    }

    /// The definition, in f64: values of the output's buffers.
    fn expected(&self) -> Vec<f64> {
        let c = &self.call;
        let mut output = vec![f64::NAN; self.images * len(&c.output)];
        let (height, width) = (c.input.height * c.upsample, c.input.width * c.upsample);
        let [kh, kw] = c.kernel;
        for n in 0..self.images {
            let x = |y: usize, x: usize, channel: usize| -> f64 {
                let at =
                    c.input.offset + y / c.upsample * c.input.row + x / c.upsample * c.input.pixel;
                let v = f64::from(self.input[n * len(&c.input) + at + channel]);
                let Some(prologue) = &c.prologue else { return v };
                let map = &self.map[n * 2 * c.input.channels..];
                let v = v * f64::from(map[channel]) + f64::from(map[c.input.channels + channel]);
                if prologue.activation == Activation::Silu { v / (1.0 + (-v).exp()) } else { v }
            };
            let [rows, columns] = c.grid();
            for (y, xx) in (0..rows).flat_map(|y| (0..columns).map(move |x| (y, x))) {
                for column in 0..c.columns() {
                    let mut sum = 0.0;
                    for (ky, kx) in (0..kh).flat_map(|y| (0..kw).map(move |x| (y, x))) {
                        let sy = (y * c.stride[0] + ky).checked_sub(c.padding[0]);
                        let sx = (xx * c.stride[1] + kx).checked_sub(c.padding[1]);
                        let (Some(sy), Some(sx)) = (sy, sx) else { continue };
                        if sy >= height || sx >= width {
                            continue;
                        }
                        for channel in 0..c.input.channels {
                            let tap = (ky * kw + kx) * c.input.channels + channel;
                            sum += x(sy, sx, channel)
                                * f64::from(self.weights[tap * c.columns() + column]);
                        }
                    }
                    let (group, channel) = (column / c.output.channels, column % c.output.channels);
                    let oy = y * c.interleave + group / c.interleave;
                    let ox = xx * c.interleave + group % c.interleave;
                    sum += f64::from(self.bias[channel]);
                    if let Some(r) = c.residual {
                        let at = r.offset + oy * r.row + ox * r.pixel + channel;
                        sum += f64::from(self.residual[n * len(&r) + at]);
                    }
                    let at = c.output.offset + oy * c.output.row + ox * c.output.pixel + channel;
                    output[n * len(&c.output) + at] = sum * f64::from(c.scale);
                }
            }
        }
        output
    }

    /// The layer's output, poisoned where it does not write, and the merged moments.
    fn run(
        &self,
        set: InstructionSet,
        algorithm: Algorithm,
        threads: usize,
    ) -> (Vec<f32>, Vec<f32>) {
        let layer = self.layer(set, algorithm, Precision::F32);
        self.run_layer(set, &layer, threads)
    }

    /// A layer with its weights, which do not lie at the front of their pages.
    fn layer(&self, set: InstructionSet, algorithm: Algorithm, precision: Precision) -> Layer {
        let mut layer = Layer::with(set, &self.call, algorithm, precision);
        layer.set_bias(Some(&self.bias));
        let size = layer.stored();
        let mut pages = Pages::zeros(3 + size).unwrap();
        let mut staging = Aligned::default();
        let rest = layer.pack(&self.weights, &mut pages.values_mut()[3..], &mut staging);
        assert!(rest.unwrap().is_empty());
        assert_eq!(layer.found_at(&Arc::new(pages), 3), 3 + size);
        layer
    }

    fn run_layer(
        &self,
        set: InstructionSet,
        layer: &Layer,
        threads: usize,
    ) -> (Vec<f32>, Vec<f32>) {
        let mut output = vec![f32::NAN; self.images * len(&self.call.output)];
        let mut partials = vec![f32::NAN; self.images * layer.partials()];
        let scratch: Vec<Mutex<Scratch>> = (0..threads).map(|_| Mutex::default()).collect();
        let operands = Operands {
            images: self.images,
            input: &self.input,
            residual: self.call.residual.map(|_| &self.residual[..]),
            map: self.call.prologue.as_ref().map(|_| &self.map[..]),
            output: &mut output,
            partials: &mut partials,
        };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        if threads > 1 {
            pool.install(|| layer.run(set, operands, &scratch, Some(&pool)));
        } else {
            layer.run(set, operands, &scratch, None);
        }
        let size = 2 * self.call.output.channels;
        let mut moments = vec![f32::NAN; self.images * size];
        for (pieces, to) in
            partials.chunks_exact(layer.partials()).zip(moments.chunks_exact_mut(size))
        {
            super::super::moments::merge(&layer.partial(), pieces, to);
        }
        (output, moments)
    }

    fn algorithms(&self) -> Vec<Algorithm> {
        let c = &self.call;
        let mut all = vec![Algorithm::Direct];
        if c.kernel == [3, 3] && c.stride == [1, 1] && c.interleave == 1 {
            all.extend([Tile::Two, Tile::Four, Tile::Six].map(Algorithm::Winograd));
        }
        all
    }

    /// Everything about this case on every instruction set.
    fn check(&self, what: &str) {
        let need = self.expected();
        for set in InstructionSet::all() {
            for algorithm in self.algorithms() {
                let what = format!("{what}, {set}, {algorithm:?}");
                let (got, moments) = self.run(set, algorithm, 1);
                let most = tolerance(algorithm);
                let wrong = differs(&got, &need, most);
                assert!(wrong.is_none(), "{what}: {wrong:?}");
                self.check_moments(&what, &need, &moments);
                if self.images == 1 {
                    let threaded = self.run(set, algorithm, 3);
                    let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                    assert_eq!(bits(&threaded.0), bits(&got), "{what}: threads change the result");
                    assert_eq!(bits(&threaded.1), bits(&moments), "{what}: threads change moments");
                }
            }
        }
    }

    fn check_moments(&self, what: &str, output: &[f64], moments: &[f32]) {
        let o = &self.call.output;
        for n in 0..self.images {
            for c in 0..o.channels {
                let all: Vec<f64> = (0..o.pixels())
                    .map(|i| {
                        output[n * len(o)
                            + o.offset
                            + i / o.width * o.row
                            + i % o.width * o.pixel
                            + c]
                    })
                    .collect();
                let mean = all.iter().sum::<f64>() / all.len() as f64;
                let square: f64 = all.iter().map(|v| (v - mean).powi(2)).sum();
                let got = &moments[n * 2 * o.channels..];
                let (m, s) = (f64::from(got[c]), f64::from(got[o.channels + c]));
                assert!((m - mean).abs() < 1e-4, "{what}: mean {m}, need {mean}");
                assert!(
                    (s - square).abs() <= 1e-3 * (1.0 + square),
                    "{what}: square {s}, need {square}"
                );
            }
        }
    }
}

/// How far a value may be from the expected one, relative to 1 plus that. Large tiles are less exact.
fn tolerance(algorithm: Algorithm) -> f64 {
    if algorithm == Algorithm::Winograd(Tile::Six) { 1e-4 } else { 4e-5 }
}

/// The first value that is not the expected one; places that nobody writes are NaN in both.
fn differs(got: &[f32], need: &[f64], most: f64) -> Option<(usize, f32, f64)> {
    let pairs = got.iter().zip(need).enumerate();
    let wrong = |(i, (&g, &n)): (usize, (&f32, &f64))| {
        let same = if n.is_nan() {
            g.is_nan()
        } else {
            (f64::from(g) - n).abs() <= most * (1.0 + n.abs())
        };
        (!same).then_some((i, g, n))
    };
    if got.len() == need.len() { pairs.filter_map(wrong).next() } else { Some((0, f32::NAN, 0.0)) }
}

#[test]
fn the_comparison_notices_a_wrong_value_and_not_a_number() {
    let case = Case::new([3, 3], [5, 4, 3], 2, 1);
    let need = case.expected();
    let right: Vec<f32> = need.iter().map(|&v| v as f32).collect();
    assert_eq!(differs(&right, &need, 1e-4), None);
    for wrong in [right[7] + 1e-3, f32::NAN, f32::INFINITY] {
        let mut values = right.clone();
        values[7] = wrong;
        assert_eq!(differs(&values, &need, 1e-4).map(|d| d.0), Some(7));
    }
}

#[test]
fn kernels_of_any_size_over_any_channels() {
    for (i, size) in [[1, 1, 1], [1, 7, 3], [5, 3, 17], [13, 11, 16], [8, 8, 33], [4, 9, 64]]
        .into_iter()
        .enumerate()
    {
        for (j, kernel) in [[1, 1], [3, 3], [1, 3], [5, 5]].into_iter().enumerate() {
            for outputs in [1, 3, 17, 70] {
                let case = Case::new(kernel, size, outputs, (100 * i + 10 * j + outputs) as u64);
                case.check(&format!("{kernel:?} {size:?} -> {outputs}"));
            }
        }
    }
}

#[test]
fn one_image_is_shared_out_by_rows_or_by_positions() {
    let tiles = [Tile::Two, Tile::Four, Tile::Six];
    // By rows; too few tiles of six; rows that three threads cannot divide.
    for (side, by_position) in [(36, [false; 3]), (18, [false, true, true]), (26, [true; 3])] {
        let case = Case::new([3, 3], [side, side, 16], 17, side as u64);
        let layer = case.layer(InstructionSet::Portable, Algorithm::Direct, Precision::F32);
        assert_eq!(tiles.map(|tile| layer.by_position(tile, 3)), by_position, "{side}");
        case.check(&format!("{side}x{side}"));
    }
}

#[test]
fn everything_that_is_fused() {
    let silu = |activation| Some(Prologue { normalisation: None, affine: vec![], activation });
    type Change = fn(&mut Case);
    let changes: [(&str, Change); 8] = [
        ("images", |c| c.images = 3),
        ("stride", |c| {
            c.call.stride = [2, 2];
            let Image { height, width, .. } = c.call.input;
            c.call.output =
                image(1, [height.div_ceil(2), width.div_ceil(2), c.call.output.channels], 0, 0);
        }),
        ("upsample", |c| {
            c.call.upsample = 2;
            let Image { height, width, .. } = c.call.input;
            c.call.output = image(1, [2 * height, 2 * width, c.call.output.channels], 0, 0);
        }),
        ("input slice", |c| {
            let Image { height, width, channels, .. } = c.call.input;
            c.call.input = image(0, [height, width, channels], 3, 8);
        }),
        ("output slice", |c| {
            let Image { height, width, channels, .. } = c.call.output;
            c.call.output = image(1, [height, width, channels], 2, 5);
        }),
        ("residual", |c| {
            let Image { height, width, channels, .. } = c.call.output;
            c.call.residual = Some(image(2, [height, width, channels], 1, 3));
        }),
        ("scale", |c| c.call.scale = 0.7),
        ("no padding", |c| {
            let [kh, kw] = c.call.kernel;
            c.call.padding = [0, 0];
            let Image { height, width, .. } = c.call.input;
            let (h, w) = (height * c.call.upsample, width * c.call.upsample);
            c.call.output = image(1, [h - kh + 1, w - kw + 1, c.call.output.channels], 0, 0);
        }),
    ];
    for kernel in [[1, 1], [3, 3]] {
        for (name, change) in changes {
            for prologue in [None, silu(Activation::None), silu(Activation::Silu)] {
                let mut case = Case::new(kernel, [7, 10, 20], 24, 5);
                change(&mut case);
                case.call.prologue = prologue.clone();
                case.fill(9);
                case.check(&format!("{kernel:?} {name} {prologue:?}"));
            }
        }
    }
}

#[test]
fn transposed_convolutions_write_squares() {
    for (interleave, outputs) in [(2, 16), (2, 5), (3, 7)] {
        let mut case = Case::new([1, 1], [4, 3, 18], outputs, 3);
        case.call.interleave = interleave;
        case.call.output = image(1, [4 * interleave, 3 * interleave, outputs], 0, 0);
        case.fill(4);
        case.check(&format!("interleave {interleave}"));
    }
}

#[test]
fn not_a_number_in_the_input_reaches_the_output() {
    for activation in [Activation::None, Activation::Silu] {
        for set in InstructionSet::all() {
            let mut case = Case::new([3, 3], [6, 6, 16], 16, 8);
            case.call.prologue = Some(Prologue { normalisation: None, affine: vec![], activation });
            case.input[16 * 8] = f32::NAN;
            for algorithm in case.algorithms() {
                let (output, _) = case.run(set, algorithm, 1);
                assert!(output.iter().any(|v| v.is_nan()), "{set} {algorithm:?} {activation:?}");
            }
        }
    }
}

#[test]
fn the_size_of_a_layer_is_known_before_it_is_made() {
    for set in InstructionSet::all() {
        for (kernel, interleave, outputs) in [([1, 1], 1, 20), ([3, 3], 1, 70), ([1, 1], 2, 5)] {
            let mut case = Case::new(kernel, [6, 6, 20], outputs, 8);
            case.call.interleave = interleave;
            case.fill(8);
            for precision in [Precision::F32, Precision::F16] {
                let layer = Layer::new(set, &case.call, precision);
                let (most, mut staging) = (100 * case.weights.len(), Aligned::default());
                let mut pages = Pages::zeros(most).unwrap();
                let rest = layer.pack(&case.weights, pages.values_mut(), &mut staging).unwrap();
                let weights = most - rest.len();
                assert_eq!(
                    memory::sizes(set, &case.call, 1, precision).weights,
                    weights,
                    "{set} {kernel:?}"
                );
            }
        }
    }
}

#[test]
fn rounded_weights_give_nearly_the_same_result_in_half_the_space() {
    let case = Case::new([3, 3], [6, 6, 17], 70, 8);
    for set in InstructionSet::all() {
        for algorithm in case.algorithms() {
            let [need, got] = [Precision::F32, Precision::F16].map(|precision| {
                let layer = case.layer(set, algorithm, precision);
                let result = case.run_layer(set, &layer, 1).0;
                let threaded = case.run_layer(set, &layer, 3).0;
                assert_eq!(threaded, result, "{set} {algorithm:?}: threads change the result");
                (layer.stored(), result)
            });
            let what = format!("{set} {algorithm:?}");
            assert!(10 * got.0 < 6 * need.0, "{what}: {} values instead of {}", got.0, need.0);
            assert_ne!(got.1, need.1, "{what}");
            let need: Vec<f64> = need.1.iter().map(|&v| v.into()).collect();
            assert_eq!(differs(&got.1, &need, 1e-2), None, "{what}");
        }
    }
}

#[test]
fn a_weight_that_f16_cannot_hold_is_named() {
    let mut case = Case::new([3, 3], [6, 6, 16], 16, 8);
    case.weights[20] = 1e6;
    let set = InstructionSet::Portable;
    let layer = Layer::with(set, &case.call, Algorithm::Direct, Precision::F16);
    let mut pages = Pages::zeros(case.weights.len()).unwrap();
    let packed = layer.pack(&case.weights, pages.values_mut(), &mut Aligned::default());
    assert_eq!(packed.err(), Some(1e6));
}

/// Root mean square of the error of a layer's output, in that of the output.
fn error(case: &Case, set: InstructionSet, algorithm: Algorithm) -> f64 {
    let (got, need) = (case.run(set, algorithm, 1).0, case.expected());
    let square = |pairs: &mut dyn Iterator<Item = f64>| pairs.map(|v| v * v).sum::<f64>();
    let wrong = square(&mut got.iter().zip(&need).map(|(&g, n)| f64::from(g) - n));
    (wrong / square(&mut need.iter().copied())).sqrt()
}

#[test]
fn minimal_filtering_is_exact_enough_with_the_weights_of_every_shipped_layer() {
    let set = InstructionSet::detect().unwrap();
    let models = concat!(env!("CARGO_MANIFEST_DIR"), "/../models");
    let folders = std::fs::read_dir(models).unwrap().map(|folder| folder.unwrap().path());
    for path in folders.map(|folder| folder.join("model.onnx")).filter(|path| path.is_file()) {
        let model = Model::open(&path, &Limits::default()).unwrap();
        let plan = plan::lower(model.graph(), model.manifest().preprocess.shape).unwrap();
        let mut worst = HashMap::new();
        for call in &plan.calls {
            let Call::Convolution(c) = call else { continue };
            let Algorithm::Winograd(tile) = choose(c) else { continue };
            let size = [c.input.height * c.upsample, c.input.width * c.upsample, c.input.channels];
            let mut case = Case::new(c.kernel, size, c.output.channels, 1);
            case.weights = plan.constants[c.weights].decode().to_vec();
            case.bias.fill(0.0);
            let error = error(&case, set, Algorithm::Winograd(tile));
            let most: &mut f64 = worst.entry(format!("{tile:?}")).or_default();
            *most = most.max(error);
            assert!(error <= 1e-5, "{}: {}, {tile:?}: {error}", path.display(), c.node);
        }
        println!("{}: relative errors of at most {worst:?}", path.display());
    }
}
