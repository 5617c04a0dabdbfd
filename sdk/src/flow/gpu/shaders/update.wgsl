// One step of the flow map, x += (s - t) u, with what the step reports. The library defines HEIGHT, WIDTH, CHANNELS,
// PER_PIXEL, STATE_IMAGE, GROUPS, and velocity_at and divergence_at.
//
// Sums are partial, one entry per workgroup: the host adds them in f64. Every entry carries the number of the run and
// of the step, so that the host can tell that it was written, and when.

var<workgroup> parts: array<vec2<f32>, 256>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let image = group.z;
    let head = leg_start(image);
    let span = tables[head];
    let step = u32(tables[head + 1u]);
    let first = tables[head + 2u] != 0.0;
    let pixel = group.x * 256u + thread;
    var sums = vec2<f32>();
    if pixel < HEIGHT * WIDTH {
        let y = pixel / WIDTH;
        let x = pixel % WIDTH;
        for (var c = 0u; c < CHANNELS; c++) {
            let at = image * STATE_IMAGE + pixel * CHANNELS + c;
            let u = velocity_at(image, c, y, x);
            state[at] = fma(span, u, state[at]);
            sums.x = fma(u, u, sums.x);
        }
        if PER_PIXEL {
            let d = divergence_at(image, 0u, y, x);
            let at = image * HEIGHT * WIDTH + pixel;
            log_det_map[at] = span * d + select(log_det_map[at], 0.0, first);
            sums.y = d;
        } else if pixel == 0u {
            sums.y = divergence_at(image, 0u, 0u, 0u);
        }
    }
    parts[thread] = sums;
    workgroupBarrier();
    for (var half = 128u; half > 0u; half >>= 1u) {
        if thread < half {
            parts[thread] += parts[thread + half];
        }
        workgroupBarrier();
    }
    if thread == 0u {
        let total = bitcast<vec2<u32>>(parts[0]);
        results[(step * run.images + image) * GROUPS + group.x] = vec4<u32>(total, run.sequence, step);
    }
}
