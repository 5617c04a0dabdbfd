//! Where values lie: strided views, so that reshaping, splitting and transposing move nothing.

use std::fmt;

/// What a view reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// A buffer of one image, written by a call.
    Buffer(usize),
    /// A constant of the model.
    Constant(usize),
    /// A tensor that depends on the two times only; one per step of a schedule.
    Table(usize),
}

/// `size` values, `stride` apart. Stride 0 repeats one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Factor {
    /// Number of values.
    pub size: usize,
    /// Distance in values.
    pub stride: usize,
}

/// One axis of a tensor as a product of factors, outermost first; empty for an axis of size 1.
pub type Axis = Vec<Factor>;

/// A tensor somewhere in a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// What it reads.
    pub source: Source,
    /// Position of its first value.
    pub offset: usize,
    /// Its axes, outermost first.
    pub axes: Vec<Axis>,
}

impl View {
    /// A dense tensor of `dims`, in row-major order.
    pub fn dense(source: Source, dims: &[usize]) -> Self {
        let mut stride = 1;
        let mut axes: Vec<Axis> = dims
            .iter()
            .rev()
            .map(|&size| {
                let axis = axis(size, stride);
                stride *= size;
                axis
            })
            .collect();
        axes.reverse();
        Self { source, offset: 0, axes }
    }

    /// Sizes of the axes.
    pub fn dims(&self) -> Vec<usize> {
        self.axes.iter().map(|a| axis_size(a)).collect()
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.dims().iter().product()
    }

    /// The same values under other `dims`; `None` if the sizes do not nest.
    pub fn reshape(&self, dims: &[usize]) -> Option<Self> {
        if dims.iter().fold(1usize, |n, &d| n.saturating_mul(d)) != self.len() {
            return None;
        }
        let mut factors: Vec<Factor> = self.axes.concat();
        factors.reverse();
        let mut axes = Vec::with_capacity(dims.len());
        for &dim in dims.iter().rev() {
            let mut left = dim;
            let mut axis = Vec::new();
            while left > 1 {
                let inner = factors.first().copied()?;
                factors.remove(0);
                if left.is_multiple_of(inner.size) {
                    axis.push(inner);
                    left /= inner.size;
                } else if inner.size.is_multiple_of(left) {
                    axis.push(Factor { size: left, stride: inner.stride });
                    let outer = Factor { size: inner.size / left, stride: inner.stride * left };
                    factors.insert(0, outer);
                    left = 1;
                } else {
                    return None;
                }
            }
            axis.reverse();
            axes.push(merged(axis));
        }
        axes.reverse();
        Some(Self { source: self.source, offset: self.offset, axes })
    }

    /// Axes in the order of `permutation`; `None` if it is none.
    pub fn transpose(&self, permutation: &[usize]) -> Option<Self> {
        let each_once = (0..self.axes.len()).all(|i| permutation.contains(&i));
        if !each_once || permutation.len() != self.axes.len() {
            return None;
        }
        let axes: Option<Vec<Axis>> =
            permutation.iter().map(|&i| self.axes.get(i).cloned()).collect();
        Some(Self { axes: axes?, ..self.clone() })
    }

    /// `size` entries of axis `axis` from `start`; `None` where an axis of several factors would be cut through.
    pub fn slice(&self, axis: usize, start: usize, size: usize) -> Option<Self> {
        let full = axis_size(self.axes.get(axis)?);
        if start + size > full || size == 0 {
            return None;
        }
        let mut view = self.clone();
        if size == full {
            return Some(view);
        }
        // Cutting is possible where the range covers whole blocks of the inner factors.
        let factors = self.axes[axis].clone();
        let (&outer, inner) = factors.split_first()?;
        let block: usize = inner.iter().map(|f| f.size).product();
        if start.is_multiple_of(block) && size.is_multiple_of(block) {
            view.offset += start / block * outer.stride;
            let outer = Factor { size: size / block, stride: outer.stride };
            view.axes[axis] = merged(std::iter::once(outer).chain(inner.iter().copied()).collect());
            return Some(view);
        }
        if start / block == (start + size - 1) / block {
            view.offset += start / block * outer.stride;
            view.axes[axis] = inner.to_vec();
            return view.slice(axis, start % block, size);
        }
        None
    }

