"""Adds ``grad_d`` = d(sum d)/dx to an exported graph, [N, C, H, W], by reverse-mode differentiation of its nodes.

The sum is over pixels. Guided sampling needs it over the whole jump from noise to data: a sample's likelihood is
``log p_1(x_1) = log N(x_0) - sum d(x_0, 0, 1)``, so that its slope in the noise is ``-(x_0 + grad_d(x_0, 0, 1))``.

The new nodes stand behind those of u and d, read their values and share their weights: no old node changes, and who
asks for u and d leaves the new ones out. PyTorch can trace its own gradient, but only as a second network beside the
first, with Expand, Range and ConstantOfShape, which model files may not hold.
"""

from collections.abc import Callable

import numpy as np
import onnx
import torch
from onnx import NodeProto, helper, numpy_helper
from torch import Tensor

from recipe.config import RecipeError
from recipe.likelihood import Map, total

OUTPUT = "grad_d"


def append(model: onnx.ModelProto) -> None:
    """Adds the output ``grad_d``; RecipeError names the node without a rule, and the model is then of no use."""
    forward = list(model.graph.node)
    back = Backward(model)
    on_x = {"x"}
    for node in forward:
        if node.op_type != "Shape" and on_x.intersection(node.input):
            on_x.update(node.output)
    gradients = {"d": back.like(back.constant(1.0), "d")}
    for node in reversed(forward):
        gs = [gradients.get(name) for name in node.output]
        for i, name in enumerate(node.input):
            if name in on_x and any(gs):
                g = rule(node)(back, node, i, gs)
                gradients[name] = back("Add", gradients[name], g) if name in gradients else g
    if "x" not in gradients:  # d does not depend on x
        gradients["x"] = back("Mul", "x", back.constant(0.0))
    model.graph.node.append(helper.make_node("Identity", [gradients["x"]], [OUTPUT], OUTPUT))
    output = model.graph.output.add()
    output.CopyFrom(next(i for i in model.graph.input if i.name == "x"))
    output.name = OUTPUT


def is_forward(node: NodeProto) -> bool:
    """Whether a node of an exported file is one of u and d, and none that :func:`append` added."""
    return node.name.partition("/")[0] != OUTPUT


