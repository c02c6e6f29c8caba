"""A training against its limit: the same steps on one batch that is already on the device."""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise

import timm
import torch
from torch import nn

from bench.records import Section
from bench.sides import Case, make_tlcnn_words, read_epoch_ends
from tlcnn.records.summary import read_history
from tlcnn.train import main as train
from tlcnn.training.lane import Lane
from tlcnn.training.recorder import Recorder, find_graph


def measure_limit(case: Case, precisions: tuple[str, ...], rounds: int) -> Section:
    """Alternate real trainings in this process with as many bare steps."""
    section = Section(
        f"One run against pure compute ({case.model}, {case.image_size} px, "
        f"batch {case.batch_size}, one process, alternating)",
        [
            "pure compute: forward, loss, backward, clipping and update of the same network on "
            "one random batch that never changes; on a GPU both launched step by step and "
            "recorded as a CUDA graph",
            "share: images/s of the training's epochs, without their validation, divided by those "
            "of pure compute right after it (on a GPU: recorded); share with validation: the "
            "same for the whole epoch; the first epoch and round are left out",
        ],
    )
    for precision in precisions:
        for round_number in range(rounds + 1):
            output = case.work / f"limit-{case.image_size}-{precision}-{round_number}"
            cache = case.work / f"cache-limit-{case.image_size}"
            arguments = make_tlcnn_words(replace(case, precision=precision, cache=cache), output)
            if train([*arguments, "progress=false"]) != 0:
                raise SystemExit(f"the training failed: {' '.join(arguments)}")
            (folder,) = output.glob("runs/*")
            epochs = read_history(folder)
            n_steps = int(epochs[-1].values["step"])
            bare_rate = measure_bare_rate(case, precision, n_steps)
            limit = bare_rate
            if case.device == "cuda":
                limit = measure_bare_rate(case, precision, n_steps, is_recorded=True)
            if not round_number:
                continue
            ends = pairwise(read_epoch_ends(folder))
            for epoch, (start, end) in zip(epochs[1:], ends, strict=True):
                rate = epoch.values["images_per_s"]
                whole_rate = rate * epoch.train_s / (end - start).total_seconds()
                section.add(
                    precision,
                    "tlcnn",
                    images_per_s=rate,
                    share=rate / limit,
                    share_with_validation=whole_rate / limit,
                )
            section.add(precision, "pure compute", images_per_s=bare_rate)
            if case.device == "cuda":
                section.add(precision, "pure compute, recorded", images_per_s=limit)
    return section


def measure_bare_rate(
    case: Case, precision: str, n_steps: int, *, is_recorded: bool = False
) -> float:
    """Return the images per second of training steps without a data path."""
    device = torch.device(case.device)
    with Lane(device, []):
        step = build_bare_step(case, precision, is_recorded=is_recorded)
        for _ in range(5 if is_recorded else 1):  # real steps, and the recording
            step()
        if case.device == "cuda":
            torch.cuda.synchronize()
        started = time.perf_counter()
        for _ in range(n_steps):
            step()
        if case.device == "cuda":
            torch.cuda.synchronize()
        return n_steps * case.batch_size / (time.perf_counter() - started)


def build_bare_step(
    case: Case, precision: str, *, is_recorded: bool = False
) -> Callable[[], None]:
    """Return one training step on a batch that lies on the device.

    Args:
        is_recorded: whether a GPU records the step and replays it.
    """
    device = torch.device(case.device)
    model = timm.create_model(case.model, num_classes=7).to(device)
    model.to(memory_format=torch.channels_last).train()
    rate = torch.tensor(1e-6, device=device) if is_recorded else 1e-6
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=rate, weight_decay=0.05, fused=True, capturable=is_recorded
    )
    images = torch.randn(case.batch_size, 3, case.image_size, case.image_size, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.zeros(len(images), dtype=torch.long, device=device)

    def step(values: object) -> None:
        with torch.autocast(case.device, torch.bfloat16, enabled=precision == "bf16"):
            logits = model(images)
        nn.functional.cross_entropy(logits.float(), labels).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    clear = partial(optimizer.zero_grad, set_to_none=True)
    recorder = Recorder(find_graph(device) if is_recorded else None, clear)
    return lambda: recorder.run(step, {}, "step")
