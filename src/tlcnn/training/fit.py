"""The loop: epochs of steps, a validation after each, and a checkpoint that misses nothing."""

import logging
import math
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from tlcnn.data.augment import mix
from tlcnn.data.batches import Inputs, expect, make_order, make_train_batch
from tlcnn.errors import Diverged, Stopped, StorageError
from tlcnn.training.checkpoint import SaveTimer, load_checkpoint, save_checkpoint
from tlcnn.training.compiling import compile_trained
from tlcnn.training.evaluate import autocast, compute_logits
from tlcnn.training.interrupt import StopRequest
from tlcnn.training.optim import (
    WeightAverage,
    build_optimizer,
    clip_gradients,
    compute_lr,
    set_lr,
)
from tlcnn.training.recipe import Position, Recipe
from tlcnn.training.tasks import find_task

log = logging.getLogger(__name__)

_STEP_STREAM = 0x57
_READ_EVERY_S = 0.5  # reading a loss waits for the device, so not every step does


class Fit:
    """One training of one model; `run` takes it from wherever it stands to its end.

    Args:
        model: on the device of the batches, with frozen units already frozen.
        trained: the part of it that takes what `train` and `val` yield; None: all of it.
        fixed: names of tensors that never move; they are in no checkpoint.
        run_dir: checkpoints are written here, and taken up from here.
        run_id: a checkpoint of another run is refused.
        n_classes: K, the width of the head.
        task: kind of task, of `tlcnn.data.index.TASKS`.
        seed: of order, views and dropout; never of the split.
        eval_batch_size: images a forward pass of an evaluation.
        checkpoint_every_s: the most seconds between checkpoints while training; 0: every step.
        stop: polled at every step and every evaluation batch.
        on_epoch: called with the history at the start and after every epoch.
    """

    def __init__(
        self,
        model: nn.Module,
        train: Inputs,
        val: Inputs,
        recipe: Recipe,
        *,
        trained: nn.Module | None = None,
        fixed: Collection[str] = (),
        run_dir: Path,
        run_id: str,
        n_classes: int,
        task: str = "multi-class",
        seed: int,
        eval_batch_size: int,
        checkpoint_every_s: float,
        progress: bool = True,
        stop: StopRequest,
        on_epoch: Callable[[list[dict[str, Any]]], None],
    ) -> None:
        self.model, self.train, self.val, self.recipe = model, train, val, recipe
        self.trained, self.fixed = model if trained is None else trained, frozenset(fixed)
        self.run_dir, self.run_id, self.seed = run_dir, run_id, seed
        self.eval_batch_size = eval_batch_size
        self.progress, self.stop, self.on_epoch = progress, stop, on_epoch
        if recipe.channels_last:
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = build_optimizer(
            model,
            name=recipe.optimizer,
            lr=recipe.lr,
            weight_decay=recipe.weight_decay,
            momentum=recipe.momentum,
        )
        self.average = WeightAverage(model, recipe.ema_decay) if recipe.ema_decay else None
        self.forward = compile_trained(self.trained) if recipe.compile else self.trained
        self.n_steps = max(1, len(train) // recipe.batch_size)  # an epoch
        self.task = find_task(task)
        self.loss_weights = self._compute_loss_weights(n_classes)
        self._is_on_cpu = train.device.type == "cpu"
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        n_bytes = sum(p.numel() * p.element_size() for p in self._parameters)
        self._timer = SaveTimer(checkpoint_every_s, n_bytes=4 * n_bytes)  # two moments, best epoch
        self.at = Position()

    def _compute_loss_weights(self, n_classes: int) -> Tensor:
        weights = self.task.compute_weights(
            self.train.labels.cpu().numpy(),
            n_classes,
            scheme=self.recipe.class_weights,
            beta=self.recipe.effective_beta,
        )
        return torch.tensor(weights, dtype=torch.float32, device=self.train.device)

    def run(self) -> Position:
        """Train to the last epoch, or until patience ends, and leave the best epoch's weights.

        The best epoch has the highest balanced accuracy on the validation images; the lower
        negative log-likelihood breaks a tie.

        Raises:
            Stopped: a signal came; the state is saved.
            Diverged: the loss is not finite; the last checkpoint is as it was.
            StorageError: a checkpoint cannot be written, is damaged, or is of another run.
        """
        self._resume()
        self._timer.start()
        self.on_epoch(self.at.history)
        self.model.train()
        self.trained.train()
        while self.at.epoch <= self.recipe.epochs and not self._is_out_of_patience():
            self._train_epoch()
            self._validate()
            if self._timer.is_worth_it():
                self.save()
            self.on_epoch(self.at.history)
        self._load(self.at.best_weights)
        return self.at

    def _is_out_of_patience(self) -> bool:
        patience = self.recipe.patience
        return patience is not None and len(self.at.history) - self.at.best_epoch >= patience

    def _train_epoch(self) -> None:
        at, batch_size = self.at, min(self.recipe.batch_size, len(self.train))
        order = make_order(self.train.keys, seed=self.seed, epoch=at.epoch)
        seeds = self._draw_seeds()
        started = read = time.monotonic()
        before_s = at.epoch_s
        exact = torch.float32 if self.train.device.type == "mps" else torch.float64
        total = torch.full((), at.loss_sum, dtype=exact, device=self.train.device)
        coming = (
            order[i : i + batch_size]
            for i in range(at.step * batch_size, self.n_steps * batch_size, batch_size)
        )
        with self._open_bar(batch_size) as bar, expect(self.train, coming):
            while at.step < self.n_steps:
                now = time.monotonic()
                at.epoch_s = before_s + now - started
                if self.stop or self._timer.is_overdue():
                    at.loss_sum = _read_finite(total, at)
                    self.save()
                    self.stop.check()
                picked = order[at.step * batch_size : (at.step + 1) * batch_size]
                total += self._step(picked, seeds[at.step])
                at.step += 1
                bar.update(batch_size)
                if now - read > _READ_EVERY_S:
                    self._show_loss(bar, _read_finite(total, at))
                    read = now
        at.loss_sum = _read_finite(total, at)
        at.epoch_s = before_s + time.monotonic() - started

    def _draw_seeds(self) -> list[int]:
        """Return a seed for each step of an epoch.

        Dropout's draws are a function of (seed, step): there is no generator state to save.
        """
        first = (self.at.epoch - 1) * self.n_steps
        steps = np.arange(first, first + self.n_steps, dtype=np.uint64)
        seeds: list[int] = (mix(steps, self.seed, 0, _STEP_STREAM) >> np.uint64(1)).tolist()
        return seeds

    def _step(self, picked: np.ndarray, seed: int) -> Tensor:
        """Make one update and return its loss, without waiting for the device."""
        recipe, at = self.recipe, self.at
        step = (at.epoch - 1) * self.n_steps + at.step
        set_lr(self.optimizer, self._compute_lr(step))
        # torch.manual_seed leaves notes for devices that are not there, with a whole traceback.
        (torch.default_generator if self._is_on_cpu else torch).manual_seed(seed)
        inputs, labels = make_train_batch(
            self.train,
            picked,
            seed=self.seed,
            epoch=at.epoch,
            augment=recipe.augment,
            n_views=recipe.views,
        )
        with autocast(self.train.device, recipe.precision):
            logits = self.forward(inputs)
        loss = self.task.compute_loss(
            logits.float(), labels, self.loss_weights, recipe.label_smoothing
        )
        loss.backward()
        if recipe.clip_norm is not None:
            clip_gradients(self._parameters, recipe.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update(step)
        return loss.detach()

    def _compute_lr(self, step: int) -> float:
        return compute_lr(
            step,
            peak=self.recipe.lr,
            n_steps=self.recipe.epochs * self.n_steps,
            n_warmup_steps=round(self.recipe.warmup_epochs * self.n_steps),
            final_fraction=self.recipe.final_lr_fraction,
        )

    def _validate(self) -> None:
        """Score the epoch on the validation images, record it, and keep it if it is the best."""
        at = self.at
        with self.average.in_place() if self.average else nullcontext():
            try:
                logits = self._compute_val_logits()
            except Stopped:
                stopped = True
            else:
                stopped = False
                self._record(self.task.compute_selection(logits, self.val.labels.cpu().numpy()))
        if stopped:
            self.save()  # with the trained weights back in place
            self.stop.check()
        at.epoch, at.step, at.loss_sum, at.epoch_s = at.epoch + 1, 0, 0.0, 0.0

    def _compute_val_logits(self) -> np.ndarray:
        return compute_logits(
            self.trained,
            self.val,
            batch_size=self.eval_batch_size,
            precision=self.recipe.precision,
            check_stop=self.stop.check,
        )

    def _record(self, scores: dict[str, float]) -> None:
        at = self.at
        n_images = self.n_steps * min(self.recipe.batch_size, len(self.train))
        at.history.append(
            {
                "epoch": at.epoch,
                "step": at.epoch * self.n_steps,
                "lr": self.optimizer.param_groups[0]["lr"],
                "train/loss": at.loss_sum / self.n_steps,
                **{f"val/{name}": value for name, value in scores.items()},
                "train_s": round(at.epoch_s, 3),
                "images_per_s": round(n_images / max(at.epoch_s, 1e-9), 1),
            }
        )
        if at.best_epoch == 0 or _score(at.history[-1]) > _score(at.best):
            at.best_epoch = at.epoch
            at.best_weights = {name: value.clone() for name, value in self._moving().items()}

    def _moving(self) -> dict[str, Tensor]:
        """Return the parameters and buffers that training moves."""
        state = self.model.state_dict()
        return {name: value for name, value in state.items() if name not in self.fixed}

    def _load(self, state: Mapping[str, Tensor]) -> None:
        missing = self.model.load_state_dict(state, strict=False).missing_keys
        assert self.fixed.issuperset(missing), "all that moves is saved"

    def save(self) -> None:
        """Write a checkpoint of where the training stands."""
        state = {
            "run_id": self.run_id,
            "position": vars(self.at),
            "model": self._moving(),
            "updates": self.optimizer.state_dict(),
            "average": self.average.average if self.average else {},
        }
        with self._timer.saving():
            save_checkpoint(self.run_dir, state)

    def _resume(self) -> None:
        state = load_checkpoint(self.run_dir)
        if state is None:
            return
        if state["run_id"] != self.run_id:
            raise StorageError(
                f"the checkpoint in {self.run_dir} is of run {state['run_id']}, not of "
                f"{self.run_id}. Move that folder away to train this run."
            )
        self._load(state["model"])
        self.optimizer.load_state_dict(state["updates"])
        self.at = Position(**state["position"])
        log.info("resuming in epoch %d after %d steps", self.at.epoch, self.at.step)
        if self.average is not None:
            self.average.load(state["average"])

    def _open_bar(self, batch_size: int) -> tqdm:
        return tqdm(
            total=self.n_steps * batch_size,
            initial=self.at.step * batch_size,
            desc=f"epoch {self.at.epoch}/{self.recipe.epochs}",
            unit="img",
            leave=False,
            disable=None if self.progress else True,  # hidden where nobody watches
        )

    def _show_loss(self, bar: tqdm, loss_sum: float) -> None:
        shown = {"loss": f"{loss_sum / self.at.step:.3f}"}
        if self.at.best_epoch:
            shown["best_val"] = f"{self.at.best['val/balanced_accuracy']:.3f}"
        bar.set_postfix(shown)


def _read_finite(total: Tensor, at: Position) -> float:
    value = total.item()
    if not math.isfinite(value):
        raise Diverged(
            f"the loss is {value} in epoch {at.epoch} by step {at.step}. Lower train.lr, lengthen "
            "train.warmup_epochs, or set train.precision=fp32."
        )
    return value


def _score(record: dict[str, Any]) -> tuple[float, float]:
    return record["val/balanced_accuracy"], -record["val/nll"]
