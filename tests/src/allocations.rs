//! An allocator that counts, for tests of what allocates nothing, or little.

#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The system's allocator, with a count. A test program sets it as its `#[global_allocator]`.
pub struct Counting;

static ALL: AtomicUsize = AtomicUsize::new(0);
static BYTES: AtomicUsize = AtomicUsize::new(0);
static MOST_BYTES: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static OWN: Cell<usize> = const { Cell::new(0) };
}

impl Counting {
    /// Allocations of all threads so far.
    pub fn of_all_threads() -> usize {
        ALL.load(Ordering::Relaxed)
    }

    /// Allocations of the calling thread so far.
    pub fn of_this_thread() -> usize {
        OWN.get()
    }

    /// The most bytes that all threads held during `work` beyond those before it, and its result.
    pub fn most_bytes<T>(work: impl FnOnce() -> T) -> (usize, T) {
        let before = BYTES.load(Ordering::Relaxed);
        MOST_BYTES.store(before, Ordering::Relaxed);
        let result = work();
        (MOST_BYTES.load(Ordering::Relaxed).saturating_sub(before), result)
    }

    /// Bytes that all threads hold now.
    pub fn bytes() -> usize {
        BYTES.load(Ordering::Relaxed)
    }

    fn count(bytes: usize) {
        ALL.fetch_add(1, Ordering::Relaxed);
        OWN.set(OWN.get() + 1);
        let held = BYTES.fetch_add(bytes, Ordering::Relaxed) + bytes;
        MOST_BYTES.fetch_max(held, Ordering::Relaxed);
    }
}

// SAFETY: hands everything to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::count(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::count(size);
        BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}
