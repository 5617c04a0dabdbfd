//! Convolutions as products of rows of taps with the weights.

use super::tasks::{Finish, Pack};
use super::{Part, Scratch, Segment, Shared, segments};
use crate::flow::native::gemm::{Multiply, Rows, Sets};
use crate::flow::native::simd::Aligned;
use crate::flow::native::strip::{Fill, Window};

impl Shared<'_> {
    /// A block as a product of rows of taps with the weights.
    pub(super) fn direct(&self, part: &mut Part<'_>, scratch: &mut Scratch) {
        let Self { layer, .. } = self;
        let call = &layer.call;
        let [kh, kw] = call.kernel;
        let [sh, sw] = call.stride;
        let across = layer.unit_rows();
        let single = call.kernel == [1, 1] && call.stride == [1, 1] && call.padding == [0, 0];
        let dense = call.input.row == call.input.pixel * call.input.width;
        let Scratch { strip, rows: packed, products, room, .. } = scratch;
        room.reserve(layer.room());
        for segment in segments(part.units.clone(), layer.units()) {
            let Segment { image, first, count } = segment;
            let pixels = count * across;
            if single && self.map.is_none() && call.upsample == 1 && (dense || count == 1) {
                let values = &self.input(image)[call.input.offset + first * call.input.row..];
                let rows = Rows { values, stride: call.input.pixel };
                self.product(part, rows, pixels, [&mut *products, &mut *room], segment);
                continue;
            }
            let depth = layer.depth();
            let (height, width) = ((count - 1) * sh + kh, (across - 1) * sw + kw);
            strip.reserve(height * width * depth);
            let strip = &mut strip.values_mut()[..height * width * depth];
            let top = (first * sh) as isize - call.padding[0] as isize;
            let window = Window { top, left: -(call.padding[1] as isize), height, width };
            self.set.run(Fill { source: self.source(image), window, strip });
            if single {
                let rows = Rows { values: strip, stride: depth };
                self.product(part, rows, pixels, [&mut *products, &mut *room], segment);
                continue;
            }
            let taps = kh * kw * call.input.channels;
            packed.reserve(pixels * taps + layer.lanes);
            let rows = packed.values_mut();
            self.set.run(Pack { call, size: [count, across], strip, width, rows });
            let rows = Rows { values: packed.values(), stride: taps };
            self.product(part, rows, pixels, [&mut *products, &mut *room], segment);
        }
    }

    /// Rows of the grid times all weights, written.
    fn product(
        &self,
        part: &mut Part<'_>,
        rows: Rows<'_>,
        count: usize,
        [products, room]: [&mut Aligned; 2],
        segment: Segment,
    ) {
        for (group, panels) in self.layer.panels.iter().enumerate() {
            for (i, panel) in panels.list.iter().enumerate() {
                let stride = panel.vectors * self.layer.lanes;
                products.reserve(count * stride);
                let mut weights = panels.weights(self.set, i, room.values_mut());
                if weights.next.is_empty() {
                    // After the last panel come the first rows of the next block.
                    weights.next = rows.values.get(count * rows.stride..).unwrap_or(&[]);
                }
                self.set.run(Multiply {
                    sets: Sets::one(rows, &count),
                    products: 0..1,
                    weights,
                    results: products.values_mut(),
                    planes: 0,
                    stride,
                });
                let part = &mut *part;
                let products = products.values();
                self.set.run(Finish { shared: self, part, products, group, panel: i, segment });
            }
        }
    }
}
