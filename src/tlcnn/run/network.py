"""The network of a run before its first step: the draw of its seed, and what the source gives."""

import copy
import logging
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tlcnn.errors import ConfigError
from tlcnn.memory import Memory
from tlcnn.model.build import build_model
from tlcnn.model.checkpoint_file import State, load_state
from tlcnn.model.initialize import InitReport, apply_source, check_transfer, draw_stats
from tlcnn.model.match import match_names
from tlcnn.model.weights import WeightsFile
from tlcnn.plan.plan import Plan
from tlcnn.records.folder import RunDir
from tlcnn.records.weights import load_run_weights

log = logging.getLogger(__name__)

_DRAWS_BYTES = 2**28  # of the networks that seeds have drawn, which a process keeps


@dataclass(frozen=True)
class Start:
    """A network before its first step, and what of it came from the source."""

    model: nn.Module
    report: InitReport


def build_start(plan: Plan, memory: Memory | None = None) -> Start:
    """Build the network of a plan, on the CPU, and check that it can be trained.

    Args:
        plan: of the run.
        memory: what the runs of one process share: the draw of a seed, the source's weights.

    Raises:
        WeightsError: the source's weights are broken, unsafe or do not fit.
        ConfigError: images of this size do not get through the network.
    """
    memory = memory or Memory()
    model, report = build_cell(plan, memory)
    size = plan.config.dataset.image_size
    memory.recall(
        "fitting size", (plan.config.model.name, size), lambda: check_input_size(model, size)
    )
    return Start(model, report)


def has_weights(plan: Plan) -> bool:
    """Return whether the source's weights are here; those of a planned run may not be yet."""
    weights = plan.treatment.weights
    if weights is None or weights.path is None:
        return weights is None
    return weights.path.is_file() and (not weights.is_run or RunDir(weights.path.parent).is_done)


def build_cell(plan: Plan, memory: Memory) -> tuple[nn.Module, InitReport]:
    """Return the network at its start, on the CPU, and what of it came from the source.

    The whole network is drawn from the seed first, so a fresh unit is the same in every cell.
    """
    model = _build_drawn(plan, memory)
    weights = plan.treatment.weights
    if weights is not None and weights.path is not None:
        state = match_names(_recall_state(weights, memory), model, plan.unit_map)
        if plan.treatment.source == "stats":
            state = draw_stats(state, model, plan.config.seed)
        report = apply_source(model, plan.unit_map, state, plan.treatment.k)
        check_transfer(model, plan.unit_map, state, plan.treatment.k)
        log.info("from %s: %s", weights.origin, report.describe())
        return model, report
    return model, InitReport((), tuple(model.state_dict()), ())


def _build_drawn(plan: Plan, memory: Memory) -> nn.Module:
    """Return the network as its seed draws it; cells of a seed are copies of one draw."""
    cfg = plan.config.model
    words: dict[str, Any] = {
        "n_classes": len(plan.dataset.index.classes),
        "seed": plan.config.seed,
        "drop_rate": cfg.drop_rate,
        "drop_path_rate": cfg.drop_path_rate,
    }
    key = (cfg.name, *words.values())
    n_bytes = 4 * sum(unit.n_params for unit in plan.unit_map.units)
    n_kept = min(64, max(1, _DRAWS_BYTES // max(1, n_bytes)))
    drawn = memory.recall("drawn", key, lambda: build_model(cfg.name, **words), n_kept=n_kept)
    return copy.deepcopy(drawn)


def _recall_state(weights: WeightsFile, memory: Memory) -> State:
    """Return what is in a file of weights; the cells of a source read it once."""
    path = weights.path
    assert path is not None
    key = (str(path), path.stat().st_mtime_ns if path.is_file() else 0, weights.digest)

    def load() -> State:
        return load_run_weights(path.parent) if weights.is_run else load_state(path, sha256=digest)

    digest = weights.digest
    return memory.recall("state", key, load, n_kept=1)


def check_input_size(model: nn.Module, image_size: int) -> None:
    """Raise ConfigError when images of this size do not get through the network."""
    was_training = model.training
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, 3, image_size, image_size))
    except RuntimeError as error:
        raise ConfigError(
            f"this network cannot take images of {image_size} px ({str(error).splitlines()[0]}). "
            "Raise dataset.image_size or choose another model."
        ) from error
    finally:
        model.train(was_training)
