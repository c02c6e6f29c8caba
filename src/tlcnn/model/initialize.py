"""Copying units 1..k of a source into a fresh network; the rest keeps its own draw."""

from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tlcnn.errors import WeightsError, list_names
from tlcnn.model.checkpoint_file import State
from tlcnn.model.match import COUNTER, describe_misfit
from tlcnn.model.unit_map import UnitMap
from tlcnn.storage import digest_of


@dataclass(frozen=True)
class InitReport:
    """What `apply_source` did, by tensor name.

    Attributes:
        loaded: tensors of the model that are the source's now.
        fresh: tensors of the model that keep their own draw.
        skipped: tensors of the source that were not used, each with the reason.
    """

    loaded: tuple[str, ...]
    fresh: tuple[str, ...]
    skipped: tuple[str, ...]

    def describe(self) -> str:
        """Return one line for the log.

        Example:
            >>> InitReport(("a.weight",), ("fc.weight",), ("fc.weight (head)",)).describe()
            'tensors: 1 from the source, 1 fresh; of the source unused: 1 head'
        """
        text = f"tensors: {len(self.loaded)} from the source, {len(self.fresh)} fresh"
        reasons = Counter(entry.split(" (", 1)[1].rstrip(")") for entry in self.skipped)
        unused = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
        return f"{text}; of the source unused: {unused}" if unused else text


def apply_source(
    model: nn.Module, unit_map: UnitMap, state: State, n_transferred: int
) -> InitReport:
    """Copy the parameters and buffers of units 1..k from a state, bit for bit, in place.

    Args:
        model: a fresh network; changed in place.
        unit_map: its units.
        state: the source, in the model's names (see `match_names`).
        n_transferred: k, from 0 (nothing is copied) to the number of units.

    Raises:
        WeightsError: a tensor of units 1..k is missing, mis-shaped, of another kind of number or
            not finite. The model is then as it was. A batch counter may be missing: it stays 0.
    """
    own = model.state_dict()  # shares storage with the model
    wanted = [name for name in unit_map.tensors_of(1, n_transferred) if name in own]
    needed = {n: own[n].shape for n in wanted if n in state or not n.endswith(COUNTER)}
    _check_fits(state, own, needed, unit_map.model)
    with torch.no_grad():
        for name in needed:
            own[name].copy_(state[name])
    return InitReport(
        loaded=tuple(needed),
        fresh=tuple(name for name in own if name not in needed),
        skipped=_explain_skipped(state, own, needed, unit_map),
    )


def draw_stats(state: State, model: nn.Module, seed: int) -> State:
    """Return a state of independent normal draws with each source tensor's mean and deviation.

    The control of Matsoukas et al. 2022 (arXiv:2203.01825, "stats transfer"): what is left of a
    transfer when only the scale of the weights is. A tensor's draw depends on the seed and its
    name alone, so it is the same in every cell. Running statistics of norm layers describe
    activations that these weights no longer produce: they are the fresh model's.

    Args:
        state: the source, in the model's names (see `match_names`).
        model: a fresh network, for its buffers.
        seed: of the run.
    """
    buffers = dict(model.named_buffers())
    drawn = {}
    for name, value in state.items():
        if name in buffers:
            drawn[name] = buffers[name].detach().clone()
            continue
        generator = torch.Generator().manual_seed(int(digest_of(["stats", seed, name], 15), 16))
        noise = torch.randn(value.shape, generator=generator, dtype=torch.float64)
        exact = value.detach().to(torch.float64)
        drawn[name] = (exact.mean() + exact.std(correction=0) * noise).to(value.dtype)
    return drawn


def check_transfer(model: nn.Module, unit_map: UnitMap, state: State, n_transferred: int) -> None:
    """Check that units 1..k of a model still equal the source, bit for bit.

    Raises:
        WeightsError: a tensor differs; names the first ones.
    """
    own = model.state_dict()
    names = [n for n in unit_map.tensors_of(1, n_transferred) if n in own and n in state]
    moved = [n for n in names if not torch.equal(own[n].cpu(), state[n].to(own[n].dtype).cpu())]
    if moved:
        raise WeightsError(
            f"{len(moved)} of {len(names)} transferred tensors of {unit_map.model} differ from "
            f"the source: {list_names(moved)}"
        )


def _check_fits(
    state: State, own: State, needed: dict[str, torch.Size], architecture: str
) -> None:
    if any(name not in state or state[name].shape != shape for name, shape in needed.items()):
        raise WeightsError(describe_misfit(state, needed, architecture))
    kinds = [n for n in needed if state[n].is_floating_point() != own[n].is_floating_point()]
    if kinds:
        raise WeightsError(
            f"{len(kinds)} tensors for {architecture} hold another kind of number "
            f"({kinds[0]}: {state[kinds[0]].dtype} instead of {own[kinds[0]].dtype}): "
            f"{list_names(kinds)}. Quantised weights cannot be used."
        )
    broken = [n for n in needed if not _is_finite(state[n])]
    if broken:
        raise WeightsError(
            f"{len(broken)} tensors of this source are not finite: {list_names(broken)}. The "
            f"training that made it diverged; use an earlier checkpoint."
        )


def _is_finite(tensor: Tensor) -> bool:
    # What is not finite makes the sum so, which is quick; a sum may also merely overflow.
    return bool(torch.isfinite(tensor.sum())) or bool(torch.isfinite(tensor).all())


def _explain_skipped(
    state: State, own: State, needed: dict[str, torch.Size], unit_map: UnitMap
) -> tuple[str, ...]:
    head, units = set(unit_map.head), set(unit_map.tensors_of(1, len(unit_map)))
    return tuple(f"{name} ({_reason(name, head, units)})" for name in state if name not in needed)


def _reason(name: str, head: set[str], units: set[str]) -> str:
    if name in head:
        return "head"
    return "above the transferred units" if name in units else "not in this model"
