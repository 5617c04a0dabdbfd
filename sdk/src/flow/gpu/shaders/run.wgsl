// What every kernel can read: group 0. Group 1 holds the buffers of one call and is declared by the library.
//
// Every dispatch covers all images: workgroup z is the image (matmul: image and matrix). Images never mix.

struct Run {
    images_per_leg: u32,
    leg_words: u32,
    sequence: u32,
    images: u32,
}

@group(0) @binding(1) var<uniform> run: Run;
@group(0) @binding(2) var<storage, read> constants: array<f32>;
// Of one step: for every leg a head of span, number of the step, and whether it is the first, then the tables.
@group(0) @binding(3) var<storage, read> tables: array<f32>;
// Mean and sum of squared deviations.
@group(0) @binding(4) var<storage, read_write> moments: array<vec2<f32>>;

// Images are grouped in legs of equal size, each with times of its own.
fn leg_start(image: u32) -> u32 {
    return image / run.images_per_leg * run.leg_words;
}

struct Image {
    offset: u32,
    row: u32,
    pixel: u32,
    image: u32,
}
