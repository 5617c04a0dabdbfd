//! Status numbers: those of the interface below 100, those of the library as its error codes. Never reused.

use std::ffi::{CStr, c_char};

/// What a function returns: F2D2_OK, or the reason why it did nothing.
pub type f2d2_status = i32;

/// It worked.
pub const F2D2_OK: f2d2_status = 0;
/// An argument that must not be NULL is NULL.
pub const F2D2_NULL_POINTER: f2d2_status = 1;
/// A pointer to a struct or number is not aligned for it.
pub const F2D2_MISALIGNED: f2d2_status = 2;
/// A struct_size is not the size of that struct in any version of the header.
pub const F2D2_INVALID_STRUCT: f2d2_status = 3;
/// A field that this library does not know, or cannot serve, is set.
pub const F2D2_UNSUPPORTED_FIELD: f2d2_status = 4;
/// The handle was never one of this library.
pub const F2D2_INVALID_HANDLE: f2d2_status = 5;
/// The handle is one of another kind of object.
pub const F2D2_WRONG_HANDLE: f2d2_status = 6;
/// The object behind the handle was destroyed.
pub const F2D2_DESTROYED: f2d2_status = 7;
/// The session is at work: on another thread, or further up on this one.
pub const F2D2_BUSY: f2d2_status = 8;
/// An earlier call on this object panicked; it can only be destroyed.
pub const F2D2_POISONED: f2d2_status = 9;
/// The library panicked; this is a defect of it.
pub const F2D2_PANIC: f2d2_status = 10;
/// The process forked after it used the library; the child has to call exec first.
pub const F2D2_FORKED: f2d2_status = 11;
/// The cancel flag was set.
pub const F2D2_CANCELLED: f2d2_status = 12;
/// The caller's buffer is too small; the needed size was written.
pub const F2D2_BUFFER_TOO_SMALL: f2d2_status = 13;
/// A text is not UTF-8, is too long, or has no end.
pub const F2D2_INVALID_TEXT: f2d2_status = 14;
/// A number is none of those allowed, an index is out of range, or a name is unknown.
pub const F2D2_INVALID_VALUE: f2d2_status = 15;
/// A callback reported a failure or broke its contract.
pub const F2D2_CALLBACK_FAILED: f2d2_status = 16;
/// A limit of the interface is exceeded: frames of a batch, or handles.
pub const F2D2_LIMIT_EXCEEDED: f2d2_status = 17;
/// What was asked for is not there: no result yet, no heat map, no calibration.
pub const F2D2_UNAVAILABLE: f2d2_status = 18;
/// The operating system has no thread or memory left for this.
pub const F2D2_OUT_OF_RESOURCES: f2d2_status = 19;
/// The description of a frame cannot be true, or its pixels cannot be used.
pub const F2D2_INVALID_FRAME: f2d2_status = 100;
/// A file could not be read or written.
pub const F2D2_IO: f2d2_status = 200;
/// The model file is damaged, hostile or of another kind.
pub const F2D2_MODEL_CORRUPT: f2d2_status = 201;
/// The model file has a format that this library does not know yet.
pub const F2D2_MODEL_TOO_NEW: f2d2_status = 202;
/// The model holds an operator, data type or attribute that is not allowed.
pub const F2D2_MODEL_NOT_ALLOWED: f2d2_status = 203;
/// The model exceeds a limit.
pub const F2D2_MODEL_TOO_LARGE: f2d2_status = 204;
/// The engine does not reproduce the golden vectors of the model.
pub const F2D2_SELF_TEST: f2d2_status = 300;
/// The engine cannot be used here.
pub const F2D2_ENGINE_UNAVAILABLE: f2d2_status = 301;
/// The engine failed.
pub const F2D2_ENGINE: f2d2_status = 302;
/// A computed number is NaN or infinite.
pub const F2D2_NON_FINITE: f2d2_status = 303;
/// The graphics device is gone, or does not answer, and could not be had again.
pub const F2D2_DEVICE_LOST: f2d2_status = 304;
/// The graphics device has no room.
pub const F2D2_OUT_OF_DEVICE_MEMORY: f2d2_status = 305;
/// A model that only samples cannot be inverted for this image.
pub const F2D2_NOT_INVERTIBLE: f2d2_status = 306;
/// An option is out of range.
pub const F2D2_INVALID_OPTION: f2d2_status = 400;
/// There are too few images for the guarantee that was asked for.
pub const F2D2_TOO_FEW_IMAGES: f2d2_status = 500;
/// The calibration cannot be understood.
pub const F2D2_CALIBRATION_CORRUPT: f2d2_status = 501;
/// The calibration was made for another model, schedule, engine or preprocessing.
pub const F2D2_CALIBRATION_MISMATCH: f2d2_status = 502;

