"""The training loop that every stage shares: seeded by step, resumable, stops on a non-finite loss or gradient.

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
    :class:`recipe.monitor.Monitor`, training stops where it says so, and ends with the best average that it measured.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stage}.safetensors"
    parameters = dict(network.named_parameters())
    optimizer = torch.optim.AdamW(parameters.values(), settings.learning_rate, betas=(0.9, 0.99), weight_decay=1e-3)
    average = {name: p.detach().clone() for name, p in parameters.items()}
    total = math.ceil(settings.images / settings.batch)
    meta = resume(path, config, stage, parameters, average, optimizer)
    start = total if is_finished(meta) else int(meta.get("step", 0))
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
            check_finite("loss", loss, step, path)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(network.parameters(), GRADIENT_LIMIT)
            check_finite("norm of the gradient", norm, step, path)
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
            last = step + 1 == total
            if monitor and (last or monitor.due(step + 1)):
                last = monitor.measure(step + 1, average) or last
            if monitor and last:
                average = monitor.best()
            if last or (step + 1) % settings.checkpoint_every == 0:
                save(path, config, stage, step + 1, last, parameters, average, optimizer)
            if last:
                break
    return average


def check_finite(what: str, value: Tensor, step: int, path: Path) -> None:
    """RecipeError if ``value`` is not finite, with the checkpoint at ``path`` to go back to, if there is one."""
    if not torch.isfinite(value):
        kept = f"the checkpoint before it is {path}" if path.exists() else "no checkpoint was written before it"
        raise RecipeError(f"{path.stem}: {what} is {value.item()} at step {step}; {kept}")


def schedule(step: int, total: int, warmup: int) -> float:
    """Share of the learning rate at ``step``: linear warm-up, then a cosine to ``LAST_SHARE``."""
    cosine = 0.5 * (1 + math.cos(math.pi * step / total))
    return min(1.0, (step + 1) / warmup) * (LAST_SHARE + (1 - LAST_SHARE) * cosine)


def save(
    path: Path, config: Config, stage: str, step: int, finished: bool, parameters: dict, average: dict, optimizer
) -> None:
    """Writes the checkpoint beside ``path`` and moves it there: an interruption never destroys the older one."""
    tensors = {f"model.{k}": v.detach().contiguous() for k, v in parameters.items()}
    tensors |= {f"ema.{k}": v.contiguous() for k, v in average.items()}
    for name, p in parameters.items():  # a parameter that the stage does not use has no state
        tensors |= {f"adam.{name}.{k}": v.contiguous() for k, v in optimizer.state.get(p, {}).items()}
    partial = path.with_suffix(".partial")
    meta = {"config": fingerprint(config, stage), "step": str(step), "finished": str(finished)}
    save_file(tensors, partial, meta)
    partial.replace(path)


def resume(path: Path, config: Config, stage: str, parameters: dict, average: dict, optimizer) -> dict[str, str]:
    """Loads the checkpoint at ``path`` if there is one, and returns its metadata."""
    if not path.exists():
        return {}
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
    return meta


def metadata(path: Path) -> dict[str, str]:
    """What is written beside the tensors of the file at ``path``."""
    with safe_open(path, "pt") as file:
        return file.metadata() or {}


def is_finished(meta: dict[str, str]) -> bool:
    """Whether the stage that wrote ``meta`` had come to its end."""
    return meta.get("finished") == "True"


def check_origin(path: Path, config: Config, stage: str) -> dict[str, str]:
    """The metadata of the file at ``path``; RecipeError if another configuration, or other images, made it."""
    meta = metadata(path)
    if meta.get("config") != fingerprint(config, stage):
        raise RecipeError(
            f"{path} was written by another configuration or from other images: move it away, or use those"
        )
    return meta


def check_finished(path: Path, config: Config, stage: str) -> None:
    """RecipeError unless ``path`` is what ``stage`` ended with, or a file of weights alone, which says of neither."""
    if not path.exists():
        raise RecipeError(f"{path} is missing: run the stage that writes it first")
    if "config" not in metadata(path):
        return
    meta = check_origin(path, config, stage)
    if not is_finished(meta):
        raise RecipeError(f"{path} is half-trained, at step {meta['step']}: run the stage {stage} to its end first")


def load_finished(path: Path, config: Config, stage: str, network: nn.Module) -> None:
    """:func:`load_average` of what :func:`check_finished` accepts."""
    check_finished(path, config, stage)
    load_average(path, network)


def average_prefix(keys) -> str:
    """What the names of the averaged parameters begin with: nothing in a file of weights alone."""
    return "ema." if any(key.startswith("ema.") for key in keys) else ""


def load_average(path: Path, network: nn.Module) -> None:
    """Loads the averaged parameters of a stage, or a file of weights alone, into ``network``.

    A divergence head that the file does not hold is left as it is: heads of the teacher are untrained.
    """
    with safe_open(path, "pt") as file, torch.no_grad():
        keys = set(file.keys())
        prefix = average_prefix(keys)
        for name, p in network.named_parameters():
            if prefix + name in keys and file.get_slice(prefix + name).get_shape() == list(p.shape):
                p.copy_(file.get_tensor(prefix + name))
            elif not name.startswith("head_"):
                raise RecipeError(f"{path} holds no weights {name} of shape {list(p.shape)}: it is of another network")
