//! Where transports of 8-bit images start: dequantised, and noised down to a noise floor.
//!
//! Scoring may start at a time t0 < 1 from the slightly noised image `t0 y + (1 - t0) n`. Small t0 sees coarse
//! structure, t0 = 1 every detail: their likelihoods are different statistics.

use super::{Batch, Schedule};
use crate::error::Result;
use crate::preprocess::{Pixels, Preprocess, noise};

/// The Gaussian noise of the floor at `position` in the list, for `n` values: the same field for every image.
pub fn floor_noise(seed: u64, position: u32, n: usize) -> Vec<f32> {
    noise::normal(seed, noise::NOISE_FLOOR + position, n)
}

/// The image at the noise floor `t0`, value by value; at t0 = 1 the image itself.
pub fn noisy<'a>(values: &'a [f32], noise: &'a [f32], t0: f64) -> impl Iterator<Item = f32> + 'a {
    let (data, floor) = (t0 as f32, (1.0 - t0) as f32);
    values.iter().zip(noise).map(move |(&y, &n)| data * y + floor * n)
}

/// What one 8-bit image is made into: a state at every noise floor, each with its schedule.
#[derive(Clone, Debug)]
pub struct Starts {
    preprocess: Preprocess,
    seed: u64,
    noise_floors: Vec<f64>,
    schedules: Vec<Schedule>,
    /// Of the values of an image, [C, H, W].
    dequantization: Vec<f32>,
    /// One field per noise floor.
    noise: Vec<Vec<f32>>,
}

impl Starts {
    /// Starts at `noise_floors`, whose noise has `seed`, with one schedule each.
    pub fn new(
        preprocess: &Preprocess,
        seed: u64,
        noise_floors: Vec<f64>,
        schedules: Vec<Schedule>,
    ) -> Self {
        let values = preprocess.shape.len();
        let field = |position| floor_noise(seed, position, values);
        Self {
            dequantization: preprocess.dequantization.noise(values),
            noise: (0..noise_floors.len() as u32).map(field).collect(),
            preprocess: preprocess.clone(),
            seed,
            noise_floors,
            schedules,
        }
    }

    /// From 8-bit values to the model's range.
    pub fn preprocess(&self) -> &Preprocess {
        &self.preprocess
    }

    /// Seed of the noise of the floors.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The times t0, each in (0, 1].
    pub fn noise_floors(&self) -> &[f64] {
        &self.noise_floors
    }

    /// One per noise floor.
    pub fn schedules(&self) -> &[Schedule] {
        &self.schedules
    }

    /// The noise of every floor, [C, H, W].
    pub fn noise(&self) -> &[Vec<f32>] {
        &self.noise
    }

    /// The states of all images, one batch per noise floor.
    ///
    /// # Errors
    /// Those of [`Batch::new`].
    pub fn batches(&self, images: &[&Pixels]) -> Result<Vec<Batch>> {
        let values = |image: &&Pixels| -> Vec<f32> {
            let pixels = image.planes().zip(&self.dequantization);
            pixels.map(|(k, &u)| self.preprocess.value(k, u)).collect()
        };
        let values: Vec<Vec<f32>> = images.iter().map(values).collect();
        let floor = |(&t0, noise): (&f64, &Vec<f32>)| {
            let noised = values.iter().flat_map(|values| noisy(values, noise, t0));
            Batch::new(self.preprocess.shape, noised.collect())
        };
        self.noise_floors.iter().zip(&self.noise).map(floor).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_top_floor_is_the_image_itself() {
        let values = [-1.0f32, 0.123_456_7, 0.999];
        let noise = floor_noise(1, 0, 3);
        assert_eq!(noisy(&values, &noise, 1.0).collect::<Vec<_>>(), values);
        assert_ne!(noisy(&values, &noise, 0.97).collect::<Vec<_>>(), values);
    }
}
