//! The numbers of a constant. Those of the file are most of a model: they stay there until somebody needs them.

use std::sync::Arc;

use bytes::Bytes;

/// Numbers of a constant of a plan.
#[derive(Clone, Debug)]
pub struct Values(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Computed(Arc<[f32]>),
    /// Little-endian, as in the file.
    Stored(Bytes, Option<Order>),
}

/// A rearrangement of numbers with three axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Order {
    /// As the numbers are, the last axis fastest.
    sizes: [usize; 3],
    /// Distance of neighbours along each of those axes, as the numbers shall be.
    strides: [usize; 3],
}

impl Order {
    /// [outputs, inputs, taps] → [taps, inputs, outputs].
    pub(super) fn columns_last(outputs: usize, inputs: usize, taps: usize) -> Self {
        Self { sizes: [outputs, inputs, taps], strides: [1, outputs, inputs * outputs] }
    }

    /// [inputs, outputs, taps] → [inputs, taps, outputs].
    pub(super) fn taps_before_outputs(inputs: usize, outputs: usize, taps: usize) -> Self {
        Self { sizes: [inputs, outputs, taps], strides: [taps * outputs, 1, outputs] }
    }

    pub(super) fn applied<T: Copy>(self, from: &[T], value: impl Fn(T) -> f32) -> Arc<[f32]> {
        filled(from.len(), |to| self.apply(from, value, to))
    }

    fn apply<T: Copy>(self, from: &[T], value: impl Fn(T) -> f32, to: &mut [f32]) {
        let Self { sizes: [_, middle, last], strides } = self;
        for (a, of_a) in from.chunks_exact(middle * last).enumerate() {
            for (b, of_b) in of_a.chunks_exact(last).enumerate() {
                for (c, &number) in of_b.iter().enumerate() {
                    to[a * strides[0] + b * strides[1] + c * strides[2]] = value(number);
                }
            }
        }
    }
}

impl Values {
    /// f32 of the file, of which `bytes` are a multiple of four, in the order of the file or in another one.
    pub(super) fn stored(bytes: Bytes, order: Option<Order>) -> Self {
        Self(Kind::Stored(bytes, order))
    }

    /// How many they are.
    pub fn len(&self) -> usize {
        match &self.0 {
            Kind::Computed(values) => values.len(),
            Kind::Stored(bytes, _) => bytes.len() / 4,
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The numbers; for those of the file, a new copy every time.
    pub fn decode(&self) -> Arc<[f32]> {
        match &self.0 {
            Kind::Computed(values) => Arc::clone(values),
            Kind::Stored(bytes, order) => decode(bytes, *order),
        }
    }

    /// The numbers, to the front of `to`.
    pub fn decode_to(&self, to: &mut [f32]) {
        let to = &mut to[..self.len()];
        match &self.0 {
            Kind::Computed(values) => to.copy_from_slice(values),
            Kind::Stored(bytes, order) => decode_to(bytes, *order, to),
        }
    }
}

/// Little-endian f32, rearranged.
pub(super) fn decode(bytes: &[u8], order: Option<Order>) -> Arc<[f32]> {
    filled(bytes.len() / 4, |to| decode_to(bytes, order, to))
}

fn filled(n: usize, fill: impl FnOnce(&mut [f32])) -> Arc<[f32]> {
    let mut to: Arc<[f32]> = std::iter::repeat_n(0.0, n).collect();
    // Nobody else has it yet.
    fill(Arc::get_mut(&mut to).unwrap_or_default());
    to
}

fn decode_to(bytes: &[u8], order: Option<Order>, to: &mut [f32]) {
    let (numbers, _) = bytes.as_chunks();
    match order {
        Some(order) => order.apply(numbers, f32::from_le_bytes, to),
        None => to.iter_mut().zip(numbers).for_each(|(to, &b)| *to = f32::from_le_bytes(b)),
    }
}

impl From<Arc<[f32]>> for Values {
    fn from(values: Arc<[f32]>) -> Self {
        Self(Kind::Computed(values))
    }
}

impl FromIterator<f32> for Values {
    fn from_iter<I: IntoIterator<Item = f32>>(values: I) -> Self {
        Self(Kind::Computed(values.into_iter().collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_numbers_are_those_of_the_file_in_the_wanted_order() {
        // 2 x 3 x 4 numbers, each of which is its place.
        let numbers: Vec<f32> = (0..24).map(|i| i as f32).collect();
        let bytes: Bytes = numbers.iter().flat_map(|v| v.to_le_bytes()).collect();
        let place = |a: usize, b: usize, c: usize| ((a * 3 + b) * 4 + c) as f32;
        assert_eq!(*Values::stored(bytes.clone(), None).decode(), *numbers);
        let columns = Values::stored(bytes.clone(), Some(Order::columns_last(2, 3, 4)));
        assert_eq!(columns.len(), 24);
        let columns = columns.decode();
        let taps = Values::stored(bytes, Some(Order::taps_before_outputs(2, 3, 4))).decode();
        for (a, b, c) in (0..2).flat_map(|a| (0..12).map(move |i| (a, i / 4, i % 4))) {
            assert_eq!(columns[(c * 3 + b) * 2 + a], place(a, b, c));
            assert_eq!(taps[(a * 4 + c) * 3 + b], place(a, b, c));
        }
    }
}
