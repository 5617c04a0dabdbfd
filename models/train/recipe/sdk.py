"""Runs the f2d2 command: the recipe measures models through the very program that users run."""

import json
import os
import shutil
import subprocess
from pathlib import Path

from recipe.config import RecipeError

REPOSITORY = Path(__file__).parents[3]


def command() -> str:
    """``$F2D2``, the release build of this repository, or ``f2d2`` on the path; RecipeError if there is none."""
    built = REPOSITORY / "target" / "release" / "f2d2"
    named = os.environ.get("F2D2")
    found = shutil.which(named or (built if built.exists() else "f2d2"))
    if not found and named:
        raise RecipeError(f"F2D2 is {named!r}, which is no command")
    if not found:
        raise RecipeError("the f2d2 command is not built: cargo build --release --workspace")
    return found


def run(*arguments: object) -> str:
    """Standard output of ``f2d2 arguments...``; its own message as RecipeError if it fails."""
    done = subprocess.run([command(), *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        raise RecipeError(f"f2d2 {arguments[0]} failed ({done.returncode}): {done.stderr.strip()[-500:]}")
    return done.stdout


def score(model: Path, inputs: str, *options: object) -> list[dict]:
    """One record per image of ``inputs``, as ``f2d2 score --json`` prints them."""
    return [json.loads(line) for line in run("score", model, inputs, "--json", *options).splitlines()]
