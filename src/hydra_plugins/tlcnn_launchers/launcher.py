"""What the launchers of tlcnn have in common: they take jobs and return outcomes."""

import sys
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig

from tlcnn.config.spelling import list_flags
from tlcnn.run.job import Job, Outcome


class JobLauncher(Launcher):
    """A launcher that our sweeper gives jobs, and Hydra's sweepers give overrides."""

    config: DictConfig

    @property
    def fail_fast(self) -> bool:
        """Whether the first failure ends the sweep."""
        return bool(self.config.fail_fast)

    def setup(self, *, config: DictConfig, **context: Any) -> None:
        """Keep the sweep's configuration. Raises ConfigError where the launcher cannot work."""
        self.config = config

    @abstractmethod
    def train(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Train the jobs and return how each ended, in their order."""

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Train the runs that these overrides mean, for one of Hydra's own sweepers."""
        outcomes = self.train([Job(tuple(overrides)) for overrides in job_overrides])
        return [
            JobReturn(overrides=list(job), status=JobStatus.COMPLETED, _return_value=outcome)
            for job, outcome in zip(job_overrides, outcomes, strict=True)
        ]


def register(name: str, node: Any) -> None:
    """Let `hydra/launcher=NAME` choose a launcher."""
    ConfigStore.instance().store(group="hydra/launcher", name=name, node=node, provider="tlcnn")


def find_flags() -> list[str]:
    """Return the flags of this command line that the processes of runs need, too."""
    return list_flags(sys.argv[1:])
