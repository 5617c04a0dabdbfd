// The self-test of cooperative matrices: in every workgroup the product of two square matrices of SIDE = 4 EDGE, a strip
// at a time through workgroup memory, as convolutions do it.

const SIDE = 4u * EDGE;

var<workgroup> left_strip: array<f16, SIDE * EDGE>;
var<workgroup> right_strip: array<f16, EDGE * SIDE>;

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let subgroup = thread / SUBGROUP;
    let down = subgroup / 2u * 2u * EDGE;
    let across = subgroup % 2u * 2u * EDGE;
    var sum00 = coop_matNxN<f32, C>();
    var sum01 = coop_matNxN<f32, C>();
    var sum10 = coop_matNxN<f32, C>();
    var sum11 = coop_matNxN<f32, C>();
    for (var k0 = 0u; k0 < SIDE; k0 += EDGE) {
        for (var i = thread; i < SIDE * EDGE; i += THREADS) {
            left_strip[i] = left[i / EDGE * SIDE + k0 + i % EDGE];
            right_strip[i] = right[k0 * SIDE + i];
        }
        workgroupBarrier();
        let a0 = coopLoadT<coop_matNxN<f16, A>>(&left_strip[down * EDGE], EDGE);
        let a1 = coopLoadT<coop_matNxN<f16, A>>(&left_strip[(down + EDGE) * EDGE], EDGE);
        let b0 = coopLoadT<coop_matNxN<f16, B>>(&right_strip[across], SIDE);
        let b1 = coopLoadT<coop_matNxN<f16, B>>(&right_strip[across + EDGE], SIDE);
        sum00 = coopMultiplyAdd(a0, b0, sum00);
        sum01 = coopMultiplyAdd(a0, b1, sum01);
        sum10 = coopMultiplyAdd(a1, b0, sum10);
        sum11 = coopMultiplyAdd(a1, b1, sum11);
        workgroupBarrier();
    }
    let to = group.x * SIDE * SIDE;
    coopStoreT(sum00, &product[to + down * SIDE + across], SIDE);
    coopStoreT(sum01, &product[to + down * SIDE + across + EDGE], SIDE);
    coopStoreT(sum10, &product[to + (down + EDGE) * SIDE + across], SIDE);
    coopStoreT(sum11, &product[to + (down + EDGE) * SIDE + across + EDGE], SIDE);
}
