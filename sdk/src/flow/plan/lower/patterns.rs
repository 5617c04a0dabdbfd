//! Several nodes that together are one function: found by name before anything is lowered.

use std::collections::{HashMap, HashSet};

use super::super::graph::Node;
use super::{Lowering, Result};

/// What the last of the nodes computes, of the value `x`.
#[derive(Clone, Debug)]
pub(super) enum Pattern<'a> {
    /// `Mul(x, Sigmoid(x))`.
    Silu { x: &'a str },
    /// `(x - mean) / sqrt(mean of squared deviations + epsilon)` along `axes`, as they stand in the file.
    Normalisation { x: &'a str, axes: Vec<i64>, epsilon: f32 },
}

impl<'a> Pattern<'a> {
    fn input(&self) -> &'a str {
        match self {
            Self::Silu { x } | Self::Normalisation { x, .. } => x,
        }
    }
}

/// Nodes by the name of their output.
type Makers<'a, 'b> = HashMap<&'a str, &'b Node<'a>>;

impl<'a> Lowering<'a> {
    /// Finds the patterns, and what is read how often when they count as one node each.
    pub(super) fn find_patterns(&mut self, nodes: &[Node<'a>]) {
        let makers: Makers<'a, '_> = nodes.iter().map(|node| (node.output(), node)).collect();
        for node in nodes {
            let pattern = silu(node, &makers).or_else(|| self.normalisation_of(node, &makers));
            self.patterns.extend(pattern.map(|pattern| (node.output(), pattern)));
        }
        // From the results back to what they need.
        let results = ["u", "d"];
        self.needed = HashSet::from(results);
        self.uses = HashMap::from(results.map(|name| (name, 1)));
        for node in nodes.iter().rev() {
            if !node.0.output.iter().any(|name| self.needed.contains(name.as_str())) {
                continue;
            }
            let inputs: Vec<&str> = match self.patterns.get(node.output()) {
                Some(pattern) => vec![pattern.input()],
                None => node.inputs().collect(),
            };
            for name in inputs {
                self.needed.insert(name);
                if node.operator() != "Shape" {
                    *self.uses.entry(name).or_default() += 1;
                }
            }
        }
    }

    /// Lowers the node with which a pattern ends.
    pub(super) fn pattern(&mut self, node: &Node<'a>, pattern: Pattern<'a>) -> Result<()> {
        match pattern {
            Pattern::Silu { x } => self.silu(node, x),
            Pattern::Normalisation { x, axes, epsilon } => {
                let rank = self.dims(x).map_or(0, |dims| dims.len());
                let axes = self.positions(node, &axes, rank)?;
                self.normalise_along(node, x, &axes, epsilon)
            }
        }
    }

    /// `c / r` or `c * (1 / r)`, where c are deviations from the mean and r is the root of their mean square.
    fn normalisation_of(
        &mut self,
        node: &Node<'a>,
        makers: &Makers<'a, '_>,
    ) -> Option<Pattern<'a>> {
        let (a, b) = (node.input(0)?, node.input(1)?);
        let candidates = match node.operator() {
            "Div" => vec![(a, b)],
            "Mul" => {
                let mut inverse = |name| self.inverse_of(name, makers);
                let (of_a, of_b) = (inverse(a), inverse(b));
                [of_b.map(|root| (a, root)), of_a.map(|root| (b, root))]
                    .into_iter()
                    .flatten()
                    .collect()
            }
            _ => return None,
        };
        candidates.into_iter().find_map(|(centred, root)| {
            let sum = made(makers, root, "Sqrt")?.input(0)?;
            let sum = made(makers, sum, "Add")?;
            let (v, e) = (sum.input(0)?, sum.input(1)?);
            let (variance, epsilon) = match (self.number(e), self.number(v)) {
                (Some(epsilon), _) => (v, epsilon),
                (None, Some(epsilon)) => (e, epsilon),
                (None, None) => return None,
            };
            let (squares, axes) = self.mean_of(variance, makers)?;
            let deviations = self.square_of(squares, makers)?;
            let (x, own) = self.deviations_of(centred, makers)?;
            let agree = self.deviations_of(deviations, makers)? == (x, own.clone()) && own == axes;
            agree.then_some(Pattern::Normalisation { x, axes, epsilon })
        })
    }

    /// What `name` is one over of.
    fn inverse_of(&mut self, name: &str, makers: &Makers<'a, '_>) -> Option<&'a str> {
        let node = makers.get(name)?;
        match node.operator() {
            "Reciprocal" => node.input(0),
            "Div" => (self.number(node.input(0)?)? == 1.0).then_some(node.input(1)?),
            _ => None,
        }
    }

    /// What `name` is the mean of, and along which axes; they are kept with size 1.
    fn mean_of(&self, name: &str, makers: &Makers<'a, '_>) -> Option<(&'a str, Vec<i64>)> {
        let node = made(makers, name, "ReduceMean")?;
        let given = node.input(1).and_then(|name| self.integers(name));
        let axes = given.or_else(|| node.ints("axes").map(<[i64]>::to_vec))?;
        (!axes.is_empty() && node.int("keepdims", 1) != 0).then_some((node.input(0)?, axes))
    }

    /// What `name` is the square of.
    fn square_of(&mut self, name: &str, makers: &Makers<'a, '_>) -> Option<&'a str> {
        let node = makers.get(name)?;
        let (a, b) = (node.input(0)?, node.input(1)?);
        match node.operator() {
            "Pow" => (self.number(b)? == 2.0).then_some(a),
            "Mul" => (a == b).then_some(a),
            _ => None,
        }
    }

    /// `name` is `x - mean(x)`: x, and the axes of the mean.
    fn deviations_of(&self, name: &str, makers: &Makers<'a, '_>) -> Option<(&'a str, Vec<i64>)> {
        let node = made(makers, name, "Sub")?;
        let (x, axes) = self.mean_of(node.input(1)?, makers)?;
        (node.input(0)? == x).then_some((x, axes))
    }
}

fn silu<'a>(node: &Node<'a>, makers: &Makers<'a, '_>) -> Option<Pattern<'a>> {
    if node.operator() != "Mul" {
        return None;
    }
    let (a, b) = (node.input(0)?, node.input(1)?);
    let is_sigmoid_of = |sigmoid: &str, x: &str| {
        made(makers, sigmoid, "Sigmoid").is_some_and(|node| node.input(0) == Some(x))
    };
    let x = [(a, b), (b, a)].into_iter().find(|(x, sigmoid)| is_sigmoid_of(sigmoid, x))?.0;
    Some(Pattern::Silu { x })
}

/// The node that computes `name`, if it is of that operator.
fn made<'a, 'b>(makers: &Makers<'a, 'b>, name: &str, operator: &str) -> Option<&'b Node<'a>> {
    makers.get(name).copied().filter(|node| node.operator() == operator)
}
