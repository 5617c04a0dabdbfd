//! ONNX graph → [`Plan`]: node by node, everything that can wait is kept symbolic until somebody reads it.
//!
//! Reshaping, transposing and slicing change views; channel-wise maps wait for the convolution that reads them;
//! formulas wait until they are stored; scores wait for the product that makes them attention. Two passes: the first
//! finds the sizes of all values, so that in the second the inputs of a concatenation are written where they belong.

mod convolution;
mod elementwise;
mod normalisation;
mod patterns;
mod product;
mod shape;
mod store;

use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use tract_onnx::pb;

use self::patterns::Pattern;
use super::check::check;
use super::formula::{self, Expression};
use super::graph::{Constant, Floats, Node, constants};
use super::times::{Known, Times};
use super::view::{Image, View};
use super::{Call, Plan, Prologue, Source, Unsupported, Values, integers};
use crate::flow::tract::without_panic;
use crate::model::Graph;
use crate::preprocess::Shape;

/// Values of one intermediate tensor of one image: 1 GiB of f32.
const MAX_VALUES: usize = 1 << 28;

type Result<T> = std::result::Result<T, Unsupported>;

/// A value that depends on the image.
#[derive(Clone, Debug)]
enum Value {
    /// Stored. `origin` is the image that it is a view of, if it is one.
    Tensor { view: View, origin: Option<Image> },
    /// `prologue(image)`, seen as `view` would see the image.
    Mapped { image: Image, prologue: Prologue, view: View },
    /// Not computed yet.
    Formula { expression: Expression, dims: Vec<usize> },
    /// `scale * left right`, and whether a softmax along the last axis and a transposition follow.
    Product(product::Product),
    /// A shape.
    Integers(Vec<i64>),
}

/// Inputs of a concatenation along channels and where each begins.
#[derive(Clone, Debug)]
struct Joined {
    output: String,
    parts: Vec<(String, usize)>,
    dims: Vec<usize>,
}

struct Lowering<'a> {
    file: Rc<HashMap<&'a str, Constant<'a>>>,
    known: HashMap<&'a str, Known>,
    values: HashMap<&'a str, Value>,
    uses: HashMap<&'a str, usize>,
    /// By the output of their last node.
    patterns: HashMap<&'a str, Pattern<'a>>,
    /// What the results depend on.
    needed: HashSet<&'a str>,
    /// From a first pass: what will be concatenated.
    joins: Vec<Joined>,
    join_buffers: HashMap<String, usize>,
    /// Whether this is the first pass, which needs no weights.
    dry: bool,
    found: Vec<Joined>,
    constants: Vec<Values>,
    buffers: Vec<usize>,
    calls: Vec<Option<Call>>,
    moments: Vec<(usize, usize)>,
    measured: Vec<(Image, usize)>,
    writers: Vec<(Image, usize)>,
}

/// Lowers the graph of a model for images of `shape`.
pub(in crate::flow) fn lower(model: &Graph, shape: Shape) -> Result<Plan> {
    // The file's numbers are checked where they are used; what slips through must not end the process.
    let lowered = without_panic(|| Ok(lower_graph(model, shape)));
    lowered.unwrap_or_else(|why| Err(Unsupported { node: "the graph".into(), why }))
}

fn lower_graph(model: &Graph, shape: Shape) -> Result<Plan> {
    let none = |why: &str| Unsupported { node: "the graph".into(), why: why.into() };
    let graph = model.proto().graph.as_ref().ok_or_else(|| none("it is missing"))?;
    let Shape { channels, height, width } = shape;
    let dims = [1, channels, height, width];
    let times = Times::new(model, graph, &dims)?;
    let file = Rc::new(constants(model, graph));
    let mut first = Lowering::new(Rc::clone(&file), &times, vec![]);
    first.dry = true;
    first.run(&times.nodes, shape)?;
    let mut second = Lowering::new(file, &times, first.found);
    let input = second.run(&times.nodes, shape)?;
    let velocity = second.result("u", &dims)?;
    let divergence = match second.dims("d").as_deref() {
        Some([1, 1, h, w]) if (*h, *w) == (height, width) => {
            second.result("d", &[1, 1, height, width])?
        }
        _ => second.result("d", &[1])?,
    };
    let lengths = times.lengths();
    let mut plan = Plan {
        input,
        velocity,
        divergence,
        buffers: second.buffers,
        constants: second.constants,
        moments: second.moments,
        calls: second.calls.into_iter().flatten().collect(),
        tables: times.tables,
    };
    plan.drop_unused_buffers();
    let broken = |why| Unsupported { node: "the plan".into(), why };
    check(&plan, &lengths).map_err(broken)?;
    if let Some(call) = plan.calls.iter().find(|call| call.overwrites()) {
        return Err(broken(format!("{call} reads the buffer that it writes")));
    }
    Ok(plan)
}

