"""`train.compile`: the trained part as one compiled function, shared by the runs of a process."""

from typing import Any

import torch
from torch import nn

N_VERSIONS = 1024  # of one function; torch allows 8 and then goes on uncompiled, to other bits


def compile_trained(trained: nn.Module) -> Any:
    """Return what trains a network, compiled when it is first called.

    torch keeps what it compiles by the code of the network's class: the next run of the process
    with this architecture, frozen depth, precision and batch is not compiled again. Each shape
    is compiled for itself, because one function for several shapes, which torch makes of the
    second by default, has other last bits: a run's would depend on the runs before it.
    """
    settings: Any = torch._dynamo.config
    settings.recompile_limit = max(settings.recompile_limit, N_VERSIONS)
    settings.accumulated_recompile_limit = max(settings.accumulated_recompile_limit, N_VERSIONS)
    return torch.compile(trained, dynamic=False)
