"""The recipe's command line: ``python -m recipe STAGE CONFIG``."""

import argparse
import dataclasses
import sys
from pathlib import Path

import torch

from recipe.command import command
from recipe.config import load_config
from recipe.stages import STAGES, run

RUNS = Path(__file__).parent.parent / "runs"


@command
def main() -> int:
    parser = argparse.ArgumentParser(prog="recipe", description=__doc__)
    parser.add_argument("stage", choices=[*STAGES, "all"], help="all: every stage in order")
    parser.add_argument("config", type=Path)
    parser.add_argument("--data", default="", help="folder in which relative paths of data sets are looked up")
    parser.add_argument("--runs", type=Path, default=RUNS, help="where runs are kept (default: %(default)s)")
    parser.add_argument("--smoke", action="store_true", help="a few dozen images per stage: does everything run?")
    args = parser.parse_args()
    config = load_config(args.config, args.smoke)
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, root=args.data))
    torch.set_num_threads(config.threads or torch.get_num_threads())
    run(config, args.runs / config.name, list(STAGES) if args.stage == "all" else [args.stage])
    return 0


if __name__ == "__main__":
    sys.exit(main())