def divergence_gradient(network: Map, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """d(sum d)/dx of the image, [N, C, H, W]; the sum is over pixels."""
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        _, d = network(x, t, s)
        return torch.autograd.grad(total(d).sum(), x)[0]


class Backward:
    """Writes nodes into a graph; knows the sizes of its values (None for the batch) and its constants."""

    def __init__(self, model: onnx.ModelProto):
        self.graph = model.graph
        self.constants = {t.name: numpy_helper.to_array(t) for t in self.graph.initializer}
        self.sizes = {name: list(value.shape) for name, value in self.constants.items()}
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
        for value in [*inferred.value_info, *inferred.input, *inferred.output]:
            sizes = value.type.tensor_type.shape.dim
            self.sizes[value.name] = [d.dim_value if d.HasField("dim_value") else None for d in sizes]

    def __call__(self, operator: str, *inputs: str, **attributes) -> str:
        """Appends a node; returns the name of its output."""
        name = f"{OUTPUT}/{len(self.graph.node)}"
        self.graph.node.append(helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def constant(self, value) -> str:
        """The name of a constant tensor, f32 or i64; equal ones are stored once."""
        value = np.asarray(value)
        value = value.astype(np.float32 if value.dtype.kind == "f" else np.int64)
        for name, known in self.constants.items():
            if known.dtype == value.dtype and np.array_equal(known, value):
                return name
        name = f"{OUTPUT}/constant/{len(self.constants)}"
        self.constants[name] = value
        self.graph.initializer.append(numpy_helper.from_array(value, name))
        return name

    def like(self, g: str, name: str) -> str:
        """``g`` broadcast to the sizes of ``name``."""
        return self("Add", g, self("Mul", name, self.constant(0.0)))

    def summed(self, g: str, wide: str, name: str) -> str:
        """``g``, of the sizes of ``wide``, summed to those of ``name``, which was broadcast to them."""
        full, own = self.sizes[wide], self.sizes[name]
        missing = len(full) - len(own)
        if missing:
            g = self("ReduceSum", g, self.constant(list(range(missing))), keepdims=0)
        axes = [i for i, size in enumerate(own) if size == 1 and full[i + missing] != 1]
        return self("ReduceSum", g, self.constant(axes), keepdims=1) if axes else g

    def padded(self, g: str, name: str, axis: int, start: int, width: int) -> str:
        """``g``, of ``width`` values from ``start`` along ``axis`` of ``name``, with zeros in place of the others."""
        before = [0] * len(self.sizes[name])
        after = list(before)
        before[axis], after[axis] = start, self.sizes[name][axis] - start - width
        return self("Pad", g, self.constant(before + after))


# The gradient of input ``i`` of a node from those of its outputs, which are None for outputs that d does not see.
Rule = Callable[[Backward, NodeProto, int, list], str]


def elementwise(back: Backward, node: NodeProto, i: int, gs: list) -> str:
    (g,), y = gs, node.output[0]
    other = node.input[1 - i] if len(node.input) == 2 else ""
    match node.op_type:
        case "Add":
            moved = g
        case "Sub":
            moved = g if i == 0 else back("Neg", g)
        case "Mul":
            moved = back("Mul", g, other)
        case "Div" if i == 0:
            moved = back("Div", g, other)
        case "Div":
            moved = back("Neg", back("Div", back("Mul", g, y), node.input[1]))
        case "Sigmoid":
            moved = back("Mul", g, back("Mul", y, back("Sub", back.constant(1.0), y)))
        case "Tanh":
            moved = back("Mul", g, back("Sub", back.constant(1.0), back("Mul", y, y)))
        case "Sqrt":
            moved = back("Div", back("Mul", g, back.constant(0.5)), y)
    return back.summed(moved, y, node.input[i])


def power(back: Backward, node: NodeProto, i: int, gs: list) -> str:
    x, exponent = node.input
    less = back.constant(back.constants[exponent] - 1)
    return back("Mul", gs[0], back("Mul", exponent, back("Pow", x, less)))


def softmax(back: Backward, node: NodeProto, i: int, gs: list) -> str:
    weighted = back("Mul", gs[0], node.output[0])
    total = back("ReduceSum", weighted, back.constant([attribute(node, "axis", -1)]), keepdims=1)
    return back("Sub", weighted, back("Mul", node.output[0], total))


def matmul(back: Backward, node: NodeProto, i: int, gs: list) -> str:
    rank = len(back.sizes[node.output[0]])
    other = back("Transpose", node.input[1 - i], perm=[*range(rank - 2), rank - 1, rank - 2])
    return back("MatMul", gs[0], other) if i == 0 else back("MatMul", other, gs[0])


def linear(back: Backward, node: NodeProto, i: int, gs: list) -> str:
    return back("Gemm", gs[0], node.input[1], transB=1 - attribute(node, "transB", 0))


def convolution(back: Backward, node: NodeProto, i: int, gs: list) -> str:
    """The transposed convolution with the same kernel, longer by what the strides left of the input."""
    kernel = geometry(back, node)
    inner, outer = back.sizes[node.input[0]][2:], back.sizes[node.output[0]][2:]
    pads = np.reshape(kernel["pads"], (2, -1)).sum(0)
    reach = np.multiply(kernel["dilations"], np.subtract(kernel["kernel_shape"], 1)) + 1
    rest = inner + pads - reach - np.multiply(np.subtract(outer, 1), kernel["strides"])
    return back("ConvTranspose", gs[0], node.input[1], output_padding=rest.tolist(), **kernel)


def transposed_convolution(back: Backward, node: NodeProto, i: int, gs: list) -> str:
    return back("Conv", gs[0], node.input[1], **geometry(back, node))


def geometry(back: Backward, node: NodeProto) -> dict:
    """The attributes that a convolution and its transposed one have in common."""
    kernel = back.sizes[node.input[1]][2:]
    defaults = {"group": 1, "kernel_shape": kernel, "pads": [0] * 2 * len(kernel)}
    defaults |= {"strides": [1] * len(kernel), "dilations": [1] * len(kernel)}
    return {name: attribute(node, name, default) for name, default in defaults.items()}


def instance_normalisation(back: Backward, node: NodeProto, i: int, gs: list) -> str:
    """Of ``h = (x - mean) / deviation``: ``(g - mean(g) - h mean(g h)) / deviation``."""
    x, scale = node.input[:2]
    pixels = list(range(2, len(back.sizes[x])))

    def mean(name: str) -> str:
        return back("ReduceMean", name, back.constant(pixels), keepdims=1)

    centred = back("Sub", x, mean(x))
    variance = back("Add", mean(back("Mul", centred, centred)), back.constant(attribute(node, "epsilon", 1e-5)))
    deviation = back("Sqrt", variance)
    h = back("Div", centred, deviation)
    g = back("Mul", gs[0], back.constant(back.constants[scale].reshape(-1, *[1] * len(pixels))))
    rest = back("Sub", back("Sub", g, mean(g)), back("Mul", h, mean(back("Mul", g, h))))
    return back("Div", rest, deviation)


def reduction(back: Backward, node: NodeProto, i: int, gs: list) -> str:
    x, g = node.input[0], gs[0]
    axes = [int(axis) % len(back.sizes[x]) for axis in back.constants[node.input[1]]]
    if not attribute(node, "keepdims", 1):
        g = back("Unsqueeze", g, back.constant(axes))
    if node.op_type == "ReduceMean":
        g = back("Mul", g, back.constant(1 / float(np.prod([back.sizes[x][axis] for axis in axes]))))
    return back.like(g, x)


def reshape(back: Backward, node: NodeProto, i: int, gs: list) -> str:
    return back("Reshape", gs[0], back("Shape", node.input[0]))


def transpose(back: Backward, node: NodeProto, i: int, gs: list) -> str:
    return back("Transpose", gs[0], perm=np.argsort(attribute(node, "perm", None)).tolist())


def pixel_shuffle(back: Backward, node: NodeProto, i: int, gs: list) -> str:
    """SpaceToDepth knows only the other order of channels: its parts, as the exporter writes them."""
    b, (_, c, h, w) = attribute(node, "blocksize", 1), back.sizes[node.input[0]]
    parts = back("Reshape", gs[0], back.constant([0, c // b**2, h, b, w, b]))
    return back("Reshape", back("Transpose", parts, perm=[0, 1, 3, 5, 2, 4]), back.constant([0, c, h, w]))


def concat(back: Backward, node: NodeProto, i: int, gs: list) -> str:
    axis = attribute(node, "axis", 0)
    widths = [back.sizes[name][axis] for name in node.input]
    at = [sum(widths[:i]), sum(widths[: i + 1]), axis]
    return back("Slice", gs[0], *[back.constant([value]) for value in at])


def split(back: Backward, node: NodeProto, i: int, gs: list) -> str:
    axis = attribute(node, "axis", 0)
    widths = [back.sizes[name][axis] for name in node.output]
    whole = None
    for k, g in enumerate(gs):
        if g:
            part = back.padded(g, node.input[0], axis, sum(widths[:k]), widths[k])
            whole = back("Add", whole, part) if whole else part
    return whole


def plain_slice(back: Backward, node: NodeProto, i: int, gs: list) -> str:
    start, _, axis = (back.constants[name].item() for name in node.input[1:4])
    return back.padded(gs[0], node.input[0], axis, start, back.sizes[node.output[0]][axis])


def select(back: Backward, node: NodeProto, i: int, gs: list) -> str:
    """Of one index along an axis, which is gone from the output."""
    axis, index = attribute(node, "axis", 0), back.constants[node.input[1]].item()
    return back.padded(back("Unsqueeze", gs[0], back.constant([axis])), node.input[0], axis, index, 1)


RULES: dict[str, Rule] = {
    **dict.fromkeys(["Add", "Sub", "Mul", "Div", "Sigmoid", "Tanh", "Sqrt"], elementwise),
    **dict.fromkeys(["ReduceMean", "ReduceSum"], reduction),
    **dict.fromkeys(["Flatten", "Reshape", "Squeeze", "Unsqueeze"], reshape),
    "Concat": concat,
    "Conv": convolution,
    "ConvTranspose": transposed_convolution,
    "DepthToSpace": pixel_shuffle,
    "Gather": select,
    "Gemm": linear,
    "InstanceNormalization": instance_normalisation,
    "MatMul": matmul,
    "Pow": power,
    "Slice": plain_slice,
    "Softmax": softmax,
    "Split": split,
    "Transpose": transpose,
}


def rule(node: NodeProto) -> Rule:
    if node.op_type not in RULES:
        raise RecipeError(f"there is no gradient of the operator {node.op_type} (node {node.name!r}) for {OUTPUT}")
    return RULES[node.op_type]


def attribute(node: NodeProto, name: str, default):
    """An attribute's value, or its default."""
    found = next((a for a in node.attribute if a.name == name), None)
    return default if found is None else helper.get_attribute_value(found)
