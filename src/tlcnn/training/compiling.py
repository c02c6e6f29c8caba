"""`train.compile`: the trained part as a compiled function, shared by the runs of a process."""

from typing import Any

import torch
from torch import nn

N_VERSIONS = 1024  # of one function; after 8 torch would go on uncompiled, with other last bits


def compile_trained(trained: nn.Module) -> Any:
    """Return the forward pass of a network, compiled when it is first called.

    torch stores compiled code by the code of the network's class, so the next run of the process
    with this architecture, frozen depth, precision and batch size is not compiled again. Each
    shape is compiled by itself. After a few shapes torch would compile one function for all of
    them; it has other last bits, so a run would depend on the runs before it.
    """
    settings: Any = torch._dynamo.config
    settings.recompile_limit = max(settings.recompile_limit, N_VERSIONS)
    settings.accumulated_recompile_limit = max(settings.accumulated_recompile_limit, N_VERSIONS)
    return torch.compile(trained, dynamic=False)
