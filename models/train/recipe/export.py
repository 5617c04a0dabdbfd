"""Writes the model file: ONNX graph, manifest, golden vectors; re-opened and compared with PyTorch before it lands.

A model that samples gets the output ``grad_d``, for guided sampling. ``python -m recipe.export CONFIG MODEL.onnx`` adds
it to a file that has none; all that scores stays as it is, bit by bit.
"""

import argparse
import copy
import json
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import onnx
import onnxruntime
import torch
from onnx import numpy_helper

from recipe import golden, gradient
from recipe.command import command
from recipe.config import Config, RecipeError, load_config
from recipe.network import FlowMap
from recipe.path import CLOCK_EPSILON, clock_grid

OPSET = 18
FORMAT_VERSION = 1
# Largest deviation from PyTorch, relative to 1 + the value: next to t = 1 the network resolves 1/256 of a bin, and
# amplifies the rounding of its input as much.
PARITY = 1e-4


def export(config: Config, network: FlowMap, path: Path, time: str = "pair") -> None:
    """Writes ``path``; if the file does not reproduce PyTorch, nothing is written and RecipeError is raised.

    ``time`` is the parametrisation in the manifest: ``step`` for a network that only goes from t to later times.
    """
    network = copy.deepcopy(network).cpu().float().eval().requires_grad_(False)
    network = network.to(memory_format=torch.contiguous_format)
    model, described = graph(network), manifest(config, network, time)
    flatten_affines(model)
    if described["directions"]["sampling"] and time == "pair":
        guide(model, described, network)
    write(model, described, network, path)


def add_gradient(config: Config, path: Path) -> None:
    """Adds ``grad_d`` to the model file ``path``, from its own weights; RecipeError, and no change, if that fails."""
    network = FlowMap(config.network)
    read_weights(path, network)
    model = onnx.load(path)
    (entry,) = model.metadata_props
    described = json.loads(entry.value)
    if any(output.name == gradient.OUTPUT for output in model.graph.output):
        raise RecipeError(f"{path} has the output {gradient.OUTPUT} already")
    guide(model, described, network)
    write(model, described, network, path)


def guide(model: onnx.ModelProto, described: dict, network: FlowMap) -> None:
    """Adds ``grad_d`` to the graph and what it has to be to the manifest ``described``."""
    gradient.append(model)
    described["golden_gradient"] = golden.gradient(network)


def write(model: onnx.ModelProto, described: dict, network: FlowMap, path: Path) -> None:
    """Writes ``path`` with the manifest ``described``, if it reproduces ``network``; RecipeError if it does not."""
    del model.metadata_props[:]
    entry = model.metadata_props.add()
    entry.key, entry.value = "f2d2.manifest", json.dumps(described)
    onnx.checker.check_model(model, full_check=True)
    content = model.SerializeToString()
    worst = deviation(network, content, described["time"])
    if not worst <= PARITY:
        raise RecipeError(
            f"the exported graph deviates from PyTorch by {worst:.1e}, allowed is {PARITY:.0e}; no file written"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(content)
    Path(file.name).chmod(0o644)
    Path(file.name).replace(path)
    print(f"{path}: {len(content)} bytes, deviation from PyTorch {worst:.1e}")


def graph(network: FlowMap) -> onnx.ModelProto:
    """The ONNX graph (x, t, s) -> (u, d) with a symbolic batch."""
    shape = network.config
    n = 3
    x = torch.randn(n, shape.channels, shape.height, shape.width)
    t, s = torch.rand(n), torch.rand(n)
    batch = torch.export.Dim("N", min=1, max=4096)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network,
            (x, t, s),
            dynamo=True,
            input_names=["x", "t", "s"],
            output_names=["u", "d"],
            dynamic_shapes={"x": {0: batch}, "t": {0: batch}, "s": {0: batch}},
            opset_version=OPSET,
            verbose=False,
        )
    model = program.model_proto
    for node in model.graph.node:
        node.ClearField("metadata_props")
        node.doc_string = ""
    return model


def flatten_affines(model: onnx.ModelProto) -> None:
    """Makes per-channel constants 4-D and drops stale shape annotations: valid ONNX that engines run faster."""
    users: dict[str, set[str]] = {}
    for node in model.graph.node:
        for name in node.input:
            users.setdefault(name, set()).add(node.op_type)
    for tensor in model.graph.initializer:
        per_channel = len(tensor.dims) == 3 and tensor.dims[1] == tensor.dims[2] == 1
        if per_channel and users.get(tensor.name, set()) <= {"Add", "Sub", "Mul", "Div"}:
            values = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(values.reshape(1, *values.shape), tensor.name))
    del model.graph.value_info[:]


