// Product of two matrices in tiles of 16 x 16. The library defines HEIGHT, INNER, WIDTH and MATRICES, and left_at,
// right_at and store_output, whose index is row-major over [matrix, row, column].

var<workgroup> left_tile: array<f32, 256>;
var<workgroup> right_tile: array<f32, 256>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let image = group.z / MATRICES;
    let matrix = group.z % MATRICES;
    let across = thread % 16u;
    let down = thread / 16u;
    let row = group.x * 16u + down;
    let column = group.y * 16u + across;
    var sum = 0.0;
    for (var k0 = 0u; k0 < INNER; k0 += 16u) {
        var a = 0.0;
        if row < HEIGHT && k0 + across < INNER {
            a = left_at(image, (matrix * HEIGHT + row) * INNER + k0 + across);
        }
        var b = 0.0;
        if k0 + down < INNER && column < WIDTH {
            b = right_at(image, (matrix * INNER + k0 + down) * WIDTH + column);
        }
        left_tile[thread] = a;
        right_tile[thread] = b;
        workgroupBarrier();
        for (var k = 0u; k < 16u; k++) {
            sum = fma(left_tile[down * 16u + k], right_tile[k * 16u + across], sum);
        }
        workgroupBarrier();
    }
    if row < HEIGHT && column < WIDTH {
        store_output(image, (matrix * HEIGHT + row) * WIDTH + column, sum);
    }
}
