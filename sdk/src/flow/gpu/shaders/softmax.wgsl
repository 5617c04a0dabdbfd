// Softmax of one row per workgroup. The library defines LENGTH, input_at and store_output.

var<workgroup> parts: array<f32, 64>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let start = group.x * LENGTH;
    var largest = -3.0e38;
    for (var i = thread; i < LENGTH; i += 64u) {
        largest = max(largest, input_at(group.z, start + i));
    }
    parts[thread] = largest;
    workgroupBarrier();
    for (var i = 0u; i < 64u; i++) {
        largest = max(largest, parts[i]);
    }
    workgroupBarrier();
    var sum = 0.0;
    for (var i = thread; i < LENGTH; i += 64u) {
        sum += exp(input_at(group.z, start + i) - largest);
    }
    parts[thread] = sum;
    workgroupBarrier();
    sum = 0.0;
    for (var i = 0u; i < 64u; i++) {
        sum += parts[i];
    }
    for (var i = thread; i < LENGTH; i += 64u) {
        store_output(group.z, start + i, exp(input_at(group.z, start + i) - largest) / sum);
    }
}
