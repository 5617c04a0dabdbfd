//! Small networks with random weights, node by node in the forms in which exporters write them.

use std::sync::Arc;

use f2d2::preprocess::{Shape, noise};
use f2d2::{Limits, Model};
use prost::Message;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
    TensorProto,
};

use crate::gaussian::{Gaussian, MANIFEST_KEY};
use crate::graph::{floats, indices, int, ints, node, value};

/// Ways to write a normalisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// InstanceNormalization of reshaped groups, then factors: opset 13 to 20.
    Instance,
    /// GroupNormalization with a factor per channel: opset 21.
    Group,
    /// ReduceMean, Sub, Pow, ReduceMean, Add, Sqrt, Div of reshaped groups.
    Divided,
    /// The same with Sub and Mul, both written twice, and one over the root as a factor.
    Multiplied,
    /// LayerNormalization over a whole image, a factor per value.
    Layer,
    /// The same as ReduceMean, Sub, Pow, ReduceMean, Add, Sqrt, Div.
    LayerDivided,
}

/// All of them.
pub const FORMS: [Form; 6] =
    [Form::Instance, Form::Group, Form::Divided, Form::Multiplied, Form::Layer, Form::LayerDivided];

/// A value of the network with its channels, rows and columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Name in the graph.
    pub name: String,
    /// C, H, W.
    pub dims: [usize; 3],
}

/// A graph that grows.
pub struct Network {
    /// Shape of the images.
    pub shape: Shape,
    /// Version of the operators.
    pub opset: i64,
    /// Whether the divergence comes as one number per image.
    pub scalar_head: bool,
    seed: u64,
    nodes: Vec<NodeProto>,
    constants: Vec<TensorProto>,
}

impl Network {
    /// An empty network of images with `channels` channels.
    pub fn new(channels: usize, height: usize, width: usize, seed: u64) -> Self {
        let shape = Shape { channels, height, width };
        Self { shape, opset: 17, scalar_head: false, seed, nodes: vec![], constants: vec![] }
    }

    /// A residual block with `width` channels, modulated by the times, normalised by `form`, and attention after it.
    pub fn block(channels: usize, [height, width]: [usize; 2], inner: usize, form: Form) -> Self {
        let mut n = Self::new(channels, height, width, inner as u64);
        if form == Form::Group {
            n.opset = 21;
        }
        let groups = [4, 3, 2, 1].into_iter().find(|g| inner.is_multiple_of(*g)).unwrap_or(1);
        let stem = n.convolution(&n.image(), inner, 3);
        let h = n.normalise(&stem, groups, form);
        let h = n.modulate(&h);
        let h = n.silu(&h);
        let h = n.convolution(&h, inner, 3);
        let h = n.binary("Add", &stem, &h.name);
        let h = n.attention(&h, form);
        n.finish(&h)
    }

    /// The input.
    pub fn image(&self) -> Tensor {
        let Shape { channels, height, width } = self.shape;
        Tensor { name: "x".into(), dims: [channels, height, width] }
    }

    /// A number in [0, 1), another one at every call.
    pub fn draw(&mut self) -> f32 {
        self.seed += 1;
        noise::uniform(self.seed, 0x77, 1)[0]
    }

    /// One of `0..n`.
    pub fn choose(&mut self, n: usize) -> usize {
        (self.draw() * n as f32) as usize
    }

    /// A node with one output.
    pub fn add(
        &mut self,
        operator: &str,
        inputs: &[&str],
        attributes: Vec<AttributeProto>,
    ) -> String {
        let name = format!("{}_{operator}", self.nodes.len());
        let mut node = node(operator, inputs, &name);
        node.attribute = attributes;
        self.nodes.push(node);
        name
    }

    /// A node with an output of `dims`.
    pub fn tensor(
        &mut self,
        operator: &str,
        inputs: &[&str],
        attributes: Vec<AttributeProto>,
        dims: [usize; 3],
    ) -> Tensor {
        Tensor { name: self.add(operator, inputs, attributes), dims }
    }

    /// Normal numbers of that size.
    pub fn random(&mut self, dims: &[usize], size: f32) -> String {
        self.seed += 1;
        let values = noise::normal(self.seed, 0x78, dims.iter().product());
        self.constant(dims, &values.iter().map(|v| v * size).collect::<Vec<_>>())
    }

    /// A constant.
    pub fn constant(&mut self, dims: &[usize], values: &[f32]) -> String {
        let name = format!("c{}", self.constants.len());
        self.constants.push(floats(&name, dims, values));
        name
    }