def manifest(config: Config, network: FlowMap, time: str = "pair") -> dict:
    """The JSON manifest; its fields are those of ``f2d2::model::Manifest``."""
    shape, said = config.network, config.manifest
    directions = {"scoring": config.distill.direction != "sampling", "sampling": config.distill.direction != "scoring"}
    return {
        "format_version": FORMAT_VERSION,
        "name": said.display_name or config.name,
        "licence": said.licence,
        "provenance": {
            "data": said.provenance or config.data.dataset,
            "recipe": recipe_version(config),
            "seed": config.seed,
        },
        "preprocess": {
            "shape": {"channels": shape.channels, "height": shape.height, "width": shape.width},
            "resize": "box",  # as recipe.data.prepared
            "dequantization": {"kind": "uniform", "seed": said.dequantisation_seed},
            "scale": 1 / 128,
            "offset": -1.0,
        },
        "head": config.network.divergence_head,
        "directions": directions,
        "time": time,
        "clock": {"kind": "log_snr", "epsilon": CLOCK_EPSILON},
        "schedules": {str(k): clock_grid(k).tolist() for k in said.steps},
        "noise_floors": list(said.noise_floors),
        "noise_seed": said.dequantisation_seed,
        "default_steps": said.default_steps,
        # Scoring with a step network is the SDK's own iteration: only its sampling is recorded.
        "golden": golden.vectors(network, directions | {"scoring": directions["scoring"] and time == "pair"}),
    }


def read_weights(path: Path, network: FlowMap) -> None:
    """Loads the weights of an exported model back into ``network``; RecipeError if the two do not then agree.

    The exporter keeps the parameters' names, but for the affine parts of the group norms: these are the 4-D
    constants that one node uses, weight and bias in turn, in order of evaluation. What is never used is missing.
    """
    content = path.read_bytes()
    graph = onnx.load_from_string(content).graph
    stored = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    forward = filter(gradient.is_forward, graph.node)
    used = [name for node in forward for name in node.input if name in stored]
    channels = [name for name in used if name.startswith("val_") and used.count(name) == 1]
    affine = iter([stored[name] for name in channels if stored[name].ndim == 4 and stored[name].shape[1] > 1])
    norms = (network.down1.norm1, network.down2.norm1, network.middle1.norm1, network.attention.norm)
    norms += (network.middle2.norm1, network.up1.norm1, network.up2.norm1, network.out_norm)
    try:
        with torch.no_grad():
            for name, tensor in network.state_dict().items():
                if name in stored:
                    tensor.copy_(torch.tensor(stored[name]).reshape(tensor.shape))
            for norm in norms:
                norm.weight.copy_(torch.tensor(next(affine)).flatten())
                norm.bias.copy_(torch.tensor(next(affine)).flatten())
    except (RuntimeError, StopIteration) as error:
        raise RecipeError(f"{path} is of another network: {error}") from error
    network.requires_grad_(False).eval()
    worst = deviation(network, content)
    if not worst <= PARITY:
        raise RecipeError(f"{path} deviates from the network with its weights by {worst:.1e}, allowed is {PARITY:.0e}")


def recipe_version(config: Config) -> str:
    """The configuration and the commit it was run at."""
    run = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True
    )
    return f"models/train/config/{config.name}.toml at commit {run.stdout.strip() or 'unknown'}"


def deviation(network: FlowMap, content: bytes, time: str = "pair") -> float:
    """Largest deviation of any output from PyTorch, over batches and times.

    It is relative to 1 + the value, and in ``grad_d`` to the largest value of the image, as rounding in it is.
    """
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    outputs = [output.name for output in session.get_outputs()]
    shape = network.config
    worst = 0.0
    for n, pairs in (
        (1, [(1.0, 0.0)]),
        (2, [(0.0, 1.0), (0.5, 0.5)]),
        (5, [(1.0, 0.97), (0.97, 1.0), (0.3, 0.1), (0.9, 0.2), (1.0, 1.0)]),
    ):
        x = torch.randn(n, shape.channels, shape.height, shape.width, generator=torch.Generator().manual_seed(n))
        t, s = torch.tensor(pairs).T
        if time == "step":
            t, s = torch.minimum(t, s) * 0.9, torch.maximum(t, s)  # dt = 0 is outside its domain
        with torch.no_grad():
            expected = dict(zip(["u", "d"], network(x, t, s), strict=True))
        scale = {name: 1 + value.abs() for name, value in expected.items()}
        if gradient.OUTPUT in outputs:
            slope = gradient.divergence_gradient(network, x, t, s)
            largest = slope.abs().amax((1, 2, 3), keepdim=True)
            expected[gradient.OUTPUT] = slope
            scale[gradient.OUTPUT] = torch.where(largest > 0, largest, 1)
        found = session.run(outputs, {"x": x.numpy(), "t": t.numpy(), "s": s.numpy()})
        for name, value in zip(outputs, found, strict=True):
            error = (torch.from_numpy(value) - expected[name]).abs() / scale[name]
            worst = max(worst, float(error.max()) if error.isfinite().all() else float("inf"))
    return worst


@command
def main() -> int:
    parser = argparse.ArgumentParser(prog="recipe.export", description=add_gradient.__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("model", type=Path)
    args = parser.parse_args()
    add_gradient(load_config(args.config), args.model)
    return 0


if __name__ == "__main__":
    sys.exit(main())
