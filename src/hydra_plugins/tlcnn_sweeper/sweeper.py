"""hydra/sweeper=tlcnn: grids and lists of grid blocks, resumed by identity (tlcnn.sweep)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from hydra_plugins.tlcnn_launchers.launcher import JobLauncher, find_flags
from tlcnn.config.spelling import write_override
from tlcnn.run.job import UNEXPECTED, Job, Outcome
from tlcnn.sweep.options import SearchOptions


@dataclass
class SweeperConf:
    """The keys of a study's file.

    Attributes:
        params: values for every block, as on the command line (`range(5)`) or as lists.
        blocks: grid blocks; each is a mapping of keys to a value or a list of values.
        search: how settings of training are searched; a sweep without a method is no search.
    """

    _target_: str = "hydra_plugins.tlcnn_sweeper.sweeper.TlcnnSweeper"
    params: dict[str, Any] = field(default_factory=dict)
    blocks: list[dict[str, Any]] = field(default_factory=list)
    search: SearchOptions = field(default_factory=SearchOptions)


ConfigStore.instance().store(
    group="hydra/sweeper", name="tlcnn", node=SweeperConf, provider="tlcnn"
)


class TlcnnSweeper(Sweeper):
    """Expands the cells of a sweep, plans them, and gives those to be trained to a launcher."""

    def __init__(self, params: dict[str, Any], blocks: list[dict[str, Any]], search: Any) -> None:
        self.params, self.blocks = params, blocks
        self.search = search
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
        from tlcnn.sweep.drive_search import drive_search

        grid: Any = [
            OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
            for node in (self.params, self.blocks, self.search)
        ]
        request = Request(
            arguments=arguments,
            params=grid[0],
            blocks=grid[1],
            flags=find_flags(),
            output_dir=Path(self.config.output_dir).expanduser().absolute(),
            study=self.config.study,
            fail_fast=self.config.fail_fast,
            dry_run=self.config.dry_run,
        )
        is_ours = isinstance(self.launcher, JobLauncher)
        launch = self.launcher.train if is_ours else partial(launch_with_hydra, self.launcher)
        options = SearchOptions(**grid[2])
        if options.method is None:
            drive(request, launch)
        else:
            drive_search(request, options, launch)


def launch_with_hydra(launcher: Any, jobs: Sequence[Job]) -> list[Outcome]:
    """Train jobs with one of Hydra's own launchers, which know overrides only.

    A run that is only the source of others has none of its own: those train it first.
    """
    overrides = [
        [*job.overrides, *(write_override(key, value) for key, value in job.place.items())]
        for job in jobs
        if not job.ancestor
    ]
    outcomes = []
    for returned in launcher.launch(overrides, initial_job_idx=0) if overrides else []:
        value = getattr(returned, "_return_value", None)
        if isinstance(value, BaseException):
            kind = type(value).__name__
            value = Outcome(UNEXPECTED, f"{kind}: {value}", kind)
        outcomes.append(value if isinstance(value, Outcome) else Outcome())
    remaining = iter(outcomes)
    return [Outcome() if job.ancestor else next(remaining) for job in jobs]
