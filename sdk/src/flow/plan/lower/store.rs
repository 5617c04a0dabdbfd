//! Where values are stored: buffers, destinations of concatenated values, and who wrote what.

use super::super::call::{Apply, Moments};
use super::super::formula::Expression;
use super::super::graph::Node;
use super::super::view::{Image, Source, View};
use super::super::{Call, Plan};
use super::{Lowering, Result, Value};

impl<'a> Lowering<'a> {
    /// Room for the value `name`: part of its concatenation's buffer, or a buffer of its own. Four axes lie
    /// channels-last, others in the order of the axes.
    pub(super) fn allocate(&mut self, name: &str, dims: &[usize]) -> View {
        match *dims {
            [1, channels, height, width] => {
                self.allocate_image(name, height, width, channels).view()
            }
            _ => {
                let buffer = self.buffer(dims.iter().product());
                View::dense(Source::Buffer(buffer), dims)
            }
        }
    }

    /// A buffer for an intermediate result.
    pub(super) fn room(&mut self, dims: &[usize]) -> View {
        self.allocate("", dims)
    }

    pub(super) fn allocate_image(
        &mut self,
        name: &str,
        height: usize,
        width: usize,
        channels: usize,
    ) -> Image {
        let part = |j: &super::Joined| {
            let (_, first) = j.parts.iter().find(|(part, _)| part == name)?;
            Some((j.output.clone(), *first, j.dims[1]))
        };
        match self.joins.iter().find_map(part) {
            Some((output, first, total)) => {
                let whole = self.joined_image(&output, height, width, total);
                Image { offset: first, channels, ..whole }
            }
            None => {
                let buffer = self.buffer(height * width * channels);
                Image::dense(buffer, height, width, channels)
            }
        }
    }

    /// Room for the value `name` in a buffer that is none of `read`: no call reads the buffer that it writes.
    pub(super) fn allocate_apart(
        &mut self,
        name: &str,
        [height, width, channels]: [usize; 3],
        read: &[usize],
    ) -> Image {
        let image = self.allocate_image(name, height, width, channels);
        if !read.contains(&image.buffer) {
            return image;
        }
        let buffer = self.buffer(height * width * channels);
        Image::dense(buffer, height, width, channels)
    }

    /// The whole image of the concatenation `output`.
    pub(super) fn joined_image(
        &mut self,
        output: &str,
        height: usize,
        width: usize,
        channels: usize,
    ) -> Image {
        let buffer = match self.join_buffers.get(output) {
            Some(&buffer) => buffer,
            None => {
                let buffer = self.buffer(height * width * channels);
                self.join_buffers.insert(output.to_owned(), buffer);
                buffer
            }
        };
        Image::dense(buffer, height, width, channels)
    }

    /// Appends a call that writes `image`.
    pub(super) fn write(&mut self, image: Image, call: Call) {
        self.calls.push(Some(call));
        self.writers.push((image, self.calls.len() - 1));
    }

    /// The call that wrote exactly `image`.
    pub(super) fn writer(&self, image: &Image) -> Option<usize> {
        self.writers.iter().find(|(written, _)| written.view() == image.view()).map(|w| w.1)
    }

    /// Stores the value `name` if it is not yet; its view.
    pub(super) fn tensor(&mut self, node: &Node<'_>, name: &'a str) -> Result<View> {
        self.store(node, name)?;
        match self.values.get(name) {
            Some(Value::Tensor { view, .. }) => Ok(view.clone()),
            _ => Err(node.unsupported(format!("{name:?} is not a tensor of numbers"))),
        }
    }

    /// The value `name` as an image, copied if it lies otherwise.
    pub(super) fn image(&mut self, node: &Node<'_>, name: &'a str) -> Result<Image> {
        let view = self.tensor(node, name)?;
        if let Some(image) = view.image() {
            return Ok(image);
        }
        let dims = view.dims();
        let [1, _, _, _] = dims[..] else {
            return Err(node.unsupported(format!("{name:?} has sizes {dims:?}, need an image")));
        };
        let stored = self.save(node, name, &Expression::Input(view), &dims)?;
        stored.image().ok_or_else(|| node.unsupported(format!("{name:?} is not an image")))
    }