    /// Repeats the view to `dims` by the broadcasting rules of ONNX.
    pub fn broadcast(&self, dims: &[usize]) -> Option<Self> {
        let missing = dims.len().checked_sub(self.axes.len())?;
        let mut axes: Vec<Axis> = dims[..missing].iter().map(|&size| axis(size, 0)).collect();
        for (own, &size) in self.axes.iter().zip(&dims[missing..]) {
            match axis_size(own) {
                n if n == size => axes.push(own.clone()),
                1 => axes.push(axis(size, 0)),
                _ => return None,
            }
        }
        Some(Self { axes, ..self.clone() })
    }

    /// As an image with channels innermost, if it is one: axes [1, C, H, W] or [C, H, W], channels one apart.
    pub fn image(&self) -> Option<Image> {
        let Source::Buffer(buffer) = self.source else { return None };
        let axes = match self.axes.as_slice() {
            [n, c, h, w] if axis_size(n) == 1 => [c, h, w],
            [c, h, w] => [c, h, w],
            _ => return None,
        };
        let [channel, row, pixel] = axes.map(|axis| match axis.as_slice() {
            [] => Some(Factor { size: 1, stride: 0 }),
            [one] => Some(*one),
            _ => None,
        });
        let (channel, row, pixel) = (channel?, row?, pixel?);
        let dense = channel.size == 1 || channel.stride == 1;
        let still = |f: Factor| f.size > 1 && f.stride == 0;
        (dense && !still(row) && !still(pixel)).then_some(Image {
            buffer,
            offset: self.offset,
            height: row.size,
            width: pixel.size,
            channels: channel.size,
            row: row.stride,
            pixel: pixel.stride,
        })
    }
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.source)?;
        if self.offset > 0 {
            write!(f, "+{}", self.offset)?;
        }
        let axis = |axis: &Axis| match axis.as_slice() {
            [] => "1".to_owned(),
            factors => {
                let parts: Vec<_> =
                    factors.iter().map(|f| format!("{}@{}", f.size, f.stride)).collect();
                parts.join("*")
            }
        };
        write!(f, "[{}]", self.axes.iter().map(axis).collect::<Vec<_>>().join(" "))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Buffer(i) => write!(f, "b{i}"),
            Self::Constant(i) => write!(f, "c{i}"),
            Self::Table(i) => write!(f, "t{i}"),
        }
    }
}

/// Pixels with their channels side by side (channels-last), in a buffer of one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image {
    /// The buffer.
    pub buffer: usize,
    /// Position of its first value.
    pub offset: usize,
    /// Rows.
    pub height: usize,
    /// Pixels of a row.
    pub width: usize,
    /// Values of a pixel, one apart.
    pub channels: usize,
    /// Distance between rows, values.
    pub row: usize,
    /// Distance between pixels of a row, values.
    pub pixel: usize,
}

impl Image {
    /// An image that fills a buffer of its own.
    pub fn dense(buffer: usize, height: usize, width: usize, channels: usize) -> Self {
        Self { buffer, offset: 0, height, width, channels, row: width * channels, pixel: channels }
    }

    /// The view with axes [1, C, H, W].
    pub fn view(&self) -> View {
        View {
            source: Source::Buffer(self.buffer),
            offset: self.offset,
            axes: vec![
                vec![],
                axis(self.channels, 1),
                axis(self.height, self.row),
                axis(self.width, self.pixel),
            ],
        }
    }

    /// Number of pixels.
    pub fn pixels(&self) -> usize {
        self.height * self.width
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { buffer, offset, height, width, channels, pixel, .. } = self;
        write!(f, "b{buffer}")?;
        if *offset > 0 {
            write!(f, "+{offset}")?;
        }
        write!(f, "[{height}x{width}x{channels}")?;
        if pixel != channels {
            write!(f, " of {pixel}")?;
        }
        f.write_str("]")
    }
}

/// One factor, or none for size 1.
pub(super) fn axis(size: usize, stride: usize) -> Axis {
    if size == 1 { vec![] } else { vec![Factor { size, stride }] }
}

pub(super) fn axis_size(axis: &[Factor]) -> usize {
    axis.iter().map(|f| f.size).product()
}

/// Joins neighbouring factors that continue each other.
fn merged(axis: Axis) -> Axis {
    let mut joined: Axis = Vec::with_capacity(axis.len());
    for factor in axis.into_iter().filter(|f| f.size > 1) {
        match joined.last_mut() {
            Some(last) if last.stride == factor.stride * factor.size => {
                *last = Factor { size: last.size * factor.size, stride: factor.stride };
            }
            _ => joined.push(factor),
        }
    }
    joined
}
