//! Threads that detectors and samplers share: the library's, those of the host, or none.

use std::sync::{Mutex, PoisonError};

use f2d2::Threads;

use crate::entry::entry;
use crate::failure::{Failure, Result};
use crate::handle::{self, Kind, Object};
use crate::memory;
use crate::status::{F2D2_INVALID_OPTION, F2D2_INVALID_VALUE, f2d2_status};

/// More threads than this are a mistake.
const MOST: u32 = 1024;

/// Threads that any number of detectors and samplers may share. Immutable; any number of threads may use it.
pub struct f2d2_threads {
    _opaque: (),
}

pub(crate) struct Pool {
    threads: Threads,
    /// Of the host's threads, until it takes them.
    works: Mutex<Vec<f2d2::flow::Work>>,
}

impl From<Threads> for Pool {
    fn from(threads: Threads) -> Self {
        Self { threads, works: Mutex::default() }
    }
}

impl Object for Pool {
    type Handle = f2d2_threads;
    const KIND: Kind = Kind::Threads;
}

/// What one thread of the host has to do. Any thread may take it, once.
pub struct f2d2_work {
    _opaque: (),
}

/// Behind a lock only because every object may be seen by every thread; whoever runs it takes it out.
struct Work(Mutex<f2d2::flow::Work>);

impl Object for Work {
    type Handle = f2d2_work;
    const KIND: Kind = Kind::Work;
}

/// Threads of the library. Whoever asks for as many gets the same ones while they live, also through the `threads` of
/// options.
///
/// @param count how many, at most 1024; 0 is one per core.
/// @param[out] threads the threads; destroy them with f2d2_threads_destroy.
/// Returns F2D2_OK, F2D2_INVALID_OPTION, F2D2_ENGINE_UNAVAILABLE if they cannot be started, or why the arguments cannot
/// be used.
/// Threads: any.
///
/// # Safety
/// `threads` is NULL or valid for writing.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn f2d2_threads_create(
    count: u32,
    threads: *mut *mut f2d2_threads,
) -> f2d2_status {
    entry(c"f2d2_threads_create", || {
        // SAFETY: the caller's promise.
        let place = unsafe { memory::out("threads", threads) }?;
        place.write(handle::create(Pool::from(shared(count)?))?);
        Ok(())
    })
}

/// No threads: every call does its own work, and those of several threads do it side by side.
///
/// @param[out] threads to be used as any others; destroy them with f2d2_threads_destroy.
/// Returns F2D2_OK or why not.
/// Threads: any.
///
/// # Safety
/// `threads` is NULL or valid for writing.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn f2d2_threads_create_none(threads: *mut *mut f2d2_threads) -> f2d2_status {
    entry(c"f2d2_threads_create_none", || {
        // SAFETY: the caller's promise.
        let place = unsafe { memory::out("threads", threads) }?;
        place.write(handle::create(Pool::from(Threads::none()))?);
        Ok(())
    })
}

/// Threads of the host, with whatever names, priorities and places it gives them. Each takes its work with
/// f2d2_threads_take_work and does it with f2d2_work_run; until one of them does, calls that need the threads wait.
///
/// @param count how many, 1 to 1024.
/// @param[out] threads the threads; destroy them with f2d2_threads_destroy.
/// Returns F2D2_OK, F2D2_INVALID_OPTION for another count, or why the arguments cannot be used.
/// Threads: any.
///
/// # Safety
/// `threads` is NULL or valid for writing.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn f2d2_threads_create_host(
    count: u32,
    threads: *mut *mut f2d2_threads,
) -> f2d2_status {
    entry(c"f2d2_threads_create_host", || {
        // SAFETY: the caller's promise.
        let place = unsafe { memory::out("threads", threads) }?;
        if !(1..=MOST).contains(&count) {
            return Err(wrong(count, "1 to 1024"));
        }
        let mut works = Vec::new();
        let threads = Threads::of_host(count as usize, |work| {
            works.push(work);
            Ok(())
        })?;
        place.write(handle::create(Pool { threads, works: Mutex::new(works) })?);
        Ok(())
    })
}

/// Gives the work of one thread of the host, as often as there are threads.
///
/// @param threads the threads, of f2d2_threads_create_host.
/// @param[out] work the work; f2d2_work_run or f2d2_work_destroy takes it back.
/// Returns F2D2_OK, F2D2_INVALID_VALUE if all work was taken, or why not.
/// Threads: any.
///
/// # Safety
/// `work` is NULL or valid for writing.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn f2d2_threads_take_work(
    threads: *mut f2d2_threads,
    work: *mut *mut f2d2_work,
) -> f2d2_status {
    entry(c"f2d2_threads_take_work", || {
        let pool = handle::get::<Pool>(threads)?;
        // SAFETY: the caller's promise.
        let place = unsafe { memory::out("work", work) }?;
        let mut works = pool.works.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(work) = works.pop() else {
            let message = "there is no work that the host has not taken";
            return Err(Failure::new(F2D2_INVALID_VALUE, message));
        };
        place.write(handle::create(Work(Mutex::new(work)))?);
        Ok(())
    })
}

/// Works on this thread, which needs a stack of 2 MiB, until the threads that the work belongs to are no longer used:
/// until their handle and all detectors and samplers that were created with it are destroyed. Takes the work back.
///
/// @param work the work.
/// Returns F2D2_OK at the end, or why not.
/// Threads: any; each piece of work once.
///
/// # Safety
/// None.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn f2d2_work_run(work: *mut f2d2_work) -> f2d2_status {
    entry(c"f2d2_work_run", || {
        let Work(work) = handle::take(work)?;
        work.into_inner().unwrap_or_else(PoisonError::into_inner).run();
        Ok(())
    })
}

/// Gives work back that no thread will do; the other threads go on without.
///
/// @param work the work, or NULL.
/// Returns F2D2_OK or why not.
/// Threads: any.
///
/// # Safety
/// None.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn f2d2_work_destroy(work: *mut f2d2_work) -> f2d2_status {
    entry(c"f2d2_work_destroy", || handle::destroy::<Work>(work))
}

/// Destroys threads. They end soon after the last detector and sampler that was created with them is destroyed, too.
///
/// @param threads the threads, or NULL.
/// Returns F2D2_OK or why not.
/// Threads: any.
///
/// # Safety
/// None.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn f2d2_threads_destroy(threads: *mut f2d2_threads) -> f2d2_status {
    entry(c"f2d2_threads_destroy", || handle::destroy::<Pool>(threads))
}

/// The threads that options ask for: those of `pool`, or `count` of the library.
pub(crate) fn asked_for(pool: *const f2d2_threads, count: u32) -> Result<Threads> {
    match handle::optional::<Pool>(pool)? {
        None => shared(count),
        Some(pool) if count == 0 => Ok(pool.threads.clone()),
        Some(_) => Err(wrong(count, "0, since there is a pool")),
    }
}

fn shared(count: u32) -> Result<Threads> {
    if count > MOST {
        return Err(wrong(count, "at most 1024"));
    }
    Ok(Threads::shared(count as usize)?)
}

fn wrong(count: u32, need: &str) -> Failure {
    Failure::new(F2D2_INVALID_OPTION, format!("threads is {count}, need {need}"))
}
