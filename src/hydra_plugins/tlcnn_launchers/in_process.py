"""hydra/launcher=in_process: one run after the other in this process, which they share."""

from collections.abc import Sequence
from typing import Any

from hydra_plugins.tlcnn_launchers.launcher import JobLauncher, find_flags, register
from tlcnn.config.compose import make_memory
from tlcnn.run.job import Job, Outcome

register("in_process", {"_target_": "hydra_plugins.tlcnn_launchers.in_process.InProcessLauncher"})


class InProcessLauncher(JobLauncher):
    """Trains jobs in this process; loaded datasets stay in memory from one to the next."""

    def setup(self, **context: Any) -> None:
        """Keep the sweep's configuration."""
        super().setup(**context)
        self.memory = make_memory(find_flags())

    def train(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Train the jobs and return how each ended, in their order."""
        from tlcnn.sweep.drive import launch_here  # pandas: Hydra imports every plugin

        return launch_here(jobs, self.memory, fail_fast=self.fail_fast)
