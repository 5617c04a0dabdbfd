"""The CPU engine beside onnxruntime, OpenVINO, tract and PyTorch on the same model files; ratios of one run.

    .venv/bin/pip install openvino
    .venv/bin/python tests/peers/cpu.py --out sdk/src/flow/native/PEERS.md

f2d2's and tract's figures are of whole inspections (noise, network, statistics) of four network evaluations per image,
counted in these; at batch 64 one evaluation has to do where the model has one noise floor. Those of the others are of
bare network evaluations. Engines take turns, medians are compared, and before anything is timed every engine has to
give the results that PyTorch wrote into the model file. Takes about half an hour; fewer models, as names or files, and
--seconds make it shorter.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
from engines import F2D2, PEERS, F2d2, forward, manifest, multiplications

ROOT = Path(__file__).parents[2]
BATCHES, THREADS = (1, 8, 64), (1, 2)
# Of an inspection, as the shipped models have them with one step from each noise floor.
EVALUATIONS = 4
# Cells that would take longer than this per call, and rounds that would, are left out.
PATIENCE = 30.0


def peak() -> tuple[float, int]:
    """GFLOP/s of one core, and the bits of its vectors."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "peak"
        source = Path(__file__).parent / "peak.c"
        subprocess.run(["gcc", "-O3", "-march=native", "-ffp-contract=fast", source, "-o", program], check=True)
        rate, bits = subprocess.run([program], capture_output=True, text=True, check=True).stdout.split()
    return float(rate), int(bits)