    /// A constant of whole numbers.
    pub fn integers(&mut self, values: &[i64]) -> String {
        let name = format!("c{}", self.constants.len());
        self.constants.push(indices(&name, values));
        name
    }

    /// A convolution with padding and bias.
    pub fn convolution(&mut self, x: &Tensor, outputs: usize, kernel: usize) -> Tensor {
        let [c, h, w] = x.dims;
        let size = ((c * kernel * kernel) as f32).sqrt().recip();
        let weights = self.random(&[outputs, c, kernel, kernel], size);
        let bias = self.random(&[outputs], 0.1);
        let pad = (kernel / 2) as i64;
        let attributes = vec![ints("pads", &[pad; 4])];
        self.tensor("Conv", &[&x.name, &weights, &bias], attributes, [outputs, h, w])
    }

    /// `x` with a function of one value.
    pub fn unary(&mut self, operator: &str, x: &Tensor) -> Tensor {
        self.tensor(operator, &[&x.name], vec![], x.dims)
    }

    /// `x` with an operand that is broadcast to it.
    pub fn binary(&mut self, operator: &str, x: &Tensor, other: &str) -> Tensor {
        self.tensor(operator, &[&x.name, other], vec![], x.dims)
    }

    /// As exporters write it.
    pub fn silu(&mut self, x: &Tensor) -> Tensor {
        let sigmoid = self.unary("Sigmoid", x);
        self.binary("Mul", x, &sigmoid.name)
    }

    /// Factors and shifts that depend on the times.
    pub fn modulate(&mut self, x: &Tensor) -> Tensor {
        let channels = x.dims[0];
        let mut made = Vec::new();
        for _ in 0..2 {
            let mut sum = self.random(&[1, channels], 0.3);
            for time in ["t", "s"] {
                let column = self.integers(&[-1, 1]);
                let column = self.add("Reshape", &[time, &column], vec![]);
                let weights = self.random(&[1, channels], 0.5);
                let product = self.add("MatMul", &[&column, &weights], vec![]);
                sum = self.add("Add", &[&sum, &product], vec![]);
            }
            let sine = self.add("Sin", &[&sum], vec![]);
            let shape = self.integers(&[-1, channels as i64, 1, 1]);
            made.push(self.add("Reshape", &[&sine, &shape], vec![]));
        }
        let one = self.constant(&[], &[1.0]);
        let factor = self.add("Add", &[&made[0], &one], vec![]);
        let h = self.binary("Mul", x, &factor);
        self.binary("Add", &h, &made[1])
    }

    /// `x` normalised and scaled.
    pub fn normalise(&mut self, x: &Tensor, groups: usize, form: Form) -> Tensor {
        let [c, h, w] = x.dims;
        match form {
            Form::Group => {
                let (scale, bias) = (self.random(&[c], 1.0), self.random(&[c], 0.3));
                let attributes = vec![int("num_groups", groups as i64), epsilon()];
                let inputs = [&x.name[..], &scale, &bias];
                self.tensor("GroupNormalization", &inputs, attributes, x.dims)
            }
            Form::Layer => {
                let (scale, bias) = (self.random(&[c, h, w], 1.0), self.random(&[c, h, w], 0.3));
                let attributes = vec![int("axis", 1), epsilon()];
                let inputs = [&x.name[..], &scale, &bias];
                self.tensor("LayerNormalization", &inputs, attributes, x.dims)
            }
            Form::LayerDivided => {
                let normal = self.expanded(&x.name, &[-3, -2, -1], false);
                let (scale, bias) = (self.random(&[c, h, w], 1.0), self.random(&[c, h, w], 0.3));
                let scaled = self.tensor("Mul", &[&normal, &scale], vec![], x.dims);
                self.binary("Add", &scaled, &bias)
            }
            Form::Instance | Form::Divided | Form::Multiplied => {
                let shape = self.add("Shape", &[&x.name], vec![]);
                let g = groups as i64;
                let (scale, bias) = (self.random(&[c, 1, 1], 1.0), self.random(&[c, 1, 1], 0.3));
                let normal = if form == Form::Instance {
                    let target = self.integers(&[0, g, -1]);
                    let grouped = self.add("Reshape", &[&x.name, &target], vec![]);
                    let ones = self.constant(&[groups], &vec![1.0; groups]);
                    let zeros = self.constant(&[groups], &vec![0.0; groups]);
                    let inputs = [&grouped[..], &ones, &zeros];
                    self.add("InstanceNormalization", &inputs, vec![epsilon()])
                } else {
                    let target = self.integers(&[-1, g, c as i64 / g, h as i64, w as i64]);
                    let grouped = self.add("Reshape", &[&x.name, &target], vec![]);
                    self.expanded(&grouped, &[2, 3, 4], form == Form::Multiplied)
                };
                let back = self.add("Reshape", &[&normal, &shape], vec![]);
                let scaled = self.tensor("Mul", &[&back, &scale], vec![], x.dims);
                self.binary("Add", &scaled, &bias)
            }
        }
    }

