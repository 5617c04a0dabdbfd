// An 8-bit image → its state at the noise floor of every leg: t0 y + (1 - t0) n of y = (k + u) scale + offset, where u
// is dequantisation noise. The library defines VALUES, CHANNELS, WORDS, STATE_IMAGE, KEY_LOW, KEY_HIGH, STREAM,
// MIDPOINT, ZERO and UNIT.
//
// y is (2^24 (k + u) - ZERO) UNIT: whole numbers up to the one rounding, so that it is the CPU's bit by bit.

// Upper half of a product.
fn high_product(a: u32, b: u32) -> u32 {
    let low = (a & 0xffffu) * (b & 0xffffu);
    let first = (a >> 16u) * (b & 0xffffu) + (low >> 16u);
    let second = (a & 0xffffu) * (b >> 16u) + (first & 0xffffu);
    return (a >> 16u) * (b >> 16u) + (first >> 16u) + (second >> 16u);
}

// Philox4x32-10 (Salmon et al. 2011): word `i` of the stream.
fn noise_word(i: u32) -> u32 {
    var counter = vec4<u32>(i / 4u, STREAM, 0u, 0u);
    var key = vec2<u32>(KEY_LOW, KEY_HIGH);
    for (var round = 0u; round < 10u; round++) {
        counter = vec4<u32>(
            high_product(0xcd9e8d57u, counter.z) ^ counter.y ^ key.x,
            0xcd9e8d57u * counter.z,
            high_product(0xd2511f53u, counter.x) ^ counter.w ^ key.y,
            0xd2511f53u * counter.x,
        );
        key += vec2<u32>(0x9e3779b9u, 0xbb67ae85u);
    }
    return counter[i % 4u];
}

// The nearest f32 to a whole number, of two as near the even one; the device's own conversion may round another way.
fn nearest(number: u32) -> f32 {
    let shift = 8u - min(countLeadingZeros(number), 8u);
    var kept = number >> shift;
    if shift > 0u {
        let rest = number & ((1u << shift) - 1u);
        let half = 1u << (shift - 1u);
        if rest > half || (rest == half && (kept & 1u) == 1u) {
            kept += 1u;
        }
    }
    return f32(kept) * f32(1u << shift);
}

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.x;
    if i >= VALUES {
        return;
    }
    let leg = id.z / run.images_per_leg;
    let word = pixels[id.z % run.images_per_leg * WORDS + i / 4u];
    let level = word >> (8u * (i % 4u)) & 255u;
    var fraction = 1u << 23u;
    if !MIDPOINT {
        // The noise is counted plane by plane, the state's values pixel by pixel.
        let plane_order = i % CHANNELS * (VALUES / CHANNELS) + i / CHANNELS;
        fraction = 2u * (noise_word(plane_order) >> 9u) + 1u;
    }
    let number = (level << 24u) + fraction;
    var y = nearest(max(number, ZERO) - min(number, ZERO)) * UNIT;
    if number < ZERO {
        y = -y;
    }
    // Of a leg: t0, then (1 - t0) n of every value. Product and sum are rounded one by one, as on the CPU: with a zero
    // between them that no compiler knows, they cannot become one operation.
    let floor = leg * (VALUES + 1u);
    let scaled = bitcast<f32>(bitcast<u32>(floors[floor] * y) ^ (run.images >> 31u));
    state[id.z * STATE_IMAGE + i] = scaled + floors[floor + 1u + i];
}
