//! Threads that evaluate images side by side: the library's own, shared by all who ask for as many; the host's; or none.

use std::fmt;
use std::io;
use std::num::NonZero;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rayon::prelude::*;

use super::rounding;
use crate::error::{Error, Result};

/// Threads that work for any number of detectors at once. A clone is the same threads; they end when the last clone and
/// the last detector that uses them are gone.
#[derive(Clone)]
pub struct Threads {
    pool: Option<Arc<rayon::ThreadPool>>,
}

/// What one thread of the host has to do for [`Threads::of_host`].
pub struct Work(rayon::ThreadBuilder);

impl Work {
    /// Works until the [`Threads`] are no longer used; returns then. To be called in the default rounding mode.
    pub fn run(self) {
        self.0.run();
    }

    /// Number of the thread, from 0.
    pub fn index(&self) -> usize {
        self.0.index()
    }
}

/// Threads of the library with their number, as long as somebody uses them.
static SHARED: Mutex<Vec<(usize, Weak<rayon::ThreadPool>)>> = Mutex::new(Vec::new());

impl Threads {
    /// `count` threads of the library, 0 for one per core. Whoever asks for as many gets the same ones while they live,
    /// so that several detectors do not use more cores than one.
    ///
    /// # Errors
    /// [`Error::EngineUnavailable`] if they cannot be started.
    pub fn shared(count: usize) -> Result<Self> {
        let count = match count {
            // Counted here, so that no environment variable changes it.
            0 => std::thread::available_parallelism().map_or(1, NonZero::get),
            count => count,
        };
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.retain(|(_, pool)| pool.strong_count() > 0);
        let same = shared.iter().filter(|(number, _)| *number == count);
        if let Some(pool) = same.filter_map(|(_, pool)| pool.upgrade()).next() {
            return Ok(Self { pool: Some(pool) });
        }
        let builder = builder(count)?.thread_name(|i| format!("f2d2-{i}"));
        let pool = Arc::new(builder.build().map_err(|error| not_started(count, &error))?);
        shared.push((count, Arc::downgrade(&pool)));
        Ok(Self { pool: Some(pool) })
    }

    /// `count` threads of the host, with whatever names, priorities and places it gives them: `start` is called once for
    /// each and has to let a thread of its own carry out [`Work::run`]. Their stacks need 2 MiB.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for no threads, [`Error::EngineUnavailable`] if `start` fails.
    pub fn of_host(count: usize, mut start: impl FnMut(Work) -> io::Result<()>) -> Result<Self> {
        if count == 0 {
            return Err(Error::option("threads", count, "1 or more"));
        }
        let pool = builder(count)?.spawn_handler(|thread| start(Work(thread))).build();
        let pool = pool.map_err(|error| not_started(count, &error))?;
        Ok(Self { pool: Some(Arc::new(pool)) })
    }

    /// No threads: whoever asks for work does it.
    pub fn none() -> Self {
        Self { pool: None }
    }

    /// Images that are evaluated side by side.
    pub fn count(&self) -> usize {
        self.pool.as_ref().map_or(1, |pool| pool.current_num_threads())
    }

    pub(super) fn pool(&self) -> Option<&rayon::ThreadPool> {
        self.pool.as_deref()
    }

    /// Runs `work` on one of the threads, if there are any.
    pub(super) fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        match &self.pool {
            Some(pool) => pool.install(work),
            None => work(),
        }
    }

    /// The results of `work` for all of `jobs`, in order.
    pub(crate) fn map<T: Send, R: Send>(
        &self,
        jobs: Vec<T>,
        work: impl Fn(T) -> R + Send + Sync,
    ) -> Vec<R> {
        match &self.pool {
            Some(pool) => pool.install(|| jobs.into_par_iter().map(work).collect()),
            None => jobs.into_iter().map(work).collect(),
        }
    }
}

fn builder(count: usize) -> Result<rayon::ThreadPoolBuilder> {
    // Threads take over the rounding mode of the one that starts them.
    rounding::check().map_err(|why| unavailable(why.into()))?;
    Ok(rayon::ThreadPoolBuilder::new().num_threads(count))
}

fn not_started(count: usize, error: &rayon::ThreadPoolBuildError) -> Error {
    unavailable(format!("cannot start {count} threads: {error}"))
}

fn unavailable(why: String) -> Error {
    Error::EngineUnavailable { engine: "cpu".into(), why }
}

impl fmt::Debug for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Threads").field("count", &self.count()).finish_non_exhaustive()
    }
}
