//! The caller's memory: the only file that follows pointers of the caller.
//!
//! Every function here asks for what the header asks of the caller: a pointer is NULL or valid for what its type and
//! length say. NULL, wrong alignment, sizes that are no version of a struct, and text that is none are found out.

use std::ffi::{CStr, c_char};
use std::fmt::{self, Display, Write};
use std::mem::MaybeUninit;
use std::ptr;

use crate::failure::{Failure, Result};
use crate::status::{
    F2D2_BUFFER_TOO_SMALL, F2D2_INVALID_STRUCT, F2D2_INVALID_TEXT, F2D2_INVALID_VALUE,
    F2D2_LIMIT_EXCEEDED, F2D2_MISALIGNED, F2D2_NULL_POINTER, F2D2_UNSUPPORTED_FIELD,
};

/// Longest text that a caller may pass, in bytes.
const LONGEST_TEXT: usize = 32 << 10;
/// No struct of this interface will ever be larger.
const LARGEST_STRUCT: usize = 64 << 10;

/// A struct of the interface, which may grow at its end from one version to the next.
///
/// # Safety
/// It is `repr(C)`, begins with its `u32` size in bytes, and any bytes make a valid value.
pub(crate) unsafe trait Versioned: Copy {
    /// For messages.
    const NAME: &str;
    /// Its size in the first version of the header.
    const FIRST: usize;
}

/// A checked place for one result. Nothing is written before [`Place::write`].
pub(crate) struct Place<T>(*mut T);

impl<T> Place<T> {
    pub(crate) fn write(self, value: T) {
        // SAFETY: `out` got it from a caller who promises that it can be written, and checked the alignment.
        unsafe { self.0.write(value) };
    }
}

/// A checked place for one struct of the caller's version.
#[derive(Clone, Copy)]
pub(crate) struct StructPlace<T> {
    pointer: *mut T,
    size: usize,
}

impl<T: Versioned> StructPlace<T> {
    /// Writes what fits into the caller's version, zeroes behind what this version knows, and keeps `struct_size`.
    pub(crate) fn write(self, value: T) {
        let known = self.size.min(size_of::<T>());
        let (to, from) = (self.pointer.cast::<u8>(), (&raw const value).cast::<u8>());
        // SAFETY: `sized_out` read `size` from the caller's struct, who promises that it is that long; `known` is no
        // longer than `value`, and a variable on our stack cannot overlap with the caller's.
        unsafe {
            ptr::copy_nonoverlapping(
                from.add(size_of::<u32>()),
                to.add(size_of::<u32>()),
                known - size_of::<u32>(),
            );
            ptr::write_bytes(to.add(known), 0, self.size - known);
        }
    }
}

/// A place for one result.
///
/// # Safety
/// `pointer` is NULL or valid for writing a `T`.
pub(crate) unsafe fn out<T>(name: &str, pointer: *mut T) -> Result<Place<T>> {
    aligned(name, pointer)?;
    Ok(Place(pointer))
}

/// As [`out`]; `None` for NULL.
///
/// # Safety
/// As [`out`].
pub(crate) unsafe fn optional_out<T>(name: &str, pointer: *mut T) -> Result<Option<Place<T>>> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's promise.
    unsafe { out(name, pointer) }.map(Some)
}

/// A place for one struct.
///
/// # Safety
/// `pointer` is NULL or valid for reading and writing the `struct_size` bytes that it begins with.
pub(crate) unsafe fn sized_out<T: Versioned>(
    name: &str,
    pointer: *mut T,
) -> Result<StructPlace<T>> {
    // SAFETY: the caller's promise.
    let size = unsafe { size(name, pointer) }?;
    Ok(StructPlace { pointer, size })
}

/// A copy of the caller's struct; fields that it does not have are zero.
///
/// # Safety
/// `pointer` is NULL or valid for reading the `struct_size` bytes that it begins with.
pub(crate) unsafe fn sized_in<T: Versioned>(name: &str, pointer: *const T) -> Result<T> {
    // SAFETY: the caller's promise.
    let size = unsafe { size(name, pointer) }?;
    let known = size.min(size_of::<T>());
    let mut value = MaybeUninit::<T>::zeroed();
    // SAFETY: the caller's struct is `size` bytes long, `value` at least `known`, and it is ours.
    let tail = unsafe {
        ptr::copy_nonoverlapping(pointer.cast::<u8>(), value.as_mut_ptr().cast::<u8>(), known);
        std::slice::from_raw_parts(pointer.cast::<u8>().add(known), size - known)
    };
    if tail.iter().any(|&byte| byte != 0) {
        let message = format!("{} has fields set that this library does not know", T::NAME);
        return Err(Failure::new(F2D2_UNSUPPORTED_FIELD, message));
    }
    // SAFETY: all bytes were zeroed or copied, and any bytes are valid.
    Ok(unsafe { value.assume_init() })
}

