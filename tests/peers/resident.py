"""What one engine adds to an interpreter that has done nothing else: load time and resident memory, as JSON.

    python resident.py ENGINE MODEL BATCH CHANNELS HEIGHT WIDTH

On one thread. Nothing but the engine and NumPy is imported, and no model is read before: glibc keeps what a process
frees once it has freed something large, and an engine would be charged for that.
"""

import ctypes
import importlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from library import LIBRARY, Library


def onnxruntime(model: str, shape: list[int]) -> Callable[[], object]:
    """A session in f32, ready to run."""
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.intra_op_num_threads = 1
    session = InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(["u", "d"], feed(shape))


def openvino(model: str, shape: list[int], precision: str | None) -> Callable[[], object]:
    """A compiled model in ``precision``, ready to run."""
    from openvino import Core

    graph = Core().read_model(model)
    graph.reshape({"x": shape, "t": shape[:1], "s": shape[:1]})
    options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
    if precision:
        options["INFERENCE_PRECISION_HINT"] = precision
    request = Core().compile_model(graph, "CPU", options).create_infer_request()
    return lambda: request.infer(feed(shape))


def feed(shape: list[int]) -> dict[str, np.ndarray]:
    """Grey images at t = 1 to be carried to s = 0."""
    ones = np.ones(shape[0], np.float32)
    return {"x": np.zeros(shape, np.float32), "t": ones, "s": 0 * ones}


ENGINES = {
    "f2d2": lambda model, shape: Library(model, shape, "cpu").score,
    "tract": lambda model, shape: Library(model, shape, "tract").score,
    "onnxruntime": onnxruntime,
    "OpenVINO f32": lambda model, shape: openvino(model, shape, "f32"),
    "OpenVINO": lambda model, shape: openvino(model, shape, None),
}


def resident(field: str) -> float:
    """VmRSS or VmHWM, MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1e3


def main() -> int:
    engine, model, *shape = sys.argv[1:]
    before = resident("VmRSS")
    # What is timed is the model, not its library.
    if engine in ("f2d2", "tract"):
        ctypes.CDLL(LIBRARY)
    else:
        importlib.import_module(engine.split()[0].lower())
    start = time.perf_counter()
    evaluate = ENGINES[engine](model, [int(n) for n in shape])
    load = time.perf_counter() - start
    evaluate()
    now, most = resident("VmRSS") - before, resident("VmHWM") - before
    print(json.dumps({"load_ms": 1e3 * load, "resident_mb": now, "peak_mb": most}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
