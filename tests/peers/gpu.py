"""All figures of the GPU engine in one run, beside PyTorch and onnxruntime on the same GPU, as markdown.

    .venv/bin/python tests/peers/networks.py T M L --out networks
    .venv/bin/python tests/peers/gpu.py models/fashion-mnist/model.onnx networks/M.onnx networks/L.onnx \\
        --tiny networks/T.onnx

Peers are torch.compile in f32, bf16 and f16, with CUDA graphs at batch 1, and onnxruntime's CUDA provider; what this
machine lacks is said and left out. f2d2's figures are of whole inspections, from 8-bit pixels to score vectors; the
peers' are of bare transports. Both carry as many states at a time: f2d2 has one noise floor here. Every result is
checked before it is timed: f2d2 against the golden vectors in the file and against itself, PyTorch's variants against
PyTorch in f32, onnxruntime against the PyTorch network where both have the same weights. ``--smoke`` shows that all
of it runs, also on a driver that computes on the CPU; the figures mean nothing then.
"""

import argparse
import copy
import json
import math
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import networks
import numpy as np
import onnx
import onnxruntime
import torch
from engines import forward
from torch import Tensor, nn

from recipe.network import FlowMap, NetworkConfig

F2D2 = Path(__file__).parents[2] / "target" / "release" / "f2d2"
CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
# Largest difference from f32, relative to the largest value.
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 1e-1, torch.float16: 2e-2}
SHORT = {torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}
# f32 is f32: without this, convolutions would round their factors to ten bits.
torch.backends.cudnn.allow_tf32 = False
torch.backends.cuda.matmul.allow_tf32 = False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--tiny", type=Path, help="network T, for the time of a dispatch")
    parser.add_argument("--adapter", help="GPU that f2d2 uses")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 64, 512])
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 2, 8])
    parser.add_argument("--seconds", type=float, default=2.0, help="time to measure each figure for")
    parser.add_argument("--smoke", action="store_true", help="batches 1 and 8, one and two steps, as short as can be")
    args = parser.parse_args()
    if args.smoke:
        args.batches, args.steps, args.seconds = [1, 8], [1, 2], 0.01
    about(args)
    peaks = {} if args.smoke else measured_peaks()
    for model in args.models:
        compare(model, args, peaks)
    if args.tiny:
        dispatches(args.tiny, args)
    return 0


def about(args: argparse.Namespace) -> None:
    """What this machine has, and what it lacks."""
    print("PyTorch", torch.__version__, torch.cuda.get_device_name() if CUDA else "(no CUDA: eager on the CPU only)")
    cuda = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    print("onnxruntime", onnxruntime.__version__, "CUDA" if cuda else "(no CUDA provider: on the CPU)")
    print(subprocess.run([F2D2, "info", args.models[0]], capture_output=True, text=True, check=True).stdout)


