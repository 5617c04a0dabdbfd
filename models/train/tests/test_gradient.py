"""grad_d of the exported graph against PyTorch's own gradient and closed forms, on networks of every kind."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from recipe import export, gradient
from recipe.config import RecipeError
from recipe.network import FlowMap, NetworkConfig

KINDS = [{}, {"channels": 3, "width": 12}, {"divergence_head": "scalar"}]
# Operators that model files may not hold: they make a tensor of a size that stands in the data.
SIZED_BY_DATA = {"Expand", "Range", "ConstantOfShape"}


@pytest.fixture(scope="module", params=KINDS, ids=str)
def exported(request) -> tuple[FlowMap, onnx.ModelProto]:
    torch.manual_seed(0)
    sizes = {"height": 8, "width": 8, "base": 8, "middle": 16, "embedding": 16, "head": 8}
    network = FlowMap(NetworkConfig(**sizes | request.param))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    for part in (network.scale.mean, network.scale.spread, network.scale.sum_spread):
        part.fill_(0.01)
    network.eval().requires_grad_(False)
    return network, export.graph(network)


def with_gradient(model: onnx.ModelProto) -> onnx.ModelProto:
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    gradient.append(whole)
    onnx.checker.check_model(whole, full_check=True)
    return whole


def run(model: onnx.ModelProto, **inputs: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["grad_d"], inputs)[0]


def test_it_is_that_of_pytorch_and_no_node_of_the_forward_pass_changes(exported):
    network, forward = exported
    model = with_gradient(forward)
    assert list(filter(gradient.is_forward, model.graph.node)) == list(forward.graph.node)
    assert not SIZED_BY_DATA & {node.op_type for node in model.graph.node}
    assert export.deviation(network, model.SerializeToString()) <= export.PARITY
    x = torch.randn(2, network.config.channels, 8, network.config.width)
    t, s = torch.zeros(2), torch.ones(2)
    found = run(model, x=x.numpy(), t=t.numpy(), s=s.numpy())
    wanted = gradient.divergence_gradient(network, x, t, s).numpy()
    assert np.abs(wanted).max() > 0.01  # there is something to compare
    assert np.allclose(found, wanted, rtol=1e-4, atol=1e-6)
    for bad in (1.01, np.nan):
        assert not np.allclose(found * bad, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("wrong", [1.001, float("nan")])
def test_a_wrong_gradient_is_a_deviation(exported, wrong):
    network, forward = exported
    model = with_gradient(forward)
    last = model.graph.node[-1]
    model.graph.initializer.append(helper.make_tensor("factor", TensorProto.FLOAT, [], [wrong]))
    last.CopyFrom(helper.make_node("Mul", [last.input[0], "factor"], ["grad_d"], "grad_d"))
    assert not export.deviation(network, model.SerializeToString()) <= export.PARITY


def by_hand(nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray] | None = None) -> onnx.ModelProto:
    """A graph of an image x [N, 2, 4, 4] in which d is whatever the nodes make of it."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2, 4, 4])
    d = helper.make_tensor_value_info("d", TensorProto.FLOAT, [None] * 4)
    stored = [onnx.numpy_helper.from_array(value, name) for name, value in (constants or {}).items()]
    graph = helper.make_graph(nodes, "by hand", [x], [d], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_closed_forms():
    x = np.random.default_rng(0).normal(size=(3, 2, 4, 4)).astype(np.float32)
    weights = np.array([[[[2.0]], [[-1.0]]]], np.float32).reshape(1, 2, 1, 1)
    cases = [
        ([helper.make_node("Mul", ["x", "x"], ["d"])], 2 * x),
        ([helper.make_node("Sub", ["w", "x"], ["d"])], -np.ones_like(x)),
        ([helper.make_node("Div", ["w", "x"], ["d"])], -weights / x**2),
        ([helper.make_node("Mul", ["w", "w"], ["v"]), helper.make_node("Add", ["v", "v"], ["d"])], 0 * x),
    ]
    # A mean is subtracted: the sum is 0 whatever x is, but not that of its squares.
    mean = helper.make_node("ReduceMean", ["x", "axes"], ["m"], keepdims=1)
    centred = [mean, helper.make_node("Sub", ["x", "m"], ["c"]), helper.make_node("Mul", ["c", "c"], ["d"])]
    cases.append((centred, 2 * (x - x.mean((2, 3), keepdims=True))))
    for nodes, wanted in cases:
        found = run(with_gradient(by_hand(nodes, {"w": weights, "axes": np.array([2, 3])})), x=x)
        assert np.allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_operator_without_a_rule_is_named():
    with pytest.raises(RecipeError, match=r"Erf \(node 'bend'\)"):
        gradient.append(by_hand([helper.make_node("Erf", ["x"], ["d"], "bend")]))