    /// `x` normalised along `axes`, written out.
    pub fn expanded(&mut self, x: &str, axes: &[i64], inverse: bool) -> String {
        let mean = |n: &mut Self, of: &str| {
            if n.opset < 18 {
                return n.add("ReduceMean", &[of], vec![ints("axes", axes)]);
            }
            let axes = n.integers(axes);
            n.add("ReduceMean", &[of, &axes], vec![])
        };
        let epsilon = self.constant(&[], &[1e-5]);
        let m = mean(self, x);
        let centred = self.add("Sub", &[x, &m], vec![]);
        if !inverse {
            let two = self.constant(&[], &[2.0]);
            let squares = self.add("Pow", &[&centred, &two], vec![]);
            let variance = mean(self, &squares);
            let sum = self.add("Add", &[&variance, &epsilon], vec![]);
            let root = self.add("Sqrt", &[&sum], vec![]);
            return self.add("Div", &[&centred, &root], vec![]);
        }
        let again = mean(self, x);
        let deviations = self.add("Sub", &[x, &again], vec![]);
        let squares = self.add("Mul", &[&deviations, &deviations], vec![]);
        let variance = mean(self, &squares);
        let sum = self.add("Add", &[&variance, &epsilon], vec![]);
        let root = self.add("Sqrt", &[&sum], vec![]);
        let one = self.constant(&[], &[1.0]);
        let over = self.add("Div", &[&one, &root], vec![]);
        self.add("Mul", &[&centred, &over], vec![])
    }

    /// `x` plus what its pixels make of each other; their vectors normalised first by the kin of `form`.
    pub fn attention(&mut self, x: &Tensor, form: Form) -> Tensor {
        let [c, h, w] = x.dims;
        let perm = || vec![ints("perm", &[0, 2, 1])];
        let flat = self.integers(&[0, c as i64, -1]);
        let flat = self.add("Reshape", &[&x.name, &flat], vec![]);
        let tokens = self.add("Transpose", &[&flat], perm());
        let normal = match form {
            Form::Layer | Form::Group => {
                let (scale, bias) = (self.random(&[c], 1.0), self.random(&[c], 0.3));
                let inputs = [&tokens[..], &scale, &bias];
                self.add("LayerNormalization", &inputs, vec![int("axis", -1), epsilon()])
            }
            Form::Multiplied => self.expanded(&tokens, &[-1], true),
            _ => self.expanded(&tokens, &[-1], false),
        };
        let mut made = Vec::new();
        for _ in 0..3 {
            let weights = self.random(&[c, c], (c as f32).sqrt().recip());
            made.push(self.add("MatMul", &[&normal, &weights], vec![]));
        }
        let keys = self.add("Transpose", &[&made[1]], perm());
        let scores = self.add("MatMul", &[&made[0], &keys], vec![]);
        let scale = self.constant(&[], &[(c as f32).sqrt().recip()]);
        let scores = self.add("Mul", &[&scores, &scale], vec![]);
        let weights = self.add("Softmax", &[&scores], vec![int("axis", -1)]);
        let mixed = self.add("MatMul", &[&weights, &made[2]], vec![]);
        let mixed = self.add("Transpose", &[&mixed], perm());
        let shape = self.integers(&[0, c as i64, h as i64, w as i64]);
        let mixed = self.add("Reshape", &[&mixed, &shape], vec![]);
        self.binary("Add", x, &mixed)
    }

    /// Ends the graph: velocity and divergence from `h`, which has the size of an image.
    pub fn finish(mut self, h: &Tensor) -> Self {
        let small = self.constant(&[], &[0.1]);
        for (name, channels) in [("u", self.shape.channels), ("d", 1)] {
            let result = self.convolution(h, channels, 1);
            self.nodes.push(node("Mul", &[&result.name, &small], name));
        }
        self
    }

