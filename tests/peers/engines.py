"""Engines that evaluate the same model file: f2d2 by its command, onnxruntime and OpenVINO in this process."""

import json
import subprocess
from abc import ABC, abstractmethod
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import onnx.utils
from timing import median_time

from recipe import noise

F2D2 = Path(__file__).parents[2] / "target" / "release" / "f2d2"


def title(model: Path) -> str:
    """Short name."""
    return model.parent.name if model.stem == "model" else model.stem


def manifest(model: Path) -> dict:
    """What the file says about itself."""
    meta = {p.key: p.value for p in onnx.load(model, load_external_data=False).metadata_props}
    return json.loads(meta["f2d2.manifest"])


def forward(model: Path) -> onnx.ModelProto:
    """The part of the file that u and d need: peers would evaluate its ``grad_d`` as well."""
    return onnx.utils.Extractor(onnx.load(model)).extract_model(["x", "t", "s"], ["u", "d"])


def multiplications(model: Path) -> int:
    """Products of convolutions and matrices in one evaluation of one image, as the definitions count them."""
    proto = forward(model)
    for value in [*proto.graph.input, *proto.graph.output]:
        value.type.tensor_type.shape.dim[0].dim_value = 1
    del proto.graph.value_info[:]
    graph = onnx.shape_inference.infer_shapes(proto, data_prop=True).graph
    values = [*graph.value_info, *graph.input, *graph.output]
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}
    shapes |= {t.name: list(t.dims) for t in graph.initializer}
    total = 0
    for node in graph.node:
        if node.op_type == "Conv":
            total += int(np.prod(shapes[node.output[0]]) * np.prod(shapes[node.input[1]][1:]))
        elif node.op_type in ("MatMul", "Gemm"):
            total += int(np.prod(shapes[node.output[0]]) * shapes[node.input[0]][-1])
    return total


class F2d2:
    """The command, with a whole inspection (noise, network, statistics, a verdict if calibrated) per image."""

    def __init__(
        self,
        model: Path,
        batch: int = 1,
        threads: int = 1,
        engine: str = "cpu",
        steps: int = 1,
        floors: str | None = "1",
        calibration: Path | None = None,
    ):
        """From one noise floor, an image is one input of the network at a time; from all of the model's with None."""
        options = {"--batch": batch, "--threads": threads, "--engine": engine, "--steps": steps}
        options |= {"--noise-floors": floors, "--calibration": calibration}
        self.options = {name: value for name, value in options.items() if value is not None}
        self.model = model

    def bench(self, seconds: float) -> dict:
        """What ``f2d2 bench --json`` says."""
        return self.run("--seconds", str(seconds))

    def run(self, *more: str) -> dict:
        """``f2d2 bench --json`` with ``more`` options."""
        options = [str(part) for pair in self.options.items() for part in pair]
        command = [F2D2, "bench", self.model, "--json", *more, *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{command} ended with {done.returncode}: {done.stderr}")
        return json.loads(done.stdout)

    def evaluation(self) -> float:
        """Seconds per image of the kernels of one evaluation, of as many images as a thread takes side by side."""
        kernels = self.run("--profile")["kernels"]
        images = round(sum(kernel["multiplications"] for kernel in kernels) / multiplications(self.model))
        return 1e-6 * sum(kernel["microseconds"] for kernel in kernels) / images

    def images_per_second(self, seconds: float) -> float:
        """Whole inspections."""
        return self.bench(seconds)["images_per_second"]

    def seconds_per_image(self, seconds: float) -> float:
        """Time of one network evaluation of one image."""
        row = self.bench(seconds)
        return 1 / (row["images_per_second"] * row["evaluations_per_image"])


class Peer(ABC):
    """An engine in this process, at a fixed batch."""

    precision = "f32"

    def __init__(self, model: Path, batch: int):
        shape = manifest(model)["preprocess"]["shape"]
        self.shape = [batch, shape["channels"], shape["height"], shape["width"]]
        rng = np.random.default_rng(0)
        x = (2 * rng.random(self.shape) - 1).astype(np.float32)
        self.feed = {"x": x, "t": np.ones(batch, np.float32), "s": np.zeros(batch, np.float32)}

    @abstractmethod
    def evaluate(self, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        """Velocity and divergence."""

    def seconds_per_image(self, seconds: float) -> float:
        """Median time of one network evaluation of one image."""
        return median_time(lambda: self.evaluate(self.feed), seconds) / self.shape[0]

    def deviation(self, model: Path) -> float:
        """Largest deviation from the golden vectors in the file; 1 is what f2d2 allows itself at most."""
        worst = 0.0
        shape = [1, *self.shape[1:]]
        n = int(np.prod(shape))
        for golden in manifest(model)["golden"]:
            seed = golden["seed"]
            start = noise.normal if golden["start"] == "normal" else lambda *a: 2 * noise.uniform(*a) - 1
            x, log_det = start(seed, noise.GOLDEN, n).reshape(shape), 0.0
            for t, s in pairwise(golden["schedule"]):
                feed = {"x": x, "t": np.array([t], np.float32), "s": np.array([s], np.float32)}
                u, d = self.evaluate(feed)
                x = (x + (s - t) * u.astype(np.float64)).astype(np.float32)
                log_det += (s - t) * float(d.astype(np.float64).sum())
            state, samples = x.ravel(), golden["samples"]
            got = np.array([state[i * n // len(samples)] for i in range(len(samples))])
            need = np.array(samples)
            far = [np.max(np.abs(got - need) / (1 + np.abs(need))) / 2e-4]
            far.append(abs(log_det - golden["log_det"]) / n / (1 + abs(golden["log_det"]) / n) / 2e-5)
            if not np.isfinite(far).all():
                return float("inf")
            worst = max(worst, *far)
        return worst


class OnnxRuntime(Peer):
    """onnxruntime in f32."""

    def __init__(self, model: Path, batch: int, threads: int):
        import onnxruntime

        super().__init__(model, batch)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(
            forward(model).SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def evaluate(self, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        return self.session.run(["u", "d"], feed)


class OpenVino(Peer):
    """OpenVINO, in f32 or in the precision that it takes by itself on this processor."""

    def __init__(self, model: Path, batch: int, threads: int, precision: str | None):
        import openvino

        super().__init__(model, batch)
        graph = openvino.Core().read_model(forward(model).SerializeToString())
        graph.reshape({"x": self.shape, "t": [batch], "s": [batch]})
        options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
        if precision:
            options["INFERENCE_PRECISION_HINT"] = precision
        compiled = openvino.Core().compile_model(graph, "CPU", options)
        self.precision = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        self.request = compiled.create_infer_request()

    def evaluate(self, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        results = self.request.infer(feed, share_inputs=True)
        return [results["u"], results["d"]]


PEERS = {
    "onnxruntime": lambda model, batch, threads: OnnxRuntime(model, batch, threads),
    "OpenVINO f32": lambda model, batch, threads: OpenVino(model, batch, threads, "f32"),
    "OpenVINO": lambda model, batch, threads: OpenVino(model, batch, threads, None),
}
