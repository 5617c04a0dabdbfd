// What the kernels of a convolution have in common: the call, its input after the prologue, and what follows the sum.

struct Params {
    input: Image,
    residual: Image,
    output: Image,
    prologue: Prologue,
    height: u32,
    width: u32,
    channels: u32,
    upsample: u32,
    stride_down: u32,
    stride_right: u32,
    padding_above: u32,
    padding_left: u32,
    kernel_width: u32,
    inner: u32,
    columns: u32,
    output_channels: u32,
    interleave: u32,
    grid_width: u32,
    grid_pixels: u32,
    bias: u32,
    scale: f32,
    moments: u32,
    unused_a: u32,
    unused_b: u32,
}

@group(0) @binding(0) var<uniform> p: Params;

fn input_value(start: u32, y: i32, x: i32, c: u32) -> f32 {
    if y < 0 || x < 0 || y >= i32(p.height * p.upsample) || x >= i32(p.width * p.upsample) {
        return 0.0;
    }
    let at = start + u32(y) / p.upsample * p.input.row + u32(x) / p.upsample * p.input.pixel + c;
    let value = f32(input[at]);
    if PROLOGUE {
        return after_prologue(value, c);
    }
    return value;
}

// The sum for pixel m and column n to the value that is stored.
fn finish(sum: f32, image: u32, m: u32, n: u32) -> f32 {
    let channel = n % p.output_channels;
    let inside = n / p.output_channels;
    let y = m / p.grid_width * p.interleave + inside / p.interleave;
    let x = m % p.grid_width * p.interleave + inside % p.interleave;
    var value = sum;
    if BIAS {
        value += constants[p.bias + channel];
    }
    if RESIDUAL {
        let add = p.residual;
        value += f32(residual[image * add.image + add.offset + y * add.row + x * add.pixel + channel]);
    }
    value *= p.scale;
    let to = p.output;
    output[image * to.image + to.offset + y * to.row + x * to.pixel + channel] = Output(value);
    return value;
}

// Where the moments of column n of the tile go.
fn moments_place(image: u32, tile: u32, n: u32) -> u32 {
    return image * p.prologue.moments_per_image + p.moments + tile * p.columns + n;
}
