//! Value-by-value formulas that are not computed yet, and the loops that compute them.

use std::rc::Rc;

use super::call::{Binary, Instruction, Pointwise, Strided, Unary};
use super::view::{Axis, Factor, Source, View, axis_size};

/// What one formula may read.
pub(in crate::flow) const MOST_INPUTS: usize = 32;
/// Loops inside each other of one call.
pub(in crate::flow) const MOST_LOOPS: usize = 8;

/// A formula over views that all have the same sizes.
#[derive(Clone, Debug)]
pub(super) enum Expression {
    Input(View),
    Number(f32),
    Unary(Unary, Rc<Expression>),
    Binary(Binary, Rc<Expression>, Rc<Expression>),
    Select(Rc<Expression>, Rc<Expression>, Rc<Expression>),
}

impl Expression {
    /// The same formula with every view replaced; `None` if `change` fails for one.
    pub(super) fn map(&self, change: &impl Fn(&View) -> Option<View>) -> Option<Self> {
        let sub = |e: &Rc<Self>| e.map(change).map(Rc::new);
        Some(match self {
            Self::Input(view) => Self::Input(change(view)?),
            Self::Number(v) => Self::Number(*v),
            Self::Unary(f, a) => Self::Unary(*f, sub(a)?),
            Self::Binary(f, a, b) => Self::Binary(*f, sub(a)?, sub(b)?),
            Self::Select(c, a, b) => Self::Select(sub(c)?, sub(a)?, sub(b)?),
        })
    }

    /// Whether it has more than `most` parts.
    pub(super) fn is_longer_than(&self, most: usize) -> bool {
        fn rest(e: &Expression, left: usize) -> Option<usize> {
            let left = left.checked_sub(1)?;
            match e {
                Expression::Input(_) | Expression::Number(_) => Some(left),
                Expression::Unary(_, a) => rest(a, left),
                Expression::Binary(_, a, b) => rest(b, rest(a, left)?),
                Expression::Select(c, a, b) => rest(b, rest(a, rest(c, left)?)?),
            }
        }
        rest(self, most).is_none()
    }

    /// Visits the sources of all views that it reads.
    pub(super) fn each_source(&self, visit: &mut impl FnMut(Source)) {
        match self {
            Self::Input(view) => visit(view.source),
            Self::Number(_) => {}
            Self::Unary(_, a) => a.each_source(visit),
            Self::Binary(_, a, b) => [a, b].into_iter().for_each(|e| e.each_source(visit)),
            Self::Select(c, a, b) => [c, a, b].into_iter().for_each(|e| e.each_source(visit)),
        }
    }

    fn collect(&self, views: &mut Vec<View>, formula: &mut Vec<Instruction>) -> usize {
        let instruction = match self {
            Self::Input(view) => {
                let known = views.iter().position(|v| v == view);
                let number = known.unwrap_or_else(|| {
                    views.push(view.clone());
                    views.len() - 1
                });
                Instruction::Input(number)
            }
            Self::Number(v) => Instruction::Number(*v),
            Self::Unary(f, a) => Instruction::Unary(*f, a.collect(views, formula)),
            Self::Binary(f, a, b) => {
                let a = a.collect(views, formula);
                Instruction::Binary(*f, a, b.collect(views, formula))
            }
            Self::Select(c, a, b) => {
                let c = c.collect(views, formula);
                let a = a.collect(views, formula);
                Instruction::Select(c, a, b.collect(views, formula))
            }
        };
        if let Some(known) = formula.iter().position(|i| *i == instruction) {
            return known;
        }
        formula.push(instruction);
        formula.len() - 1
    }

    /// The call that writes this formula to `output`; `None` if the views' factors do not nest, or are too many.
    pub(super) fn pointwise(&self, output: &View) -> Option<Pointwise> {
        let (mut views, mut formula) = (Vec::new(), Vec::new());
        let result = self.collect(&mut views, &mut formula);
        if result + 1 != formula.len() {
            // The result is shared with an earlier part: select it once more, so that it comes last.
            formula.push(Instruction::Select(result, result, result));
        }
        views.push(output.clone());
        let (dims, mut strided) = loops(&views.iter().collect::<Vec<_>>())?;
        let output = strided.pop()?;
        if strided.len() > MOST_INPUTS {
            return None;
        }
        Some(Pointwise { dims, inputs: strided, formula, output })
    }
}

