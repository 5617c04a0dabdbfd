//! Models: opened from a path, from memory or through a callback.

use std::ffi::{c_char, c_void};
use std::mem::offset_of;
use std::sync::Arc;
use std::thread;

use crate::entry::entry;
use crate::failure::{Failure, Result};
use crate::handle::{self, Kind, Object};
use crate::limits::f2d2_limits;
use crate::memory::{self, Versioned, fixed};
use crate::status::{
    F2D2_CALLBACK_FAILED, F2D2_MODEL_TOO_LARGE, F2D2_NULL_POINTER, F2D2_OUT_OF_RESOURCES,
    f2d2_status,
};

/// A model that was read and checked, and not yet put on an engine. Immutable; any number of threads may use it.
pub struct f2d2_model {
    _opaque: (),
}

pub(crate) struct Model(pub(crate) Arc<f2d2::Model>);

impl Object for Model {
    type Handle = f2d2_model;
    const KIND: Kind = Kind::Model;
}

/// Gives the next bytes of a model.
///
/// It must return: no exception, no longjmp.
///
/// @param user_data what was given along with the callback.
/// @param buffer where the bytes go.
/// @param capacity the most that may be written, at least 1.
/// @param[out] count how many were written; 0 at the end of the model.
/// Returns 0, or any other number to give up; opening then fails with F2D2_CALLBACK_FAILED.
pub type f2d2_read_callback = Option<
    unsafe extern "C-unwind" fn(
        user_data: *mut c_void,
        buffer: *mut c_void,
        capacity: usize,
        count: *mut usize,
    ) -> i32,
>;

/// What a model says about itself.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct f2d2_model_info {
    /// Size of this struct, set by the caller.
    pub struct_size: u32,
    /// Channels of the model's images, 1 (grey) or 3 (red, green, blue).
    pub channels: u32,
    /// Rows of the model's images.
    pub height: u32,
    /// Columns of the model's images.
    pub width: u32,
    /// Recommended number of network evaluations per noise floor.
    pub steps: u32,
    /// Number of recommended noise floors.
    pub noise_floors: u32,
    /// 1 if it was trained to score, else 0.
    pub scores: u32,
    /// 1 if it was trained to sample, else 0.
    pub samples: u32,
    /// Size of the file in bytes.
    pub file_bytes: u64,
    /// SHA-256 of the file, lower-case hexadecimal, with a NUL.
    pub hash: [c_char; 72],
    /// A name for people, UTF-8, with a NUL; cut if it is longer.
    pub name: [c_char; 128],
    /// Licence of the weights, UTF-8, with a NUL; cut if it is longer.
    pub licence: [c_char; 64],
    /// 1 if its samples can be guided, else 0; see f2d2_sampler_draw_guided.
    pub guides: u32,
    /// Zero.
    pub reserved: u32,
}

// SAFETY: repr(C), begins with its u32 size, and any bytes are valid fields.
unsafe impl Versioned for f2d2_model_info {
    const NAME: &str = "f2d2_model_info";
    const FIRST: usize = offset_of!(Self, guides);
}

/// Opens a model file.
///
/// @param path UTF-8 path of a regular file.
/// @param limits what the file may ask for; NULL for the defaults.
/// @param[out] model the model; destroy it with f2d2_model_destroy.
/// Returns F2D2_OK; F2D2_IO, F2D2_MODEL_CORRUPT, F2D2_MODEL_TOO_NEW, F2D2_MODEL_NOT_ALLOWED or F2D2_MODEL_TOO_LARGE for
/// the file; or why the arguments cannot be used.
/// Threads: any.
///
/// # Safety
/// Pointers are NULL or valid for what their types say; `path` ends with a NUL.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn f2d2_model_open(
    path: *const c_char,
    limits: *const f2d2_limits,
    model: *mut *mut f2d2_model,
) -> f2d2_status {
    entry(c"f2d2_model_open", || {
        // SAFETY: the caller's promise.
        let (place, limits, path) = unsafe {
            let limits = f2d2_limits::read(limits)?;
            (memory::out("model", model)?, limits, memory::text("path", path)?)
        };
        let opened = on_large_stack(|| f2d2::Model::open(&path, &limits))??;
        place.write(handle::create(Model(Arc::new(opened)))?);
        Ok(())
    })
}

/// Opens a model that is in memory.
///
/// @param data the bytes of the model file; read during the call only.
/// @param size how many.
/// @param limits what the file may ask for; NULL for the defaults.
/// @param[out] model the model; destroy it with f2d2_model_destroy.
/// Returns as f2d2_model_open, without F2D2_IO.
/// Threads: any.
///
/// # Safety
/// Pointers are NULL or valid for what their types and `size` say.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn f2d2_model_open_memory(
    data: *const c_void,
    size: usize,
    limits: *const f2d2_limits,
    model: *mut *mut f2d2_model,
) -> f2d2_status {
    entry(c"f2d2_model_open_memory", || {
        // SAFETY: the caller's promise.
        let (place, limits, bytes) = unsafe {
            let limits = f2d2_limits::read(limits)?;
            (memory::out("model", model)?, limits, memory::bytes("data", data.cast(), size)?)
        };
        let opened = on_large_stack(|| f2d2::Model::from_bytes("in memory", bytes, &limits))??;
        place.write(handle::create(Model(Arc::new(opened)))?);
        Ok(())
    })
}

