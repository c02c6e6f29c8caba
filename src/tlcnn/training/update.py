"""One update of a network, as a function of values whose shapes never change."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from tlcnn.data.feed import Feed, Values
from tlcnn.training.compiling import compile_trained
from tlcnn.training.evaluate import autocast
from tlcnn.training.optim import WeightAverage, build_optimizer, load_optimizer, make_rate
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
        self.parameters = [p for p in network.model.parameters() if p.requires_grad]
        self.rate = make_rate(device)
        self.optimizer = build_optimizer(self.parameters, recipe, self.rate)
        self.average = WeightAverage(network.model, recipe.ema_decay) if recipe.ema_decay else None
        self.forward = compile_trained(network.trained) if recipe.compile else network.trained
        exact = torch.float32 if device.type == "mps" else torch.float64
        self.loss_sum = torch.zeros((), dtype=exact, device=device)
        # A recorded backward pass then writes gradients into new memory instead of adding.
        clear = partial(self.optimizer.zero_grad, set_to_none=True)
        self._recorder = Recorder(open_graph, clear=clear)

    def schedule(self, rates: list[float], first: int) -> dict[str, Tensor]:
        """Return, for the updates of an epoch, the values that follow from their numbers.

        Args:
            rates: their learning rates, (n,).
            first: the number of updates before them.

        Returns:
            Tensors (n,) by the names under which `run` expects their elements.
        """
        values = {"rate": torch.tensor(rates, dtype=self.rate.dtype, device=self.rate.device)}
        if self.average is not None:
            weights = [self.average.compute_weight(first + n) for n in range(len(rates))]
            values["average_weight"] = torch.tensor(weights, device=self.device)
        return values

    def run(self, feed: Feed, values: Values) -> None:
        """Make one update, without waiting for the device.

        Args:
            feed: makes the inputs of the values.
            values: those of the feed, `labels` (B,) or (B, K), `rate`, a scalar, and with an
                average of weights `average_weight`, a scalar.
        """

        def update(values: Values) -> None:
            self.rate.copy_(values["rate"])
            inputs = feed.make(values)
            with autocast(self.device, self.recipe.precision):
                logits = self.forward(inputs)
            loss = self.objective.compute_loss(logits.float(), values["labels"])
            loss.backward()
            if self.recipe.clip_norm is not None:
                nn.utils.clip_grad_norm_(self.parameters, self.recipe.clip_norm)
            self.optimizer.step()
            if self.average is not None:
                self.average.update(values["average_weight"])
            self.loss_sum.add_(loss.detach())

        self._recorder.run(update, values, feed.key)

    def forget(self) -> None:
        """Drop the recording, which refers to the network and would outlive the run."""
        self._recorder.forget()

    def state(self) -> dict[str, Any]:
        """Return what updates change beside the network."""
        average = self.average.average if self.average else {}
        return {"updates": self.optimizer.state_dict(), "average": average}

    def load(self, state: dict[str, Any]) -> None:
        """Take over what `state` returned."""
        load_optimizer(self.optimizer, state["updates"], self.rate)
        if self.average is not None:
            self.average.load(state["average"])
