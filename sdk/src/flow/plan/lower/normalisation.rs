//! Group normalisation, in the forms in which exporters write it.

use std::sync::Arc;

use super::super::Source;
use super::super::call::{Activation, Affine, Normalisation, Prologue};
use super::super::graph::Node;
use super::super::view::{Image, View};
use super::{Lowering, Result, Value};

impl<'a> Lowering<'a> {
    /// Instance normalisation of an image reshaped to [1, groups, rest]: group normalisation.
    pub(super) fn instance_normalisation(&mut self, node: &Node<'a>) -> Result<()> {
        let (_, value) = self.value(node, 0)?;
        let Value::Tensor { view, origin: Some(origin) } = value else {
            return Err(node.unsupported("its input is not a stored image"));
        };
        let dims = view.dims();
        if origin.view().reshape(&dims).as_ref() != Some(&view) || dims.len() < 3 {
            return Err(node.unsupported("its groups are not groups of channels"));
        }
        self.normalise(node, origin, view, dims[1])
    }

    pub(super) fn group_normalisation(&mut self, node: &Node<'a>) -> Result<()> {
        let name = node.input(0).ok_or_else(|| node.unsupported("it has no input"))?;
        let image = self.image(node, name)?;
        let groups = usize::try_from(node.int("num_groups", 1)).unwrap_or(0);
        self.normalise(node, image, image.view(), groups)
    }

    fn normalise(
        &mut self,
        node: &Node<'a>,
        image: Image,
        view: View,
        groups: usize,
    ) -> Result<()> {
        if groups == 0 || !image.channels.is_multiple_of(groups) {
            let why = format!("{} channels do not make {groups} groups", image.channels);
            return Err(node.unsupported(why));
        }
        let channels = self.moments(&image);
        let epsilon = node.float("epsilon", 1e-5);
        let mut affine = Vec::new();
        for (i, neutral) in [(1, 1.0), (2, 0.0)] {
            let (_, values) = self.weights(node, i)?;
            if values.iter().all(|&v| v == neutral) {
                continue;
            }
            let each = image.channels.checked_div(values.len()).unwrap_or(0);
            if each * values.len() != image.channels {
                return Err(node.unsupported(format!(
                    "{} factors meet {} channels",
                    values.len(),
                    image.channels
                )));
            }
            let full: Arc<[f32]> =
                values.iter().flat_map(|&v| std::iter::repeat_n(v, each)).collect();
            let source = Source::Constant(self.constant(|| full));
            affine.push(if i == 1 { Affine::Multiply(source) } else { Affine::Add(source) });
        }
        let normalisation = Some(Normalisation { channels, groups, epsilon });
        let prologue = Prologue { normalisation, affine, activation: Activation::None };
        self.values.insert(node.output(), Value::Mapped { image, prologue, view });
        Ok(())
    }
}