/// Status, its name, and what to do about it.
#[rustfmt::skip]
const TABLE: &[(f2d2_status, &CStr, &CStr)] = &[
    (F2D2_OK, c"F2D2_OK", c""),
    (F2D2_NULL_POINTER, c"F2D2_NULL_POINTER", c"pass an object; the header says which arguments may be NULL"),
    (F2D2_MISALIGNED, c"F2D2_MISALIGNED", c"pass the address of a variable of the parameter's type"),
    (F2D2_INVALID_STRUCT, c"F2D2_INVALID_STRUCT", c"prepare every struct with F2D2_INIT"),
    (F2D2_UNSUPPORTED_FIELD, c"F2D2_UNSUPPORTED_FIELD", c"use a library at least as new as the header, or leave the field zero"),
    (F2D2_INVALID_HANDLE, c"F2D2_INVALID_HANDLE", c"pass what a create or open function of this library gave"),
    (F2D2_WRONG_HANDLE, c"F2D2_WRONG_HANDLE", c"pass a handle of the parameter's type"),
    (F2D2_DESTROYED, c"F2D2_DESTROYED", c"destroy a handle once, after its last use"),
    (F2D2_BUSY, c"F2D2_BUSY", c"give every thread its own session, and do not call a session from its own callback"),
    (F2D2_POISONED, c"F2D2_POISONED", c"destroy the object and create it again"),
    (F2D2_PANIC, c"F2D2_PANIC", c"report it with the message; destroy the objects that took part"),
    (F2D2_FORKED, c"F2D2_FORKED", c"fork before the first call, or exec in the child"),
    (F2D2_CANCELLED, c"F2D2_CANCELLED", c""),
    (F2D2_BUFFER_TOO_SMALL, c"F2D2_BUFFER_TOO_SMALL", c"call again with a buffer of the size that was written"),
    (F2D2_INVALID_TEXT, c"F2D2_INVALID_TEXT", c"pass UTF-8 of at most 32768 bytes that ends with a NUL"),
    (F2D2_INVALID_VALUE, c"F2D2_INVALID_VALUE", c"use the constants of the header, and counts that the library gave"),
    (F2D2_CALLBACK_FAILED, c"F2D2_CALLBACK_FAILED", c"look at what the callback returned"),
    (F2D2_LIMIT_EXCEEDED, c"F2D2_LIMIT_EXCEEDED", c"split the batch, raise max_batch, or destroy handles that are done with"),
    (F2D2_UNAVAILABLE, c"F2D2_UNAVAILABLE", c"score first; heat maps and verdicts have to be asked for when the detector is created"),
    (F2D2_OUT_OF_RESOURCES, c"F2D2_OUT_OF_RESOURCES", c"free threads or memory of the process"),
    (F2D2_INVALID_FRAME, c"F2D2_INVALID_FRAME", c"describe the pixels as they lie in memory"),
    (F2D2_IO, c"F2D2_IO", c"check the path and its rights"),
    (F2D2_MODEL_CORRUPT, c"F2D2_MODEL_CORRUPT", c"copy the model file again; it has to be an f2d2 model"),
    (F2D2_MODEL_TOO_NEW, c"F2D2_MODEL_TOO_NEW", c"use a newer library or an older model"),
    (F2D2_MODEL_NOT_ALLOWED, c"F2D2_MODEL_NOT_ALLOWED", c"export the model with the recipe"),
    (F2D2_MODEL_TOO_LARGE, c"F2D2_MODEL_TOO_LARGE", c"raise the limit if you trust the file"),
    (F2D2_SELF_TEST, c"F2D2_SELF_TEST", c"use another engine; this one computes other numbers here"),
    (F2D2_ENGINE_UNAVAILABLE, c"F2D2_ENGINE_UNAVAILABLE", c"use another engine, or auto"),
    (F2D2_ENGINE, c"F2D2_ENGINE", c"create the detector again, or use another engine"),
    (F2D2_NON_FINITE, c"F2D2_NON_FINITE", c"the image is outside of what the model can carry; treat it as not judged"),
    (F2D2_DEVICE_LOST, c"F2D2_DEVICE_LOST", c"create the detector again, or use the engine cpu"),
    (F2D2_OUT_OF_DEVICE_MEMORY, c"F2D2_OUT_OF_DEVICE_MEMORY", c"split the batch, free memory of the device, or use the engine cpu"),
    (F2D2_NOT_INVERTIBLE, c"F2D2_NOT_INVERTIBLE", c"take more steps, or a model that was trained to score"),
    (F2D2_INVALID_OPTION, c"F2D2_INVALID_OPTION", c"set the option to what the message asks for"),
    (F2D2_TOO_FEW_IMAGES, c"F2D2_TOO_FEW_IMAGES", c"calibrate on more normal images, or ask for less"),
    (F2D2_CALIBRATION_CORRUPT, c"F2D2_CALIBRATION_CORRUPT", c"calibrate again"),
    (F2D2_CALIBRATION_MISMATCH, c"F2D2_CALIBRATION_MISMATCH", c"calibrate this detector, or open it as the calibrated one was"),
];

