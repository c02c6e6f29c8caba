"""The lane of a run on its device: runs of one process take turns, and share a GPU in lanes."""

from collections.abc import Generator
from types import TracebackType
from typing import TypeVar

import torch

from tlcnn.training.turns import Turn

T = TypeVar("T")


class Lane:
    """The order in which a device does the work of one run.

    On a GPU, a lane is a stream and a generator of random numbers: the work of several runs
    overlaps, and what one of them draws does not change what another draws. Elsewhere a lane does
    nothing.

    Args:
        idle_streams: the streams of earlier lanes of the process. A lane takes one of them,
            because torch keeps the memory that was freed on a stream for this stream alone.
    """

    def __init__(self, device: torch.device, idle_streams: list[torch.cuda.Stream]) -> None:
        self.device, self._idle_streams = device, idle_streams
        self._is_gpu = device.type == "cuda"
        if self._is_gpu:
            self._stream = idle_streams.pop() if idle_streams else torch.cuda.Stream(device)
            self._generator = _find_generator(device).clone_state()

    def __enter__(self) -> "Lane":
        if self._is_gpu:
            generator = _find_generator(self.device)
            self._outer = torch.cuda.current_stream(self.device), generator.graphsafe_get_state()
            torch.cuda.set_stream(self._stream)
            generator.graphsafe_set_state(self._generator)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._is_gpu:
            stream, state = self._outer
            torch.cuda.set_stream(stream)
            generator = _find_generator(self.device)
            self._generator = generator.graphsafe_get_state()  # a failed recording replaces it
            generator.graphsafe_set_state(state)

    def is_idle(self) -> bool:
        """Return whether the device has done all work of this lane."""
        return not self._is_gpu or self._stream.query()

    def take_turns(self, run: Generator[Turn, None, T]) -> Generator[Turn, None, T]:
        """Yield the turns of a run, each of them made in this lane; return what it returns.

        When the run has ended, so has its work, and another lane may take the stream.
        """
        try:
            while True:
                with self:
                    try:
                        turn = next(run)
                    except StopIteration as end:
                        result: T = end.value
                        return result
                yield turn
        finally:
            with self:
                run.close()
            if self._is_gpu:
                self._stream.synchronize()
                self._idle_streams.append(self._stream)


def seed_generators(device: torch.device, seed: int) -> None:
    """Seed what a network on a device draws from.

    torch.manual_seed does the same, but it logs a traceback for every kind of device that is
    missing.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        _find_generator(device).manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


def _find_generator(device: torch.device) -> torch.Generator:
    index = torch.cuda.current_device() if device.index is None else device.index
    return torch.cuda.default_generators[index]
