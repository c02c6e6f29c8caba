#!/usr/bin/env python
"""Measure one training against its limit: the same steps on one resident batch, and the data path.

    python scripts/bench.py [--model resnet18] [--image-size 64] [--rounds 5]

Prints images/s, medians over rounds that alternate between the three.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from tlcnn.compose import compose_config
from tlcnn.config import find_cache_dir
from tlcnn.experiment import apply_flags, build_start, load_batches
from tlcnn.plan import Plan, make_plan
from tlcnn.training import fit as fitting
from tlcnn.training.batches import make_order, make_train_batch
from tlcnn.training.interrupt import StopRequest

N_STEPS = 8


def make_fit(plan: Plan, folder: str) -> fitting.Fit:
    """Return a training that is ready to step."""
    splits = load_batches(plan, StopRequest())
    return fitting.Fit(
        build_start(plan).model.to(plan.device.name),
        splits["train"],
        splits["val"],
        fitting.Recipe(**plan.identity["train"]),
        run_dir=Path(folder),
        run_id=plan.run_id,
        n_classes=len(plan.images.index.classes),
        seed=0,
        eval_batch_size=256,
        checkpoint_every_s=1e9,
        stop=StopRequest(),
        on_epoch=lambda history: None,
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    words = ["dataset=synthetic", f"model.name={options.model}"]
    plan = make_plan(compose_config([*words, f"dataset.image_size={options.image_size}"]))
    apply_flags(plan)
    with TemporaryDirectory(dir=find_cache_dir(None)) as folder:
        fit = make_fit(plan, folder)
        rates = measure(fit, options.rounds)
    print(f"{options.model}, {options.image_size} px, {plan.device.name}, {plan.precision}")
    for name, values in rates.items():
        middle = statistics.median(values)
        print(f"{name:<28}{middle:>10,.0f} images/s  ({min(values):,.0f}-{max(values):,.0f})")


def measure(fit: fitting.Fit, rounds: int) -> dict[str, list[float]]:
    """Return images/s of every round of the step, of the step alone, and of the data path."""
    size = fit.recipe.batch_size
    order = make_order(fit.train.keys, seed=0, epoch=1)
    picks = [order[i * size : (i + 1) * size] for i in range(min(N_STEPS, fit.n_steps))]
    resident = batch(fit, picks[0])

    def step_alone(picked: object) -> None:
        real = fitting.make_train_batch
        fitting.make_train_batch = lambda *args, **options: resident
        fit._step(picks[0])
        fitting.make_train_batch = real

    work: dict[str, Callable] = {
        "training step": fit._step,
        "the same on a resident batch": step_alone,
        "data path alone": lambda picked: batch(fit, picked),
    }
    rates: dict[str, list[float]] = {name: [] for name in work}
    for round_ in range(rounds + 1):
        for name, do in work.items():
            rate = time_images(do, picks)
            if round_:  # the first is warm-up
                rates[name].append(rate)
    return rates


def batch(fit: fitting.Fit, picked: object) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a training batch, without training on it."""
    options = {"augment": fit.recipe.augment, "n_views": fit.recipe.views}
    return make_train_batch(fit.train, picked, seed=0, epoch=1, **options)


def time_images(do: Callable, picks: list) -> float:
    """Return images/s of doing something to every batch."""
    started = time.perf_counter()
    for picked in picks:
        do(picked)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return sum(len(picked) for picked in picks) / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
