"""Speed of `f2d2 bench` beside onnxruntime on the same model files, and of few steps beside 256; ratios of one run.

    .venv/bin/python tests/peers/networks.py S M --out networks
    .venv/bin/python tests/peers/cpu.py models/fashion-mnist/model.onnx networks/S.onnx networks/M.onnx

f2d2's figures are of whole inspections (noise, network, statistics), counted in network evaluations; onnxruntime's
are of bare network evaluations. Both are measured in turn, several times, and medians are compared. Results are
checked before anything is timed.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

F2D2 = Path(__file__).parents[2] / "target" / "release" / "f2d2"
ROUNDS = 3
SECONDS = 1.5


def f2d2(model: Path, batch: int, threads: int, steps: int, seconds: float = SECONDS) -> dict:
    """One measurement of the f2d2 command."""
    options = {"--batch": batch, "--threads": threads, "--steps": steps, "--seconds": seconds}
    flat = [str(part) for pair in options.items() for part in pair]
    done = subprocess.run([F2D2, "bench", model, "--json", *flat], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


class Peer:
    """onnxruntime with a given number of threads."""

    def __init__(self, model: Path, threads: int, batch: int):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        rng = np.random.default_rng(0)
        shape = [batch, *self.session.get_inputs()[0].shape[1:]]
        x = (2 * rng.random(shape) - 1).astype(np.float32)
        self.feed = {"x": x, "t": np.ones(batch, np.float32), "s": np.zeros(batch, np.float32)}

    def evaluations_per_second(self) -> float:
        """Median over repetitions that last about as long as f2d2's."""
        self.session.run(None, self.feed)
        times, end = [], time.perf_counter() + SECONDS
        while time.perf_counter() < end or len(times) < 3:
            start = time.perf_counter()
            self.session.run(None, self.feed)
            times.append(time.perf_counter() - start)
        return len(self.feed["t"]) / statistics.median(times)


def check(model: Path) -> None:
    """The peer reproduces the golden vectors that f2d2 checks itself against when it opens the file."""
    meta = {p.key: p.value for p in onnx.load(model).metadata_props}
    golden = json.loads(meta["f2d2.manifest"])["golden"]
    subprocess.run([F2D2, "info", model], capture_output=True, check=True)
    assert golden, "the model has no golden vectors"
    peer = Peer(model, 1, 2)
    assert all(np.isfinite(output).all() for output in peer.session.run(None, peer.feed))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--instructions", default="", help="instruction set that f2d2 is forced to: F2D2_CPU")
    args = parser.parse_args()
    os.environ["F2D2_CPU"] = args.instructions
    for model in args.models:
        check(model)
        beside(model)
    few_steps(args.models[0])
    return 0


def beside(model: Path) -> None:
    """Prints the table of one model beside the peer."""
    print(f"\n{model}\n")
    print("| batch | threads | f2d2, evaluations/s | onnxruntime, evaluations/s | time of f2d2 / onnxruntime |")
    print("|---|---|---|---|---|")
    for threads in (1, 2):
        for batch in (1, 8, 64):
            peer = Peer(model, threads, batch)
            ours, theirs = [], []
            for _ in range(ROUNDS):
                row = f2d2(model, batch, threads, 2)
                ours.append(row["images_per_second"] * row["evaluations_per_image"])
                theirs.append(peer.evaluations_per_second())
            a, b = statistics.median(ours), statistics.median(theirs)
            print(f"| {batch} | {threads} | {a:.0f} | {b:.0f} | {b / a:.2f} |", flush=True)


def few_steps(model: Path) -> None:
    """Prints what few steps save beside many."""
    print("\n| K | images/s | times the speed of 256 evaluations |\n|---|---|---|")
    rates: dict[int, list[float]] = {256: [], 1: [], 2: [], 8: []}
    for _ in range(ROUNDS):
        for steps, rate in rates.items():
            rate.append(f2d2(model, 1, 1, steps, max(SECONDS, steps / 64))["images_per_second"])
    for steps, rate in rates.items():
        value = statistics.median(rate)
        print(f"| {steps} | {value:.2f} | {value / statistics.median(rates[256]):.1f} |")


if __name__ == "__main__":
    sys.exit(main())
