"""A training against its limit: the same steps on one batch that is already on the device."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from bench.records import Section
from bench.sides import Case, make_tlcnn_words
from tlcnn.config.compose import compose_config
from tlcnn.plan.plan import Plan, make_plan
from tlcnn.run.network import build_initial_network
from tlcnn.run.run import run
from tlcnn.training.evaluate import autocast
from tlcnn.training.fit import Fit
from tlcnn.training.optim import build_optimizer


def measure_limit(case: Case, precisions: tuple[str, ...], epochs: int) -> Section:
    """Alternate epochs of a real training with as many bare steps; the first pair is left out."""
    section = Section(
        f"One run against pure compute ({case.model}, {case.image_size} px, "
        f"batch {case.batch_size}, one process, alternating by epoch)",
        [
            "pure compute: forward, loss, backward, clipping and update of the same network on "
            "one random batch that never changes",
            "validation: a call of the same run; checkpoint: one written after every epoch, to "
            "measure it; the run itself writes them less often where they would cost too much",
        ],
    )
    for precision in precisions:
        work = case.work / f"limit-{precision}"
        this = replace(case, precision=precision, epochs=epochs, cache=case.work / "cache-limit")
        plan = make_plan(compose_config(make_tlcnn_words(this, work)))
        step = make_bare_step(plan)
        with watching_fit(section, precision, step):
            run(plan)
    return section


def make_bare_step(plan: Plan) -> Callable[[], None]:
    """Return one training step without a data path."""
    recipe = plan.identity["train"]
    device, size = plan.device.name, plan.config.dataset.image_size
    model = build_initial_network(plan).model.to(device)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = build_optimizer(
        list(model.parameters()),
        name="adamw",
        lr=1e-6,
        weight_decay=recipe["weight_decay"],
        momentum=0.0,
    )
    images = torch.randn(recipe["batch_size"], 3, size, size, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.zeros(len(images), dtype=torch.long, device=device)
    model.train()

    def step() -> None:
        with autocast(images.device, recipe["precision"]):
            logits = model(images)
        nn.functional.cross_entropy(logits.float(), labels).backward()
        nn.utils.clip_grad_norm_(model.parameters(), recipe["clip_norm"])
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


@contextmanager
def watching_fit(section: Section, what: str, step: Callable[[], None]) -> Iterator[None]:
    """Time every epoch, validation and checkpoint, and bare steps after each epoch."""
    real = {name: getattr(Fit, name) for name in ("train_epoch", "validate", "save")}

    def train_epoch(fit: Fit) -> None:
        n_images = fit.n_steps * fit.batch_size
        took = _time(lambda: real["train_epoch"](fit))
        bare = _time(lambda: [step() for _ in range(fit.n_steps)])
        note("checkpoint", _time(lambda: real["save"](fit)))
        if fit.position.epoch > 1:
            section.row(what, "tlcnn").add(**_rates(took, n_images))
            section.row(what, "pure compute").add(**_rates(bare, n_images))
            ratio = {name: bare[i] / took[i] for i, name in enumerate(("share", "cpu_share"))}
            section.row(what, "tlcnn").add(**ratio)

    def validate(fit: Fit) -> None:
        note("validation", _time(lambda: real["validate"](fit)))

    def note(name: str, took: tuple[float, float]) -> None:
        section.row(what, name).add(ms=1000 * took[0], cpu_ms=1000 * took[1])

    patched: dict[str, Any] = {"train_epoch": train_epoch, "validate": validate}
    try:
        for name, method in patched.items():
            setattr(Fit, name, method)
        yield
    finally:
        for name, method in real.items():
            setattr(Fit, name, method)


def _time(work: Callable[[], Any]) -> tuple[float, float]:
    """Return seconds by the clock and of the processor, the device's work included."""
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - wall_s, time.process_time() - cpu_s


def _rates(took: tuple[float, float], n_images: int) -> dict[str, float]:
    return {"images_per_s": n_images / took[0], "images_per_cpu_s": n_images / took[1]}
