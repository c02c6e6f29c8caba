"""The network of a run before its first step: drawn from the seed, then units transferred."""

import copy
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tlcnn.errors import ConfigError
from tlcnn.memory import Memory
from tlcnn.model.build import build_model, find_input_size
from tlcnn.model.checkpoint_file import State, load_state
from tlcnn.model.initialize import InitReport, apply_source, check_transfer, draw_stats
from tlcnn.model.match import match_names
from tlcnn.model.truncate import truncate_network
from tlcnn.model.weights import WeightsFile
from tlcnn.plan.plan import Plan, recall_unit_map
from tlcnn.records.folder import RunDir
from tlcnn.records.weights import load_run_weights

log = logging.getLogger(__name__)

_DRAWS_BYTES = 2**28  # of drawn networks that a process keeps


@dataclass(frozen=True)
class InitialNetwork:
    """A network before its first step, on the CPU, and which tensors came from the source."""

    model: nn.Module
    report: InitReport


def build_initial_network(plan: Plan, memory: Memory | None = None) -> InitialNetwork:
    """Build the network of a plan and check that images of the plan's size get through it.

    The whole network is drawn from the seed first, and transferred units are overwritten then, so
    a fresh unit is the same in every cell of a seed. Units are dropped last.

    Raises:
        WeightsError: the source's weights are broken, unsafe or do not fit.
        ConfigError: images of this size do not get through the network, or it cannot be truncated.
    """
    memory = memory or Memory()
    cell, weights, seed = plan.treatment, plan.treatment.weights, plan.config.seed
    whole = recall_unit_map(plan.config, memory)
    model = _draw_network(plan, memory)
    report = InitReport((), tuple(model.state_dict()))
    if weights is not None and weights.path is not None:
        state = match_names(_load_source(weights, weights.path, memory), model, whole)
        if cell.source == "stats":
            state = draw_stats(state, model, seed)
        units = cell.transferred
        report = apply_source(model, whole, state, units, has_head=cell.has_head)
        if cell.above == "stats":
            above = range(units[-1] + 1, len(whole) + 1)
            apply_source(model, whole, draw_stats(state, model, seed), above)
        check_transfer(model, whole, state, units)
        log.info("from %s: %s", weights.origin, report.describe())
    truncate_network(model, plan.unit_map, seed)
    size = plan.config.dataset.image_size
    key = (plan.config.model.name, len(plan.unit_map), size)
    memory.recall("fitting size", key, lambda: _check_input_size(model, size))
    tensors = model.state_dict()
    return InitialNetwork(
        model, replace(report, fresh=tuple(n for n in report.fresh if n in tensors))
    )


def has_weights(plan: Plan) -> bool:
    """Return whether the source's weights exist; those of a run that is only planned may not."""
    weights = plan.treatment.weights
    if weights is None or weights.path is None:
        return weights is None
    return weights.path.is_file() and (not weights.is_run or RunDir(weights.path.parent).is_done)


def _draw_network(plan: Plan, memory: Memory) -> nn.Module:
    """Return the network that the plan's seed draws: a copy, because one draw serves all cells."""
    cfg = plan.config.model
    options: dict[str, Any] = {
        "n_classes": len(plan.dataset.index.classes),
        "seed": plan.config.seed,
        "drop_rate": cfg.drop_rate,
        "drop_path_rate": cfg.drop_path_rate,
    }
    n_bytes = 4 * sum(unit.n_params for unit in plan.unit_map.units)
    drawn = memory.recall(
        "drawn",
        (cfg.name, *options.values()),
        lambda: build_model(cfg.name, **options),
        n_kept=min(64, max(1, _DRAWS_BYTES // max(1, n_bytes))),
    )
    return copy.deepcopy(drawn)


def _load_source(weights: WeightsFile, path: Path, memory: Memory) -> State:
    """Return the tensors of a file of weights, which the cells of a source read once."""

    def load() -> State:
        if weights.is_run:
            return load_run_weights(path.parent)
        return load_state(path, sha256=weights.digest)

    key = (str(path), path.stat().st_mtime_ns if path.is_file() else 0, weights.digest)
    return memory.recall("state", key, load, n_kept=1)


def _check_input_size(model: nn.Module, image_size: int) -> None:
    was_training = model.training
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, 3, image_size, image_size))
    except (RuntimeError, ValueError, AssertionError) as error:  # as a fixed window raises
        raise ConfigError(
            f"this network cannot take images of {image_size} px ({str(error).splitlines()[0]}). "
            f"Use dataset.image_size={find_input_size(model)[-1]}, the size that it was made for, "
            "or choose another model."
        ) from error
    finally:
        model.train(was_training)