    /// The same with a divergence that is a formula of its own, or one number per image: its mean.
    pub fn finish_apart(mut self, h: &Tensor, scalar_head: bool) -> Self {
        let small = self.constant(&[], &[0.1]);
        let velocity = self.convolution(h, self.shape.channels, 1);
        self.nodes.push(node("Mul", &[&velocity.name, &small], "u"));
        let divergence = self.convolution(h, 1, 1);
        self.scalar_head = scalar_head;
        if scalar_head {
            let mut mean = node("ReduceMean", &[&divergence.name], "d");
            mean.attribute = vec![ints("axes", &[1, 2, 3]), int("keepdims", 0)];
            self.nodes.push(mean);
        } else {
            self.nodes.push(node("Tanh", &[&divergence.name], "d"));
        }
        self
    }

    /// The model file. Its golden vectors are those of another model: the self-test has to be left out.
    pub fn bytes(&self) -> Vec<u8> {
        let Shape { channels, height, width } = self.shape;
        let scalar_head = self.scalar_head;
        let gaussian = Gaussian { scalar_head, ..Gaussian::new(channels, height, width, 1) };
        let d = if scalar_head { value("d", &[]) } else { value("d", &[1, height, width]) };
        let graph = GraphProto {
            name: "network".into(),
            node: self.nodes.clone(),
            initializer: self.constants.clone(),
            input: vec![value("x", &[channels, height, width]), value("t", &[]), value("s", &[])],
            output: vec![value("u", &[channels, height, width]), d],
            ..GraphProto::default()
        };
        let manifest = gaussian.manifest().to_string();
        let entry = StringStringEntryProto { key: MANIFEST_KEY.into(), value: manifest };
        let domain = String::new();
        let model = ModelProto {
            ir_version: 8,
            opset_import: vec![OperatorSetIdProto { domain, version: self.opset }],
            graph: Some(graph),
            metadata_props: vec![entry],
            ..ModelProto::default()
        };
        model.encode_to_vec()
    }

    /// The model.
    ///
    /// # Panics
    /// If the library refuses the file.
    pub fn model(&self) -> Arc<Model> {
        Arc::new(Model::from_bytes("network", &self.bytes(), &Limits::default()).unwrap())
    }

    /// Multiplies all weights.
    pub fn scale_weights(&mut self, factor: f32) {
        for tensor in self.constants.iter_mut().filter(|t| t.dims.len() == 4) {
            for bytes in tensor.raw_data.chunks_exact_mut(4) {
                let v = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
                bytes.copy_from_slice(&(v * factor).to_le_bytes());
            }
        }
    }
}

