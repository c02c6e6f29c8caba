"""The loop: epochs of steps, each followed by a validation and, when it is due, a checkpoint."""

import logging
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from tlcnn.data.augment import mix
from tlcnn.data.batches import Inputs, expect, make_order, make_train_batch
from tlcnn.errors import Diverged, Stopped
from tlcnn.statistics.metrics import compute_selection, rank_epoch
from tlcnn.training.checkpoint import Checkpoints
from tlcnn.training.compiling import compile_trained
from tlcnn.training.evaluate import autocast, compute_logits
from tlcnn.training.interrupt import StopRequest
from tlcnn.training.optim import WeightAverage, build_optimizer, compute_lr
from tlcnn.training.recipe import Recipe
from tlcnn.training.state import Network, Position
from tlcnn.training.tasks import Objective

log = logging.getLogger(__name__)

_STEP_STREAM = 0x57
_READ_EVERY_S = 0.5  # reading a loss waits for the device, so it is not read at every step


@dataclass(eq=False)
class Fit:
    """One training of one network; `run` continues it from its last checkpoint to its end.

    Attributes:
        inputs: the splits `train` and `val`.
        recipe: the settings of the training; `precision` is not `auto` any more.
        seed: the seed of order, views and dropout.
        eval_batch_size: the number of images in a forward pass of a validation.
        stop: the request to stop, read before every step and every batch of a validation.
        progress: whether to show a bar where somebody watches.
    """

    network: Network
    inputs: Mapping[str, Inputs]
    recipe: Recipe
    objective: Objective
    checkpoints: Checkpoints
    seed: int
    eval_batch_size: int
    stop: StopRequest
    progress: bool = True

    def __post_init__(self) -> None:
        network, recipe = self.network, self.recipe
        self.train, self.val = self.inputs["train"], self.inputs["val"]
        if recipe.channels_last:
            network.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.parameters = [p for p in network.model.parameters() if p.requires_grad]
        self.optimizer = build_optimizer(self.parameters, recipe)
        self.average = WeightAverage(network.model, recipe.ema_decay) if recipe.ema_decay else None
        self.forward = compile_trained(network.trained) if recipe.compile else network.trained
        self.batch_size = min(recipe.batch_size, len(self.train))
        self.n_steps = len(self.train) // self.batch_size  # of an epoch
        self.position = Position()

    def run(self) -> Iterator[Position]:
        """Train to the last epoch, or until patience ends, and load the best epoch's weights.

        The best epoch has the highest balanced accuracy on the validation images; a lower
        negative log-likelihood breaks a tie.

        Yields:
            The position at the start and after every epoch: always the same object.

        Raises:
            Stopped: a signal came; the state is saved.
            Diverged: the loss is not finite; the last checkpoint is as it was.
            StorageError: a checkpoint cannot be written, is damaged, or is of another run.
        """
        self.resume()
        position, recipe = self.position, self.recipe
        patience = math.inf if recipe.patience is None else recipe.patience
        n_bytes = sum(p.numel() * p.element_size() for p in self.parameters)
        self.checkpoints.start_clock(4 * n_bytes)  # weights, two moments, the best weights
        self.network.model.train()
        self.network.trained.train()
        yield position
        while (
            position.epoch <= recipe.epochs
            and len(position.history) - position.best_epoch < patience
        ):
            self.train_epoch()
            self.validate()
            if self.checkpoints.is_cheap():
                self.save()
            yield position
        self.network.load(position.best_weights)

    # ---- one epoch ------------------------------------------------------------------------------

    def train_epoch(self) -> None:
        """Make the updates of the epoch that are not made yet."""
        position = self.position
        batches, rates, seeds = self.plan_epoch()
        started = read = time.monotonic()
        earlier_s = position.epoch_s
        exact = torch.float32 if self.train.device.type == "mps" else torch.float64
        total = torch.full((), position.loss_sum, dtype=exact, device=self.train.device)
        progress_bar = tqdm(
            total=self.n_steps * self.batch_size,
            initial=position.step * self.batch_size,
            desc=f"epoch {position.epoch}/{self.recipe.epochs}",
            unit="img",
            leave=False,
            disable=None if self.progress else True,  # None: hidden where nobody watches
        )
        with progress_bar as bar, expect(self.train, batches[position.step :]):
            while position.step < self.n_steps:
                now = time.monotonic()
                position.epoch_s = earlier_s + now - started
                if self.stop or self.checkpoints.is_overdue():
                    position.loss_sum = _read_finite(total, position)
                    self.save()
                    self.stop.check()
                step = position.step
                total += self.step(batches[step], rates[step], seeds[step])
                position.step += 1
                bar.update(self.batch_size)
                if now - read > _READ_EVERY_S:
                    numbers = {"loss": f"{_read_finite(total, position) / position.step:.3f}"}
                    if position.best_epoch:
                        numbers["best_val"] = f"{position.best['val/balanced_accuracy']:.3f}"
                    bar.set_postfix(numbers)
                    read = now
        position.loss_sum = _read_finite(total, position)
        position.epoch_s = earlier_s + time.monotonic() - started

    def plan_epoch(self) -> tuple[np.ndarray, list[float], list[int]]:
        """Return what the steps of the epoch read: a function of the seed and the epoch alone.

        Returns:
            Batches, (n_steps, B) positions in the training split. What is left of the split after
            the last whole batch is not shown; it is another part in every epoch.
            The n_steps learning rates.
            The n_steps seeds of the draws of dropout, so that no generator state is saved.
        """
        epoch, n_steps, recipe = self.position.epoch, self.n_steps, self.recipe
        order = make_order(self.train.keys, seed=self.seed, epoch=epoch)
        steps = np.arange((epoch - 1) * n_steps, epoch * n_steps, dtype=np.uint64)
        rates = [
            compute_lr(
                step,
                peak=recipe.lr,
                n_steps=recipe.epochs * n_steps,
                n_warmup_steps=round(recipe.warmup_epochs * n_steps),
                final_fraction=recipe.final_lr_fraction,
            )
            for step in steps.tolist()
        ]
        seeds = mix(steps, self.seed, 0, _STEP_STREAM) >> np.uint64(1)
        batches = order[: n_steps * self.batch_size].reshape(n_steps, self.batch_size)
        return batches, rates, seeds.tolist()

    def step(self, rows: np.ndarray, lr: float, seed: int) -> Tensor:
        """Make one update and return its loss, without waiting for the device.

        Args:
            rows: (B,) positions in the training split.
            seed: the seed of what the network draws.
        """
        recipe, position = self.recipe, self.position
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        # torch.manual_seed would log a traceback for every kind of device that is missing.
        is_on_cpu = self.train.device.type == "cpu"
        (torch.default_generator if is_on_cpu else torch).manual_seed(seed)
        inputs, labels = make_train_batch(
            self.train,
            rows,
            seed=self.seed,
            epoch=position.epoch,
            augment=recipe.augment,
            n_views=recipe.views,
        )
        with autocast(self.train.device, recipe.precision):
            logits = self.forward(inputs)
        loss = self.objective.compute_loss(logits.float(), labels)
        loss.backward()
        if recipe.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.parameters, recipe.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update((position.epoch - 1) * self.n_steps + position.step)
        return loss.detach()

    def validate(self) -> None:
        """Score the epoch on the validation images, record it, and keep it if it is the best."""
        position = self.position
        try:
            with self.average.in_place() if self.average else nullcontext():
                logits = compute_logits(
                    self.network.trained,
                    self.val,
                    batch_size=self.eval_batch_size,
                    precision=self.recipe.precision,
                    check_stop=self.stop.check,
                )
                truth = self.val.labels.cpu().numpy()
                self._record(compute_selection(self.objective.task, logits, truth))
        except Stopped:
            self.save()  # with the trained weights back in place
            raise
        position.epoch, position.step = position.epoch + 1, 0
        position.loss_sum, position.epoch_s = 0.0, 0.0

    def _record(self, scores: dict[str, float]) -> None:
        """Record an epoch while the weights that were scored are in place."""
        position = self.position
        n_images = self.n_steps * self.batch_size
        position.history.append(
            {
                "epoch": position.epoch,
                "step": position.epoch * self.n_steps,
                "lr": self.optimizer.param_groups[0]["lr"],
                "train/loss": position.loss_sum / self.n_steps,
                **{f"val/{name}": value for name, value in scores.items()},
                "train_s": round(position.epoch_s, 3),
                "images_per_s": round(n_images / max(position.epoch_s, 1e-9), 1),
            }
        )
        rank = rank_epoch(position.history[-1])
        if position.best_epoch == 0 or rank > rank_epoch(position.best):
            position.best_epoch = position.epoch
            position.best_weights = {n: t.clone() for n, t in self.network.state().items()}

    # ---- checkpoints ----------------------------------------------------------------------------

    def save(self) -> None:
        """Write a checkpoint of where the training stands."""
        self.checkpoints.save(
            {
                "position": vars(self.position),
                "model": self.network.state(),
                "updates": self.optimizer.state_dict(),
                "average": self.average.average if self.average else {},
            }
        )

    def resume(self) -> None:
        """Take over the last checkpoint, if there is one. Raises StorageError."""
        state = self.checkpoints.load()
        if state is None:
            return
        self.network.load(state["model"])
        self.optimizer.load_state_dict(state["updates"])
        self.position = Position(**state["position"])
        log.info("resuming in epoch %d after %d steps", self.position.epoch, self.position.step)
        if self.average is not None:
            self.average.load(state["average"])


def _read_finite(total: Tensor, position: Position) -> float:
    value = total.item()
    if not math.isfinite(value):
        raise Diverged(
            f"the loss is {value} in epoch {position.epoch} by step {position.step}. Lower "
            "train.lr, lengthen train.warmup_epochs, or set train.precision=fp32."
        )
    return value
