// The prologue of a convolution, written out; 4096 values per workgroup.

struct Params {
    input: Image,
    output: Image,
    prologue: Prologue,
    width: u32,
    pixels: u32,
    unused_a: u32,
    unused_b: u32,
}

@group(0) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let image = group.z;
    prepare_prologue(p.prologue, image, thread);
    let channels = p.prologue.channels;
    let end = min((group.x + 1u) * 4096u, p.pixels * channels);
    for (var i = group.x * 4096u + thread; i < end; i += 256u) {
        let c = i % channels;
        let y = i / channels / p.width;
        let x = i / channels % p.width;
        let value = f32(input[image * p.input.image + p.input.offset + y * p.input.row + x * p.input.pixel + c]);
        let to = image * p.output.image + p.output.offset + y * p.output.row + x * p.output.pixel + c;
        output[to] = Output(after_prologue(value, c));
    }
}
