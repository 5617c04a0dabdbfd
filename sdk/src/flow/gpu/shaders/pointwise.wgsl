// Formulas that do not depend on each other, value by value. The library defines VALUES, their number, and evaluate.

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < VALUES {
        evaluate(id.z, id.x);
    }
}
