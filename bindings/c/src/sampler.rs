//! Samplers: images from noise.

use std::ffi::c_char;
use std::mem::offset_of;
use std::sync::Arc;

use f2d2::preprocess::Pixels;

use crate::engine::EngineOptions;
use crate::entry::entry;
use crate::failure::{Failure, Result};
use crate::handle::{self, Kind, Object};
use crate::memory::{self, Buffer, Versioned};
use crate::model::{Model, f2d2_model, on_large_stack};
use crate::status::{F2D2_LIMIT_EXCEEDED, f2d2_status};
use crate::threads::{self, f2d2_threads};

/// Draws images from a model that was trained to sample. Immutable; any number of threads may use it.
pub struct f2d2_sampler {
    _opaque: (),
}

struct Sampler {
    sampler: f2d2::Sampler,
    model: Arc<f2d2::Model>,
}

impl Object for Sampler {
    type Handle = f2d2_sampler;
    const KIND: Kind = Kind::Sampler;
}

/// How a sampler is set up. Zero is the default of each.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct f2d2_sampler_options {
    /// Size of this struct, set by the caller.
    pub struct_size: u32,
    /// Images evaluated side by side, at most 1024; 0 is one per core.
    pub threads: u32,
    /// Name of the engine, as for a detector.
    pub engine: *const c_char,
    /// Name of the graphics adapter, as for a detector.
    pub adapter: *const c_char,
    /// Threads to use in place of `threads` ones, as for a detector.
    pub pool: *const f2d2_threads,
    /// Number format, as for a detector.
    pub precision: *const c_char,
    /// 1: the CPU serves while the GPU compiles, as for a detector.
    pub background: u32,
    /// 1: the CPU takes over from a GPU that is lost for good, as for a detector; 0: F2D2_DEVICE_LOST.
    pub cpu_on_loss: u32,
}

// SAFETY: repr(C), begins with its u32 size, and any bytes are valid fields.
unsafe impl Versioned for f2d2_sampler_options {
    const NAME: &str = "f2d2_sampler_options";
    const FIRST: usize = offset_of!(Self, pool);
}

/// Puts a model on an engine, to draw images.
///
/// @param model the model; the sampler keeps it as long as needed.
/// @param options how; NULL for the defaults.
/// @param[out] sampler the sampler; destroy it with f2d2_sampler_destroy.
/// Returns F2D2_OK, F2D2_INVALID_OPTION for a model that does not sample, F2D2_ENGINE_UNAVAILABLE,
/// F2D2_OUT_OF_RESOURCES, or why the arguments cannot be used.
/// Threads: any.
///
/// # Safety
/// Pointers are NULL or valid for what their types say; so are those in `options`.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn f2d2_sampler_create(
    model: *const f2d2_model,
    options: *const f2d2_sampler_options,
    sampler: *mut *mut f2d2_sampler,
) -> f2d2_status {
    entry(c"f2d2_sampler_create", || {
        let model = handle::get::<Model>(model)?;
        // SAFETY: the caller's promise.
        let (place, options) = unsafe {
            let options: f2d2_sampler_options = memory::sized_or_zero("options", options)?;
            (memory::out("sampler", sampler)?, options)
        };
        let engine = EngineOptions {
            engine: options.engine,
            adapter: options.adapter,
            precision: options.precision,
            background: options.background,
            cpu_on_loss: options.cpu_on_loss,
        };
        // SAFETY: the caller's promise.
        let (engine, gpu) = unsafe { engine.read() }?;
        let threads = threads::asked_for(options.pool, options.threads)?;
        let model = Arc::clone(&model.0);
        let shared = Arc::clone(&model);
        let sampler = on_large_stack(|| f2d2::Sampler::on(shared, engine, &threads, &gpu))??;
        place.write(handle::create(Sampler { sampler, model })?);
        Ok(())
    })
}

