"""Where the seconds go before the first epoch of a training ends.

    python scripts/bench/phases.py WORDS...     trains as `python -m tlcnn.train WORDS...` does

It writes a JSON line of seconds by phase, each without those inside it. Everything is imported
first, so that imports are a phase of their own.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

TICKS = 100  # a second, in /proc: the kernel's USER_HZ
BEGINNING = "seconds by phase: "


def read_age_s() -> float:
    """Return for how long this process exists, in steps of 10 ms."""
    fields = Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / TICKS


class Phases:
    """Seconds by phase."""

    def __init__(self, first: str) -> None:
        self.seconds: dict[str, float] = {}
        self._running = [first]  # innermost last
        self._mark_s = time.perf_counter() - read_age_s()

    @property
    def running(self) -> str:
        """The phase that runs."""
        return self._running[-1]

    def switch(self) -> None:
        """Count the time since the last switch for the phase that runs."""
        now = time.perf_counter()
        name = self._running[-1]
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._mark_s
        self._mark_s = now

    def wrap(self, module: Any, function: str, phase: str) -> None:
        """Count the time inside a function of a module for a phase."""
        real: Callable[..., Any] = getattr(module, function)

        def call(*arguments: Any, **options: Any) -> Any:
            self.begin(phase)
            try:
                return real(*arguments, **options)
            finally:
                self.end()

        setattr(module, function, call)

    def begin(self, phase: str) -> None:
        """Begin a phase inside the one that runs."""
        self.switch()
        self._running.append(phase)

    def end(self) -> None:
        """Go on with the phase before."""
        self.switch()
        self._running.pop()


def main() -> None:
    """Train, and print the seconds at the end of the first epoch."""
    phases = Phases("imports")
    import timm  # noqa: F401
    import torch  # noqa: F401

    import tlcnn.data.batches
    import tlcnn.plan.plan
    import tlcnn.run.inputs
    import tlcnn.run.network
    import tlcnn.run.results
    import tlcnn.train
    import tlcnn.training.checkpoint
    from tlcnn.training.fit import Fit
    from tlcnn.training.turns import Turn

    phases.begin("command line and records")
    phases.wrap(tlcnn.plan.plan, "make_plan", "plan")
    phases.wrap(tlcnn.data.batches, "load_image_cache", "decoding")
    phases.wrap(tlcnn.data.batches, "place_pixels", "images to the device")
    phases.wrap(tlcnn.run.network, "build_initial_network", "network and weights")
    phases.wrap(tlcnn.run.inputs, "build_inputs", "frozen outputs")
    real = Fit.run

    def run(self: Fit) -> Iterator[Turn]:
        n_epochs = 0
        phases.begin("first batch")
        for turn in real(self):
            if turn is Turn.STEP and phases.running == "first batch":
                phases.end()
                phases.begin("rest of the epoch")
            n_epochs += turn is Turn.EPOCH
            if n_epochs == 2:  # the first is the start
                phases.end()
                print(BEGINNING + json.dumps(phases.seconds), flush=True)
            yield turn

    Fit.run = run
    sys.exit(tlcnn.train.main(sys.argv[1:]))


if __name__ == "__main__":
    main()
