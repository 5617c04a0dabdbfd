// Normalise, multiply and add, activate: one factor and one summand per channel, made once per workgroup.

struct Prologue {
    channels: u32,
    groups: u32,
    sources: u32,
    steps: u32,
    epsilon: f32,
    pixels: u32,
    moments_per_image: u32,
    unused: u32,
    // First entry, channels taken, partial results, pixels of a partial result.
    source: array<vec4<u32>, 4>,
    // Distance between partial results.
    stride: vec4<u32>,
    // Partial results in a row that are of as many pixels each.
    copies: vec4<u32>,
    // 0 multiply or 1 add; 0 constant or 1 table; position; 1 if one value serves all channels.
    step: array<vec4<u32>, 8>,
}

var<workgroup> channel_moments: array<vec2<f32>, MOMENT_CHANNELS>;
var<workgroup> channel_map: array<vec2<f32>, CHANNELS>;

// Chan's merge of (count, mean, squared deviations), in the order of the partial results. `pixels` are those of the
// image over `copies`.
fn merged_moments(first: u32, stride: u32, partials: u32, per_partial: u32, copies: u32, pixels: u32) -> vec2<f32> {
    var total = moments[first];
    var count = f32(min(per_partial, pixels));
    for (var i = 1u; i < partials; i++) {
        let part = moments[first + i * stride];
        let n = f32(min(per_partial, pixels - i / copies * per_partial));
        let delta = part.x - total.x;
        let both = count + n;
        total.x += delta * (n / both);
        total.y += part.y + delta * delta * (count * n / both);
        count = both;
    }
    return total;
}

fn affine_value(step: vec4<u32>, image: u32, channel: u32) -> f32 {
    let at = step.z + select(channel, 0u, step.w == 1u);
    if step.y == 0u {
        return constants[at];
    }
    return tables[leg_start(image) + at];
}

// Fills channel_map; all THREADS threads of a workgroup call it.
fn prepare_prologue(q: Prologue, image: u32, thread: u32) {
    if NORMALISE {
        for (var c = thread; c < q.channels; c += THREADS) {
            var local = c;
            var s = 0u;
            while s + 1u < q.sources && local >= q.source[s].y {
                local -= q.source[s].y;
                s++;
            }
            let source = q.source[s];
            let first = image * q.moments_per_image + source.x + local;
            let copies = q.copies[s];
            channel_moments[c] = merged_moments(first, q.stride[s], source.z, source.w, copies, q.pixels / copies);
        }
        workgroupBarrier();
    }
    for (var c = thread; c < q.channels; c += THREADS) {
        var map = vec2<f32>(1.0, 0.0);
        if NORMALISE {
            let size = q.channels / q.groups;
            let first = c / size * size;
            var mean = 0.0;
            for (var i = 0u; i < size; i++) {
                mean += channel_moments[first + i].x;
            }
            mean /= f32(size);
            var squares = 0.0;
            for (var i = 0u; i < size; i++) {
                let part = channel_moments[first + i];
                let delta = part.x - mean;
                squares += part.y + f32(q.pixels) * delta * delta;
            }
            let factor = 1.0 / sqrt(squares / f32(size * q.pixels) + q.epsilon);
            map = vec2<f32>(factor, -mean * factor);
        }
        for (var i = 0u; i < q.steps; i++) {
            let value = affine_value(q.step[i], image, c);
            if q.step[i].x == 0u {
                map *= value;
            } else {
                map.y += value;
            }
        }
        channel_map[c] = map;
    }
    workgroupBarrier();
}

fn silu(x: f32) -> f32 {
    return x / (1.0 + exp(-x));
}

fn after_prologue(value: f32, channel: u32) -> f32 {
    let map = channel_map[channel];
    let mapped = fma(value, map.x, map.y);
    if SILU {
        return silu(mapped);
    }
    return mapped;
}
