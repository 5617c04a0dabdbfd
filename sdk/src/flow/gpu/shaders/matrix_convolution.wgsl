// Convolution as in convolution.wgsl, in cooperative matrices of EDGE x EDGE values: f16 factors, f32 sums. Each of the
// four subgroups of a workgroup makes 2 x 2 of them, and all together a tile of TILE x TILE.

const TILE = 4u * EDGE;
const DEPTH = 2u * EDGE;
const LANES = THREADS / DEPTH;

var<workgroup> left: array<f16, TILE * DEPTH>;
var<workgroup> right: array<f16, DEPTH * TILE>;
var<workgroup> result: array<f32, TILE * TILE>;
// Row and column of the input under the first tap of every pixel.
var<workgroup> origin: array<vec2<i32>, TILE>;

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let image = group.z;
    let first_row = group.x * TILE;
    let first_column = group.y * TILE;
    if PROLOGUE {
        prepare_prologue(p.prologue, image, thread);
    }
    for (var i = thread; i < TILE; i += THREADS) {
        let m = first_row + i;
        origin[i] = vec2<i32>(
            i32(m / p.grid_width * p.stride_down) - i32(p.padding_above),
            i32(m % p.grid_width * p.stride_right) - i32(p.padding_left),
        );
    }
    workgroupBarrier();
    let start = image * p.input.image + p.input.offset;
    let depth = thread % DEPTH;
    let lane = thread / DEPTH;
    let subgroup = thread / SUBGROUP;
    let down = subgroup / 2u * 2u * EDGE;
    let across = subgroup % 2u * 2u * EDGE;
    var sum00 = coop_matNxN<f32, C>();
    var sum01 = coop_matNxN<f32, C>();
    var sum10 = coop_matNxN<f32, C>();
    var sum11 = coop_matNxN<f32, C>();
    for (var k0 = 0u; k0 < p.inner; k0 += DEPTH) {
        let k = k0 + depth;
        let tap = k / p.channels;
        let c = k % p.channels;
        let offset = vec2<i32>(i32(tap / p.kernel_width), i32(tap % p.kernel_width));
        for (var row = lane; row < TILE; row += LANES) {
            var value = 0.0;
            if k < p.inner && first_row + row < p.grid_pixels {
                let at = origin[row] + offset;
                value = input_value(start, at.x, at.y, c);
            }
            left[row * DEPTH + depth] = f16(value);
        }
        for (var i = thread; i < DEPTH * TILE; i += THREADS) {
            let n = first_column + i % TILE;
            let at = k0 + i / TILE;
            var value = 0.0h;
            if at < p.inner && n < p.columns {
                value = weights[at * p.columns + n];
            }
            right[i] = value;
        }
        workgroupBarrier();
        for (var inner = 0u; inner < DEPTH; inner += EDGE) {
            let a0 = coopLoadT<coop_matNxN<f16, A>>(&left[down * DEPTH + inner], DEPTH);
            let a1 = coopLoadT<coop_matNxN<f16, A>>(&left[(down + EDGE) * DEPTH + inner], DEPTH);
            let b0 = coopLoadT<coop_matNxN<f16, B>>(&right[inner * TILE + across], TILE);
            let b1 = coopLoadT<coop_matNxN<f16, B>>(&right[inner * TILE + across + EDGE], TILE);
            sum00 = coopMultiplyAdd(a0, b0, sum00);
            sum01 = coopMultiplyAdd(a0, b1, sum01);
            sum10 = coopMultiplyAdd(a1, b0, sum10);
            sum11 = coopMultiplyAdd(a1, b1, sum11);
        }
        workgroupBarrier();
    }
    coopStoreT(sum00, &result[down * TILE + across], TILE);
    coopStoreT(sum01, &result[down * TILE + across + EDGE], TILE);
    coopStoreT(sum10, &result[(down + EDGE) * TILE + across], TILE);
    coopStoreT(sum11, &result[(down + EDGE) * TILE + across + EDGE], TILE);
    workgroupBarrier();
    for (var i = thread; i < TILE * TILE; i += THREADS) {
        let m = first_row + i / TILE;
        let n = first_column + i % TILE;
        if m < p.grid_pixels && n < p.columns {
            result[i] = finish(result[i], image, m, n);
        }
    }
    if MOMENTS {
        workgroupBarrier();
        let rows = min(TILE, p.grid_pixels - first_row);
        for (var column = thread; column < min(TILE, p.columns - first_column); column += THREADS) {
            var mean = 0.0;
            for (var row = 0u; row < rows; row++) {
                mean += result[row * TILE + column];
            }
            mean /= f32(rows);
            var squares = 0.0;
            for (var row = 0u; row < rows; row++) {
                let deviation = result[row * TILE + column] - mean;
                squares += deviation * deviation;
            }
            moments[moments_place(image, group.x, first_column + column)] = vec2<f32>(mean, squares);
        }
    }
}
