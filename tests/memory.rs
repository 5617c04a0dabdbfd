//! Loading a model takes little more memory than what stays of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use f2d2::{Detector, DetectorOptions, EngineChoice, Limits, Model, flow};
use f2d2_tests::allocations::Counting;
use f2d2_tests::programs::root;
use f2d2_tests::skipped;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// For what does not grow with the weights, such as the manifest with its golden vectors.
const SMALL: usize = 2 << 20;

/// Bytes of this process that are in memory; `None` where nothing says so.
fn resident() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(1024 * line.split_whitespace().next()?.parse::<usize>().ok()?)
}

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
    // The detector does without the model: its message goes from the heap, and the pages of its file with their weights.
    let (both, resident_before) = (Counting::bytes(), resident());
    let kept = Arc::clone(&model);
    drop(model);
    // Both counts notice that somebody still has it.
    assert!(both - Counting::bytes() < file / 8);
    assert!(resident_before.zip(resident()).is_none_or(|(b, a)| b.saturating_sub(a) < file / 8));
    drop(kept);
    let gone = both - Counting::bytes();
    println!("the detector holds {beside} bytes of heap, {gone} went with the model");
    assert!(beside <= SMALL && gone > file / 8);
    if let (Some(before), Some(after)) = (resident_before, resident()) {
        println!("{before} resident bytes with the model, {after} without");
        assert!(before.saturating_sub(after) >= file - file / 8);
    } else {
        skipped("the pages of the file: nothing here says what is resident");
    }
    drop(detector);
    // The count would notice a second copy.
    let (twice, _) = Counting::most_bytes(|| (vec![1u8; file], vec![1u8; file]));
    assert!(twice > file * 3 / 2 + SMALL);
}
