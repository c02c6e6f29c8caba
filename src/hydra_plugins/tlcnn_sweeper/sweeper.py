"""hydra/sweeper=tlcnn: grids and lists of grid blocks, resumed by identity (tlcnn.sweep)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class SweeperConf:
    """What a study's file may say.

    Attributes:
        params: values for every block, as on the command line (`range(5)`) or as lists.
        blocks: products; each a mapping of key to value or values.
    """

    _target_: str = "hydra_plugins.tlcnn_sweeper.sweeper.TlcnnSweeper"
    params: dict[str, Any] = field(default_factory=dict)
    blocks: list[dict[str, Any]] = field(default_factory=list)


ConfigStore.instance().store(
    group="hydra/sweeper", name="tlcnn", node=SweeperConf, provider="tlcnn"
)


class TlcnnSweeper(Sweeper):
    """Expands, plans, skips and orders the cells of a sweep, and hands them to a launcher."""

    def __init__(self, params: dict[str, Any], blocks: list[dict[str, Any]]) -> None:
        self.params, self.blocks = params, blocks
        self.config: Any = None
        self.launcher: Any = None

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keep the sweep's configuration and make its launcher."""
        from hydra.core.plugins import Plugins

        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            config=config, hydra_context=hydra_context, task_function=task_function
        )

    def sweep(self, arguments: list[str]) -> None:
        """Run the sweep; raises `SweepFailed` or `Stopped` unless everything is done."""
        import sys
        from pathlib import Path

        from tlcnn.config.overrides import list_flags
        from tlcnn.sweep.drive import Request, drive

        drive(
            Request(
                arguments=arguments,
                params=_plain(self.params),
                blocks=_plain(self.blocks),
                flags=list_flags(sys.argv[1:]),
                output_dir=Path(self.config.output_dir).expanduser().absolute(),
                study=self.config.study,
                fail_fast=self.config.fail_fast,
                dry_run=self.config.dry_run,
            ),
            self._launch,
        )

    def _launch(self, jobs: list[list[str]]) -> Sequence[Any]:
        from tlcnn.run.job import Outcome

        results = self.launcher.launch(jobs, initial_job_idx=0)
        found = [getattr(result, "_return_value", None) for result in results]
        return [value if isinstance(value, Outcome) else _read(value) for value in found]


def _plain(node: Any) -> Any:
    from omegaconf import OmegaConf

    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def _read(value: Any) -> Any:
    """Return the outcome of a run of one of Hydra's own launchers."""
    from tlcnn.run.job import UNEXPECTED, Outcome

    if isinstance(value, BaseException):
        return Outcome(UNEXPECTED, f"{type(value).__name__}: {value}")
    return Outcome()
