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
    // The message without its weights, which stay in the file; that is read into pages of its own.
    assert!(opening <= file / 2);
    // Beside the message, what tract needs for the part that depends on the times.
    assert!(lowering <= file * 3 / 4);
    // That and one layer at a time; the packed weights themselves are no part of the heap.
    assert!(packing <= file);
    // The detector does without the model.
    let both = Counting::bytes();
    drop(model);
    let gone = both - Counting::bytes();
    println!("the detector holds {beside} bytes of heap, {gone} went with the model");
    assert!(beside <= SMALL && gone > file / 8);
    drop(detector);
    // The count would notice a second copy.
    let (twice, _) = Counting::most_bytes(|| (vec![1u8; file], vec![1u8; file]));
    assert!(twice > file * 3 / 2 + SMALL);
}
