// One query of one head per workgroup: scores, softmax, weighted sum of the values; all of it in f32.

struct Tokens {
    offset: u32,
    head: u32,
    token: u32,
    channel: u32,
}

struct Params {
    query: Tokens,
    key: Tokens,
    value: Tokens,
    output: Tokens,
    // Values of an image in the buffers of query, key, value, output.
    image: vec4<u32>,
    channels: u32,
    value_channels: u32,
    keys: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> p: Params;

var<workgroup> query_vector: array<f32, CHANNELS>;
var<workgroup> scores: array<f32, KEYS>;
var<workgroup> parts: array<f32, 128>;

fn sum_of_all(value: f32, thread: u32) -> f32 {
    parts[thread] = value;
    workgroupBarrier();
    for (var half = 64u; half > 0u; half >>= 1u) {
        if thread < half {
            parts[thread] += parts[thread + half];
        }
        workgroupBarrier();
    }
    let sum = parts[0];
    workgroupBarrier();
    return sum;
}

fn largest_of_all(value: f32, thread: u32) -> f32 {
    parts[thread] = value;
    workgroupBarrier();
    for (var half = 64u; half > 0u; half >>= 1u) {
        if thread < half {
            parts[thread] = max(parts[thread], parts[thread + half]);
        }
        workgroupBarrier();
    }
    let largest = parts[0];
    workgroupBarrier();
    return largest;
}

@compute @workgroup_size(128)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let source_at = group.z * p.image.x + p.query.offset + group.y * p.query.head + group.x * p.query.token;
    for (var c = thread; c < p.channels; c += 128u) {
        query_vector[c] = f32(query[source_at + c * p.query.channel]);
    }
    workgroupBarrier();
    let keys_start = group.z * p.image.y + p.key.offset + group.y * p.key.head;
    var largest = -3.0e38;
    for (var k = thread; k < p.keys; k += 128u) {
        let at = keys_start + k * p.key.token;
        var score = 0.0;
        for (var c = 0u; c < p.channels; c++) {
            score = fma(query_vector[c], f32(key[at + c * p.key.channel]), score);
        }
        score *= p.scale;
        scores[k] = score;
        largest = max(largest, score);
    }
    largest = largest_of_all(largest, thread);
    var sum = 0.0;
    for (var k = thread; k < p.keys; k += 128u) {
        let weight = exp(scores[k] - largest);
        scores[k] = weight;
        sum += weight;
    }
    sum = sum_of_all(sum, thread);
    let values_start = group.z * p.image.z + p.value.offset + group.y * p.value.head;
    let to = group.z * p.image.w + p.output.offset + group.y * p.output.head + group.x * p.output.token;
    for (var c = thread; c < p.value_channels; c += 128u) {
        var result = 0.0;
        for (var k = 0u; k < p.keys; k++) {
            let at = values_start + k * p.value.token + c * p.value.channel;
            result = fma(scores[k], f32(value[at]), result);
        }
        output[to + c * p.output.channel] = Output(result / sum);
    }
}