/// Draws images. Image i depends on the seed and i only.
///
/// @param sampler the sampler.
/// @param count number of images.
/// @param steps network evaluations per image; 0 takes the model's recommendation.
/// @param seed of the noise.
/// @param pixels where the images go, one after the other, rows of packed bytes, grey or red-green-blue as the model
/// has them; NULL to ask for the size.
/// @param capacity its size in bytes.
/// @param[out] needed size of all images in bytes; also written for F2D2_BUFFER_TOO_SMALL.
/// Returns F2D2_OK, F2D2_BUFFER_TOO_SMALL, F2D2_LIMIT_EXCEEDED, F2D2_INVALID_OPTION, F2D2_ENGINE, F2D2_NON_FINITE, or
/// why the arguments cannot be used.
/// Threads: any.
///
/// # Safety
/// Pointers are NULL or valid for what their types and `capacity` say.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn f2d2_sampler_draw(
    sampler: *const f2d2_sampler,
    count: usize,
    steps: u32,
    seed: u64,
    pixels: *mut u8,
    capacity: usize,
    needed: *mut usize,
) -> f2d2_status {
    entry(c"f2d2_sampler_draw", || {
        let sampler = handle::get::<Sampler>(sampler)?;
        // SAFETY: the caller's promise.
        let buffer = unsafe { memory::buffer("pixels", pixels, capacity, needed) }?;
        sampler
            .fill(buffer, count, || Ok(sampler.sampler.draw(count, sampler.steps(steps), seed)?))
    })
}

/// Draws images, each after one step on its noise towards a likelier image. Image i depends on the seed, i and the
/// learning rate only.
///
/// The model needs the output grad_d. It is loaded at the first call, and evaluated once per image, on the CPU.
///
/// @param sampler the sampler.
/// @param count number of images.
/// @param steps network evaluations per image beside that of the gradient; 0 takes the model's recommendation.
/// @param seed of the noise.
/// @param learning_rate size of the step on every value of the noise, finite and above 0; 0.01 to 0.1 are usual.
/// @param pixels where the images go, as for f2d2_sampler_draw; NULL to ask for the size.
/// @param capacity its size in bytes.
/// @param[out] needed size of all images in bytes; also written for F2D2_BUFFER_TOO_SMALL.
/// Returns F2D2_OK, F2D2_INVALID_OPTION for a learning rate out of range or a model without grad_d, F2D2_SELF_TEST if
/// its gradient is not what the model file says, or as f2d2_sampler_draw.
/// Threads: any.
///
/// # Safety
/// Pointers are NULL or valid for what their types and `capacity` say.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn f2d2_sampler_draw_guided(
    sampler: *const f2d2_sampler,
    count: usize,
    steps: u32,
    seed: u64,
    learning_rate: f64,
    pixels: *mut u8,
    capacity: usize,
    needed: *mut usize,
) -> f2d2_status {
    entry(c"f2d2_sampler_draw_guided", || {
        let sampler = handle::get::<Sampler>(sampler)?;
        // SAFETY: the caller's promise.
        let buffer = unsafe { memory::buffer("pixels", pixels, capacity, needed) }?;
        sampler.fill(buffer, count, || {
            let steps = sampler.steps(steps);
            // The gradient is loaded at the first call.
            Ok(on_large_stack(|| sampler.sampler.draw_guided(count, steps, seed, learning_rate))??)
        })
    })
}

/// Destroys a sampler.
///
/// @param sampler the sampler, or NULL.
/// Returns F2D2_OK or why not.
/// Threads: any.
///
/// # Safety
/// None.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn f2d2_sampler_destroy(sampler: *mut f2d2_sampler) -> f2d2_status {
    entry(c"f2d2_sampler_destroy", || handle::destroy::<Sampler>(sampler))
}

impl Sampler {
    /// Writes the images that `draw` gives, if they were asked for and fit.
    fn fill(
        &self,
        buffer: Buffer<u8>,
        count: usize,
        draw: impl FnOnce() -> Result<Vec<Pixels>>,
    ) -> Result<()> {
        let Some(room) = buffer.room(self.bytes(count)?)? else { return Ok(()) };
        let images = draw()?;
        room.fill(images.into_iter().flat_map(|image| image.data));
        Ok(())
    }

    /// Network evaluations per image; 0 stands for the model's recommendation.
    fn steps(&self, asked: u32) -> usize {
        if asked == 0 { self.model.manifest().default_steps } else { asked as usize }
    }

    fn bytes(&self, count: usize) -> Result<usize> {
        let one = self.model.manifest().preprocess.shape.len();
        let all = one.checked_mul(count).filter(|&bytes| bytes <= isize::MAX as usize);
        all.ok_or_else(|| {
            let message = format!("{count} images of {one} bytes are more than memory can hold");
            Failure::new(F2D2_LIMIT_EXCEEDED, message)
        })
    }
}
