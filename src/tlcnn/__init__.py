"""tlcnn: which layers of a CNN to transfer, which to freeze, and how sure you can be.

    tlcnn.train(["dataset=synthetic", "seed=1"])   trains a run; tlcnn.plan says what it would do
    tlcnn.load(run)                                a trained network with its preprocessing
    tlcnn.predict(runs, images)                    classes, probabilities and warnings as a table
    tlcnn.test(runs, dataset)                      scores on another dataset, which are recorded
    tlcnn.features(run, images, at="stage3")       what leaves a unit
    tlcnn.read_runs("outputs")                     runs as a table; tlcnn.compare: with intervals
    tlcnn.draw("outputs")                          figures
    tlcnn.open_run(folder)                         back to a run's network, images and splits
    tlcnn.read_measures("outputs")                 what `tlcnn analyse` has measured
    tlcnn.read_tests("outputs")                    what `tlcnn test` has scored

docs/python.md shows them at work.
"""

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tlcnn.inference.external import test
    from tlcnn.inference.features import features
    from tlcnn.inference.network import load
    from tlcnn.inference.predict import predict
    from tlcnn.plan.describe import describe_plan
    from tlcnn.records.external import read_tests
    from tlcnn.records.measures import read_measures
    from tlcnn.records.open_run import open_run
    from tlcnn.records.read import read_runs
    from tlcnn.report.python import compare, draw
    from tlcnn.run.start import plan, train

__version__ = "0.1.0"
__all__ = [
    "compare",
    "describe_plan",
    "draw",
    "features",
    "load",
    "open_run",
    "plan",
    "predict",
    "read_measures",
    "read_runs",
    "read_tests",
    "test",
    "train",
]

_HOMES = {
    "compare": "tlcnn.report.python",
    "describe_plan": "tlcnn.plan.describe",
    "draw": "tlcnn.report.python",
    "features": "tlcnn.inference.features",
    "load": "tlcnn.inference.network",
    "open_run": "tlcnn.records.open_run",
    "predict": "tlcnn.inference.predict",
    "read_measures": "tlcnn.records.measures",
    "read_runs": "tlcnn.records.read",
    "read_tests": "tlcnn.records.external",
    "test": "tlcnn.inference.external",
}
_FUNCTION_MODULES = ("plan", "train")  # modules of tlcnn that are functions as well


class FunctionModule(ModuleType):
    """A module that is also the function of its name in `tlcnn.run.start`."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Call the function."""
        name = self.__name__.rpartition(".")[2]
        return getattr(import_module("tlcnn.run.start"), name)(*args, **options)


def __getattr__(name: str) -> Any:
    if name in _FUNCTION_MODULES:
        return import_module(f"tlcnn.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
