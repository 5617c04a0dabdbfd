//! The tiles of a block, and where they stand among those that have the same position.

use std::ops::Range;

use crate::flow::native::winograd::{Axis, INPUTS, Tile};

/// Units of a group of images that are transformed together: rows of tiles, of which the last of every image may be
/// smaller. A position of a tile is a plane, in which those tiles follow each other that have it.
pub(super) struct Block {
    /// Units of an image, and tiles of a unit.
    pub(super) axes: [Axis; 2],
    pub(super) units: Range<usize>,
}

impl Block {
    /// The tiles that are not at an end.
    pub(super) fn tile(&self) -> Tile {
        self.axes[0].tile
    }

    /// Adds the number of tiles of every plane.
    pub(super) fn count(&self, counts: &mut Vec<usize>) {
        let (rows, columns) = (self.rows_before(self.units.end), self.columns());
        let points = self.tile().inputs();
        for row in &rows[..points] {
            counts.extend(columns[..points].iter().map(|column| row * column));
        }
    }

    /// For every row of positions, the units before `unit` that have it.
    pub(super) fn rows_before(&self, unit: usize) -> [usize; INPUTS] {
        let [down, _] = self.axes;
        let before = unit - self.units.start;
        let last = unit / down.tiles() - self.units.start / down.tiles();
        std::array::from_fn(|point| {
            if down.with_point(point) == down.tiles() { before } else { before - last }
        })
    }

    /// For every column of positions, the tiles of a unit that have it.
    pub(super) fn columns(&self) -> [usize; INPUTS] {
        std::array::from_fn(|point| self.axes[1].with_point(point))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_are_counted_by_the_positions_that_they_have() {
        // Two images of 7x10 outputs, from the last unit of the first on: [3], [4, 3] rows of [4, 4, 2] columns.
        let axes = [7, 10].map(|outputs| Axis::new(outputs, Tile::Four));
        let block = Block { axes, units: 1..4 };
        assert_eq!(block.rows_before(1), [0; INPUTS]);
        assert_eq!(block.rows_before(3)[..6], [2, 2, 2, 2, 2, 1]);
        assert_eq!(block.columns()[..6], [3, 3, 3, 3, 2, 2]);
        let mut counts = vec![];
        block.count(&mut counts);
        assert_eq!((counts.len(), counts[0], counts[4], counts[35]), (36, 9, 6, 2));
    }
}