fn epsilon() -> AttributeProto {
    AttributeProto { name: "epsilon".into(), r#type: 1, f: 1e-5, ..AttributeProto::default() }
}

/// A network of nodes drawn by `seed`, with values that stay of unit size.
pub fn wild(seed: u64) -> Network {
    let sizes = [[1, 1], [2, 4], [4, 4], [5, 3], [6, 8], [1, 7]];
    let mut n = Network::new(1, 1, 1, 1000 * seed);
    let [height, width] = sizes[n.choose(sizes.len())];
    let channels = [1, 3][n.choose(2)];
    n.shape = Shape { channels, height, width };
    n.opset = [17, 21][n.choose(2)];
    let mut values = vec![n.image()];
    let first = [1, 3, 8, 17, 20][n.choose(5)];
    values.push(n.convolution(&n.image(), first, 3));
    for _ in 0..12 {
        let at = values.len() - 1 - n.choose(values.len().min(3));
        let x = values[at].clone();
        let made = step(&mut n, &x, &values);
        values.push(made);
    }
    let whole = |v: &&Tensor| v.dims[1..] == [height, width];
    let last = values.iter().rev().find(whole).cloned().unwrap();
    n.finish(&last)
}

fn step(n: &mut Network, x: &Tensor, values: &[Tensor]) -> Tensor {
    let [c, h, w] = x.dims;
    let alike: Vec<&Tensor> = values.iter().filter(|v| v.dims == x.dims).collect();
    let other = alike[n.choose(alike.len())].clone();
    let groups = if c.is_multiple_of(4) { 4 } else { 1 };
    match n.choose(23) {
        0 | 1 => {
            let (outputs, kernel) = ([1, 3, 16, 17][n.choose(4)], [1, 3, 3, 5][n.choose(4)]);
            n.convolution(x, outputs, kernel)
        }
        2 if h > 1 && w > 1 => {
            let weights = n.random(&[5, c, 3, 3], ((9 * c) as f32).sqrt().recip());
            let attributes = vec![ints("pads", &[1; 4]), ints("strides", &[2, 2])];
            let dims = [5, h.div_ceil(2), w.div_ceil(2)];
            n.tensor("Conv", &[&x.name, &weights], attributes, dims)
        }
        3 => {
            let sum = n.binary("Add", x, &other.name);
            let half = n.constant(&[], &[0.7]);
            n.binary("Mul", &sum, &half)
        }
        4 => {
            let operator = ["Sub", "Max", "Min"][n.choose(3)];
            n.binary(operator, x, &other.name)
        }
        5 => {
            let product = n.binary("Mul", x, &other.name);
            n.unary("Tanh", &product)
        }
        6 => {
            let operator =
                ["Sigmoid", "Tanh", "Relu", "Sin", "Abs", "Neg", "Cos", "Erf"][n.choose(8)];
            n.unary(operator, x)
        }
        7 => n.silu(x),
        8 => {
            let vector = n.random(&[1, c, 1, 1], 0.8);
            let operator = ["Add", "Mul", "Sub"][n.choose(3)];
            n.binary(operator, x, &vector)
        }
        // Not a constant minus x: tract 0.23.9 takes that into the bias of a convolution before it, with a wrong sign.
        9 => {
            let vector = n.random(&[c, 1, 1], 0.8);
            let negative = n.unary("Neg", x);
            n.binary("Sub", &negative, &vector)
        }
        10 => {
            let form = FORMS[n.choose(FORMS.len())];
            let form = if form == Form::Group && n.opset < 21 { Form::Instance } else { form };
            n.normalise(x, groups, form)
        }
        11 => n.modulate(x),
        12 if c <= 20 => {
            let form = FORMS[n.choose(FORMS.len())];
            n.attention(x, form)
        }
        13 => {
            let beside: Vec<&Tensor> =
                values.iter().filter(|v| v.dims[1..] == [h, w] && v.dims[0] <= 20).collect();
            let Some(other) = beside.get(n.choose(beside.len().max(1))).copied().cloned() else {
                return n.unary("Neg", x);
            };
            let dims = [c + other.dims[0], h, w];
            n.tensor("Concat", &[&x.name, &other.name], vec![int("axis", 1)], dims)
        }
        14 if c > 1 => {
            let (start, end) = (c / 3, c - c / 4);
            let all = [&[start as i64][..], &[end as i64], &[1]].map(|v| n.integers(v));
            let inputs = [&x.name[..], &all[0], &all[1], &all[2]];
            n.tensor("Slice", &inputs, vec![], [end - start, h, w])
        }
        15 if h % 2 == 0 && w % 2 == 0 => {
            let attributes = vec![ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2])];
            n.tensor("AveragePool", &[&x.name], attributes, [c, h / 2, w / 2])
        }
        16 if h * w <= 24 => {
            let scales = n.constant(&[4], &[1.0, 1.0, 2.0, 2.0]);
            let text = |name: &str, s: &str| AttributeProto {
                name: name.into(),
                r#type: 3,
                s: s.into(),
                ..AttributeProto::default()
            };
            let attributes = vec![
                text("mode", "nearest"),
                text("coordinate_transformation_mode", "asymmetric"),
                text("nearest_mode", "floor"),
            ];
            n.tensor("Resize", &[&x.name, "", &scales], attributes, [c, 2 * h, 2 * w])
        }
        17 if h % 2 == 0 && w % 2 == 0 && c <= 5 => {
            let attributes = vec![int("blocksize", 2)];
            n.tensor("SpaceToDepth", &[&x.name], attributes, [4 * c, h / 2, w / 2])
        }
        18 if c % 4 == 0 && h * w <= 24 => {
            let attributes = vec![int("blocksize", 2)];
            n.tensor("DepthToSpace", &[&x.name], attributes, [c / 4, 2 * h, 2 * w])
        }
        19 => {
            let mean = n.add("GlobalAveragePool", &[&x.name], vec![]);
            n.binary("Add", x, &mean)
        }
        20 => {
            let greater = n.add("Greater", &[&x.name, &other.name], vec![]);
            n.tensor("Where", &[&greater, &x.name, &other.name], vec![], x.dims)
        }
        21 => {
            let two = n.constant(&[], &[2.0]);
            let squares = n.binary("Pow", x, &two);
            n.unary("Tanh", &squares)
        }
        _ => {
            let (two, small) = (n.constant(&[], &[2.0]), n.constant(&[], &[0.1]));
            let squares = n.binary("Pow", x, &two);
            let sum = n.binary("Add", &squares, &small);
            let root = n.unary("Sqrt", &sum);
            n.binary("Div", x, &root.name)
        }
    }
}
