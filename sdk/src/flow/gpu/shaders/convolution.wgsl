// Convolution as a matrix product: rows are output pixels, columns output channels, and the inner index runs over
// kernel taps and input channels. A workgroup of 16 x 16 threads makes a tile of 16 ROWS x 16 COLUMNS.

const TILE_M = 16u * ROWS;
const TILE_N = 16u * COLUMNS;
const DEPTH = 16u;
// One more than the tile: neighbouring threads then write to different banks.
const PITCH = TILE_M + 1u;

var<workgroup> left: array<f32, DEPTH * PITCH>;
var<workgroup> right: array<f32, DEPTH * TILE_N>;

// Sums `values` of a column over the tile's rows, always in the same order; the result is in left[column].
fn column_sums(values: array<f32, COLUMNS>, row: u32, column: u32, thread: u32) {
    for (var j = 0u; j < COLUMNS; j++) {
        right[row * TILE_N + column + 16u * j] = values[j];
    }
    workgroupBarrier();
    if thread < TILE_N {
        var sum = 0.0;
        for (var i = 0u; i < 16u; i++) {
            sum += right[i * TILE_N + thread];
        }
        left[thread] = sum;
    }
    workgroupBarrier();
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let image = group.z;
    let first_row = group.x * TILE_M;
    let first_column = group.y * TILE_N;
    if PROLOGUE {
        prepare_prologue(p.prologue, image, thread);
    }
    // Loading: this thread always takes the same place of the inner index, and every 16th row.
    let depth = thread % 16u;
    let lane = thread / 16u;
    let start = image * p.input.image + p.input.offset;
    var top: array<i32, ROWS>;
    var side: array<i32, ROWS>;
    for (var i = 0u; i < ROWS; i++) {
        let m = first_row + lane + 16u * i;
        top[i] = i32(m / p.grid_width * p.stride_down) - i32(p.padding_above);
        side[i] = i32(m % p.grid_width * p.stride_right) - i32(p.padding_left);
    }
    // Computing: rows lane + 16 i, columns depth + 16 j.
    var sums: array<array<f32, COLUMNS>, ROWS>;
    for (var k0 = 0u; k0 < p.inner; k0 += DEPTH) {
        let k = k0 + depth;
        let tap = k / p.channels;
        let c = k % p.channels;
        let down = i32(tap / p.kernel_width);
        let across = i32(tap % p.kernel_width);
        for (var i = 0u; i < ROWS; i++) {
            let row = lane + 16u * i;
            var value = 0.0;
            if k < p.inner && first_row + row < p.grid_pixels {
                value = input_value(start, top[i] + down, side[i] + across, c);
            }
            left[depth * PITCH + row] = value;
        }
        for (var i = thread; i < DEPTH * TILE_N; i += 256u) {
            let n = first_column + i % TILE_N;
            let at = k0 + i / TILE_N;
            var value = 0.0;
            if at < p.inner && n < p.columns {
                value = f32(weights[at * p.columns + n]);
            }
            right[i] = value;
        }
        workgroupBarrier();
        for (var k = 0u; k < DEPTH; k++) {
            var b: array<f32, COLUMNS>;
            for (var j = 0u; j < COLUMNS; j++) {
                b[j] = right[k * TILE_N + depth + 16u * j];
            }
            for (var i = 0u; i < ROWS; i++) {
                let a = left[k * PITCH + lane + 16u * i];
                for (var j = 0u; j < COLUMNS; j++) {
                    sums[i][j] = fma(a, b[j], sums[i][j]);
                }
            }
        }
        workgroupBarrier();
    }
    for (var i = 0u; i < ROWS; i++) {
        let m = first_row + lane + 16u * i;
        for (var j = 0u; j < COLUMNS; j++) {
            let n = first_column + depth + 16u * j;
            if m < p.grid_pixels && n < p.columns {
                sums[i][j] = finish(sums[i][j], image, m, n);
            }
        }
    }
    if MOMENTS {
        // Two passes over the tile in registers: first the mean, then the deviations from it.
        let rows = min(TILE_M, p.grid_pixels - first_row);
        var values: array<f32, COLUMNS>;
        for (var i = 0u; i < ROWS; i++) {
            for (var j = 0u; j < COLUMNS; j++) {
                values[j] += select(0.0, sums[i][j], lane + 16u * i < rows);
            }
        }
        column_sums(values, lane, depth, thread);
        var mean: array<f32, COLUMNS>;
        for (var j = 0u; j < COLUMNS; j++) {
            mean[j] = left[depth + 16u * j] / f32(rows);
            values[j] = 0.0;
        }
        for (var i = 0u; i < ROWS; i++) {
            for (var j = 0u; j < COLUMNS; j++) {
                let deviation = sums[i][j] - mean[j];
                values[j] += select(0.0, deviation * deviation, lane + 16u * i < rows);
            }
        }
        workgroupBarrier();
        column_sums(values, lane, depth, thread);
        if lane == 0u {
            for (var j = 0u; j < COLUMNS; j++) {
                let n = first_column + depth + 16u * j;
                if n < p.columns {
                    moments[moments_place(image, group.x, n)] = vec2<f32>(mean[j], left[depth + 16u * j]);
                }
            }
        }
    }
}
