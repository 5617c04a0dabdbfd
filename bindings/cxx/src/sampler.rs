//! Samplers.

use std::sync::Arc;

use f2d2::preprocess::Pixels;

use crate::failure::{Failure, guard};
use crate::ffi;
use crate::model::Model;
use crate::threads::Threads;

pub(crate) struct Sampler(f2d2::Sampler);

pub(crate) fn sampler_new(
    model: &Model,
    engine: &ffi::EngineOptions,
    threads: usize,
) -> Result<Box<Sampler>, Failure> {
    guard(|| {
        let ((engine, gpu), model) = (engine.read()?, Arc::clone(&model.0));
        Ok(Box::new(Sampler(f2d2::Sampler::with_gpu(model, engine, threads, &gpu)?)))
    })
}

pub(crate) fn sampler_on(
    model: &Model,
    engine: &ffi::EngineOptions,
    threads: &Threads,
) -> Result<Box<Sampler>, Failure> {
    guard(|| {
        let ((engine, gpu), model) = (engine.read()?, Arc::clone(&model.0));
        Ok(Box::new(Sampler(f2d2::Sampler::on(model, engine, &threads.shared, &gpu)?)))
    })
}

impl Sampler {
    pub(crate) fn draw(&self, n: usize, steps: usize, seed: u64) -> Result<Vec<u8>, Failure> {
        guard(|| Ok(bytes(self.0.draw(n, steps, seed)?)))
    }

    pub(crate) fn draw_guided(
        &self,
        n: usize,
        steps: usize,
        seed: u64,
        learning_rate: f64,
    ) -> Result<Vec<u8>, Failure> {
        guard(|| Ok(bytes(self.0.draw_guided(n, steps, seed, learning_rate)?)))
    }
}

/// Images one after the other.
fn bytes(images: Vec<Pixels>) -> Vec<u8> {
    images.into_iter().flat_map(|pixels| pixels.data).collect()
}
