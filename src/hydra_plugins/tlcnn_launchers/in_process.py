"""hydra/launcher=in_process: runs in this process, one after the other or in turns."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra_plugins.tlcnn_launchers.launcher import JobLauncher, find_flags, register
from tlcnn.config.compose import make_memory
from tlcnn.errors import ConfigError
from tlcnn.run.job import Job, Outcome


@dataclass
class InProcessConf:
    """How many runs are trained at a time.

    Attributes:
        packed: the most runs that take turns; `auto`: as many as the memory of a GPU has room
            for, and one at a time on a CPU.
    """

    _target_: str = "hydra_plugins.tlcnn_launchers.in_process.InProcessLauncher"
    packed: Any = "auto"


register("in_process", InProcessConf)


class InProcessLauncher(JobLauncher):
    """Trains jobs in this process; loaded datasets stay in memory from one to the next."""

    def __init__(self, packed: Any) -> None:
        self.packed = packed

    def setup(self, **context: Any) -> None:
        """Keep the sweep's configuration. Raises ConfigError for a wrong number."""
        super().setup(**context)
        if self.packed != "auto" and (type(self.packed) is not int or self.packed < 1):
            raise ConfigError(
                f"hydra.launcher.packed={self.packed} is not allowed: it must be auto or an "
                "integer of at least 1."
            )
        self.memory = make_memory(find_flags())

    def train(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Train the jobs and return how each ended, in their order."""
        from tlcnn.sweep.drive import launch_here  # pandas: Hydra imports every plugin

        n_together = None if self.packed == "auto" else self.packed
        return launch_here(jobs, self.memory, fail_fast=self.fail_fast, n_together=n_together)
