// Many partial moments to one per channel, so that no kernel has to merge many of them in its prologue.

struct Params {
    partial: u32,
    to: u32,
    channels: u32,
    partials: u32,
    per_partial: u32,
    pixels: u32,
    moments_per_image: u32,
    copies: u32,
}

@group(0) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < p.channels {
        let start = id.z * p.moments_per_image;
        let first = start + p.partial + id.x;
        let pixels = p.pixels / p.copies;
        moments[start + p.to + id.x] = merged_moments(first, p.channels, p.partials, p.per_partial, p.copies, pixels);
    }
}