/// Opens a model that a callback reads, such as from an archive or an encrypted file.
///
/// @param read gives the bytes; it is called on this thread until the end, a failure, or the limit of file_bytes.
/// @param user_data passed to `read`; may be NULL.
/// @param limits what the file may ask for; NULL for the defaults.
/// @param[out] model the model; destroy it with f2d2_model_destroy.
/// Returns as f2d2_model_open, with F2D2_CALLBACK_FAILED instead of F2D2_IO.
/// Threads: any.
///
/// # Safety
/// Pointers are NULL or valid for what their types say; `read` may be called with `user_data`.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn f2d2_model_open_callback(
    read: f2d2_read_callback,
    user_data: *mut c_void,
    limits: *const f2d2_limits,
    model: *mut *mut f2d2_model,
) -> f2d2_status {
    entry(c"f2d2_model_open_callback", || {
        // SAFETY: the caller's promise.
        let (place, limits) = unsafe {
            let limits = f2d2_limits::read(limits)?;
            (memory::out("model", model)?, limits)
        };
        let read = |buffer: &mut [u8], count: &mut usize| {
            // SAFETY: the host's function of this type with its own data, and a buffer that is as long as it says.
            read.map(|read| unsafe {
                read(user_data, buffer.as_mut_ptr().cast(), buffer.len(), count)
            })
        };
        let bytes = read_all(read, limits.file_bytes)?;
        let opened = on_large_stack(|| f2d2::Model::from_bytes("from callback", &bytes, &limits))??;
        place.write(handle::create(Model(Arc::new(opened)))?);
        Ok(())
    })
}

/// What a model says about itself.
///
/// @param model the model.
/// @param[out] info filled in.
/// Returns F2D2_OK or why not.
/// Threads: any.
///
/// # Safety
/// `info` is NULL or valid for the `struct_size` that it begins with.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn f2d2_model_get_info(
    model: *const f2d2_model,
    info: *mut f2d2_model_info,
) -> f2d2_status {
    entry(c"f2d2_model_get_info", || {
        let model = handle::get::<Model>(model)?;
        // SAFETY: the caller's promise.
        let place = unsafe { memory::sized_out("info", info) }?;
        let manifest = model.0.manifest();
        let shape = manifest.preprocess.shape;
        place.write(f2d2_model_info {
            struct_size: 0,
            channels: shape.channels as u32,
            height: shape.height as u32,
            width: shape.width as u32,
            steps: manifest.default_steps as u32,
            noise_floors: manifest.noise_floors.len() as u32,
            scores: u32::from(manifest.directions.scoring),
            samples: u32::from(manifest.directions.sampling),
            file_bytes: model.0.file_bytes() as u64,
            hash: fixed(model.0.hash()),
            name: fixed(&manifest.name),
            licence: fixed(&manifest.licence),
            guides: u32::from(model.0.guides()),
            reserved: 0,
        });
        Ok(())
    })
}

/// Destroys a model. What was created from it keeps it as long as needed.
///
/// @param model the model, or NULL.
/// Returns F2D2_OK or why not.
/// Threads: any.
///
/// # Safety
/// None.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn f2d2_model_destroy(model: *mut f2d2_model) -> f2d2_status {
    entry(c"f2d2_model_destroy", || handle::destroy::<Model>(model))
}

/// Runs `work` on a thread whose stack suffices for any model that the limits allow, whatever stack the host has.
pub(crate) fn on_large_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T> {
    const STACK: usize = 16 << 20;
    let builder = thread::Builder::new().name("f2d2-load".into()).stack_size(STACK);
    thread::scope(|scope| {
        let thread = builder.spawn_scoped(scope, work).map_err(|error| Failure {
            status: F2D2_OUT_OF_RESOURCES,
            message: "cannot start a thread".into(),
            source: error.to_string(),
        })?;
        Ok(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// Everything that `read` gives, one byte beyond the limit at most. It gives `None` where there is no callback.
fn read_all(read: impl Fn(&mut [u8], &mut usize) -> Option<i32>, limit: u64) -> Result<Vec<u8>> {
    const PIECE: usize = 64 << 10;
    let mut bytes = Vec::new();
    let mut piece = vec![0; PIECE];
    loop {
        let mut count = 0;
        match read(&mut piece, &mut count) {
            None => return Err(Failure::new(F2D2_NULL_POINTER, "read is NULL")),
            Some(0) if count == 0 => return Ok(bytes),
            Some(0) => {}
            Some(code) => {
                let message = format!("the callback returned {code}, need 0");
                return Err(Failure::new(F2D2_CALLBACK_FAILED, message));
            }
        }
        let Some(read) = piece.get(..count) else {
            let message = format!("the callback says it wrote {count} bytes, need at most {PIECE}");
            return Err(Failure::new(F2D2_CALLBACK_FAILED, message));
        };
        bytes.extend_from_slice(read);
        if bytes.len() as u64 > limit {
            let message = format!("model file size in bytes is over {limit}, which is the limit");
            return Err(Failure::new(F2D2_MODEL_TOO_LARGE, message));
        }
    }
}
