"""The CPU engine beside onnxruntime, OpenVINO, tract and PyTorch on the same model files; ratios of one run.

    .venv/bin/pip install --editable 'models/train[dev,peers]'
    .venv/bin/python tests/peers/cpu.py --out sdk/src/flow/native/PEERS.md

f2d2's and tract's figures are of whole inspections (noise, network, statistics) from the noise floor 1, counted in
network evaluations, of which one takes four, or one at batch 64; a batch of N is N inputs of the network. Those of the
others are of bare network evaluations. Engines and numbers of threads take turns, ratios are medians of those within a
round, and before anything is timed every engine has to give the results that PyTorch wrote into the model file. Large
networks get fewer rounds: none begins once those before took two minutes. Takes about forty minutes; fewer models, as
names or files, --rounds and --seconds make it shorter.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

from engines import F2D2, PEERS, F2d2, title
from machine import machine, peak
from networks import SIZES
from scoring import STEPS, PyTorch, scoring
from tables import RUNS, end_to_end, loading, speed

ROOT = Path(__file__).parents[2]


def networks(names: list[str], folder: Path) -> list[Path]:
    """Files of the benchmark networks, written if they are not there, and the shipped models."""
    files = []
    for name in names:
        places = [Path(name), ROOT / "models" / name / "model.onnx", folder / f"{name}.onnx"]
        path = next((place for place in places if place.is_file()), places[-1])
        if not path.is_file():
            program = Path(__file__).parent / "networks.py"
            subprocess.run([sys.executable, program, name, "--out", folder], check=True, capture_output=True)
        files.append(path)
    return files


def check(model: Path) -> None:
    """Every engine gives the results in the file, or nothing is timed; bf16 may be 200 times less exact."""
    for engine in ("cpu", "tract"):
        F2d2(model, engine=engine).bench(0)
    for name, make in (PEERS | ({"PyTorch": PyTorch} if title(model) in SIZES else {})).items():
        peer = make(model, 1, 1)
        far, most = peer.deviation(model), 1 if peer.precision == "f32" else 200
        print(f"{title(model)}: {name} ({peer.precision}) deviates by {far:.3f} of what f2d2 allows", file=sys.stderr)
        if not far <= most:
            raise RuntimeError(f"{name} does not compute {model}: {far}, need at most {most}")


def introduction(model: Path, top: float, bits: int) -> list[str]:
    """What was measured, how and on what; ``top`` is the peak of one core in GFLOP/s."""
    report = json.loads(subprocess.run([F2D2, "info", model, "--json"], capture_output=True, check=True).stdout)
    ours = next(engine["reason"] for engine in report["engines"] if engine["choice"] == "cpu")
    precision = PEERS["OpenVINO"](model, 1, 1).precision
    versions = ", ".join(f"{name} {version(name)}" for name in ("onnxruntime", "openvino", "torch"))
    return [
        "# The CPU engine beside others",
        "",
        "Written by `tests/peers/cpu.py`, which says how it measures; times are multiples of onnxruntime's f32 time in",
        "the same run, below 1 is faster. f2d2 and tract: whole inspections; the others: bare evaluations. A batch of",
        "N is N inputs of the network for all of them.",
        "S, M and L have random weights and 1.4, 7.6 and 60 million of them; the others are the shipped models.",
        "",
        f"* Machine: {machine()}.",
        f"* One core's peak of f32 multiply-adds, measured in this run with vectors of {bits} bits: {top:.0f} GFLOP/s.",
        "  Shares of it count the products of the definition.",
        f"* f2d2: {ours}, f32. {versions}. OpenVINO by itself takes {precision} here.",
        "* Every engine gave the results in the model files before it was timed.",
    ]


def report(models: list[Path], shipped: list[str], seconds: float, rounds: int) -> list[str]:
    """All tables."""
    top, bits = peak()
    text = [
        *introduction(models[0], top, bits),
        "",
        "## Time of one network evaluation",
        "",
        *speed(models, top, seconds, rounds),
        "",
        "## Load time and memory, one thread",
        "",
        "What library and model add to an interpreter; f2d2 and tract by the C library, from 8-bit images, and their",
        f"load time, without that of the library, is with the self-test. Medians of {RUNS} processes.",
        "",
        *loading(models),
    ]
    for model in models:
        if title(model) in shipped:
            text += ["", *end_to_end(model, seconds, rounds)]
    random = [model for model in models if title(model) in SIZES]
    if random:
        text += ["", f"## Beside PyTorch, from 8-bit image to likelihood, {STEPS} evaluations", ""]
        text += scoring(random, seconds, rounds)
    return text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shipped = sorted(path.parent.name for path in ROOT.glob("models/*/model.onnx"))
    parser.add_argument("models", nargs="*", default=["S", "M", "L", *shipped], help="S, M, L, shipped models, files")
    parser.add_argument("--networks", type=Path, default=ROOT / "target" / "networks", help="where S, M and L are kept")
    parser.add_argument("--instructions", default="", help="instruction set that f2d2 is forced to: F2D2_CPU")
    parser.add_argument("--seconds", type=float, default=0.12, help="time of one measurement")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--no-build", action="store_true", help="measure target/release as it is")
    parser.add_argument("--out", type=Path, help="Markdown file to write")
    args = parser.parse_args()
    if not args.no_build:
        subprocess.run(["cargo", "build", "--release", "--workspace", "--locked", "--quiet"], cwd=ROOT, check=True)
    os.environ["F2D2_CPU"] = args.instructions
    start = time.perf_counter()
    models = networks(args.models, args.networks)
    for model in models:
        check(model)
    text = report(models, shipped, args.seconds, args.rounds)
    text += ["", f"The run took {(time.perf_counter() - start) / 60:.0f} minutes.", ""]
    if args.out:
        args.out.write_text("\n".join(text))
    else:
        print("\n".join(text))
    return 0


if __name__ == "__main__":
    sys.exit(main())
