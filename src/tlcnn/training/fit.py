"""The loop: epochs of updates, each followed by a validation and, when due, a checkpoint.

A training is a generator: between two turns of it other trainings of the process may go on.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from tqdm import tqdm

from tlcnn.data.batches import Inputs, expect, take_labels
from tlcnn.data.feed import pick_values
from tlcnn.data.policy import find_policy
from tlcnn.device import send
from tlcnn.errors import Diverged, Stopped
from tlcnn.statistics.metrics import compute_selection, rank_epoch
from tlcnn.text import find_bar_setting
from tlcnn.training.checkpoint import Checkpoints
from tlcnn.training.curve import Curve, Report
from tlcnn.training.epoch_plan import make_epoch_plan
from tlcnn.training.evaluate import start_logits
from tlcnn.training.interrupt import StopRequest
from tlcnn.training.lane import Lane, seed_generators
from tlcnn.training.optim import compute_rates
from tlcnn.training.phase import Phase, apply_modes, find_phase
from tlcnn.training.recipe import Recipe
from tlcnn.training.recorder import Recorder, find_graph
from tlcnn.training.state import Network, Position
from tlcnn.training.steps import divide_epoch
from tlcnn.training.tasks import Objective
from tlcnn.training.turns import Turn
from tlcnn.training.update import Updates

log = logging.getLogger(__name__)

_READ_EVERY_S = 0.5  # reading a loss waits for the device, so it is not read at every step


@dataclass(eq=False)
class Fit:
    """One training of one network; `run` continues it from its last checkpoint to its end.

    Attributes:
        inputs: the splits `train` and `val`.
        recipe: the settings of the training; `precision` is not `auto` any more.
        phases: one or more, which together are all epochs.
        seed: the seed of order, views and dropout.
        eval_batch_size: the number of images in a forward pass of a validation.
        stop: the request to stop, read before every step and every batch of a validation.
        lane: the lane in which the turns of `run` are made.
        progress: whether to show a bar where somebody watches.
        records: whether a GPU records updates and validations instead of calling them.
        until_epoch: pause after this epoch; None: train to the end.
        report: takes the points of the curve of the training; None: there is no curve.
    """

    network: Network
    inputs: Mapping[str, Inputs]
    recipe: Recipe
    objective: Objective
    phases: Sequence[Phase]
    checkpoints: Checkpoints
    seed: int
    eval_batch_size: int
    stop: StopRequest
    lane: Lane
    progress: bool = True
    records: bool = True
    until_epoch: int | None = None
    report: Report | None = None

    def __post_init__(self) -> None:
        network, recipe = self.network, self.recipe
        self.train, self.val = self.inputs["train"], self.inputs["val"]
        if recipe.channels_last:
            network.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        device = self.train.device
        self._open_graph = find_graph(device) if self.records else None
        self._parameters = {n: p for n, p in network.model.named_parameters() if p.requires_grad}
        self.evaluator = Recorder(self._open_graph)
        steps = divide_epoch(len(self.train), recipe.batch_size, recipe.accumulate)
        self.batch_size, self.n_steps = steps.batch_size, steps.n_steps
        self.n_images = self.batch_size * recipe.accumulate  # of an update
        n_steps = recipe.epochs * self.n_steps
        self.curve = Curve(self.report, n_steps=n_steps, n_images=self.n_images)
        self.position = Position()
        self._begin_phase(self.phases[0])

    def run(self) -> Iterator[Turn]:
        """Train to the last epoch, or until patience ends, and load the best epoch's weights.

        After `until_epoch` it pauses instead, with a checkpoint from which it goes on later.

        The best epoch has the best score on the validation images, by the metric `select` of the
        recipe; a lower negative log-likelihood breaks a tie.

        Yields:
            EPOCH at the start and after every epoch, and other turns between.

        Raises:
            Stopped: a signal came; the state is saved.
            Diverged: the loss is not finite; the last checkpoint is as it was.
            StorageError: a checkpoint cannot be written, is damaged, or is of another run.
        """
        self.resume()
        position = self.position
        n_bytes = sum(p.numel() * p.element_size() for p in self._parameters.values())
        self.checkpoints.start_clock(4 * n_bytes)  # weights, two moments, the best weights
        self.network.model.train()
        apply_modes(self.network.trained, self.phase)
        yield Turn.EPOCH
        try:
            while not (self.is_over or self.is_paused):
                yield from self.train_epoch()
                yield from self.validate()
                self._follow_phases()
                if self.checkpoints.is_cheap():
                    self.save()
                yield Turn.EPOCH
        finally:  # the memory of a GPU is free for other runs
            self.updates.forget()
            self.evaluator.forget()
        if self.is_paused:
            self.save()
        else:
            self.network.load(position.best_weights)

    @property
    def n_updates(self) -> int:
        """The updates of the training so far."""
        return (self.position.epoch - 1) * self.n_steps + self.position.step

    @property
    def is_over(self) -> bool:
        """Whether there is no epoch left, or patience has ended."""
        position, recipe = self.position, self.recipe
        n_before = self.phases[-1].first - 1  # patience counts in the last phase
        n_without_gain = len(position.history) - max(position.best_epoch, n_before)
        patience = math.inf if recipe.patience is None else recipe.patience
        return position.epoch > recipe.epochs or n_without_gain >= patience

    @property
    def is_paused(self) -> bool:
        """Whether the training ends here for now, and goes on later."""
        until = self.until_epoch
        return until is not None and self.position.epoch > until and not self.is_over

    def _follow_phases(self) -> None:
        """Begin the phase of the position's epoch, unless it is the current one."""
        phase = find_phase(self.phases, self.position.epoch)
        if phase is not self.phase:
            self.updates.forget()  # what it has recorded trains other tensors
            self._begin_phase(phase)
        apply_modes(self.network.trained, self.phase)

    def _begin_phase(self, phase: Phase) -> None:
        """Train the tensors of a phase with a fresh optimiser, average and recording."""
        self.phase = phase
        for name, parameter in self._parameters.items():
            parameter.requires_grad_(name not in phase.resting)
        device = self.train.device
        self.updates = Updates(self.network, self.recipe, self.objective, device, self._open_graph)

    # ---- one epoch ------------------------------------------------------------------------------

    def train_epoch(self) -> Iterator[Turn]:
        """Make the updates of the epoch that are not made yet."""
        position, updates = self.position, self.updates
        if position.step == self.n_steps:  # stopped in the validation
            return
        started = read = time.monotonic()
        recipe, n_parts = self.recipe, self.recipe.accumulate
        rates = self.compute_rates()
        batches, make_update = self.open_epoch(rates)
        updates.loss_sum.fill_(position.loss_sum)
        self.curve.begin(self.n_updates, updates.loss_sum)
        earlier_s = position.epoch_s
        progress_bar = tqdm(
            total=self.n_steps * self.n_images,
            initial=position.step * self.n_images,
            desc=f"epoch {position.epoch}/{recipe.epochs}",
            unit="img",
            leave=False,
            disable=find_bar_setting(self.progress),
        )
        with progress_bar as bar, expect(self.train, batches[position.step * n_parts :]):
            while position.step < self.n_steps:
                now = time.monotonic()
                position.epoch_s = earlier_s + now - started
                if self.stop or self.checkpoints.is_overdue():
                    self._read_loss()
                    self.save()
                    self.stop.check()
                make_update(position.step)
                position.step += 1
                self.curve.add(self.n_updates, updates.loss_sum, rates[position.step - 1])
                bar.update(self.n_images)
                if now - read > _READ_EVERY_S:
                    numbers = {"loss": f"{self._read_loss() / position.step:.3f}"}
                    if position.best_epoch:
                        numbers["best_val"] = f"{position.best[f'val/{recipe.select}']:.3f}"
                    bar.set_postfix(numbers)
                    read = now
                yield Turn.STEP
            yield from self._wait()
        self._read_loss()
        position.epoch_s = earlier_s + time.monotonic() - started

    def open_epoch(self, rates: Sequence[float]) -> tuple[np.ndarray, Callable[[int], None]]:
        """Return the batches of the epoch, and what makes its n-th update, counted from 0.

        Updates are made in order.

        Args:
            rates: the learning rates of the first updates, or of all.

        Returns:
            (n, B) positions in the training split, and the function that makes an update.
        """
        updates, recipe, n_parts = self.updates, self.recipe, self.recipe.accumulate
        plan = make_epoch_plan(
            self.train,
            recipe,
            seed=self.seed,
            epoch=self.position.epoch,
            batch_size=self.batch_size,
            n_steps=self.n_steps,
        )
        feed = self.train.feed_views(
            plan.batches,
            seed=self.seed,
            epoch=self.position.epoch,
            augment=find_policy(recipe.augment, recipe.erase, recipe.augment_ranges),
            n_views=recipe.views,
            repeats=plan.repeats,
        )
        n_earlier = (self.position.epoch - self.phase.first) * self.n_steps
        values = updates.schedule(rates, n_earlier)
        by_batch = {"labels": take_labels(self.train, plan.batches)}
        if plan.mixes is not None:
            by_batch["mix"] = send(torch.from_numpy(plan.mixes), self.train.device)

        def make_update(step: int) -> None:
            seed_generators(self.train.device, plan.seeds[step])
            parts = [
                {**feed.get(number), **pick_values(by_batch, number)}
                for number in range(step * n_parts, (step + 1) * n_parts)
            ]
            updates.run(feed, parts, pick_values(values, step))

        return plan.batches, make_update

    def compute_rates(self) -> list[float]:
        """Return the n_steps learning rates of the epoch."""
        epoch = self.position.epoch
        return compute_rates(self.recipe, self.phase, epoch=epoch, n_steps=self.n_steps)

    def validate(self) -> Iterator[Turn]:
        """Score the epoch on the validation images, record it, and keep it if it is the best."""
        position, average = self.position, self.updates.average
        try:
            with average.in_place() if average else nullcontext():
                logits = start_logits(
                    self.network.trained,
                    self.val,
                    batch_size=self.eval_batch_size,
                    precision=self.recipe.precision,
                    check_stop=self.stop.check,
                    recorder=self.evaluator,
                )
                yield from self._wait()
                truth = self.val.labels.cpu().numpy()
                scores = compute_selection(
                    self.objective.task, logits.cpu().numpy(), truth, self.recipe.select
                )
                self._record(scores)
        except Stopped:
            self.save()  # with the trained weights back in place
            raise
        position.epoch, position.step = position.epoch + 1, 0
        position.loss_sum, position.epoch_s = 0.0, 0.0

    def _wait(self) -> Iterator[Turn]:
        while not self.lane.is_idle():
            yield Turn.WAIT

    def _record(self, scores: dict[str, float]) -> None:
        """Record an epoch while the weights that were scored are in place."""
        position = self.position
        n_images = self.n_steps * self.n_images
        position.history.append(
            {
                "epoch": position.epoch,
                "step": position.epoch * self.n_steps,
                "lr": self.compute_rates()[-1],
                "train/loss": position.loss_sum / self.n_steps,
                **{f"val/{name}": value for name, value in scores.items()},
                "train_s": round(position.epoch_s, 3),
                "images_per_s": round(n_images / max(position.epoch_s, 1e-9), 1),
            }
        )
        rank = partial(rank_epoch, select=self.recipe.select)
        if position.best_epoch == 0 or rank(position.history[-1]) > rank(position.best):
            position.best_epoch = position.epoch
            position.best_weights = {n: t.clone() for n, t in self.network.state().items()}

    # ---- checkpoints ----------------------------------------------------------------------------

    def save(self) -> None:
        """Write a checkpoint of where the training stands."""
        self.checkpoints.save(
            {
                "position": vars(self.position),
                "model": self.network.state(),
                **self.updates.state(),
            }
        )

    def resume(self) -> None:
        """Take over the last checkpoint, if there is one. Raises StorageError."""
        state = self.checkpoints.load()
        if state is None:
            return
        self.network.load(state["model"])
        self.position = Position(**state["position"])
        self._follow_phases()
        self.updates.load(state)
        log.info("resuming in epoch %d after %d steps", self.position.epoch, self.position.step)

    def _read_loss(self) -> float:
        """Return the sum of the losses of this epoch, when the device has computed it.

        Raises:
            Diverged: it is not finite.
        """
        position = self.position
        self.curve.flush()
        value = self.updates.loss_sum.item()
        if not math.isfinite(value):
            raise Diverged(
                f"the loss is {value} in epoch {position.epoch} by step {position.step}. Lower "
                "train.lr, lengthen train.warmup_epochs, or set train.precision=fp32."
            )
        position.loss_sum = value
        return value
