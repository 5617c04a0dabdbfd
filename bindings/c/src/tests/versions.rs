//! Structs of older and newer headers, with a struct that has two versions.

use crate::memory::{self, Versioned};
use crate::status::{F2D2_INVALID_STRUCT, F2D2_UNSUPPORTED_FIELD};

/// What this library knows: the second version.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
struct Second {
    struct_size: u32,
    first: u32,
    second: u64,
}

// SAFETY: repr(C), begins with its u32 size, and any bytes are valid fields.
unsafe impl Versioned for Second {
    const NAME: &str = "second";
    const FIRST: usize = 8;
}

/// A caller's struct of `size` bytes in a buffer that is longer and filled with `rest`.
fn caller(size: u32, rest: u8) -> [u64; 6] {
    let mut words = [u64::from_ne_bytes([rest; 8]); 6];
    let mut head = words[0].to_ne_bytes();
    head[..4].copy_from_slice(&size.to_ne_bytes());
    words[0] = u64::from_ne_bytes(head);
    words
}

#[test]
fn an_older_struct_has_zero_in_new_fields() {
    let words = caller(8, 0x11);
    // SAFETY: eight bytes are there.
    let read: Second = unsafe { memory::sized_in("s", words.as_ptr().cast()) }.unwrap();
    assert_eq!(read, Second { struct_size: 8, first: 0x1111_1111, second: 0 });
}

#[test]
fn a_newer_struct_may_have_zero_only_in_unknown_fields() {
    let mut words = caller(24, 0x11);
    words[2] = 0;
    // SAFETY: 24 bytes are there.
    let read: Second = unsafe { memory::sized_in("s", words.as_ptr().cast()) }.unwrap();
    assert_eq!(read.second, u64::from_ne_bytes([0x11; 8]));
    words[2] = 1;
    // SAFETY: as above.
    let failure = unsafe { memory::sized_in::<Second>("s", words.as_ptr().cast()) }.unwrap_err();
    assert_eq!(failure.status, F2D2_UNSUPPORTED_FIELD);
}

#[test]
fn results_fit_the_callers_version() {
    let value = Second { struct_size: 0, first: 7, second: 9 };
    let filled = u64::from_ne_bytes([0xee; 8]);
    for (size, second, third) in [(8, filled, filled), (16, 9, filled), (24, 9, 0)] {
        let mut words = caller(size, 0xee);
        // SAFETY: `size` bytes are there.
        unsafe { memory::sized_out::<Second>("s", words.as_mut_ptr().cast()) }
            .unwrap()
            .write(value);
        let head = words[0].to_ne_bytes();
        assert_eq!(head[..4], size.to_ne_bytes(), "the caller's size stays");
        assert_eq!(head[4..], 7u32.to_ne_bytes());
        assert_eq!((words[1], words[2], words[3]), (second, third, filled));
    }
}

#[test]
fn other_sizes_are_refused() {
    for size in [0, 3, 4, 7, 9, 12, (64 << 10) + 8, u32::MAX] {
        let words = caller(size, 0);
        // SAFETY: only the size is read.
        let failure =
            unsafe { memory::sized_in::<Second>("s", words.as_ptr().cast()) }.unwrap_err();
        assert_eq!(failure.status, F2D2_INVALID_STRUCT, "{size}");
    }
}

#[test]
fn fixed_text_is_cut_between_characters_and_ends() {
    let text = |array: &[std::ffi::c_char]| -> Vec<u8> {
        assert_eq!(array.last(), Some(&0));
        array.iter().take_while(|&&c| c != 0).map(|&c| c as u8).collect()
    };
    assert_eq!(text(&memory::fixed::<8>("short")), b"short");
    assert_eq!(text(&memory::fixed::<8>("exactly")), b"exactly");
    assert_eq!(text(&memory::fixed::<8>("too long")), b"too lon");
    assert_eq!(text(&memory::fixed::<8>("abcdef\u{e9}")), b"abcdef");
    assert_eq!(text(&memory::fixed::<8>(format_args!("{}{}", "abcd", "efgh"))), b"abcdefg");
}