    /// Stores what waits under `name`.
    pub(super) fn store(&mut self, node: &Node<'_>, name: &'a str) -> Result<()> {
        match self.values.get(name).cloned() {
            Some(Value::Mapped { image, prologue, view }) => {
                let sizes = [image.height, image.width, image.channels];
                let output = self.allocate_apart(name, sizes, &[image.buffer]);
                self.write(output, Call::Apply(Apply { input: image, prologue, output }));
                // The view of the stored image is that of the mapped one, at the other place.
                let plain = output.view();
                let moved = if view == image.view() {
                    Some(plain.clone())
                } else {
                    plain.reshape(&view.dims())
                };
                let moved = moved.filter(|_| {
                    view == image.view()
                        || image.view().reshape(&view.dims()).as_ref() == Some(&view)
                });
                let view =
                    moved.ok_or_else(|| node.unsupported("a normalised value is rearranged"))?;
                self.values.insert(name, Value::Tensor { view, origin: Some(output) });
            }
            Some(Value::Formula { expression, dims }) => {
                self.save(node, name, &expression, &dims)?;
            }
            Some(Value::Product(product)) => self.store_product(node, name, &product)?,
            _ => {}
        }
        Ok(())
    }

    /// Computes `expression` into room of its own and makes that the value `name`.
    pub(super) fn save(
        &mut self,
        node: &Node<'_>,
        name: &'a str,
        expression: &Expression,
        dims: &[usize],
    ) -> Result<View> {
        let view = self.allocate(name, dims);
        self.compute(node, expression, &view)?;
        self.values.insert(name, Value::Tensor { view: view.clone(), origin: view.image() });
        Ok(view)
    }

    /// Computes `expression` into `output`.
    pub(super) fn compute(
        &mut self,
        node: &Node<'_>,
        expression: &Expression,
        output: &View,
    ) -> Result<()> {
        let mut read = Vec::new();
        expression.each_source(&mut |source| read.push(source));
        if read.contains(&output.source) {
            // No call reads the buffer that it writes.
            let buffer = self.buffer(output.len());
            let apart = View::dense(Source::Buffer(buffer), &output.dims());
            self.compute(node, expression, &apart)?;
            return self.compute(node, &Expression::Input(apart), output);
        }
        let call = expression.pointwise(output);
        let call = call.ok_or_else(|| node.unsupported("its values cannot be lined up"))?;
        match output.image() {
            Some(image) => self.write(image, Call::Pointwise(call)),
            None => self.calls.push(Some(Call::Pointwise(call))),
        }
        Ok(())
    }

    /// Moments of every channel of `image`: from the convolutions that wrote it where they did, else measured.
    pub(super) fn moments(&mut self, image: &Image) -> Vec<(usize, usize, usize)> {
        let mut parts = self.parts(image);
        if parts.is_empty() {
            parts.push(*image);
        }
        parts.iter().map(|part| (self.moments_of(part), 0, part.channels)).collect()
    }

    /// The written images that make up the channels of `image`, in order; none if they do not tile it.
    fn parts(&self, image: &Image) -> Vec<Image> {
        let inside = |i: &&Image| {
            let alike = (i.buffer, i.height, i.width, i.pixel, i.row)
                == (image.buffer, image.height, image.width, image.pixel, image.row);
            let end = image.offset + image.channels;
            alike && i.offset >= image.offset && i.offset + i.channels <= end
        };
        let mut parts: Vec<Image> =
            self.writers.iter().map(|w| &w.0).filter(inside).copied().collect();
        parts.sort_by_key(|i| i.offset);
        let mut next = image.offset;
        for part in &parts {
            if part.offset != next {
                return vec![];
            }
            next += part.channels;
        }
        if next == image.offset + image.channels { parts } else { vec![] }
    }

    fn moments_of(&mut self, image: &Image) -> usize {
        if let Some((_, number)) = self.measured.iter().find(|(i, _)| i.view() == image.view()) {
            return *number;
        }
        self.moments.push((image.channels, image.pixels()));
        let number = self.moments.len() - 1;
        self.measured.push((*image, number));
        let writer = self.writer(image);
        match writer.and_then(|at| self.calls[at].as_mut()) {
            Some(Call::Convolution(convolution)) => convolution.moments = Some(number),
            _ => self.calls.push(Some(Call::Moments(Moments { input: *image, moments: number }))),
        }
        number
    }
}

impl Plan {
    /// Renumbers the buffers so that none is left that no call touches.
    pub(super) fn drop_unused_buffers(&mut self) {
        let mut used = vec![false; self.buffers.len()];
        used[self.input] = true;
        self.each_buffer(&mut |buffer| used[*buffer] = true);
        let mut next = 0;
        let number: Vec<usize> = used
            .iter()
            .map(|&used| {
                next += usize::from(used);
                next.wrapping_sub(1)
            })
            .collect();
        self.each_buffer(&mut |buffer| *buffer = number[*buffer]);
        self.input = number[self.input];
        let mut kept = used.iter();
        self.buffers.retain(|_| kept.next() == Some(&true));
    }

    fn each_buffer(&mut self, change: &mut impl FnMut(&mut usize)) {
        for view in [&mut self.velocity, &mut self.divergence] {
            if let Source::Buffer(buffer) = &mut view.source {
                change(buffer);
            }
        }
        self.calls.iter_mut().for_each(|call| call.each_buffer(change));
    }
}