def processor() -> str:
    """Its name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


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


def title(model: Path) -> str:
    """Short name."""
    return model.parent.name if model.stem == "model" else model.stem


def check(model: Path) -> None:
    """Every engine gives the results in the file, or nothing is timed; bf16 may be a hundred times less exact."""
    for engine in ("cpu", "tract"):
        F2d2(model, 1, 1, engine).bench(0)
    for name, make in PEERS.items():
        peer = make(model, 1, 1)
        far, most = peer.deviation(model), 1 if peer.precision == "f32" else 200
        print(f"{title(model)}: {name} ({peer.precision}) deviates by {far:.3f} of what f2d2 allows", file=sys.stderr)
        if not far <= most:
            raise RuntimeError(f"{name} does not compute {model}: {far}, need at most {most}")


def cell(model: Path, batch: int, threads: int, seconds: float, rounds: int) -> dict[str, float]:
    """Seconds per image and evaluation of every engine, medians of rounds in turn."""
    engines = {name: make(model, batch, threads) for name, make in PEERS.items()}
    floors = manifest(model)["noise_floors"]
    steps = max(1, EVALUATIONS // len(floors)) if batch < max(BATCHES) else 1
    engines |= {"f2d2": F2d2(model, batch, threads, steps=steps)}
    engines |= {"tract": F2d2(model, batch, threads, "tract", steps)}
    once = engines["onnxruntime"].seconds_per_image(0) * batch
    if once > PATIENCE / 4:
        # tract takes one image after the other anyway.
        engines.pop("tract")
        rounds = 1
    times = {name: [] for name in engines}
    start = time.perf_counter()
    for _ in range(rounds):
        for name, engine in engines.items():
            times[name].append(engine.seconds_per_image(seconds))
        if time.perf_counter() - start > PATIENCE:
            break
    return {name: statistics.median(all) for name, all in times.items()}


def speed(models: list[Path], top: float, seconds: float, rounds: int) -> list[str]:
    """The table of times."""
    names = ["f2d2", *[name for name in PEERS if name != "onnxruntime"], "tract"]
    head = " | ".join(names)
    lines = [
        f"| network | threads | batch | onnxruntime, ms per image | {head} | f2d2, share of the peak |",
        "|" + "---|" * (len(names) + 5),
    ]
    for model in models:
        flops = 2e-9 * multiplications(model)
        for threads in THREADS:
            for batch in BATCHES:
                times = cell(model, batch, threads, seconds, rounds)
                base = times["onnxruntime"]
                ratios = " | ".join(f"{times[name] / base:.2f}" if name in times else "-" for name in names)
                share = flops / times["f2d2"] / (top * threads)
                row = f"| {title(model)} | {threads} | {batch} | {1e3 * base:.2f} | {ratios} | {100 * share:.0f} % |"
                print(row, file=sys.stderr, flush=True)
                lines.append(row)
    return lines


def loading(models: list[Path]) -> list[str]:
    """The table of load times and memory."""
    lines = ["| network | engine | load, ms | resident, MB, batch 1 / 8 | at its peak, MB |", "|---|---|---|---|---|"]
    program = Path(__file__).parent / "resident.py"
    for model in models:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "model.onnx"
            onnx.save(forward(model), file)
            shape = [str(n) for n in manifest(model)["preprocess"]["shape"].values()]
            for engine in ("f2d2", "tract", *PEERS):
                graph = model if engine in ("f2d2", "tract") else file
                rows = []
                for batch in ("1", "8"):
                    command = [sys.executable, program, engine, graph, batch, *shape]
                    rows.append(json.loads(subprocess.run(command, capture_output=True, check=True).stdout))
                now, most = (" / ".join(f"{row[key]:.0f}" for row in rows) for key in ("resident_mb", "peak_mb"))
                lines.append(f"| {title(model)} | {engine} | {rows[0]['load_ms']:.0f} | {now} | {most} |")
    return lines


def end_to_end(model: Path, seconds: float, rounds: int) -> list[str]:
    """Images per second from frame to statistics, and the part of the time that does not grow with the evaluations."""
    steps = [1, 2, 4, 8]
    lines = [
        "| batch | K | images/s | evaluations per image | share of time that is not the network | speed over K = 256 |",
        "|---|---|---|---|---|---|",
    ]
    many = 1 / F2d2(model, 1, 1, steps=256).bench(0)["images_per_second"]
    for batch in (1, 64):
        rows = {k: [] for k in steps}
        for _ in range(rounds):
            for k in steps:
                rows[k].append(F2d2(model, batch, 1, steps=k).bench(seconds))
        times = [statistics.median(1 / row["images_per_second"] for row in rows[k]) for k in steps]
        counts = [rows[k][0]["evaluations_per_image"] for k in steps]
        rest = max(np.polyfit(counts, times, 1)[1], 0)
        for k, seconds_each, count in zip(steps, times, counts, strict=True):
            share = 100 * rest / seconds_each
            faster = f"{many / seconds_each:.0f}" if batch == 1 else ""
            lines.append(f"| {batch} | {k} | {1 / seconds_each:.0f} | {count} | {share:.0f} % | {faster} |")
    return lines


def pytorch(models: list[Path], seconds: float, rounds: int) -> list[str]:
    """Scoring with PyTorch as one would write it, beside f2d2, two evaluations per image."""
    import torch
    from networks import SIZES, UNet

    from recipe.path import clock_grid

    lines = ["| network | batch | threads | f2d2, images/s | PyTorch, images/s | time of f2d2 / PyTorch |"]
    lines.append("|---|---|---|---|---|---|")

    @torch.no_grad()
    def score(network: UNet, pixels: torch.Tensor, dequantisation: torch.Tensor) -> torch.Tensor:
        x = (pixels.float() + dequantisation) / 128 - 1
        log_det, grid = torch.zeros(len(x), dtype=torch.float64), clock_grid(2).tolist()
        for t, s in pairwise(grid):
            u, d = network(x, torch.full((len(x),), t), torch.full((len(x),), s))
            x = x + (s - t) * u
            log_det += (s - t) * d.double()
        prior = 0.5 * (x.double().square() + np.log(2 * np.pi)).flatten(1).sum(1)
        return (prior - log_det) / (x[0].numel() * np.log(2)) + 7

    for model in models:
        name = title(model)
        torch.manual_seed(0)
        network = UNet(**SIZES[name]).eval().requires_grad_(False)
        shape = network.config
        for threads in THREADS:
            torch.set_num_threads(threads)
            for batch in (1, 8):
                size = (batch, shape.channels, shape.height, shape.width)
                generator = torch.Generator().manual_seed(0)
                pixels = torch.randint(0, 256, size, generator=generator, dtype=torch.uint8)
                dequantisation = torch.rand(size[1:], generator=generator)
                ours, theirs = [], []
                for _ in range(rounds):
                    row = F2d2(model, batch, threads, steps=2).bench(seconds)
                    ours.append(row["images_per_second"])
                    times, end = [], time.perf_counter() + seconds
                    while len(times) < 2 or time.perf_counter() < end:
                        start = time.perf_counter()
                        if not score(network, pixels, dequantisation).isfinite().all():
                            raise RuntimeError(f"PyTorch's scores of {name} are not finite")
                        times.append(time.perf_counter() - start)
                    theirs.append(batch / statistics.median(times[1:]))
                a, b = statistics.median(ours), statistics.median(theirs)
                lines.append(f"| {name} | {batch} | {threads} | {a:.0f} | {b:.0f} | {b / a:.2f} |")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shipped = sorted(path.parent.name for path in ROOT.glob("models/*/model.onnx"))
    parser.add_argument("models", nargs="*", default=["S", "M", "L", *shipped], help="S, M, L, shipped models, files")
    parser.add_argument("--networks", type=Path, default=ROOT / "target" / "networks", help="where S, M and L are kept")
    parser.add_argument("--instructions", default="", help="instruction set that f2d2 is forced to: F2D2_CPU")
    parser.add_argument("--seconds", type=float, default=0.3, help="time of one measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="Markdown file to write")
    args = parser.parse_args()
    os.environ["F2D2_CPU"] = args.instructions
    start = time.perf_counter()
    models = networks(args.models, args.networks)
    for model in models:
        check(model)
    top, bits = peak()
    report = json.loads(subprocess.run([F2D2, "info", models[0], "--json"], capture_output=True, check=True).stdout)
    ours = next(engine["reason"] for engine in report["engines"] if engine["choice"] == "cpu")
    precision = PEERS["OpenVINO"](models[0], 1, 1).precision
    versions = ", ".join(f"{name} {version(name)}" for name in ("onnxruntime", "openvino", "torch"))
    random = [model for model in models if title(model) in ("S", "M", "L")]
    text = [
        "# The CPU engine beside others",
        "",
        "Written by `tests/peers/cpu.py`, which says how it measures; times are multiples of onnxruntime's f32 time in",
        "the same run, below 1 is faster. f2d2 and tract: whole inspections; the others: bare evaluations.",
        "S, M and L have random weights and 1.4, 7.6 and 60 million of them; the others are the shipped models.",
        "",
        f"* Machine: {processor()}, {os.cpu_count()} cores; one core's peak of f32 multiply-adds, measured in this run",
        f"  with vectors of {bits} bits: {top:.0f} GFLOP/s. Shares of it count the products of the definition.",
        f"* f2d2: {ours}, f32. {versions}. OpenVINO by itself takes {precision} here.",
        "* Every engine gave the results in the model files before it was timed.",
        "",
        "## Time of one network evaluation",
        "",
        *speed(models, top, args.seconds, args.rounds),
        "",
        "## Load time and memory, one thread",
        "",
        "What library and model add to an interpreter; f2d2 and tract by the C library, from 8-bit images, and their",
        "load time, without that of the library, is with the self-test.",
        "",
        *loading(models),
    ]
    for model in models:
        if title(model) in shipped:
            text += ["", f"## {title(model)} from frame to statistics, one thread", ""]
            text += end_to_end(model, args.seconds, args.rounds)
    if random:
        text += ["", "## Beside PyTorch, from 8-bit image to likelihood, two evaluations", ""]
        text += pytorch(random, args.seconds, args.rounds)
    text += ["", f"The run took {(time.perf_counter() - start) / 60:.0f} minutes.", ""]
    if args.out:
        args.out.write_text("\n".join(text))
    else:
        print("\n".join(text))
    return 0


if __name__ == "__main__":
    sys.exit(main())
