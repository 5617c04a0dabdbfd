//! Threads that detectors and samplers share.

use crate::failure::{Failure, guard};

pub(crate) struct Threads {
    pub(crate) shared: f2d2::Threads,
    /// Of the host's threads, until it takes them.
    works: Vec<f2d2::flow::Work>,
}

pub(crate) struct Work(f2d2::flow::Work);

pub(crate) fn threads_shared(count: usize) -> Result<Box<Threads>, Failure> {
    guard(|| Ok(Box::new(Threads { shared: f2d2::Threads::shared(count)?, works: Vec::new() })))
}

pub(crate) fn threads_none() -> Box<Threads> {
    Box::new(Threads { shared: f2d2::Threads::none(), works: Vec::new() })
}

pub(crate) fn threads_of_host(count: usize) -> Result<Box<Threads>, Failure> {
    guard(|| {
        let mut works = Vec::new();
        let shared = f2d2::Threads::of_host(count, |work| {
            works.push(work);
            Ok(())
        })?;
        Ok(Box::new(Threads { shared, works }))
    })
}

impl Threads {
    pub(crate) fn take_work(&mut self) -> Result<Box<Work>, Failure> {
        let none = || f2d2::Error::InvalidOption {
            option: "work",
            got: "all of it taken".into(),
            need: "as often as there are threads of the host".into(),
        };
        Ok(Box::new(Work(self.works.pop().ok_or_else(none)?)))
    }
}

// The bridge knows boxes only.
#[allow(clippy::boxed_local)]
pub(crate) fn work_run(work: Box<Work>) -> Result<(), Failure> {
    guard(|| {
        work.0.run();
        Ok(())
    })
}
