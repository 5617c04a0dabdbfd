//! Handles: numbers in the shape of pointers, never followed. A table says which are alive.
//!
//! A number holds the kind of object, the place in the table, the generation of that place, and which copy of the
//! library it belongs to. So a destroyed handle, a handle of another kind, one of another copy of the library and any
//! real address are told apart without touching memory, however often places are used again.

use std::any::Any;
use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::entry::entry;
use crate::failure::{Failure, Result};
use crate::memory;
use crate::status::{
    F2D2_DESTROYED, F2D2_INVALID_HANDLE, F2D2_LIMIT_EXCEEDED, F2D2_NULL_POINTER, F2D2_POISONED,
    F2D2_WRONG_HANDLE, f2d2_status,
};

/// A kind of object that handles stand for.
pub(crate) trait Object: Send + Sync + 'static {
    /// The opaque type of the header.
    type Handle;
    /// Which kind, different for each.
    const KIND: Kind;
}

/// All kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Kind {
    Model = 1,
    Detector,
    Session,
    Calibration,
    Sampler,
    Cancel,
    Threads,
    Work,
}

const KINDS: [&str; 9] = [
    "",
    "a model",
    "a detector",
    "a session",
    "a calibration",
    "a sampler",
    "a cancel flag",
    "a set of threads",
    "a piece of work",
];

/// An object and whether a call on it panicked.
pub(crate) struct Shared<T> {
    value: T,
    poisoned: AtomicBool,
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// An object in use by a call; poisoned if the call panics. It lives until then, whoever destroys it.
pub(crate) struct Live<T>(Arc<Shared<T>>);

impl<T> Live<T> {
    /// Keeps the object alive for another one that needs it.
    pub(crate) fn share(&self) -> Arc<Shared<T>> {
        Arc::clone(&self.0)
    }
}

impl<T> Deref for Live<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T> Drop for Live<T> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.poisoned.store(true, Ordering::Release);
        }
    }
}

/// Hands an object out.
pub(crate) fn create<T: Object>(value: T) -> Result<*mut T::Handle> {
    let object = Arc::new(Shared { value, poisoned: AtomicBool::new(false) });
    let mut table = TABLE.write().unwrap_or_else(PoisonError::into_inner);
    let place = table.put(object)?;
    let number = place.index << KIND_BITS | T::KIND as usize | place.generation << GENERATION_AT;
    Ok(std::ptr::without_provenance_mut(number | instance() << INSTANCE_AT))
}

/// The object behind a handle.
pub(crate) fn get<T: Object>(handle: *const T::Handle) -> Result<Live<T>> {
    let place = place::<T>(handle.addr())?;
    let object = {
        let table = TABLE.read().unwrap_or_else(PoisonError::into_inner);
        table.at(place)?.clone()
    };
    let Ok(shared) = object.downcast::<Shared<T>>() else {
        return Err(not_a::<T>());
    };
    if shared.poisoned.load(Ordering::Acquire) {
        let message = format!("an earlier call on this {} panicked", name::<T>());
        return Err(Failure::new(F2D2_POISONED, message));
    }
    let live = Live(shared);
    #[cfg(test)]
    crate::tests::fault::point(crate::tests::fault::Place::Handle);
    Ok(live)
}

/// As [`get`]; `None` for NULL.
pub(crate) fn optional<T: Object>(handle: *const T::Handle) -> Result<Option<Live<T>>> {
    if handle.is_null() { Ok(None) } else { get::<T>(handle).map(Some) }
}

/// Takes a handle back; NULL is fine. The object goes when the last call and the last other object that need it do.
pub(crate) fn destroy<T: Object>(handle: *mut T::Handle) -> Result<()> {
    if handle.is_null() {
        return Ok(());
    }
    let place = place::<T>(handle.addr())?;
    let object = TABLE.write().unwrap_or_else(PoisonError::into_inner).take(place)?;
    // After the lock: what goes with the object may take its time.
    drop(object);
    Ok(())
}

/// Takes a handle back together with its object, which no other object needs.
pub(crate) fn take<T: Object>(handle: *mut T::Handle) -> Result<T> {
    let place = place::<T>(handle.addr())?;
    let object = TABLE.write().unwrap_or_else(PoisonError::into_inner).take(place)?;
    let shared = object.and_then(|object| object.downcast::<Shared<T>>().ok());
    shared.and_then(Arc::into_inner).map(|shared| shared.value).ok_or_else(not_a::<T>)
}

