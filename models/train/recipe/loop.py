"""The training loop that every stage shares: seeded by step, resumable, stops on a non-finite loss.

All randomness of step ``i`` comes from a generator seeded with (seed, stage, i), so that an interrupted run
continues with the very batches it would have had.
"""

import json
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from recipe.config import Config, RecipeError, StageConfig, fingerprint

GRADIENT_LIMIT = 1.0
LAST_SHARE = 0.01  # of the learning rate, at the end of the cosine

Losses = dict[str, Tensor]


def device() -> torch.device:
    """The GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def mixed_precision(where: torch.device):
    """bf16 autocast where the hardware has it, else nothing."""
    cuda = where.type == "cuda"
    supported = torch.cuda.is_bf16_supported() if cuda else torch.cpu._is_avx512_bf16_supported()
    return torch.autocast(where.type, torch.bfloat16) if supported else nullcontext()


def seed_step(config: Config, stage: str, step: int) -> None:
    """Seeds torch's generators for one step of one stage."""
    torch.manual_seed(hash((config.seed, sum(stage.encode()), step)) & 0x7FFFFFFFFFFFFFFF)


def train(
    config: Config,
    stage: str,
    settings: StageConfig,
    network: nn.Module,
    losses_of: Callable[[int], Losses],
    folder: Path,
    monitor=None,
) -> dict[str, Tensor]:
    """Trains ``network`` on ``losses_of(batch size)`` (summed) and returns the averaged (EMA) state.

    Writes ``{stage}.safetensors`` (the checkpoint), ``{stage}.log.jsonl`` (one line per 50 steps). An existing
    checkpoint of the same configuration is continued; one of another configuration raises RecipeError. With a
    :class:`recipe.monitor.Monitor`, training stops where it says so.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stage}.safetensors"
    parameters = dict(network.named_parameters())
    optimizer = torch.optim.AdamW(parameters.values(), settings.learning_rate, betas=(0.9, 0.99), weight_decay=1e-3)
    average = {name: p.detach().clone() for name, p in parameters.items()}
    start = resume(path, config, stage, parameters, average, optimizer)
    total = math.ceil(settings.images / settings.batch)
    began, smoothed = time.monotonic(), {}
    with (
        open(folder / f"{stage}.log.jsonl", "a") as log,
        tqdm(total=settings.images, initial=start * settings.batch, unit="img", desc=stage, mininterval=10) as bar,
    ):
        for step in range(start, total):
            seed_step(config, stage, step)
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * schedule(step, total, settings.warmup)
            losses = losses_of(settings.batch)
            loss = torch.stack(list(losses.values())).sum()
            if not torch.isfinite(loss):
                raise RecipeError(f"{stage}: loss is {loss.item()} at step {step}; the checkpoint before it is {path}")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), GRADIENT_LIMIT)
            optimizer.step()
            decay = min(settings.ema, (1 + step) / (10 + step))
            with torch.no_grad():
                torch._foreach_lerp_(list(average.values()), [p.detach() for p in parameters.values()], 1 - decay)
            for name, value in losses.items():
                smoothed[name] = 0.98 * smoothed.get(name, value.item()) + 0.02 * value.item()
            bar.update(settings.batch)
            if step % 50 == 49 or step + 1 == total:
                rate = (step + 1 - start) * settings.batch / (time.monotonic() - began)
                bar.set_postfix({k: f"{v:.4f}" for k, v in smoothed.items()}, refresh=False)
                log.write(json.dumps({"step": step + 1, "images_per_s": round(rate, 1), **smoothed}) + "\n")
                log.flush()
            if (step + 1) % settings.checkpoint_every == 0 or step + 1 == total:
                save(path, config, stage, step + 1, parameters, average, optimizer)
            if monitor and monitor.due(step + 1) and monitor.measure(step + 1, average):
                save(path, config, stage, step + 1, parameters, average, optimizer)
                break
    return average


def schedule(step: int, total: int, warmup: int) -> float:
    """Share of the learning rate at ``step``: linear warm-up, then a cosine to ``LAST_SHARE``."""
    cosine = 0.5 * (1 + math.cos(math.pi * step / total))
    return min(1.0, (step + 1) / warmup) * (LAST_SHARE + (1 - LAST_SHARE) * cosine)


def save(path: Path, config: Config, stage: str, step: int, parameters: dict, average: dict, optimizer) -> None:
    """Writes the checkpoint beside ``path`` and moves it there: an interruption never destroys the older one."""
    tensors = {f"model.{k}": v.detach().contiguous() for k, v in parameters.items()}
    tensors |= {f"ema.{k}": v.contiguous() for k, v in average.items()}
    for name, p in parameters.items():  # a parameter that the stage does not use has no state
        tensors |= {f"adam.{name}.{k}": v.contiguous() for k, v in optimizer.state.get(p, {}).items()}
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, {"config": fingerprint(config, stage), "step": str(step)})
    partial.replace(path)


def resume(path: Path, config: Config, stage: str, parameters: dict, average: dict, optimizer) -> int:
    """Loads the checkpoint at ``path`` if there is one, and returns the step to go on with."""
    if not path.exists():
        return 0
    meta = check_origin(path, config, stage)
    with safe_open(path, "pt") as file:
        keys = set(file.keys())
        with torch.no_grad():
            for name, p in parameters.items():
                p.copy_(file.get_tensor(f"model.{name}"))
                average[name].copy_(file.get_tensor(f"ema.{name}"))
                if f"adam.{name}.step" in keys:
                    state = {k: file.get_tensor(f"adam.{name}.{k}") for k in ("step", "exp_avg", "exp_avg_sq")}
                    optimizer.state[p] = {k: v if k == "step" else v.to(p.device) for k, v in state.items()}
    return int(meta["step"])


def check_origin(path: Path, config: Config, stage: str) -> dict[str, str]:
    """The metadata of the file at ``path``; RecipeError if another configuration wrote it."""
    with safe_open(path, "pt") as file:
        meta = file.metadata() or {}
    if meta.get("config") != fingerprint(config, stage):
        raise RecipeError(f"{path} was written by another configuration: move it away or use its configuration")
    return meta


def average_prefix(keys) -> str:
    """What the names of the averaged parameters begin with: nothing in a file of weights alone."""
    return "ema." if any(key.startswith("ema.") for key in keys) else ""


def load_average(path: Path, network: nn.Module) -> None:
    """Loads the averaged parameters of a stage, or a file of weights alone, into ``network``.

    A divergence head that the file does not hold is left as it is: heads of the teacher are untrained.
    """
    if not path.exists():
        raise RecipeError(f"{path} is missing: run the stage that writes it first")
    with safe_open(path, "pt") as file, torch.no_grad():
        keys = set(file.keys())
        prefix = average_prefix(keys)
        for name, p in network.named_parameters():
            if prefix + name in keys and file.get_slice(prefix + name).get_shape() == list(p.shape):
                p.copy_(file.get_tensor(prefix + name))
            elif not name.startswith("head_"):
                raise RecipeError(f"{path} holds no weights {name} of shape {list(p.shape)}: it is of another network")
