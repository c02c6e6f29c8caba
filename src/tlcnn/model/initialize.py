"""Copy units of a source into a network with fresh weights; the other units stay fresh."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from tlcnn.errors import WeightsError, list_names
from tlcnn.model.checkpoint_file import State
from tlcnn.model.match import COUNTER, describe_misfit
from tlcnn.model.unit_map import UnitMap, Units, list_numbers
from tlcnn.storage import digest_of


@dataclass(frozen=True)
class InitReport:
    """The tensors that `apply_source` copied and did not copy, by name.

    Attributes:
        loaded: tensors of the model that were copied from the source.
        fresh: tensors of the model that keep their fresh values.
        skipped: tensors of the source that were not used, and the reasons.
    """

    loaded: tuple[str, ...]
    fresh: tuple[str, ...]
    skipped: Mapping[str, str] = field(default_factory=dict)

    def describe(self) -> str:
        """Return one line for the log.

        Example:
            >>> InitReport(("a.weight",), ("fc.weight",), {"fc.weight": "head"}).describe()
            'tensors: 1 from the source, 1 fresh; of the source unused: 1 head'
        """
        text = f"tensors: {len(self.loaded)} from the source, {len(self.fresh)} fresh"
        counts = Counter(self.skipped.values())
        unused = ", ".join(f"{count} {reason}" for reason, count in counts.items())
        return f"{text}; of the source unused: {unused}" if unused else text


def apply_source(
    model: nn.Module, unit_map: UnitMap, state: State, units: Units, *, has_head: bool = False
) -> InitReport:
    """Copy the parameters and buffers of some units from a state, bit for bit, in place.

    Args:
        state: the tensors of the source under the names of the model (see `match_names`).
        units: k for units 1..k, 0 for none, or the numbers of any units.
        has_head: whether the head is copied as well.

    Raises:
        WeightsError: a tensor to be copied is missing, has another shape or kind of number, or is
            not finite. The model is not changed then. The batch counter of a norm layer may be
            missing; it stays 0.
    """
    tensors = model.state_dict()  # shares its memory with the model
    copied = [*unit_map.tensors_in(units), *(unit_map.head if has_head else ())]
    names = [name for name in copied if name in tensors]
    needed = {n: tensors[n].shape for n in names if n in state or not n.endswith(COUNTER)}
    if any(name not in state or state[name].shape != shape for name, shape in needed.items()):
        raise WeightsError(describe_misfit(state, needed, unit_map.model))
    kinds = [n for n in needed if state[n].is_floating_point() != tensors[n].is_floating_point()]
    if kinds:
        raise WeightsError(
            f"{len(kinds)} tensors for {unit_map.model} hold another kind of number "
            f"({kinds[0]}: {state[kinds[0]].dtype} instead of {tensors[kinds[0]].dtype}): "
            f"{list_names(kinds)}. Quantised weights cannot be used."
        )
    broken = [n for n in needed if not torch.isfinite(state[n]).all()]
    if broken:
        raise WeightsError(
            f"{len(broken)} tensors of this source are not finite: {list_names(broken)}. The "
            f"training that made it diverged; use an earlier checkpoint."
        )
    with torch.no_grad():
        for name in needed:
            tensors[name].copy_(state[name])
    reasons = {name: "head" for name in unit_map.head}
    above = range(max(list_numbers(units), default=0) + 1, len(unit_map) + 1)
    reasons |= {n: "below the last transferred unit" for n in unit_map.tensors_in(len(unit_map))}
    reasons |= {n: "above the transferred units" for n in unit_map.tensors_in(above)}
    return InitReport(
        loaded=tuple(needed),
        fresh=tuple(name for name in tensors if name not in needed),
        skipped={n: reasons.get(n, "not in this model") for n in state if n not in needed},
    )


def draw_stats(state: State, model: nn.Module, seed: int) -> State:
    """Return a state of independent normal draws with each source tensor's mean and deviation.

    This is the control "stats transfer" of Matsoukas et al. 2022 (arXiv:2203.01825). It shows how
    much of a transfer is due to the scale of the weights alone. The draw of a tensor depends only
    on the seed and the tensor's name, so it is the same in every cell. Buffers, such as the
    running statistics of norm layers, are those of the fresh model: the source's statistics
    describe activations that the drawn weights do not produce.

    Args:
        state: the tensors of the source under the names of the model (see `match_names`).
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


def check_transfer(model: nn.Module, unit_map: UnitMap, state: State, units: Units) -> None:
    """Raise WeightsError unless some units of a model still equal the source, bit for bit."""
    tensors = model.state_dict()
    names = [n for n in unit_map.tensors_in(units) if n in tensors and n in state]
    expected = {name: state[name].to(tensors[name].device, tensors[name].dtype) for name in names}
    moved = [name for name in names if not torch.equal(tensors[name], expected[name])]
    if moved:
        raise WeightsError(
            f"{len(moved)} of {len(names)} transferred tensors of {unit_map.model} differ from "
            f"the source: {list_names(moved)}"
        )