/// The number of handles that were created and not destroyed, to find leaks.
///
/// @param[out] count the number.
/// Returns F2D2_OK, F2D2_NULL_POINTER or F2D2_MISALIGNED.
/// Threads: any.
///
/// # Safety
/// `count` is NULL or valid for writing.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn f2d2_live_handles(count: *mut usize) -> f2d2_status {
    entry(c"f2d2_live_handles", || {
        // SAFETY: the caller's promise.
        let place = unsafe { memory::out("count", count) }?;
        place.write(TABLE.read().unwrap_or_else(PoisonError::into_inner).alive());
        Ok(())
    })
}

const KIND_BITS: u32 = 4;
/// A million handles on 64 bits.
const INDEX_BITS: u32 = if usize::BITS == 64 { 20 } else { 12 };
/// Every place in the table is used this many times, then no more.
const GENERATION_BITS: u32 = if usize::BITS == 64 { 24 } else { 12 };
const GENERATION_AT: u32 = KIND_BITS + INDEX_BITS;
const INSTANCE_AT: u32 = GENERATION_AT + GENERATION_BITS;
const INSTANCE_BITS: u32 = usize::BITS - INSTANCE_AT;

/// Where in the table, and for the how manieth time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    index: usize,
    generation: usize,
}

type Entry = Arc<dyn Any + Send + Sync>;

/// The only global state beside the process that uses it: which handles are alive.
static TABLE: RwLock<Table> = RwLock::new(Table::new(1 << INDEX_BITS, 1 << GENERATION_BITS));

struct Table {
    slots: Vec<(usize, Option<Entry>)>,
    /// First in, first out, so that a generation lasts as long as possible.
    free: VecDeque<usize>,
    capacity: usize,
    generations: usize,
}

impl Table {
    const fn new(capacity: usize, generations: usize) -> Self {
        Self { slots: Vec::new(), free: VecDeque::new(), capacity, generations }
    }

    fn put(&mut self, object: Entry) -> Result<Place> {
        if let Some(index) = self.free.pop_front() {
            let slot = &mut self.slots[index];
            slot.1 = Some(object);
            return Ok(Place { index, generation: slot.0 });
        }
        let index = self.slots.len();
        if index == self.capacity {
            let message = format!("there are {} handles, no more are possible", self.alive());
            return Err(Failure::new(F2D2_LIMIT_EXCEEDED, message));
        }
        self.slots.push((0, Some(object)));
        Ok(Place { index, generation: 0 })
    }

    fn at(&self, place: Place) -> Result<&Entry> {
        let (generation, object) = self.slots.get(place.index).ok_or_else(unknown)?;
        if place.generation > *generation {
            return Err(unknown());
        }
        let here = object.as_ref().filter(|_| place.generation == *generation);
        here.ok_or_else(|| Failure::new(F2D2_DESTROYED, "the object was destroyed"))
    }

    fn take(&mut self, place: Place) -> Result<Option<Entry>> {
        self.at(place)?;
        let slot = &mut self.slots[place.index];
        slot.0 += 1;
        if slot.0 < self.generations {
            self.free.push_back(place.index);
        }
        Ok(slot.1.take())
    }

    fn alive(&self) -> usize {
        self.slots.iter().filter(|(_, object)| object.is_some()).count()
    }
}

/// Bits of where this copy of the library lies. The topmost is set, which no address of a program has.
fn instance() -> usize {
    let page = (&raw const TABLE).addr() >> 12;
    (page | 1 << (INSTANCE_BITS - 1)) & ((1 << INSTANCE_BITS) - 1)
}

/// What the number of a handle says, if it is one of this copy of the library and of the right kind.
fn place<T: Object>(number: usize) -> Result<Place> {
    if number == 0 {
        return Err(Failure::new(F2D2_NULL_POINTER, format!("{} is NULL", name::<T>())));
    }
    if number >> INSTANCE_AT != instance() {
        return Err(unknown());
    }
    let bits = |at: u32, count: u32| number >> at & ((1 << count) - 1);
    let kind = bits(0, KIND_BITS);
    if kind == 0 || kind >= KINDS.len() {
        return Err(unknown());
    }
    if kind != T::KIND as usize {
        let message = format!("the handle is {}, need {}", KINDS[kind], KINDS[T::KIND as usize]);
        return Err(Failure::new(F2D2_WRONG_HANDLE, message));
    }
    Ok(Place {
        index: bits(KIND_BITS, INDEX_BITS),
        generation: bits(GENERATION_AT, GENERATION_BITS),
    })
}

fn unknown() -> Failure {
    Failure::new(F2D2_INVALID_HANDLE, "the handle is none of this library")
}

fn not_a<T: Object>() -> Failure {
    Failure::new(F2D2_WRONG_HANDLE, format!("the handle is not {}", KINDS[T::KIND as usize]))
}

fn name<T: Object>() -> &'static str {
    let with_article = KINDS[T::KIND as usize];
    with_article.split_once(' ').map_or(with_article, |(_, name)| name)
}
