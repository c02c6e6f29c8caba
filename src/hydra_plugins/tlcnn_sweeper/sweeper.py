"""hydra/sweeper=tlcnn: grids and lists of grid blocks, resumed by identity (tlcnn.sweep)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from hydra_plugins.tlcnn_launchers.launcher import JobLauncher, find_flags
from tlcnn.config.compose import write_override
from tlcnn.run.job import UNEXPECTED, Job, Outcome


@dataclass
class SweeperConf:
    """The keys of a study's file.

    Attributes:
        params: values for every block, as on the command line (`range(5)`) or as lists.
        blocks: grid blocks; each is a mapping of keys to a value or a list of values.
    """

    _target_: str = "hydra_plugins.tlcnn_sweeper.sweeper.TlcnnSweeper"
    params: dict[str, Any] = field(default_factory=dict)
    blocks: list[dict[str, Any]] = field(default_factory=list)


ConfigStore.instance().store(
    group="hydra/sweeper", name="tlcnn", node=SweeperConf, provider="tlcnn"
)


class TlcnnSweeper(Sweeper):
    """Expands the cells of a sweep, plans them, and gives those to be trained to a launcher."""

    def __init__(self, params: dict[str, Any], blocks: list[dict[str, Any]]) -> None:
        self.params, self.blocks = params, blocks
        self.config: Any = None
        self.launcher: Any = None

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keep the sweep's configuration and make its launcher."""
        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            config=config, hydra_context=hydra_context, task_function=task_function
        )

    def sweep(self, arguments: list[str]) -> None:
        """Run the sweep. Raises `SweepFailed` or `Stopped` unless everything is done."""
        from tlcnn.sweep.drive import Request, drive  # pandas: Hydra imports every plugin

        def make_plain(node: Any) -> Any:
            is_config = OmegaConf.is_config(node)
            return OmegaConf.to_container(node, resolve=True) if is_config else node

        request = Request(
            arguments=arguments,
            params=make_plain(self.params),
            blocks=make_plain(self.blocks),
            flags=find_flags(),
            output_dir=Path(self.config.output_dir).expanduser().absolute(),
            study=self.config.study,
            fail_fast=self.config.fail_fast,
            dry_run=self.config.dry_run,
        )
        drive(request, self._launch)

    def _launch(self, jobs: list[Job]) -> Sequence[Outcome]:
        if isinstance(self.launcher, JobLauncher):
            return self.launcher.train(jobs)
        return launch_with_hydra(self.launcher, jobs)


def launch_with_hydra(launcher: Any, jobs: Sequence[Job]) -> list[Outcome]:
    """Train jobs with one of Hydra's own launchers, which know overrides only.

    A run that is only the source of others has none of its own: those train it first.
    """
    cells = [job for job in jobs if not job.ancestor]
    words = [
        [*job.overrides, *(write_override(k, v) for k, v in job.place.items())] for job in cells
    ]
    returned = launcher.launch(words, initial_job_idx=0) if cells else []
    outcomes = iter([_read_return(getattr(r, "_return_value", None)) for r in returned])
    return [Outcome() if job.ancestor else next(outcomes) for job in jobs]


def _read_return(value: Any) -> Outcome:
    if isinstance(value, BaseException):
        kind = type(value).__name__
        return Outcome(UNEXPECTED, f"{kind}: {value}", kind)
    return value if isinstance(value, Outcome) else Outcome()
