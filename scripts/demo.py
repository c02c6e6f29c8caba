#!/usr/bin/env python
"""The demo: does transfer from drawn textures to drawn lesions help? Offline, a few minutes.

    1. train a source network on drawn textures
    2. train drawn lesions from random weights, from the source, and from the frozen source
    3. print the table

The same command again resumes, or finds everything done.
"""

import sys
from pathlib import Path

from tlcnn.cli import main as tlcnn
from tlcnn.train import run_command

OUTPUT = Path("outputs/demo")
EXPERIMENT = "experiment=demo"
SEEDS = (0, 1)


def train(*overrides: str) -> None:
    """Show a command and run it."""
    command = [EXPERIMENT, *overrides]
    print(f"\n$ python -m tlcnn.train {' '.join(command)}", flush=True)
    code = run_command(command)
    if code:
        sys.exit(code)


def find_source() -> Path:
    """Return the folder of the finished source run."""
    return next((OUTPUT / "runs").glob("synthetic_source-*-random-k0-j0-s0-*"))


if __name__ == "__main__":
    train("dataset=synthetic_source")
    transferred = ["init=checkpoint", f"init.weights={find_source()}"]
    for seed in SEEDS:
        train(f"seed={seed}")
        train(f"seed={seed}", *transferred)
        train(f"seed={seed}", *transferred, "freeze=layer1")
    print(f"\n$ tlcnn compare {OUTPUT} --seeds")
    tlcnn(["compare", str(OUTPUT), "--seeds"])
    print(f"\nEvery run has a folder in {OUTPUT}/runs: metrics, predictions, weights, log.")
