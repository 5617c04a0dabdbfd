//! [`Pixels`]: an owned 8-bit image in the model's colours.

/// An 8-bit image, interleaved [H, W, C] with 1 (grey) or 3 (red, green, blue) channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pixels {
    /// 1 or 3.
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Values, [H, W, C].
    pub data: Vec<u8>,
}

impl Pixels {
    /// The values plane by plane, [C, H, W].
    pub fn planes(&self) -> impl Iterator<Item = u8> + '_ {
        (0..self.channels).flat_map(|c| self.data[c..].iter().step_by(self.channels).copied())
    }
}