/// Common loops over views of equal sizes: as few as possible, the last view's smallest stride innermost.
pub(super) fn loops(views: &[&View]) -> Option<(Vec<usize>, Vec<Strided>)> {
    let rank = views.first()?.axes.len();
    let mut dims: Vec<usize> = Vec::new();
    let mut strides: Vec<Vec<usize>> = vec![Vec::new(); views.len()];
    for at in 0..rank {
        let axes: Option<Vec<&Axis>> = views.iter().map(|v| v.axes.get(at)).collect();
        let (sizes, split) = refine(&axes?)?;
        dims.extend(sizes);
        strides.iter_mut().zip(split).for_each(|(all, own)| all.extend(own));
    }
    let mut order: Vec<usize> = (0..dims.len()).collect();
    let last = strides.last()?;
    order.sort_by_key(|&i| std::cmp::Reverse(last[i]));
    let mut merged: Vec<usize> = Vec::new();
    let mut kept: Vec<Vec<usize>> = vec![Vec::new(); views.len()];
    for &i in &order {
        let continues = !merged.is_empty()
            && kept
                .iter()
                .zip(&strides)
                .all(|(kept, own)| kept.last().is_some_and(|&outer| outer == own[i] * dims[i]));
        if continues {
            if let Some(size) = merged.last_mut() {
                *size *= dims[i];
            }
            for (kept, own) in kept.iter_mut().zip(&strides) {
                kept.pop();
                kept.push(own[i]);
            }
        } else {
            merged.push(dims[i]);
            kept.iter_mut().zip(&strides).for_each(|(kept, own)| kept.push(own[i]));
        }
    }
    if merged.len() > MOST_LOOPS {
        return None;
    }
    if merged.is_empty() {
        merged.push(1);
        kept.iter_mut().for_each(|k| k.push(0));
    }
    let strided = views.iter().zip(kept);
    let strided =
        strided.map(|(v, strides)| Strided { source: v.source, offset: v.offset, strides });
    Some((merged, strided.collect()))
}

/// The coarsest common factors of axes of one size, outermost first, and every axis' strides for them.
fn refine(axes: &[&Axis]) -> Option<(Vec<usize>, Vec<Vec<usize>>)> {
    let size = axis_size(axes.first()?);
    // Where some axis is divided, counted from the innermost value.
    let mut cuts = vec![1, size];
    for axis in axes {
        if axis_size(axis) != size {
            return None;
        }
        let mut inner = 1;
        for factor in axis.iter().rev() {
            inner *= factor.size;
            cuts.push(inner);
        }
    }
    cuts.sort_unstable();
    cuts.dedup();
    if cuts.windows(2).any(|w| !w[1].is_multiple_of(w[0])) {
        return None;
    }
    let mut sizes: Vec<usize> = cuts.windows(2).map(|w| w[1] / w[0]).collect();
    sizes.reverse();
    let split = |axis: &&Axis| {
        let mut strides: Vec<usize> =
            cuts[..cuts.len() - 1].iter().map(|&cut| stride_at(axis, cut)).collect();
        strides.reverse();
        strides
    };
    Some((sizes, axes.iter().map(split).collect()))
}

/// Distance between values that are `step` indices apart.
fn stride_at(axis: &[Factor], step: usize) -> usize {
    let mut inner = 1;
    for factor in axis.iter().rev() {
        if step < inner * factor.size {
            return factor.stride * (step / inner);
        }
        inner *= factor.size;
    }
    0
}

/// A number that stands for a whole view: a constant with one value.
pub(super) fn number(values: Option<&[f32]>) -> Option<f32> {
    match values {
        Some(&[v]) => Some(v),
        _ => None,
    }
}

/// A view of a buffer, constant or table.
pub(super) fn input(source: Source, dims: &[usize]) -> Expression {
    Expression::Input(View::dense(source, dims))
}
