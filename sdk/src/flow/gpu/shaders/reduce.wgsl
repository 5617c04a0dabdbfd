// Sums: LANES threads share one result, 64 / LANES results per workgroup. The library defines RESULTS, SUMMED,
// FACTOR and LANES, and input_at, whose index is row-major over [result, summand], and store_output.

var<workgroup> parts: array<f32, 64>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let result = group.x * (64u / LANES) + thread / LANES;
    var sum = 0.0;
    if result < RESULTS {
        for (var i = thread % LANES; i < SUMMED; i += LANES) {
            sum += input_at(group.z, result * SUMMED + i);
        }
    }
    parts[thread] = sum;
    workgroupBarrier();
    if thread % LANES == 0u && result < RESULTS {
        for (var i = 1u; i < LANES; i++) {
            sum += parts[thread + i];
        }
        store_output(group.z, result, FACTOR * sum);
    }
}
