"""hydra/launcher=in_process: one run after the other in this process, which they share."""

from collections.abc import Sequence
from dataclasses import dataclass

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class InProcessConf:
    """Nothing to set."""

    _target_: str = "hydra_plugins.tlcnn_launchers.in_process.InProcessLauncher"


ConfigStore.instance().store(
    group="hydra/launcher", name="in_process", node=InProcessConf, provider="tlcnn"
)


class InProcessLauncher(Launcher):
    """Runs jobs in this process; loaded datasets stay in memory from one to the next."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keep the sweep's configuration."""
        from tlcnn.memory import Memory

        self.config = config
        self.memory = Memory()

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run the jobs and return an `Outcome` each, in order."""
        import sys

        from tlcnn.config.compose import Composer
        from tlcnn.config.overrides import list_flags
        from tlcnn.sweep.drive import launch_here

        self.memory.recall("composer", "", lambda: Composer(list_flags(sys.argv[1:])))
        outcomes = launch_here(job_overrides, self.memory, fail_fast=self.config.fail_fast)
        return [
            JobReturn(overrides=list(job), status=JobStatus.COMPLETED, _return_value=outcome)
            for job, outcome in zip(job_overrides, outcomes, strict=True)
        ]