/// As [`sized_in`]; all zero for NULL.
///
/// # Safety
/// As [`sized_in`].
pub(crate) unsafe fn sized_or_zero<T: Versioned>(name: &str, pointer: *const T) -> Result<T> {
    if pointer.is_null() {
        // SAFETY: any bytes are valid.
        return Ok(unsafe { MaybeUninit::zeroed().assume_init() });
    }
    // SAFETY: the caller's promise.
    unsafe { sized_in(name, pointer) }
}

/// Pointers to the `count` structs of an array of the caller's version. All begin with the same size.
///
/// # Safety
/// `first` is NULL or valid for reading `count` structs of the size that the first begins with.
pub(crate) unsafe fn sized_array<T: Versioned>(
    name: &str,
    first: *const T,
    count: usize,
) -> Result<impl Iterator<Item = *const T> + Clone + use<T>> {
    let mut stride = 0;
    if count > 0 {
        // SAFETY: there is at least one.
        stride = unsafe { size(name, first) }?;
        if count.checked_mul(stride).is_none_or(|bytes| bytes > isize::MAX as usize) {
            let message = format!("{name} has {count} elements, more than memory can hold");
            return Err(Failure::new(F2D2_LIMIT_EXCEEDED, message));
        }
    }
    let at = move |i: usize| first.wrapping_byte_add(i * stride);
    for i in 1..count {
        // SAFETY: element `i` of `count`.
        let other = unsafe { size(name, at(i)) }?;
        if other != stride {
            let message =
                format!("struct_size of {name}[{i}] is {other}, need {stride} as in the first");
            return Err(Failure::new(F2D2_INVALID_STRUCT, message));
        }
    }
    Ok((0..count).map(at))
}

/// The caller's bytes.
///
/// # Safety
/// `pointer` is NULL or valid for reading `length` bytes for as long as `'a`, in which nobody writes to them.
pub(crate) unsafe fn bytes<'a>(name: &str, pointer: *const u8, length: usize) -> Result<&'a [u8]> {
    if length == 0 {
        return Ok(&[]);
    }
    aligned(name, pointer)?;
    if length > isize::MAX as usize {
        let message = format!("{name} has {length} bytes, more than memory can hold");
        return Err(Failure::new(F2D2_LIMIT_EXCEEDED, message));
    }
    // SAFETY: not NULL, and the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts(pointer, length) })
}

/// The caller's numbers.
///
/// # Safety
/// `pointer` is NULL or valid for reading `count` numbers.
pub(crate) unsafe fn numbers(name: &str, pointer: *const f64, count: usize) -> Result<Vec<f64>> {
    if count == 0 {
        return Ok(Vec::new());
    }
    aligned(name, pointer)?;
    if count > LARGEST_STRUCT {
        let message = format!("{name} has {count} elements, need at most {LARGEST_STRUCT}");
        return Err(Failure::new(F2D2_LIMIT_EXCEEDED, message));
    }
    // SAFETY: not NULL, aligned, few enough, and the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts(pointer, count) }.to_vec())
}

/// The caller's text.
///
/// # Safety
/// `pointer` is NULL or text that ends with a NUL.
pub(crate) unsafe fn text(name: &str, pointer: *const c_char) -> Result<String> {
    aligned(name, pointer)?;
    // SAFETY: every byte before the NUL may be read, and none behind it is.
    let length = (0..=LONGEST_TEXT).find(|&i| unsafe { pointer.add(i).read() } == 0);
    let Some(length) = length else {
        let message = format!("{name} is longer than {LONGEST_TEXT} bytes");
        return Err(Failure::new(F2D2_INVALID_TEXT, message));
    };
    // SAFETY: `length` bytes and the NUL behind them were just read.
    let text = unsafe { std::slice::from_raw_parts(pointer.cast::<u8>(), length + 1) };
    let text = CStr::from_bytes_with_nul(text).map(CStr::to_str);
    match text {
        Ok(Ok(text)) => Ok(text.to_owned()),
        _ => Err(Failure::new(F2D2_INVALID_TEXT, format!("{name} is not UTF-8"))),
    }
}

/// As [`text`]; `None` for NULL.
///
/// # Safety
/// As [`text`].
pub(crate) unsafe fn optional_text(name: &str, pointer: *const c_char) -> Result<Option<String>> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's promise.
    unsafe { text(name, pointer) }.map(Some)
}

/// A buffer of the caller for as many `T` as `capacity` says, and where the needed number goes.
pub(crate) struct Buffer<T> {
    pointer: *mut T,
    capacity: usize,
    needed: Place<usize>,
}