/// The name of a status, as in "F2D2_BUSY"; "F2D2_UNKNOWN" for a number that this library does not know.
///
/// Returns text that lives as long as the process.
/// Threads: any, at any time.
#[unsafe(no_mangle)]
pub extern "C" fn f2d2_status_name(status: f2d2_status) -> *const c_char {
    row(status).map_or(c"F2D2_UNKNOWN", |(_, name, _)| name).as_ptr()
}

/// What to do about a status.
pub(crate) fn hint(status: f2d2_status) -> &'static CStr {
    row(status).map_or(c"", |(_, _, hint)| hint)
}

fn row(status: f2d2_status) -> Option<&'static (f2d2_status, &'static CStr, &'static CStr)> {
    TABLE.iter().find(|(number, _, _)| *number == status)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names and numbers of lines like `/// [`Error::Io`]\n    Io = 200,`, in the header's spelling.
    fn library_codes() -> Vec<(String, f2d2_status)> {
        let source = include_str!("../../../sdk/src/error.rs");
        let body = source.split("pub enum ErrorCode {").nth(1).unwrap().split('}').next().unwrap();
        let lines =
            body.lines().filter_map(|line| line.trim().strip_suffix(',')?.split_once(" = "));
        let upper = |name: &str| {
            let mut text = String::from("F2D2");
            for c in name.chars() {
                if c.is_ascii_uppercase() {
                    text.push('_');
                }
                text.push(c.to_ascii_uppercase());
            }
            text
        };
        lines.map(|(name, number)| (upper(name), number.parse().unwrap())).collect()
    }

    #[test]
    fn every_error_code_of_the_library_has_its_status() {
        let codes = library_codes();
        assert!(codes.len() >= 14, "{codes:?}");
        for (name, number) in codes {
            let row = row(number).unwrap_or_else(|| panic!("{name} = {number} is missing"));
            assert_eq!(row.1.to_str().unwrap(), name);
        }
    }

    #[test]
    fn every_constant_is_in_the_table_once() {
        let source = include_str!("status.rs");
        let constants: Vec<&str> = source
            .lines()
            .filter_map(|line| line.strip_prefix("pub const ")?.split_once(": f2d2_status = "))
            .map(|(name, _)| name)
            .collect();
        let names: Vec<&str> = TABLE.iter().map(|(_, name, _)| name.to_str().unwrap()).collect();
        assert_eq!(constants, names);
        for (i, (number, _, _)) in TABLE.iter().enumerate() {
            assert!(TABLE[..i].iter().all(|(other, _, _)| other < number), "{number}");
        }
    }
}
