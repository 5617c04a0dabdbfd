//! The seeded order in which the calibration images are dealt to the density and to the conformal
//! scores.

use rand_philox::Philox;

/// The numbers 0..n in random order (Fisher-Yates), a function of `n` and `seed` alone.
pub(super) fn shuffled(n: usize, seed: u64) -> Vec<usize> {
    let mut draws = Philox::from_u64_seed_stream(seed, ORDER);
    let mut order: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        // More images than fit in 32 bits do not fit in memory either.
        let bound = u32::try_from(i + 1).unwrap_or(u32::MAX);
        order.swap(i, draws.bounded(bound) as usize);
    }
    order
}

/// Philox stream of the order.
const ORDER: u64 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_a_permutation_and_depends_on_the_seed() {
        let order = shuffled(1000, 7);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..1000).collect::<Vec<_>>());
        assert_eq!(order, shuffled(1000, 7));
        assert_ne!(order, shuffled(1000, 8));
        assert!(shuffled(0, 7).is_empty());
    }

    #[test]
    fn every_place_is_equally_likely() {
        let mut first = [0; 5];
        (0..5000).for_each(|seed| first[shuffled(5, seed)[0]] += 1);
        assert!(first.iter().all(|n| (900..1100).contains(n)), "{first:?}");
    }
}
