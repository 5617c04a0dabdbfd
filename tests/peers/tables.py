"""Tables of times, of load times and memory, and of whole inspections."""

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from engines import PEERS, F2d2, forward, manifest, multiplications, title
from timing import THREADS, in_turn, ratio

BATCHES = (1, 8, 64)
# Of an inspection at the smaller batches, so that what an image costs by itself is spread as in the shipped models.
EVALUATIONS = 4
# Seconds of a call of onnxruntime beyond which tract is left out: it takes one image after the other anyway.
LONG = 7.5
# Processes of which the load time and the memory are medians.
RUNS = 3


def cell(model: Path, batch: int, seconds: float, rounds: int) -> list[dict[tuple[str, int], float]]:
    """Seconds per image and evaluation by engine and number of threads, for every round."""
    steps = EVALUATIONS if batch < max(BATCHES) else 1
    peers = {(name, n): make(model, batch, n) for name, make in PEERS.items() for n in THREADS}
    # The first call allocates.
    first = {key: batch * peer.seconds_per_image(0) for key, peer in peers.items()}
    engines = {("f2d2", n): F2d2(model, batch, n, steps=steps) for n in THREADS} | peers
    if first["onnxruntime", 1] < LONG:
        engines |= {("tract", n): F2d2(model, batch, n, "tract", steps) for n in THREADS}
    return in_turn({key: engine.seconds_per_image for key, engine in engines.items()}, seconds, rounds)


def speed(models: list[Path], top: float, seconds: float, rounds: int) -> list[str]:
    """The table of times; ``top`` is the peak of one core in GFLOP/s."""
    names = ["f2d2", *[name for name in PEERS if name != "onnxruntime"], "tract"]
    columns = ["network", "threads", "batch", "onnxruntime, ms per image", *names]
    columns += ["f2d2, share of the peak", "f2d2, one thread over two"]
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for model in models:
        flops = 2e-9 * multiplications(model)
        rows = {threads: [] for threads in THREADS}
        for batch in BATCHES:
            done = cell(model, batch, seconds, rounds)
            for n in THREADS:
                base, ours = (statistics.median(row[name, n] for row in done) for name in ("onnxruntime", "f2d2"))
                ratios = [
                    f"{ratio(done, (name, n), ('onnxruntime', n)):.2f}" if (name, n) in done[0] else "-"
                    for name in names
                ]
                share = 100 * flops / ours / (top * n)
                scaling = f"{ratio(done, ('f2d2', 1), ('f2d2', n)):.2f}" if n > 1 else "-"
                values = [title(model), n, batch, f"{1e3 * base:.2f}", *ratios, f"{share:.0f} %", scaling]
                rows[n].append(f"| {' | '.join(map(str, values))} |")
                print(rows[n][-1], f"{len(done)} rounds", file=sys.stderr, flush=True)
        lines += [row for n in THREADS for row in rows[n]]
    return lines


def footprint(engine: str, file: Path, shape: list[int]) -> dict[str, float]:
    """Load time and memory, medians of what ``resident.py`` says; ``shape`` of a batch: [N, C, H, W]."""
    program = Path(__file__).parent / "resident.py"
    command = [sys.executable, program, engine, file, *map(str, shape)]
    runs = [json.loads(subprocess.run(command, capture_output=True, check=True).stdout) for _ in range(RUNS)]
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def loading(models: list[Path]) -> list[str]:
    """The table of load times and memory."""
    lines = ["| network | engine | load, ms | resident, MB, batch 1 / 8 | at its peak, MB |", "|---|---|---|---|---|"]
    for model in models:
        shape = manifest(model)["preprocess"]["shape"].values()
        with tempfile.TemporaryDirectory() as folder:
            bare = Path(folder) / "model.onnx"
            onnx.save(forward(model), bare)
            for engine in ("f2d2", "tract", *PEERS):
                file = model if engine in ("f2d2", "tract") else bare
                rows = [footprint(engine, file, [batch, *shape]) for batch in (1, 8)]
                now, most = (" / ".join(f"{row[key]:.0f}" for row in rows) for key in ("resident_mb", "peak_mb"))
                lines.append(f"| {title(model)} | {engine} | {rows[0]['load_ms']:.0f} | {now} | {most} |")
    return lines


def calibrated_steps(calibration: Path) -> int:
    """Steps per noise floor that the file is for; they are the same from every floor."""
    return len(json.loads(calibration.read_text())["binding"]["schedules"][0]) - 1


def end_to_end(model: Path, seconds: float, rounds: int) -> list[str]:
    """Images per second of a shipped model, from all of its noise floors, with its heading."""
    calibration = model.parent / "calibration.json"
    verdicts = calibrated_steps(calibration)
    steps = sorted({1, 2, 4, 8, verdicts})
    lines = [
        f"## {title(model)} from frame to verdict at K = {verdicts}, to statistics at any other, one thread",
        "",
        "| batch | K | images/s | evaluations per image | share of time that is not the network | speed over K = 256 |",
        "|---|---|---|---|---|---|",
    ]
    many = 1 / F2d2(model, steps=256, floors=None).images_per_second(0)
    network = F2d2(model, batch=len(manifest(model)["noise_floors"]), floors=None)
    for batch in (1, 64):
        engines = {"network": lambda _: network.evaluation()}
        for k in steps:
            judge = calibration if k == verdicts else None
            engines[k] = F2d2(model, batch, steps=k, floors=None, calibration=judge).bench
        done = in_turn(engines, seconds, rounds)
        counts = [done[0][k]["evaluations_per_image"] for k in steps]
        times = np.array([[1 / row[k]["images_per_second"] for k in steps] for row in done])
        evaluation = np.array([[row["network"]] for row in done])
        shares = 1 - np.median(evaluation * counts / times, axis=0)
        for k, each, count, share in zip(steps, np.median(times, axis=0), counts, shares, strict=True):
            rest = f"{100 * share:.0f} %" if share >= 0.01 else "< 1 %"
            faster = f"{many / each:.0f}" if batch == 1 else ""
            lines.append(f"| {batch} | {k} | {1 / each:.0f} | {count} | {rest} | {faster} |")
    return lines