class F2d2:
    """The command ``f2d2 bench``."""

    def __init__(self, model: Path, precision: str, args: argparse.Namespace):
        self.command = [F2D2, "bench", model, "--engine", "gpu", "--precision", precision]
        self.command += ["--adapter", args.adapter] if args.adapter else []
        self.seconds = args.seconds

    def run(self, *options: object) -> str:
        command = [*self.command, *map(str, options)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(done.stderr.strip().splitlines()[-1])
        return done.stdout

    def bench(self, batch: int, steps: int) -> dict:
        """One measurement, at one noise floor: a batch of images is as many states."""
        options = ("--batch", batch, "--steps", steps, "--noise-floors", 1, "--seconds", self.seconds, "--json")
        return json.loads(self.run(*options))

    def profile(self, batch: int) -> list[tuple[float, float, str]]:
        """Microseconds, GFLOP/s and kernel of every dispatch of one evaluation."""
        return profiled(self.run("--batch", batch, "--profile"))


def profiled(text: str) -> list[tuple[float, float, str]]:
    """The lines of a profile. A kernel that took no time that the clock could see has a rate of inf, or of NaN."""
    line = re.compile(r" *([\d.]+) +(?:[\d.]+|NaN)% +([\d.]+|inf|NaN)  (.*)")
    _, *kernels, total = text.splitlines()
    found = list(map(line.fullmatch, kernels))
    if not found or not all(found) or not total.endswith("all kernels"):
        raise ValueError(f"not a profile: {text}")
    return [(float(m[1]), float(m[2]), m[3]) for m in found]


def torch_network(model: Path) -> nn.Module:
    """The architecture of ``model``; the benchmark networks also have its weights."""
    if model.stem in networks.SIZES:
        return networks.random_network(model.stem).to(DEVICE)
    meta = {p.key: p.value for p in onnx.load(model).metadata_props}
    shape = json.loads(meta["f2d2.manifest"])["preprocess"]["shape"]
    torch.manual_seed(0)
    network = FlowMap(NetworkConfig(**shape)).eval().requires_grad_(False)
    for parameter in network.parameters():
        # Some begin at zero, which would make the check an empty one.
        nn.init.normal_(parameter, std=0.05)
    return network.to(DEVICE)


def transport(network: nn.Module, dtype: torch.dtype, steps: int) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """All steps of a transport from data to noise, the state in f32, network and activations in ``dtype``."""
    times = torch.linspace(1, 0, steps + 1).tolist()

    def run(x: Tensor) -> tuple[Tensor, Tensor]:
        log_det = torch.zeros(len(x), device=x.device)
        for t, s in pairwise(times):
            at = (torch.full_like(log_det, time, dtype=dtype) for time in (t, s))
            u, d = network(x.to(dtype, memory_format=torch.channels_last), *at)
            x = x + (s - t) * u.float()
            d = d.float().flatten(1).sum(1) if d.ndim > 1 else d.float()
            log_det = log_det + (s - t) * d
        return x, log_det

    return run


def seconds_per_call(call: Callable[[], object], seconds: float) -> float:
    """Median of calls, the GPU's work included."""
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 5:
        start = time.perf_counter()
        call()
        if CUDA:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def check(what: str, got: Tensor, need: Tensor, tolerance: float) -> None:
    """Written in the accepting form: NaN is refused."""
    error = ((got - need).abs().max() / need.abs().max()).item()
    if not error <= tolerance:
        raise AssertionError(
            f"{what}: differs by {error:.1e} of the largest value, at most {tolerance:.0e} is expected"
        )


def of_torch(network: nn.Module, x: Tensor, steps: int, seconds: float) -> dict[str, float]:
    """Seconds per transport of ``x``, by precision."""
    found = {}
    need, _ = transport(network, torch.float32, steps)(x)
    for dtype in (torch.float32, torch.bfloat16, torch.float16) if CUDA else (torch.float32,):
        own = copy.deepcopy(network).to(dtype=dtype, memory_format=torch.channels_last)
        run = transport(own, dtype, steps)
        if CUDA:
            # Or else the limit of compilations would be reached one day, and eager be measured without a word.
            torch._dynamo.reset()
            run = torch.compile(run, mode="reduce-overhead" if len(x) == 1 else "default", dynamic=False)
        got, _ = run(x)
        check(f"PyTorch in {SHORT[dtype]}", got.clone(), need, TOLERANCE[dtype])
        for _ in range(3):
            run(x)
        found[SHORT[dtype]] = seconds_per_call(partial(run, x), seconds)
    return found


def of_onnxruntime(model: Path, network: nn.Module, x: Tensor, steps: int, seconds: float) -> float:
    """Seconds per transport of ``x``, with the copies between host and device that each evaluation takes."""
    available = onnxruntime.get_available_providers()
    providers = [p for p in ("CUDAExecutionProvider", "CPUExecutionProvider") if p in available]
    session = onnxruntime.InferenceSession(forward(model).SerializeToString(), providers=providers)
    times, start = np.linspace(1, 0, steps + 1, dtype=np.float32), x.cpu().numpy()

    def run() -> np.ndarray:
        state = start
        for t, s in pairwise(times):
            feed = {"x": state, "t": np.full(len(x), t, np.float32), "s": np.full(len(x), s, np.float32)}
            state = state + (s - t) * session.run(["u"], feed)[0]
        return state

    got = torch.from_numpy(run())
    if model.stem in networks.SIZES:
        need, _ = transport(network, torch.float32, steps)(x)
        check("onnxruntime", got, need.cpu(), TOLERANCE[torch.float32])
    assert got.isfinite().all(), "onnxruntime: a value is not finite"
    return seconds_per_call(run, seconds)


def compare(model: Path, args: argparse.Namespace, peaks: dict[str, float]) -> None:
    """The table of one model: transports per second, and f2d2's share of the fastest peer of its precision."""
    network = torch_network(model)
    parameters = sum(p.numel() for p in network.parameters()) / 1e6
    print(f"\n## {model.stem}: {parameters:.1f} M parameters\n")
    print("| batch | K | precision | f2d2, ms a call | transports/s | TFLOP/s | of the peak | PyTorch | onnxruntime |")
    print("|---|---|---|---|---|---|---|---|---|")
    shape = network.config
    slowest = []
    for precision in ("f32", "f16"):
        ours = F2d2(model, precision, args)
        try:
            kernels = ours.profile(1)
        except RuntimeError as why:
            print(f"\n{precision}: {why}\n")
            continue
        # A product of no time and any rate says nothing of the work.
        flops = sum(us * 1e-6 * rate * 1e9 for us, rate, _ in kernels if us > 0 and math.isfinite(rate))
        for batch in args.batches:
            torch.manual_seed(batch)
            x = 2 * torch.rand(batch, shape.channels, shape.height, shape.width, device=DEVICE) - 1
            for steps in args.steps:
                row = ours.bench(batch, steps)
                rate = row["images_per_second"] * row["noise_floors"]
                speed = flops * rate * steps / 1e12
                peak = f"{100 * speed / peaks[precision]:.1f} %" if precision in peaks else ""
                theirs = of_torch(network, x, steps, args.seconds)
                names = [name for name in theirs if (name == "f32") == (precision == "f32")]
                best = {
                    name: f"{batch / theirs[name]:.0f}/s in {name}, x {rate * theirs[name] / batch:.2f}"
                    for name in names
                }
                runtime = batch / of_onnxruntime(model, network, x, steps, args.seconds) if precision == "f32" else None
                beside = f"{runtime:.0f}/s, x {rate / runtime:.2f}" if runtime else ""
                call = row["latency_p50_ms"]
                print(
                    f"| {batch} | {steps} | {precision} | {call:.3f} | {rate:.0f} | {speed:.3f} | {peak} |"
                    f" {'; '.join(best.values())} | {beside} |",
                    flush=True,
                )
        for batch in args.batches[:1] + args.batches[-1:]:
            longest = sorted(ours.profile(min(batch, 64)), reverse=True)[:5]
            slowest.append(f"\nSlowest kernels in {precision}, {min(batch, 64)} images, microseconds and GFLOP/s:\n")
            slowest += [f"* {us:.1f}, {rate:.1f}: `{kernel}`" for us, rate, kernel in longest]
    print("\n".join(slowest))


def dispatches(model: Path, args: argparse.Namespace) -> None:
    """Time of a dispatch that waits for the one before, from a network that computes next to nothing."""
    ours = F2d2(model, "f32", args)
    count = len(ours.profile(1))
    few, many = (ours.bench(1, steps)["latency_p50_ms"] for steps in (2, 16))
    each = (many - few) * 1e3 / (14 * count)
    print(f"\n## Dispatches\n\n{count} per evaluation of {model.stem}, {each:.2f} microseconds each")


def measured_peaks() -> dict[str, float]:
    """TFLOP/s of large matrix products, by precision, and GB/s of copies; nothing without CUDA."""
    if not CUDA:
        return {}
    peaks, n = {}, 8192
    for dtype in (torch.float32, torch.float16):
        a = torch.randn(n, n, device=DEVICE, dtype=dtype)
        peaks[SHORT[dtype]] = 2 * n**3 / seconds_per_call(partial(torch.matmul, a, a), 2.0) / 1e12
    a = torch.empty(1 << 28, device=DEVICE)
    b = torch.empty_like(a)
    copied = 2 * a.numel() * 4 / seconds_per_call(partial(b.copy_, a), 2.0) / 1e9
    print(f"\nPeaks: {peaks['f32']:.1f} TFLOP/s in f32, {peaks['f16']:.1f} in f16, {copied:.0f} GB/s")
    return peaks


if __name__ == "__main__":
    sys.exit(main())