impl<'a> Lowering<'a> {
    fn new(
        file: Rc<HashMap<&'a str, Constant<'a>>>,
        times: &Times<'a>,
        joins: Vec<Joined>,
    ) -> Self {
        let mut lowering = Self {
            file,
            known: times.known.clone(),
            values: HashMap::new(),
            uses: HashMap::new(),
            patterns: HashMap::new(),
            needed: HashSet::new(),
            joins,
            join_buffers: HashMap::new(),
            dry: false,
            found: vec![],
            constants: times.constants.clone(),
            buffers: vec![],
            calls: vec![],
            moments: vec![],
            measured: vec![],
            writers: vec![],
        };
        lowering.find_patterns(&times.nodes);
        lowering
    }

    /// Lowers all nodes; returns the buffer of the input.
    fn run(&mut self, nodes: &[Node<'a>], shape: Shape) -> Result<usize> {
        let Shape { channels, height, width } = shape;
        let input = self.buffer(shape.len());
        let image = Image::dense(input, height, width, channels);
        self.values.insert("x", Value::Tensor { view: image.view(), origin: Some(image) });
        for node in nodes {
            if node.0.output.iter().any(|name| self.needed.contains(name.as_str())) {
                self.node(node)?;
            }
        }
        Ok(input)
    }

    /// Lowers one node, and refuses results that are too large before any memory is asked for.
    fn node(&mut self, node: &Node<'a>) -> Result<()> {
        if node.0.input.len() > most_inputs(node.operator()) {
            let why = format!("{} inputs are more than it takes", node.0.input.len());
            return Err(node.unsupported(why));
        }
        self.lower_node(node)?;
        for output in &node.0.output {
            let dims = self.dims(output).unwrap_or_default();
            let values = dims.iter().fold(1usize, |n, &d| n.saturating_mul(d));
            if values > MAX_VALUES || values == 0 {
                return Err(node.unsupported(format!("it makes {values} values")));
            }
        }
        Ok(())
    }

    fn lower_node(&mut self, node: &Node<'a>) -> Result<()> {
        if let Some(pattern) = self.patterns.get(node.output()).cloned() {
            return self.pattern(node, pattern);
        }
        if self.integer_node(node) {
            return Ok(());
        }
        match node.operator() {
            "Conv" => self.convolution(node),
            "ConvTranspose" => self.transposed_convolution(node),
            "Gemm" => self.gemm(node),
            "MatMul" => self.matmul(node),
            "Einsum" => self.einsum(node),
            "Softmax" => self.softmax(node),
            "InstanceNormalization" => self.instance_normalisation(node),
            "GroupNormalization" => self.group_normalisation(node),
            "LayerNormalization" => self.layer_normalisation(node),
            "Reshape" => self.reshape(node),
            "Flatten" => self.flatten(node),
            "Squeeze" => self.squeeze(node),
            "Unsqueeze" => self.unsqueeze(node),
            "Transpose" => self.transpose(node),
            "Slice" => self.slice(node),
            "Gather" => self.gather(node),
            "Split" => self.split(node),
            "Concat" => self.concat(node),
            "DepthToSpace" => self.depth_to_space(node),
            "SpaceToDepth" => self.space_to_depth(node),
            "Resize" => self.resize(node),
            "AveragePool" => self.average_pool(node),
            "GlobalAveragePool" => self.global_average_pool(node),
            "ReduceMean" | "ReduceSum" => self.reduce(node),
            "Identity" => self.identity(node),
            "Cast" => self.cast(node),
            "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Max" | "Min" | "Less" | "Greater"
            | "Equal" => self.binary(node),
            "Where" => self.select(node),
            "Clip" => self.clip(node),
            "Gelu" => self.gelu(node),
            _ => self.unary(node),
        }
    }

    /// Shapes and what is computed from them; true if `node` was one of those.
    fn integer_node(&mut self, node: &Node<'a>) -> bool {
        if node.operator() == "Shape" {
            let Some(dims) = node.input(0).and_then(|name| self.dims(name)) else { return false };
            let dims: Vec<i64> = dims.iter().map(|&d| d as i64).collect();
            self.values.insert(node.output(), Value::Integers(integers::shape(node, &dims)));
            return true;
        }
        let is_integer = |name| matches!(self.values.get(name), Some(Value::Integers(_)));
        if !node.inputs().any(is_integer)
            || node.inputs().any(|n| self.values.contains_key(n) && !is_integer(n))
        {
            return false;
        }
        let inputs: Option<Vec<Vec<i64>>> = node.inputs().map(|name| self.integers(name)).collect();
        let Some(inputs) = inputs else { return false };
        let inputs: Vec<&[i64]> = inputs.iter().map(Vec::as_slice).collect();
        let Some(values) = integers::evaluate(node, &inputs) else { return false };
        self.values.insert(node.output(), Value::Integers(values));
        true
    }

    /// Values of an integer vector, wherever it comes from.
    fn integers(&self, name: &str) -> Option<Vec<i64>> {
        if let Some(Value::Integers(values)) = self.values.get(name) {
            return Some(values.clone());
        }
        match self.file.get(name) {
            Some(Constant::Integers(_, values)) => Some(values.clone()),
            Some(Constant::Floats(_, values)) => {
                Some(values.decode().iter().map(|&v| v as i64).collect())
            }
            None => {
                let values = self.known.get(name)?.values.as_ref()?;
                Some(values.iter().map(|&v| v as i64).collect())
            }
        }
    }

    /// A value that does not depend on the image.
    fn known(&mut self, name: &'a str) -> Option<Known> {
        if let Some(known) = self.known.get(name) {
            return Some(known.clone());
        }
        let known = super::times::known(self.file.get(name)?, self.constants.len())?;
        self.constants.extend(known.values.clone().map(Values::from));
        self.known.insert(name, known.clone());
        Some(known)
    }

    /// A constant that some kernel repacks: its sizes and values.
    fn weights(&self, node: &Node<'a>, i: usize) -> Result<(Vec<usize>, Floats<'a>)> {
        let found = node.input(i).and_then(|name| match self.file.get(name) {
            Some(Constant::Floats(dims, values)) => Some((dims.clone(), values.clone())),
            Some(Constant::Integers(..)) => None,
            None => {
                let known = self.known.get(name)?;
                Some((known.dims.clone(), Floats::Computed(Arc::clone(known.values.as_ref()?))))
            }
        });
        found.ok_or_else(|| node.unsupported(format!("input {i} is not constant")))
    }

    fn constant(&mut self, values: impl FnOnce() -> Values) -> usize {
        self.constants.push(if self.dry { Values::from_iter([]) } else { values() });
        self.constants.len() - 1
    }

    fn buffer(&mut self, values: usize) -> usize {
        self.buffers.push(values);
        self.buffers.len() - 1
    }

    fn uses(&self, name: &str) -> usize {
        self.uses.get(name).copied().unwrap_or(0)
    }

    /// Sizes of a value of any kind.
    fn dims(&self, name: &str) -> Option<Vec<usize>> {
        match self.values.get(name) {
            Some(Value::Tensor { view, .. } | Value::Mapped { view, .. }) => Some(view.dims()),
            Some(Value::Formula { dims, .. }) => Some(dims.clone()),
            Some(Value::Product(product)) => Some(product.dims()),
            Some(Value::Integers(values)) => Some(vec![values.len()]),
            None => match self.file.get(name) {
                Some(Constant::Floats(dims, _) | Constant::Integers(dims, _)) => Some(dims.clone()),
                None => Some(self.known.get(name)?.dims.clone()),
            },
        }
    }

    /// The value of input `i`, stored first if several nodes read it.
    fn value(&mut self, node: &Node<'a>, i: usize) -> Result<(&'a str, Value)> {
        let name =
            node.input(i).ok_or_else(|| node.unsupported(format!("input {i} is missing")))?;
        self.named(node, name)
    }

    /// The value `name`, stored first if several nodes read it.
    fn named(&mut self, node: &Node<'a>, name: &'a str) -> Result<(&'a str, Value)> {
        if !self.values.contains_key(name) {
            let known = self.known(name);
            let known =
                known.ok_or_else(|| node.unsupported(format!("input {name:?} cannot be read")))?;
            let view = View::dense(known.source, &known.dims);
            return Ok((name, Value::Tensor { view, origin: None }));
        }
        let waits = matches!(
            self.values[name],
            Value::Formula { .. } | Value::Mapped { .. } | Value::Product(_)
        );
        if waits && self.uses(name) > 1 {
            self.store(node, name)?;
        }
        Ok((name, self.values[name].clone()))
    }

    /// The result `name` in a buffer.
    fn result(&mut self, name: &'a str, dims: &[usize]) -> Result<View> {
        let none = |why: String| Unsupported { node: name.into(), why };
        let node =
            pb::NodeProto { op_type: "result".into(), name: name.into(), ..Default::default() };
        if !self.values.contains_key(name) {
            let known = self.known(name).ok_or_else(|| none("it cannot be computed".into()))?;
            let expression = formula::input(known.source, &known.dims);
            self.values.insert(name, Value::Formula { expression, dims: known.dims });
        }
        let view = self.tensor(&Node(&node), name)?;
        if !matches!(view.source, Source::Buffer(_)) || view.dims() != dims {
            return Err(none(format!("its sizes are {:?}, need {dims:?}", view.dims())));
        }
        Ok(view)
    }
}

/// The largest number of inputs that an operator may have.
fn most_inputs(operator: &str) -> usize {
    match operator {
        "Concat" => usize::MAX,
        "Slice" => 5,
        "Resize" => 4,
        "Conv"
        | "ConvTranspose"
        | "Gemm"
        | "InstanceNormalization"
        | "GroupNormalization"
        | "LayerNormalization"
        | "Where"
        | "Clip" => 3,
        "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Max" | "Min" | "Less" | "Greater" | "Equal"
        | "MatMul" | "Einsum" | "Gather" | "Reshape" | "Squeeze" | "Unsqueeze" | "Split"
        | "ReduceMean" | "ReduceSum" => 2,
        _ => 1,
    }
}
