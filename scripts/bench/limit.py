"""A training against its limit: the same steps on one batch that is already on the device."""

import time
from collections.abc import Callable
from dataclasses import replace

import timm
import torch
from torch import nn

from bench.records import Section
from bench.sides import Case, make_tlcnn_words
from tlcnn.records.summary import read_history
from tlcnn.train import main as train


def measure_limit(case: Case, precisions: tuple[str, ...], rounds: int) -> Section:
    """Alternate real trainings in this process with as many bare steps."""
    section = Section(
        f"One run against pure compute ({case.model}, {case.image_size} px, "
        f"batch {case.batch_size}, one process, alternating)",
        [
            "pure compute: forward, loss, backward, clipping and update of the same network on "
            "one random batch that never changes",
            "share: images/s of the training's epochs, without their validation, divided by those "
            "of pure compute right after it; the first epoch and round are left out",
        ],
    )
    for precision in precisions:
        for round_number in range(rounds + 1):
            output = case.work / f"limit-{case.image_size}-{precision}-{round_number}"
            cache = case.work / f"cache-limit-{case.image_size}"
            arguments = make_tlcnn_words(replace(case, precision=precision, cache=cache), output)
            train([*arguments, "progress=false"])
            epochs = read_history(next(output.glob("runs/*")))
            bare_rate = measure_bare_rate(case, precision, n_steps=int(epochs[-1].values["step"]))
            if round_number:
                for epoch in epochs[1:]:
                    rate = epoch.values["images_per_s"]
                    section.add(precision, "tlcnn", images_per_s=rate, share=rate / bare_rate)
                section.add(precision, "pure compute", images_per_s=bare_rate)
    return section


def measure_bare_rate(case: Case, precision: str, n_steps: int) -> float:
    """Return the images per second of training steps without a data path."""
    step = build_bare_step(case, precision)
    step()
    started = time.perf_counter()
    for _ in range(n_steps):
        step()
    if case.device == "cuda":
        torch.cuda.synchronize()
    return n_steps * case.batch_size / (time.perf_counter() - started)


def build_bare_step(case: Case, precision: str) -> Callable[[], None]:
    """Return one training step on a batch that lies on the device."""
    model = timm.create_model(case.model, num_classes=7).to(case.device)
    model.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, weight_decay=0.05, fused=True)
    images = torch.randn(case.batch_size, 3, case.image_size, case.image_size, device=case.device)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.zeros(len(images), dtype=torch.long, device=case.device)

    def step() -> None:
        with torch.autocast(case.device, torch.bfloat16, enabled=precision == "bf16"):
            logits = model(images)
        nn.functional.cross_entropy(logits.float(), labels).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step
