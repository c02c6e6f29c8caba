"""One update of a network, as a function of values whose shapes never change."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from tlcnn.data.feed import Feed, Values
from tlcnn.data.mixing import apply_mix, get_partners
from tlcnn.training.compiling import compile_trained
from tlcnn.training.evaluate import autocast
from tlcnn.training.optim import (
    WeightAverage,
    build_optimizer,
    load_optimizer,
    make_groups,
    make_rates,
)
from tlcnn.training.recipe import Recipe
from tlcnn.training.recorder import Graph, Recorder
from tlcnn.training.state import Network
from tlcnn.training.tasks import Objective


class Updates:
    """What makes the updates of a network: its optimiser and the average of its weights.

    An update reads what changes from its values alone and never waits for the device, so that a
    GPU can record it.

    Args:
        open_graph: as in `Recorder`.

    Attributes:
        loss_sum: the sum of the losses of the updates since it was set, a scalar on the device.
    """

    def __init__(
        self,
        network: Network,
        recipe: Recipe,
        objective: Objective,
        device: torch.device,
        open_graph: Callable[[], Graph] | None,
    ) -> None:
        self.network, self.recipe, self.objective = network, recipe, objective
        self.device = device
        trained = {n: p for n, p in network.model.named_parameters() if p.requires_grad}
        self.parameters = list(trained.values())
        self.groups = make_groups(trained, recipe, network.factors, network.starts)
        self.rates = make_rates(len(self.groups), device)
        self.optimizer = build_optimizer(self.groups, recipe, self.rates)
        self.average = WeightAverage(network.model, recipe.ema_decay) if recipe.ema_decay else None
        self.forward = compile_trained(network.trained) if recipe.compile else network.trained
        exact = torch.float32 if device.type == "mps" else torch.float64
        self.loss_sum = torch.zeros((), dtype=exact, device=device)
        # A recorded backward pass then writes gradients into new memory instead of adding.
        clear = partial(self.optimizer.zero_grad, set_to_none=True)
        self._recorder = Recorder(open_graph, clear=clear)

    def schedule(self, rates: Sequence[float], first: int) -> dict[str, Tensor]:
        """Return, for the updates of an epoch, the values that follow from their numbers.

        Args:
            rates: their learning rates, (n,).
            first: the number of updates before them.

        Returns:
            Tensors (n, ...) by the names under which `run` expects their elements.
        """
        factors = torch.tensor([group.factor for group in self.groups], dtype=torch.float64)
        by_group = torch.tensor(rates, dtype=torch.float64)[:, None] * factors  # (n, G)
        values = {"rates": by_group.to(self.rates.device, self.rates.dtype)}
        if self.network.starts:
            pull = self.recipe.anchor * by_group
            values["pulls"] = (pull / (1 + pull)).to(self.device, torch.float32)
        if self.average is not None:
            weights = [self.average.compute_weight(first + n) for n in range(len(rates))]
            values["average_weight"] = torch.tensor(weights, device=self.device)
        return values

    def run(self, feed: Feed, batches: Sequence[Values], values: Values) -> None:
        """Make one update, without waiting for the device.

        Args:
            feed: makes the inputs of the values of a batch.
            batches: of each batch whose gradient counts, the values of the feed, `labels` (B,) or
                (B, K), and where images are mixed `mix`, a row of `draw_mixes`.
            values: the elements of what `schedule` returned.
        """

        def update(values: Values) -> None:
            self.rates.copy_(values["rates"])
            parts = [_pick(values, f"{number}/") for number in range(len(batches))]
            if len(parts) > 1:
                weights = [self.objective.compute_weight(part["labels"]) for part in parts]
                total = torch.stack(weights).sum()
            for number, part in enumerate(parts):
                loss = self._compute_loss(feed, part)
                if len(parts) > 1:  # so that their sum is the mean loss of all images
                    loss = loss * (weights[number] / total)
                loss.backward()
                self.loss_sum.add_(loss.detach())
            if self.recipe.clip_norm is not None:
                nn.utils.clip_grad_norm_(self.parameters, self.recipe.clip_norm)
            self.optimizer.step()
            if "pulls" in values:
                for group, pull in zip(self.groups, values["pulls"], strict=True):
                    group.pull(pull)
            if self.average is not None:
                self.average.update(values["average_weight"])

        by_batch = {f"{n}/{name}": v for n, part in enumerate(batches) for name, v in part.items()}
        self._recorder.run(update, {**by_batch, **values}, feed.key)

    def _compute_loss(self, feed: Feed, values: Values) -> Tensor:
        """Return the mean loss of a batch, a scalar."""
        inputs, labels = feed.make(values), values["labels"]
        if "mix" in values:
            inputs, weight = apply_mix(inputs, values["mix"])
        with autocast(self.device, self.recipe.precision):
            logits = self.forward(inputs)
        loss = self.objective.compute_loss(logits.float(), labels)
        if "mix" not in values:
            return loss
        partner_loss = self.objective.compute_loss(logits.float(), get_partners(labels))
        return weight * loss + (1 - weight) * partner_loss

    def forget(self) -> None:
        """Drop the recording, which refers to the network and would outlive the run."""
        self._recorder.forget()

    def state(self) -> dict[str, Any]:
        """Return what updates change beside the network."""
        average = self.average.average if self.average else {}
        return {"updates": self.optimizer.state_dict(), "average": average}

    def load(self, state: dict[str, Any]) -> None:
        """Take over what `state` returned."""
        load_optimizer(self.optimizer, state["updates"], self.rates)
        if self.average is not None:
            self.average.load(state["average"])


def _pick(values: Values, prefix: str) -> Values:
    """Return the values whose names have a prefix, under their names without it."""
    return {k.removeprefix(prefix): v for k, v in values.items() if k.startswith(prefix)}
