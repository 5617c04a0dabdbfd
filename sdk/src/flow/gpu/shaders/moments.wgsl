// Mean and squared deviations of 64 channels over 64 pixels per workgroup; four threads share a channel.

struct Params {
    input: Image,
    width: u32,
    pixels: u32,
    channels: u32,
    moments: u32,
    moments_per_image: u32,
    unused_a: u32,
    unused_b: u32,
    unused_c: u32,
}

@group(0) @binding(0) var<uniform> p: Params;

var<workgroup> parts: array<f32, 256>;

fn sum_of_four(value: f32, thread: u32) -> f32 {
    parts[thread] = value;
    workgroupBarrier();
    let c = thread % 64u;
    let sum = parts[c] + parts[64u + c] + parts[128u + c] + parts[192u + c];
    workgroupBarrier();
    return sum;
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let first = group.x * 64u;
    let end = min(first + 64u, p.pixels);
    let c = group.y * 64u + thread % 64u;
    let start = group.z * p.input.image + p.input.offset + c;
    var sum = 0.0;
    if c < p.channels {
        for (var i = first + thread / 64u; i < end; i += 4u) {
            sum += f32(input[start + i / p.width * p.input.row + i % p.width * p.input.pixel]);
        }
    }
    let mean = sum_of_four(sum, thread) / f32(end - first);
    var squares = 0.0;
    if c < p.channels {
        for (var i = first + thread / 64u; i < end; i += 4u) {
            let value = f32(input[start + i / p.width * p.input.row + i % p.width * p.input.pixel]);
            squares += (value - mean) * (value - mean);
        }
    }
    let total = sum_of_four(squares, thread);
    if thread < 64u && c < p.channels {
        moments[group.z * p.moments_per_image + p.moments + group.x * p.channels + c] = vec2<f32>(mean, total);
    }
}
