"""The phases of a plan as the tensors and modules of its network."""

from torch import nn

from tlcnn.model.freeze import find_modules
from tlcnn.plan.plan import Plan
from tlcnn.plan.schedule import make_phases
from tlcnn.training.phase import Phase


def build_phases(plan: Plan, model: nn.Module) -> list[Phase]:
    """Return the phases of a training of this network.

    What frozen units may do (`freeze.bn`) is not changed by any phase.
    """
    units, frozen = plan.unit_map, plan.treatment.frozen
    frozen_paths = {path for path, _ in find_modules(model, units, frozen)}
    phases = []
    for phase in make_phases(plan.config, plan.treatment, len(units)):
        quiet = find_modules(model, units, (*frozen, *phase.resting)) if phase.resting else []
        phases.append(
            Phase(
                phase.first,
                phase.n_epochs,
                frozenset(units.tensors_in(phase.resting)),
                frozenset({path for path, _ in quiet} - frozen_paths),
            )
        )
    return phases
