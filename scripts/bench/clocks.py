"""Where a command's seconds go: clocks around tlcnn's functions, in a process of their own.

    python scripts/bench/clocks.py CLOCKS.json -m dataset=... (the words of tlcnn.train)

A function's own seconds are those that no clocked function inside it took. A clock costs some
microseconds; the functions take milliseconds.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Any

PLACES = {  # function -> what its own seconds are called
    "tlcnn.sweep.drive:resolve": "planning the sweep",
    "tlcnn.run.job:make_job_plan": "planning a cell",
    "tlcnn.config.compose:Composer.compose": "planning a cell",
    "tlcnn.run.network:build_initial_network": "building the network",
    "tlcnn.run.results:write_start": "records at the start",
    "tlcnn.run.run:describe_plan": "records at the start",
    "tlcnn.run.images:load_batches": "images at hand",
    "tlcnn.data.cache:_build": "decoding",
    "tlcnn.model.freeze:snapshot_frozen": "proof that frozen units stay",
    "tlcnn.model.freeze:check_frozen": "proof that frozen units stay",
    "tlcnn.run.inputs:build_inputs": "cutting the network, and the check of it",
    "tlcnn.frozen.frozen_prefix:FrozenPrefix.load": "frozen units: computing and storing",
    "tlcnn.frozen.frozen_prefix:FrozenPrefix.compute": "frozen units: in a step",
    "tlcnn.training.fit:Fit.step": "training steps",
    "tlcnn.training.fit:make_train_batch": "training batches",
    "tlcnn.training.fit:Fit.validate": "validation",
    "tlcnn.training.fit:Fit.save": "checkpoints",
    "tlcnn.run.results:write_results": "test images and scores",
    "tlcnn.run.results:write_predictions": "predictions",
    "tlcnn.run.results:write_weights": "weights",
    "tlcnn.records.folder:RunDir.write_metrics": "metrics.jsonl",
    "tlcnn.run.run:run": "the rest of a run",
}
IMPORTS, REST = "imports, once a process", "everything else"


@dataclass
class Clocks:
    """Seconds and processor seconds of each place, less what other places inside it took."""

    calls: dict[str, int] = field(default_factory=dict)
    wall_s: dict[str, float] = field(default_factory=dict)
    cpu_s: dict[str, float] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    _inner: list[list[float]] = field(default_factory=lambda: [[0.0, 0.0]])

    def time(self, name: str, work: Callable[[], Any]) -> Any:
        """Do some work and note its own seconds."""
        self._inner.append([0.0, 0.0])
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        try:
            return work()
        finally:
            took = time.perf_counter() - wall_s, time.process_time() - cpu_s
            inner = self._inner.pop()
            for outer, seconds in enumerate(took):
                self._inner[-1][outer] += seconds
            self.calls[name] = self.calls.get(name, 0) + 1
            self.wall_s[name] = self.wall_s.get(name, 0.0) + took[0] - inner[0]
            self.cpu_s[name] = self.cpu_s.get(name, 0.0) + took[1] - inner[1]

    def watch(self, place: str, name: str) -> None:
        """Put a clock around a function or method, `module:name` or `module:class.name`."""
        module, path = place.split(":")
        *outer, last = path.split(".")
        try:
            owner = import_module(module)
            for part in outer:
                owner = getattr(owner, part)
            function = getattr(owner, last)
        except (ImportError, AttributeError):  # it is called otherwise now
            self.missing.append(place)
            return

        @wraps(function)
        def timed(*args: Any, **words: Any) -> Any:
            return self.time(name, lambda: function(*args, **words))

        setattr(owner, last, timed)


def main() -> None:
    """Run the command and write what its parts took."""
    started, cpu_s = time.perf_counter(), time.process_time()
    output, words = Path(sys.argv[1]), sys.argv[2:]
    import torch

    from tlcnn.train import run_command

    clocks, compiles = Clocks(), [0]
    compile_ = torch.compile

    def counted(*args: Any, **words: Any) -> Any:
        compiles[0] += 1
        return compile_(*args, **words)

    torch.compile = counted
    for place, name in PLACES.items():
        clocks.watch(place, name)
    clocks.calls[IMPORTS] = 1
    clocks.wall_s[IMPORTS] = time.perf_counter() - started
    clocks.cpu_s[IMPORTS] = time.process_time() - cpu_s
    try:
        code = run_command(words)
    finally:
        whole = {"wall_s": time.perf_counter() - started, "cpu_s": time.process_time() - cpu_s}
        clocks.calls[REST] = 1
        clocks.wall_s[REST] = whole["wall_s"] - sum(clocks.wall_s.values())
        clocks.cpu_s[REST] = whole["cpu_s"] - sum(clocks.cpu_s.values())
        told = {"calls": clocks.calls, "wall_s": clocks.wall_s, "cpu_s": clocks.cpu_s}
        told |= {"whole": whole, "compiles": compiles[0], "missing": clocks.missing}
        output.write_text(json.dumps(told, indent=1))
    sys.exit(code)


if __name__ == "__main__":
    main()
