//! Which library this is.

use std::ffi::{CStr, c_char};

/// Major version of the header, and number in the SONAME. It changes when a compiled program would break.
pub const F2D2_VERSION_MAJOR: u32 = 0;
/// Minor version of the header. It grows when functions, constants or fields are added.
pub const F2D2_VERSION_MINOR: u32 = 1;
/// Patch version of the header. It grows when nothing of the interface changes.
pub const F2D2_VERSION_PATCH: u32 = 0;
/// The header's version as one number, as `f2d2_version` gives it for the library.
pub const F2D2_VERSION: u32 = 100;

const TEXT: &CStr =
    match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(text) => text,
        Err(_) => c"",
    };

/// The version of the library that runs, to be compared with F2D2_VERSION of the header it was compiled with.
///
/// Returns 10000 * major + 100 * minor + patch. A program runs with any library of the same major version whose number
/// is not smaller.
/// Threads: any, at any time.
#[unsafe(no_mangle)]
pub extern "C" fn f2d2_version() -> u32 {
    F2D2_VERSION_MAJOR * 10_000 + F2D2_VERSION_MINOR * 100 + F2D2_VERSION_PATCH
}

/// The version of the library that runs, as in "0.1.0".
///
/// Returns text that lives as long as the process.
/// Threads: any, at any time.
#[unsafe(no_mangle)]
pub extern "C" fn f2d2_version_string() -> *const c_char {
    TEXT.as_ptr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macros_string_and_crate_agree() {
        let text = TEXT.to_str().unwrap();
        assert_eq!(text, format!("{F2D2_VERSION_MAJOR}.{F2D2_VERSION_MINOR}.{F2D2_VERSION_PATCH}"));
        assert_eq!(f2d2_version(), F2D2_VERSION);
        let numbers: Vec<u32> = text.split('.').map(|part| part.parse().unwrap()).collect();
        assert_eq!(F2D2_VERSION, numbers[0] * 10_000 + numbers[1] * 100 + numbers[2]);
    }
}
