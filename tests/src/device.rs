//! The GPU that tests run on: a real one, or a driver that computes on the CPU in its place.

use std::sync::OnceLock;

use f2d2::flow::{GpuOptions, adapters};
use f2d2::{Detector, DetectorOptions, EngineChoice};

use crate::gaussian::Gaussian;

use crate::skipped;

/// Environment variable that makes a missing real GPU a failure.
const REQUIRE: &str = "F2D2_REQUIRE_GPU";

/// Whether tests have to fail without a real GPU.
pub fn required() -> bool {
    std::env::var_os(REQUIRE).is_some_and(|value| value != "0")
}

/// Options for the adapter that tests use; `None`, said aloud, if there is none.
///
/// # Panics
/// If a real GPU is required and none can be used.
pub fn options() -> Option<GpuOptions> {
    static OPTIONS: OnceLock<Option<(GpuOptions, Option<Detector>)>> = OnceLock::new();
    let (options, _open) = OPTIONS.get_or_init(find).as_ref()?;
    Some(options.clone())
}

/// The options, and a detector that keeps the device and its pipelines while the tests run.
fn find() -> Option<(GpuOptions, Option<Detector>)> {
    let usable: Vec<_> = adapters().into_iter().filter(|a| a.unusable.is_none()).collect();
    let real = usable.iter().find(|a| !a.software);
    assert!(
        real.is_some() || !required(),
        "{REQUIRE} is set and there is no usable GPU: {:?}",
        adapters()
    );
    let Some(adapter) = real.or(usable.first()) else {
        skipped(
            "everything on a GPU: no Vulkan, Metal or Direct3D 12 driver, not even one for the CPU",
        );
        return None;
    };
    let cache = std::env::temp_dir().join("f2d2-tests");
    let options = GpuOptions {
        adapter: Some(adapter.name.clone()),
        cache: Some(cache),
        // A driver that computes on the CPU is slow, slower beside others, and never takes itself for hung.
        submission: std::time::Duration::from_secs(20),
        deadline: std::time::Duration::from_secs(600),
        ..GpuOptions::default()
    };
    let (engine, gpu) = (EngineChoice::Gpu, options.clone());
    let keep = DetectorOptions { engine, gpu, ..DetectorOptions::default() };
    let keep = Detector::from_model(Gaussian::new(1, 1, 1, 1).model(), keep);
    Some((options, keep.ok()))
}
