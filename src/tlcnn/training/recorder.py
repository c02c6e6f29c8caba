"""How a function is called for batch after batch: on a GPU it is recorded once and replayed.

    on the CPU     function(values), function(values), function(values), ...
    on a GPU       three real calls -> one recording -> replay, replay, ...

A replay repeats the recorded kernels with the same memory, and so with the same bits, but without
the Python and the launches between them, which take most of the time of a small network. The
function must therefore read all that changes from its values, and must not wait for the device.
"""

import logging
from collections.abc import Callable, Hashable
from typing import Any, Protocol

import torch

from tlcnn.data.feed import Values

log = logging.getLogger(__name__)

N_REAL = 3  # calls before the recording: they choose kernels and allocate what is allocated once


class Graph(Protocol):
    """A recording of a function."""

    def record(self, function: Callable[[], Any]) -> Any:
        """Record a function without running it, and return what it returns."""

    def replay(self) -> None:
        """Run the recorded operations on the same memory."""


class CudaGraph:
    """A recording on the current stream of a GPU."""

    def record(self, function: Callable[[], Any]) -> Any:
        """Record a function without running it. Raises RuntimeError where that is impossible."""
        self.graph = torch.cuda.CUDAGraph()
        stream = torch.cuda.current_stream()
        generator = torch.cuda.default_generators[torch.cuda.current_device()]
        try:
            # Other threads may gather and pin batches meanwhile.
            with torch.cuda.graph(self.graph, stream=stream, capture_error_mode="thread_local"):
                return function()
        except RuntimeError:
            # What was drawn in a failed recording leaves a state that older versions of torch
            # refuse to draw from; a copy of it has the same seed and no memory of a recording.
            generator.graphsafe_set_state(generator.clone_state())
            raise

    def replay(self) -> None:
        """Run the recorded operations on the current stream."""
        self.graph.replay()


def find_graph(device: torch.device) -> Callable[[], Graph] | None:
    """Return what records functions on a device; None where they are called instead."""
    return CudaGraph if device.type == "cuda" else None


class Recorder:
    """Calls a function with the values of one batch after the other.

    Args:
        open_graph: makes an empty recording; None: the function is always called.
        clear: called on the host after every real call, and before one that follows replays.
    """

    def __init__(
        self,
        open_graph: Callable[[], Graph] | None,
        clear: Callable[[], None] = lambda: None,
    ) -> None:
        self.open_graph, self.clear = open_graph, clear
        self._key: Hashable = None
        self._n_calls = 0  # since the key changed
        self._buffers: dict[str, torch.Tensor] = {}
        self._graph: Graph | None = None
        self._result: Any = None
        self._recorded: Any = None  # the function, because its memory has to stay

    def run(self, function: Callable[[Values], Any], values: Values, key: Hashable) -> Any:
        """Return `function(values)`; what it returns is valid until the next call.

        Args:
            key: equal for calls that may replay the same recording. The shapes of the values are
                compared as well.
        """
        if self.open_graph is None:
            return self._call(function, values)
        key = (key, *((name, value.shape, value.dtype) for name, value in values.items()))
        if key != self._key:
            self._begin(key, values)
        for name, value in values.items():
            self._buffers[name].copy_(value)
        self._n_calls += 1
        if self._n_calls <= N_REAL:
            return self._call(function, self._buffers)
        if self._graph is None:
            graph = self.open_graph()
            try:
                self._result = graph.record(lambda: function(self._buffers))
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                log.warning(
                    "the work of a batch cannot be recorded, so every batch is launched from "
                    "Python, which is slower: %s",
                    _find_reason(error),
                )
                self.open_graph = self._result = None
                self.clear()
                return self._call(function, self._buffers)
            log.debug("recorded the work of a batch: %s", _describe(values))
            self._graph, self._recorded = graph, function
        self._graph.replay()
        return self._result

    def _call(self, function: Callable[[Values], Any], values: Values) -> Any:
        result = function(values)
        self.clear()
        return result

    def _begin(self, key: Hashable, values: Values) -> None:
        self.forget()
        self._key = key
        self._buffers = {name: torch.empty_like(value) for name, value in values.items()}

    def forget(self) -> None:
        """Drop the recording, so that its memory is free again."""
        if self._graph is not None:
            self.clear()
        self._key, self._n_calls, self._buffers = None, 0, {}
        self._graph = self._result = self._recorded = None


def _find_reason(error: BaseException) -> str:
    """Return the first line of the first error: what follows it only says that there was one."""
    while error.__context__ is not None:
        error = error.__context__
    return str(error).strip().partition("\n")[0]


def _describe(values: Values) -> str:
    return ", ".join(f"{name} {tuple(value.shape)}" for name, value in values.items())