/// A buffer; NULL asks only for the needed size.
///
/// # Safety
/// `pointer` is NULL or valid for writing `capacity` values, `needed` is NULL or valid for writing.
pub(crate) unsafe fn buffer<T: Copy>(
    name: &str,
    pointer: *mut T,
    capacity: usize,
    needed: *mut usize,
) -> Result<Buffer<T>> {
    if !pointer.is_null() {
        aligned(name, pointer)?;
    }
    // SAFETY: the caller's promise.
    Ok(Buffer { pointer, capacity, needed: unsafe { out("needed", needed) }? })
}

impl<T: Copy> Buffer<T> {
    /// Writes the number of values that there are; the room for them, or `None` if only their number was asked for.
    pub(crate) fn room(self, count: usize) -> Result<Option<Room<T>>> {
        let Self { pointer, capacity, needed } = self;
        needed.write(count);
        if pointer.is_null() {
            return Ok(None);
        }
        if count > capacity {
            let message = format!("the buffer has room for {capacity}, need {count}");
            return Err(Failure::new(F2D2_BUFFER_TOO_SMALL, message));
        }
        Ok(Some(Room { pointer, count }))
    }

    /// Writes all values, or none if there are more than fit; the number of values in any case.
    pub(crate) fn write(self, values: impl ExactSizeIterator<Item = T>) -> Result<()> {
        if let Some(room) = self.room(values.len())? {
            room.fill(values);
        }
        Ok(())
    }
}

/// Room for as many values as there are.
pub(crate) struct Room<T> {
    pointer: *mut T,
    count: usize,
}

impl<T: Copy> Room<T> {
    /// Writes the values, never more than there is room for.
    pub(crate) fn fill(self, values: impl Iterator<Item = T>) {
        for (i, value) in values.take(self.count).enumerate() {
            // SAFETY: the caller promises room for its capacity, which `count` does not exceed.
            unsafe { self.pointer.add(i).write(value) };
        }
    }
}

impl Buffer<c_char> {
    /// Writes text with a NUL at its end, which counts.
    pub(crate) fn write_text(self, text: &str) -> Result<()> {
        let Some(room) = self.room(text.len() + 1)? else { return Ok(()) };
        room.fill(text.bytes().chain(std::iter::once(0)).map(|byte| byte as c_char));
        Ok(())
    }
}

/// Text in an array of fixed length, cut between two characters if it is too long, with a NUL at its end.
pub(crate) fn fixed<const N: usize>(text: impl Display) -> [c_char; N] {
    let mut array = Fixed { bytes: [0; N], length: 0 };
    // The only error is that the text is too long, and then it is cut.
    let _ = write!(array, "{text}");
    array.bytes
}

struct Fixed<const N: usize> {
    bytes: [c_char; N],
    length: usize,
}

impl<const N: usize> fmt::Write for Fixed<N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = N.saturating_sub(self.length + 1);
        let fits = &text[..text.floor_char_boundary(room)];
        for (to, from) in self.bytes[self.length..].iter_mut().zip(fits.bytes()) {
            *to = from as c_char;
        }
        self.length += fits.len();
        if fits.len() < text.len() { Err(fmt::Error) } else { Ok(()) }
    }
}

/// # Errors
/// F2D2_UNSUPPORTED_FIELD if a field that has no meaning yet is set.
pub(crate) fn reserved(name: &str, value: u32) -> Result<()> {
    if value == 0 {
        return Ok(());
    }
    let message = format!("reserved field of {name} is {value}, need 0");
    Err(Failure::new(F2D2_UNSUPPORTED_FIELD, message))
}

/// # Errors
/// F2D2_INVALID_VALUE unless a switch is 0 or 1.
pub(crate) fn switch(name: &str, value: u32) -> Result<bool> {
    match value {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Failure::new(F2D2_INVALID_VALUE, format!("{name} is {value}, need 0 or 1"))),
    }
}

/// The size that a struct begins with.
///
/// # Safety
/// `pointer` is NULL or valid for reading a `u32`.
unsafe fn size<T: Versioned>(name: &str, pointer: *const T) -> Result<usize> {
    aligned(name, pointer)?;
    // SAFETY: not NULL, aligned, and the caller's promise.
    let size = unsafe { pointer.cast::<u32>().read() } as usize;
    if size < T::FIRST || size > LARGEST_STRUCT || !size.is_multiple_of(align_of::<T>()) {
        let known = size_of::<T>();
        let message = format!("struct_size of {name} is {size}, need {known} for {}", T::NAME);
        return Err(Failure::new(F2D2_INVALID_STRUCT, message));
    }
    Ok(size)
}

fn aligned<T>(name: &str, pointer: *const T) -> Result<()> {
    if pointer.is_null() {
        return Err(Failure::new(F2D2_NULL_POINTER, format!("{name} is NULL")));
    }
    if !pointer.is_aligned() {
        let need = align_of::<T>();
        let message = format!("{name} is at an address that is no multiple of {need}");
        return Err(Failure::new(F2D2_MISALIGNED, message));
    }
    Ok(())
}
