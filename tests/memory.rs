//! Loading a model takes little more memory than what stays of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use f2d2::{Detector, DetectorOptions, EngineChoice, Limits, Model, flow};
use f2d2_tests::allocations::Counting;
use f2d2_tests::programs::root;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// For what does not grow with the weights, such as the manifest with its golden vectors.
const SMALL: usize = 2 << 20;

/// One test, since it counts the memory of the whole process.
#[test]
fn weights_are_in_memory_twice_at_most_and_once_in_the_end() {
    let path = root().join("models/fashion-mnist/model.onnx");
    let (opening, model) = Counting::most_bytes(|| Model::open(path, &Limits::default()).unwrap());
    let model = Arc::new(model);
    let file = model.file_bytes();
    let (lowering, plan) = Counting::most_bytes(|| flow::memory_plan(&model, 1).unwrap().unwrap());
    let options = DetectorOptions {
        engine: EngineChoice::Cpu,
        threads: 1,
        self_test: false,
        ..DetectorOptions::default()
    };
    let detector = || Detector::from_model(Arc::clone(&model), options).unwrap();
    let before = Counting::bytes();
    let (packing, detector) = Counting::most_bytes(detector);
    let beside = Counting::bytes() - before;
    println!("file {file}, opening {opening}, lowering {lowering}, packing {packing}, {plan:?}");
    // The parsed message; the file itself is read into pages of its own.
    assert!(opening <= file + SMALL);
    // Beside the message, the weights in the order of the kernels.
    assert!(lowering <= file + SMALL);
    // Those and what packing one layer needs; the packed weights themselves are no part of the heap.
    assert!(packing <= file * 3 / 2 + SMALL);
    // The detector does without the file's weights: they go with the model.
    drop(model);
    let left = (Counting::bytes() + file).saturating_sub(before);
    println!("the detector holds {beside} bytes of heap, and {left} once the model has gone");
    assert!(beside <= SMALL && left <= beside + SMALL / 4);
    drop(detector);
    // The count would notice a second copy.
    let (twice, _) = Counting::most_bytes(|| (vec![1u8; file], vec![1u8; file]));
    assert!(twice > file * 3 / 2 + SMALL);
}
